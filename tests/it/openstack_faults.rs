//! What the OpenStack provider makes of a cloud that loses answers, revokes tokens, limits, breaks and
//! says odd things.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use runner_fleet::{
    fake::openstack::{FakeGuest, FakeOpenstack, FakeVm, Options},
    provider::openstack::OpenStack,
};
use runner_fleet_actors::port::{Deletion, ErrorClass, Provider, VmStatus};
use serde_json::json;

mod limits;

use crate::support::provider::world::{
    CREATE, Hands, LOG_IN, PATIENCE, World, config, name, order,
};

#[tokio::test]
async fn a_create_whose_answer_is_lost_finds_its_vm_by_name() {
    let world = World::new().await;
    world.cloud.faults().lose_create_answers(1, None);
    let id = world.launch(1).await.expect("the vm is there, whatever the answer was");
    assert_eq!(world.cloud.vms()[0].id, id);
    assert_eq!(world.launch(1).await.expect("and stays the only one"), id);
    assert_eq!(world.cloud.stats().creates, 1);
}

#[tokio::test]
async fn a_vm_that_appears_long_after_its_lost_answer_is_never_made_twice() {
    let world = World::new().await;
    world.cloud.faults().lose_create_answers(1, Some(Duration::from_millis(1500)));
    let error = world.launch(1).await.expect_err("nobody knows yet");
    assert_eq!((error.class, error.certain), (ErrorClass::Transient, false), "{error}");

    let again = world.launch(1).await.expect_err("still in doubt: no second create");
    assert!(!again.certain, "{again}");
    assert_eq!(world.calls(CREATE), 1);
    let deletion = world.provider.delete(&name(1), None).await.unwrap();
    assert_eq!(deletion, Deletion::Accepted, "a name in doubt is not reported as gone");

    world.until("the vm comes into sight", |cloud| !cloud.vms().is_empty()).await;
    let id = world.launch(1).await.expect("found at last");
    assert_eq!(world.cloud.vms()[0].id, id);
    assert_eq!(world.cloud.stats().creates, 1);
}

#[tokio::test]
async fn a_doubt_ends_and_the_name_can_be_launched() {
    let world = World::new().await;
    world.launch(9).await.expect("references are remembered now");
    // The call after the look-up is the create; it fails without an effect.
    world.cloud.faults().lose_create_answers(1, Some(Duration::from_secs(3600)));
    world.launch(1).await.expect_err("lost");
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(world.provider.delete(&name(1), None).await.unwrap(), Deletion::Gone);
    world.launch(1).await.expect("nothing came, so it is made now");
}

#[tokio::test]
async fn nothing_was_made_when_the_connection_was_never_there() {
    let clock = Hands::new();
    let mut config = config(&FakeOpenstack::start(Options::default()).await.unwrap());
    config.cloud.auth_url = "http://127.0.0.1:9/v3".parse().unwrap();
    let provider = OpenStack::connect(config, clock).await.expect("a dead cloud stops no start");
    let error = provider.launch(order(1)).await.unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Transient, true), "{error}");
    assert!(error.what.contains("cannot connect"), "{error}");
    assert!(provider.status().last_error.is_some());
}

#[tokio::test]
async fn a_cloud_that_comes_back_is_used_without_a_restart() {
    let world = World::new().await;
    world.cloud.faults().outage(true);
    let error = world.provider.list().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
    world.cloud.faults().outage(false);
    assert!(world.provider.list().await.unwrap().complete);
}

#[tokio::test]
async fn twenty_calls_with_a_revoked_token_log_in_once() {
    let world = World::new().await;
    world.provider.list().await.unwrap();
    assert_eq!(world.calls(LOG_IN), 1);
    world.cloud.faults().revoke_tokens();
    let lists = join_all((0..20).map(|_| world.provider.list())).await;
    assert!(lists.iter().all(Result::is_ok), "{lists:?}");
    assert_eq!(world.calls(LOG_IN), 2);
}

#[tokio::test]
async fn twenty_calls_with_a_wrong_password_do_not_lock_the_account() {
    let world =
        World::with(Options { api_latency: Duration::from_millis(50), ..Options::default() }).await;
    world.cloud.faults().refuse_logins(true);
    let lists = join_all((0..20).map(|_| world.provider.list())).await;
    for list in lists {
        let error = list.unwrap_err();
        assert_eq!(error.class, ErrorClass::Auth, "{error}");
        assert!(error.what.contains("check the credentials"), "{error}");
    }
    assert_eq!(world.calls(LOG_IN), 1);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let world = World::new().await;
    world.provider.list().await.unwrap();
    world.clock.advance(Duration::from_secs(3600 - 400));
    world.provider.list().await.unwrap();
    assert_eq!(world.calls(LOG_IN), 1);
    world.clock.advance(Duration::from_secs(200));
    world.provider.list().await.unwrap();
    assert_eq!(world.calls(LOG_IN), 2, "less than five minutes are left of it");
}

#[tokio::test]
async fn odd_vms_cost_only_themselves() {
    let world = World::new().await;
    let tag = &["runner-fleet:ci"];
    let plain = world.cloud.plant(name(1).as_str(), tag);
    let odd = world.cloud.plant(name(2).as_str(), tag);
    world.cloud.distort(
        &odd,
        json!({ "status": "BAMBOOZLED", "OS-EXT-AZ:availability_zone": null, "metadata": 7,
                "addresses": null, "created": false }),
    );
    let listing = world.provider.list().await.unwrap();
    assert!(listing.complete, "{listing:?}");
    let word = "BAMBOOZLED".to_owned();
    let status = |id: &str| listing.entries.iter().find(|vm| vm.id.0 == id).unwrap().status.clone();
    assert_eq!(status(&odd), VmStatus::Unknown { word: word.into() });
    assert_eq!(status(&plain), VmStatus::Active);

    world.cloud.distort(&odd, json!({ "name": null }));
    let listing = world.provider.list().await.unwrap();
    assert!(!listing.complete, "one of ours could not be read");
    assert_eq!(listing.entries.len(), 1);
    assert_eq!(listing.faults.len(), 1, "{listing:?}");
}

#[tokio::test]
async fn a_vm_with_our_tag_and_a_foreign_name_is_told_and_left_alone() {
    let world = World::new().await;
    world.cloud.plant("somebody-renamed-me", &["runner-fleet:ci"]);
    let listing = world.provider.list().await.unwrap();
    assert_eq!(listing.entries, []);
    assert!(listing.complete, "it hides no runner");
    assert!(listing.faults[0].contains("somebody-renamed-me"), "{listing:?}");
}

#[tokio::test]
async fn a_later_page_that_fails_makes_the_listing_incomplete_and_no_more() {
    let world = World::with(Options { page_limit: 2, ..Options::default() }).await;
    for token in 0..5 {
        world.cloud.plant(name(token).as_str(), &["runner-fleet:ci"]);
    }
    world.cloud.faults().fail_later_pages(true);
    let listing = world.provider.list().await.unwrap();
    assert_eq!((listing.entries.len(), listing.complete), (2, false), "{listing:?}");
    world.cloud.faults().fail_later_pages(false);
    let listing = world.provider.list().await.unwrap();
    assert_eq!((listing.entries.len(), listing.complete), (5, true), "{listing:?}");
}

#[tokio::test]
async fn a_used_up_quota_is_a_class_of_its_own() {
    let world = World::with(Options { quota_instances: 1, ..Options::default() }).await;
    world.launch(1).await.unwrap();
    let error = world.launch(2).await.unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Quota, true), "{error}");
    assert!(error.what.contains("already used 1 of 1"), "the cloud's own words: {error}");
}

#[tokio::test]
async fn an_image_rebuilt_under_its_name_costs_one_launch_and_not_the_pool() {
    let world = World::new().await;
    world.launch(1).await.unwrap();
    world.cloud.rebuild_image("debian-12");
    let error = world.launch(2).await.unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Transient, true), "{error}");
    world.launch(2).await.expect("looked up anew");
}

#[tokio::test]
async fn a_locked_vm_says_how_to_unlock_it() {
    let world = World::new().await;
    let id = world.launch(1).await.unwrap();
    world.cloud.lock(&id, true);
    let error = world.provider.delete(&name(1), None).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Busy, "{error}");
    assert!(error.what.contains("is locked") && error.what.contains("unlock"), "{error}");
}

#[tokio::test]
async fn a_delete_that_hangs_stays_accepted_until_it_is_done() {
    let world = World::new().await;
    world.launch(1).await.unwrap();
    world.cloud.faults().hang_deletes(true);
    for _ in 0..3 {
        let deletion = world.provider.delete(&name(1), None).await.unwrap();
        assert_eq!(deletion, Deletion::Accepted);
    }
    let listing = world.provider.list().await.unwrap();
    assert_eq!(listing.entries[0].status, VmStatus::Deleting);
    world.cloud.faults().hang_deletes(false);
    world.until("the vm is gone", |cloud| cloud.vms().is_empty()).await;
    assert_eq!(world.provider.delete(&name(1), None).await.unwrap(), Deletion::Gone);
}

#[tokio::test]
async fn two_vms_of_one_name_are_both_deleted() {
    let world = World::new().await;
    let one = world.cloud.plant(name(1).as_str(), &["runner-fleet:ci"]);
    world.cloud.plant(name(1).as_str(), &["runner-fleet:ci"]);
    let id = runner_fleet_actors::name::VmId(one);
    let deleted = async {
        while world.provider.delete(&name(1), Some(&id)).await.unwrap() == Deletion::Accepted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, deleted).await.expect("gone in the end");
    assert_eq!(world.cloud.vms(), []);
}

#[tokio::test]
async fn no_secret_shows_in_an_error_or_a_debug_text() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let world = World::new().await;
    world.cloud.faults().echo_user_data(true);
    let echoed = world.launch(1).await.unwrap_err();
    world.cloud.faults().refuse_logins(true);
    world.cloud.faults().revoke_tokens();
    let refused = world.launch(2).await.unwrap_err();
    let status = world.provider.status();
    let shown = format!(
        "{echoed} {echoed:?} {refused:?} {status:?} {:?} {:?} {:?}",
        world.provider,
        config(&world.cloud),
        order(1),
    );
    assert!(echoed.what.contains("(hidden)"), "the cloud did echo it: {echoed}");
    let secret = order(1).user_data;
    for secret in [
        STANDARD.encode(secret.expose()).as_str(),
        "the-jit-config-of-the-test",
        "fake-cloud-password",
    ] {
        assert!(world.cloud.clouds_yaml().contains("fake-cloud-password"));
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[tokio::test]
async fn a_cloud_too_slow_for_its_own_answers_still_makes_one_vm() {
    let mut world =
        World::with(Options { api_latency: Duration::from_millis(100), ..Options::default() })
            .await;
    let mut config = config(&world.cloud);
    // Three times this for a launch as a whole: its log-in and look-ups fit, its create does not.
    config.timeouts.call = Duration::from_millis(160);
    config.doubt = Duration::from_secs(60);
    world.provider = Arc::new(OpenStack::connect(config, world.clock.clone()).await.unwrap());
    let outcomes = [world.launch(1).await, world.launch(1).await, world.launch(1).await];
    for error in outcomes.iter().filter_map(|o| o.as_ref().err()) {
        assert_eq!(error.class, ErrorClass::Transient, "{error}");
    }
    assert!(world.cloud.stats().creates <= 1, "{outcomes:?}");
}

struct Watched {
    seen: tokio::sync::mpsc::UnboundedSender<FakeVm>,
}

impl FakeGuest for Watched {
    fn booted(&self, vm: FakeVm) {
        self.seen.send(vm).unwrap();
    }
}

#[tokio::test]
async fn a_guest_sees_its_user_data_powers_off_and_learns_of_its_end() {
    let (seen, mut booted) = tokio::sync::mpsc::unbounded_channel();
    let guest: Option<Arc<dyn FakeGuest>> = Some(Arc::new(Watched { seen }));
    let world = World::with(Options { guest, ..Options::default() }).await;
    let id = world.launch(1).await.unwrap();
    let vm = tokio::time::timeout(PATIENCE, booted.recv()).await.unwrap().unwrap();
    assert_eq!((vm.name.as_str(), vm.id.as_str()), (name(1).as_str(), id.as_str()));
    assert_eq!(vm.user_data, order(1).user_data.expose());
    vm.power_off();
    let listing = world.provider.list().await.unwrap();
    assert_eq!(listing.entries[0].status, VmStatus::Stopped);
    world.provider.delete(&name(1), None).await.unwrap();
    tokio::time::timeout(PATIENCE, vm.killed()).await.expect("the guest learns of its end");
}

#[tokio::test]
async fn a_vm_that_failed_to_boot_is_shown_with_the_clouds_words_and_vanished_ones_are_not() {
    let world = World::new().await;
    world.cloud.faults().fail_boots(1, "Exceeded maximum number of retries. Exhausted all hosts");
    world.launch(1).await.unwrap();
    world.until("it fails", |cloud| cloud.vms()[0].status == "ERROR").await;
    let listing = world.provider.list().await.unwrap();
    let VmStatus::Error { class, fault } = &listing.entries[0].status else {
        panic!("{listing:?}");
    };
    assert_eq!(*class, ErrorClass::NoCapacity);
    assert!(fault.contains("Exhausted all hosts"), "{fault}");
    assert!(world.cloud.faults().vanish(name(1).as_str()));
    assert_eq!(world.provider.list().await.unwrap().entries, []);
}
