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
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use wire::{Outside, pool_name, until, usage};

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
    let id = daemon.0.id().to_string();
    let memory = || {
        let own = usage::bytes(&format!("/proc/{id}/status"), "RssAnon:");
        [usage::resident(&id), own]
    };
    let cpu = || usage::cpu(&id);
    // It has listed everything, and is at rest.
    tokio::time::sleep(MS(20_000)).await;
    let (rest, at_rest) = (memory(), cpu());
    println!(
        "daemon, at rest: {:.1} MiB resident (bound {} MiB), {:.1} of it its own memory; {at_rest:.2?} of CPU so far",
        mib(rest[0]),
        MEMORY_BOUND >> 20,
        mib(rest[1])
    );
    target(home.path(), runners);
    until("all online", || outside.github.stats().online >= runners as u64).await;
    let (up, full) = (cpu() - at_rest, memory());
    target(home.path(), 0);
    until("none left", || outside.cloud.vms().is_empty()).await;
    let took = cpu() - at_rest;
    println!(
        "daemon, 0 to {runners} to 0: {took:.2?} of CPU (bound {CPU_BOUND:?} for 200), {up:.2?} of it upwards; {:.1} MiB \
         with {runners}, {:.1} afterwards; {} and {} calls",
        mib(full[0]),
        mib(memory()[0]),
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
    let hooks = wire::free_port();
    let sections = format!(
        "{}[webhooks]\nlisten = \"127.0.0.1:{hooks}\"\nsecret_file = \"hook\"\n",
        wire::guests_section()
    );
    let pool = format!("demand = [\"webhook\"]\nmin = 0\nmax = {}", runners + 10);
    let text = outside.configuration(&sections, &pool);
    fs::write(home.join("fleet.toml"), text).unwrap();
}

fn target(home: &Path, runners: usize) {
    let done = Command::new(PROGRAM)
        .args(["target", pool_name().as_str(), &runners.to_string()])
        .env("RUNNER_FLEET_SOCKET", home.join("api.sock"))
        .status();
    assert!(done.unwrap().success(), "{}", fs::read_to_string(home.join("said.log")).unwrap());
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
