//! The clock's two faces, under a wall that is set back and forth.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use runner_fleet_actors::{
    name::VmId,
    port::{Clock, Time, TokioClock, Vm, VmStatus},
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
