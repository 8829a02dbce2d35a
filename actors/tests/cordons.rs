//! Real actors on paused time: runners that nobody can ask, and what is said of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::time::Duration;

use common::{Running, World, on_paused_time, pool, start};
use runner_fleet_actors::{
    event::{FleetEvent, Phase},
    fleet::Route,
    name::RunnerName,
    pool::actor::Order,
    port::Clock,
};

/// A fleet of one mute runner, idle for a minute.
async fn one_idle(world: &World) -> (Running, RunnerName) {
    let running = start(world, vec![pool("small", 1, 1)]);
    running.until("one idle", |r| r.count(Phase::Idle) == 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let name = running.names(Phase::Idle)[0].clone();
    (running, name)
}

async fn drain(running: &Running, name: &RunnerName) {
    let order = Order::Drain(name.clone());
    running.fleet.send(Route { pool: name.pool(), order }).await.unwrap().unwrap();
}

fn said(world: &World, words: &str) -> bool {
    let says = |event: &FleetEvent| matches!(event, FleetEvent::Fault { error, .. } if error.what.contains(words));
    world.with(|outside| outside.events.iter().any(says))
}

#[test]
fn it_is_cordoned_by_one_call_and_watched_before_it_is_deregistered() {
    on_paused_time(async {
        let world = World { call: Duration::ZERO, ..World::new() };
        let (running, name) = one_idle(&world).await;
        drain(&running, &name).await;
        running.until("its cordon", |_| world.with(|outside| outside.forge.cordons == 1)).await;
        let since = world.clock.now();
        running.until("its end", |_| world.with(|outside| outside.forge.deregisters == 1)).await;
        assert!(world.clock.now() - since >= chrono::TimeDelta::seconds(90));
        assert_eq!(world.with(|outside| outside.forge.cordons), 1);
        running.stop().await;
    });
}

#[test]
fn a_job_that_shows_up_while_it_is_watched_gets_it_back_as_it_was() {
    on_paused_time(async {
        let world = World { call: Duration::ZERO, ..World::new() };
        let (running, name) = one_idle(&world).await;
        drain(&running, &name).await;
        running.until("its cordon", |_| world.with(|outside| outside.forge.cordons == 1)).await;
        world.take_job(&name);
        running.until("it is busy", |r| r.count(Phase::Busy) == 1).await;
        let open = |_: &Running| {
            world.with(|outside| outside.registrations[&name].cordoned == Some(false))
        };
        running.until("jobs may come to it again", open).await;
        assert_eq!(world.with(|outside| outside.forge.deregisters), 0);
        running.stop().await;
    });
}

#[test]
fn where_a_job_came_past_a_cordon_the_next_one_goes_by_idle_time_alone_and_people_are_told() {
    on_paused_time(async {
        let world = World { call: Duration::ZERO, ..World::new() };
        let (running, name) = one_idle(&world).await;
        drain(&running, &name).await;
        running.until("its cordon", |_| world.with(|outside| outside.forge.cordons == 1)).await;
        // Seen by the listing that ends the watch, and by none before.
        tokio::time::sleep(Duration::from_secs(90)).await;
        world.take_job(&name);
        running.until("it is busy", |r| r.count(Phase::Busy) == 1).await;
        assert!(said(&world, "although the forge had been told to give it none"));
        world.finish_job(&name);
        let next = |r: &Running| r.names(Phase::Idle).first().is_some_and(|next| *next != name);
        running.until("its successor", next).await;
        let leaked = running.model.pools.get(&"small".parse().unwrap()).unwrap().habits.leaked;
        assert_eq!(leaked, 1);
        let successor = running.names(Phase::Idle)[0].clone();
        let (idle_since, before) = (world.clock.now(), world.with(|outside| outside.forge));
        drain(&running, &successor).await;
        let gone =
            |_: &Running| world.with(|outside| outside.forge.deregisters > before.deregisters);
        running.until("it is deregistered", gone).await;
        assert!(world.clock.now() - idle_since >= chrono::TimeDelta::seconds(600));
        assert_eq!(world.with(|outside| outside.forge.cordons), before.cordons);
        running.stop().await;
    });
}

#[test]
fn where_the_forge_has_no_such_call_it_goes_by_idle_time_alone_and_people_are_told() {
    on_paused_time(async {
        let world = World { call: Duration::ZERO, ..World::new() };
        world.with(|outside| outside.no_cordons = true);
        let (running, name) = one_idle(&world).await;
        let since = world.clock.now();
        drain(&running, &name).await;
        running.until("its end", |_| world.with(|outside| outside.forge.deregisters == 1)).await;
        assert!(world.clock.now() - since >= chrono::TimeDelta::seconds(500));
        assert_eq!(world.with(|outside| outside.forge.cordons), 1, "asked once, and no more");
        assert!(said(&world, "404"));
        running.stop().await;
    });
}

#[test]
fn one_that_an_earlier_process_left_behind_a_cordon_serves_again() {
    on_paused_time(async {
        let world = World { call: Duration::ZERO, ..World::new() };
        let (running, name) = one_idle(&world).await;
        drain(&running, &name).await;
        running.until("its cordon", |_| world.with(|outside| outside.forge.cordons == 1)).await;
        running.stop().await;
        let running = start(&world, vec![pool("small", 1, 1)]);
        let open = |_: &Running| {
            world.with(|outside| outside.registrations[&name].cordoned == Some(false))
        };
        running.until("jobs may come to it again", open).await;
        assert_eq!(running.names(Phase::Idle), [name]);
        running.stop().await;
    });
}
