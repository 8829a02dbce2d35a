//! One drain against one job, at the worst moments, ten thousand times.
//!
//! `RUNNER_FLEET_DUEL=n` replays one with its trace.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test")]

use std::{env, sync::Mutex, thread};

use runner_fleet_actors::{
    invariant::{NO_JOB_LOST, RELEASED},
    sim::{self, Counters, Mutant},
};

const DUELS: u64 = 10_000;

#[test]
fn no_job_is_lost_to_a_drain_and_no_guest_is_left_standing_down() {
    if let Some(seed) = env::var("RUNNER_FLEET_DUEL").ok().and_then(|seed| seed.parse().ok()) {
        let report = sim::duel(seed, None, 10_000);
        println!("{}\n{}", report.trace.join("\n"), report.counters);
        assert_eq!(report.violations, [], "duel {seed}");
        return;
    }
    let total = Mutex::new(Counters::default());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for part in 0..2 {
            let (total, failures) = (&total, &failures);
            scope.spawn(move || {
                for seed in (part..DUELS).step_by(2) {
                    let report = sim::duel(seed, None, 0);
                    *total.lock().unwrap() += report.counters;
                    if !report.violations.is_empty() {
                        failures.lock().unwrap().push((seed, report.violations));
                    }
                }
            });
        }
    });
    let (total, failures) = (total.into_inner().unwrap(), failures.into_inner().unwrap());
    println!("{total}");
    let first: Vec<_> = failures.iter().take(5).collect();
    assert!(
        failures.is_empty(),
        "{} of {DUELS} duels; replay one with RUNNER_FLEET_DUEL=n: {first:#?}",
        failures.len()
    );
    // They did meet: some drains found the job, some were first, and the flag lied in many.
    let met = total.drains_met_a_job;
    let first = total.drains - total.drains_called_off;
    assert!(met > 1_000 && first > 1_000, "{met} drains met a job, {first} were first");
    assert!(total.jobs_lied_about > 1_000 && total.crashes > 1_000, "{total}");
    assert_eq!(total.jobs_done, DUELS);
}

/// Whether one of the first `duels` shows that `mutant` breaks `invariant`.
fn caught(mutant: Mutant, invariant: &str, duels: u64) {
    let mut others = Vec::new();
    for seed in 0..duels {
        let report = sim::duel(seed, Some(mutant), 0);
        if report.violations.iter().any(|broken| broken.invariant == invariant) {
            return;
        }
        others.extend(report.violations.into_iter().map(|broken| (seed, broken.invariant)));
    }
    panic!("{mutant:?} breaks \"{invariant}\" in none of {duels} duels, but {others:?}");
}

#[test]
fn a_guest_must_look_before_it_says_that_it_stands_down() {
    caught(Mutant::FreezesUnlooked, NO_JOB_LOST, 500);
}

#[test]
fn a_guest_must_freeze_its_listener_before_it_looks() {
    caught(Mutant::LooksUnfrozen, NO_JOB_LOST, 500);
}

#[test]
fn a_guest_must_stand_down_until_it_is_told_also_where_nobody_confirms_its_answer() {
    caught(Mutant::ThawsUnconfirmed, NO_JOB_LOST, DUELS);
}

#[test]
fn the_answer_must_be_awaited_before_the_registration_goes() {
    caught(Mutant::DeregistersUnanswered, NO_JOB_LOST, 500);
}

#[test]
fn a_guest_that_stands_down_must_be_told_what_comes_next() {
    caught(Mutant::NeverSaysMore, RELEASED, 500);
}

#[test]
fn a_guest_that_says_busy_must_be_believed() {
    caught(Mutant::BlindShrink, NO_JOB_LOST, 500);
}
