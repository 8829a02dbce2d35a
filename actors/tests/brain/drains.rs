//! Drains at their turns: what takes one back, what does not, and what each step waits for.

use std::time::Duration;

use runner_fleet_actors::{
    event::{DrainReason, GuestTimes, Job, JobEnd, Phase},
    name::{RegistrationId, RunnerName, VmId},
    port::{Deletion, ErrorClass, Finding, PortError, Registration, StandDown, Time, Vm, VmStatus},
    runner::{
        Answer, Drain, Effect, Event, LaunchFailure, Limits, Observation, Report, Sighting, State,
        Step, Told, adopt, revive,
    },
};

fn at(seconds: u64) -> Time {
    Time::from_timestamp(1_800_000_000, 0).unwrap() + Duration::from_secs(seconds)
}

fn limits() -> Limits {
    Limits::default()
}

fn name() -> RunnerName {
    "ci--linux--0123456789ab".parse().unwrap()
}

fn vm(status: VmStatus) -> Vm {
    let (name, id) = (name(), VmId("vm".into()));
    Vm { name, id, status, created_at: None, shape: None, scope: None, address: None, task: None }
}

fn there(busy: bool) -> Registration {
    Registration { name: name(), id: RegistrationId(7), online: true, busy: Some(busy) }
}

fn seen(vm: Sighting<Vm>, registration: Sighting<Registration>, second: u64) -> Event {
    let (vm_as_of, registration_as_of) = (at(second), at(second));
    Event::Observed(Observation { vm, registration, vm_as_of, registration_as_of })
}

fn of_cloud(status: VmStatus, second: u64) -> Event {
    seen(Sighting::Seen(vm(status)), Sighting::Unknown, second)
}

fn no_vm(second: u64) -> Event {
    seen(Sighting::Absent, Sighting::Unknown, second)
}

fn no_registration(second: u64) -> Event {
    seen(Sighting::Unknown, Sighting::Absent, second)
}

fn of_forge(busy: bool, second: u64) -> Event {
    seen(Sighting::Unknown, Sighting::Seen(there(busy)), second)
}

fn step(state: State, event: Event, second: u64) -> (State, Vec<Effect>) {
    state.next(event, at(second), &limits())
}

fn next(state: State, event: Event, second: u64) -> State {
    step(state, event, second).0
}

/// One event after the other, each with its second.
fn run(state: State, events: impl IntoIterator<Item = (u64, Event)>) -> State {
    events.into_iter().fold(state, |state, (second, event)| next(state, event, second))
}

fn drain(state: &State) -> &Drain {
    match state {
        State::Draining { drain, .. } => drain,
        other => panic!("{other:?}"),
    }
}

fn guest(report: Report) -> Event {
    Event::Guest(report, GuestTimes::default())
}

fn guest_begins() -> Event {
    guest(Report::JobStarted(Job::default()))
}

fn guest_ends() -> Event {
    guest(Report::JobCompleted(JobEnd::default()))
}

fn begins(number: Option<u64>) -> Event {
    Event::JobStarted { job: Job::default(), registration: number.map(RegistrationId) }
}

fn ends() -> Event {
    Event::JobCompleted { end: JobEnd::default(), registration: Some(RegistrationId(7)) }
}

fn shrinks() -> Event {
    Event::Drain(DrainReason::Shrink)
}

fn found(registration: Option<Registration>, at_work: Option<bool>) -> Event {
    Event::Answered(Answer::LookedUp(Ok(Finding { registration, at_work })))
}

fn no_answer() -> PortError {
    PortError::certain(ErrorClass::Transient, "no answer")
}

fn not_looked_up() -> Event {
    Event::Answered(Answer::LookedUp(Err(no_answer())))
}

fn deregistered(result: Result<(), PortError>) -> Event {
    Event::Answered(Answer::Deregistered(result))
}

fn vm_deleted(deletion: Deletion) -> Event {
    Event::Answered(Answer::VmDeleted(Ok(deletion)))
}

fn stands_down() -> Event {
    Event::Answered(Answer::StoodDown(Ok(StandDown::StandingDown)))
}

/// Adopted at second 0, without a job; its guest cannot report.
fn idle() -> State {
    adopt(Some(vm(VmStatus::Active)), Some(there(false)), at(0))
}

/// The same with a guest that has reported.
fn reporting() -> State {
    next(idle(), guest(Report::RunnerStarted), 1)
}

/// Since second 10, by the forge's word.
fn busy() -> State {
    next(idle(), begins(Some(7)), 10)
}

fn creating() -> State {
    State::start(at(0), &limits()).0
}

fn launched() -> State {
    let answer = Answer::Launched { vm: VmId("vm".into()), registration: RegistrationId(7) };
    next(creating(), Event::Answered(answer), 5)
}

fn registering() -> State {
    next(launched(), of_cloud(VmStatus::Active, 40), 40)
}

/// A shrink whose VM two lists lack: what is left of it is its registration.
fn vanished_while_shrinking() -> State {
    run(idle(), [(10, shrinks()), (20, no_vm(20)), (80, no_vm(80))])
}

/// Without a job, when its VM vanished: the same.
fn vanished() -> State {
    run(idle(), [(20, no_vm(20)), (80, no_vm(80))])
}

/// Over by the word of lists and of a look-up, which found nothing. Since second 81.
fn inferred() -> State {
    run(busy(), [(20, no_registration(20)), (80, no_registration(80)), (81, found(None, None))])
}

#[test]
fn an_end_that_was_only_inferred_is_taken_back_by_whoever_says_that_a_job_begins() {
    assert_eq!(drain(&inferred()).step, Step::Settle);
    assert_eq!(next(inferred(), guest_begins(), 90).phase(), Phase::Busy);
}

#[test]
fn an_end_that_the_forge_told_is_not_taken_back() {
    let told = run(
        busy(),
        [(20, no_registration(20)), (80, no_registration(80)), (81, found(None, Some(false)))],
    );
    assert!(drain(&told).job_end.is_none() && drain(&told).forge_knows);
    assert_eq!(next(told, guest_begins(), 90).phase(), Phase::Draining);
}

#[test]
fn an_end_that_the_guest_told_is_not_taken_back_by_a_list_or_a_look_up() {
    let over = run(busy(), [(12, guest_begins()), (20, guest_ends())]);
    assert_eq!(next(over.clone(), of_forge(true, 25), 25).phase(), Phase::Draining);
    let unlisted = run(over, [(30, no_registration(30))]);
    let (asked, effects) = step(unlisted, no_registration(95), 95);
    assert_eq!(effects, [Effect::LookUp], "whether anybody is there to be told the job's end");
    let at_work = next(asked, found(Some(there(true)), None), 96);
    assert_eq!(at_work.phase(), Phase::Draining, "its own guest knows best");
}

#[test]
fn a_drain_that_the_forge_knows_of_looks_nothing_up() {
    let patient = Limits { settle: Duration::from_secs(300), ..limits() };
    let mut state = busy();
    for (second, event) in [(20, ends()), (30, no_registration(30)), (95, no_registration(95))] {
        let (after, effects) = state.next(event, at(second), &patient);
        assert_eq!(effects, [], "at {second}");
        state = after;
    }
}

#[test]
fn a_job_that_ended_under_a_drain_is_not_begun_by_a_late_word() {
    let settles =
        run(reporting(), [(10, shrinks()), (11, stands_down()), (12, deregistered(Ok(())))]);
    assert_eq!(drain(&settles).step, Step::Settle);
    assert_eq!(next(settles.clone(), begins(Some(7)), 14).phase(), Phase::Busy);
    let ended = next(settles, guest_ends(), 13);
    assert_eq!(ended.reason(), Some(&DrainReason::Shrink));
    assert_eq!(next(ended, begins(Some(7)), 14).phase(), Phase::Draining);
}

#[test]
fn whom_the_cloud_lacks_for_long_is_not_taken_back_by_a_word_that_comes_late() {
    let gone = vanished_while_shrinking();
    assert!(drain(&gone).vm_gone);
    assert_eq!(next(gone, begins(Some(7)), 85).phase(), Phase::Draining);
}

#[test]
fn a_vm_that_no_host_took_runs_no_job_whatever_is_said() {
    let class = ErrorClass::NoCapacity;
    let refused =
        next(launched(), of_cloud(VmStatus::Error { class, fault: "no host".into() }, 40), 40);
    assert_eq!(drain(&refused).step, Step::Delete);
    assert_eq!(next(refused, begins(Some(7)), 41).phase(), Phase::Draining);
}

#[test]
fn asking_and_deregistering_have_one_clock_and_one_count_of_failures() {
    let asked = run(reporting(), [(10, shrinks()), (20, stands_down())]);
    let failed = next(asked, deregistered(Err(no_answer())), 21);
    assert_eq!((drain(&failed).step, drain(&failed).tries), (Step::Ask, 1));
    let again = run(failed, [(30, Event::Tick), (31, stands_down())]);
    let again = (drain(&again).step, drain(&again).tries, drain(&again).step_since);
    assert_eq!(again, (Step::Deregister, 1, at(10)));
}

#[test]
fn each_other_step_begins_anew() {
    let forced = run(idle(), [(10, Event::Force), (11, vm_deleted(Deletion::Accepted))]);
    assert_eq!(drain(&forced).tries, 1);
    let gone = run(forced, [(40, Event::Tick), (41, vm_deleted(Deletion::Gone))]);
    let gone = drain(&gone);
    assert_eq!((gone.step, gone.tries, gone.step_since), (Step::Deregister, 0, at(41)));
    let settles =
        run(reporting(), [(10, shrinks()), (20, stands_down()), (21, deregistered(Ok(())))]);
    assert_eq!((drain(&settles).step, drain(&settles).step_since), (Step::Settle, at(21)));
    let orphan = adopt(None, Some(there(false)), at(0));
    let alone = run(orphan, [(40, no_vm(40)), (100, no_vm(100))]);
    assert_eq!((drain(&alone).step, drain(&alone).step_since), (Step::Deregister, at(100)));
}

#[test]
fn of_a_vm_that_vanished_two_lists_without_its_registration_leave_nothing() {
    let once = next(vanished(), no_registration(90), 90);
    assert_eq!(once.phase(), Phase::Draining);
    let gone = next(once, no_registration(95), 95);
    assert_eq!((gone.phase(), gone.reason()), (Phase::Deleted, Some(&DrainReason::VmVanished)));
}

#[test]
fn a_registration_that_was_removed_is_there_again_only_in_a_newer_list() {
    let removed =
        run(reporting(), [(10, shrinks()), (20, stands_down()), (21, deregistered(Ok(())))]);
    let shown =
        |second| drain(&next(removed.clone(), of_forge(false, second), 25)).registration_gone;
    assert_eq!((shown(21), shown(22)), (true, false));
}

#[test]
fn a_registration_without_a_vm_waits_for_the_cloud_and_is_no_orphan_where_that_shows_one() {
    let orphan = adopt(None, Some(there(false)), at(0));
    assert_eq!(orphan.reason(), Some(&DrainReason::Orphan));
    for status in [VmStatus::Active, VmStatus::Building] {
        assert_eq!(next(orphan.clone(), of_cloud(status, 20), 20).phase(), Phase::Idle);
    }
}

#[test]
fn where_there_is_no_vm_a_failed_deregistration_is_tried_again_and_nobody_is_asked() {
    let (failed, effects) = step(vanished(), deregistered(Err(no_answer())), 81);
    assert_eq!((drain(&failed).step, drain(&failed).tries, effects), (Step::Deregister, 1, vec![]));
}

/// The forge's word of the end is contradicted by a listing, and looked up. Since second 20.
fn contradicted() -> State {
    let (asked, effects) = step(next(busy(), ends(), 20), of_forge(true, 25), 25);
    assert_eq!(effects, [Effect::LookUp]);
    asked
}

#[test]
fn a_contradicted_end_is_taken_back_by_a_look_up_that_can_know_unless_the_guest_has_ended() {
    let at_work = || found(Some(there(true)), None);
    assert_eq!(next(contradicted(), at_work(), 49).phase(), Phase::Draining, "it may lag");
    assert_eq!(next(contradicted(), at_work(), 50).phase(), Phase::Busy);
    let stopped = next(contradicted(), guest(Report::Stopped(JobEnd::default())), 30);
    assert_eq!(next(stopped, at_work(), 50).phase(), Phase::Draining);
}

#[test]
fn an_answer_that_comes_twice_brings_nobody_back_whose_registration_is_gone() {
    let looked_up = run(
        idle(),
        [
            (10, shrinks()),
            (20, no_registration(20)),
            (50, no_registration(50)),
            (110, no_registration(110)),
            (111, found(Some(there(false)), None)),
            (112, deregistered(Ok(()))),
        ],
    );
    assert_eq!(drain(&looked_up).step, Step::Settle);
    assert_eq!(next(looked_up, found(Some(there(true)), None), 113).phase(), Phase::Draining);
}

#[test]
fn a_guest_that_can_answer_is_asked_however_long_lists_have_shown_it_quiet() {
    let quiet = run(reporting(), (100..2000).step_by(100).map(|now| (now, of_forge(false, now))));
    let (asked, effects) = step(quiet, shrinks(), 2000);
    assert_eq!(effects, [Effect::StandDown]);
    let failed = next(asked, Event::Answered(Answer::StoodDown(Err(no_answer()))), 2001);
    let listed = next(failed, of_forge(false, 2500), 2500);
    assert_eq!(drain(&listed).step, Step::Ask, "for a quarter of an hour");
}

#[test]
fn a_mute_runner_that_no_look_up_tells_of_is_deregistered_when_the_asking_ends() {
    let unlisted = run(
        idle(),
        [
            (10, shrinks()),
            (20, no_registration(20)),
            (50, no_registration(50)),
            (110, no_registration(110)),
            (111, not_looked_up()),
        ],
    );
    assert_eq!(step(unlisted.clone(), Event::Tick, 909).1, [Effect::LookUp]);
    assert_eq!(step(unlisted, Event::Tick, 910).1, [Effect::Deregister]);
}

#[test]
fn the_vm_of_a_job_whose_end_the_forge_does_not_know_is_left_its_last_words() {
    let settles = |events: Vec<(u64, Event)>, second: u64| {
        let state = run(busy(), events);
        drain(&state).due - at(second)
    };
    let (long, short) = (limits().last_words, limits().settle);
    let is = |due: chrono::TimeDelta, wanted: Duration| assert_eq!(due.to_std(), Ok(wanted));
    is(settles(vec![(20, guest_ends())], 20), long);
    is(settles(vec![(20, ends())], 20), short);
    is(settles(vec![(12, guest_begins()), (20, guest_ends()), (22, ends())], 20), short);
}

#[test]
fn a_shrink_whose_registration_shows_again_is_left_no_longer_for_it() {
    let removed = run(
        reporting(),
        [
            (10, shrinks()),
            (20, stands_down()),
            (21, deregistered(Ok(()))),
            (25, of_forge(false, 25)),
        ],
    );
    assert!(!drain(&removed).registration_gone);
    assert_eq!(drain(&removed).due, at(21) + limits().settle);
}

#[test]
fn an_old_doubt_wakes_no_drain_that_waits_for_the_forge() {
    let until = at(5000);
    let limited = PortError::certain(ErrorClass::RateLimited { until }, "slow down");
    let waits = run(
        idle(),
        [
            (10, shrinks()),
            (20, no_registration(20)),
            (50, no_registration(50)),
            (110, no_registration(110)),
            (111, found(Some(there(false)), None)),
            (112, deregistered(Err(limited))),
        ],
    );
    assert!(waits.known().unwrap().doubt.is_some());
    assert_eq!(waits.deadline(&limits()), Some(drain(&waits).due));
}

#[test]
fn a_launch_that_fails_for_good_under_a_look_up_waits_for_no_answer() {
    let events = (40..=100).step_by(20).map(|now| (now, no_registration(now)));
    let asked = run(launched(), events);
    assert!(asked.known().unwrap().in_flight.is_some());
    let failed = Event::Answered(Answer::LaunchFailed(LaunchFailure {
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
    ] {
        assert_eq!(event.words(), words);
    }
}
