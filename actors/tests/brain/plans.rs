//! What a pool does next, and the words in which it says why.

use runner_fleet_actors::{
    event::DrainReason,
    name::RunnerName,
    pool::{self, Plan, Policy, Roster},
    port::{Doors, ErrorClass, PortError, Stage},
    runner::{Answer, Event, Known, LaunchFailure, Limits, State},
};

use crate::given::{at, busy, creating, idle, known, name};

fn policy(max: u32) -> Policy {
    Policy { max, replace_at_once: 1, shape: None, retiring: false }
}

fn of_shape(shape: &str) -> State {
    State::Idle { since: at(0), known: Known { shape: Some(shape.into()), ..known() } }
}

fn draining(reason: DrainReason) -> State {
    idle().next(Event::Drain(reason), at(0), &Limits::default()).0
}

/// Runners with the numbers 1, 2, …, each a second younger than the one before; both sides were listed
/// whole at second 100.
fn roster(states: impl IntoIterator<Item = State>) -> Roster {
    let mut roster = Roster::default();
    (roster.cloud_seen, roster.cloud_whole) = (Some(at(100)), true);
    (roster.forge_seen, roster.forge_whole) = (Some(at(100)), true);
    for (number, state) in (1..).zip(states) {
        roster.transitioned(&name(number), state, at(number));
    }
    roster
}

/// What is planned at second 100.
fn plan(target: u32, roster: &Roster, policy: &Policy) -> Plan {
    pool::plan(target, roster, policy, &Doors::default(), at(100))
}

fn drained(plan: &Plan) -> Vec<RunnerName> {
    plan.drain.iter().map(|(name, _)| name.clone()).collect()
}

#[test]
fn a_pool_grows_to_its_target_and_says_so() {
    let grown = plan(5, &roster([idle(), busy(), creating()]), &policy(9));
    assert_eq!((grown.create, grown.because), (2, vec!["2 created toward 5, 3 there".to_owned()]));
    assert_eq!((grown.drain, grown.again_at), (vec![], None));
    assert_eq!(plan(3, &roster([idle(), busy(), creating()]), &policy(9)), Plan::default());
}

#[test]
fn a_target_above_max_counts_as_max_and_vms_on_their_way_out_take_places() {
    assert_eq!(plan(9, &roster([]), &policy(4)).create, 4);
    let leaving = || draining(DrainReason::Shrink);
    let full = plan(4, &roster([idle(), busy(), leaving()]), &policy(4));
    let room = "2 more wanted; room for 1: 3 VMs of at most 4, 1 of them draining";
    let made = "1 created toward 4, 2 there";
    assert_eq!((full.create, full.because), (1, vec![room.to_owned(), made.to_owned()]));
    let none = plan(2, &roster([idle(), leaving()]), &policy(2));
    let room = "1 more wanted; room for 0: 2 VMs of at most 2, 1 of them draining";
    assert_eq!((none.create, none.because), (0, vec![room.to_owned()]));
}

#[test]
fn nothing_is_made_before_the_cloud_was_seen_whole() {
    let mut unseen = roster([idle()]);
    unseen.cloud_seen = None;
    let waits = plan(3, &unseen, &policy(9));
    let why = "2 more wanted; waits for the first complete listing of the cloud";
    assert_eq!((waits.create, waits.because), (0, vec![why.to_owned()]));
    assert_eq!(plan(1, &unseen, &policy(9)), Plan::default(), "there is nothing to wait for");
}

#[test]
fn a_shrink_takes_the_oldest_idle_runners_and_never_a_busy_one() {
    let three = roster([busy(), idle(), idle(), idle()]);
    let shrunk = plan(2, &three, &policy(9));
    assert_eq!(drained(&shrunk), [name(2), name(3)]);
    assert!(shrunk.drain.iter().all(|(_, reason)| *reason == DrainReason::Shrink));
    assert_eq!(shrunk.because, ["2 drained toward 2, who cannot have a job first"]);
    let most = plan(0, &three, &policy(9));
    assert_eq!(drained(&most), [name(2), name(3), name(4)]);
    let left = "1 too many, none of them idle: they end with their jobs";
    assert_eq!(most.because, ["3 drained toward 0, who cannot have a job first", left]);
    let none = plan(0, &roster([busy()]), &policy(9));
    assert_eq!((none.drain, none.because), (vec![], vec![left.to_owned()]));
}

#[test]
fn who_was_asked_to_drain_is_not_asked_again_for_half_a_minute() {
    let mut two = roster([idle(), idle()]);
    two.asked(&name(1), at(100));
    let drained_at = |second| {
        let mut two = two.clone();
        (two.cloud_seen, two.forge_seen) = (Some(at(second)), Some(at(second)));
        drained(&pool::plan(1, &two, &policy(9), &Doors::default(), at(second)))
    };
    assert_eq!(drained_at(100), [name(2)]);
    assert_eq!(drained_at(129), [name(2)]);
    assert_eq!(drained_at(130), [name(1)], "its answer was lost");
    two.transitioned(&name(1), idle(), at(101));
    let again = drained(&pool::plan(1, &two, &policy(9), &Doors::default(), at(101)));
    assert_eq!(again, [name(1)], "it has answered, and is idle");
}

#[test]
fn a_shrink_waits_while_either_side_is_in_doubt() {
    let waits = |change: fn(&mut Roster), second| {
        let mut two = roster([idle(), idle()]);
        change(&mut two);
        let plan = pool::plan(1, &two, &policy(9), &Doors::default(), at(second));
        (!plan.drain.is_empty(), plan.because.concat())
    };
    let ok = |_: &mut Roster| {};
    assert!(waits(ok, 340).0, "four minutes old is not yet too old");
    let why = |text: &str| (false, format!("1 too many; the shrink waits: {text}"));
    assert_eq!(waits(ok, 341), why("the cloud was last listed whole at 08:01:40Z"));
    assert_eq!(waits(|r| r.cloud_seen = None, 100), why("the cloud was never listed whole"));
    assert_eq!(waits(|r| r.forge_seen = None, 100), why("the forge was never listed whole"));
    assert_eq!(
        waits(|r| r.cloud_whole = false, 100),
        why("the last listing of the cloud is partial")
    );
    assert_eq!(
        waits(|r| r.forge_whole = false, 100),
        why("the last listing of the forge is partial")
    );
}

#[test]
fn a_pool_that_goes_makes_nobody_and_drains_who_is_idle() {
    let goes = Policy { retiring: true, shape: Some("new".into()), ..policy(9) };
    let plan = plan(5, &roster([of_shape("old"), busy()]), &goes);
    assert_eq!((plan.create, plan.drain), (0, vec![(name(1), DrainReason::PoolRemoved)]));
}

fn replacing(target: u32, roster: &Roster, replace_at_once: u32) -> Plan {
    plan(target, roster, &Policy { replace_at_once, shape: Some("new".into()), ..policy(9) })
}

#[test]
fn outdated_idle_runners_are_replaced_a_few_at_a_time_the_oldest_first() {
    let old = || of_shape("old");
    let four = roster([of_shape("new"), old(), old(), old(), idle(), busy()]);
    let first = replacing(6, &four, 2);
    let outdated = |number| (name(number), DrainReason::Outdated);
    assert_eq!(first.drain, [outdated(2), outdated(3)]);
    assert_eq!(first.because, ["2 of 3 outdated replaced"]);
    assert_eq!(replacing(6, &four, 9).because, ["3 of 3 outdated replaced"]);
    assert_eq!(replacing(6, &four, 0).drain, [outdated(2)], "at least one");
    assert_eq!(plan(6, &four, &policy(9)), Plan::default(), "a pool without a shape has none");
    assert_eq!(replacing(2, &roster([of_shape("new"), busy()]), 1), Plan::default());
}

#[test]
fn who_comes_in_and_who_goes_out_count_for_the_pace_of_a_replacement() {
    let old = || of_shape("old");
    let registering = || State::Registering { since: at(0), known: known() };
    let replaced = |more: Vec<State>, target| {
        let states = [old(), old(), old()].into_iter().chain(more);
        replacing(target, &roster(states), 3).drain.len()
    };
    assert_eq!(replaced(vec![], 3), 3);
    assert_eq!(replaced(vec![creating()], 4), 2);
    assert_eq!(replaced(vec![registering()], 4), 2);
    assert_eq!(replaced(vec![draining(DrainReason::Outdated)], 3), 2);
    assert_eq!(replaced(vec![draining(DrainReason::Shrink)], 3), 3, "that is no replacement");
    assert_eq!(replaced(vec![creating(), registering()], 5), 1);
    assert_eq!(replaced(vec![creating(), registering(), draining(DrainReason::Outdated)], 5), 0);
    assert_eq!(replaced(vec![], 5), 1, "two are made in this very plan");
    let all = [old(), creating(), registering(), draining(DrainReason::Outdated)];
    assert_eq!(replacing(3, &roster(all), 3).because, ["1 outdated, replaced step by step"]);
}

#[test]
fn nobody_is_replaced_while_launches_fail_or_a_side_is_in_doubt_or_too_many_are_there() {
    let mut fails = roster([of_shape("old"), creating()]);
    let failed = Answer::LaunchFailed(LaunchFailure {
        error: PortError::certain(ErrorClass::Quota, "no"),
        stage: Stage::Cloud,
        vm_possible: false,
        registration_possible: false,
        registration: None,
    });
    let failed = creating().next(Event::Answered(failed), at(50), &Limits::default()).0;
    fails.transitioned(&name(2), failed, at(50));
    let step = "1 outdated, replaced step by step";
    assert_eq!(replacing(1, &fails, 1).because, [step]);
    let mut doubtful = roster([of_shape("old")]);
    doubtful.forge_whole = false;
    let waits = replacing(1, &doubtful, 1);
    let why = "1 outdated; their replacement waits: the last listing of the forge is partial";
    assert_eq!((waits.drain, waits.because), (vec![], vec![why.to_owned()]));
    let shrunk = replacing(1, &roster([of_shape("old"), of_shape("old")]), 1);
    assert_eq!(shrunk.drain, [(name(1), DrainReason::Shrink)], "a shrink alone");
}
