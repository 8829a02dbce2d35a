//! Supply is who can take a job: runners that take far too long to come online are replaced, and a shrink takes
//! first who cannot have a job.

use std::sync::Arc;

use runner_fleet_actors::{
    event::{DrainReason, Phase, Place},
    name::{RegistrationId, RunnerName, VmId},
    pool::{self, Boots, Plan, Policy, Roster, Survey},
    port::{Doors, Listing, Registration, Vm, VmStatus},
    runner::{Effect, Event, Known, Limits, Observation, Sighting, State, adopt},
};

use crate::given::{at, busy, known, name, next, registering, seconds, seen};

fn launching() -> State {
    State::start(at(0), &Limits::default()).0
}

fn idle() -> State {
    State::Idle { since: at(0), known: Known { was_online: true, ..known() } }
}

const fn policy(max: u32) -> Policy {
    Policy { max, replace_at_once: 1, shape: None, retiring: false }
}

/// A pool of runners with the numbers 1, 2, …, made at these seconds; both sides are listed whole.
fn pool_of(runners: &[(u64, State)]) -> Roster {
    let mut roster = Roster::default();
    (roster.cloud_seen, roster.cloud_whole) = (Some(at(0)), true);
    for (number, (second, state)) in (1..).zip(runners) {
        roster.transitioned(&name(number), state.clone(), at(*second));
    }
    roster
}

/// The plan at that second, of which both sides were listed.
fn plan(roster: &mut Roster, target: u32, max: u32, second: u64) -> Plan {
    (roster.cloud_seen, roster.cloud_whole) = (Some(at(second)), true);
    (roster.forge_seen, roster.forge_whole) = (Some(at(second)), true);
    roster.notice(at(second));
    pool::plan(target, roster, &policy(max), &Doors::default(), at(second))
}

fn drained(plan: &Plan) -> Vec<(RunnerName, DrainReason)> {
    plan.drain.clone()
}

#[test]
fn how_long_boots_take_is_learned_and_three_times_that_is_far_longer() {
    let of = |took: &[u64]| took.iter().map(|took| seconds(*took)).collect::<Boots>();
    assert_eq!(of(&[]).patience(), seconds(300), "nothing is known");
    assert_eq!(of(&[20, 30, 25]).patience(), seconds(120), "a busy cloud may be slower than ever");
    assert_eq!(of(&[20, 100, 25]).patience(), seconds(300));
    let hundred: Vec<u64> = (1..=100).collect();
    let known = of(&hundred).summary().unwrap();
    assert_eq!((known.boots, known.shortest), (100, seconds(1)));
    assert_eq!((known.median, known.p99), (seconds(50), seconds(99)));
    assert_eq!(of(&[7]).summary().unwrap().p99, seconds(7));
    let newest: Vec<u64> = std::iter::once(9000).chain(std::iter::repeat_n(50, 200)).collect();
    assert_eq!(of(&newest).patience(), seconds(150), "what was long ago is forgotten");
    assert_eq!(of(&[]).summary(), None);
}

#[test]
fn a_runner_that_comes_online_tells_how_long_that_took() {
    let mut roster = pool_of(&[(10, registering()), (20, launching()), (30, idle())]);
    roster.transitioned(&name(1), idle(), at(70));
    roster.transitioned(&name(2), busy(), at(100));
    roster.transitioned(&name(3), busy(), at(500));
    let known = roster.boots.summary().unwrap();
    assert_eq!((known.boots, known.shortest, known.p99), (2, seconds(60), seconds(80)));
}

#[test]
fn a_runner_that_was_found_online_tells_nothing_of_how_long_that_took() {
    let vm = || Vm {
        name: name(1),
        id: VmId("vm".into()),
        status: VmStatus::Active,
        created_at: Some(at(0)),
        shape: None,
        scope: None,
        address: None,
        task: None,
    };
    let listed = |online, second| {
        let id = RegistrationId(1);
        let listed = Registration { name: name(1), id, online, busy: Some(false), cordoned: None };
        seen(Sighting::Seen(vm()), Sighting::Seen(listed), second)
    };
    // Made an hour ago by a process that has ended since.
    let adopted = adopt(Some(vm()), None, at(3600));
    let mut roster = pool_of(&[(3600, adopted.clone())]);
    let found = next(adopted.clone(), listed(true, 3602), 3602);
    assert_eq!(found.phase(), Phase::Idle);
    roster.transitioned(&name(1), found, at(3602));
    assert_eq!(roster.boots.summary(), None);
    // Where it was listed as offline first, it comes online before our eyes.
    let mut roster = pool_of(&[(3600, adopted.clone())]);
    let waits = next(adopted, listed(false, 3602), 3602);
    roster.transitioned(&name(1), waits.clone(), at(3602));
    roster.transitioned(&name(1), next(waits, listed(true, 3610), 3610), at(3610));
    assert_eq!(roster.boots.summary().unwrap().median, seconds(3610));
}

#[test]
fn who_takes_far_longer_than_others_did_is_replaced_where_there_is_room() {
    let mut roster = pool_of(&[(0, registering()), (0, idle()), (100, registering())]);
    roster.boots = [seconds(40)].into_iter().collect();
    let early = plan(&mut roster, 3, 9, 119);
    assert_eq!((early.create, early.again_at), (0, Some(at(120))), "then it is looked at again");
    plan(&mut roster, 3, 9, 120);
    assert_eq!((roster.live(), roster.count_late()), (2, 1));
    // It counts as a boot that failed: one finds out, seconds later, whether others come online.
    let hold = roster.failures.hold(Place::Shape).unwrap();
    assert!(hold.error.what.contains("far longer than others took"), "{}", hold.error);
    let late = plan(&mut roster, 5, 9, 126);
    assert_eq!((late.create, drained(&late)), (1, vec![]), "its place is not needed");
    // It is online after all.
    roster.transitioned(&name(1), idle(), at(130));
    assert_eq!((roster.live(), roster.count_late()), (3, 0));
}

#[test]
fn nobody_is_late_whom_the_forge_could_not_show_online() {
    let mut roster = pool_of(&[(0, registering())]);
    roster.boots = [seconds(40)].into_iter().collect();
    roster.forge_seen = Some(at(119));
    roster.notice(at(500));
    assert_eq!(roster.late_at, None, "the next listing tells");
    assert_eq!((roster.live(), roster.count_late()), (1, 0));
    roster.forge_seen = Some(at(120));
    roster.notice(at(500));
    assert_eq!((roster.live(), roster.count_late()), (0, 1));
}

#[test]
fn where_max_binds_the_first_of_those_who_are_late_makes_room_one_after_the_other() {
    let mut roster = pool_of(&[(5, registering()), (0, registering()), (0, idle())]);
    roster.boots = [seconds(40)].into_iter().collect();
    let late = plan(&mut roster, 3, 3, 200);
    let overdue = |number| {
        let phase = Phase::Registering;
        (name(number), DrainReason::Overdue { phase })
    };
    assert_eq!((late.create, drained(&late)), (0, vec![overdue(2)]));
    assert!(late.because[0].contains("2 runners take far longer"), "{:?}", late.because);
    let limits = Limits::default();
    let goes = registering().next(Event::Drain(overdue(2).1), at(200), &limits).0;
    roster.transitioned(&name(2), goes, at(200));
    assert_eq!(drained(&plan(&mut roster, 3, 3, 201)), [], "one at a time");
    assert_eq!(roster.failures.hold(Place::Shape).map(|hold| hold.waves), Some(1), "counted once");
}

#[test]
fn a_shrink_takes_first_who_cannot_have_a_job() {
    let runners = [
        (1, idle()),
        (2, registering()),
        (3, busy()),
        (4, launching()),
        (5, registering()),
        (6, launching()),
        (7, idle()),
    ];
    let order = [6, 4, 5, 2, 1, 7];
    for many in 1..=6 {
        let mut roster = pool_of(&runners);
        let shrunk = plan(&mut roster, 7 - many, 9, 100);
        let names: Vec<_> = order.iter().take(many as usize).map(|number| name(*number)).collect();
        let taken: Vec<_> = shrunk.drain.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(taken, names);
    }
    let mut wished = pool_of(&runners);
    let wish = launching().next(Event::Drain(DrainReason::Shrink), at(99), &Limits::default()).0;
    wished.transitioned(&name(6), wish, at(99));
    assert_eq!(wished.live(), 6, "it goes once its launch is answered");
}

fn reporting() -> Limits {
    Limits { guests_report: true, ..Limits::default() }
}

fn listed_offline(second: u64) -> Event {
    let registration = Registration {
        name: name(1),
        id: RegistrationId(7),
        online: false,
        busy: Some(false),
        cordoned: None,
    };
    Event::Observed(Observation {
        vm: Sighting::Unknown,
        registration: Sighting::Seen(registration),
        vm_as_of: at(second),
        registration_as_of: at(second),
    })
}

#[test]
fn a_guest_that_boots_is_asked_before_it_is_drained_and_one_that_never_answers_not_for_long() {
    let wished =
        |reason: DrainReason| registering().next(Event::Drain(reason), at(100), &reporting());
    assert_eq!(wished(DrainReason::Shrink).1, [Effect::StandDown]);
    let overdue = DrainReason::Overdue { phase: Phase::Registering };
    assert_eq!(wished(overdue).1, [], "listings must do");
    let mut state = wished(DrainReason::Shrink).0;
    let no_answer = || {
        let error = runner_fleet_actors::port::PortError::doubtful(
            runner_fleet_actors::port::ErrorClass::Transient,
            "no answer",
        );
        Event::Answered(runner_fleet_actors::runner::Answer::StoodDown(Err(error)))
    };
    for second in [110, 150, 190, 219] {
        state = state.next(listed_offline(second), at(second), &reporting()).0;
        let (next, effects) = state.next(no_answer(), at(second), &reporting());
        assert!(!effects.contains(&Effect::Cordon), "at {second}");
        state = next;
    }
    let (_, effects) = state.next(listed_offline(300), at(300), &reporting());
    assert_eq!(effects, [Effect::Cordon]);
}

#[test]
fn quiet_that_was_listed_before_it_was_online_proves_nothing() {
    let mute = Limits::default();
    let listed = |online, second| {
        let registration = Registration {
            name: name(1),
            id: RegistrationId(7),
            online,
            busy: Some(false),
            cordoned: None,
        };
        let listing = Listing {
            entries: vec![registration],
            complete: true,
            as_of: at(second),
            faults: Vec::new(),
        };
        Survey { registrations: Some(Arc::new(listing)), ..Survey::default() }
    };
    let mut roster = pool_of(&[(0, registering())]);
    let mut state = registering();
    let mut sees = |state: State, online, second| {
        let pool = "linux".parse().unwrap();
        let seen = roster.survey(&pool, &listed(online, second), at(second)).observe.remove(0).1;
        state.next(Event::Observed(seen), at(second), &mute)
    };
    for second in [10, 40, 80] {
        state = sees(state, false, second).0;
    }
    state = sees(state, true, 90).0;
    state = state.next(Event::Drain(DrainReason::Shrink), at(91), &mute).0;
    let (state, effects) = sees(state, true, 100);
    assert_eq!(effects, [], "ten seconds of listening are no minute");
    assert_eq!(sees(state, true, 150).1, [Effect::Cordon]);
}
