//! The life of a runner as a table: every state, every event, what becomes of it.
//!
//! A cell reads: in this state, when that happens, the runner is … and does …. What a fact does later
//! (once listings agree, once a limit has passed) stands in the tests below the table.

use std::time::Duration;

use runner_fleet_actors::{
    event::{DrainReason, Job, JobEnd, Phase, Phase::*},
    name::{RegistrationId, RunnerName, VmId},
    port::{Deletion, ErrorClass, PortError, Registration, Stage, StandDown, Vm, VmStatus},
    runner::{
        Answer, Effect, Effect::*, Event, LaunchFailure, Limits, Observation, Report, Sighting,
        State, Step, adopt,
    },
};

use crate::given::{at, guest, limits};

fn job_begins(number: Option<u64>) -> Event {
    Event::JobStarted { job: Job::default(), registration: number.map(RegistrationId) }
}

fn job_ends(number: Option<u64>) -> Event {
    Event::JobCompleted { end: JobEnd::default(), registration: number.map(RegistrationId) }
}

fn name() -> RunnerName {
    "ci--linux--0123456789ab".parse().unwrap()
}

fn vm(status: VmStatus) -> Vm {
    Vm {
        name: name(),
        id: VmId("vm".into()),
        status,
        created_at: Some(at(0)),
        shape: None,
        scope: None,
        address: None,
        task: None,
    }
}

fn registration(online: bool, busy: bool) -> Registration {
    Registration { name: name(), id: RegistrationId(7), online, busy: Some(busy), cordoned: None }
}

fn seen(vm: Sighting<Vm>, registration: Sighting<Registration>, as_of: u64) -> Event {
    Event::Observed(Observation {
        vm,
        registration,
        vm_as_of: at(as_of),
        registration_as_of: at(as_of),
    })
}

fn shows_vm(status: VmStatus) -> Event {
    seen(Sighting::Seen(vm(status)), Sighting::Unknown, NOW)
}

fn shows_registration(online: bool, busy: bool) -> Event {
    seen(Sighting::Unknown, Sighting::Seen(registration(online, busy)), NOW)
}

fn transient() -> PortError {
    PortError::certain(ErrorClass::Transient, "502")
}

fn refused() -> PortError {
    PortError::certain(ErrorClass::Busy, "422: it runs a job")
}

fn failure(vm_possible: bool) -> Answer {
    Answer::LaunchFailed(LaunchFailure {
        stage: Stage::Cloud,
        error: PortError::certain(ErrorClass::Quota, "no quota"),
        vm_possible,
        registration_possible: true,
        registration: Some(RegistrationId(7)),
    })
}

fn launched() -> Answer {
    Answer::Launched { vm: VmId("vm".into()), registration: RegistrationId(7) }
}

/// The time of the event in every cell: all limits of the states below are yet to come.
const NOW: u64 = 110;

fn step(state: State, event: Event) -> (State, Vec<Effect>) {
    state.next(event, at(NOW), &limits())
}

fn after(mut state: State, events: impl IntoIterator<Item = Event>) -> State {
    for event in events {
        state = state.next(event, at(100), &limits()).0;
    }
    state
}

/// The launch is under way.
fn launching() -> State {
    State::start(at(0), &limits()).0
}

/// The cloud has taken the order.
fn creating() -> State {
    after(launching(), [Event::Answered(launched())])
}

fn registering() -> State {
    let active = seen(Sighting::Seen(vm(VmStatus::Active)), Sighting::Unknown, 90);
    after(creating(), [active])
}

fn idle() -> State {
    let online = seen(Sighting::Unknown, Sighting::Seen(registration(true, false)), 95);
    after(registering(), [online])
}

/// An idle runner whose guest has reported, so that it can be asked.
fn idle_that_reports() -> State {
    after(idle(), [guest(Report::RunnerStarted)])
}

fn busy() -> State {
    after(idle(), [job_begins(Some(7))])
}

/// Draining, and the guest is being asked.
fn asking() -> State {
    after(idle_that_reports(), [Event::Drain(DrainReason::Shrink)])
}

/// Draining, and listings must prove that the guest, which cannot answer, is idle.
fn proving() -> State {
    after(idle(), [Event::Drain(DrainReason::Shrink)])
}

fn deregistering() -> State {
    after(asking(), [stands_down()])
}

fn settling() -> State {
    after(deregistering(), [Event::Answered(Answer::Deregistered(Ok(())))])
}

/// Its job ended, the VM is left a moment.
fn finished() -> State {
    after(busy(), [job_ends(Some(7))])
}

fn deleting() -> State {
    after(settling(), [guest(Report::Stopped(JobEnd::default()))])
}

fn forced() -> State {
    after(idle(), [Event::Force])
}

fn deleted() -> State {
    after(deleting(), [Event::Answered(Answer::VmDeleted(Ok(Deletion::Gone)))])
}

fn stands_down() -> Event {
    Event::Answered(Answer::StoodDown(Ok(StandDown::StandingDown)))
}

fn vm_ended(id: &str) -> Event {
    Event::VmEnded { vm: VmId(id.into()), as_of: at(NOW) }
}

/// Every event that can happen, in the user's words.
fn events() -> Vec<(&'static str, Event)> {
    let absent = || seen(Sighting::Absent, Sighting::Absent, NOW);
    let end = JobEnd::default;
    let failed = VmStatus::Error { class: ErrorClass::NoCapacity, fault: "no host".into() };
    vec![
        ("tick", Event::Tick),
        ("cloud: building", shows_vm(VmStatus::Building)),
        ("cloud: active", shows_vm(VmStatus::Active)),
        ("cloud: off", shows_vm(VmStatus::Stopped)),
        ("cloud: error", shows_vm(failed)),
        ("forge: offline", shows_registration(false, false)),
        ("forge: online", shows_registration(true, false)),
        ("forge: busy", shows_registration(true, true)),
        ("missing once", absent()),
        ("launched", Event::Answered(launched())),
        ("no VM", Event::Answered(failure(false))),
        ("maybe a VM", Event::Answered(failure(true))),
        ("stands down", stands_down()),
        ("says busy", Event::Answered(Answer::StoodDown(Ok(StandDown::Busy)))),
        ("no answer", Event::Answered(Answer::StoodDown(Err(transient())))),
        ("deregistered", Event::Answered(Answer::Deregistered(Ok(())))),
        ("422", Event::Answered(Answer::Deregistered(Err(refused())))),
        ("502", Event::Answered(Answer::Deregistered(Err(transient())))),
        ("delete taken", Event::Answered(Answer::VmDeleted(Ok(Deletion::Accepted)))),
        ("VM gone", Event::Answered(Answer::VmDeleted(Ok(Deletion::Gone)))),
        ("delete fails", Event::Answered(Answer::VmDeleted(Err(transient())))),
        ("booted", guest(Report::Booted)),
        ("listens", guest(Report::RunnerStarted)),
        ("guest: job begins", guest(Report::JobStarted(Job::default()))),
        ("guest: job ends", guest(Report::JobCompleted(end()))),
        ("guest: stopped", guest(Report::Stopped(end()))),
        ("guest: version", guest(Report::Version("2.330.0".into()))),
        ("forge: job begins", job_begins(Some(7))),
        ("forge: job ends", job_ends(Some(7))),
        ("somebody's job begins", job_begins(Some(999_999))),
        ("somebody's job ends", job_ends(Some(999_999))),
        ("hearsay: job begins", job_begins(None)),
        ("hearsay: job ends", job_ends(None)),
        ("cloud: VM deleted", vm_ended("vm")),
        ("another VM deleted", vm_ended("another")),
        ("drain", Event::Drain(DrainReason::Operator)),
        ("force", Event::Force),
    ]
}

fn states() -> Vec<(&'static str, State)> {
    vec![
        ("launching", launching()),
        ("creating", creating()),
        ("registering", registering()),
        ("idle", idle()),
        ("idle, reports", idle_that_reports()),
        ("busy", busy()),
        ("asking", asking()),
        ("proving", proving()),
        ("deregistering", deregistering()),
        ("settling", settling()),
        ("finished", finished()),
        ("deleting", deleting()),
        ("forced", forced()),
        ("deleted", deleted()),
    ]
}

/// A cell in short: the state, the step and reason where draining, and the effects.
fn short(next: &(State, Vec<Effect>)) -> String {
    let (state, effects) = next;
    let mut text = match state {
        State::Draining { drain, .. } => {
            let killed = if drain.job_killed { " (kills the job)" } else { "" };
            format!("{} {}{killed}", drain.step.as_str(), drain.reason.as_str())
        }
        other => other.phase().to_string(),
    };
    for effect in effects {
        text += &format!(" → {effect:?}");
    }
    text
}

/// Every cell: `what becomes of it <= the events that do that`. Where a cell is not what it seems:
/// answers to nothing that was asked are stray and change little; a wish to drain a launch in flight
/// is remembered; a guest that is being asked is waited for, whatever else is seen.
const TABLE: &str = include_str!("lifecycle/table.txt");

#[test]
fn every_event_has_its_meaning_in_every_state() {
    let states = states();
    let events = events();
    let mut told = std::collections::BTreeSet::new();
    let (mut state, mut cell, mut wrong) = ("", "", Vec::new());
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        if let Some(word) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            state = word;
        } else if let Some(outcome) = line.strip_suffix(" <=") {
            cell = outcome;
        } else {
            for event in line.split(';').map(str::trim).filter(|event| !event.is_empty()) {
                let before = states.iter().find(|(word, _)| *word == state).unwrap().1.clone();
                let what = events.iter().find(|(word, _)| *word == event).unwrap().1.clone();
                let became = short(&step(before, what));
                if became != cell {
                    wrong.push(format!("[{state}], {event}: {became}, not {cell}"));
                }
                assert!(told.insert((state, event)), "[{state}], {event} stands twice");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(told.len(), states.len() * events.len(), "cells are missing");
}

/// Lets listings of both sides come every ten seconds from `from` to `to`.
fn listings(
    state: State,
    (from, to): (u64, u64),
    listed: impl Fn(u64) -> Event,
) -> (State, Vec<Effect>) {
    let mut next = (state, Vec::new());
    for second in (from..=to).step_by(10) {
        let (state, effects) = next.0.next(listed(second), at(second), &limits());
        next.1.extend(effects);
        next.0 = state;
    }
    next
}

fn both(busy: bool, second: u64) -> Event {
    let vm = Sighting::Seen(vm(VmStatus::Active));
    seen(vm, Sighting::Seen(registration(true, busy)), second)
}

#[test]
fn a_runner_that_cannot_answer_is_cordoned_once_listings_have_shown_it_idle_for_a_minute() {
    let (state, effects) = listings(proving(), (100, 150), |at| both(false, at));
    assert_eq!((state.phase(), effects), (Draining, vec![]), "55 seconds are no proof");
    let (state, effects) = listings(state, (160, 160), |at| both(false, at));
    assert_eq!((state.phase(), effects), (Draining, vec![Cordon]));
}

#[test]
fn one_busy_word_in_a_listing_calls_the_drain_off() {
    let (state, effects) = listings(proving(), (100, 140), |at| both(at == 130, at));
    assert_eq!((state.phase(), effects), (Busy, vec![]));
}

#[test]
fn a_runner_whose_pool_reports_is_asked_even_if_this_process_has_never_heard_of_it() {
    let limits = Limits { guests_report: true, ..limits() };
    let adopted = adopt(Some(vm(VmStatus::Active)), Some(registration(true, false)), at(NOW));
    let (state, effects) = adopted.next(Event::Drain(DrainReason::Shrink), at(NOW), &limits);
    assert_eq!((state.phase(), effects), (Draining, vec![StandDown]));
}

#[test]
fn a_vm_missing_for_a_minute_is_gone_and_one_missing_once_is_not() {
    let absent = |second| seen(Sighting::Absent, Sighting::Unknown, second);
    let (state, _) = listings(idle(), (150, 150), absent);
    assert_eq!(state.phase(), Idle);
    let (state, _) = listings(state, (160, 200), |at| both(false, at));
    let (state, _) = listings(state, (210, 260), absent);
    assert_eq!(state.phase(), Idle, "50 seconds in a row are no proof");
    let (state, effects) = listings(state, (270, 270), absent);
    assert_eq!(state.reason(), Some(&DrainReason::VmVanished));
    assert_eq!(effects, [Deregister]);
    assert!(!state.holds_vm(), "its place is free");
}

#[test]
fn an_old_listing_that_comes_late_is_no_news() {
    let (state, _) = listings(idle(), (200, 200), |at| both(false, at));
    let absent = |second| seen(Sighting::Absent, Sighting::Absent, second);
    let (state, _) = state.next(absent(130), at(201), &limits());
    let (state, _) = state.next(absent(210), at(211), &limits());
    assert_eq!(state.phase(), Idle, "only one newer listing lacks it");
}

#[test]
fn each_state_ends_at_its_limit() {
    for (state, phase) in [(launching(), Creating), (registering(), Registering), (idle(), Idle)] {
        let due = state.deadline(&limits()).unwrap();
        let late = due + Duration::from_secs(60);
        let (state, _) = match phase {
            // The shell gives the launch up; the VM may exist, so the limit of the state decides.
            Creating => state.next(Event::Answered(failure(true)), due, &limits()),
            _ => (state, vec![]),
        };
        let (state, _) = state.next(Event::Tick, late, &limits());
        assert_eq!(state.reason(), Some(&DrainReason::Overdue { phase }));
    }
    let (state, effects) = busy().next(Event::Tick, at(122 * 3600), &limits());
    assert_eq!(state.reason(), Some(&DrainReason::JobOverdue));
    assert_eq!(effects, [DeleteVm]);
}

#[test]
fn a_drain_wished_for_during_the_launch_begins_when_the_launch_is_over() {
    let wished = after(launching(), [Event::Drain(DrainReason::Operator)]);
    let (state, _) = wished.clone().next(Event::Answered(launched()), at(NOW), &limits());
    assert_eq!(state.reason(), Some(&DrainReason::Operator));
    let (state, _) = wished.next(guest(Report::Booted), at(NOW), &limits());
    assert_eq!(state.reason(), Some(&DrainReason::Operator), "the boot does not make it forget");
}

#[test]
fn force_during_a_launch_outlasts_a_milder_wish() {
    let wished = after(launching(), [Event::Force, Event::Drain(DrainReason::Shrink)]);
    let (state, effects) = wished.next(Event::Answered(launched()), at(NOW), &limits());
    assert_eq!((state.reason(), effects), (Some(&DrainReason::Forced), vec![DeleteVm]));
}

#[test]
fn a_vm_that_turns_up_after_its_launch_failed_is_drained_with_care() {
    let (state, _) = step(launching(), Event::Answered(failure(false)));
    assert!(!state.holds_vm());
    let shown = seen(Sighting::Seen(vm(VmStatus::Active)), Sighting::Unknown, 400);
    let (state, _) = state.next(shown, at(401), &limits());
    assert!(state.holds_vm(), "it counts toward max again");
    let begun = guest(Report::JobStarted(Job::default()));
    let (state, _) = state.next(begun, at(402), &limits());
    assert_eq!(state.phase(), Busy);
}

#[test]
fn a_deregistration_that_fails_after_the_job_ended_does_not_ask_the_dead_guest() {
    let ended = after(deregistering(), [guest(Report::JobCompleted(JobEnd::default()))]);
    let (state, effects) = step(ended, Event::Answered(Answer::Deregistered(Err(transient()))));
    let State::Draining { drain, .. } = &state else { panic!("{state:?}") };
    assert_eq!((drain.step, effects), (Step::Settle, vec![]));
}

#[test]
fn a_guest_that_stands_down_is_not_woken_by_a_job_that_it_never_took() {
    let (state, effects) = step(deregistering(), shows_registration(true, true));
    assert_eq!((state.phase(), effects), (Draining, vec![]));
    let (state, effects) = step(deregistering(), job_begins(Some(7)));
    assert_eq!((state.phase(), effects), (Draining, vec![]), "its deregistration is on its way");
    let refused = Err(PortError::certain(ErrorClass::Busy, "422: it runs a job"));
    let (state, effects) = step(state, Event::Answered(Answer::Deregistered(refused)));
    assert_eq!((state.phase(), effects), (Busy, vec![Effect::GoOn]), "and the answer decides");
    let (state, _) = step(deregistering(), guest(Report::JobStarted(Job::default())));
    assert_eq!(state.phase(), Busy, "its guest must know");
}

#[test]
fn a_finished_runners_registration_is_given_time_to_vanish_by_itself() {
    let off = after(finished(), [guest(Report::Stopped(JobEnd::default()))]);
    let (state, effects) = step(off, Event::Answered(Answer::VmDeleted(Ok(Deletion::Gone))));
    assert_eq!((state.phase(), effects), (Draining, vec![]), "no call yet");
    assert!(!state.holds_vm(), "but its place is free");
    let absent = |second| seen(Sighting::Absent, Sighting::Absent, second);
    let (state, effects) = listings(state, (140, 150), absent);
    assert_eq!((state.phase(), effects), (Phase::Deleted, vec![]), "and none was needed");
}

#[test]
fn what_is_found_after_a_restart_becomes_the_state_that_loses_nothing() {
    let of = |vm: Option<VmStatus>, registration: Option<Registration>| {
        adopt(vm.map(self::vm), registration, at(NOW)).phase()
    };
    let registered = |online, busy| Some(registration(online, busy));
    assert_eq!(of(Some(VmStatus::Building), registered(false, false)), Creating);
    assert_eq!(of(Some(VmStatus::Active), None), Registering);
    assert_eq!(of(Some(VmStatus::Active), registered(false, false)), Registering);
    assert_eq!(of(Some(VmStatus::Active), registered(true, false)), Idle);
    assert_eq!(of(Some(VmStatus::Active), registered(true, true)), Busy);
    assert_eq!(of(Some(VmStatus::Stopped), registered(true, true)), Draining);
    assert_eq!(of(Some(VmStatus::Deleting), None), Draining);
    assert_eq!(of(None, registered(true, true)), Draining);
    assert_eq!(of(None, None), Draining);
}

#[test]
fn a_guest_that_has_answered_is_not_taken_for_silent() {
    let until = at(2000);
    let limited = PortError::certain(ErrorClass::RateLimited { until }, "rate limited");
    let (state, _) = step(deregistering(), Event::Answered(Answer::Deregistered(Err(limited))));
    let (state, effects) = listings(state, (120, 1100), |at| both(false, at));
    assert_eq!(
        (state.phase(), effects),
        (Idle, vec![GoOn]),
        "its word to stand down has lapsed, so the drain is given up rather than forced through"
    );
}

#[test]
fn a_vm_in_error_that_may_have_run_is_not_deleted_at_once() {
    let failed = |class| shows_vm(VmStatus::Error { class, fault: "fault".into() });
    let (state, effects) = step(creating(), failed(ErrorClass::Transient));
    let reason = DrainReason::LaunchFailed { class: ErrorClass::Transient };
    assert_eq!((state.reason(), effects), (Some(&reason), vec![]), "it is proven quiet first");
    let (_, effects) = step(creating(), failed(ErrorClass::NoCapacity));
    assert_eq!(effects, [DeleteVm], "no host ever took it");
}
