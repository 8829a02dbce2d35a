//! Grounds that age, and a process that stood still: what is sent no more, and what is looked at first.

use std::{sync::Arc, time::Duration};

use runner_fleet_actors::{
    event::{DrainReason, Phase},
    pool::{Policy, Roster, Survey, plan},
    port::{Doors, ErrorClass, Grounds, Listing, PortError, VmStatus},
    runner::{Effect, Event, FRESH, Limits, STANDS, State, Step},
};

use crate::lives::*;

const STOOD: u64 = STANDS.as_secs();

/// Two listings that agree, a shrink that a third one bears out, a cordon, and a listing after its watch.
fn proven_quiet() -> (State, Vec<Effect>) {
    let quiet = run(
        idle(),
        [
            (10, of_forge(false, 10)),
            (70, of_forge(false, 70)),
            (71, shrinks()),
            (75, of_forge(false, 75)),
            (76, cordoned(Ok(()))),
        ],
    );
    step(quiet, of_forge(false, 170), 170)
}

fn limited(until: u64) -> PortError {
    PortError::certain(ErrorClass::RateLimited { until: at(until) }, "asked too often")
}

fn asked_again(state: State, event: Event, second: u64) {
    let (after, effects) = step(state, event, second);
    assert_eq!(effects, [Effect::StandDown], "at {second}");
    assert_eq!(drain(&after).step, Step::Ask);
}

#[test]
fn a_proof_by_listings_that_has_grown_old_while_a_deregistration_was_held_off_is_none() {
    let (asked, effects) = proven_quiet();
    assert_eq!(effects, [Effect::Deregister]);
    let held = next(asked, deregistered(Err(limited(700))), 171);
    for second in [172, 699, 701, 720] {
        let (_, effects) = step(held.clone(), Event::Tick, second);
        assert_eq!(effects, [], "at {second}: a job may have begun long ago");
    }
    let (_, effects) = step(held, of_forge(false, 710), 712);
    assert_eq!(effects, [Effect::Deregister], "now somebody has looked");
}

#[test]
fn a_guest_that_stood_down_before_a_deregistration_was_held_off_is_asked_again() {
    let asked = run(reporting(), [(10, shrinks()), (11, stands_down())]);
    let held = next(asked, deregistered(Err(limited(700))), 12);
    asked_again(held, Event::Tick, 701);
}

#[test]
fn a_word_of_standing_down_is_as_old_as_its_question() {
    let asked = next(reporting(), shrinks(), 10);
    let (_, effects) = step(asked.clone(), stands_down(), 9 + STOOD);
    assert_eq!(effects, [Effect::Deregister]);
    asked_again(asked, stands_down(), 10 + STOOD);
}

#[test]
fn grounds_end_before_what_they_stand_on() {
    let minutes = |minutes: u64| at(10) + Duration::from_secs(minutes * 60);
    let limits = limits();
    let stands = run(reporting(), [(10, shrinks()), (11, stands_down())]);
    let until = |state: &State, effect: Effect, second| state.grounds(effect, at(second), &limits);
    let grounds = |since, until| Some(Grounds { since: at(since), until });
    assert_eq!(until(&stands, Effect::Deregister, 11), grounds(11, at(11) + limits.effect));
    assert_eq!(until(&stands, Effect::Deregister, 200), grounds(200, at(10) + STANDS));
    let (quiet, _) = proven_quiet();
    assert_eq!(until(&quiet, Effect::Deregister, 250), grounds(250, at(170) + FRESH));
    assert_eq!(until(&quiet, Effect::DeleteVm, 10), grounds(10, minutes(2)));
    assert_eq!(until(&launched(), Effect::Launch, 10), grounds(10, minutes(10)));
    assert_eq!(until(&stands, Effect::GoOn, 11), None, "it does so by itself as well");
    let held = Grounds { since: at(10), until: at(20) };
    assert!(held.hold(at(19), at(10)));
    assert!(!held.hold(at(20), at(10)), "their time is over");
    assert!(!held.hold(at(15), at(11)), "a gap came between");
}

#[test]
fn after_a_gap_a_guest_that_stood_down_is_asked_again() {
    let asked = run(reporting(), [(10, shrinks()), (11, stands_down())]);
    let woken = next(asked.clone(), Event::Woke(at(60)), 60);
    asked_again(woken, deregistered(Err(PortError::held_back(at(60), "not sent"))), 63);
    let unread = run(reporting(), [(10, shrinks()), (60, Event::Woke(at(60)))]);
    asked_again(unread, stands_down(), 60);
    let done = run(asked, [(60, Event::Woke(at(60))), (61, deregistered(Ok(())))]);
    assert_eq!(drain(&done).step, Step::Settle, "it had acted before the gap");
}

#[test]
fn after_a_gap_quiet_is_proven_anew_and_by_listings_that_began_after_it() {
    let quiet = run(idle(), [(10, of_forge(false, 10)), (70, of_forge(false, 70))]);
    let woken = run(quiet, [(400, Event::Woke(at(400))), (401, shrinks())]);
    let mut state = woken;
    for (listed, second) in [(399, 402), (400, 403), (410, 411), (430, 431)] {
        let (after, effects) = step(state, of_forge(false, listed), second);
        assert_eq!(effects, [], "listed at {listed}");
        state = after;
    }
    assert_eq!(step(state, of_forge(false, 470), 471).1, [Effect::Cordon]);
}

#[test]
fn after_a_gap_absence_is_proven_anew() {
    let state = run(idle(), [(20, no_vm(20)), (400, Event::Woke(at(400))), (401, no_vm(399))]);
    let state = run(state, [(405, no_vm(405))]);
    assert_eq!(
        state.phase(),
        Phase::Idle,
        "one listing is no proof, and those before count no more"
    );
    assert_eq!(run(state, [(470, no_vm(470))]).phase(), Phase::Draining);
}

#[test]
fn after_a_gap_a_vm_is_deleted_once_its_cloud_was_listed_or_cannot_be() {
    let over = run(reporting(), [(10, guest_ends()), (20, Event::Woke(at(500)))]);
    let (waits, effects) = step(over, Event::Tick, 500);
    assert_eq!((drain(&waits).step, effects), (Step::Delete, vec![]));
    let (_, effects) = step(waits.clone(), of_cloud(VmStatus::Active, 501), 502);
    assert_eq!(effects, [Effect::DeleteVm]);
    let unseen = 500 + limits().ask.as_secs();
    assert_eq!(waits.deadline(&limits()), Some(at(unseen)));
    assert_eq!(step(waits.clone(), Event::Tick, unseen).1, [Effect::DeleteVm]);
    let (_, effects) = step(waits, Event::Force, 503);
    assert_eq!(effects, [Effect::DeleteVm], "an operator has looked");
}

#[test]
fn after_a_gap_a_runner_that_boots_is_not_overdue_before_anybody_could_look() {
    let limits = limits();
    let late = 20 + limits.register.as_secs();
    let boots = run(launched(), [(20, of_cloud(VmStatus::Active, 20))]);
    let woken = next(boots, Event::Woke(at(late + 60)), late + 60);
    assert_eq!(next(woken.clone(), Event::Tick, late + 61).phase(), Phase::Registering);
    assert_eq!(next(woken.clone(), of_forge(false, late + 65), late + 66).phase(), Phase::Idle);
    let seen = late + 60 + limits.listing_lag.as_secs();
    assert_eq!(woken.deadline(&limits), Some(at(seen)));
    assert_eq!(next(woken, Event::Tick, seen).phase(), Phase::Draining);
}

#[test]
fn what_was_refused_here_is_no_try() {
    let (asked, _) = proven_quiet();
    let refused = next(asked, deregistered(Err(PortError::held_back(at(75), "not sent"))), 76);
    assert_eq!(drain(&refused).tries, 0);
}

fn whole<T>(second: u64) -> Arc<Listing<T>> {
    let (entries, faults) = (Vec::new(), Vec::new());
    Arc::new(Listing { entries, complete: true, as_of: at(second), faults })
}

#[test]
fn after_a_gap_nothing_is_planned_before_both_sides_were_listed_again() {
    let policy = Policy { max: 4, replace_at_once: 1, shape: None, retiring: false };
    let both = |second| Survey {
        vms: Some(whole(second)),
        registrations: Some(whole(second)),
        ..Survey::default()
    };
    let planned =
        |roster: &Roster, second| plan(2, roster, &policy, &Doors::default(), at(second)).create;
    let pool = name().pool();
    let mut roster = Roster::default();
    roster.survey(&pool, &both(1), at(2));
    assert_eq!(planned(&roster, 3), 2);
    roster.woke(at(400));
    assert_eq!(planned(&roster, 401), 0);
    roster.survey(&pool, &both(399), at(401));
    assert_eq!(planned(&roster, 402), 0, "that listing began before");
    roster.survey(&pool, &both(402), at(403));
    assert_eq!(planned(&roster, 403), 2);
    let (idle, mut roster) = (idle(), Roster::default());
    roster.transitioned(&name(), idle, at(0));
    roster.survey(&pool, &both(1), at(2));
    let shrinks = |roster: &Roster, second| {
        plan(0, roster, &policy, &Doors::default(), at(second))
            .drain
            .first()
            .map(|(_, why)| why.clone())
    };
    assert_eq!(shrinks(&roster, 40), Some(DrainReason::Shrink));
    roster.woke(at(50));
    assert_eq!(shrinks(&roster, 51), None);
}

#[test]
fn a_stand_down_is_good_for_longer_than_it_takes_to_act_on_it() {
    assert!(Limits::default().effect < STANDS, "asked, answered and sent, it still holds");
}
