//! What holds for every input: states reached by arbitrary events, arbitrary rosters, demands, names.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};
use runner_fleet_actors::{
    backoff::{self, Curve},
    demand::{Demand, Sure},
    event::{DrainReason, GuestTimes, Job, JobEnd, Phase},
    invariant::{self, Before},
    name::{FleetId, PoolName, RegistrationId, RunnerName, Scope, VmId},
    pool::{self, Roster, Survey, plan},
    port::{
        Deletion, Doors, ErrorClass, Finding, Listing, PortError, Registration, Stage, StandDown,
        Time, Vm, VmStatus,
    },
    runner::{
        Answer, Effect, Event, LaunchFailure, Limits, Observation, Report, Sighting, State, adopt,
    },
    scaler::{self, Target},
};

use crate::given::at;

fn runner(token: u64) -> RunnerName {
    RunnerName::new(&"ci".parse().unwrap(), &pool_name(), token)
}

fn pool_name() -> PoolName {
    "linux".parse().unwrap()
}

fn class() -> impl Strategy<Value = ErrorClass> {
    prop_oneof![
        Just(ErrorClass::NotFound),
        Just(ErrorClass::Busy),
        Just(ErrorClass::Quota),
        Just(ErrorClass::NoCapacity),
        (0..100_000_u64).prop_map(|s| ErrorClass::RateLimited { until: at(s) }),
        Just(ErrorClass::Auth),
        Just(ErrorClass::Transient),
        Just(ErrorClass::Invalid),
    ]
}

fn error() -> impl Strategy<Value = PortError> {
    class().prop_map(|class| PortError::certain(class, "it failed"))
}

fn vm() -> impl Strategy<Value = Vm> {
    let status = prop_oneof![
        Just(VmStatus::Building),
        Just(VmStatus::Active),
        Just(VmStatus::Stopped),
        Just(VmStatus::Deleting),
        class().prop_map(|class| VmStatus::Error { class, fault: "fault".into() }),
        Just(VmStatus::Unknown { word: "RESCUE".into() }),
    ];
    (status, proptest::option::of(0..100_000_u64)).prop_map(|(status, created)| Vm {
        name: runner(1),
        id: VmId("vm".into()),
        status,
        created_at: created.map(at),
        shape: None,
        scope: None,
        address: None,
        task: None,
    })
}

fn registration() -> impl Strategy<Value = Registration> {
    (any::<bool>(), any::<Option<bool>>()).prop_map(|(online, busy)| Registration {
        name: runner(1),
        id: RegistrationId(7),
        online,
        busy,
        cordoned: None,
    })
}

fn sighting<T: Clone + std::fmt::Debug + 'static>(
    of: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Sighting<T>> {
    prop_oneof![Just(Sighting::Absent), Just(Sighting::Unknown), of.prop_map(Sighting::Seen)]
}

fn finding() -> impl Strategy<Value = Finding> {
    (proptest::option::of(registration()), any::<Option<bool>>())
        .prop_map(|(registration, at_work)| Finding { registration, at_work })
}

fn active() -> Vm {
    Vm {
        name: runner(1),
        id: VmId("vm".into()),
        status: VmStatus::Active,
        created_at: None,
        shape: None,
        scope: None,
        address: None,
        task: None,
    }
}

fn answer() -> impl Strategy<Value = Answer> {
    let failure = (error(), any::<bool>(), any::<bool>()).prop_map(|(error, vm, registration)| {
        Answer::LaunchFailed(LaunchFailure {
            stage: if vm { Stage::Cloud } else { Stage::Forge },
            error,
            vm_possible: vm,
            registration_possible: registration,
            registration: registration.then_some(RegistrationId(7)),
        })
    });
    let stand_down = prop_oneof![Just(StandDown::StandingDown), Just(StandDown::Busy)];
    let deletion = prop_oneof![Just(Deletion::Accepted), Just(Deletion::Gone)];
    prop_oneof![
        Just(Answer::Launched { vm: VmId("vm".into()), registration: RegistrationId(7) }),
        failure,
        proptest::result::maybe_err(stand_down, error()).prop_map(Answer::StoodDown),
        proptest::result::maybe_err(Just(()), error()).prop_map(Answer::Deregistered),
        proptest::result::maybe_err(deletion, error()).prop_map(Answer::VmDeleted),
        proptest::result::maybe_err(finding(), error()).prop_map(Answer::LookedUp),
    ]
}

fn report() -> impl Strategy<Value = Report> {
    prop_oneof![
        Just(Report::Booted),
        Just(Report::RunnerStarted),
        Just(Report::JobStarted(Job::default())),
        Just(Report::JobCompleted(JobEnd::default())),
        Just(Report::Stopped(JobEnd::default())),
        Just(Report::Version("2.330.0".into())),
    ]
}

/// The number in a word of the forge: none, its own, or somebody else's.
fn number() -> impl Strategy<Value = Option<RegistrationId>> {
    proptest::option::of(prop_oneof![Just(RegistrationId(7)), Just(RegistrationId(999_999))])
}

fn event() -> impl Strategy<Value = Event> {
    let observed = (sighting(vm()), sighting(registration()), 0..100_000_u64).prop_map(
        |(vm, registration, s)| {
            Event::Observed(Observation {
                vm,
                registration,
                vm_as_of: at(s),
                registration_as_of: at(s),
            })
        },
    );
    prop_oneof![
        3 => Just(Event::Tick),
        6 => observed,
        6 => answer().prop_map(Event::Answered),
        3 => report().prop_map(|report| Event::Guest(report, GuestTimes::default())),
        1 => number().prop_map(|registration| Event::JobStarted { job: Job::default(), registration }),
        1 => number().prop_map(|registration| {
            Event::JobCompleted { end: JobEnd::default(), registration }
        }),
        2 => Just(Event::Drain(DrainReason::Shrink)),
        1 => Just(Event::Force),
        1 => (0..100_000_u64).prop_map(|s| Event::Woke(at(s))),
        1 => (prop_oneof![Just("vm"), Just("another")], 0..100_000_u64)
            .prop_map(|(id, s)| Event::VmEnded { vm: VmId(id.into()), as_of: at(s) }),
    ]
}

/// Events with the seconds that pass before each.
fn life() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let pause = prop_oneof![0..5_u64, 5..90_u64, 90..4000_u64];
    vec((pause, event()), 0..40)
}

fn sure() -> impl Strategy<Value = Sure> {
    prop_oneof![Just(Sure::Exact), Just(Sure::AtLeast), Just(Sure::Silent)]
}

fn start() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::start(at(0), &Limits::default()).0),
        (proptest::option::of(vm()), proptest::option::of(registration()))
            .prop_map(|(vm, registration)| adopt(vm, registration, at(0))),
    ]
}

/// Fewer where a mutant is judged: what bites does so early.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_every_step_keeps_the_invariants(
        state in start(), life in life(), guests_report: bool,
    ) {
        let limits = Limits { guests_report, ..Limits::default() };
        let (mut state, mut now) = (state, 0);
        for (pause, event) in life {
            now += pause;
            let before = Before::of(&state, &event, at(now));
            let busy = state.phase() == Phase::Busy;
            let drain = matches!(event, Event::Drain(_));
            let (next, effects) = state.next(event, at(now), &limits);
            let broken = before.judge(&next, &effects, &limits, at(now));
            prop_assert!(broken.is_empty(), "{broken:?}");
            prop_assert!(!(busy && drain) || next.phase() == Phase::Busy, "a wish drained a busy one");
            state = next;
        }
    }

    #[test]
    fn a_listing_that_is_not_newer_than_the_last_is_none(
        state in start(), life in life(), vm in sighting(vm()), registration in sighting(registration()),
        older in 0..2_u64,
    ) {
        let limits = Limits::default();
        let (mut state, mut now) = (state, 0);
        for (pause, event) in life {
            now += pause;
            state = state.next(event, at(now), &limits).0;
        }
        let known = state.known().cloned().unwrap_or_default();
        if let (Some(cloud), Some(forge)) = (known.vm_heard, known.registration_heard) {
            let before = |heard: Time| heard - Duration::from_secs(older);
            let told = |vm, registration| Event::Observed(Observation {
                vm,
                registration,
                vm_as_of: before(cloud),
                registration_as_of: before(forge),
            });
            let silence = state.clone().next(told(Sighting::Unknown, Sighting::Unknown), at(now), &limits);
            prop_assert_eq!(state.next(told(vm, registration), at(now), &limits), silence);
        }
    }

    #[test]
    fn a_word_about_another_runner_changes_nothing(state in start(), life in life(), begins: bool) {
        let limits = Limits::default();
        let (mut state, mut now) = (state, 0);
        for (pause, event) in life {
            now += pause;
            state = state.next(event, at(now), &limits).0;
        }
        let ours = state.known().and_then(|known| known.registration);
        if ours.is_some() {
            let registration = Some(RegistrationId(999_999));
            let word = if begins {
                Event::JobStarted { job: Job::default(), registration }
            } else {
                Event::JobCompleted { end: JobEnd::default(), registration }
            };
            prop_assert_eq!(state.clone().next(word, at(now), &limits), (state, vec![]));
        }
    }

    #[test]
    fn a_busy_runner_ends_by_no_listing_that_only_lacks_it(
        gaps in vec(1..400_u64, 1..30), cloud_lacks_it: bool, answers in vec(0..3_u8, 1..30),
    ) {
        // Nobody tells of an end, and every look-up that is answered finds it at work.
        let limits = Limits::default();
        let online = Registration { name: runner(1), id: RegistrationId(7), online: true, busy: Some(false), cordoned: None };
        let word = Event::JobStarted { job: Job::default(), registration: Some(RegistrationId(7)) };
        let mut state = adopt(Some(active()), Some(online.clone()), at(0)).next(word, at(1), &limits).0;
        let (mut now, mut answers) = (1, answers.into_iter().cycle());
        for gap in gaps {
            now += gap.min(300);
            let vm = if cloud_lacks_it { Sighting::Absent } else { Sighting::Seen(active()) };
            let observed = Event::Observed(Observation {
                vm,
                registration: Sighting::Absent,
                vm_as_of: at(now),
                registration_as_of: at(now),
            });
            for event in [Event::Tick, observed] {
                let heard = state.known().and_then(|known| known.doubt).map(|doubt| doubt.heard);
                let in_vain = heard.is_some_and(|heard| at(now) >= heard + limits.ask);
                let (after, effects) = state.next(event, at(now), &limits);
                state = after;
                if state.phase() != Phase::Busy {
                    prop_assert!(cloud_lacks_it && in_vain, "{state:?}");
                    return Ok(());
                }
                if effects.contains(&Effect::LookUp) && answers.next() != Some(0) {
                    let registration = Some(Registration { busy: Some(true), ..online.clone() });
                    let found = Finding { registration, at_work: None };
                    let answer = Event::Answered(Answer::LookedUp(Ok(found)));
                    state = state.next(answer, at(now), &limits).0;
                    prop_assert_eq!(state.phase(), Phase::Busy);
                }
            }
        }
    }

    #[test]
    fn a_tick_before_the_deadline_changes_nothing(state in start(), life in life()) {
        let limits = Limits::default();
        let (mut state, mut now) = (state, 0);
        for (pause, event) in life {
            now += pause;
            state = state.next(event, at(now), &limits).0;
            if state.deadline(&limits).is_none_or(|deadline| deadline > at(now)) {
                let (after, effects) = state.clone().next(Event::Tick, at(now), &limits);
                prop_assert_eq!(&after, &state);
                prop_assert!(effects.is_empty());
            }
        }
    }

    #[test]
    fn ticks_alone_end_every_life_that_nothing_answers(state in start(), life in life()) {
        let limits = Limits::default();
        let (mut state, mut now) = (state, at(0));
        for (pause, event) in life {
            now += Duration::from_secs(pause);
            state = state.next(event, now, &limits).0;
        }
        // The shell answers nothing any more; still time must pass between ticks.
        let mut moments = 0;
        for _ in 0..200 {
            let Some(deadline) = state.deadline(&limits) else { break };
            moments += u32::from(deadline > now);
            now = now.max(deadline);
            state = state.next(Event::Tick, now, &limits).0;
        }
        prop_assert!(state.phase() == Phase::Deleted || moments >= 40, "{moments}: {state:?}");
    }

    #[test]
    fn planning_a_planned_world_changes_nothing_and_stays_within_bounds(
        lives in vec((start(), life()), 0..12),
        target in 0..20_u32,
        max in 0..16_u32,
        retiring: bool,
        outdated: bool,
    ) {
        let (limits, now) = (Limits::default(), at(200_000));
        let mut roster = seen_whole(now);
        for (token, (mut state, life)) in (1..).zip(lives) {
            let mut passed = 0;
            for (pause, event) in life {
                passed += pause;
                state = state.next(event, at(passed), &limits).0;
                roster.transitioned(&runner(token), state.clone(), at(passed));
            }
        }
        let shape = outdated.then(|| "new".to_owned());
        let policy = pool::Policy { max, replace_at_once: 1, shape, retiring };
        let first = plan(target, &roster, &policy, &Doors::default(), now);
        prop_assert_eq!(invariant::plan(&first, &roster, &policy), vec![]);
        for token in 0..u64::from(first.create) {
            let (state, _) = State::start(now, &limits);
            roster.transitioned(&runner(1000 + token), state, now);
        }
        for (name, reason) in &first.drain {
            let state = roster.get(name).unwrap().state.clone();
            let (state, _) = state.next(Event::Drain(reason.clone()), now, &limits);
            // One whose launch is on its way goes once that is answered.
            let goes = matches!(&state, State::Draining { .. } | State::Creating { wish: Some(_), .. });
            prop_assert!(goes, "{:?}", state);
            roster.asked(name, now);
            roster.transitioned(name, state, now);
        }
        let again = plan(target, &roster, &policy, &Doors::default(), now);
        prop_assert_eq!((again.create, again.drain), (0, vec![]));
    }

    #[test]
    fn a_target_is_within_its_bounds_and_unknown_demand_holds_it(
        (min, spare, max) in (0..30_u32, 0..10_u32, 0..30_u32),
        fixed in proptest::option::of(0..40_u32),
        demands in vec(
            (proptest::option::of((0..50_u32, 0..50_u32, sure())), 0..900_u64), 1..20
        ),
        live in 0..60_u32,
    ) {
        let shrink_after = Duration::from_secs(300);
        let policy = scaler::Policy { min: min.min(max), spare, max, shrink_after, fixed };
        let (mut last, mut now) = (Target::initial(&policy), 0);
        for (demand, pause) in demands {
            now += pause;
            let demand = demand.map(|(waiting, running, sure)| Demand {
                waiting,
                running,
                as_of: at(now),
                sure,
            });
            let sure = demand.map(|demand| demand.sure);
            let known = sure == Some(Sure::Exact);
            let new = scaler::target(demand, &last, &policy, at(now));
            prop_assert!(new.runners <= policy.max);
            prop_assert!(fixed.is_some() || new.runners >= policy.min);
            prop_assert_eq!(invariant::target(sure, &last, &new, &policy), None);
            if !known && fixed.is_none() {
                prop_assert!(new.over(live) >= live, "unknown demand shrinks nothing");
            } else {
                // Nobody is made toward what is only kept, and nobody who is kept is drained.
                prop_assert_eq!(new.over(live), live.clamp(new.runners, new.keep));
            }
            last = new;
        }
    }

    #[test]
    fn backoff_grows_up_to_its_cap_and_replays(attempt in 0..64_u32, seed: u64) {
        let curve = Curve { base: Duration::from_secs(2), cap: Duration::from_secs(60) };
        let delay = |attempt| backoff::delay(attempt, seed, curve);
        prop_assert_eq!(delay(attempt), delay(attempt));
        prop_assert!(delay(attempt) <= curve.cap);
        prop_assert!(delay(attempt) >= curve.base.mul_f64(0.87));
        // The spread is an eighth to either side: two more attempts always outweigh it.
        prop_assert!(delay(attempt + 2) >= delay(attempt) || delay(attempt + 2) >= curve.cap.mul_f64(0.87));
    }

    #[test]
    fn names_round_trip_and_no_fleet_claims_anothers(
        fleet in "[a-z0-9]{1,5}(-[a-z0-9]{1,4}){0,2}",
        other in "[a-z0-9]{1,5}(-[a-z0-9]{1,4}){0,2}",
        pool in "[a-z0-9]{1,9}(-[a-z0-9]{1,9}){0,2}",
        token: u64,
    ) {
        let (fleet, other): (FleetId, FleetId) = (fleet.parse().unwrap(), other.parse().unwrap());
        let pool: PoolName = pool.parse().unwrap();
        let name = RunnerName::new(&fleet, &pool, token);
        prop_assert!(name.as_str().len() <= 63);
        prop_assert_eq!(name.as_str().parse::<RunnerName>().unwrap(), name.clone());
        prop_assert_eq!(name.pool(), pool);
        prop_assert!(name.is_of(&fleet));
        prop_assert_eq!(name.is_of(&other), fleet == other);
    }

    #[test]
    fn no_text_panics_as_a_name(text in ".{0,70}") {
        if let Ok(name) = text.parse::<RunnerName>() {
            prop_assert_eq!(name.as_str(), text.as_str());
        }
        if let Ok(scope) = text.parse::<Scope>() {
            prop_assert_eq!(scope.to_string(), text);
        }
    }
}

/// A roster whose sides were both listed whole, and empty, a moment ago.
fn seen_whole(now: Time) -> Roster {
    let mut roster = Roster::default();
    let survey = Survey {
        vms: Some(std::sync::Arc::new(Listing {
            entries: vec![],
            complete: true,
            as_of: now,
            faults: vec![],
        })),
        registrations: Some(std::sync::Arc::new(Listing {
            entries: vec![],
            complete: true,
            as_of: now,
            faults: vec![],
        })),
        ..Survey::default()
    };
    roster.survey(&pool_name(), &survey, now);
    roster
}
