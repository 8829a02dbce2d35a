//! What holds launches back after some failed, and what ends that: each place has a hold of its own.

use std::time::Duration;

use runner_fleet_actors::{
    event::{DrainReason, GuestTimes, JobEnd, Place},
    name::VmId,
    pool::{self, Failures, Hold, Plan, Policy, Roster, SIGNS, Stance},
    port::{Door, Doors, ErrorClass, PortError, Stage, Vm, VmStatus},
    runner::{Answer, Event, Known, LaunchFailure, Limits, Observation, Report, Sighting, State},
};

use crate::given::{at, busy, creating, draining, idle, known, name, next, registering};

/// Its order is taken.
fn ordered() -> State {
    State::Creating { since: at(0), wish: None, known: known() }
}

fn stopped(exit_code: i32) -> Event {
    let end = JobEnd { exit_code: Some(exit_code), conclusion: None };
    Event::Guest(Report::Stopped(end), GuestTimes::default())
}

fn refusal(stage: Stage, error: PortError, vm_possible: bool) -> Event {
    Event::Answered(Answer::LaunchFailed(LaunchFailure {
        error,
        stage,
        vm_possible,
        registration_possible: false,
        registration: None,
    }))
}

/// A launch that failed there with this.
fn failed(stage: Stage, class: ErrorClass) -> State {
    next(creating(), refusal(stage, PortError::certain(class, "no"), false), 20)
}

/// The failures of a pool whose launches failed one after the other at these seconds, each decided then.
fn failing(stage: Stage, class: ErrorClass, seconds: &[u64]) -> Failures {
    let mut failures = Failures::default();
    for (number, second) in (1..).zip(seconds) {
        let after = failed(stage, class);
        failures.transitioned(&name(number), at(*second), &creating(), &after, at(*second));
    }
    failures
}

fn quota() -> Failures {
    failing(Stage::Cloud, ErrorClass::Quota, &[20])
}

fn away() -> Failures {
    failing(Stage::Cloud, ErrorClass::Transient, &[20])
}

/// After its VM ended before its runner was online.
fn boot_failed() -> Failures {
    let mut failures = Failures::default();
    let after = next(registering(), stopped(1), 20);
    failures.transitioned(&name(1), at(20), &registering(), &after, at(20));
    failures
}

fn shown(failures: &Failures) -> Vec<(Place, u32)> {
    failures.shown().iter().map(|hold| (hold.place, hold.failures)).collect()
}

fn only(failures: &Failures) -> &Hold {
    assert_eq!(failures.shown().len(), 1);
    failures.longest().unwrap()
}

/// A runner whose launch was decided at `launched` goes from one state to another at second 100.
fn goes(failures: &mut Failures, launched: u64, before: State, after: State) {
    failures.transitioned(&name(99), at(launched), &before, &after, at(100));
}

/// How many may find out at second 100 whether it is over.
fn at_once(failures: &Failures) -> Option<u32> {
    match failures.stance(at(100)) {
        Stance::Free => Some(u32::MAX),
        Stance::Probe(_, _, at_once) => Some(at_once),
        Stance::Held(..) | Stance::Refused(_) => None,
    }
}

#[test]
fn what_failed_is_kept_by_where_it_failed() {
    let limited = ErrorClass::RateLimited { until: at(500) };
    for (stage, class, place) in [
        (Stage::Forge, ErrorClass::Transient, Place::Forge),
        (Stage::Forge, limited, Place::Forge),
        (Stage::Forge, ErrorClass::Auth, Place::Scope),
        (Stage::Forge, ErrorClass::Invalid, Place::Scope),
        (Stage::Forge, ErrorClass::Quota, Place::Scope),
        (Stage::Cloud, ErrorClass::Transient, Place::Cloud),
        (Stage::Cloud, limited, Place::Cloud),
        (Stage::Cloud, ErrorClass::Auth, Place::Cloud),
        (Stage::Cloud, ErrorClass::Quota, Place::Shape),
        (Stage::Cloud, ErrorClass::NoCapacity, Place::Shape),
        (Stage::Cloud, ErrorClass::Invalid, Place::Shape),
        (Stage::Cloud, ErrorClass::NotFound, Place::Shape),
    ] {
        assert_eq!(shown(&failing(stage, class, &[20])), [(place, 1)], "{stage:?} {class}");
    }
    assert_eq!(shown(&boot_failed()), [(Place::Shape, 1)]);
}

#[test]
fn each_way_in_which_a_launch_fails_is_one() {
    let limits = Limits::default();
    let online = State::Registering { since: at(0), known: Known { was_online: true, ..known() } };
    let of = |before: State, after: State| {
        let mut failures = Failures::default();
        failures.transitioned(&name(1), at(1), &before, &after, at(2000));
        let first = failures.shown().into_iter().next();
        first.map(|hold| (hold.place, hold.error.what))
    };
    let overdue = |state: State, limit: Duration| {
        let after = state.clone().next(Event::Tick, at(5) + limit, &limits).0;
        of(state, after)
    };
    let (place, what) = overdue(creating(), limits.launch).unwrap();
    assert!(place == Place::Shape && what.contains("launch limit"), "{what}");
    let (place, what) = overdue(registering(), limits.register).unwrap();
    assert!(place == Place::Shape && what.contains("register limit"), "{what}");
    assert_eq!(overdue(online, limits.register), None, "it was online");
    assert_eq!(overdue(idle(), limits.idle), None);
    assert_eq!(of(idle(), draining()), None);
}

#[test]
fn a_launch_that_may_have_left_a_vm_has_failed_at_once_and_is_nobody_to_count_on() {
    let doubtful = PortError::doubtful(ErrorClass::Transient, "503");
    let unsure = next(creating(), refusal(Stage::Cloud, doubtful, true), 20);
    let mut failures = Failures::default();
    failures.transitioned(&name(1), at(1), &creating(), &unsure, at(20));
    assert_eq!(shown(&failures), [(Place::Cloud, 1)]);
    let mut roster = Roster::default();
    roster.transitioned(&name(1), creating(), at(0));
    assert_eq!((roster.live(), roster.vms()), (1, 1));
    roster.transitioned(&name(1), unsure.clone(), at(20));
    assert_eq!((roster.live(), roster.vms()), (0, 1), "its place is taken all the same");
    // Once it is known to have left none, that is the same failure.
    let gone = next(unsure, Event::Force, 200);
    failures.transitioned(&name(1), at(1), &creating(), &gone, at(200));
    assert_eq!(shown(&failures), [(Place::Cloud, 1)]);
}

#[test]
fn launches_that_were_under_way_when_the_first_one_failed_are_one_failure_with_it() {
    let waves = |launched| {
        let mut failures = quota();
        goes(&mut failures, launched, creating(), failed(Stage::Cloud, ErrorClass::Invalid));
        assert_eq!(only(&failures).error.class, ErrorClass::Invalid, "the newest word is shown");
        only(&failures).waves
    };
    assert_eq!((waves(19), waves(20), waves(99)), (1, 2, 2));
}

#[test]
fn pools_whose_launches_fail_together_do_not_try_again_together() {
    let until = |number| {
        let mut failures = Failures::default();
        let after = failed(Stage::Cloud, ErrorClass::Quota);
        failures.transitioned(&name(number), at(1), &creating(), &after, at(20));
        only(&failures).until
    };
    assert!(until(1) != until(2) && until(2) != until(3) && until(1) != until(3));
}

#[test]
fn what_was_refused_here_without_asking_is_no_failure_and_waits_for_its_turn() {
    let refused = |until| {
        let mut failures = away();
        let error = PortError::held_back(until, "the cloud is left alone");
        let after = next(creating(), refusal(Stage::Cloud, error, false), 40);
        assert_eq!(after.reason(), Some(&DrainReason::HeldBack));
        assert!(!DrainReason::HeldBack.is_loss());
        goes(&mut failures, 40, creating(), after);
        assert_eq!(shown(&failures), [(Place::Cloud, 1)], "it lengthens nothing");
        match failures.stance(at(100)) {
            Stance::Refused(until) => until,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(at(130)), at(130));
    assert_eq!(refused(at(50)), at(101), "never at once");
    assert_eq!(refused(at(90_000)), at(3700), "an hour at most");
}

#[test]
fn a_hold_grows_with_each_failure_and_one_launch_finds_out_after_it() {
    let failures = failing(Stage::Cloud, ErrorClass::Invalid, &[20, 60]);
    let hold = only(&failures);
    assert_eq!((hold.since, hold.waves), (at(20), 2));
    assert!(hold.until > at(110) && hold.until < at(130), "{}", hold.until);
    assert!(matches!(failures.stance(at(100)), Stance::Held(Place::Shape, held) if held == hold));
    assert!(matches!(failures.stance(hold.until), Stance::Probe(Place::Shape, _, 1)));
    let often: Vec<u64> = (1..20).map(|n| n * 100).collect();
    let hiccups = failing(Stage::Cloud, ErrorClass::Transient, &often);
    assert!(
        only(&hiccups).until <= at(1915),
        "whoever shows no signs is tried four times a minute"
    );
}

#[test]
fn only_what_was_decided_after_the_failure_and_got_where_it_failed_disproves_it() {
    let ends = |failures: &Failures, before: State, after: State| {
        let mut failures = failures.clone();
        goes(&mut failures, 30, before.clone(), after.clone());
        let now = !failures.any();
        let mut older = failures;
        goes(&mut older, 19, before, after);
        now
    };
    let served = || next(registering(), stopped(0), 20);
    for failures in [away(), boot_failed(), failing(Stage::Forge, ErrorClass::Auth, &[20])] {
        for after in [idle(), busy()] {
            assert!(ends(&failures, creating(), after.clone()));
        }
        assert!(!ends(&failures, idle(), busy()), "that says nothing of launches");
        assert!(!ends(&failures, registering(), draining()), "nor does a wish");
        assert!(!ends(&failures, creating(), creating()), "nothing was ordered yet");
    }
    assert!(ends(&away(), creating(), ordered()) && ends(&away(), creating(), registering()));
    assert!(!ends(&away(), registering(), idle()), "its order had been taken before");
    assert!(!ends(&boot_failed(), creating(), registering()), "its VM ran, as the last one's did");
    assert!(ends(&boot_failed(), registering(), served()), "its job came and went unseen");
    let mut older = away();
    goes(&mut older, 19, creating(), ordered());
    assert_eq!((older.any(), at_once(&older)), (true, Some(1)), "a sign, and no more");
}

#[test]
fn after_a_quota_room_for_one_is_not_room_for_all() {
    let mut failures = quota();
    goes(&mut failures, 50, creating(), ordered());
    assert_eq!(at_once(&failures), Some(2));
    for at_once_now in [4, 8] {
        goes(&mut failures, 50, creating(), ordered());
        assert_eq!(at_once(&failures), Some(at_once_now));
    }
    let mut again = failures.clone();
    goes(&mut again, 50, creating(), ordered());
    assert_eq!(at_once(&again), Some(u32::MAX));
    goes(&mut failures, 50, creating(), failed(Stage::Cloud, ErrorClass::Quota));
    assert_eq!((only(&failures).waves, at_once(&failures)), (1, None), "full again");
    // No host is said later than the order is taken.
    let mut no_room = failing(Stage::Cloud, ErrorClass::NoCapacity, &[20]);
    goes(&mut no_room, 50, creating(), ordered());
    assert_eq!(no_room, failing(Stage::Cloud, ErrorClass::NoCapacity, &[20]));
    goes(&mut no_room, 50, ordered(), registering());
    assert_eq!(at_once(&no_room), Some(2));
}

#[test]
fn a_vm_that_goes_makes_room_below_a_quota() {
    let gone = |failures: Failures| {
        let mut failures = failures;
        let off = Vm { status: VmStatus::Stopped, ..vm() };
        let going = next(idle(), shows(off), 90);
        let none = Answer::VmDeleted(Ok(runner_fleet_actors::port::Deletion::Gone));
        let gone = next(going.clone(), Event::Answered(none), 95);
        goes(&mut failures, 1, going, gone);
        at_once(&failures)
    };
    let long = |class| failing(Stage::Cloud, class, &[20, 40, 60]);
    assert_eq!(gone(long(ErrorClass::Quota)), Some(1));
    assert_eq!(gone(long(ErrorClass::NoCapacity)), Some(1));
    assert_eq!(gone(long(ErrorClass::Invalid)), None, "what is wrong with an image stays wrong");
}

fn vm() -> Vm {
    Vm {
        name: name(99),
        id: VmId("vm".into()),
        status: VmStatus::Active,
        created_at: None,
        shape: None,
        scope: None,
        address: None,
        task: None,
    }
}

fn shows(vm: Vm) -> Event {
    Event::Observed(Observation {
        vm: Sighting::Seen(vm),
        registration: Sighting::Unknown,
        vm_as_of: at(90),
        registration_as_of: at(90),
    })
}

#[test]
fn a_sign_of_life_lets_one_launch_find_out_and_signs_keep_their_distance() {
    let mut failures = failing(Stage::Cloud, ErrorClass::Auth, &[20, 40, 60, 80]);
    assert_eq!(at_once(&failures), None);
    assert!(!failures.sign(Place::Forge, at(100)), "nothing failed there");
    assert!(failures.sign(Place::Cloud, at(100)));
    assert_eq!(at_once(&failures), Some(1));
    let after = failed(Stage::Cloud, ErrorClass::Auth);
    failures.transitioned(&name(9), at(100), &creating(), &after, at(101));
    assert!(!failures.sign(Place::Cloud, at(102)), "it was asked a moment ago");
    assert_eq!(only(&failures).until, at(100) + SIGNS, "but no later than then");
    assert!(failures.sign(Place::Cloud, at(111)));
}

#[test]
fn a_hold_that_the_other_side_named_the_end_of_ends_then_and_by_nothing_else() {
    let limited = ErrorClass::RateLimited { until: at(500) };
    let mut failures = failing(Stage::Forge, limited, &[20]);
    assert!(!failures.sign(Place::Forge, at(100)) && !failures.end_hold(at(100)));
    // Another runner came further meanwhile, ordered before.
    goes(&mut failures, 10, creating(), idle());
    assert_eq!(only(&failures).until, at(500));
    assert!(matches!(failures.stance(at(499)), Stance::Held(Place::Forge, _)));
    assert!(matches!(failures.stance(at(500)), Stance::Probe(Place::Forge, _, 1)), "not the crowd");
}

#[test]
fn a_word_that_it_is_mended_ends_all_holds_but_those_with_a_named_end() {
    let mut failures = failing(Stage::Cloud, ErrorClass::Invalid, &[20, 60]);
    let limited = ErrorClass::RateLimited { until: at(500) };
    let after = failed(Stage::Forge, limited);
    failures.transitioned(&name(9), at(70), &creating(), &after, at(70));
    assert!(failures.end_hold(at(80)));
    assert!(!failures.end_hold(at(81)), "there is no such hold any more");
    assert_eq!(failures.hold(Place::Shape).map(|hold| hold.until), Some(at(80)));
    assert_eq!(failures.hold(Place::Forge).map(|hold| hold.until), Some(at(500)));
}

#[test]
fn a_probe_is_a_launch_whose_outcome_will_tell() {
    let suspect = || next(registering(), shows(Vm { status: VmStatus::Stopped, ..vm() }), 91);
    let (order, boot) = (quota(), boot_failed());
    for hold in [only(&order), only(&boot)] {
        assert!(hold.probed_by(&creating(), at(20)));
        assert!(!hold.probed_by(&creating(), at(19)), "it belongs to the failure");
        assert!(!hold.probed_by(&idle(), at(30)) && !hold.probed_by(&draining(), at(30)));
        assert!(hold.probed_by(&suspect(), at(20)), "what its end means is not said yet");
        assert!(!hold.probed_by(&suspect(), at(19)));
    }
    assert!(
        only(&boot).probed_by(&registering(), at(20)) && only(&boot).probed_by(&ordered(), at(20))
    );
    assert!(
        !only(&order).probed_by(&ordered(), at(20)),
        "its order was taken: that was the trouble"
    );
    // One that was on its way before a sign of life may hang where the trouble was.
    let mut back = away();
    assert!(back.sign(Place::Cloud, at(50)));
    assert!(
        !only(&back).probed_by(&creating(), at(49)) && only(&back).probed_by(&creating(), at(50))
    );
}

const POLICY: Policy = Policy { max: 9, replace_at_once: 1, shape: None, retiring: false };

/// A pool without runners whose sides were listed, and these failures.
fn pool_with(failures: Failures) -> Roster {
    let mut roster = Roster::default();
    (roster.cloud_seen, roster.cloud_whole) = (Some(at(90)), true);
    (roster.forge_seen, roster.forge_whole) = (Some(at(90)), true);
    roster.failures = failures;
    roster
}

fn plan(roster: &Roster, doors: &Doors) -> Plan {
    pool::plan(3, roster, &POLICY, doors, at(100))
}

#[test]
fn a_plan_says_what_holds_launches_and_what_ends_that() {
    let limited = ErrorClass::RateLimited { until: at(500) };
    for (stage, class, why) in [
        (
            Stage::Cloud,
            ErrorClass::Invalid,
            "its kind of VM since 08:01:30Z: 1 failed in a row (invalid)",
        ),
        (Stage::Cloud, ErrorClass::Quota, "ends as soon as a VM goes"),
        (Stage::Cloud, ErrorClass::Auth, "ends as soon as it answers again"),
        (Stage::Forge, ErrorClass::Auth, "ends when it is mended"),
        (Stage::Forge, limited, "one tries at 08:08:20Z, ends at the time that was named"),
    ] {
        let held = plan(&pool_with(failing(stage, class, &[90])), &Doors::default());
        assert_eq!(held.create, 0);
        assert!(held.because[0].contains(why), "{:?}", held.because);
        assert!(held.again_at > Some(at(100)));
    }
    let probes = plan(&pool_with(away()), &Doors::default());
    let why = "1 failed in a row by the cloud (transient): 1 at once until one goes well";
    assert_eq!((probes.create, probes.because[0].as_str()), (1, why));
    let mut under_way = pool_with(away());
    under_way.transitioned(&name(1), creating(), at(99));
    assert_eq!(plan(&under_way, &Doors::default()).create, 0, "one finds out");
}

#[test]
fn what_the_doors_do_not_let_through_is_not_made_and_waits_for_its_turn() {
    let pool = pool_with(Failures::default());
    let why = "it takes 80 a minute".to_owned();
    let two = Door { permits: 2, next: Some(at(130)), why, ..Door::open() };
    let few = plan(&pool, &Doors { forge: two.clone(), ..Doors::default() });
    assert_eq!((few.create, few.again_at), (2, Some(at(130))));
    assert_eq!(
        few.because[0],
        "1 launches wait for the forge until 08:02:10Z: it takes 80 a minute"
    );
    let shut = Door::shut(at(120), "it wants a pause");
    let none = plan(&pool, &Doors { forge: two, cloud: shut });
    assert_eq!((none.create, none.again_at), (0, Some(at(120))));
    assert_eq!(none.because.len(), 2);
    assert_eq!(plan(&pool, &Doors::default()).create, 3);
}
