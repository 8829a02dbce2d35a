//! Mute guests and a busy flag that comes late: what a shrink may lose.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test")]

use runner_fleet_actors::sim::{self, Counters, Faults};

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
