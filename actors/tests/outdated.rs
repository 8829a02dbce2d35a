//! Runners of an image, or with a guest, that their pool no longer has: on real actors and paused time.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use common::{Running, World, on_paused_time, pool_of_shape, shape, start};
use runner_fleet_actors::{event::Phase, fleet::Reload, name::RunnerName, port::Shape};

/// The image `noble`, and what is said of the guest.
fn guest(said: Option<&str>) -> Shape {
    Shape { guest: said.map(str::to_owned), ..shape("noble") }
}

/// A fleet of one pool with four idle runners of this shape.
async fn four_idle(world: &World, of: Shape) -> (Running, Vec<RunnerName>) {
    let running = start(world, vec![pool_of_shape("small", 4, 8, of)]);
    running.until("four idle", |r| r.count(Phase::Idle) == 4).await;
    let old = running.names(Phase::Idle);
    (running, old)
}

async fn reload(running: &Running, to: &Shape) {
    let pools = vec![pool_of_shape("small", 4, 8, to.clone())];
    running.fleet.send(Reload { providers: Default::default(), pools }).await.unwrap();
}

/// One after the other until four idle ones are of the new shape.
async fn are_replaced(running: &Running, old: &[RunnerName], by: &Shape) {
    let digest = by.digest();
    running
        .until("all replaced", |r| {
            assert!(r.count(Phase::Idle) >= 3, "more than one was taken at once");
            r.count(Phase::Idle) == 4
                && r.model.runners.iter().all(|one| one.shape.as_ref() == Some(&digest))
        })
        .await;
    assert!(old.iter().all(|name| !running.model.runners.contains_key(name)));
}

#[test]
fn a_changed_image_replaces_idle_runners_one_at_a_time() {
    on_paused_time(async {
        let world = World::new();
        let (running, old) = four_idle(&world, shape("noble")).await;
        let new = shape("noble-2");
        reload(&running, &new).await;
        are_replaced(&running, &old, &new).await;
        running.stop().await;
    });
}

#[test]
fn a_changed_guest_replaces_idle_runners_one_at_a_time_as_a_changed_image_does() {
    on_paused_time(async {
        let world = World::new();
        let (running, old) = four_idle(&world, guest(Some("1"))).await;
        let new = guest(Some("2"));
        reload(&running, &new).await;
        are_replaced(&running, &old, &new).await;
        running.stop().await;
    });
}

#[test]
fn a_busy_runner_keeps_the_guest_it_has_and_its_job_also_over_a_restart() {
    on_paused_time(async {
        let world = World::new();
        let (running, old) = four_idle(&world, guest(Some("1"))).await;
        let busy = old[0].clone();
        world.take_job(&busy);
        running.until("one busy", |r| r.count(Phase::Busy) == 1).await;
        running.stop().await;
        // The configuration was changed while the daemon was away.
        let new = guest(Some("2"));
        let running = start(&world, vec![pool_of_shape("small", 4, 8, new.clone())]);
        let digest = new.digest();
        running
            .until("the idle ones are replaced", |r| {
                let new = r.model.runners.iter().filter(|one| one.shape.as_ref() == Some(&digest));
                r.count(Phase::Idle) == new.count() && r.count(Phase::Idle) == 3
            })
            .await;
        assert_eq!(running.names(Phase::Busy), std::slice::from_ref(&busy));
        assert!(!world.with(|outside| outside.deletes.contains(&busy)));
        running.stop().await;
    });
}

#[test]
fn runners_from_before_vms_told_of_their_guests_outlive_the_upgrade() {
    on_paused_time(async {
        let world = World::new();
        let (running, old) = four_idle(&world, guest(None)).await;
        running.stop().await;
        let upgraded = start(&world, vec![pool_of_shape("small", 4, 8, guest(Some("1")))]);
        upgraded.until("adopted", |r| r.count(Phase::Idle) == 4).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(upgraded.names(Phase::Idle), old);
        assert_eq!(world.with(|outside| outside.launches.len()), 4);
        upgraded.stop().await;
    });
}
