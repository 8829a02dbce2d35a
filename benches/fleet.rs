//! Ten thousand runner actors through a whole life: made, registered, idle, busy, finished,
//! replaced, and stopped.
//!
//! Time is paused, and cloud and forge are in memory, so the wall time is the actors' own work and
//! nothing else. Memory is what the process holds resident on top of its start, the in-memory cloud
//! and forge included: an upper bound of what the fleet needs.
//!
//! `cargo bench -p runner-fleet-actors --bench fleet`; ends with 1 where the bound is broken.

#![allow(clippy::print_stdout, reason = "a bench reports to the person who runs it")]

#[path = "../actors/tests/common/mod.rs"]
mod common;

use std::{
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
    let at_start = resident_mb();
    let began = Instant::now();
    let room = RUNNERS_A_POOL + RUNNERS_A_POOL / 10;
    let pools = (0..POOLS).map(|n| pool(&format!("pool-{n}"), RUNNERS_A_POOL, room)).collect();
    let fleet = start(&world, pools);
    let mut report = Report { at_start, peak: 0.0, phase: Instant::now() };

    all(&fleet, Phase::Idle).await;
    report.line("made, registered and idle");
    let first = fleet.names(Phase::Idle);
    for name in &first {
        world.take_job(name);
    }
    all(&fleet, Phase::Busy).await;
    report.line("busy");
    for name in &first {
        world.finish_job(name);
    }
    fleet
        .until("each finished runner replaced, and gone without a trace", |fleet| {
            fleet.count(Phase::Idle) == RUNNERS
                && first.iter().all(|name| !fleet.model.runners.contains_key(name))
        })
        .await;
    report.line("finished, replaced and deleted");
    // An hour in which nothing happens: what a memory that grows would show.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    report.line("a quiet hour");
    fleet.stop().await;
    report.line("stopped");

    let grown = report.peak - at_start;
    println!(
        "{RUNNERS} runners, two generations: {:.2} s in all; at most {grown:.1} MB more than at the \
         start, {:.1} kB a runner (bound {MEMORY_BOUND_MB} MB)",
        began.elapsed().as_secs_f64(),
        grown * 1024.0 / RUNNERS as f64,
    );
    if grown < MEMORY_BOUND_MB { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn all(fleet: &Running, phase: Phase) {
    fleet.until(phase.as_str(), |fleet| fleet.count(phase) == RUNNERS).await;
}

struct Report {
    at_start: f64,
    peak: f64,
    phase: Instant,
}

impl Report {
    fn line(&mut self, what: &str) {
        let now = resident_mb();
        self.peak = self.peak.max(peak_mb());
        let took = self.phase.elapsed().as_secs_f64();
        println!("{what:<36} {took:>6.2} s   {:>6.1} MB more resident", now - self.at_start);
        self.phase = Instant::now();
    }
}

/// Memory that the process holds resident now (`VmRSS` of `/proc/self/status`, proc(5)).
fn resident_mb() -> f64 {
    status_mb("VmRSS:")
}

/// The most that it ever held.
fn peak_mb() -> f64 {
    status_mb("VmHWM:")
}

fn status_mb(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse::<f64>().ok())
        .map_or(f64::NAN, |kb| kb / 1024.0)
}
