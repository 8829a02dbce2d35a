//! What a listing can know, and in which order it counts.

use runner_fleet_actors::{
    event::{DrainReason, Job, Phase},
    name::RegistrationId,
    port::{Deletion, Stage, VmStatus},
    runner::{Answer, Effect, Event, Sighting, State, adopt},
};

use crate::{
    given::{at, launched, limits, next, of_cloud, of_forge},
    lives::{there, vm},
};

fn idle() -> State {
    adopt(Some(vm(VmStatus::Active)), Some(there(false)), at(0))
}

#[test]
fn what_was_listed_before_a_drain_does_not_prove_that_it_is_quiet_now() {
    let mut state = idle();
    for second in [20, 50, 80] {
        state = next(state, of_forge(Sighting::Seen(there(false)), second), second);
    }
    let (asked, effects) = state.next(Event::Drain(DrainReason::Shrink), at(81), &limits());
    assert_eq!(effects, [], "a job may have come since");
    let older = of_forge(Sighting::Seen(there(false)), 81);
    let (asked, effects) = asked.next(older, at(82), &limits());
    assert_eq!(effects, [], "it began with the drain, not after it");
    let newer = of_forge(Sighting::Seen(there(false)), 83);
    assert_eq!(asked.next(newer, at(84), &limits()).1, [Effect::Cordon]);
}

#[test]
fn a_deletion_takes_half_a_minute_to_show() {
    let forced = next(idle(), Event::Force, 100);
    let gone = next(forced, Event::Answered(Answer::VmDeleted(Ok(Deletion::Gone))), 101);
    assert!(!gone.holds_vm());
    for second in [102, 131] {
        let shown = of_cloud(Sighting::Seen(vm(VmStatus::Active)), second);
        assert!(!next(gone.clone(), shown, second).holds_vm(), "at {second}");
    }
    let shown = of_cloud(Sighting::Seen(vm(VmStatus::Active)), 132);
    assert!(next(gone, shown, 132).holds_vm(), "it is there after all");
}

#[test]
fn a_launch_takes_half_a_minute_to_show() {
    let mut state = next(State::start(at(0), &limits()).0, launched(), 100);
    for second in [110, 120, 130, 131, 160, 190] {
        state = next(state, of_cloud(Sighting::Absent, second), second);
        assert_eq!(state.phase(), Phase::Creating, "at {second}");
    }
    let gone = next(state, of_cloud(Sighting::Absent, 191), 191);
    assert!(!gone.holds_vm(), "a minute of listings that could know of it");
}

#[test]
fn a_launch_that_failed_and_may_have_made_a_vm_blinds_as_well() {
    let failure = runner_fleet_actors::runner::LaunchFailure {
        stage: Stage::Cloud,
        error: runner_fleet_actors::port::PortError::doubtful(
            runner_fleet_actors::port::ErrorClass::Transient,
            "503",
        ),
        vm_possible: true,
        registration_possible: true,
        registration: None,
    };
    let failed = Event::Answered(Answer::LaunchFailed(failure));
    let mut state = next(State::start(at(0), &limits()).0, failed, 100);
    for second in [105, 130, 165, 190] {
        state = next(state, of_cloud(Sighting::Absent, second), second);
        assert_eq!(state.phase(), Phase::Creating, "at {second}");
    }
}

#[test]
fn an_older_listing_breaks_no_run_of_newer_ones() {
    let missing = next(idle(), of_cloud(Sighting::Absent, 100), 100);
    let late = next(missing, of_cloud(Sighting::Seen(vm(VmStatus::Active)), 90), 110);
    let gone = next(late, of_cloud(Sighting::Absent, 160), 160);
    assert!(!gone.holds_vm());
}

#[test]
fn an_older_listing_does_not_bring_a_state_back() {
    let active = next(idle(), of_cloud(Sighting::Seen(vm(VmStatus::Active)), 100), 100);
    let off = of_cloud(Sighting::Seen(vm(VmStatus::Stopped)), 100);
    assert_eq!(next(active, off, 101).phase(), Phase::Idle, "not newer is older");
    let asked = next(idle(), Event::Drain(DrainReason::Shrink), 100);
    let quiet = next(asked, of_forge(Sighting::Seen(there(false)), 110), 110);
    let busy = of_forge(Sighting::Seen(there(true)), 105);
    assert_eq!(next(quiet, busy, 111).phase(), Phase::Draining);
}

#[test]
fn an_older_listing_of_one_side_does_not_age_the_other() {
    let listed = next(idle(), of_forge(Sighting::Seen(there(false)), 200), 200);
    let off = of_cloud(Sighting::Seen(vm(VmStatus::Stopped)), 150);
    assert_eq!(next(listed, off, 201).phase(), Phase::Draining);
    let begins = Event::JobStarted { job: Job::default(), registration: Some(RegistrationId(7)) };
    assert_eq!(next(idle(), begins, 10).phase(), Phase::Busy);
}
