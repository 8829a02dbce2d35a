//! What the OpenStack provider makes of clouds that are set up in their own way: behind redirections,
//! old APIs, proxies that drop headers, other clocks, images that are switched off, small pages.

use std::time::Duration;

use chrono::TimeDelta;
use runner_fleet::{
    fake::openstack::{FakeOpenstack, Options},
    provider::{
        Grade, Limited, Limits,
        openstack::{OpenStack, OpenStackConfig},
    },
};
use runner_fleet_actors::port::{
    Deletion, ErrorClass, LaunchOrder, PortError, Provider, Shape, VmStatus,
};

use crate::support::provider::world::{CREATE, Hands, LOG_IN, World, config, name, order};

async fn connect(config: OpenStackConfig) -> OpenStack {
    OpenStack::connect(config, Hands::new()).await.unwrap()
}

/// A configuration whose Keystone is reached by a redirection.
fn through_redirect(cloud: &FakeOpenstack) -> OpenStackConfig {
    let mut config = config(cloud);
    let path = format!("/plain{}", config.cloud.auth_url.path());
    config.cloud.auth_url.set_path(&path);
    config
}

/// What the check says about `about`, where it finds anything amiss.
async fn amiss(provider: &OpenStack, about: &str) -> Option<(Grade, String)> {
    let findings = provider.check_online(&[order(1).shape]).await;
    let found = findings.into_iter().find(|f| f.about.contains(about) && f.grade != Grade::Fine);
    found.map(|finding| (finding.grade, finding.what))
}

#[tokio::test]
async fn a_redirection_within_the_cloud_is_followed_with_its_method() {
    for status in [301, 302, 307, 308] {
        let world = World::new().await;
        world.cloud.faults().redirect(status, None);
        world.cloud.faults().compute_path("/plain/compute/v2.1");
        let provider = connect(through_redirect(&world.cloud)).await;
        provider.launch(order(1)).await.unwrap_or_else(|error| panic!("{status}: {error}"));
        assert_eq!(world.cloud.stats().creates, 1, "{status}");
        let listing = provider.list().await.unwrap();
        assert_eq!(listing.entries.len(), 1, "the query goes along as well: {status}");
    }
}

#[tokio::test]
async fn credentials_follow_no_redirection_to_another_address_and_it_is_named() {
    let world = World::new().await;
    let other = FakeOpenstack::start(Options::default()).await.unwrap();
    let address = other.auth_url().replace("/identity/v3", "");
    for status in [301, 302, 307, 308] {
        world.cloud.faults().redirect(status, Some(&address));
        let provider = connect(through_redirect(&world.cloud)).await;
        let error = provider.list().await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Invalid, "{error}");
        assert!(error.what.contains(&format!("has moved to {address}/identity/v3")), "{error}");
        assert!(error.what.contains("auth_url"), "{error}");
    }
    world.cloud.faults().compute_path("/plain/compute/v2.1");
    let error = world.launch(1).await.unwrap_err();
    assert!(error.what.contains("has moved to") && error.certain, "{error}");
    assert!(other.stats().calls.is_empty(), "nothing went there: {:?}", other.stats().calls);
}

#[tokio::test]
async fn an_endpoint_without_a_version_is_asked_once_where_v2_1_is() {
    let world = World::new().await;
    world.cloud.faults().compute_path("/compute");
    world.launch(1).await.unwrap();
    assert_eq!(world.provider.list().await.unwrap().entries.len(), 1);
    assert_eq!(world.calls("GET /compute"), 1);
}

#[tokio::test]
async fn an_old_api_is_refused_before_a_vm_is_made() {
    let world = World::new().await;
    world.cloud.faults().compute_path("/compute/v2/0123456789abcdef0123456789abcdef");
    let error = world.launch(1).await.unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Invalid, true), "{error}");
    assert!(error.what.contains("the old API v2"), "{error}");
    assert!(error.what.contains("compute_endpoint_override"), "{error}");
    assert_eq!(world.cloud.stats().creates, 0);
    let (grade, what) = amiss(&world.provider, "credentials and compute").await.unwrap();
    assert_eq!(grade, Grade::Fault);
    assert!(what.contains("the old API v2"), "{what}");
}

#[tokio::test]
async fn a_cloud_that_answers_in_an_older_version_is_refused_before_a_vm_is_made() {
    let world = World::new().await;
    world.cloud.faults().drop_versions(true);
    let error = world.launch(1).await.unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Invalid, true), "{error}");
    assert!(error.what.contains("version 2.1 of the Compute API"), "{error}");
    assert_eq!(world.calls(CREATE), 0);
    assert_eq!(world.provider.list().await.unwrap_err().class, ErrorClass::Invalid);
    let (grade, what) = amiss(&world.provider, "credentials and compute").await.unwrap();
    assert_eq!(grade, Grade::Fault);
    assert!(
        what.contains("OpenStack-API-Version") || what.contains("openstack-api-version"),
        "{what}"
    );
}

#[tokio::test]
async fn a_cloud_whose_vms_show_no_tags_is_found_by_the_check() {
    let world = World::new().await;
    let id = world.cloud.plant("somebody", &[]);
    world.cloud.distort(&id, serde_json::json!({ "tags": null }));
    let (grade, what) = amiss(&world.provider, "tags of VMs").await.unwrap();
    assert_eq!(grade, Grade::Fault);
    assert!(what.contains("no VM could be told to be the fleet's"), "{what}");
}

#[tokio::test]
async fn a_cloud_whose_clock_is_off_is_logged_in_to_once_and_it_is_said() {
    for hours in [-2, 2] {
        let world = World::new().await;
        world.cloud.faults().clock_ahead(TimeDelta::hours(hours));
        for _ in 0..20 {
            world.provider.list().await.unwrap();
        }
        assert_eq!(world.calls(LOG_IN), 1, "{hours}");
        let (grade, what) = amiss(&world.provider, "clocks").await.unwrap();
        let side = if hours < 0 { "behind" } else { "ahead of" };
        assert_eq!(grade, Grade::Warning);
        assert!(what.contains(side), "{what}");
        world.clock.advance(Duration::from_secs(3500));
        world.provider.list().await.unwrap();
        assert_eq!(world.calls(LOG_IN), 2, "renewed by the length of its life");
    }
}

#[tokio::test]
async fn an_image_that_is_switched_off_is_named_by_check_and_launch() {
    let world = World::new().await;
    world.cloud.faults().deactivate_image("debian-12");
    let (grade, what) = amiss(&world.provider, "image debian-12").await.unwrap();
    assert_eq!(grade, Grade::Fault);
    assert!(what.contains("its status is \"deactivated\", not active"), "{what}");
    let error = world.launch(1).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    assert_eq!(world.calls(CREATE), 0);
}

#[tokio::test]
async fn the_schedulers_last_retry_is_no_capacity_and_no_quota() {
    let world = World::new().await;
    world.cloud.faults().fail_boots(
        1,
        "Exceeded maximum number of retries. Exceeded max scheduling attempts 3 for instance 1. \
         Last exception: Binding failed for port 2, please check neutron logs for more information.",
    );
    world.launch(1).await.unwrap();
    world.until("it fails", |cloud| cloud.vms()[0].status == "ERROR").await;
    let listing = world.provider.list().await.unwrap();
    let VmStatus::Error { class, .. } = &listing.entries[0].status else { panic!("{listing:?}") };
    assert_eq!(*class, ErrorClass::NoCapacity);
}

async fn gone(world: &World, token: u64) {
    let deleted = async {
        while world.provider.delete(&name(token), None).await.unwrap() == Deletion::Accepted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), deleted).await.expect("gone in the end");
}

#[tokio::test]
async fn a_cloud_that_keeps_deleted_vms_gives_their_quota_back() {
    let world = World::with(Options { quota_instances: 1, ..Options::default() }).await;
    world.cloud.faults().soft_deletes(true, true);
    for token in 1..4 {
        world.launch(token).await.unwrap_or_else(|error| panic!("VM {token}: {error}"));
        gone(&world, token).await;
    }
    assert_eq!(world.cloud.vms(), []);
}

#[tokio::test]
async fn where_deleted_vms_are_kept_and_force_is_forbidden_the_quota_says_why() {
    let world = World::with(Options { quota_instances: 1, ..Options::default() }).await;
    world.cloud.faults().soft_deletes(true, false);
    world.launch(1).await.unwrap();
    gone(&world, 1).await;
    let error = world.launch(2).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Quota, "{error}");
    assert!(error.what.contains("reclaim_instance_interval"), "{error}");
    assert!(error.what.contains("os-deferred-delete:force"), "{error}");
    let asked = world.calls("POST /compute/v2.1/servers/{id}/action");
    assert_eq!(asked, 1, "what is refused for good is not asked again");
}

#[tokio::test]
async fn a_vm_that_no_force_deletes_is_deleted_plainly() {
    let world = World::new().await;
    world.launch(1).await.unwrap();
    world.cloud.faults().break_force();
    let error = world.provider.delete(&name(1), None).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient, "trouble passes as a rule: {error}");
    gone(&world, 1).await;
    assert_eq!(world.cloud.vms(), []);
}

#[tokio::test]
async fn a_deletion_that_does_not_end_shows_its_task_and_since_when() {
    let world = World::new().await;
    world.launch(1).await.unwrap();
    world.cloud.faults().hang_deletes(true);
    assert_eq!(world.provider.delete(&name(1), None).await.unwrap(), Deletion::Accepted);
    let listing = world.provider.list().await.unwrap();
    assert_eq!(listing.entries[0].status, VmStatus::Deleting);
    let task = listing.entries[0].task.clone().unwrap();
    assert_eq!(task.word, "deleting");
    assert!(task.since.is_some(), "{task:?}");
}

#[tokio::test]
async fn a_deletion_refused_because_of_a_task_is_busy_and_succeeds_later() {
    let world = World::new().await;
    world.launch(1).await.unwrap();
    // By force, by force again, and plainly.
    world.cloud.faults().conflict_deletes(3);
    for _ in 0..2 {
        let error = world.provider.delete(&name(1), None).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Busy, "{error}");
        assert!(error.what.contains("image_uploading"), "{error}");
    }
    gone(&world, 1).await;
}

#[tokio::test]
async fn a_deletion_that_waits_for_a_task_gives_the_quota_back_all_the_same() {
    let world = World::with(Options { quota_instances: 1, ..Options::default() }).await;
    world.cloud.faults().soft_deletes(true, true);
    world.launch(1).await.unwrap();
    world.cloud.faults().conflict_deletes(1);
    let error = world.provider.delete(&name(1), None).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Busy, "{error}");
    gone(&world, 1).await;
    world.launch(2).await.unwrap_or_else(|error| panic!("VM 2: {error}"));
}

#[tokio::test]
async fn a_vm_that_is_built_for_ever_stays_building() {
    let hour = Duration::from_secs(3600);
    let world = World::with(Options { boot: hour..=hour, ..Options::default() }).await;
    world.launch(1).await.unwrap();
    let vm = world.provider.list().await.unwrap().entries.remove(0);
    assert_eq!(vm.status, VmStatus::Building);
    assert_eq!(vm.task.unwrap().word, "spawning");
    gone(&world, 1).await;
}

#[tokio::test]
async fn two_images_of_one_name_are_a_question() {
    let images = vec!["debian-12".to_owned(), "debian-12".to_owned()];
    let world = World::with(Options { images, ..Options::default() }).await;
    let error = world.launch(1).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    assert!(error.what.contains("2 images have this name; use one of their ids"), "{error}");
}

#[tokio::test]
async fn every_list_is_read_to_its_last_page() {
    let many = |name: &str, last: &str| -> Vec<String> {
        (0..7).map(|n| format!("{name}-{n}")).chain([last.to_owned()]).collect()
    };
    let world = World::with(Options {
        images: many("image", "debian-12"),
        flavors: many("flavor", "m1.tiny"),
        networks: many("network", "demo-net"),
        page_limit: 2,
        ..Options::default()
    })
    .await;
    world.launch(1).await.expect("a flavor on the fourth page");
    let shape = |image: &str, network: &str| Shape {
        image: image.into(),
        flavor: "none".into(),
        network: Some(network.into()),
        ..Shape::default()
    };
    for (shape, wanted) in
        [(shape("none", "none"), "image-6"), (shape("none", "none"), "network-6")]
    {
        let findings = world.provider.check_online(&[shape]).await;
        let listed = findings.iter().any(|finding| finding.what.contains(wanted));
        assert!(listed, "{wanted} is on a later page: {findings:?}");
    }
}

#[tokio::test]
async fn one_pools_wrong_network_does_not_stop_the_others() {
    let world = World::new().await;
    world.cloud.faults().forbid_network("shared-net");
    let limited = Limited::new(world.provider.clone(), Limits::default(), world.clock.clone());
    let wrong = |token| LaunchOrder {
        shape: Shape { network: Some("shared-net".into()), ..order(token).shape },
        ..order(token)
    };
    for token in 1..20 {
        let error: PortError = limited.launch(wrong(token)).await.unwrap_err();
        assert!(error.what.contains("external network"), "asked each time: {error}");
        assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    }
    limited.launch(order(50)).await.expect("another pool of the same cloud goes on");
    assert_eq!(limited.status().held_until, None);
}

#[tokio::test]
async fn what_keystone_answers_becomes_what_to_do() {
    let world = World::new().await;
    type Wanted = (u16, &'static str, fn(ErrorClass) -> bool, &'static str);
    let limited = |class| matches!(class, ErrorClass::RateLimited { .. });
    let table: [Wanted; 9] = [
        (300, r#"{"versions": {}}"#, |c| c == ErrorClass::Invalid, "whole address, with /v3"),
        (
            400,
            r#"{"error": {"message": "Expecting to find domain in user."}}"#,
            |c| c == ErrorClass::Invalid,
            "Expecting to find domain",
        ),
        (
            401,
            r#"{"error": {"message": "requires authentication"}}"#,
            |c| c == ErrorClass::Auth,
            "check the credentials",
        ),
        (403, r#"{"error": {"message": "locked"}}"#, |c| c == ErrorClass::Auth, "locked"),
        (404, "<html>", |c| c == ErrorClass::Invalid, "check auth_url"),
        (413, "", limited, "HTTP 413"),
        (429, "", limited, "HTTP 429"),
        (503, "", |c| c == ErrorClass::Transient, "HTTP 503"),
        (200, "<html>a dashboard</html>", |c| c == ErrorClass::Transient, "check auth_url"),
    ];
    for (status, body, class, says) in table {
        world.cloud.faults().answer_logins(Some((status, body)));
        let error = world.provider.list().await.unwrap_err();
        assert!(class(error.class), "{status}: {error:?}");
        assert!(error.what.contains(says), "{status}: {error}");
        assert!(!error.what.contains("fake-cloud-password"), "{error}");
    }
    world.cloud.faults().answer_logins(None);
    world.provider.list().await.expect("and it works again");
}

#[tokio::test]
async fn a_region_or_service_that_the_catalog_lacks_is_named_with_what_there_is() {
    let world = World::new().await;
    let mut elsewhere = config(&world.cloud);
    elsewhere.cloud.region = Some("RegionTwo".to_owned());
    let error = connect(elsewhere).await.list().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    assert!(error.what.contains("public in \"RegionOne\""), "{error}");
    let mut renamed = config(&world.cloud);
    renamed.cloud.services[0].kind = Some("computing".to_owned());
    let error = connect(renamed).await.list().await.unwrap_err();
    assert!(error.what.contains("no service of type \"computing\""), "{error}");
    assert!(error.what.contains("compute, identity"), "{error}");
}
