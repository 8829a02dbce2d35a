//! Whether anything grows with the size of a pool: the life of ten thousand runners (made, idle, busy, finished and
//! replaced) in one pool, against the same in ten pools.
//!
//! Time is paused, and cloud and forge are in memory, so the wall time is the actors' own work and nothing else.
//!
//! `cargo bench -p runner-fleet-brain --bench pools [-- RUNNERS]`; ends with 1 where the bound is broken.

#![allow(clippy::print_stdout, reason = "a bench reports to the person who runs it")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use common::{Running, World, on_paused_time, pool, start};
use runner_fleet_actors::event::Phase;

/// One pool may take so many times as long as ten; the first listing of a life is each pool's own.
const BOUND: f64 = 1.5;

fn main() -> ExitCode {
    let runners = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(10_000);
    let took = [10, 1].map(|pools| {
        let took = on_paused_time(async move { life(pools, runners / pools).await });
        println!(
            "pools: {runners} runners in {pools}: {took:.2?}, {:.1} µs each",
            took.as_secs_f64() * 1e6 / f64::from(runners)
        );
        took.as_secs_f64()
    });
    let ratio = took[1] / took[0];
    println!("pools: one of them takes {ratio:.2} × as long as ten (bound {BOUND})");
    if ratio <= BOUND { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn life(pools: u32, runners: u32) -> Duration {
    let world = World::new();
    world.with(|outside| outside.keep_events = false);
    let began = Instant::now();
    let pools_of = |n| pool(&format!("pool-{n}"), runners, runners + runners / 10);
    let fleet = start(&world, (0..pools).map(pools_of).collect());
    let all = (pools * runners) as usize;
    let idle = |fleet: &Running| fleet.count(Phase::Idle) == all;
    fleet.until("all idle", idle).await;
    let first = fleet.names(Phase::Idle);
    for name in &first {
        world.take_job(name);
    }
    fleet.until("all busy", |fleet| fleet.count(Phase::Busy) == all).await;
    for name in &first {
        world.finish_job(name);
    }
    fleet.until("all replaced", |fleet| idle(fleet) && fleet.model.runners.len() == all).await;
    fleet.stop().await;
    began.elapsed()
}
