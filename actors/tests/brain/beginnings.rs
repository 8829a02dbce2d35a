//! How a runner begins: launches that fail, jobs that begin, what is adopted, and VMs that end too soon.

use std::time::Duration;

use runner_fleet_actors::{
    event::{DrainReason, GuestTimes, Job, JobEnd, Phase},
    name::{RegistrationId, VmId},
    port::{ErrorClass, Registration, Stage, VmStatus},
    runner::{
        Answer, Effect, Event, LaunchFailure, Report, Sighting, State, Step, Told, adopt, revive,
    },
};

use crate::lives::*;

#[test]
fn a_launch_that_fails_for_good_under_a_look_up_waits_for_no_answer() {
    let events = (40..=100).step_by(20).map(|now| (now, no_registration(now)));
    let asked = run(launched(), events);
    assert!(asked.known().unwrap().in_flight.is_some());
    let failed = Event::Answered(Answer::LaunchFailed(LaunchFailure {
        stage: Stage::Cloud,
        error: no_answer(),
        vm_possible: false,
        registration_possible: false,
        registration: None,
    }));
    let nothing_left = next(asked, failed, 101);
    assert!(nothing_left.known().unwrap().in_flight.is_some(), "nor is it there");
    assert_eq!(nothing_left.deadline(&limits()), Some(at(101)));
    assert_eq!(next(nothing_left, Event::Tick, 101).phase(), Phase::Deleted);
}

#[test]
fn a_job_that_begins_where_force_was_wished_during_the_launch_is_killed_and_said_so() {
    let forced = run(creating(), [(1, Event::Force), (2, begins(None))]);
    assert_eq!((drain(&forced).step, drain(&forced).job_killed), (Step::Delete, true));
}

#[test]
fn a_vm_that_is_never_listed_is_a_failed_launch_and_one_that_was_is_lost() {
    let launched = run(launched(), [(40, no_vm(40)), (100, no_vm(100))]);
    assert!(matches!(launched.reason(), Some(DrainReason::LaunchFailed { .. })));
    let registering = run(registering(), [(50, no_vm(50)), (110, no_vm(110))]);
    assert_eq!(registering.reason(), Some(&DrainReason::VmVanished));
}

#[test]
fn who_was_asked_about_in_vain_and_whom_neither_side_lists_any_more_has_finished() {
    let doubted = run(
        idle(),
        [
            (20, no_registration(20)),
            (80, no_registration(80)),
            (81, not_looked_up()),
            (975, no_vm(975)),
            (976, not_looked_up()),
        ],
    );
    assert_eq!(doubted.phase(), Phase::Idle);
    let (gone, effects) = step(doubted, no_vm(985), 985);
    assert_eq!((gone.reason(), effects), (Some(&DrainReason::Finished), vec![Effect::DeleteVm]));
}

#[test]
fn the_word_of_a_job_that_bears_its_number_is_no_hearsay_any_more() {
    let hearsay = |state: &State| state.known().unwrap().hearsay.is_some();
    let said = next(idle(), begins(None), 10);
    assert!(hearsay(&said));
    assert!(!hearsay(&next(said, begins(Some(7)), 11)));
}

#[test]
fn a_guest_that_has_ended_its_job_has_told_of_it_all() {
    let told = |events: Vec<(u64, Event)>| run(busy(), events).known().unwrap().told;
    let stopped = || guest(Report::Stopped(JobEnd::default()));
    assert_eq!(told(vec![]), Told::Nothing);
    assert_eq!(told(vec![(11, guest_begins())]), Told::Begun);
    assert_eq!(told(vec![(11, guest_begins()), (12, guest_ends())]), Told::Over);
    assert_eq!(told(vec![(11, stopped())]), Told::Over);
}

#[test]
fn what_two_sources_say_of_one_job_is_put_together_the_newer_first() {
    let job = |id, run_id, workflow: Option<&str>| Job {
        id,
        run_id,
        workflow: workflow.map(Into::into),
        ..Job::default()
    };
    let forge = Event::JobStarted {
        job: job(Some(1), None, Some("old")),
        registration: Some(RegistrationId(7)),
    };
    let both = run(
        idle(),
        [(10, forge), (11, guest(Report::JobStarted(job(None, Some(5), Some("new")))))],
    );
    assert_eq!(both.job(), Some(&job(Some(1), Some(5), Some("new"))));
}

#[test]
fn a_vm_in_error_is_adopted_as_lost_unless_the_forge_shows_its_runner_alive() {
    let adopted = |online, busy| {
        let status = VmStatus::Error { class: ErrorClass::Quota, fault: "fault".into() };
        let registration = Registration { online, busy: Some(busy), ..there(false) };
        adopt(Some(vm(status)), Some(registration), at(0))
    };
    let lost = DrainReason::LaunchFailed { class: ErrorClass::Quota };
    assert_eq!(adopted(false, false).reason(), Some(&lost));
    assert_eq!(adopted(true, false).phase(), Phase::Idle);
    assert_eq!(adopted(true, true).phase(), Phase::Busy);
    assert_eq!(adopted(false, true).phase(), Phase::Busy);
}

#[test]
fn after_a_death_lists_prove_nothing_before_an_order_of_the_dead_actor_can_show() {
    let revived = revive(launched(), at(100));
    assert!(revived.known().unwrap().in_flight.is_none());
    for (first, absent) in [(130, false), (131, true)] {
        let twice = run(revived.clone(), [(140, no_vm(first)), (200, no_vm(first + 60))]);
        assert_eq!(twice.phase() == Phase::Draining, absent, "since {first}");
    }
}

#[test]
fn a_version_that_github_refuses_is_told_with_what_to_do() {
    let end = |code| guest(Report::Stopped(JobEnd { exit_code: Some(code), conclusion: None }));
    let error = |code| {
        let failed = next(registering(), end(code), 50);
        failed.known().unwrap().last_error.clone().unwrap()
    };
    assert_eq!(error(7).class, ErrorClass::Invalid);
    assert!(error(7).what.contains("needs a newer one"), "{}", error(7));
    assert_eq!(error(3).class, ErrorClass::Transient);
    assert!(error(3).what.contains("exit code 3"), "{}", error(3));
}

/// Off at second 61, before its runner was seen online.
fn suspect() -> State {
    next(registering(), of_cloud(VmStatus::Stopped, 60), 61)
}

#[test]
fn a_vm_that_is_off_is_suspect_unless_its_runner_was_online_or_has_served() {
    let counted = GuestTimes { job_started: Some(Duration::from_secs(9)), ..GuestTimes::default() };
    let served = next(registering(), Event::Guest(Report::Booted, counted), 50);
    let online = next(registering(), guest(Report::RunnerStarted), 50);
    let off = |state| drain(&next(state, of_cloud(VmStatus::Stopped, 60), 61)).suspect;
    assert_eq!((off(registering()), off(served), off(online)), (true, false, false));
}

#[test]
fn what_a_suspect_was_is_told_by_a_list_that_began_after_its_end() {
    let offline = |busy, second| {
        let registration = Registration { online: false, busy, ..there(false) };
        seen(Sighting::Unknown, Sighting::Seen(registration), second)
    };
    let reason = |event| next(suspect(), event, 70).reason().cloned();
    assert_eq!(reason(offline(Some(false), 61)), Some(DrainReason::Finished), "no later");
    assert_eq!(reason(offline(Some(false), 62)), Some(DrainReason::BootFailed));
    assert_eq!(reason(offline(None, 62)), Some(DrainReason::BootFailed));
    assert_eq!(reason(offline(Some(true), 62)), Some(DrainReason::Finished), "it has a job");
    let then = run(suspect(), [(70, offline(Some(true), 62)), (80, offline(Some(false), 75))]);
    assert_eq!(then.reason(), Some(&DrainReason::Finished));
}

#[test]
fn a_suspect_of_which_a_late_report_tells_that_it_served_is_none() {
    let counted = GuestTimes { job_started: Some(Duration::from_secs(9)), ..GuestTimes::default() };
    for late in [guest(Report::RunnerStarted), Event::Guest(Report::Booted, counted)] {
        let told = run(suspect(), [(65, late), (70, of_forge_offline(70))]);
        assert_eq!(told.reason(), Some(&DrainReason::Finished));
    }
}

fn of_forge_offline(second: u64) -> Event {
    let registration = Registration { online: false, ..there(false) };
    seen(Sighting::Unknown, Sighting::Seen(registration), second)
}

#[test]
fn each_event_is_told_in_words() {
    let absent = || (Sighting::Absent, Sighting::Absent);
    let (of_vm, of_registration) = absent();
    for (event, words) in [
        (seen(of_vm, of_registration, 1), "a listing showed it"),
        (no_registration(1), "the forge showed it"),
        (no_vm(1), "the cloud showed it"),
        (Event::Tick, "its time limit passed"),
        (found(None, None), "the forge has no runner of its number"),
        (found(Some(there(false)), None), "the forge has it by its number"),
        (found(None, Some(true)), "the forge says by number that its job runs"),
        (deregistered(Err(no_answer())), "no answer"),
        (shrinks(), "asked to drain: shrink"),
        (Event::Woke(at(1)), "the process stood still for a while"),
        (
            Event::VmEnded { vm: VmId("vm".into()), as_of: at(1) },
            "the cloud says that its VM is deleted",
        ),
    ] {
        assert_eq!(event.words(), words);
    }
}
