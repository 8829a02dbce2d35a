//! The real actors on paused time: sides that hang, wait or come back, and how soon a fleet goes on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where its set-up fails")]

use std::{sync::Arc, time::Duration};

use common::{Running, World, fleet_id, on_paused_time, pool, start};
use runner_fleet_actors::{
    event::Phase,
    fleet::Route,
    hands::{Blueprint, Hands, Subject, Terms},
    name::RunnerName,
    pool::actor::Order,
    port::{Clock, Door, ErrorClass, PortError, Secret, Stage, UserData},
    runner::{Answer, Effect, LaunchFailure},
};

#[test]
fn a_listing_that_hangs_is_not_waited_for() {
    on_paused_time(async {
        let world = World::new();
        world.with(|w| w.listings_hang = 1);
        let began = tokio::time::Instant::now();
        let running = start(&world, vec![pool("small", 2, 4)]);
        running.until("two idle", |r| r.count(Phase::Idle) == 2).await;
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        running.stop().await;
    });
}

#[test]
fn nobody_is_made_and_registered_while_the_cloud_takes_no_launches() {
    on_paused_time(async {
        let world = World::new();
        let until = world.clock.now() + Duration::from_secs(60);
        world.with(|w| w.door = Some(Door::shut(until, "it wants a pause")));
        let running = start(&world, vec![pool("small", 2, 4)]);
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(world.with(|w| w.forge.registers), 0);
        let shown = running.model.pools.get(&"small".parse().unwrap()).unwrap().because.clone();
        assert_eq!(shown, ["2 launches wait for the cloud until 00:01:00Z: it wants a pause"]);
        world.with(|w| w.door = None);
        running.until("two idle", |r| r.count(Phase::Idle) == 2).await;
        assert_eq!(world.with(|w| w.forge.registers), 2);
        running.stop().await;
    });
}

#[test]
fn how_long_boots_take_is_known_to_the_next_fleet() {
    on_paused_time(async {
        let world = World::new();
        let running = start(&world, vec![pool("small", 2, 4)]);
        running.until("two idle", |r| r.count(Phase::Idle) == 2).await;
        running.stop().await;
        let known = |running: &Running| {
            let shown = running.model.pools.get(&"small".parse().unwrap());
            shown.and_then(|shown| shown.boots).map(|boots| (boots.boots, boots.median))
        };
        let again = start(&world, vec![pool("small", 2, 4)]);
        again.until("both adopted", |r| r.count(Phase::Idle) == 2).await;
        let (boots, median) = known(&again).unwrap();
        assert_eq!(boots, 2, "those that were found are none");
        assert!(median >= world.boot && median < world.boot * 2, "{median:?}");
        again.stop().await;
    });
}

/// A launch by hand, and how it failed.
async fn launched(world: &World, blueprint: Blueprint) -> LaunchFailure {
    let hands = Arc::new(Hands {
        provider: Arc::new(world.clone()),
        forge: Arc::new(world.clone()),
        guests: Arc::new(world.clone()),
        clock: world.clock.clone(),
        io: tokio::runtime::Handle::current(),
    });
    let name = RunnerName::new(&fleet_id(), &"small".parse().unwrap(), 1);
    let subject = Subject { name, vm: None, registration: None, job: None };
    let terms = Terms { limit: Duration::from_secs(60), grounds: None };
    let answer = hands.perform(Effect::Launch, subject, Arc::new(blueprint), terms).await;
    match answer {
        Some(Answer::LaunchFailed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

fn blueprint() -> Blueprint {
    (*pool("small", 2, 4).configure.blueprint).clone()
}

#[test]
fn a_launch_that_meets_a_shut_door_is_held_back_before_it_is_registered() {
    on_paused_time(async {
        let world = World::new();
        let until = world.clock.now() + Duration::from_secs(60);
        world.with(|w| w.door = Some(Door::shut(until, "it wants a pause")));
        let failure = launched(&world, blueprint()).await;
        assert!(failure.error.local && !failure.registration_possible, "{failure:?}");
        assert_eq!(failure.error.class, ErrorClass::RateLimited { until });
        assert_eq!(world.with(|w| w.forge.registers), 0);
    });
}

/// User data that lacks something.
struct NotYet;

impl UserData for NotYet {
    fn render(&self, _: &RunnerName, _: &Secret) -> Result<Secret, PortError> {
        panic!("nobody was registered")
    }

    fn ready(&self) -> Result<(), PortError> {
        Err(PortError::certain(ErrorClass::Transient, "no application is known yet"))
    }
}

#[test]
fn nobody_is_registered_whose_user_data_lacks_something() {
    on_paused_time(async {
        let world = World::new();
        let blueprint = Blueprint { user_data: Arc::new(NotYet), ..blueprint() };
        let failure = launched(&world, blueprint).await;
        assert_eq!((failure.stage, failure.registration_possible), (Stage::Forge, false));
        assert_eq!(world.with(|w| w.forge.registers), 0);
    });
}

#[test]
fn a_launch_of_one_pool_that_works_ends_what_the_others_wait_for() {
    on_paused_time(async {
        let world = World::new();
        world.with(|w| {
            w.refuse_launches = Some(PortError::certain(ErrorClass::Auth, "401"));
        });
        let running = start(&world, vec![pool("small", 2, 4), pool("large", 2, 4)]);
        let waits = |name: &str, r: &Running| {
            let pool = r.model.pools.get(&name.parse().unwrap());
            let until = pool.and_then(|pool| pool.holds.first().map(|hold| hold.until));
            until.is_some_and(|until| until > world.clock.now() + Duration::from_secs(200))
        };
        running.until("both wait for long", |r| waits("small", r) && waits("large", r)).await;
        world.with(|w| w.refuse_launches = None);
        let mended = tokio::time::Instant::now();
        let order = Route { pool: "small".parse().unwrap(), order: Order::EndHold };
        running.fleet.send(order).await.unwrap().unwrap();
        running.until("all four idle", |r| r.count(Phase::Idle) == 4).await;
        assert!(mended.elapsed() < Duration::from_secs(60), "{:?}", mended.elapsed());
        running.stop().await;
    });
}
