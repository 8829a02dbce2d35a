//! Seeded worlds with faults, and the invariants in each of them.
//!
//! `RUNNER_FLEET_SIM_SEED=n` replays one seed with its trace, `RUNNER_FLEET_SIM_SEEDS=10000` runs
//! that many, `RUNNER_FLEET_SIM_SECONDS=120` as many as fit.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test")]

use std::{
    env,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use runner_fleet_actors::sim::{self, Counters, Faults, Report};

/// Virtual hours with faults; the quiet time until everything has converged comes on top.
const HOURS: f64 = 3.0;
/// Seeds of an ordinary test run: what a debug build does in well under a minute.
const SEEDS: u64 = if cfg!(debug_assertions) { 60 } else { 1000 };

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn failure(report: &Report) -> String {
    let broken: Vec<_> = report
        .violations
        .iter()
        .map(|broken| format!("\"{}\" at {}: {}", broken.invariant, broken.at, broken.detail))
        .collect();
    format!(
        "seed {seed} breaks {}\nreplay: RUNNER_FLEET_SIM_SEED={seed} cargo test \
         -p runner-fleet-brain --test simulation -- --nocapture",
        broken.join("\n  and "),
        seed = report.seed,
    )
}

fn replay(seed: u64) {
    let faults = Faults::drawn(seed);
    let report = sim::traced(seed, HOURS, &faults, None, 100_000);
    for line in &report.trace {
        println!("{line}");
    }
    for (name, value) in faults.list() {
        println!("{value:>8.3} {name}");
    }
    println!("{}", report.counters);
    assert!(report.violations.is_empty(), "{}", failure(&report));
}

#[test]
fn every_seed_keeps_every_invariant() {
    if let Some(seed) = number("RUNNER_FLEET_SIM_SEED") {
        return replay(seed);
    }
    let until = number("RUNNER_FLEET_SIM_SECONDS")
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let seeds = match until {
        Some(_) => u64::MAX,
        None => number("RUNNER_FLEET_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (total, failures) = (Mutex::new(Counters::default()), Mutex::new(Vec::new()));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed)
                    && until.is_none_or(|until| Instant::now() < until)
                {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let report = sim::run(seed, HOURS, &Faults::drawn(seed));
                    *total.lock().unwrap() += report.counters;
                    if !report.violations.is_empty() {
                        let mut failures = failures.lock().unwrap();
                        failures.push(failure(&report));
                        stop.store(failures.len() >= 20, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    println!("{}in {:.1} s", total.lock().unwrap(), begun.elapsed().as_secs_f64());
    let failures = failures.lock().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_seed_replays_to_the_letter() {
    for seed in 0..3 {
        let faults = Faults::drawn(seed);
        let once = sim::traced(seed, 1.0, &faults, None, 100_000);
        let again = sim::traced(seed, 1.0, &faults, None, 100_000);
        assert_eq!(once.trace, again.trace, "seed {seed}");
        assert_eq!(once.counters, again.counters, "seed {seed}");
    }
}

#[test]
fn an_image_that_powers_off_right_after_its_boot_is_not_booted_over_and_over() {
    let hours = 4.0;
    for seed in 0..10 {
        let faults = Faults { boots_in_vain: 1.0, ..Faults::default() };
        let report = sim::run(seed, hours, &faults);
        assert!(report.violations.is_empty(), "{}", failure(&report));
        let launches = report.counters.launches;
        println!("seed {seed}: {launches} launches in {hours} hours");
        // Two pools of at most 22 once, and then at most one launch in about ten minutes each.
        assert!(launches < 200, "seed {seed}: {launches} launches in {hours} hours");
    }
}

#[test]
fn a_world_without_faults_serves_every_job_and_loses_none() {
    let mut served = 0;
    for seed in 0..10 {
        let report = sim::run(seed, 2.0, &Faults::default());
        assert!(report.violations.is_empty(), "{}", failure(&report));
        let counters = report.counters;
        served += counters.jobs_done;
        assert_eq!(counters.jobs_lost_to_silence + counters.jobs_lost_to_lag, 0, "seed {seed}");
        assert_eq!(counters.jobs_killed_by_force, 0, "seed {seed}");
    }
    assert!(served > 500, "only {served} jobs ran");
}

#[test]
fn when_a_side_that_was_away_is_back_what_is_missing_is_asked_for_at_once() {
    let rate = 12.0;
    let none = Faults::default();
    let outages = [
        ("forge away", Faults { forge_away: rate, ..none }),
        ("cloud away", Faults { cloud_away: rate, ..none }),
        ("cloud hangs", Faults { cloud_hangs: rate, ..none }),
        ("registrations limited", Faults { registrations_limited: rate, ..none }),
        (
            "all",
            Faults {
                forge_away: 4.0,
                cloud_away: 4.0,
                cloud_hangs: 4.0,
                registrations_limited: 4.0,
                ..none
            },
        ),
    ];
    for (what, faults) in outages {
        if let Some(seed) = number("RUNNER_FLEET_SIM_OUTAGE") {
            let report = sim::traced(seed, 3.0, &faults, None, 100_000);
            println!("{}", report.trace.join("\n"));
            return;
        }
        let broken: Vec<_> = (0..20)
            .map(|seed| sim::run(seed, 3.0, &faults))
            .filter(|report| !report.violations.is_empty())
            .collect();
        println!("{what}: {} of 20 worlds", broken.len());
        assert!(broken.is_empty(), "{what}: {}", broken.iter().map(failure).collect::<String>());
    }
}
