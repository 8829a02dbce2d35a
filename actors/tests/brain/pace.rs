//! How often is looked, how soon is tried again, and when a parent gives up.

use std::time::Duration;

use runner_fleet_actors::{
    backoff::{self, Curve},
    demand::Demand,
    event::{Counts, PoolSnapshot},
    port::{ErrorClass, PortError},
    scaler::{self, Target},
    supervision::{Intensity, Restart, decide, forget_old},
    sweep::{
        Cadence, Expectation, Expected, Look, Means, Streak, after_failure, after_look, beside,
        expectation, look, of_cloud, of_forge, pause,
    },
};

use crate::given::{at, seconds};

fn pool(counts: Counts, target: u32) -> PoolSnapshot {
    PoolSnapshot {
        name: "large".parse().unwrap(),
        scope: "octo".parse().unwrap(),
        provider: "lxd".into(),
        min: 0,
        spare: 0,
        max: 9,
        target,
        target_because: String::new(),
        target_override: None,
        demand_unknown: false,
        counts,
        because: vec![],
        holds: Vec::new(),
        boots: None,
        late: 0,
        habits: runner_fleet_actors::pool::Habits::default(),
        cloud_seen_at: Some(at(0)),
        forge_seen_at: Some(at(0)),
        forge_shows_from: None,
        absence_awaited: false,
        retiring: false,
    }
}

#[test]
fn a_change_is_expected_while_runners_come_or_go_or_are_not_as_many_as_wanted() {
    let none = Counts::default;
    let (idle, busy) = (Counts { idle: 2, ..none() }, Counts { busy: 1, idle: 1, ..none() });
    assert_eq!(expectation(&pool(none(), 0)), Expectation::Quiet);
    assert_eq!(expectation(&pool(idle, 2)), Expectation::Quiet);
    assert_eq!(expectation(&pool(busy, 2)), Expectation::Working);
    for (counts, target) in [
        (idle, 3),
        (idle, 1),
        (Counts { creating: 1, ..none() }, 1),
        (Counts { registering: 1, ..none() }, 1),
        (Counts { draining: 1, ..none() }, 0),
        // As many of one as of another.
        (Counts { creating: 1, registering: 1, draining: 0, ..none() }, 2),
        (Counts { creating: 1, registering: 0, draining: 1, ..none() }, 1),
        (Counts { creating: 0, registering: 1, draining: 1, ..none() }, 1),
    ] {
        assert_eq!(expectation(&pool(counts, target)), Expectation::Changing, "{counts:?}");
    }
    let unseen = PoolSnapshot { cloud_seen_at: None, ..pool(idle, 2) };
    assert_eq!(expectation(&unseen), Expectation::Changing);
    let unseen = PoolSnapshot { forge_seen_at: None, ..pool(idle, 2) };
    assert_eq!(expectation(&unseen), Expectation::Changing);
}

const CADENCE: Cadence = Cadence {
    changing: seconds(8),
    working: seconds(20),
    quiet: seconds(60),
    away: seconds(2),
    recent: seconds(4),
    whole: seconds(32),
};

#[test]
fn the_next_look_is_as_soon_as_what_is_expected_and_what_it_may_cost() {
    let after = |expected, means| pause(expected, means, false, &CADENCE);
    assert_eq!(after(Expectation::Changing, Means::Enough), seconds(8));
    assert_eq!(after(Expectation::Working, Means::Enough), seconds(20));
    assert_eq!(after(Expectation::Quiet, Means::Enough), seconds(60));
    assert_eq!(after(Expectation::Changing, Means::Spent), seconds(60));
    assert_eq!(after(Expectation::Working, Means::Spent), seconds(60));
    let fast = Cadence {
        changing: seconds(2),
        working: seconds(5),
        quiet: seconds(15),
        away: Duration::from_millis(500),
        recent: seconds(1),
        whole: seconds(8),
    };
    assert_eq!(CADENCE.faster(4), fast);
    assert_eq!(CADENCE.faster(0), CADENCE, "no factor is none");
}

#[test]
fn a_cloud_that_tells_what_has_changed_is_asked_that_and_listed_every_half_minute() {
    let expected = |by, absence| Expected { by, shows_from: Some(at(0)), absence };
    let next = |by, whole, now| look(expected(by, false), whole, at(now), &CADENCE);
    for moving in [Expectation::Changing, Expectation::Working] {
        assert_eq!(next(moving, None, 0), Look::Whole, "nothing is known yet, or it is in doubt");
        assert_eq!(next(moving, Some(at(0)), 31), Look::Recent);
        assert_eq!(next(moving, Some(at(0)), 32), Look::Whole);
        assert_eq!(pause(moving, Means::Enough, true, &CADENCE), seconds(4));
    }
    assert_eq!(next(Expectation::Quiet, Some(at(0)), 1), Look::Whole);
    let unproven =
        |now| look(expected(Expectation::Changing, true), Some(at(0)), at(now), &CADENCE);
    assert_eq!(unproven(7), Look::Recent);
    assert_eq!(unproven(8), Look::Whole, "that a VM is not there is told by no change");
    assert_eq!(pause(Expectation::Quiet, Means::Enough, true, &CADENCE), seconds(60));
}

#[test]
fn the_forge_is_looked_at_when_it_can_show_what_is_on_its_way() {
    let boots = Counts { creating: 2, ..Counts::default() };
    let pool =
        |from: Option<u64>| PoolSnapshot { forge_shows_from: from.map(at), ..pool(boots, 2) };
    let due = |pools: &[PoolSnapshot]| {
        after_look(of_forge(pools.iter()), Means::Enough, false, &CADENCE, at(0))
    };
    assert_eq!(due(&[pool(Some(0))]), at(8));
    assert_eq!(due(&[pool(Some(30))]), at(30), "nobody was ever online sooner");
    assert_eq!(due(&[pool(Some(30)), pool(Some(20))]), at(20));
    assert_eq!(due(&[pool(Some(900))]), at(60), "and looked at slowly all the same");
    assert_eq!(due(&[pool(None)]), at(60), "others tell of it");
    let pools = [pool(None)];
    let cloud = of_cloud(pools.iter(), at(0));
    assert_eq!(after_look(cloud, Means::Enough, false, &CADENCE, at(0)), at(8));
}

#[test]
fn a_side_that_is_away_is_asked_every_other_second_while_something_is_awaited() {
    let error = PortError::certain(ErrorClass::Transient, "502");
    let again =
        |expectation, failures| after_failure(&error, failures, expectation, &CADENCE, at(0));
    for failures in [1, 9, u32::MAX] {
        assert_eq!(again(Expectation::Changing, failures), at(2));
    }
    for calm in [Expectation::Quiet, Expectation::Working] {
        let (first, last) = (again(calm, 1), again(calm, 9));
        assert!(first >= at(7) && first <= at(9), "{first}");
        assert!(last >= at(52) && last <= at(60), "{last}");
    }
}

#[test]
fn who_is_refused_or_limited_is_not_asked_so_often() {
    let again = |error: &PortError, failures| {
        after_failure(error, failures, Expectation::Changing, &CADENCE, at(0))
    };
    let refused = PortError::certain(ErrorClass::Auth, "401");
    assert!(again(&refused, 9) >= at(52));
    let limited = |until| PortError::certain(ErrorClass::RateLimited { until: at(until) }, "429");
    assert_eq!(again(&limited(1000), 1), at(1000));
    assert_eq!(again(&limited(90_000), 1), at(3600), "anything beyond is a clock that disagrees");
    let here = PortError::held_back(at(5), "left alone");
    assert_eq!(again(&here, 9), at(5), "nobody was asked, so that it is no failure");
    let over = PortError::held_back(at(0), "left alone");
    assert!(again(&over, 1) > at(0));
}

#[test]
fn a_side_is_back_by_its_first_listing_after_a_failure_and_away_it_is_told_of_more_and_more_rarely()
{
    let mut streak = Streak::default();
    assert!(!streak.swept(true), "it was there all the time");
    let told: Vec<u32> = (1..=40)
        .filter(|failures| {
            assert!(!streak.swept(false));
            assert_eq!(streak.failures(), *failures);
            streak.is_worth_a_line()
        })
        .collect();
    assert_eq!(told, [1, 2, 3, 4, 8, 16, 32]);
    assert!(streak.swept(true) && !streak.swept(true));
    assert_eq!(streak.failures(), 0);
}

#[test]
fn another_listing_is_begun_beside_one_that_takes_far_longer_than_usual() {
    assert_eq!(beside(Duration::ZERO, &CADENCE), seconds(3));
    assert_eq!(beside(seconds(1), &CADENCE), seconds(3));
    assert_eq!(beside(seconds(40), &CADENCE), seconds(120));
}

#[test]
fn a_child_that_dies_too_often_is_given_up() {
    let intensity = Intensity::default();
    let deaths = |times: &[u64]| times.iter().map(|time| at(*time)).collect::<Vec<_>>();
    let often = deaths(&[1000, 1001, 1002, 1003, 1004]);
    assert_eq!(decide(&often, at(1005), &intensity), Restart::Escalate);
    assert_eq!(
        decide(&often, at(1600), &intensity),
        Restart::Escalate,
        "ten minutes to the second"
    );
    let Restart::At(again) = decide(&often, at(1601), &intensity) else { panic!("one is too old") };
    assert!(again > at(1601) && again <= at(1601) + intensity.pause.cap);
    assert!(matches!(decide(&often[1..], at(1005), &intensity), Restart::At(_)));
}

#[test]
fn deaths_that_are_too_old_to_count_are_forgotten() {
    let mut deaths = vec![at(0), at(1), at(2)];
    forget_old(&mut deaths, at(601), &Intensity::default());
    assert_eq!(deaths, [at(1), at(2)]);
}

#[test]
fn what_failed_together_does_not_come_back_together() {
    let curve = Curve { base: seconds(80), cap: seconds(800) };
    let delays: Vec<_> = (0..64).map(|seed| backoff::delay(1, seed, curve)).collect();
    let (least, most) = (*delays.iter().min().unwrap(), *delays.iter().max().unwrap());
    // An eighth to either side.
    assert!(least >= seconds(70) && least < seconds(72), "{least:?}");
    assert!(most > seconds(88) && most <= seconds(90), "{most:?}");
    let middle = delays.iter().sum::<Duration>() / 64;
    assert!(middle > seconds(78) && middle < seconds(82), "{middle:?}");
    let distinct: std::collections::BTreeSet<_> = delays.iter().collect();
    assert_eq!(distinct.len(), 64);
}

#[test]
fn an_operators_number_says_where_it_was_capped() {
    let because = |fixed| {
        let shrink_after = seconds(300);
        let policy = scaler::Policy { min: 0, spare: 0, max: 8, shrink_after, fixed: Some(fixed) };
        scaler::target(None, &Target::initial(&policy), &policy, at(0)).because
    };
    assert_eq!(because(8), "set to 8 by an operator");
    assert_eq!(because(9), "set to 9 by an operator, capped at max 8");
    assert_eq!(because(0), "set to 0 by an operator");
}

#[test]
fn a_source_that_falls_silent_holds_no_more_than_is_wanted_already() {
    let shrink_after = seconds(300);
    let policy = scaler::Policy { min: 0, spare: 0, max: 8, shrink_after, fixed: None };
    let last =
        scaler::target(Some(Demand::exact(5, 0, at(0))), &Target::initial(&policy), &policy, at(0));
    let silent = runner_fleet_actors::demand::combine(&[None, Some(Demand::exact(5, 0, at(1)))]);
    let target = scaler::target(silent, &last, &policy, at(1));
    assert_eq!(target.because, "at least 0 running + 5 waiting + 0 spare = 5", "nothing is held");
}
