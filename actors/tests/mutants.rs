//! Shells that break one rule each: the invariants must notice, or they would prove nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test")]

use runner_fleet_actors::{
    invariant::{
        BUSY, CONVERGES, CORDONED, ENDED, FEW_FAILURES, FOREIGN, IN_ORDER, ITS_TURN, LAG,
        LOOKS_FIRST, MAX, MINDED, NO_JOB_LOST, ONE_EFFECT, ONE_START, PROVEN_QUIET, RECOVERS,
        STAYS_DEAD, SUPPLY, UNKNOWN_HOLDS, UNLISTED, USEFUL, WATCHED,
    },
    sim::{self, Faults, Mutant},
};

/// Whether one of the first `seeds` worlds shows that `mutant` breaks `invariant`.
fn caught(mutant: Mutant, invariant: &str, seeds: u64) {
    caught_in(Faults::drawn, mutant, invariant, seeds);
}

/// Worlds in which nothing is wrong but that sides are away.
fn outages(_seed: u64) -> Faults {
    Faults { forge_away: 8.0, cloud_away: 8.0, registrations_limited: 8.0, ..Faults::default() }
}

/// Worlds in which nothing is wrong but that the process stands still again and again, and calls are held off.
fn pauses(_seed: u64) -> Faults {
    Faults { pauses: 20.0, rate_limited: 0.1, ..Faults::default() }
}

fn caught_in(faults: fn(u64) -> Faults, mutant: Mutant, invariant: &str, seeds: u64) {
    let mut others = Vec::new();
    for seed in 0..seeds {
        let report = sim::run_mutant(seed, 2.0, &faults(seed), mutant);
        if report.violations.iter().any(|broken| broken.invariant == invariant) {
            return;
        }
        others.extend(report.violations.into_iter().map(|broken| (seed, broken.invariant)));
    }
    panic!("{mutant:?} breaks \"{invariant}\" in none of {seeds} seeds, but {others:?}");
}

#[test]
fn deleting_the_vm_first_loses_jobs() {
    caught(Mutant::DeleteFirst, NO_JOB_LOST, 60);
}

#[test]
fn without_deadlines_nothing_comes_to_rest() {
    caught(Mutant::NoDeadline, CONVERGES, 20);
}

#[test]
fn without_listings_nothing_comes_to_rest() {
    caught(Mutant::NoObservation, CONVERGES, 20);
}

#[test]
fn one_listing_with_a_busy_flag_is_no_proof() {
    caught(Mutant::TrustBusyFlag, PROVEN_QUIET, 20);
}

#[test]
fn draining_vms_count_toward_max() {
    caught(Mutant::ForgetMax, MAX, 20);
}

#[test]
fn unknown_demand_is_not_zero() {
    caught(Mutant::ZeroOnUnknown, UNKNOWN_HOLDS, 20);
}

#[test]
fn a_deleted_name_must_be_remembered() {
    caught(Mutant::NoTombstone, STAYS_DEAD, 20);
}

#[test]
fn after_a_crash_everything_must_be_adopted() {
    caught(Mutant::NoAdoption, MAX, 20);
}

#[test]
fn a_shrink_must_ask() {
    caught(Mutant::BlindShrink, NO_JOB_LOST, 60);
}

#[test]
fn a_guest_that_says_busy_must_be_heard() {
    caught(Mutant::DeafToGuests, NO_JOB_LOST, 60);
}

#[test]
fn the_forge_must_be_told_of_a_jobs_end_before_its_vm_goes() {
    caught(Mutant::NoLastWords, NO_JOB_LOST, 60);
}

#[test]
fn a_word_of_busy_must_not_be_forgotten() {
    caught(Mutant::ForgetfulOfBusy, BUSY, 60);
}

#[test]
fn an_effect_is_not_repeated_while_its_answer_is_due() {
    caught(Mutant::TwoEffects, ONE_EFFECT, 5);
}

#[test]
fn a_list_that_lacks_a_runner_at_work_is_no_end_of_its_job() {
    caught(Mutant::BelievesLists, UNLISTED, 20);
}

#[test]
fn a_word_counts_for_the_runner_of_its_number_only() {
    caught(Mutant::TakesEveryWord, FOREIGN, 20);
}

#[test]
fn quiet_must_be_newer_than_the_drain() {
    caught(Mutant::OldQuiet, PROVEN_QUIET, 20);
}

#[test]
fn listings_count_in_the_order_in_which_they_began() {
    caught(Mutant::AnyOrder, IN_ORDER, 20);
}

#[test]
fn a_start_that_is_told_again_is_no_start() {
    caught(Mutant::EveryStart, ONE_START, 40);
}

#[test]
fn a_deletion_takes_a_moment_to_show() {
    caught(Mutant::NoLag, LAG, 20);
}

#[test]
fn a_launch_takes_a_moment_to_show() {
    caught(Mutant::LaunchBlindsNothing, LAG, 20);
}

#[test]
fn a_side_that_is_back_is_noticed() {
    caught_in(outages, Mutant::DeafToSigns, RECOVERS, 20);
}

#[test]
fn one_launch_finds_out_whether_launches_work_again() {
    caught_in(outages, Mutant::Crowds, FEW_FAILURES, 20);
}

#[test]
fn what_has_to_wait_for_its_turn_is_not_made() {
    caught_in(outages, Mutant::OpenDoors, ITS_TURN, 20);
}

#[test]
fn what_was_decided_before_a_gap_is_not_sent_after_it() {
    caught_in(pauses, Mutant::GroundsForEver, LOOKS_FIRST, 40);
}

#[test]
fn after_a_gap_the_world_is_looked_at_first() {
    caught_in(pauses, Mutant::SleepsUnnoticed, LOOKS_FIRST, 20);
}

#[test]
fn what_has_changed_is_not_all_that_there_is() {
    caught(Mutant::TakesRecentForAll, LOOKS_FIRST, 20);
    let awake = |seed| Faults { pauses: 0.0, ..Faults::drawn(seed) };
    caught_in(awake, Mutant::TakesRecentForAll, MAX, 120);
}

#[test]
fn a_vm_that_nobody_asked_to_delete_is_not_gone_by_one_word_of_its_cloud() {
    caught(Mutant::BelievesDeletions, ENDED, 60);
}

/// Worlds in which nobody but the forge's flag tells of jobs, and that comes late.
fn late(_seed: u64) -> Faults {
    Faults { flag_late: 60.0, webhook_lost: 1.0, ..Faults::default() }
}

#[test]
fn a_mute_runner_is_cordoned_before_it_goes() {
    caught_in(late, Mutant::NoCordon, CORDONED, 40);
}

#[test]
fn a_cordoned_runner_is_watched_before_it_goes() {
    caught_in(late, Mutant::NoWatch, CORDONED, 40);
}

#[test]
fn a_runner_whose_drain_is_called_off_gets_jobs_again() {
    let dies = |seed| Faults { crashes: 6.0, ..late(seed) };
    caught_in(dies, Mutant::NeverUncordons, USEFUL, 60);
}

#[test]
fn a_cordon_that_does_not_hold_is_not_relied_on() {
    let leaky = |seed| Faults { cordon_leaks: 1.0, ..late(seed) };
    caught_in(leaky, Mutant::UnmindedLeaks, MINDED, 40);
}

#[test]
fn how_late_the_flag_was_must_outlive_a_crash() {
    let later = |_| Faults { flag_late: 240.0, crashes: 4.0, ..Faults::default() };
    caught_in(later, Mutant::ForgetsHabits, WATCHED, 40);
}

#[test]
fn that_cordons_do_not_hold_must_outlive_a_crash() {
    let leaky = |seed| Faults { cordon_leaks: 1.0, crashes: 4.0, ..late(seed) };
    caught_in(leaky, Mutant::ForgetsHabits, MINDED, 60);
}

#[test]
fn how_long_boots_took_must_outlive_a_crash() {
    let hang = |_| Faults { guest_never_registers: 0.3, crashes: 12.0, ..Faults::default() };
    caught_in(hang, Mutant::ForgetsBoots, SUPPLY, 40);
}
