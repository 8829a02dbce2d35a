//! Runners that nobody can ask: cordoned, watched, and put back.

use std::time::Duration;

use runner_fleet_actors::{
    event::{DrainReason, Phase},
    pool::{Habit, Habits, LONGEST},
    port::{ErrorClass, PortError, Registration, VmStatus},
    runner::{Effect, Event, Limits, Sighting, State, Step, adopt, revive},
};

use crate::lives::{
    at, begins, cordoned, deregistered, drain, idle, limits, next, of_forge, run, seen, shrinks,
    step, there, uncordoned, vm,
};

fn refused() -> PortError {
    PortError::certain(ErrorClass::Invalid, "GitHub says 404")
}

fn lost() -> PortError {
    PortError::doubtful(ErrorClass::Transient, "no answer")
}

/// Quiet from second 20 on, and its drain begun at 100.
fn asked() -> State {
    let quiet = [20, 50, 90].map(|second| (second, of_forge(false, second)));
    run(idle(), quiet.into_iter().chain([(100, shrinks())]))
}

/// Cordoned at 111.
fn behind_its_cordon() -> State {
    let (asked, effects) = step(asked(), of_forge(false, 110), 110);
    assert_eq!((effects, drain(&asked).step), (vec![Effect::Cordon], Step::Cordon));
    next(asked, cordoned(Ok(())), 111)
}

/// Whether it shows that it is to get no jobs.
fn shows(on: bool, second: u64) -> Event {
    let registration = Registration { cordoned: Some(on), ..there(false) };
    seen(Sighting::Unknown, Sighting::Seen(registration), second)
}

#[test]
fn it_is_watched_behind_its_cordon_for_as_long_as_the_flag_may_be_late() {
    let watched =
        run(behind_its_cordon(), [130, 160, 190].map(|second| (second, of_forge(false, second))));
    assert_eq!(drain(&watched).step, Step::Cordon);
    assert_eq!(step(watched.clone(), of_forge(false, 201), 201).1, [], "90 s are not over");
    let (goes, effects) = step(watched, of_forge(false, 202), 202);
    assert_eq!((effects, drain(&goes).step), (vec![Effect::Deregister], Step::Deregister));
}

#[test]
fn a_job_that_shows_behind_the_cordon_calls_the_drain_off_and_gets_it_taken_off() {
    let (busy, effects) = step(behind_its_cordon(), of_forge(true, 150), 150);
    assert_eq!((busy.phase(), effects), (Phase::Busy, vec![Effect::Uncordon]));
    assert!(!busy.known().unwrap().cordon.leaked, "it was given before, as far as anybody knows");
    let free = next(busy, uncordoned(Ok(())), 151);
    assert!(!free.known().unwrap().cordon.up);
}

#[test]
fn a_cordon_under_way_is_taken_off_once_it_was_answered() {
    let (asked, _) = step(asked(), of_forge(false, 110), 110);
    let (busy, effects) = step(asked, begins(Some(7)), 111);
    assert_eq!((busy.phase(), effects), (Phase::Busy, vec![]), "one effect at a time");
    assert_eq!(step(busy.clone(), cordoned(Ok(())), 112).1, [Effect::Uncordon]);
    assert_eq!(
        step(busy.clone(), cordoned(Err(lost())), 112).1,
        [Effect::Uncordon],
        "it may be there"
    );
    assert_eq!(step(busy, cordoned(Err(refused())), 112).1, [], "it is not");
}

#[test]
fn a_job_that_can_only_have_come_behind_the_cordon_is_minded() {
    let watched = next(behind_its_cordon(), of_forge(false, 190), 190);
    let leaks = |event, second| {
        let state = next(watched.clone(), event, second);
        Habit::between(&watched, &state).leaked
    };
    assert!(!leaks(of_forge(true, 201), 202), "its flag may be as old as the cordon");
    assert!(leaks(of_forge(true, 202), 203));
    assert!(
        leaks(begins(Some(7)), 202) && !leaks(begins(Some(8)), 202),
        "another runner's is none"
    );
    let goes = next(watched.clone(), of_forge(false, 202), 202);
    let busy = PortError::certain(ErrorClass::Busy, "GitHub says 422");
    let state = next(goes.clone(), deregistered(Err(busy)), 203);
    assert!(Habit::between(&goes, &state).leaked);
    assert_eq!(state.phase(), Phase::Busy);
}

#[test]
fn what_has_no_cordon_goes_once_it_was_idle_for_longer_than_any_lag() {
    let (asked, _) = step(asked(), of_forge(false, 110), 110);
    let (alone, effects) = step(asked, cordoned(Err(refused())), 111);
    assert_eq!(effects, [], "what is not there is not asked for again");
    let later = next(alone, of_forge(false, 400), 400);
    assert_eq!(step(later.clone(), of_forge(false, 599), 599).1, [], "ten minutes");
    assert_eq!(step(later, of_forge(false, 600), 600).1, [Effect::Deregister]);
}

#[test]
fn a_scope_in_which_jobs_come_past_cordons_has_none() {
    let mut habits = Habits::default();
    habits.learn(Habit { leaked: true, ..Habit::default() }, at(50));
    let limits = habits.within(&limits());
    let quiet = [20, 110, 400].map(|second| (second, of_forge(false, second)));
    let alone = run(idle(), quiet);
    let (asked, effects) = alone.next(shrinks(), at(410), &limits);
    assert_eq!(effects, []);
    assert_eq!(asked.clone().next(of_forge(false, 500), at(500), &limits).1, []);
    assert_eq!(asked.next(of_forge(false, 620), at(620), &limits).1, [Effect::Deregister]);
}

#[test]
fn a_cordon_whose_answer_is_lost_is_asked_for_a_few_times() {
    let (mut state, mut effects) = step(asked(), of_forge(false, 110), 110);
    let mut asked = 0;
    for second in (111..600).step_by(10) {
        asked += usize::from(effects.contains(&Effect::Cordon));
        let answered = state.known().unwrap().in_flight.is_none();
        let event = if answered { Event::Tick } else { cordoned(Err(lost())) };
        (state, effects) = step(state, event, second);
    }
    assert_eq!(asked, 3);
    assert_eq!(step(state, of_forge(false, 620), 620).1, [Effect::Deregister]);
}

#[test]
fn where_nobody_is_listed_any_more_the_drain_is_called_off_and_the_cordon_with_it() {
    let listed_late = limits().listing_lag.as_secs();
    let until = 111 + 90 + 15 * 60 + listed_late;
    let state = behind_its_cordon();
    assert_eq!(state.deadline(&limits()), Some(at(until)));
    let (back, effects) = step(state, Event::Tick, until);
    assert_eq!((back.phase(), effects), (Phase::Idle, vec![Effect::Uncordon]));
}

#[test]
fn one_that_a_process_before_has_cordoned_is_put_back() {
    let found = Registration { cordoned: Some(true), ..there(false) };
    let adopted = adopt(Some(vm(VmStatus::Active)), Some(found), at(10));
    assert_eq!(adopted.phase(), Phase::Idle);
    assert_eq!(adopted.deadline(&limits()), Some(at(10)), "at once");
    let (asked, effects) = step(adopted, Event::Tick, 10);
    assert_eq!(effects, [Effect::Uncordon]);
    let free = next(asked, uncordoned(Ok(())), 11);
    assert_eq!(step(free.clone(), shows(true, 40), 40).1, [], "the listing is from before");
    assert_eq!(
        step(free, shows(true, 42), 42).1,
        [Effect::Uncordon],
        "it acted late, or somebody did"
    );
}

#[test]
fn one_that_its_actor_left_behind_a_cordon_is_put_back_or_goes_on() {
    let revived = revive(behind_its_cordon(), at(120));
    assert_eq!(revived.phase(), Phase::Draining, "it goes on");
    let (busy, _) = step(behind_its_cordon(), of_forge(true, 150), 150);
    assert_eq!(step(revive(busy, at(152)), Event::Tick, 160).1, [Effect::Uncordon]);
}

#[test]
fn one_that_cannot_be_put_back_is_drained_and_not_left_idle_for_ever() {
    let mut state = next(idle(), shows(true, 20), 20);
    let mut asked = 1;
    for second in (21..400).step_by(5) {
        let answered = state.known().unwrap().in_flight.is_none();
        let event = if answered { Event::Tick } else { uncordoned(Err(refused())) };
        let (after, effects) = step(state, event, second);
        asked += usize::from(effects.contains(&Effect::Uncordon));
        state = after;
    }
    assert_eq!(asked, 5);
    assert_eq!(state.reason(), Some(&DrainReason::Cordoned));
}

#[test]
fn whoever_was_never_online_may_be_in_a_moment_and_is_cordoned_too() {
    let offline = |second| {
        let registration = Registration { online: false, ..there(false) };
        seen(Sighting::Unknown, Sighting::Seen(registration), second)
    };
    let boots = adopt(Some(vm(VmStatus::Active)), None, at(0));
    for reason in [DrainReason::Overdue { phase: Phase::Registering }, DrainReason::Shrink] {
        let quiet = [20, 60, 90].map(|second| (second, offline(second)));
        let asked = run(boots.clone(), quiet.into_iter().chain([(100, Event::Drain(reason))]));
        assert_eq!(step(asked, offline(110), 110).1, [Effect::Cordon]);
    }
}

#[test]
fn how_late_the_flag_is_is_learnt_from_whoever_knows_of_a_job_first() {
    let late = |state: &State| state.known().unwrap().late.by;
    let said = next(idle(), begins(Some(7)), 100);
    let shown = run(said.clone(), [(110, of_forge(false, 110)), (140, of_forge(true, 140))]);
    assert_eq!(late(&shown), Some(Duration::from_secs(40)));
    assert_eq!(
        late(&next(said.clone(), of_forge(true, 120), 120)),
        Some(Duration::ZERO),
        "never late"
    );
    let first = run(
        idle(),
        [(100, of_forge(true, 100)), (110, begins(Some(7))), (160, of_forge(true, 160))],
    );
    assert_eq!(late(&first), Some(Duration::ZERO), "the flag came first");
    assert_eq!(Habit::between(&said, &shown).late, Duration::from_secs(40));

    let mut habits = Habits::default();
    let learn = |habits: &mut Habits, seconds| {
        habits.learn(Habit { late: Duration::from_secs(seconds), leaked: false }, at(0));
        habits.within(&Limits::default()).watch
    };
    assert_eq!(learn(&mut habits, 40), Duration::from_secs(90), "no less than is assumed");
    assert_eq!(learn(&mut habits, 200), Duration::from_secs(200));
    assert_eq!(learn(&mut habits, 100), Duration::from_secs(200), "the longest");
    assert_eq!(learn(&mut habits, 10_000), LONGEST, "a flag that lies is not late");
}
