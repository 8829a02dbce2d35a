//! The real actors on paused time: what a fleet does over hours, in milliseconds.

use std::time::Duration;

use common::{World, fleet_id, on_paused_time, pool, start, start_remembering};
use runner_fleet_actors::{
    event::{DrainReason, FleetEvent, Phase},
    fleet::{Ending, Fix, Reconcile, Reload, Route, RouteError},
    name::{RegistrationId, RunnerName},
    pool::actor::{Order, Refused},
    port::{ErrorClass, PortError, Registration},
};

#[test]
fn a_pool_comes_to_its_minimum_and_stays_there() {
    on_paused_time(async {
        let world = World::new();
        let running = start(&world, vec![pool("small", 5, 10)]);
        running.until("five idle", |r| r.count(Phase::Idle) == 5).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(running.count(Phase::Idle), 5);
        assert_eq!(world.with(|w| w.launches.len()), 5);
        running.stop().await;
    });
}

#[test]
fn a_new_pool_makes_its_spare_runners_at_once() {
    on_paused_time(async {
        let world = World::new();
        let mut spare = pool("small", 0, 4);
        spare.configure.scaling.spare = 2;
        let began = tokio::time::Instant::now();
        let running = start(&world, vec![spare]);
        running.until("two launches", |_| world.with(|w| w.launches.len() == 2)).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        running.stop().await;
    });
}

#[test]
fn a_finished_runner_is_replaced_within_one_listing_and_nothing_is_left_of_it() {
    on_paused_time(async {
        let world = World::new();
        let running = start(&world, vec![pool("small", 2, 4)]);
        running.until("two idle", |r| r.count(Phase::Idle) == 2).await;
        let name = running.names(Phase::Idle)[0].clone();
        world.take_job(&name);
        running.until("one busy", |r| r.count(Phase::Busy) == 1).await;
        world.finish_job(&name);
        let finished = tokio::time::Instant::now();
        running.until("a third launch", |_| world.with(|w| w.launches.len() == 3)).await;
        assert!(finished.elapsed() < Duration::from_secs(7), "{:?}", finished.elapsed());
        running
            .until("two idle and no trace", |r| {
                r.count(Phase::Idle) == 2
                    && !r.model.runners.contains_key(&name)
                    && world.with(|w| {
                        !w.vms.contains_key(&name) && !w.registrations.contains_key(&name)
                    })
            })
            .await;
        running.stop().await;
    });
}

#[test]
fn a_runner_at_work_that_listings_lack_for_hours_keeps_its_vm_for_a_handful_of_calls() {
    on_paused_time(async {
        let world = World::new();
        let running = start(&world, vec![pool("small", 2, 4)]);
        running.until("two idle", |r| r.count(Phase::Idle) == 2).await;
        let names = running.names(Phase::Idle);
        world.take_job(&names[0]);
        running.until("one busy", |r| r.count(Phase::Busy) == 1).await;
        world.with(|w| w.unlisted.insert(names[0].clone()));
        tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
        assert_eq!(running.names(Phase::Busy), names[..1]);
        let (deletes, look_ups) = world.with(|w| (w.deletes.len(), w.forge.look_ups));
        assert_eq!(deletes, 0);
        assert!((5..25).contains(&look_ups), "{look_ups} look-ups in three hours");
        world.finish_job(&names[0]);
        let finished = tokio::time::Instant::now();
        running.until("another launch", |_| world.with(|w| w.launches.len() == 3)).await;
        assert!(finished.elapsed() < Duration::from_secs(7), "{:?}", finished.elapsed());
        running.stop().await;
    });
}

#[test]
fn a_list_that_lacks_all_runners_makes_no_new_ones() {
    on_paused_time(async {
        let world = World::new();
        let running = start(&world, vec![pool("small", 4, 8)]);
        running.until("four idle", |r| r.count(Phase::Idle) == 4).await;
        let names = running.names(Phase::Idle);
        world.with(|w| w.unlisted.extend(names.clone()));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(running.names(Phase::Idle), names);
        assert_eq!(world.with(|w| (w.launches.len(), w.deletes.len())), (4, 0));
        running.stop().await;
    });
}

#[test]
fn a_shrink_drains_the_oldest_idle_runners_and_leaves_the_busy_one() {
    on_paused_time(async {
        let world = World::new();
        let running = start(&world, vec![pool("small", 3, 6)]);
        running.until("three idle", |r| r.count(Phase::Idle) == 3).await;
        let oldest = world.with(|w| w.launches[0].1.clone());
        world.take_job(&oldest);
        running.until("one busy", |r| r.count(Phase::Busy) == 1).await;
        running
            .fleet
            .send(Fix { pool: "small".parse().unwrap(), runners: Some(0) })
            .await
            .unwrap()
            .unwrap();
        running.until("only the busy one", |r| r.model.runners.len() == 1).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(running.names(Phase::Busy), vec![oldest.clone()]);
        assert!(!world.with(|w| w.deletes.contains(&oldest)), "a busy VM was deleted");
        running.stop().await;
    });
}

#[test]
fn a_restart_adopts_every_runner_and_creates_none() {
    on_paused_time(async {
        let world = World::new();
        let first = start(&world, vec![pool("small", 4, 8)]);
        first.until("four idle", |r| r.count(Phase::Idle) == 4).await;
        world.take_job(&first.names(Phase::Idle)[0]);
        first.stop().await;
        let second = start(&world, vec![pool("small", 4, 8)]);
        second.until("adopted", |r| r.count(Phase::Idle) == 3 && r.count(Phase::Busy) == 1).await;
        assert_eq!(world.with(|w| w.launches.len()), 4);
        second.stop().await;
    });
}

#[test]
fn launches_that_fail_hold_their_pool_back_and_say_so_and_recover_with_one_probe() {
    on_paused_time(async {
        let world = World::new();
        world.with(|w| {
            w.refuse_launches = Some(PortError::certain(ErrorClass::Quota, "quota: 0 of 10 left"));
        });
        let running = start(&world, vec![pool("small", 3, 3)]);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let shown = running.model.pools.get(&"small".parse().unwrap()).unwrap().clone();
        let [hold] = shown.holds.as_slice() else { panic!("{shown:#?}") };
        assert!(hold.failures > 1 && hold.error.class == ErrorClass::Quota, "{hold:?}");
        let calls = world.with(|w| w.calls);
        // Per hour: some 20 probes of a few calls each and the listings; not thousands.
        assert!(calls < 2000, "{calls} calls in an hour of nothing but failures");
        world.with(|w| w.refuse_launches = None);
        running.until("three idle", |r| r.count(Phase::Idle) == 3).await;
        running.stop().await;
    });
}

#[test]
fn a_pool_that_leaves_the_configuration_is_emptied_and_ends_also_over_a_restart() {
    on_paused_time(async {
        let world = World::new();
        let first = start(&world, vec![pool("old", 2, 4), pool("new", 1, 4)]);
        first.until("three idle", |r| r.count(Phase::Idle) == 3).await;
        first.stop().await;
        let second = start(&world, vec![pool("new", 1, 4)]);
        second
            .until("the old pool is gone", |r| {
                r.model.runners.len() == 1
                    && !r.model.pools.contains_key(&"old".parse().unwrap())
                    && world.with(|w| w.vms.len() == 1 && w.registrations.len() == 1)
            })
            .await;
        second.stop().await;
    });
}

#[test]
fn an_operators_drain_is_refused_while_a_job_runs_and_force_is_not() {
    on_paused_time(async {
        let world = World::new();
        let running = start(&world, vec![pool("small", 1, 2)]);
        running.until("one idle", |r| r.count(Phase::Idle) == 1).await;
        let name = running.names(Phase::Idle)[0].clone();
        world.take_job(&name);
        running.until("one busy", |r| r.count(Phase::Busy) == 1).await;
        let pool: runner_fleet_actors::name::PoolName = "small".parse().unwrap();
        let order = |order| Route { pool: pool.clone(), order };
        let refused = running.fleet.send(order(Order::Drain(name.clone()))).await.unwrap();
        assert_eq!(refused, Err(RouteError::Refused(Refused::Busy(name.clone()))));
        running.fleet.send(order(Order::Force(name.clone()))).await.unwrap().unwrap();
        running.until("it is gone", |_| world.with(|w| !w.vms.contains_key(&name))).await;
        let killed = world.with(|w| {
            w.events.iter().any(|event| match event {
                FleetEvent::Transition { transition, .. } => {
                    transition.job_killed && transition.reason == Some(DrainReason::Forced)
                }
                _ => false,
            })
        });
        assert!(killed, "the event does not say that a job was killed");
        running.stop().await;
    });
}

#[test]
fn a_runner_whose_actor_panics_is_started_again_and_goes_on() {
    on_paused_time(async {
        let world = World::new();
        let running = start(&world, vec![pool("small", 2, 4)]);
        running.until("two idle", |r| r.count(Phase::Idle) == 2).await;
        let name = running.names(Phase::Idle)[0].clone();
        let victim = name.clone();
        let once = std::sync::atomic::AtomicBool::new(true);
        world.with(|w| {
            w.panic_on = Some(Box::new(move |event| match event {
                FleetEvent::Transition { transition, .. } => {
                    transition.runner == victim
                        && transition.to == Phase::Busy
                        && once.swap(false, std::sync::atomic::Ordering::SeqCst)
                }
                _ => false,
            }));
        });
        world.take_job(&name);
        running.until("busy after all", |r| r.names(Phase::Busy) == vec![name.clone()]).await;
        assert!(!world.with(|w| w.deletes.contains(&name)));
        running.stop().await;
    });
}

#[test]
fn a_runner_whose_actor_dies_again_and_again_is_left_to_adoption_and_its_job_lives() {
    on_paused_time(async {
        let world = World::new();
        let running = start(&world, vec![pool("small", 2, 4)]);
        running.until("two idle", |r| r.count(Phase::Idle) == 2).await;
        let name = running.names(Phase::Idle)[0].clone();
        let victim = name.clone();
        let deaths = std::sync::atomic::AtomicU32::new(0);
        world.with(|w| {
            w.panic_on = Some(Box::new(move |event| match event {
                FleetEvent::Transition { transition, .. } => {
                    transition.runner == victim
                        && transition.to == Phase::Busy
                        && deaths.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 6
                }
                _ => false,
            }));
        });
        world.take_job(&name);
        running.until("busy after all", |r| r.names(Phase::Busy) == vec![name.clone()]).await;
        assert!(!world.with(|w| w.deletes.contains(&name)));
        let told = world.with(|w| {
            w.events.iter().any(|event| match event {
                FleetEvent::Fault { error, .. } => error.what.contains("left to the next listing"),
                _ => false,
            })
        });
        assert!(told, "nobody was told that the actor was given up");
        running.stop().await;
    });
}

#[test]
fn a_pool_whose_actor_keeps_dying_takes_the_fleet_down_with_a_last_word() {
    on_paused_time(async {
        let world = World::new();
        world.with(|w| {
            w.panic_on = Some(Box::new(|event| matches!(event, FleetEvent::Plan { .. })));
        });
        let running = start(&world, vec![pool("small", 2, 4)]);
        match running.ending.await {
            Ok(Ending::Escalated(what)) => assert!(what.contains("pool small"), "{what}"),
            other => panic!("the fleet did not give up: {other:?}"),
        }
    });
}

#[test]
fn a_pool_whose_actor_dies_once_adopts_its_runners_again() {
    on_paused_time(async {
        let world = World::new();
        let running = start(&world, vec![pool("small", 3, 6)]);
        running.until("three idle", |r| r.count(Phase::Idle) == 3).await;
        let once = std::sync::atomic::AtomicBool::new(true);
        world.with(|w| {
            w.panic_on = Some(Box::new(move |event| {
                matches!(event, FleetEvent::Reconciled { .. })
                    && once.swap(false, std::sync::atomic::Ordering::SeqCst)
            }));
        });
        running.fleet.send(Reconcile).await.unwrap();
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(running.count(Phase::Idle), 3);
        assert_eq!(world.with(|w| w.launches.len()), 3, "adoption created runners");
        running.stop().await;
    });
}

#[test]
fn a_stop_waits_for_the_launch_that_is_under_way() {
    on_paused_time(async {
        let world = World { call: Duration::from_secs(20), ..World::new() };
        let running = start(&world, vec![pool("small", 1, 2)]);
        running.until("registered", |_| world.with(|w| !w.registrations.is_empty())).await;
        assert!(world.with(|w| w.launches.is_empty()));
        running.stop().await;
        assert_eq!(world.with(|w| w.launches.len()), 1, "the launch was cut off");
    });
}

#[test]
fn a_deleted_vm_frees_its_place_as_soon_as_two_listings_lack_it() {
    on_paused_time(async {
        let world = World::new();
        let running = start(&world, vec![pool("small", 1, 2)]);
        running.until("one idle", |r| r.count(Phase::Idle) == 1).await;
        let name = running.names(Phase::Idle)[0].clone();
        world.take_job(&name);
        running.until("one busy", |r| r.count(Phase::Busy) == 1).await;
        world.finish_job(&name);
        running.until("draining", |r| r.count(Phase::Draining) == 1).await;
        let drained = tokio::time::Instant::now();
        running.until("gone", |r| !r.model.runners.contains_key(&name)).await;
        assert!(drained.elapsed() < Duration::from_secs(30), "{:?}", drained.elapsed());
        running.stop().await;
    });
}

#[test]
fn a_pool_that_moves_to_another_scope_lets_its_busy_runner_finish_where_it_is() {
    on_paused_time(async {
        let world = World::new();
        let running = start(&world, vec![pool("small", 2, 4)]);
        running.until("two idle", |r| r.count(Phase::Idle) == 2).await;
        let busy = running.names(Phase::Idle)[0].clone();
        world.take_job(&busy);
        running.until("one busy", |r| r.count(Phase::Busy) == 1).await;
        let mut moved = pool("small", 2, 4);
        let mut blueprint = (*moved.configure.blueprint).clone();
        blueprint.scope = "other-org".parse().unwrap();
        moved.configure.blueprint = std::sync::Arc::new(blueprint);
        let reload = Reload { providers: Default::default(), pools: vec![moved] };
        running.fleet.send(reload).await.unwrap();
        let new_home: runner_fleet_actors::name::Scope = "other-org".parse().unwrap();
        let at_new_home = |name: &runner_fleet_actors::name::RunnerName| {
            world.with(|w| w.scopes.get(name) == Some(&new_home))
        };
        running
            .until("two idle at the new scope, the old idle one gone", |r| {
                let idle = r.names(Phase::Idle);
                idle.len() == 2 && idle.iter().all(at_new_home) && r.model.runners.len() == 3
            })
            .await;
        tokio::time::sleep(Duration::from_secs(1800)).await;
        assert_eq!(running.names(Phase::Busy), vec![busy.clone()]);
        assert!(!world.with(|w| w.deletes.contains(&busy)), "a busy VM was deleted by the move");
        world.finish_job(&busy);
        running
            .until("nothing is left at the old scope", |r| {
                r.model.runners.len() == 2 && world.with(|w| w.vms.len() == 2)
            })
            .await;
        running.stop().await;
    });
}

#[test]
fn a_restart_after_a_move_knows_the_old_runners_by_the_scope_on_their_vms() {
    on_paused_time(async {
        let world = World::new();
        let first = start(&world, vec![pool("small", 1, 4)]);
        first.until("one idle", |r| r.count(Phase::Idle) == 1).await;
        let busy = first.names(Phase::Idle)[0].clone();
        world.take_job(&busy);
        first.until("one busy", |r| r.count(Phase::Busy) == 1).await;
        first.stop().await;
        let mut moved = pool("small", 1, 4);
        let mut blueprint = (*moved.configure.blueprint).clone();
        blueprint.scope = "other-org".parse().unwrap();
        moved.configure.blueprint = std::sync::Arc::new(blueprint);
        let second = start(&world, vec![moved]);
        second
            .until("busy again, and a new one", |r| {
                r.names(Phase::Busy) == vec![busy.clone()] && r.count(Phase::Idle) == 1
            })
            .await;
        tokio::time::sleep(Duration::from_secs(1800)).await;
        assert!(!world.with(|w| w.deletes.contains(&busy)), "a busy VM was deleted by the restart");
        second.stop().await;
    });
}

#[test]
fn what_is_left_in_a_scope_that_no_pool_has_is_removed_and_then_nobody_looks_there_any_more() {
    on_paused_time(async {
        let world = World::new();
        let left = |number| {
            let name = RunnerName::new(&fleet_id(), &"large".parse().unwrap(), number);
            let (id, busy) = (RegistrationId(number), Some(false));
            let registration =
                Registration { name: name.clone(), id, online: false, busy, cordoned: None };
            world.with(|w| {
                w.scopes.insert(name.clone(), "old-org".parse().unwrap());
                w.registrations.insert(name, registration)
            });
        };
        let is_left = || world.with(|w| w.registrations.values().any(|r| !r.online));
        left(1);
        let pools = || vec![pool("small", 1, 4)];
        let first = start(&world, pools());
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(is_left(), "a fleet that remembers nothing does not find it");
        first.stop().await;

        let second = start_remembering(&world, pools(), &["old-org"]);
        second.until("it is removed", |_| !is_left()).await;
        // The call that made this one was still under way when the daemon before was killed.
        left(2);
        second.until("this one, too", |_| !is_left()).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        left(3);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(is_left(), "the scope was clean for an hour and is not listed any more");
        assert!(!second.model.pools.contains_key(&"large".parse().unwrap()));
        second.stop().await;
    });
}

#[test]
fn a_restart_knows_its_busy_runners_before_it_judges_its_spare_ones() {
    on_paused_time(async {
        let world = World::new();
        let spare = || {
            let mut setup = pool("small", 0, 10);
            setup.configure.scaling.spare = 3;
            setup
        };
        let first = start(&world, vec![spare()]);
        first.until("three idle", |r| r.count(Phase::Idle) == 3).await;
        for name in first.names(Phase::Idle).into_iter().take(2) {
            world.take_job(&name);
        }
        first
            .until("two busy, three spare", |r| {
                r.count(Phase::Busy) == 2 && r.count(Phase::Idle) == 3
            })
            .await;
        first.stop().await;
        let second = start(&world, vec![spare()]);
        second.until("adopted", |r| r.count(Phase::Busy) == 2 && r.count(Phase::Idle) == 3).await;
        tokio::time::sleep(Duration::from_secs(1800)).await;
        assert_eq!(world.with(|w| (w.launches.len(), w.deletes.len())), (5, 0));
        second.stop().await;
    });
}
