//! Twenty containers at once: the provider, behind its limits as the daemon has it, against a plain
//! loop that asks the same LXD for the same. In turns, because the machine has other work too.
//!
//! `RUNNER_FLEET_TEST_LXD_SOCKET=… cargo bench --bench lxd`. Ends with 1 where the bound is broken.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a bench reports to the person who runs it, and stops where its set-up fails"
)]

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use runner_fleet::provider::{
    Limited, Limits,
    lxd::{Lxd, LxdConfig},
};
use runner_fleet_actors::{
    name::RunnerName,
    port::{Clock, Deletion, LaunchOrder, Provider, Secret, TokioClock},
};
use serde_json::json;

#[path = "../tests/support/lxd.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod lxd;

use lxd::RealLxd;

/// Containers at once.
const MANY: u64 = 20;
/// Turns of each kind; the quickest counts, because nothing but other work makes one slower.
const TURNS: usize = 3;
/// What the provider may take, in parts of what the plain loop takes.
const BOUND: f64 = 1.3;

fn order(name: RunnerName, lxd: &RealLxd) -> LaunchOrder {
    LaunchOrder {
        pool: name.pool(),
        name,
        scope: "octo-org".parse().unwrap(),
        shape: lxd.shape(),
        user_data: Secret::new("#!/bin/sh\ntrue\n"),
        created_at: chrono::Utc::now(),
        fresh: true,
    }
}

/// Until LXD itself says that all of them run.
async fn all_run(lxd: &RealLxd, prefix: &str) {
    loop {
        let answer = lxd.ask("GET", "instances?recursion=1", None).await;
        let all = answer["metadata"].as_array().into_iter().flatten();
        let running = all.filter(|vm| {
            vm["status"] == "Running" && vm["name"].as_str().unwrap().starts_with(prefix)
        });
        if running.count() as u64 == MANY {
            return;
        }
    }
}

/// `None` where a launch failed: the machine has other work too, and such a turn measures nothing.
async fn through_the_provider(lxd: &RealLxd) -> Option<Duration> {
    let fleet = lxd::fleet();
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
    let inner = Lxd::connect(LxdConfig::new(lxd.access(), fleet.clone()), Arc::clone(&clock));
    // One machine makes no more at a time.
    let limits = Limits { concurrency: 10, ..Limits::default() };
    let provider = Limited::new(Arc::new(inner.unwrap()), limits, clock);
    let pool = "large".parse().unwrap();
    let names: Vec<_> = (0..MANY).map(|n| RunnerName::new(&fleet, &pool, n)).collect();
    let began = Instant::now();
    let launches = names.iter().map(|name| provider.launch(order(name.clone(), lxd)));
    let good = join_all(launches).await.iter().all(Result::is_ok);
    if good {
        all_run(lxd, fleet.as_str()).await;
    }
    let took = began.elapsed();
    join_all(names.iter().map(async |name| {
        while !matches!(provider.delete(name, None).await, Ok(Deletion::Gone)) {}
    }))
    .await;
    good.then_some(took)
}

async fn plainly(lxd: &RealLxd) -> Option<Duration> {
    let fleet = lxd::fleet();
    let names: Vec<String> = (0..MANY).map(|n| format!("{fleet}-{n}")).collect();
    let began = Instant::now();
    let started = join_all(names.iter().map(async |name| {
        let body = json!({
            "name": name, "type": "container", "ephemeral": true, "profiles": ["default"],
            "config": { "limits.memory": "64MiB", "cloud-init.user-data": "#!/bin/sh\ntrue\n" },
            "source": { "type": "image", "alias": "tiny" },
        });
        lxd.done("POST", "instances", Some(body)).await;
        let start = json!({ "action": "start" });
        let done = lxd.done("PUT", &format!("instances/{name}/state"), Some(start)).await;
        done["metadata"]["status_code"] == 200
    }))
    .await;
    let good = started.into_iter().all(|good| good);
    if good {
        all_run(lxd, fleet.as_str()).await;
    }
    let took = began.elapsed();
    join_all(names.iter().map(|name| lxd.delete(name))).await;
    good.then_some(took)
}

fn main() -> ExitCode {
    // cargo test builds benches too, and calls them so.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    if std::env::var_os("RUNNER_FLEET_TEST_LXD_SOCKET").is_none() {
        eprintln!("skipped: {}", lxd::NAMED);
        return ExitCode::SUCCESS;
    }
    let lxd = RealLxd::found();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut plain, mut ours) = (Duration::MAX, Duration::MAX);
    for turn in 1..=TURNS {
        let (one, other) =
            runtime.block_on(async { (plainly(&lxd).await, through_the_provider(&lxd).await) });
        println!("turn {turn}: plain {one:.2?}, through the provider {other:.2?}");
        (plain, ours) = (plain.min(one.unwrap_or(plain)), ours.min(other.unwrap_or(ours)));
    }
    if plain == Duration::MAX || ours == Duration::MAX {
        println!("nothing was measured: no turn came to its end");
        return ExitCode::FAILURE;
    }
    let ratio = ours.as_secs_f64() / plain.as_secs_f64();
    println!(
        "{MANY} containers at once: {ours:.2?} against {plain:.2?}, {ratio:.2} x (bound {BOUND})"
    );
    if ratio <= BOUND { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
