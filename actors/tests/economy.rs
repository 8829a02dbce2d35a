//! What a fleet asks of GitHub, on paused time.

use std::time::Duration;

use common::{World, on_paused_time, pool, start};
use runner_fleet_actors::{event::Phase, fleet::Fix};

const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

#[test]
fn a_steady_pool_of_fifty_with_jobs_of_half_an_hour_costs_at_most_two_calls_a_job() {
    on_paused_time(async {
        let world = World { jobs: Some(HALF_AN_HOUR), ..World::new() };
        world.with(|outside| outside.keep_events = false);
        let fleet = start(&world, vec![pool("small", 50, 60)]);
        fleet.until("all busy", |fleet| fleet.count(Phase::Busy) == 50).await;
        tokio::time::sleep(2 * HALF_AN_HOUR).await;
        let before = world.with(|outside| outside.forge);
        tokio::time::sleep(6 * HALF_AN_HOUR).await;
        let calls = before.until(&world.with(|outside| outside.forge));
        let all = calls.registers + calls.deregisters + calls.lists;
        assert!(calls.jobs > 200, "the pool was not at work: {calls:?}");
        assert!(all <= 2 * calls.jobs, "{all} calls: {calls:?}");
        assert_eq!(calls.deregisters, 0, "a finished runner's registration vanishes by itself");
        fleet.stop().await;
    });
}

#[test]
fn a_pool_that_grows_is_looked_at_closely_also_after_hours_of_turning_over() {
    on_paused_time(async {
        let boot = Duration::from_secs(240);
        let world = World { jobs: Some(HALF_AN_HOUR), boot, ..World::new() };
        world.with(|outside| outside.keep_events = false);
        let fleet = start(&world, vec![pool("small", 20, 60)]);
        fleet.until("all busy", |fleet| fleet.count(Phase::Busy) == 20).await;
        tokio::time::sleep(6 * HALF_AN_HOUR).await;
        let fix = Fix { pool: "small".parse().unwrap(), runners: Some(50) };
        fleet.fleet.send(fix).await.unwrap().unwrap();
        // The slow pace of a pool that only turns over may hold for one more pause.
        tokio::time::sleep(Duration::from_secs(65)).await;
        let before = world.with(|outside| outside.forge);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let looks = before.until(&world.with(|outside| outside.forge)).lists;
        assert!(looks >= 12, "{looks} looks in two minutes of growth");
        fleet.stop().await;
    });
}
