#![allow(clippy::unwrap_used, reason = "a test")]

use runner_fleet_actors::{
    event::{Counts, Phase, RunnerSnapshot},
    name::{RunnerName, VmId},
    port::{ErrorClass, PortError, VmTask},
};

use super::*;

const BOUND: Duration = Duration::from_secs(180);

fn at(seconds: i64) -> Time {
    Time::from_timestamp(1_718_000_000 + seconds, 0).unwrap()
}

fn scope() -> Side {
    Side::Scope("acme/widgets".parse().unwrap())
}

fn pool() -> PoolSnapshot {
    PoolSnapshot {
        name: "bench".parse().unwrap(),
        scope: "acme/widgets".parse().unwrap(),
        provider: "east".into(),
        min: 2,
        spare: 0,
        max: 2,
        target: 2,
        target_because: "min".into(),
        target_override: None,
        demand_unknown: false,
        counts: Counts { idle: 2, ..Counts::default() },
        because: Vec::new(),
        holds: Vec::new(),
        boots: None,
        late: 0,
        habits: runner_fleet_actors::pool::Habits::default(),
        cloud_seen_at: Some(at(0)),
        forge_seen_at: Some(at(0)),
        forge_shows_from: None,
        absence_awaited: false,
        retiring: false,
    }
}

/// A fleet whose sides were listed whole at the beginning.
fn fleet() -> ReadModel {
    let model = ReadModel::default();
    model.pools.insert(pool().name, pool());
    for side in [Side::Provider("east".into()), scope()] {
        let mut sight = Sight::new(at(-1));
        sight.listed(true, at(0), &[]);
        model.sights.insert(side, sight);
    }
    model
}

fn going(n: u64) -> RunnerSnapshot {
    let name = RunnerName::new(&"ci".parse().unwrap(), &"bench".parse().unwrap(), n);
    RunnerSnapshot {
        pool: name.pool(),
        name,
        state: Phase::Draining,
        since: at(0),
        created_at: at(-600),
        why: "finished".into(),
        last_error: None,
        vm_id: Some(VmId(format!("vm-{n}"))),
        registration_id: None,
        job: None,
        step: Some("delete".into()),
        step_since: Some(at(0)),
        tries: 4,
        task: Some(VmTask { word: "deleting".into(), since: None }),
        deadline: None,
        shape: None,
        version: None,
    }
}

#[test]
fn a_github_that_refuses_us_leaves_the_fleet_not_ready_until_it_does_not() {
    let model = fleet();
    assert_eq!(readiness(&model, BOUND, at(60)), Readiness { ready: true, ..Readiness::default() });
    let refused = PortError::certain(ErrorClass::Auth, "list runners: GitHub says 401");
    let fail =
        |now| model.sights.get_mut(&scope()).unwrap().failed(&refused, at(now + 16), at(now));
    fail(60);
    let told = readiness(&model, BOUND, at(61));
    assert!(told.ready && told.attention[0].contains("GitHub says 401"), "{told:?}");
    fail(68);
    let told = readiness(&model, BOUND, at(69));
    assert!(!told.ready && told.attention.is_empty(), "{told:?}");
    let says = "github acme/widgets: fails since 06:14:20Z (2 times, held until 06:14:44Z): list";
    assert!(told.reasons[0].starts_with(says), "{told:?}");
    model.sights.get_mut(&scope()).unwrap().listed(true, at(84), &[]);
    assert!(readiness(&model, BOUND, at(85)).ready);
}

#[test]
fn a_last_good_listing_that_is_too_old_leaves_the_fleet_not_ready() {
    let model = fleet();
    let away = PortError::certain(ErrorClass::Transient, "github.com was not reached");
    model.sights.get_mut(&scope()).unwrap().failed(&away, at(200), at(100));
    let told = readiness(&model, BOUND, at(180));
    assert!(told.ready && told.attention.len() == 1, "a hiccup is told: {told:?}");
    let told = readiness(&model, BOUND, at(181));
    // The cloud is as old, though nobody said why.
    let clock = "provider east: was last listed whole at 06:13:20Z";
    assert_eq!((told.ready, told.reasons.len(), told.reasons[0].as_str()), (false, 2, clock));
}

#[test]
fn what_was_never_listed_is_told_once_with_its_reason() {
    let model = fleet();
    let mut unseen = pool();
    unseen.forge_seen_at = None;
    model.pools.insert(unseen.name.clone(), unseen);
    model.sights.insert(scope(), Sight::new(at(0)));
    let told = readiness(&model, BOUND, at(5));
    assert_eq!(told.reasons, ["github acme/widgets: not listed yet since 06:13:20Z"]);
}

#[test]
fn places_taken_by_vms_that_do_not_go_leave_the_fleet_not_ready() {
    let model = fleet();
    let mut full = pool();
    full.counts = Counts { draining: 2, ..Counts::default() };
    model.pools.insert(full.name.clone(), full);
    for n in 0..2 {
        model.runners.insert(going(n).name, going(n));
    }
    assert!(readiness(&model, BOUND, at(59)).ready, "a deletion takes its time");
    let told = readiness(&model, BOUND, at(60));
    assert!(!told.ready, "{told:?}");
    let says = "pool bench: 2 of its 2 places are taken by VMs that do not go";
    assert_eq!((told.reasons[0].as_str(), told.reasons.len()), (says, 3));
    assert!(told.reasons[1].contains("the cloud says \"deleting\""), "{told:?}");
}

#[test]
fn a_vm_that_does_not_go_beside_a_pool_that_has_what_it_wants_is_to_be_looked_at() {
    let model = fleet();
    model.runners.insert(going(0).name, going(0));
    let told = readiness(&model, BOUND, at(60));
    assert!(told.ready && told.attention[0].contains("does not go"), "{told:?}");
}
