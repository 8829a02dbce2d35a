//! Mute guests and a busy flag that comes late: what a shrink may lose.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test")]

use runner_fleet_actors::{
    invariant::{MINDED, SUPPLY, WATCHED},
    sim::{self, Counters, Faults},
};

/// What happened in `seeds` worlds with these faults.
fn worlds(seeds: u64, faults: &Faults) -> Counters {
    let mut all = Counters::default();
    for seed in 0..seeds {
        let report = sim::run(seed, 3.0, faults);
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        all += report.counters;
    }
    println!("{all}");
    all
}

#[test]
fn no_job_is_lost_to_a_flag_that_is_late() {
    let all = worlds(30, &Faults { flag_late: 60.0, webhook_lost: 1.0, ..Faults::default() });
    assert!(all.jobs_done > 1000, "only {} jobs ran", all.jobs_done);
    assert_eq!(all.jobs_lost_to_lag, 0);
}

#[test]
fn what_was_learnt_of_flags_cordons_and_boots_outlives_a_crash() {
    let faults = Faults {
        flag_late: 240.0,
        cordon_leaks: 0.05,
        guest_never_registers: 0.2,
        crashes: 6.0,
        ..Faults::default()
    };
    for seed in 0..30 {
        let report = sim::run(seed, 3.0, &faults);
        // Before so long a lag was ever shown, jobs are lost to it.
        let learnt = |name| [WATCHED, MINDED, SUPPLY].contains(&name);
        let forgot = report.violations.iter().find(|broken| learnt(broken.invariant));
        assert_eq!(forgot, None, "seed {seed}");
        assert!(report.counters.crashes > 0, "seed {seed}");
    }
}
