//! What guests and clouds tell by themselves, on real actors and paused time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::time::Duration;

use common::{Running, World, on_paused_time, pool, start};
use runner_fleet_actors::{
    event::{DrainReason, FleetEvent, GuestTimes, Job, JobEnd, Phase},
    fleet::{Reload, Route},
    name::RunnerName,
    pool::actor::Order,
    port::{Change, Clock, VmStatus},
    runner::{Event, Limits, Report},
};
use tokio::sync::broadcast;

/// Less than any listing or timer takes.
const AT_ONCE: Duration = Duration::from_millis(1);

fn that_pushes() -> (World, broadcast::Sender<Change>) {
    let world = World { call: Duration::ZERO, ..World::new() };
    let (changes, _) = broadcast::channel(16);
    world.with(|outside| outside.changes = Some(changes.clone()));
    (world, changes)
}

fn off(world: &World, name: &RunnerName) -> Change {
    Change { name: name.clone(), status: VmStatus::Stopped, as_of: world.clock.now() }
}

async fn tells(running: &Running, name: &RunnerName, report: Report) {
    let times = GuestTimes { booted: Some(Duration::from_secs(3)), ..GuestTimes::default() };
    let event = Box::new(Event::Guest(report, times));
    let order = Order::Tell(name.clone(), event);
    running.fleet.send(Route { pool: name.pool(), order }).await.unwrap().unwrap();
    tokio::time::sleep(AT_ONCE).await;
}

fn launches(world: &World) -> usize {
    world.with(|outside| outside.launches.len())
}

/// A pool of one runner, which has begun a job.
async fn one_busy(world: &World, max: u32) -> (Running, RunnerName) {
    let running = start(world, vec![pool("small", 1, max)]);
    running.until("one idle", |r| r.count(Phase::Idle) == 1).await;
    let name = running.names(Phase::Idle)[0].clone();
    // Between two listings, so that none of them can be what made the difference.
    tokio::time::sleep(Duration::from_millis(700)).await;
    tells(&running, &name, Report::JobStarted(Job::default())).await;
    assert_eq!(running.count(Phase::Busy), 1, "a report makes it busy at once");
    (running, name)
}

#[test]
fn a_runner_whose_vm_the_cloud_tells_off_is_replaced_at_once() {
    on_paused_time(async {
        let (world, _changes) = that_pushes();
        let (running, name) = one_busy(&world, 1).await;
        world.vanish(&name);
        tokio::time::sleep(AT_ONCE).await;
        assert_eq!(
            launches(&world),
            2,
            "its place is free, although the pool may have one VM only"
        );
        running.until("no trace", |r| !r.model.runners.contains_key(&name)).await;
        running.stop().await;
    });
}

#[test]
fn what_a_cloud_tells_of_others_is_ignored() {
    on_paused_time(async {
        let (world, changes) = that_pushes();
        let (running, name) = one_busy(&world, 1).await;
        for other in
            ["ci--small--aaaaaaaaaaaa", "ci--large--aaaaaaaaaaaa", "ex--small--aaaaaaaaaaaa"]
        {
            changes.send(off(&world, &other.parse().unwrap())).unwrap();
        }
        tokio::time::sleep(AT_ONCE).await;
        assert_eq!(running.names(Phase::Busy), [name]);
        assert_eq!((running.model.runners.len(), launches(&world)), (1, 1));
        running.stop().await;
    });
}

#[test]
fn a_stream_that_ends_is_asked_for_again_and_what_was_missed_is_listed() {
    on_paused_time(async {
        let (world, changes) = that_pushes();
        let (running, name) = one_busy(&world, 1).await;
        // The provider is renewed in place; what happens meanwhile is told to nobody.
        let (renewed, _) = broadcast::channel(16);
        world.with(|outside| outside.changes = None);
        world.vanish(&name);
        world.with(|outside| outside.changes = Some(renewed));
        drop(changes);
        running.until("a replacement", |_| launches(&world) == 2).await;
        running.until("one idle", |r| r.count(Phase::Idle) == 1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let next = running.names(Phase::Idle)[0].clone();
        world.vanish(&next);
        tokio::time::sleep(AT_ONCE).await;
        assert_eq!(launches(&world), 3, "the new stream is heard");
        running.stop().await;
    });
}

#[test]
fn a_provider_that_is_renewed_by_a_reload_is_heard_anew() {
    on_paused_time(async {
        let world = World { call: Duration::ZERO, ..World::new() };
        let (running, name) = one_busy(&world, 1).await;
        // The new credentials are for a cloud that tells; nothing of the old one has ended.
        let (changes, _) = broadcast::channel(16);
        world.with(|outside| outside.changes = Some(changes));
        let reload = Reload { providers: [].into(), pools: vec![pool("small", 1, 1)] };
        running.fleet.send(reload).await.unwrap();
        tokio::time::sleep(AT_ONCE).await;
        world.vanish(&name);
        tokio::time::sleep(AT_ONCE).await;
        assert_eq!(launches(&world), 2);
        running.stop().await;
    });
}

#[test]
fn a_finished_runner_is_replaced_while_its_vm_still_powers_off() {
    on_paused_time(async {
        let world = World { call: Duration::ZERO, ..World::new() };
        let (running, name) = one_busy(&world, 2).await;
        tells(&running, &name, Report::JobCompleted(JobEnd::default())).await;
        assert_eq!(launches(&world), 2);
        let status = world.with(|outside| outside.vms[&name].status.clone());
        assert_eq!(status, VmStatus::Active, "its VM is on its way out");
        assert!(world.with(|outside| outside.deletes.is_empty()));
        running.stop().await;
    });
}

#[test]
fn at_max_a_finished_runner_is_replaced_once_its_vm_is_gone() {
    on_paused_time(async {
        let world = World { call: Duration::ZERO, ..World::new() };
        let (running, name) = one_busy(&world, 1).await;
        tells(&running, &name, Report::JobCompleted(JobEnd::default())).await;
        assert_eq!(launches(&world), 1, "max counts the VM that powers off");
        tells(&running, &name, Report::Stopped(JobEnd::default())).await;
        running.until("a replacement", |_| launches(&world) == 2).await;
        assert!(!world.with(|outside| outside.vms.contains_key(&name)));
        running.stop().await;
    });
}

#[test]
fn a_guest_that_stands_down_is_told_to_end_once_its_registration_is_gone() {
    on_paused_time(async {
        let (world, _changes) = that_pushes();
        let mut reporting = pool("small", 1, 1);
        reporting.configure.limits = Limits { guests_report: true, ..Limits::default() };
        let running = start(&world, vec![reporting]);
        running.until("one idle", |r| r.count(Phase::Idle) == 1).await;
        let name = running.names(Phase::Idle)[0].clone();
        let order = Order::Drain(name.clone());
        running.fleet.send(Route { pool: name.pool(), order }).await.unwrap().unwrap();
        tokio::time::sleep(AT_ONCE).await;
        let orders = world.with(|outside| outside.orders.clone());
        assert_eq!(orders, [(name.clone(), "stand down"), (name.clone(), "end")]);
        assert_eq!(world.with(|outside| outside.forge.deregisters), 1);
        assert_eq!(launches(&world), 2, "it ends by itself, and its place is free at once");
        running.stop().await;
    });
}

#[test]
fn that_the_vm_is_gone_is_told_once_and_not_when_its_registration_is() {
    on_paused_time(async {
        let (world, changes) = that_pushes();
        let running = start(&world, vec![pool("small", 1, 1)]);
        running.until("one idle", |r| r.count(Phase::Idle) == 1).await;
        let name = running.names(Phase::Idle)[0].clone();
        world.take_job(&name);
        running.until("one busy", |r| r.count(Phase::Busy) == 1).await;
        // Its registration stays behind, as that of every runner whose VM goes under it.
        world.with(|outside| {
            outside.vms.remove(&name);
            outside.registrations.get_mut(&name).unwrap().busy = Some(false);
        });
        let went = world.clock.now();
        changes.send(off(&world, &name)).unwrap();
        running.until("nothing is left", |r| !r.model.runners.contains_key(&name)).await;
        let (gone, deleted) = world.with(|outside| {
            let of_it = |event: &FleetEvent| match event {
                FleetEvent::VmGone { at, runner, .. } if *runner == name => Some((true, *at)),
                FleetEvent::Transition { at, transition }
                    if transition.runner == name && transition.to == Phase::Deleted =>
                {
                    Some((false, *at))
                }
                _ => None,
            };
            let told: Vec<_> = outside.events.iter().filter_map(of_it).collect();
            let [(true, gone), (false, deleted)] = told.as_slice() else { panic!("{told:?}") };
            (*gone, *deleted)
        });
        assert!(gone - went < chrono::TimeDelta::seconds(1), "{gone} after {went}");
        assert!(deleted - gone > chrono::TimeDelta::seconds(100), "{deleted} after {gone}");
        running.stop().await;
    });
}

#[test]
fn a_guests_failure_reaches_the_person_with_its_exit_code() {
    on_paused_time(async {
        let world = World { call: Duration::ZERO, ..World::new() };
        let running = start(&world, vec![pool("small", 1, 1)]);
        running.until("one idle", |r| r.count(Phase::Idle) == 1).await;
        let name = running.names(Phase::Idle)[0].clone();
        let end = JobEnd { exit_code: Some(7), conclusion: None };
        tells(&running, &name, Report::Stopped(end)).await;
        let said = world.with(|outside| {
            outside.events.iter().any(|event| match event {
                FleetEvent::Fault { runner, error, .. } => {
                    runner.as_ref() == Some(&name) && error.what.contains("exit code 7")
                }
                _ => false,
            })
        });
        assert!(said, "nobody was told");
        let told = world.with(|outside| {
            outside.events.iter().find_map(|event| match event {
                FleetEvent::Transition { transition, .. }
                    if transition.to == Phase::Draining && transition.runner == name =>
                {
                    Some((transition.reason.clone(), transition.times))
                }
                _ => None,
            })
        });
        let (reason, times) = told.unwrap();
        assert_eq!(reason, Some(DrainReason::BootFailed));
        assert_eq!(times.booted, Some(Duration::from_secs(3)), "what the guest has counted");
        running.stop().await;
    });
}

#[test]
fn an_image_that_never_comes_online_is_tried_a_few_times_an_hour() {
    on_paused_time(async {
        let world = World { boot: Duration::from_secs(1_000_000), ..World::new() };
        let running = start(&world, vec![pool("small", 5, 10)]);
        // Each VM is off half a minute after it was asked for; its registration stays.
        for _ in 0..4 * 120 {
            tokio::time::sleep(Duration::from_secs(30)).await;
            world.with(|outside| {
                for vm in outside.vms.values_mut() {
                    vm.status = VmStatus::Stopped;
                }
            });
        }
        let tried = launches(&world);
        assert!((10..50).contains(&tried), "{tried} launches in four hours");
        let pool = running.model.pools.get(&"small".parse().unwrap()).unwrap().clone();
        let [hold] = pool.holds.as_slice() else { panic!("{pool:?}") };
        assert!(hold.failures > 5 && hold.error.what.contains("ever online"), "{hold:?}");
        running.stop().await;
    });
}

#[test]
fn runners_of_a_pool_that_left_are_asked_where_other_guests_of_the_fleet_report() {
    on_paused_time(async {
        let world = World::new();
        let mut stays = pool("small", 1, 1);
        stays.configure.limits = Limits { guests_report: true, ..Limits::default() };
        let mut leaves = pool("gone", 1, 1);
        leaves.configure.limits = stays.configure.limits.clone();
        let running = start(&world, vec![stays.clone(), leaves]);
        running.until("two idle", |r| r.count(Phase::Idle) == 2).await;
        let left = running.names(Phase::Idle)[0].clone();
        assert_eq!(left.pool().as_str(), "gone");
        running.stop().await;
        let running = start(&world, vec![stays]);
        let is_gone = |_: &Running| world.with(|outside| !outside.vms.contains_key(&left));
        running.until("the pool that left is empty", is_gone).await;
        let orders = world.with(|outside| outside.orders.clone());
        assert_eq!(orders.first(), Some(&(left.clone(), "stand down")));
        running.stop().await;
    });
}
