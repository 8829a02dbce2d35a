//! What a launch need not ask for: names that nobody can have asked for, and what was asked beforehand.

use std::{sync::Arc, time::Duration};

use runner_fleet::provider::openstack::{OpenStack, OpenStackConfig};
use runner_fleet_actors::port::{LaunchOrder, Provider};

use crate::support::provider::world::*;

fn fresh(token: u64) -> LaunchOrder {
    LaunchOrder { fresh: true, ..order(token) }
}

/// How often images, flavors and networks were asked for.
fn asked(world: &World) -> [u64; 3] {
    let calls = world.cloud.stats().calls;
    ["images", "flavors", "networks"].map(|kind| {
        let of_kind = calls.iter().filter(|(call, _)| call.contains(kind));
        of_kind.map(|(_, count)| count).sum()
    })
}

#[tokio::test]
async fn a_name_that_was_just_drawn_is_not_looked_up_unless_its_answer_is_lost() {
    let world = World::new().await;
    let id = world.provider.launch(fresh(1)).await.unwrap();
    assert_eq!((world.calls(LIST), world.calls(CREATE)), (0, 1));
    let again = world.provider.launch(order(1)).await.unwrap();
    assert_eq!((again, world.calls(LIST), world.calls(CREATE)), (id, 1, 1));

    world.cloud.faults().lose_create_answers(1, None);
    world.provider.launch(fresh(2)).await.expect("it is there, and found by its name");
    assert_eq!((world.cloud.stats().creates, world.calls(LIST)), (2, 2));
}

#[tokio::test]
async fn what_the_pools_name_is_known_before_the_first_launch() {
    let mut world = World::new().await;
    let shapes = vec![order(1).shape];
    let config = OpenStackConfig { shapes, ..config(&world.cloud) };
    let provider = OpenStack::connect(config, world.clock.clone()).await.unwrap();
    world.provider = Arc::new(provider);
    let all = |cloud: &runner_fleet::fake::openstack::FakeOpenstack| {
        let calls = cloud.stats().calls;
        ["images", "flavors", "networks"]
            .iter()
            .all(|kind| calls.keys().any(|call| call.contains(kind)))
    };
    world.until("all is asked for in the background", all).await;
    world.provider.launch(fresh(1)).await.unwrap();
    assert_eq!(asked(&world), [1, 1, 1], "nothing was asked twice");
}

#[tokio::test]
async fn what_is_remembered_for_a_while_is_used_and_asked_for_behind_the_launch() {
    let world = World::new().await;
    world.launch(1).await.unwrap();
    world.launch(2).await.unwrap();
    assert_eq!(asked(&world), [1, 1, 1]);
    world.clock.advance(Duration::from_secs(6 * 60));
    world.launch(3).await.unwrap();
    world.until("each is asked for again", |_| asked(&world) == [2, 2, 2]).await;
    world.clock.advance(Duration::from_secs(2 * 3600));
    world.launch(4).await.unwrap();
    assert_eq!(asked(&world), [3, 3, 3], "what is too old is not used");
}

#[tokio::test]
async fn what_cannot_be_asked_for_at_the_start_is_asked_for_by_the_first_launch() {
    let world = World::new().await;
    world.cloud.faults().outage(true);
    let shapes = vec![order(1).shape];
    let config = OpenStackConfig { shapes, ..config(&world.cloud) };
    let provider = OpenStack::connect(config, world.clock.clone()).await.unwrap();
    world.until("it is tried", |cloud| !cloud.stats().calls.is_empty()).await;
    world.cloud.faults().outage(false);
    provider.launch(fresh(1)).await.unwrap();
}
