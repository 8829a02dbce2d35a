//! Launches that take longer than their caller waits, on a real LXD: what is made, what fails and what
//! is not wanted any more while nobody waits for it.

use std::time::Duration;

use runner_fleet::provider::lxd::Lxd;
use runner_fleet_actors::{
    name::FleetId,
    port::{
        ErrorClass, ImageProtocol, ImageServer, LaunchOrder, LxdShape, Provider, Shape, Vm,
        VmStatus,
    },
};

use crate::support::lxd;
use crate::support::lxd::{PATIENCE, RealLxd};
use crate::support::lxd_gate::Gate;
use crate::support::provider::contract::{delete_to_the_end, eventually, order};

/// One that waits for nothing beyond LXD's word that it has taken the order.
fn hasty(lxd: &RealLxd, fleet: &FleetId) -> Lxd {
    lxd.provider_that_waits(fleet, Duration::ZERO)
}

async fn seen(provider: &Lxd, order: &LaunchOrder) -> Option<Vm> {
    let listing = provider.list().await.unwrap();
    listing.entries.into_iter().find(|vm| vm.name == order.name)
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_vm_that_is_still_made_is_listed_as_building_with_all_that_a_restart_needs() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    let provider = hasty(&lxd, &fleet);
    let mut changes = provider.changes().unwrap();
    let order = order(&fleet, lxd.shape(), 1);
    let id = provider.launch(order.clone()).await.unwrap();
    let vm = seen(&provider, &order).await.expect("it was promised");
    assert_eq!((vm.id, vm.status), (id, VmStatus::Building));
    assert_eq!(vm.created_at, Some(order.created_at));
    assert_eq!((vm.shape, vm.scope), (Some(order.shape.digest()), Some(order.scope.clone())));
    let told = tokio::time::timeout(PATIENCE, changes.recv()).await.expect("it runs").unwrap();
    assert_eq!((told.name, told.status), (order.name.clone(), VmStatus::Active));
    assert_eq!(seen(&provider, &order).await.unwrap().status, VmStatus::Active);
    delete_to_the_end(&provider, PATIENCE, &order.name, None).await;
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_failure_that_nobody_waited_for_is_listed_with_its_reason_until_it_is_deleted() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    let profile = lxd.broken_profile(&fleet).await;
    let provider = hasty(&lxd, &fleet);
    let mut changes = provider.changes().unwrap();
    let order = order(&fleet, lxd.shape_of(&["default", &profile]), 2);
    provider.launch(order.clone()).await.expect("LXD takes the order");
    let told = tokio::time::timeout(PATIENCE, changes.recv()).await.expect("it fails").unwrap();
    let VmStatus::Error { fault, .. } = told.status else { panic!("{told:?}") };
    assert!(fault.contains("device \"bad\""), "{fault}");
    let vm = seen(&provider, &order).await.expect("its reason is not lost");
    assert!(matches!(vm.status, VmStatus::Error { fault: same, .. } if same == fault));
    assert!(!lxd.names().await.contains(&order.name.to_string()), "although LXD has nothing left");
    delete_to_the_end(&provider, PATIENCE, &order.name, None).await;
    assert_eq!(seen(&provider, &order).await, None);
    lxd.ask("DELETE", &format!("profiles/{profile}"), None).await;
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_vm_that_is_deleted_while_it_is_made_is_gone_in_the_end() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    let provider = hasty(&lxd, &fleet);
    let order = order(&fleet, lxd.shape(), 3);
    provider.launch(order.clone()).await.unwrap();
    delete_to_the_end(&provider, PATIENCE, &order.name, None).await;
    eventually(PATIENCE, "nothing comes after it", || async {
        (!lxd.names().await.contains(&order.name.to_string())).then_some(())
    })
    .await;
    assert_eq!(provider.list().await.unwrap().entries, []);
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_caller_that_goes_away_leaves_no_vm_half_made() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    let provider = hasty(&lxd, &fleet);
    provider.list().await.unwrap();
    let order = order(&fleet, lxd.shape(), 4);
    // Dropped as soon as it has asked for anything.
    let dropped = tokio::time::timeout(Duration::from_millis(1), provider.launch(order.clone()));
    let _whatever = dropped.await;
    eventually(PATIENCE, "it runs, or was never asked for", || async {
        match seen(&provider, &order).await {
            Some(vm) => (vm.status == VmStatus::Active).then_some(()),
            None => (!lxd.names().await.contains(&order.name.to_string())).then_some(()),
        }
    })
    .await;
    delete_to_the_end(&provider, PATIENCE, &order.name, None).await;
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn an_image_server_that_does_not_answer_fails_the_launch_and_leaves_nothing() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    let provider = lxd.provider(&fleet);
    // A port of this machine on which nobody listens.
    let url = "https://127.0.0.1:9".to_owned();
    for protocol in [ImageProtocol::Simplestreams, ImageProtocol::Lxd] {
        let image_server = Some(ImageServer { url: url.clone(), protocol });
        let part = LxdShape { image_server, ..LxdShape::default() };
        let order = order(&fleet, Shape { lxd: Some(part), ..lxd.shape() }, 5);
        let error = provider.launch(order).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Transient, "{error}");
        assert!(error.what.contains("127.0.0.1:9"), "{error}");
        assert_eq!(provider.list().await.unwrap().entries, []);
    }
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn an_instance_that_hangs_is_stopped_by_force_and_not_just_forgotten() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    let order = order(&fleet, lxd.shape(), 7);
    lxd.provider(&fleet).launch(order.clone()).await.unwrap();
    // What LXD says of a machine whose qemu does not answer. It would delete that and leave the qemu.
    let gate = Gate::before(lxd.socket.clone());
    let mut hung = lxd.ask("GET", &format!("instances/{}", order.name), None).await;
    hung["metadata"]["status"] = "Error".into();
    gate.answer(&format!("GET /1.0/instances/{}", order.name), &hung.to_string());
    gate.reached(&lxd).provider(&fleet).delete(&order.name, None).await.unwrap();
    eventually(PATIENCE, "what hung is gone", || async {
        (!lxd.names().await.contains(&order.name.to_string())).then_some(())
    })
    .await;
}
