//! Limits in front of a cloud that asks for pauses and breaks, and the check before any launch.

use std::time::Duration;

use futures::future::join_all;
use runner_fleet::{
    fake::openstack::Options,
    provider::{Grade, Limited, Limits, breaker, openstack::OpenStack},
};
use runner_fleet_actors::port::{Clock, ErrorClass, Provider, Shape};

use crate::support::{
    e2e::eventually,
    provider::world::{LIST, LOG_IN, PATIENCE, World, order},
};

fn limited(world: &World) -> Limited<OpenStack> {
    let policy = breaker::Policy {
        failures: 3,
        pause: Duration::from_secs(10),
        longest: Duration::from_secs(60),
    };
    let limits = Limits { breaker: policy, ..Limits::default() };
    Limited::new(world.provider.clone(), limits, world.clock.clone())
}

#[tokio::test]
async fn a_cloud_that_asks_for_a_pause_gets_it_from_all_calls() {
    let world = World::new().await;
    let limited = limited(&world);
    limited.list().await.unwrap();
    world.cloud.faults().limit_rate(1, Duration::from_secs(7));
    let until = world.clock.now() + Duration::from_secs(7);
    let error = limited.list().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::RateLimited { until }, "{error}");

    let before = world.cloud.stats().calls;
    let held = limited.launch(order(1)).await.unwrap_err();
    assert_eq!(held.class, ErrorClass::RateLimited { until }, "{held}");
    assert!(held.what.contains("pause"), "{held}");
    assert_eq!(limited.status().held_until, Some(until));
    assert_eq!(world.cloud.stats().calls, before, "the cloud was left alone");

    world.clock.advance(Duration::from_secs(7));
    limited.launch(order(1)).await.expect("the pause is over");
    assert_eq!(limited.status().held_until, None);
}

#[tokio::test]
async fn a_cloud_that_is_down_is_left_alone_then_tried_once_then_used_again() {
    let world = World::new().await;
    let limited = limited(&world);
    limited.list().await.unwrap();
    world.cloud.faults().outage(true);
    for _ in 0..3 {
        assert_eq!(limited.list().await.unwrap_err().class, ErrorClass::Transient);
    }
    let asked = world.calls(LIST);
    let until = world.clock.now() + Duration::from_secs(10);
    let held = limited.list().await.unwrap_err();
    assert_eq!(held.class, ErrorClass::RateLimited { until }, "{held}");
    assert!(held.what.contains("last 3 calls failed") && held.what.contains("503"), "{held}");
    assert_eq!(world.calls(LIST), asked);
    assert_eq!(limited.status().held_until, Some(until));

    world.clock.advance(Duration::from_secs(10));
    let tries = join_all((0..5).map(|_| limited.list())).await;
    assert!(tries.iter().all(Result::is_err));
    assert_eq!(world.calls(LIST), asked + 1, "one call goes through to see");
    let until = world.clock.now() + Duration::from_secs(10);
    let held = limited.list().await.unwrap_err();
    assert_eq!(
        held.class,
        ErrorClass::RateLimited { until },
        "the next pause is no longer: {held}"
    );
    assert!(held.local, "nobody was asked");

    world.cloud.faults().outage(false);
    world.clock.advance(Duration::from_secs(10));
    limited.list().await.expect("it works again");
    let many = join_all((0..5).map(|_| limited.list())).await;
    assert!(many.iter().all(Result::is_ok), "{many:?}");
}

#[tokio::test]
async fn a_check_names_what_is_missing_before_anything_is_launched() {
    let world = World::with(Options { quota_instances: 0, ..Options::default() }).await;
    let good = order(1).shape;
    let bad = Shape {
        image: "no-image".into(),
        network: Some("demo-net".into()),
        security_groups: vec!["default".into(), "no-group".into()],
        key: Some("no-key".into()),
        availability_zone: Some("no-zone".into()),
        ..good.clone()
    };
    let findings = world.provider.check_online(&[good, bad]).await;
    let of = |grade: Grade| -> Vec<&str> {
        findings.iter().filter(|f| f.grade == grade).map(|f| f.about.as_str()).collect()
    };
    let faults = [
        "image no-image",
        "security group no-group",
        "key pair no-key",
        "availability zone no-zone",
    ];
    assert_eq!(of(Grade::Fault), faults);
    assert_eq!(of(Grade::Warning), ["quota of VMs"]);
    assert!(of(Grade::Fine).contains(&"network demo-net"), "{findings:?}");
    assert_eq!(world.cloud.stats().creates, 0);

    world.cloud.faults().refuse_logins(true);
    world.cloud.faults().revoke_tokens();
    let findings = world.provider.check_online(&[order(1).shape]).await;
    assert_eq!(findings.len(), 1, "one cause, one finding: {findings:?}");
    assert_eq!(findings[0].grade, Grade::Fault);
}

#[tokio::test]
async fn a_log_in_that_hangs_does_not_hang_whoever_comes_once_keystone_is_back() {
    let world = World::new().await;
    world.cloud.faults().hang_logins(true);
    let provider = world.provider.clone();
    let listing = tokio::spawn(async move { provider.list().await });
    eventually(PATIENCE, "it asks for a token", || async {
        (world.calls(LOG_IN) > 0).then_some(())
    })
    .await;
    // What was asked meanwhile is never answered.
    world.cloud.faults().hang_logins(false);
    listing.await.unwrap().expect("another log-in was tried beside the one that hangs");
    assert_eq!(world.calls(LOG_IN), 2);
}
