//! The contract of `Provider`, as a suite that any cloud can be held to.
//!
//! Each case is a function over an [`Environment`]: what the suite may ask of the cloud beside the
//! provider itself. What a cloud cannot do for the suite (revoke a token, say) it answers with
//! `None` or `false`, and the case ends there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use runner_fleet_actors::{
    name::{FleetId, PoolName, RunnerName, Scope, VmId},
    port::{
        Deletion, ErrorClass, LaunchOrder, PortError, Provider, Secret, Shape, Time, Vm, VmStatus,
    },
};

pub use crate::support::e2e::eventually;

/// A cloud under test.
#[async_trait]
pub trait Environment: Send + Sync {
    /// A provider of its own, as another process would have it.
    async fn provider(&self, fleet: &FleetId, page_size: u32) -> Box<dyn Provider>;
    /// A shape that the cloud can make.
    fn shape(&self) -> Shape;
    /// A fleet id that nobody else uses.
    fn fleet(&self) -> FleetId;
    /// Shapes that name something that is not there, each with that name and, where the refusal
    /// lists what there is, one of those names.
    fn unknown(&self) -> Vec<(Shape, String, Option<String>)>;
    /// A shape that the cloud has no host for; found out after it has taken the order.
    fn hopeless(&self) -> Option<Shape> {
        None
    }
    /// A network name that two networks have.
    fn ambiguous_network(&self) -> Option<String> {
        None
    }
    /// Longest user data that the cloud takes, in characters of base64.
    fn user_data_limit(&self) -> Option<usize> {
        None
    }
    /// Puts a VM there by other means, marked as `owner`'s: its identifier.
    async fn plant(&self, name: &str, owner: Option<&FleetId>) -> Option<String>;
    /// Takes away what was planted.
    async fn clear(&self) {}
    /// The names of all that is there, whosever it is, of fleets that begin with `prefix`.
    async fn raw_names(&self, prefix: &str) -> Option<Vec<String>>;
    /// Whether the cloud tells what has changed, deleted VMs among it.
    fn tells_changes(&self) -> bool {
        false
    }
    /// Makes all tokens handed out so far worthless.
    fn revoke_tokens(&self) -> bool {
        false
    }
    /// How long the cloud may take for anything.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

pub fn order(fleet: &FleetId, shape: Shape, token: u64) -> LaunchOrder {
    let pool: PoolName = "large".parse().unwrap();
    LaunchOrder {
        name: RunnerName::new(fleet, &pool, token),
        pool,
        scope: "octo-org/octo-repo".parse().unwrap(),
        shape,
        user_data: Secret::new("#cloud-config\nruncmd: [echo jit-config-of-the-test]\n"),
        created_at: "2026-11-20T10:00:00Z".parse().unwrap(),
        fresh: false,
    }
}

async fn listed(provider: &dyn Provider) -> Vec<Vm> {
    let listing = provider.list().await.expect("the cloud lists");
    assert!(listing.complete, "nothing was wrong, so the listing is whole: {:?}", listing.faults);
    listing.entries
}

/// Deletes by name until the provider says that nothing of the name is left.
pub async fn delete_to_the_end(
    provider: &dyn Provider,
    patience: Duration,
    name: &RunnerName,
    id: Option<&VmId>,
) {
    eventually(patience, "a deleted vm is gone", || async {
        match provider.delete(name, id).await {
            Ok(Deletion::Gone) => Some(()),
            Ok(Deletion::Accepted) => None,
            Err(error) => panic!("a delete fails: {error}"),
        }
    })
    .await;
}

async fn refused(provider: &dyn Provider, order: LaunchOrder) -> PortError {
    let name = order.name.clone();
    let error = provider.launch(order).await.expect_err("such an order cannot be launched");
    assert!(error.certain, "{name} was refused for certain: {error}");
    error
}

pub async fn a_launched_vm_is_listed_with_all_that_a_restart_needs(env: &dyn Environment) {
    let fleet = env.fleet();
    let provider = env.provider(&fleet, 100).await;
    let order = order(&fleet, env.shape(), 1);
    let before: Time = chrono::Utc::now();
    let id = provider.launch(order.clone()).await.expect("launch");
    let vm = eventually(env.patience(), "the vm is active and has an address", || async {
        let vms = listed(provider.as_ref()).await;
        assert_eq!(vms.len(), 1, "{vms:?}");
        vms.into_iter().find(|vm| vm.status == VmStatus::Active && vm.address.is_some())
    })
    .await;
    assert_eq!(vm.name, order.name);
    assert_eq!(vm.name.pool(), order.pool);
    assert_eq!(vm.id, id);
    assert_eq!(vm.created_at, Some(order.created_at));
    assert_eq!(vm.shape, Some(order.shape.digest()));
    assert_eq!(
        vm.scope,
        Some(Scope::Repository { owner: "octo-org".into(), repo: "octo-repo".into() })
    );
    let listing = provider.list().await.unwrap();
    assert!(listing.as_of >= before - chrono::TimeDelta::seconds(1), "a listing knows its time");
    delete_to_the_end(provider.as_ref(), env.patience(), &order.name, Some(&id)).await;
}

pub async fn a_name_is_launched_once_however_often_it_is_asked_for(env: &dyn Environment) {
    let fleet = env.fleet();
    let provider = env.provider(&fleet, 100).await;
    let other_process = env.provider(&fleet, 100).await;
    let order = order(&fleet, env.shape(), 2);
    let (first, second) =
        tokio::join!(provider.launch(order.clone()), provider.launch(order.clone()));
    let id = first.expect("launch");
    assert_eq!(second.expect("the same again"), id);
    assert_eq!(other_process.launch(order.clone()).await.expect("from elsewhere"), id);
    assert_eq!(listed(provider.as_ref()).await.len(), 1);
    delete_to_the_end(provider.as_ref(), env.patience(), &order.name, None).await;
}

pub async fn a_delete_is_accepted_then_gone_and_gone_again(env: &dyn Environment) {
    let fleet = env.fleet();
    let provider = env.provider(&fleet, 100).await;
    let order = order(&fleet, env.shape(), 3);
    let id = provider.launch(order.clone()).await.expect("launch");
    let first = provider.delete(&order.name, Some(&id)).await.expect("delete");
    if first == Deletion::Gone {
        assert_eq!(listed(provider.as_ref()).await, [], "gone is said of what is gone");
    }
    delete_to_the_end(provider.as_ref(), env.patience(), &order.name, Some(&id)).await;
    for known in [Some(&id), None] {
        let again = provider.delete(&order.name, known).await.expect("delete again");
        assert_eq!(again, Deletion::Gone);
    }
    assert_eq!(listed(provider.as_ref()).await, []);
}

pub async fn what_the_cloud_does_not_know_is_answered_with_what_it_knows(env: &dyn Environment) {
    let fleet = env.fleet();
    for (shape, no, known) in env.unknown() {
        // One of its own each: what one has looked up and remembered makes its refusals less sure.
        let provider = env.provider(&fleet, 100).await;
        let error = refused(provider.as_ref(), order(&fleet, shape, 4)).await;
        assert_eq!(error.class, ErrorClass::Invalid, "{error}");
        if let Some(known) = known {
            assert!(error.what.contains(&no), "names what is wrong: {error}");
            assert!(error.what.contains(&known), "names what there is: {error}");
        }
        assert_eq!(listed(provider.as_ref()).await, []);
    }
}

pub async fn an_ambiguous_network_is_answered_with_the_ids_to_choose_from(env: &dyn Environment) {
    let Some(network) = env.ambiguous_network() else { return };
    let fleet = env.fleet();
    let provider = env.provider(&fleet, 100).await;
    let shape = Shape { network: Some(network.clone()), ..env.shape() };
    let error = refused(provider.as_ref(), order(&fleet, shape.clone(), 6)).await;
    assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    let ids: BTreeSet<&str> =
        error.what.split([' ', ',']).filter(|word| uuid::Uuid::parse_str(word).is_ok()).collect();
    assert_eq!(ids.len(), 2, "{error}");
    let id = ids.first().map(|id| (*id).to_owned());
    let order = order(&fleet, Shape { network: id, ..shape }, 6);
    provider.launch(order.clone()).await.expect("an id is not ambiguous");
    delete_to_the_end(provider.as_ref(), env.patience(), &order.name, None).await;
}

pub async fn a_vm_that_found_no_host_says_no_capacity_and_can_be_deleted(env: &dyn Environment) {
    let Some(shape) = env.hopeless() else { return };
    let fleet = env.fleet();
    let provider = env.provider(&fleet, 100).await;
    let order = order(&fleet, shape, 7);
    provider.launch(order.clone()).await.expect("the cloud takes the order");
    let (class, fault) = eventually(env.patience(), "the vm is in error", || async {
        match listed(provider.as_ref()).await.remove(0).status {
            VmStatus::Error { class, fault } => Some((class, fault)),
            _ => None,
        }
    })
    .await;
    assert_eq!(class, ErrorClass::NoCapacity);
    assert!(fault.contains("No valid host"), "the cloud's own words: {fault}");
    delete_to_the_end(provider.as_ref(), env.patience(), &order.name, None).await;
}

pub async fn the_vms_of_others_are_neither_listed_nor_deleted(env: &dyn Environment) {
    let fleet = env.fleet();
    let neighbour: FleetId = format!("{}-b", fleet.as_str()).parse().unwrap();
    let ours = env.provider(&fleet, 100).await;
    let theirs = env.provider(&neighbour, 100).await;
    let their_order = order(&neighbour, env.shape(), 8);
    let their_id = theirs.launch(their_order.clone()).await.expect("launch");
    let our_name = order(&fleet, env.shape(), 8).name;
    // The same name as one of ours, but without our mark, and one with another's.
    let mut planted = Vec::new();
    for owner in [None, Some(&neighbour)] {
        planted.extend(env.plant(our_name.as_str(), owner).await);
    }
    let there = planted.len() + 1;

    assert_eq!(listed(ours.as_ref()).await, []);
    for id in [their_id.0.clone()].into_iter().chain(planted) {
        for name in [&our_name, &their_order.name] {
            let deletion = ours.delete(name, Some(&VmId(id.clone()))).await.expect("delete");
            assert_eq!(deletion, Deletion::Gone, "nothing of ours has the name {name}");
        }
    }
    assert_eq!(ours.delete(&our_name, None).await.expect("delete"), Deletion::Gone);
    if let Some(names) = env.raw_names(fleet.as_str()).await {
        assert_eq!(names.len(), there, "all are still there: {names:?}");
    }
    env.clear().await;
    let still = listed(theirs.as_ref()).await;
    assert_eq!(still.len(), 1);
    assert_ne!(still[0].status, VmStatus::Deleting);
    delete_to_the_end(theirs.as_ref(), env.patience(), &their_order.name, None).await;
}

pub async fn a_listing_of_many_pages_is_one_sweep(env: &dyn Environment) {
    let fleet = env.fleet();
    let provider = env.provider(&fleet, 2).await;
    let orders: Vec<LaunchOrder> = (0..5).map(|n| order(&fleet, env.shape(), 100 + n)).collect();
    let mut ids = BTreeMap::new();
    for order in &orders {
        let id = provider.launch(order.clone()).await.expect("launch");
        ids.insert(order.name.clone(), id);
    }
    let seen: BTreeMap<RunnerName, VmId> =
        listed(provider.as_ref()).await.into_iter().map(|vm| (vm.name, vm.id)).collect();
    assert_eq!(seen, ids);
    for order in &orders {
        let id = ids.get(&order.name);
        provider.delete(&order.name, id).await.expect("delete");
    }
    for order in &orders {
        delete_to_the_end(provider.as_ref(), env.patience(), &order.name, None).await;
    }
}

pub async fn what_has_changed_is_told_down_to_a_deletion(env: &dyn Environment) {
    if !env.tells_changes() {
        return;
    }
    let fleet = env.fleet();
    let provider = env.provider(&fleet, 2).await;
    let orders: Vec<LaunchOrder> = (0..3).map(|n| order(&fleet, env.shape(), 200 + n)).collect();
    let mut ids = BTreeMap::new();
    for order in &orders {
        ids.insert(order.name.clone(), provider.launch(order.clone()).await.expect("launch"));
    }
    let active = |vms: &[Vm]| vms.iter().filter(|vm| vm.status == VmStatus::Active).count();
    eventually(env.patience(), "all are active", || async {
        (active(&listed(provider.as_ref()).await) == orders.len()).then_some(())
    })
    .await;
    assert!(provider.tells_recent(), "the cloud has shown when it changed what");
    let told = provider.recent().await.expect("it is asked").expect("and is believed");
    assert_eq!(told.faults, [""; 0]);
    assert_eq!(active(&told.changed), orders.len(), "all have just changed: {told:?}");
    assert!(told.changed.iter().all(|vm| ids.get(&vm.name) == Some(&vm.id)), "{told:?}");
    assert_eq!(told.deleted, []);

    let name = &orders[0].name;
    let accepted = provider.delete(name, ids.get(name)).await.expect("delete");
    assert_eq!(accepted, Deletion::Accepted);
    eventually(env.patience(), "the deletion is told by its identifier", || async {
        let Some(told) = provider.recent().await.expect("it is asked") else {
            listed(provider.as_ref()).await;
            return None;
        };
        let ended: Vec<_> = told.deleted.iter().filter(|(ended, _)| ended == name).collect();
        assert!(ended.iter().all(|(_, id)| ids.get(name) == Some(id)), "{ended:?}");
        (!ended.is_empty()).then_some(())
    })
    .await;
    let left = listed(provider.as_ref()).await;
    assert!(left.iter().all(|vm| vm.name != *name), "what is told deleted is gone: {left:?}");
    assert_eq!(provider.delete(name, ids.get(name)).await.expect("again"), Deletion::Gone);
    for order in &orders {
        provider.delete(&order.name, ids.get(&order.name)).await.expect("delete");
    }
    for order in &orders {
        delete_to_the_end(provider.as_ref(), env.patience(), &order.name, None).await;
    }
}

pub async fn user_data_that_no_cloud_takes_is_refused_without_a_call(env: &dyn Environment) {
    let Some(limit) = env.user_data_limit() else { return };
    let fleet = env.fleet();
    let provider = env.provider(&fleet, 100).await;
    let order =
        LaunchOrder { user_data: Secret::new("x".repeat(limit)), ..order(&fleet, env.shape(), 9) };
    let error = refused(provider.as_ref(), order).await;
    assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    assert!(error.what.contains(&limit.to_string()), "says the limit: {error}");
    assert!(!error.what.contains("xxxxxx"), "and not the data: {error}");
    assert_eq!(provider.status().calls, 0);
}

pub async fn a_revoked_token_is_renewed_and_nobody_notices(env: &dyn Environment) {
    let fleet = env.fleet();
    let provider = env.provider(&fleet, 100).await;
    assert_eq!(listed(provider.as_ref()).await, []);
    if !env.revoke_tokens() {
        return;
    }
    let order = order(&fleet, env.shape(), 10);
    provider.launch(order.clone()).await.expect("launch with a new token");
    assert!(env.revoke_tokens());
    assert_eq!(listed(provider.as_ref()).await.len(), 1);
    assert!(env.revoke_tokens());
    delete_to_the_end(provider.as_ref(), env.patience(), &order.name, None).await;
}

/// The whole contract, one case after the other.
pub async fn holds(env: &dyn Environment) {
    a_launched_vm_is_listed_with_all_that_a_restart_needs(env).await;
    a_name_is_launched_once_however_often_it_is_asked_for(env).await;
    a_delete_is_accepted_then_gone_and_gone_again(env).await;
    what_the_cloud_does_not_know_is_answered_with_what_it_knows(env).await;
    an_ambiguous_network_is_answered_with_the_ids_to_choose_from(env).await;
    a_vm_that_found_no_host_says_no_capacity_and_can_be_deleted(env).await;
    the_vms_of_others_are_neither_listed_nor_deleted(env).await;
    a_listing_of_many_pages_is_one_sweep(env).await;
    what_has_changed_is_told_down_to_a_deletion(env).await;
    user_data_that_no_cloud_takes_is_refused_without_a_call(env).await;
    a_revoked_token_is_renewed_and_nobody_notices(env).await;
}
