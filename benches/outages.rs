//! How soon a fleet is back after an outage, over the wire: real actors and adapters against a GitHub and a
//! cloud on loopback, in this process.
//!
//! Twenty runners are wanted while one side is away: GitHub, the cloud, Keystone (which hangs, and what hung
//! hangs on), GitHub (a limit that names its time). Measured from the moment in which it is
//! back: the first VM that is asked for, and the last of the twenty. Beside it, in the same world, a plain loop
//! that lists both sides every two seconds and asks for whatever is missing.
//!
//! `cargo bench --bench outages [-- SECONDS]`; ends with 1 where a bound is broken.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a bench reports to the person who runs it, and stops where its set-up fails"
)]

mod wire;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use runner_fleet_actors::{fleet::Fix, sweep::Cadence};
use tokio::runtime::Handle;
use wire::{Outside, Running, pool_name, until};

const FIRST_BOUND: Duration = Duration::from_secs(3);
const ALL_BOUND: Duration = Duration::from_secs(5);
const RUNNERS: u32 = 20;
const MS: fn(u64) -> Duration = Duration::from_millis;

#[derive(Debug, Clone, Copy)]
enum Away {
    Github,
    Cloud,
    Keystone,
    Limited,
}

impl Away {
    fn begin(self, outside: &Outside, lasts: Duration) {
        match self {
            Self::Github => outside.github.faults().outage(true),
            Self::Cloud => outside.cloud.faults().outage(true),
            Self::Keystone => {
                outside.cloud.faults().hang_logins(true);
                outside.cloud.faults().revoke_tokens();
            }
            Self::Limited => outside.github.faults().primary_limit(lasts),
        }
    }

    fn end(self, outside: &Outside) {
        match self {
            Self::Github => outside.github.faults().outage(false),
            Self::Cloud => outside.cloud.faults().outage(false),
            Self::Keystone => outside.cloud.faults().hang_logins(false),
            Self::Limited => {}
        }
    }
}

fn main() -> ExitCode {
    let io = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _already = rustls::crypto::ring::default_provider().install_default();
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(60);
    let lasts = Duration::from_secs(seconds);
    let good = actix::System::new().block_on(async {
        let mut good = true;
        for away in [Away::Github, Away::Cloud, Away::Keystone, Away::Limited] {
            let ours = ours(io.handle(), away, lasts).await;
            let plain = plain(io.handle(), away, lasts).await;
            println!(
                "{away:?} away for {seconds} s: first VM asked for after {:.2?} (bound {FIRST_BOUND:?}), \
                 all {RUNNERS} after {:.2?} (bound {ALL_BOUND:?}); a plain loop {:.2?}, {:.2?}",
                ours.0, ours.1, plain.0, plain.1
            );
            good &= ours.0 <= FIRST_BOUND && ours.1 <= ALL_BOUND;
        }
        good
    });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn outside(io: &Handle) -> Outside {
    io.spawn(Outside::start(MS(20), [MS(2000), MS(4000)], [MS(300), MS(600)])).await.unwrap()
}

/// When the first VM, and when all are there, after the side is back.
async fn back(outside: &Outside, away: Away, lasts: Duration) -> (Duration, Duration) {
    tokio::time::sleep(lasts).await;
    away.end(outside);
    let began = Instant::now();
    let there = |many: u32| outside.cloud.vms().len() >= many as usize;
    let first = until("the first VM", || there(1)).await;
    let all = until("all VMs", || there(RUNNERS)).await;
    (first - began, all - began)
}

async fn ours(io: &Handle, away: Away, lasts: Duration) -> (Duration, Duration) {
    let outside = outside(io).await;
    let fleet = Running::start(io, &outside, 0, RUNNERS, [Cadence::CLOUD, Cadence::FORGE]).await;
    let seen = || {
        let pool = fleet.model.pools.get(&pool_name());
        pool.is_some_and(|p| p.cloud_seen_at.is_some() && p.forge_seen_at.is_some())
    };
    until("the first listing", seen).await;
    away.begin(&outside, lasts);
    let fix = Fix { pool: pool_name(), runners: Some(RUNNERS) };
    fleet.fleet.send(fix).await.unwrap().unwrap();
    let took = back(&outside, away, lasts).await;
    fleet.stop().await;
    took
}

async fn plain(io: &Handle, away: Away, lasts: Duration) -> (Duration, Duration) {
    let outside = outside(io).await;
    away.begin(&outside, lasts);
    let looping = wire::plain::keep(io, &outside, Arc::new(RUNNERS.into())).await;
    let took = back(&outside, away, lasts).await;
    looping.abort();
    took
}
