//! What the daemon's process takes: at rest, and for 200 runners up and down. The real program, with guests that
//! report, webhooks and one pool on OpenStack; GitHub, the cloud and the guests are in this process.
//!
//! `cargo bench --profile dist --bench daemon [-- RUNNERS]`, as packages are built; ends with 1 where a bound is
//! broken.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a bench reports to the person who runs it, and stops where its set-up fails"
)]

mod wire;

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use wire::{LABEL, Outside, fleet_id, pool_name, scope};

/// Resident at rest.
const MEMORY_BOUND: u64 = 20 << 20;
const CPU_BOUND: Duration = Duration::from_secs(1);
const PROGRAM: &str = env!("CARGO_BIN_EXE_runner-fleet");
const MS: fn(u64) -> Duration = Duration::from_millis;

fn main() -> ExitCode {
    let runners = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(200);
    let io = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    io.block_on(life(runners))
}

/// The daemon, which ends with the bench.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

async fn life(runners: usize) -> ExitCode {
    let outside = Outside::start(MS(20), [MS(2000), MS(4000)], [MS(300), MS(600)]).await;
    let home = tempfile::tempdir().unwrap();
    furnish(home.path(), &outside, runners);
    let said = fs::File::create(home.path().join("said.log")).unwrap();
    let daemon = Command::new(PROGRAM)
        .args(["run", "--config"])
        .arg(home.path().join("fleet.toml"))
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn();
    let daemon = Daemon(daemon.unwrap());
    let id = daemon.0.id();
    // It has listed everything, and is at rest.
    tokio::time::sleep(MS(20_000)).await;
    let (rest, at_rest) = (memory(id), cpu(id));
    println!(
        "daemon, at rest: {:.1} MiB resident (bound {} MiB), {:.1} of it its own memory; {at_rest:.2?} of CPU so far",
        mib(rest[0]),
        MEMORY_BOUND >> 20,
        mib(rest[1])
    );
    target(home.path(), runners);
    until(|| outside.github.stats().online >= runners as u64).await;
    let (up, full) = (cpu(id) - at_rest, memory(id));
    target(home.path(), 0);
    until(|| outside.cloud.vms().is_empty()).await;
    let took = cpu(id) - at_rest;
    println!(
        "daemon, 0 to {runners} to 0: {took:.2?} of CPU (bound {CPU_BOUND:?} for 200), {up:.2?} of it upwards; {:.1} MiB \
         with {runners}, {:.1} afterwards; {} and {} calls",
        mib(full[0]),
        mib(memory(id)[0]),
        outside.github.stats().calls.values().sum::<u64>(),
        outside.cloud.stats().calls.values().sum::<u64>(),
    );
    let within = took.as_secs_f64() / runners as f64 <= CPU_BOUND.as_secs_f64() / 200.0;
    if rest[0] <= MEMORY_BOUND && within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn furnish(home: &Path, outside: &Outside, runners: usize) {
    let secret = |name: &str, text: &str| {
        fs::write(home.join(name), text).unwrap();
        fs::set_permissions(home.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    secret("token", "token-of-the-bench");
    secret("hook", "secret-of-the-hook-of-the-bench");
    secret("clouds.yaml", &outside.cloud.clouds_yaml());
    let port = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let (guests, hooks) = (port(), port());
    let text = format!(
        "[fleet]\nid = \"{}\"\nstate_dir = \"state\"\njournal = \"journal.log\"\n\
         [api]\nsocket = \"api.sock\"\n\
         [github]\nurl = \"{}\"\ntoken_file = \"token\"\n\
         [guests]\nlisten = \"127.0.0.1:{guests}\"\nurl = \"http://127.0.0.1:{guests}\"\n\
         [webhooks]\nlisten = \"127.0.0.1:{hooks}\"\nsecret_file = \"hook\"\n\
         [providers.fake]\nkind = \"openstack\"\ncloud = \"fake\"\nclouds_file = \"clouds.yaml\"\n\
         [[pools]]\nname = \"{}\"\nscope = \"{}\"\nlabels = [\"{LABEL}\"]\nprovider = \"fake\"\n\
         image = \"debian-12\"\nflavor = \"m1.small\"\nnetwork = \"demo-net\"\ndemand = [\"webhook\"]\n\
         min = 0\nmax = {}\n",
        fleet_id(),
        outside.github.url(),
        pool_name(),
        scope(),
        runners + 10,
    );
    fs::write(home.join("fleet.toml"), text).unwrap();
}

fn target(home: &Path, runners: usize) {
    let done = Command::new(PROGRAM)
        .args(["target", pool_name().as_str(), &runners.to_string()])
        .env("RUNNER_FLEET_SOCKET", home.join("api.sock"))
        .status();
    assert!(done.unwrap().success(), "{}", fs::read_to_string(home.join("said.log")).unwrap());
}

async fn until(reached: impl Fn() -> bool) {
    let began = Instant::now();
    while !reached() {
        assert!(began.elapsed() < Duration::from_secs(600), "never reached");
        tokio::time::sleep(MS(50)).await;
    }
}

/// Resident bytes of a process, and those of them that no file holds.
fn memory(id: u32) -> [u64; 2] {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    ["VmRSS:", "RssAnon:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    })
}

/// CPU time of a process so far.
fn cpu(id: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap().filter_map(|thread| {
        let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(threads.sum())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
