//! What a fleet asks of GitHub and of the cloud, counted on the wire by both: the real daemon, its guests
//! and the fakes on loopback.
//!
//! - *two hundred*: 200 runners up from none, until the daemon knows all of them idle, and down to none, where
//!   guests report;
//! - *mute*: 20 runners at work whose guests cannot report: from a job's end to its replacement's registration,
//!   and what that costs;
//! - *idle*: 50 idle runners.
//!
//! Beside each of the first two, in the same world, a plain loop that lists both sides every two seconds.
//! Counts do not depend on the machine's speed: `--profile dev` is enough.
//!
//! `cargo bench --bench calls [-- two-hundred|mute|idle]`; ends with 1 where a bound is broken.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a bench reports to the person who runs it, and stops where its set-up fails"
)]

#[path = "../tests/support/e2e.rs"]
#[allow(
    dead_code,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a part of what tests use is used here"
)]
mod e2e;

mod wire;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use e2e::{Home, eventually};
use tokio::runtime::Handle;
use wire::{
    LABEL, Outside,
    plain::{self, Plain},
    pool_name, scope,
};

const RUNNERS: usize = 200;
/// Calls for 200 runners up, and for 200 down: at GitHub, and at the cloud.
const BOUNDS: [u64; 2] = [205, 260];
const PATIENCE: Duration = Duration::from_secs(180);
const LATENCY: Duration = Duration::from_millis(50);
const BOOT: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(10)];
const START: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
const DELETE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(6)];

fn main() -> ExitCode {
    let io = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _already = rustls::crypto::ring::default_provider().install_default();
    let good = io.block_on(async {
        let mut good = true;
        if wire::runs("two-hundred") {
            good &= two_hundred().await;
        }
        if wire::runs("mute") {
            good &= mute().await;
        }
        if wire::runs("idle") {
            good &= idle().await;
        }
        good
    });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn outside() -> Outside {
    Outside::with(LATENCY, BOOT, START, DELETE).await
}

/// Calls so far, at GitHub and at the cloud.
fn calls(outside: &Outside) -> [u64; 2] {
    [outside.github.stats().calls.values().sum(), outside.cloud.stats().calls.values().sum()]
}

/// What came on top of `before`.
fn since(before: [u64; 2], outside: &Outside) -> [u64; 2] {
    let now = calls(outside);
    [now[0] - before[0], now[1] - before[1]]
}

/// A folder with a daemon's configuration: `guests` report home or cannot.
fn furnished(outside: &Outside, guests: bool, pool: &str) -> Home {
    let home = Home::new();
    home.secret("token", "token-of-the-bench");
    home.secret("clouds.yaml", &outside.cloud.clouds_yaml());
    let sections = if guests { wire::guests_section() } else { String::new() };
    home.configure(&outside.configuration(&sections, pool));
    home
}

async fn two_hundred() -> bool {
    let plain = plain_two_hundred().await;
    let outside = outside().await;
    let home = furnished(&outside, true, "max = 210");
    let daemon = home.start();
    home.ready().await;
    let mut good = true;
    for (at, (what, wanted)) in [("up", RUNNERS), ("down", 0)].into_iter().enumerate() {
        let (before, began) = (calls(&outside), Instant::now());
        home.cli(&["target", pool_name().as_str(), &wanted.to_string()]).await.good();
        eventually(PATIENCE, what, || async {
            let cloud = outside.cloud.stats().present == wanted;
            let forge = outside.github.stats().registrations == wanted as u64;
            let known = cloud && forge && {
                let runners = home.runners().await;
                runners.len() == wanted && runners.iter().all(|(_, state)| state == "idle")
            };
            known.then_some(())
        })
        .await;
        let (took, counted) = (began.elapsed(), since(before, &outside));
        println!(
            "{RUNNERS} {what}: {} calls at GitHub, {} at the cloud in {took:.1?} (bounds {}, {}); a plain \
             loop {}, {} in {:.1?}",
            counted[0],
            counted[1],
            BOUNDS[0],
            BOUNDS[1],
            plain[at].0[0],
            plain[at].0[1],
            plain[at].1,
        );
        good &= counted[0] <= BOUNDS[0] && counted[1] <= BOUNDS[1];
    }
    println!("in all, at the cloud: {:?}", outside.cloud.stats().calls);
    println!("in all, at GitHub: {:?}", outside.github.stats().calls);
    daemon.kill().await;
    good
}

/// The same by a loop that lists both sides every two seconds.
async fn plain_two_hundred() -> [([u64; 2], Duration); 2] {
    let outside = outside().await;
    let plain = Plain::new(&Handle::current(), &outside).await;
    let mut counted = [([0; 2], Duration::ZERO); 2];
    for (at, wanted) in [RUNNERS, 0].into_iter().enumerate() {
        let (before, began) = (calls(&outside), Instant::now());
        loop {
            let idle = outside.github.stats().online == wanted as u64;
            if plain.round(wanted).await == Some(wanted) && idle {
                break;
            }
            tokio::time::sleep(plain::PAUSE).await;
        }
        counted[at] = (since(before, &outside), began.elapsed());
    }
    counted
}

const MUTE: usize = 20;
const ENDINGS: usize = 60;
/// From a job's end to its replacement's registration: p50 and p95.
const MUTE_BOUNDS: [Duration; 2] = [Duration::from_millis(2500), Duration::from_secs(4)];

/// Jobs of 10 to 40 s that never run out.
fn queue(outside: &Outside, jobs: usize) {
    for job in 0..jobs {
        let runs_for = Duration::from_millis(10_000 + (job as u64 * 7919) % 30_000);
        outside.github.queue_job(&scope(), &[LABEL.to_owned()], runs_for);
    }
}

async fn mute() -> bool {
    let plain = {
        let outside = outside().await;
        let wanted = Arc::new((MUTE as u32).into());
        let looping = plain::keep(&Handle::current(), &outside, wanted).await;
        queue(&outside, MUTE + ENDINGS);
        let seen = endings(&outside).await;
        looping.abort();
        seen
    };
    let outside = outside().await;
    let home = furnished(&outside, false, &format!("min = {MUTE}\nmax = {}", 2 * MUTE));
    let daemon = home.start();
    queue(&outside, MUTE + ENDINGS);
    let ours = endings(&outside).await;
    daemon.kill().await;
    for (what, seen) in [("ours", &ours), ("a plain loop", &plain)] {
        println!(
            "{MUTE} mute runners at work, {what}: a replacement is asked for {:.1?} (p50), {:.1?} (p95) \
             after its job's end; {:.1} calls at GitHub and {:.1} at the cloud for each (bounds {:?})",
            seen.took[0], seen.took[1], seen.calls[0], seen.calls[1], MUTE_BOUNDS,
        );
    }
    println!("in all, at the cloud: {:?}", outside.cloud.stats().calls);
    ours.took[0] <= MUTE_BOUNDS[0] && ours.took[1] <= MUTE_BOUNDS[1]
}

struct Endings {
    took: [Duration; 2],
    calls: [f64; 2],
}

/// How soon each job's end was answered by a registration, until so many were.
async fn endings(outside: &Outside) -> Endings {
    // The first of them ends once all are at work.
    let before = eventually(PATIENCE, "a job has ended", || async {
        (outside.github.stats().completed > 0).then(|| calls(outside))
    })
    .await;
    eventually(PATIENCE, "jobs have ended", || async {
        let done = outside.github.stats().completed as usize >= ENDINGS;
        (done && outside.jit_calls().len() >= MUTE + ENDINGS).then_some(())
    })
    .await;
    let counted = since(before, outside);
    let mut ends: Vec<_> =
        outside.github.jobs().into_iter().filter_map(|job| job.completed_at).collect();
    ends.sort();
    // The n-th registration beyond the first ones answers the n-th end.
    let asked = outside.jit_calls();
    let mut took: Vec<_> = ends
        .iter()
        .zip(&asked[MUTE..])
        .map(|(end, asked)| (*asked - *end).to_std().unwrap_or_default())
        .collect();
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize];
    let each = |count: u64| count as f64 / took.len() as f64;
    Endings { took: [at(0.5), at(0.95)], calls: counted.map(each) }
}

/// Fifty idle runners for two minutes: calls a minute, at both sides.
async fn idle() -> bool {
    let outside = outside().await;
    let home = furnished(&outside, true, "min = 50\nmax = 60");
    let daemon = home.start();
    home.ready().await;
    home.holds(pool_name().as_str(), "idle", 50).await;
    // What watched the last of them come online is over.
    tokio::time::sleep(Duration::from_secs(70)).await;
    let before = calls(&outside);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let counted = since(before, &outside).map(|count| count as f64 / 2.0);
    println!(
        "50 idle runners: {:.1} calls a minute at GitHub, {:.1} at the cloud (bound 1)",
        counted[0], counted[1]
    );
    daemon.kill().await;
    counted.iter().all(|count| *count <= 1.0)
}
