//! The clock's two faces, under a wall that is set back and forth.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use runner_fleet_actors::{
    name::VmId,
    port::{Clock, ErrorClass, GAP, Grounds, Standing, Time, TokioClock, Vm, VmStatus, grounds},
};

#[tokio::test(start_paused = true)]
async fn a_wall_that_is_set_moves_what_others_compare_and_no_deadline() {
    let wrong: Time = "2020-01-01T00:00:00Z".parse().unwrap();
    let right: Time = "2026-11-28T12:00:00Z".parse().unwrap();
    let wall = Arc::new(Mutex::new(wrong));
    let read = Arc::clone(&wall);
    let clock = TokioClock::with_wall(move || *read.lock().unwrap());
    assert_eq!((clock.now(), clock.wall()), (wrong, wrong));
    let second = Duration::from_secs(1);
    let mut last = clock.now();
    let steps = [right, right - 3600 * second, right + 86_400 * second, wrong, right];
    for (after, set) in (1..).zip(steps) {
        tokio::time::advance(second).await;
        *wall.lock().unwrap() = set;
        assert_eq!(clock.wall(), set, "others are told the time as it is now");
        assert_eq!(clock.now(), wrong + second * after, "the timeline runs, and nothing else");
        assert!(clock.now() > last);
        last = clock.now();
        // A limit that ends in a minute by the outside's clock ends in a minute here.
        assert_eq!(clock.on_timeline(set + 60 * second), clock.now() + 60 * second);
        assert_eq!(clock.on_timeline(set - 60 * second), clock.now() - 60 * second);
        assert_eq!(clock.now() + clock.ahead(), set, "what is written down is by the wall");
    }
    *wall.lock().unwrap() = wrong - 86_400 * second;
    assert_eq!(clock.on_timeline(Time::MAX_UTC), Time::MAX_UTC, "nothing overflows");
}

#[tokio::test(start_paused = true)]
async fn a_vm_is_as_old_as_its_tag_says_also_under_a_clock_that_was_wrong_at_the_start() {
    let right: Time = "2026-11-28T12:00:00Z".parse().unwrap();
    for wrong in ["2020-01-01T00:00:00Z", "2031-01-01T00:00:00Z"] {
        let wall = Arc::new(Mutex::new(wrong.parse().unwrap()));
        let read = Arc::clone(&wall);
        let clock = TokioClock::with_wall(move || *read.lock().unwrap());
        *wall.lock().unwrap() = right;
        let vm = Vm {
            name: "ci--large--000000000001".parse().unwrap(),
            id: VmId("vm-1".to_owned()),
            status: VmStatus::Active,
            created_at: Some(clock.wall() - Duration::from_secs(60)),
            shape: None,
            scope: None,
            address: None,
            task: None,
        };
        let seen = vm.on_timeline(clock.ahead()).created_at.unwrap();
        assert_eq!(clock.now() - seen, chrono::TimeDelta::seconds(60), "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_wall_there_is_one_time() {
    let clock = TokioClock::starting_at("2026-11-28T12:00:00Z".parse().unwrap());
    tokio::time::advance(Duration::from_secs(7)).await;
    assert_eq!(clock.wall(), clock.now());
    assert_eq!(clock.on_timeline(clock.now()), clock.now());
}

/// A clock on a machine that is suspended by hand.
fn on_a_laptop() -> (Arc<Mutex<Duration>>, TokioClock) {
    let asleep = Arc::new(Mutex::new(Duration::from_secs(3600)));
    let read = Arc::clone(&asleep);
    let clock = TokioClock::starting_at("2026-11-28T12:00:00Z".parse().unwrap());
    (asleep, clock.seeing(move || *read.lock().unwrap()))
}

#[tokio::test(start_paused = true)]
async fn the_timeline_runs_on_while_the_machine_is_suspended_and_never_back() {
    let (asleep, clock) = on_a_laptop();
    let began = clock.now();
    *asleep.lock().unwrap() += Duration::from_secs(300);
    assert_eq!(clock.now() - began, chrono::TimeDelta::seconds(300));
    // Two clocks that are read one after the other tremble.
    *asleep.lock().unwrap() -= Duration::from_millis(3);
    assert_eq!(clock.now() - began, chrono::TimeDelta::seconds(300));
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_first_after_a_gap_sees_it_and_nobody_sees_one_in_time_that_a_test_skips() {
    let (asleep, clock) = on_a_laptop();
    let began = clock.awake_since();
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(clock.awake_since(), began);
    *asleep.lock().unwrap() += GAP - Duration::from_secs(5);
    assert_eq!(clock.awake_since(), began, "as a slow call");
    *asleep.lock().unwrap() += GAP + Duration::from_secs(1);
    let awake = clock.awake_since();
    assert_eq!(awake, clock.now());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(clock.awake_since(), awake, "a gap is seen once");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_sent_while_its_grounds_hold_and_a_call_without_any_goes() {
    let (asleep, clock) = on_a_laptop();
    let clock = Arc::new(clock);
    assert_eq!(grounds::check("listing"), Ok(()));
    let since = clock.now();
    let standing = |until: u64| {
        let grounds = Grounds { since, until: since + Duration::from_secs(until) };
        Standing::new(grounds, Arc::clone(&clock) as Arc<dyn Clock>)
    };
    let check = async || grounds::check("deregister runner a");
    assert_eq!(standing(10).under(check()).await, Ok(()));
    tokio::time::advance(Duration::from_secs(10)).await;
    let late = standing(10).under(check()).await.unwrap_err();
    assert!(late.local && late.certain, "{late}");
    assert!(
        matches!(late.class, ErrorClass::RateLimited { until } if until == clock.now()),
        "{late}"
    );
    assert!(late.what.contains("deregister runner a: not sent"), "{late}");
    // A task of its own knows nothing of them, unless it is given them.
    let spawned = async {
        let taken = grounds::current().unwrap();
        let task = tokio::spawn(async move {
            (grounds::check("a"), taken.under(async { grounds::check("b") }).await.is_err())
        });
        task.await.unwrap()
    };
    assert_eq!(standing(10).under(spawned).await, (Ok(()), true));
    *asleep.lock().unwrap() += Duration::from_secs(60);
    let gap = standing(3600).under(check()).await.unwrap_err();
    assert!(gap.what.contains("stood still"), "{gap}");
}
