//! What a runner's facts and limits decide to the second, and which facts it keeps.

use std::time::Duration;

use runner_fleet_actors::{
    event::{DrainReason, GuestTimes, Job, JobEnd, Phase},
    name::{RegistrationId, RunnerName, VmId},
    port::{ErrorClass, PortError, Registration, Stage, Vm, VmStatus},
    runner::{
        Answer, Effect, Event, Hearsay, LaunchFailure, Limits, Report, Sighting, State, Step, adopt,
    },
};

use crate::given::{at, found, guest, launched, limits, next, nowhere, seen};

fn name() -> RunnerName {
    "ci--linux--0123456789ab".parse().unwrap()
}

fn active() -> Vm {
    Vm {
        name: name(),
        id: VmId("vm".into()),
        status: VmStatus::Active,
        created_at: None,
        shape: None,
        scope: None,
        address: None,
        task: None,
    }
}

fn registration(number: u64, busy: bool) -> Registration {
    Registration {
        name: name(),
        id: RegistrationId(number),
        online: true,
        busy: Some(busy),
        cordoned: None,
    }
}

fn lacks(second: u64) -> Event {
    seen(Sighting::Seen(active()), Sighting::Absent, second)
}

fn shows(busy: bool, second: u64) -> Event {
    seen(Sighting::Seen(active()), Sighting::Seen(registration(7, busy)), second)
}

fn begins(registration: Option<u64>) -> Event {
    let job = Job { id: Some(1), ..Job::default() };
    Event::JobStarted { job, registration: registration.map(RegistrationId) }
}

fn ends(registration: Option<u64>) -> Event {
    let end = JobEnd { conclusion: Some("success".into()), exit_code: None };
    Event::JobCompleted { end, registration: registration.map(RegistrationId) }
}

fn working() -> Event {
    found(Some(registration(7, true)), None)
}

/// Adopted at second 0, without a job.
fn idle() -> State {
    adopt(Some(active()), Some(registration(7, false)), at(0))
}

/// Since second 10.
fn busy() -> State {
    next(idle(), begins(Some(7)), 10)
}

/// Asked for at second 80.
fn doubted(state: State) -> State {
    next(next(state, lacks(20), 20), lacks(80), 80)
}

fn drain_of(state: &State) -> &runner_fleet_actors::runner::Drain {
    match state {
        State::Draining { drain, .. } => drain,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_state_has_its_own_limit_to_the_second() {
    let limits = limits();
    let creating = next(State::start(at(0), &limits).0, launched(), 5);
    let registering = next(creating.clone(), guest(Report::Booted), 30);
    let table = [
        (creating, at(0) + limits.launch),
        (registering, at(30) + limits.register),
        (idle(), at(0) + limits.idle),
        (busy(), at(10) + limits.busy),
    ];
    for (state, due) in table {
        assert_eq!(state.deadline(&limits), Some(due), "{}", state.phase());
        let early = due - Duration::from_secs(1);
        assert_eq!(state.clone().next(Event::Tick, early, &limits).0, state);
        let late = state.clone().next(Event::Tick, due, &limits).0;
        assert_eq!(late.phase(), Phase::Draining, "{}", state.phase());
    }
}

#[test]
fn a_look_up_is_due_when_the_last_one_settled_nothing_and_waits_for_its_answer() {
    let asked = doubted(busy());
    let (given_up, limits) = (at(80) + limits().effect + Duration::from_secs(5), limits());
    assert_eq!(asked.deadline(&limits), Some(given_up));
    let again = next(asked, working(), 81);
    let due = again.known().unwrap().doubt.unwrap().not_before;
    assert!(due > at(100) && due < at(120), "{due}");
    assert_eq!(again.deadline(&limits), Some(due));
    assert_eq!(again.clone().next(Event::Tick, due, &limits).1, [Effect::LookUp]);
    let shown = next(again, shows(true, 90), 90);
    assert_eq!(shown.deadline(&limits), Some(at(10) + limits.busy));
}

#[test]
fn runners_that_are_doubted_together_are_not_asked_for_together() {
    let due = |number| {
        let state = adopt(Some(active()), Some(registration(number, false)), at(0));
        let asked = doubted(state);
        asked.known().unwrap().doubt.unwrap().not_before
    };
    assert_ne!(due(7), due(8));
    assert_ne!(due(0), due(7));
    assert_ne!(due(1), due(7));
}

#[test]
fn an_answer_that_comes_after_a_listing_has_shown_it_ends_nothing() {
    let gone = || found(None, None);
    for state in [idle(), busy()] {
        let phase = state.phase();
        let shown = next(doubted(state), shows(phase == Phase::Busy, 85), 85);
        assert_eq!(next(shown, gone(), 86).phase(), phase);
    }
}

#[test]
fn answers_that_settle_nothing_are_answers_all_the_same() {
    let there = || found(Some(registration(7, false)), None);
    let (mut waiting, mut lost) = (idle(), busy());
    for second in (20..4000).step_by(10) {
        for (state, listed, answer) in
            [(&mut waiting, lacks(second), there()), (&mut lost, nowhere(second), working())]
        {
            for event in [Event::Tick, listed] {
                let (after, effects) = state.clone().next(event, at(second), &limits());
                *state = after;
                if effects.contains(&Effect::LookUp) {
                    *state = next(state.clone(), answer.clone(), second);
                }
            }
        }
    }
    assert_eq!((waiting.phase(), lost.phase()), (Phase::Idle, Phase::Busy));
}

#[test]
fn who_has_no_number_yet_is_meant_by_no_word_for_certain() {
    let launching = State::start(at(0), &limits()).0;
    for number in [None, Some(7)] {
        let busy = next(launching.clone(), begins(number), 10);
        let number = number.map(RegistrationId);
        assert_eq!(busy.known().unwrap().hearsay, Some(Hearsay { number }));
    }
    assert_eq!(busy().known().unwrap().hearsay, None);
}

#[test]
fn a_word_that_came_before_its_number_was_known_is_ours_once_the_number_is() {
    let hearsay = |state: &State| state.known().unwrap().hearsay.is_some();
    let launching = State::start(at(0), &limits()).0;
    let failed = Event::Answered(Answer::LaunchFailed(LaunchFailure {
        stage: Stage::Cloud,
        error: PortError::doubtful(ErrorClass::Transient, "no answer"),
        vm_possible: true,
        registration_possible: true,
        registration: Some(RegistrationId(7)),
    }));
    for learns in [launched(), failed, shows(false, 20)] {
        for words in [vec![begins(Some(7))], vec![begins(None), begins(Some(7))]] {
            let said =
                words.into_iter().fold(launching.clone(), |state, word| next(state, word, 10));
            assert!(hearsay(&said));
            let known = next(said, learns.clone(), 20);
            assert_eq!((known.phase(), hearsay(&known)), (Phase::Busy, false), "{learns:?}");
        }
        for number in [None, Some(8)] {
            let known = next(next(launching.clone(), begins(number), 10), learns.clone(), 20);
            assert!(hearsay(&known), "{number:?}");
        }
    }
}

#[test]
fn a_listing_that_first_shows_the_number_bears_the_word_out_before_it_speaks_against_it() {
    let mut state = next(State::start(at(0), &limits()).0, begins(Some(7)), 10);
    for second in (20..1000).step_by(10) {
        let lacks = seen(Sighting::Unknown, Sighting::Absent, second);
        state = next(next(state, Event::Tick, second), lacks, second);
    }
    assert_eq!(next(state, shows(false, 1000), 1000).phase(), Phase::Busy);
}

#[test]
fn a_contested_word_is_dropped_once_an_answer_cannot_be_older_than_it() {
    let told = next(busy(), guest(Report::JobStarted(Job::default())), 15);
    let contested = next(told, ends(Some(7)), 20);
    for (second, dropped) in [(49, false), (50, true)] {
        let answered = next(contested.clone(), working(), second);
        assert_eq!(answered.known().unwrap().contested.is_none(), dropped, "at {second}");
    }
}

#[test]
fn an_end_that_was_looked_up_says_who_knows_of_it() {
    let ended = |state: State, answer| next(state, answer, 81);
    let unknown = ended(doubted(busy()), found(None, None));
    let told = ended(doubted(busy()), found(None, Some(false)));
    let contested = ended(next(busy(), ends(None), 20), found(None, None));
    assert!(!drain_of(&unknown).forge_knows && drain_of(&unknown).registration_gone);
    assert!(drain_of(&told).forge_knows);
    assert!(drain_of(&contested).forge_knows);
    let end = drain_of(&contested).job_end.clone().unwrap();
    assert_eq!(end.conclusion.as_deref(), Some("success"));
    assert_eq!(unknown.job().and_then(|job| job.id), Some(1), "and whose end it is");
    assert_eq!(busy().job().and_then(|job| job.id), Some(1));
}

#[test]
fn a_guest_that_has_only_booted_was_never_online() {
    let creating = next(State::start(at(0), &limits()).0, launched(), 5);
    let booted = next(creating.clone(), guest(Report::Booted), 30);
    assert!(!booted.known().unwrap().was_online);
    let listens = next(creating, guest(Report::RunnerStarted), 30);
    assert!(listens.known().unwrap().was_online);
}

#[test]
fn a_guest_that_says_once_more_that_it_listens_is_no_younger_for_it() {
    let again = next(idle(), guest(Report::RunnerStarted), 500);
    assert_eq!((again.phase(), again.since()), (Phase::Idle, at(0)));
}

#[test]
fn a_last_word_without_an_exit_code_of_failure_is_a_jobs_end_unless_the_guest_has_counted_none() {
    let stopped = |times| Event::Guest(Report::Stopped(JobEnd::default()), times);
    let counted = |job_started| GuestTimes {
        booted: Some(Duration::from_secs(1)),
        job_started,
        ..GuestTimes::default()
    };
    let ends_a_job = |times| drain_of(&next(idle(), stopped(times), 60)).job_end.is_some();
    assert!(ends_a_job(GuestTimes::default()), "it never counts");
    assert!(ends_a_job(counted(Some(Duration::from_secs(9)))));
    assert!(!ends_a_job(counted(None)));
}

#[test]
fn a_vm_that_is_being_made_is_not_finished_because_neither_side_lists_it_twice() {
    let mut state = next(State::start(at(0), &limits()).0, launched(), 5);
    for second in [40, 50, 60] {
        state = next(state, nowhere(second), second);
    }
    assert_eq!(state.phase(), Phase::Creating);
}

#[test]
fn only_an_idle_runner_is_given_up_for_being_offline() {
    let offline = |second| {
        let registration = Registration { online: false, ..registration(7, false) };
        seen(Sighting::Seen(active()), Sighting::Seen(registration), second)
    };
    let run = |mut state: State, until: u64| {
        for second in (100..=until).step_by(100) {
            state = next(state, offline(second), second);
        }
        state
    };
    let overdue = DrainReason::Overdue { phase: Phase::Registering };
    assert_eq!(run(idle(), 900).phase(), Phase::Idle);
    assert_eq!(run(idle(), 1000).reason(), Some(&overdue));
    let registering = next(State::start(at(0), &limits()).0, launched(), 5);
    let registering = next(registering, guest(Report::Booted), 95);
    assert_eq!(run(registering, 1000).phase(), Phase::Registering, "its own limit does");
}

#[test]
fn a_drain_wished_for_during_the_launch_asks_first() {
    let wished = next(State::start(at(0), &limits()).0, Event::Drain(DrainReason::Operator), 1);
    let (state, effects) = wished.next(launched(), at(5), &limits());
    assert_eq!((drain_of(&state).step, effects), (Step::Ask, vec![]));
}

#[test]
fn when_nothing_is_left_of_a_runner_no_answer_is_waited_for() {
    let mut state = busy();
    let mut now = 20;
    while state.phase() == Phase::Busy && now < 2000 {
        state = next(state, nowhere(now), now);
        now += 10;
    }
    assert_eq!(state.phase(), Phase::Draining);
    assert!(state.known().unwrap().in_flight.is_some(), "its look-up was never answered");
    assert!(state.deadline(&limits()) <= Some(at(now)));
}

#[test]
fn a_mute_runner_that_lists_lack_is_looked_up_before_it_is_cordoned() {
    let asked = next(idle(), Event::Drain(DrainReason::Shrink), 10);
    let mut state = asked;
    for second in [20, 30, 50] {
        let (after, effects) = state.next(lacks(second), at(second), &limits());
        assert_eq!(effects, [], "at {second}");
        state = after;
    }
    let (looked, effects) = state.next(lacks(90), at(90), &limits());
    assert_eq!(effects, [Effect::LookUp]);
    let there = found(Some(registration(7, false)), None);
    assert_eq!(looked.clone().next(there, at(91), &limits()).1, [Effect::Cordon]);
    assert_eq!(next(looked.clone(), working(), 91).phase(), Phase::Busy);
    let gone = next(looked, found(None, None), 91);
    assert_eq!(drain_of(&gone).step, Step::Settle, "there is nothing to remove");
}

#[test]
fn a_deletion_that_was_taken_on_is_over_when_two_listings_lack_the_vm() {
    use runner_fleet_actors::port::Deletion;
    let forced = next(idle(), Event::Force, 10);
    let taken = next(forced, Event::Answered(Answer::VmDeleted(Ok(Deletion::Accepted))), 11);
    let missing = |second| seen(Sighting::Absent, Sighting::Unknown, second);
    let once = next(taken, missing(20), 20);
    assert!(once.holds_vm(), "one listing may lack an entry");
    assert!(!next(once, missing(25), 25).holds_vm());
}

#[test]
fn a_vm_believed_lost_is_not_when_its_guest_begins_a_job() {
    let missing = |second| seen(Sighting::Absent, Sighting::Unknown, second);
    let vanished = next(next(idle(), missing(20), 20), missing(80), 80);
    assert_eq!(vanished.reason(), Some(&DrainReason::VmVanished));
    let job = || guest(Report::JobStarted(Job::default()));
    assert_eq!(next(vanished.clone(), job(), 85).phase(), Phase::Busy);
    let forced = next(vanished, Event::Force, 84);
    assert_eq!(next(forced, job(), 85).phase(), Phase::Draining, "whatever it does");
}

#[test]
fn a_drain_that_learns_nothing_is_given_up_after_a_quarter_of_an_hour() {
    let asked = next(idle(), Event::Drain(DrainReason::Shrink), 10);
    let due = at(10) + limits().ask;
    assert_eq!(asked.deadline(&limits()), Some(due));
    let early = asked.clone().next(Event::Tick, due - Duration::from_secs(1), &limits()).0;
    assert_eq!(early.phase(), Phase::Draining);
    assert_eq!(asked.next(Event::Tick, due, &limits()).0.phase(), Phase::Idle);
}

#[test]
fn a_jobs_own_limit_does_not_wait_for_an_answer() {
    let short = Limits { busy: Duration::from_secs(100), ..limits() };
    let asked = doubted(busy());
    assert!(asked.known().unwrap().in_flight.is_some());
    assert_eq!(asked.deadline(&short), Some(at(10 + 100)));
}

#[test]
fn a_look_up_that_finds_a_runner_online_shows_that_it_came() {
    let registering =
        next(next(State::start(at(0), &limits()).0, launched(), 5), guest(Report::Booted), 10);
    let offline = || Registration { online: false, ..registration(7, false) };
    let online = |registration| {
        next(registering.clone(), found(Some(registration), None), 20).known().unwrap().was_online
    };
    assert!(online(registration(7, false)) && !online(offline()));
    let idle = next(idle(), found(Some(offline()), None), 20);
    assert!(idle.known().unwrap().was_online, "it was");
}

#[test]
fn a_launch_that_left_no_vm_failed_with_what_the_cloud_said_last() {
    let failed = |class, vm_error: Option<ErrorClass>| {
        let mut state = State::start(at(0), &limits()).0;
        if let Some(class) = vm_error {
            let status = VmStatus::Error { class, fault: "fault".into() };
            let failed = Vm { status, ..active() };
            state = next(state, seen(Sighting::Seen(failed), Sighting::Unknown, 10), 10);
        }
        let answer = match class {
            Some(class) => Event::Answered(Answer::LaunchFailed(LaunchFailure {
                stage: Stage::Cloud,
                error: PortError::doubtful(class, "no answer"),
                vm_possible: true,
                registration_possible: true,
                registration: None,
            })),
            None => launched(),
        };
        let missing = |second| seen(Sighting::Absent, Sighting::Unknown, second);
        let gone = next(next(next(state, answer, 20), missing(60), 60), missing(120), 120);
        gone.reason().cloned()
    };
    let of = |class| Some(DrainReason::LaunchFailed { class });
    assert_eq!(failed(Some(ErrorClass::Transient), Some(ErrorClass::Quota)), of(ErrorClass::Quota));
    assert_eq!(failed(Some(ErrorClass::Auth), None), of(ErrorClass::Auth));
    assert_eq!(failed(None, None), of(ErrorClass::Transient));
}

#[test]
fn what_the_forge_first_shows_of_a_runner_that_was_found_was_so_before() {
    let shown = || seen(Sighting::Unknown, Sighting::Seen(registration(7, true)), 20);
    let by_cloud = || adopt(Some(active()), None, at(10));
    assert!(by_cloud().is_found_by(&shown()));
    assert!(!by_cloud().is_found_by(&seen(Sighting::Seen(active()), Sighting::Absent, 20)));
    assert!(!by_cloud().is_found_by(&guest(Report::RunnerStarted)), "that is told now");
    let lacked = next(by_cloud(), seen(Sighting::Unknown, Sighting::Absent, 15), 15);
    assert!(!lacked.is_found_by(&shown()), "the forge was heard of it");
    let by_both = adopt(Some(active()), Some(registration(7, false)), at(10));
    assert!(!by_both.is_found_by(&shown()));
    let made = next(State::start(at(0), &limits()).0, launched(), 5);
    assert!(!made.is_found_by(&shown()), "it began under this process's eyes");
}
