//! What the OpenStack provider makes of a cloud that is asked what has changed: what it tells is believed as far
//! as it bears out what was known, and everything is listed where it does not.

use std::time::Duration;

use chrono::TimeDelta;
use runner_fleet::fake::openstack::{Changes, FakeOpenstack, Options, VmRecord};
use runner_fleet_actors::{
    name::{RunnerName, VmId},
    port::{Deletion, Listing, Provider, Recent, Vm, VmStatus},
};

use crate::support::provider::world::*;

async fn active(world: &World, vms: usize) -> Listing<Vm> {
    let active = |vms: &[VmRecord]| vms.iter().filter(|vm| vm.status == "ACTIVE").count();
    world.until("all are active", |cloud| active(&cloud.vms()) == vms).await;
    world.provider.list().await.unwrap()
}

async fn recent(world: &World) -> Option<Recent> {
    world.provider.recent().await.unwrap()
}

/// A cloud with two VMs that were listed.
async fn two() -> (World, Vec<(RunnerName, VmId)>) {
    let world = World::new().await;
    for token in [1, 2] {
        world.launch(token).await.unwrap();
    }
    let mut vms: Vec<_> =
        active(&world, 2).await.entries.into_iter().map(|vm| (vm.name, vm.id)).collect();
    vms.sort();
    (world, vms)
}

#[tokio::test]
async fn only_what_has_changed_is_told_and_before_anything_was_listed_nothing_is_asked() {
    let world = World::new().await;
    assert!(!world.provider.tells_recent());
    assert_eq!(recent(&world).await, None);
    assert!(world.cloud.stats().calls.is_empty());

    world.cloud.plant(name(9).as_str(), &["runner-fleet:ci"]);
    world.launch(1).await.unwrap();
    world.cloud.plant(name(3).as_str(), &["runner-fleet:other"]);
    world.until("it is active", |cloud| cloud.vms().iter().all(|vm| vm.status == "ACTIVE")).await;
    assert_eq!(world.provider.list().await.unwrap().entries.len(), 2);
    let before = world.calls(LIST);
    let told = recent(&world).await.unwrap();
    let changed: Vec<_> = told.changed.iter().map(|vm| (&vm.name, &vm.status)).collect();
    assert_eq!(changed, [(&name(1), &VmStatus::Active)], "the planted one has not changed");
    assert_eq!(world.calls(LIST), before + 1);
}

#[tokio::test]
async fn a_deletion_is_told_by_name_and_identifier_although_its_tags_are_gone() {
    let (world, vms) = two().await;
    let (name, id) = vms[0].clone();
    assert_eq!(world.provider.delete(&name, Some(&id)).await.unwrap(), Deletion::Accepted);
    world.until("one is gone", |cloud| cloud.vms().len() == 1).await;
    let told = recent(&world).await.unwrap();
    assert_eq!(told.deleted, [(name, id)]);
    assert_eq!(told.changed.len(), 1, "no deleted VM among what is there: {told:?}");
}

#[tokio::test]
async fn a_vm_that_nova_calls_deleted_and_still_lists_is_there_until_its_records_are_gone() {
    let (world, vms) = two().await;
    world.cloud.faults().keep_records(true);
    let (name, id) = vms[0].clone();
    assert_eq!(world.provider.delete(&name, Some(&id)).await.unwrap(), Deletion::Accepted);
    let ended = |cloud: &FakeOpenstack| cloud.vms().iter().any(|vm| vm.status == "DELETED");
    world.until("its host is rid of it", ended).await;
    let told = recent(&world).await.unwrap();
    assert_eq!(told.deleted, []);
    let status = |vms: &[Vm]| vms.iter().find(|vm| vm.name == name).map(|vm| vm.status.clone());
    assert_eq!(status(&told.changed), Some(VmStatus::Deleting));
    assert_eq!(status(&world.provider.list().await.unwrap().entries), Some(VmStatus::Deleting));
    world.cloud.faults().keep_records(false);
    world.until("its records are gone", |cloud| cloud.vms().len() == 1).await;
    assert_eq!(recent(&world).await.unwrap().deleted, [(name, id)]);
}

#[tokio::test]
async fn a_vm_that_is_hidden_by_its_deletion_is_told_as_deleted() {
    let (world, vms) = two().await;
    world.cloud.faults().soft_deletes(true, false);
    let (name, id) = vms[0].clone();
    world.provider.delete(&name, Some(&id)).await.unwrap();
    assert_eq!(recent(&world).await.unwrap().deleted, [(name, id)]);
}

#[tokio::test]
async fn a_vm_of_others_with_a_name_of_ours_is_told_only_where_it_bears_our_tag() {
    let (world, _) = two().await;
    let id = world.cloud.plant(name(7).as_str(), &["runner-fleet:other"]);
    let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string();
    world.cloud.distort(&id, serde_json::json!({ "updated": now }));
    world.cloud.faults().answer_changes(Some(Changes::All));
    let told = recent(&world).await.unwrap();
    assert_eq!(told.changed.len(), 2);
    assert!(told.changed.iter().all(|vm| vm.id.0 != id), "{told:?}");
}

#[tokio::test]
async fn a_cloud_that_answers_everything_is_listed_instead_and_not_asked_again_for_a_while() {
    let (world, _) = two().await;
    // It has not changed for an hour, and is told all the same.
    world.cloud.plant(name(9).as_str(), &["runner-fleet:ci"]);
    world.cloud.faults().answer_changes(Some(Changes::All));
    assert_eq!(recent(&world).await, None);
    assert!(!world.provider.tells_recent());
    world.provider.list().await.unwrap();
    let calls = world.calls(LIST);
    assert_eq!(recent(&world).await, None);
    assert_eq!(world.calls(LIST), calls, "nobody is asked");
    world.clock.advance(Duration::from_secs(601));
    assert!(world.provider.tells_recent(), "later it is tried again");
}

#[tokio::test]
async fn an_answer_that_lacks_what_is_known_is_not_believed_and_the_third_ends_the_asking() {
    for lie in [Changes::Nothing, Changes::Without(1.0)] {
        let (world, _) = two().await;
        world.cloud.faults().answer_changes(Some(lie));
        for _ in 0..3 {
            assert!(world.provider.tells_recent(), "{lie:?}");
            assert_eq!(recent(&world).await, None, "{lie:?}");
            assert_eq!(world.provider.list().await.unwrap().entries.len(), 2);
        }
        assert!(!world.provider.tells_recent(), "{lie:?}");
    }
}

#[tokio::test]
async fn a_cloud_that_does_not_take_the_question_is_listed() {
    let (world, _) = two().await;
    world.cloud.faults().answer_changes(Some(Changes::Refused(400)));
    assert_eq!(recent(&world).await, None);
    assert!(!world.provider.tells_recent());
    world.provider.list().await.unwrap();
}

#[tokio::test]
async fn a_cloud_that_only_fails_at_that_question_is_asked_it_three_times() {
    let (world, _) = two().await;
    world.cloud.faults().answer_changes(Some(Changes::Refused(500)));
    for _ in 0..3 {
        assert!(world.provider.recent().await.is_err());
        world.provider.list().await.unwrap();
    }
    assert!(!world.provider.tells_recent());
    assert_eq!(recent(&world).await, None);
}

#[tokio::test]
async fn our_own_clock_and_that_of_the_clouds_answers_may_be_hours_off() {
    for hours in [-3, 3] {
        let world = World::new().await;
        world.cloud.faults().clock_ahead(TimeDelta::hours(hours));
        world.clock.advance(Duration::from_secs(7200));
        world.launch(1).await.unwrap();
        active(&world, 1).await;
        let told = recent(&world).await.unwrap();
        assert_eq!(told.changed.len(), 1, "{hours}");
        world.provider.delete(&name(1), None).await.unwrap();
        world.until("it is gone", |cloud| cloud.vms().is_empty()).await;
        assert_eq!(recent(&world).await.unwrap().deleted.len(), 1, "{hours}");
    }
}

#[tokio::test]
async fn hosts_whose_clocks_differ_are_learnt_from_what_only_listings_show() {
    let world = World::new().await;
    // As many as it takes that some are on a host of either kind.
    for token in 0..16 {
        world.launch(token).await.unwrap();
    }
    active(&world, 16).await;
    recent(&world).await.unwrap();
    world.cloud.faults().hosts_behind(TimeDelta::minutes(1));
    for token in 16..32 {
        world.launch(token).await.unwrap();
    }
    let all = |cloud: &FakeOpenstack| {
        let vms = cloud.vms();
        vms.len() == 32 && vms.iter().all(|vm| vm.status == "ACTIVE")
    };
    world.until("all are active", all).await;
    let told = recent(&world).await.unwrap();
    assert!(told.changed.len() < 32, "some are stamped before anybody asks");
    world.provider.list().await.unwrap();
    assert_eq!(recent(&world).await.unwrap().changed.len(), 32, "now it is asked for from before");
}

#[tokio::test]
async fn what_has_changed_comes_in_pages_and_a_page_that_fails_is_no_answer() {
    let world = World::with(Options { page_limit: 3, ..Options::default() }).await;
    for token in 0..8 {
        world.launch(token).await.unwrap();
    }
    active(&world, 8).await;
    assert_eq!(recent(&world).await.unwrap().changed.len(), 8);
    world.cloud.faults().fail_later_pages(true);
    assert!(world.provider.recent().await.is_err());
}
