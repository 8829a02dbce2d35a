//! Ten thousand runner actors through a whole life: made, registered, idle, busy, finished,
//! replaced, and stopped.
//!
//! Time is paused, and cloud and forge are in memory, so the wall time is the actors' own work and
//! nothing else. Memory is what the process holds resident on top of its start, the in-memory cloud
//! and forge included: an upper bound of what the fleet needs. When all finish at once there are up to
//! twice as many actors, since a finished runner stays until two listings show that GitHub has
//! forgotten it; so the bound is held to what 10,000 of the actors alive at the time take.
//!
//! `cargo bench -p runner-fleet-brain --bench fleet`; ends with 1 where the bound is broken.

#![allow(clippy::print_stdout, reason = "a bench reports to the person who runs it")]

#[path = "wire/usage.rs"]
mod usage;

use std::{
    cell::Cell,
    process::ExitCode,
    time::{Duration, Instant},
};

use common::{Running, World, on_paused_time, pool, start};
use runner_fleet_actors::event::Phase;

const POOLS: u32 = 10;
const RUNNERS_A_POOL: u32 = 1000;
const RUNNERS: usize = (POOLS * RUNNERS_A_POOL) as usize;
const MEMORY_BOUND_MB: f64 = 100.0;

fn main() -> ExitCode {
    on_paused_time(life())
}

async fn life() -> ExitCode {
    let world = World::new();
    world.with(|outside| outside.keep_events = false);
    let at_start = usage::resident("self") as f64 / f64::from(1 << 20);
    let began = Instant::now();
    let room = RUNNERS_A_POOL + RUNNERS_A_POOL / 10;
    let pools = (0..POOLS).map(|n| pool(&format!("pool-{n}"), RUNNERS_A_POOL, room)).collect();
    let fleet = start(&world, pools);
    let mut report = Report { at_start, worst: 0.0, phase: Instant::now() };

    all(&fleet, Phase::Idle).await;
    report.line("made, registered and idle", RUNNERS);
    let first = fleet.names(Phase::Idle);
    for name in &first {
        world.take_job(name);
    }
    all(&fleet, Phase::Busy).await;
    report.line("busy", RUNNERS);
    for name in &first {
        world.finish_job(name);
    }
    let most = Cell::new(RUNNERS);
    fleet
        .until("each finished runner replaced, and gone without a trace", |fleet| {
            most.set(most.get().max(fleet.model.runners.len()));
            fleet.count(Phase::Idle) == RUNNERS
                && first.iter().all(|name| !fleet.model.runners.contains_key(name))
        })
        .await;
    report.line("finished, replaced and deleted", most.get());
    // An hour in which nothing happens: what a memory that grows would show.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    report.line("a quiet hour", most.get());
    fleet.stop().await;

    println!(
        "{RUNNERS} runners, two generations: {:.2} s in all; {RUNNERS} actors take at most {:.1} MB \
         (bound {MEMORY_BOUND_MB} MB)",
        began.elapsed().as_secs_f64(),
        report.worst,
    );
    if report.worst < MEMORY_BOUND_MB { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn all(fleet: &Running, phase: Phase) {
    fleet.until(phase.as_str(), |fleet| fleet.count(phase) == RUNNERS).await;
}

struct Report {
    at_start: f64,
    /// The most that 10,000 actors took so far.
    worst: f64,
    phase: Instant,
}

impl Report {
    /// A phase is over in which there were up to `actors` of them.
    fn line(&mut self, what: &str, actors: usize) {
        let took = self.phase.elapsed().as_secs_f64();
        let grown = peak_mb() - self.at_start;
        self.worst = self.worst.max(grown * RUNNERS as f64 / actors as f64);
        println!(
            "{what:<32} {took:>6.2} s   at most {actors} actors and {grown:.1} MB, {:.1} kB each",
            grown * 1024.0 / actors as f64
        );
        self.phase = Instant::now();
    }
}

/// The most that the process ever held (`VmHWM`).
fn peak_mb() -> f64 {
    usage::bytes("/proc/self/status", "VmHWM:") as f64 / f64::from(1 << 20)
}
