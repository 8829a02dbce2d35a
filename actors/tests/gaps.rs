//! A process that stood still, on real actors and paused time: a machine that is suspended by hand.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{World, on_paused_time, pool, start};
use runner_fleet_actors::{
    event::Phase,
    fleet::Route,
    pool::actor::Order,
    port::{BEAT, Clock, TokioClock},
    runner::Limits,
};

/// A world on a machine that was suspended for as long as is written there.
fn on_a_laptop() -> (World, Arc<Mutex<Duration>>) {
    let world = World::new();
    let asleep: Arc<Mutex<Duration>> = Arc::default();
    let read = Arc::clone(&asleep);
    let clock = TokioClock::starting_at(world.clock.now()).seeing(move || *read.lock().unwrap());
    (World { clock: Arc::new(clock), ..world }, asleep)
}

const MINUTES: Duration = Duration::from_secs(310);

#[test]
fn after_a_gap_both_sides_are_listed_at_once_and_what_is_missing_is_made_once_they_are() {
    on_paused_time(async {
        let (world, asleep) = on_a_laptop();
        let running = start(&world, vec![pool("small", 2, 3)]);
        running.until("two idle", |r| r.count(Phase::Idle) == 2).await;
        // In the midst of the long pause of a fleet at rest.
        tokio::time::sleep(Duration::from_secs(70)).await;
        let listed = || world.with(|outside| outside.forge.lists);
        let (before, launched) = (listed(), world.with(|outside| outside.launches.len()));
        tokio::time::sleep(BEAT * 2).await;
        assert_eq!(listed(), before, "nothing is expected to change");
        let gone = running.names(Phase::Idle)[0].clone();
        *asleep.lock().unwrap() += MINUTES;
        world.finish_job(&gone);
        tokio::time::sleep(BEAT * 3).await;
        assert!(listed() > before, "looked at anew within the beat");
        running
            .until("it is replaced", |r| {
                r.count(Phase::Idle) == 2 && !r.model.runners.contains_key(&gone)
            })
            .await;
        assert_eq!(world.with(|outside| outside.launches.len()), launched + 1);
        running.stop().await;
    });
}

#[test]
fn a_deregistration_that_a_gap_overtakes_is_not_sent_and_its_guest_is_asked_again() {
    on_paused_time(async {
        let (world, asleep) = on_a_laptop();
        let mut reporting = pool("small", 1, 1);
        reporting.configure.limits = Limits { guests_report: true, ..Limits::default() };
        let running = start(&world, vec![reporting]);
        running.until("one idle", |r| r.count(Phase::Idle) == 1).await;
        tokio::time::sleep(Duration::from_secs(61)).await;
        let name = running.names(Phase::Idle)[0].clone();
        let drain = Route { pool: name.pool(), order: Order::Drain(name.clone()) };
        running.fleet.send(drain).await.unwrap().unwrap();
        // The guest has answered, and the call that follows is under way.
        tokio::time::sleep(world.call + world.call / 2).await;
        assert_eq!(world.with(|outside| outside.orders.len()), 1);
        *asleep.lock().unwrap() += MINUTES;
        tokio::time::sleep(world.call).await;
        assert_eq!(world.with(|outside| outside.forge.deregisters), 0);
        running.until("it is gone", |r| !r.model.runners.contains_key(&name)).await;
        let orders = world.with(|outside| outside.orders.clone());
        assert_eq!(orders, ["stand down", "stand down", "end"].map(|word| (name.clone(), word)));
        running.stop().await;
    });
}
