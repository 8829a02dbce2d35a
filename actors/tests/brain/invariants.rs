//! The judges judged: each invariant is shown a step that keeps it and a step that breaks it. They watch the
//! simulation and production, so one that never finds fault would be missed by nobody.

use std::time::Duration;

use runner_fleet_actors::{
    demand::Sure,
    event::{DrainReason, Job, Phase},
    invariant::{self, ABSORBS, ARROWS, Before, DEADLINE, MAX, ONE_EFFECT, PLAN, UNKNOWN_HOLDS},
    pool::{self, Plan, Roster},
    port::{Deletion, Finding, Time},
    runner::{Answer, Effect, Event, Flight, Hearsay, Known, Limits, State},
    scaler::{self, Target},
};

use crate::given::{at, name};

fn idle() -> State {
    State::Idle { since: at(0), known: Known::default() }
}

fn busy() -> State {
    State::Busy { since: at(0), job: Job::default(), known: Known::default() }
}

fn deleted(second: u64) -> State {
    State::Deleted { since: at(second), reason: DrainReason::Shrink }
}

/// Whose answer to `effect` is due until second 100.
fn waits_for(effect: Effect) -> State {
    let in_flight = Some(Flight { effect, until: at(100) });
    State::Idle { since: at(0), known: Known { in_flight, ..Known::default() } }
}

/// What a step breaks that is made at `second`.
fn broken(
    before: &State,
    event: &Event,
    after: &State,
    effects: &[Effect],
    second: u64,
) -> Vec<&'static str> {
    let now = at(second);
    let judged = Before::of(before, event, now).judge(after, effects, &Limits::default(), now);
    judged.iter().map(|broken| broken.name).collect()
}

#[test]
fn nothing_happens_to_a_deleted_runner() {
    let step =
        |after: &State, effects: &[Effect]| broken(&deleted(5), &Event::Tick, after, effects, 10);
    assert_eq!(step(&deleted(5), &[]), [""; 0]);
    assert_eq!(step(&deleted(6), &[]), [ABSORBS], "it is deleted once");
    assert_eq!(step(&deleted(5), &[Effect::GoOn]), [ABSORBS]);
    assert_eq!(step(&idle(), &[]), [ABSORBS, ARROWS]);
    // Only of a deleted one is that asked.
    assert_eq!(broken(&idle(), &Event::Tick, &busy(), &[Effect::GoOn], 10), [""; 0]);
}

#[test]
fn states_follow_each_other_along_the_arrows_and_no_other_way() {
    use Phase::{Busy, Creating, Deleted, Draining, Idle, Registering};
    let allowed = |from, hearsay| {
        [Creating, Registering, Idle, Busy, Draining, Deleted]
            .into_iter()
            .filter(move |to| invariant::arrow(from, *to, hearsay).is_none())
            .collect::<Vec<_>>()
    };
    for hearsay in [false, true] {
        assert_eq!(allowed(Creating, hearsay), [Creating, Registering, Idle, Busy, Draining]);
        assert_eq!(allowed(Registering, hearsay), [Registering, Idle, Busy, Draining]);
        assert_eq!(allowed(Idle, hearsay), [Idle, Busy, Draining]);
        assert_eq!(allowed(Draining, hearsay), [Registering, Idle, Busy, Draining, Deleted]);
        assert_eq!(allowed(Deleted, hearsay), [Deleted]);
    }
    assert_eq!(allowed(Busy, false), [Busy, Draining]);
    assert_eq!(allowed(Busy, true), [Idle, Busy, Draining], "nobody bore it out");
}

#[test]
fn who_was_busy_by_hearsay_alone_may_be_idle_again() {
    let known = Known { hearsay: Some(Hearsay::default()), ..Known::default() };
    let by_hearsay = State::Busy { since: at(0), job: Job::default(), known };
    assert_eq!(broken(&by_hearsay, &Event::Tick, &idle(), &[], 10), [""; 0]);
    assert_eq!(broken(&busy(), &Event::Tick, &idle(), &[], 10), [ARROWS]);
}

#[test]
fn one_effect_is_in_flight_and_noted() {
    let fresh =
        |after: &State, effects: &[Effect]| broken(&idle(), &Event::Force, after, effects, 10);
    let noted = waits_for(Effect::LookUp);
    assert_eq!(fresh(&noted, &[Effect::LookUp]), [""; 0]);
    assert_eq!(fresh(&noted, &[Effect::GoOn, Effect::LookUp]), [""; 0], "a word has no answer");
    assert_eq!(fresh(&idle(), &[Effect::GoOn, Effect::End]), [""; 0]);
    assert_eq!(fresh(&idle(), &[Effect::LookUp]), [ONE_EFFECT], "not noted");
    assert_eq!(fresh(&noted, &[Effect::DeleteVm]), [ONE_EFFECT], "another is noted");
    assert_eq!(fresh(&noted, &[Effect::LookUp, Effect::DeleteVm]), [ONE_EFFECT]);
}

#[test]
fn no_effect_is_asked_for_while_an_answer_is_due() {
    let second = |event: Event, now: u64| {
        let (before, after) = (waits_for(Effect::LookUp), waits_for(Effect::DeleteVm));
        broken(&before, &event, &after, &[Effect::DeleteVm], now)
    };
    let found = || Event::Answered(Answer::LookedUp(Ok(Finding::default())));
    let gone = || Event::Answered(Answer::VmDeleted(Ok(Deletion::Gone)));
    assert_eq!(second(found(), 50), [""; 0], "that is the answer");
    assert_eq!(second(gone(), 50), [ONE_EFFECT], "that is another one's");
    assert_eq!(second(Event::Force, 50), [ONE_EFFECT]);
    assert_eq!(second(Event::Force, 500), [ONE_EFFECT], "only a tick gives an answer up");
    assert_eq!(second(Event::Tick, 99), [ONE_EFFECT]);
    assert_eq!(second(Event::Tick, 100), [""; 0]);
    assert_eq!(second(Event::Tick, 101), [""; 0]);
}

#[test]
fn a_deadline_lies_within_the_longest_limit_and_a_day() {
    let limits = Limits::default();
    let idle_since = |since: Time| {
        let after = State::Idle { since, known: Known::default() };
        broken(&idle(), &Event::Tick, &after, &[], 10)
    };
    // A job's limit is the longest; an idle runner's is a day, which is the slack.
    assert_eq!(idle_since(at(10) + limits.busy), [""; 0]);
    assert_eq!(idle_since(at(11) + limits.busy), [DEADLINE]);
}

#[test]
fn more_vms_are_asked_for_only_below_max() {
    let judged = |vms, create| invariant::within_max(vms, create, 5).map(|broken| broken.name);
    assert_eq!(judged(4, 1), None);
    assert_eq!(judged(9, 0), None, "max was lowered, and nothing is asked for");
    assert_eq!(judged(4, 2), Some(MAX));
    assert_eq!(judged(u32::MAX, 1), Some(MAX));
}

#[test]
fn a_plan_drains_idle_runners_and_lets_a_pool_that_goes_alone() {
    let mut roster = Roster::default();
    roster.transitioned(&name(1), idle(), at(0));
    roster.transitioned(&name(2), busy(), at(0));
    let drains = |names: &[u64]| Plan {
        drain: names.iter().map(|number| (name(*number), DrainReason::Shrink)).collect(),
        ..Plan::default()
    };
    let creates = |create| Plan { create, ..Plan::default() };
    let judged = |plan: &Plan, retiring| {
        let policy = pool::Policy { max: 4, replace_at_once: 1, shape: None, retiring };
        let broken = invariant::plan(plan, &roster, &policy);
        broken.iter().map(|broken| broken.name).collect::<Vec<_>>()
    };
    assert_eq!(judged(&drains(&[1]), true), [""; 0]);
    assert_eq!(judged(&drains(&[1, 2]), false), [PLAN], "one of them is busy");
    assert_eq!(judged(&drains(&[3]), false), [PLAN], "nobody has that name");
    assert_eq!(judged(&creates(2), false), [""; 0]);
    assert_eq!(judged(&creates(3), false), [MAX]);
    assert_eq!(judged(&creates(1), true), [PLAN]);
}

#[test]
fn demand_that_is_not_wholly_known_lowers_no_target() {
    let policy = |fixed| {
        let shrink_after = Duration::from_secs(300);
        scaler::Policy { min: 0, spare: 0, max: 8, shrink_after, fixed }
    };
    let target = |runners, unknown| Target { runners, unknown, ..Target::initial(&policy(None)) };
    let judged = |known, last: u32, new: Target, fixed| {
        let broken = invariant::target(known, &target(last, false), &new, &policy(fixed));
        broken.map(|broken| broken.name)
    };
    for silent in [None, Some(Sure::Silent)] {
        assert_eq!(judged(silent, 5, target(5, true), None), None);
        assert_eq!(judged(silent, 5, target(4, true), None), Some(UNKNOWN_HOLDS));
        assert_eq!(
            judged(silent, 5, target(5, false), None),
            Some(UNKNOWN_HOLDS),
            "nor is it known"
        );
        assert_eq!(judged(silent, 9, target(8, true), None), None, "max was lowered");
        assert_eq!(judged(silent, 5, target(4, false), Some(4)), None, "an operator says so");
    }
    assert_eq!(judged(Some(Sure::AtLeast), 5, target(0, true), None), None);
    assert_eq!(judged(Some(Sure::AtLeast), 5, target(5, false), None), Some(UNKNOWN_HOLDS));
    assert_eq!(judged(Some(Sure::Exact), 5, target(0, false), None), None);
}
