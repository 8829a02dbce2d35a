//! Virtual machines on a real LXD: everything about them where the machine starts them, and everything
//! short of their start where it cannot.
//!
//! The provider is the real one and so is LXD. Only the call that starts is kept back where a test is
//! about what stands before it; then LXD has made the machine, and never started it.

use runner_fleet::provider::Grade;
use runner_fleet_actors::{
    name::FleetId,
    port::{
        Deletion, ErrorClass, LaunchOrder, LxdKind, LxdShape, Provider, Secret, Shape, VmStatus,
    },
};
use serde_json::Value;

use crate::support::lxd;
use crate::support::lxd::{PATIENCE, RealLxd};
use crate::support::lxd_gate::Gate;
use crate::support::provider::contract::{delete_to_the_end, eventually, order};

const USER_DATA: &str = "#cloud-config\nruncmd: [echo what the guest is to do]\n";

async fn with_vms() -> Option<RealLxd> {
    let lxd = RealLxd::found();
    lxd.makes_vms().await.then_some(lxd)
}

/// Behind a gate that keeps starts back.
fn short_of_the_start(lxd: &RealLxd) -> (Gate, RealLxd) {
    let gate = Gate::before(lxd.socket.clone());
    gate.keep_starts_back();
    let behind = gate.reached(lxd);
    (gate, behind)
}

fn a_vm(fleet: &FleetId, lxd: &RealLxd, token: u64) -> LaunchOrder {
    LaunchOrder { user_data: Secret::new(USER_DATA), ..order(fleet, lxd.vm_shape(), token) }
}

async fn instance(lxd: &RealLxd, order: &LaunchOrder) -> Value {
    lxd.ask("GET", &format!("instances/{}", order.name), None).await["metadata"].take()
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_virtual_machine_is_made_as_ordered_and_listed_with_all_that_a_restart_needs() {
    let Some(lxd) = with_vms().await else { return };
    let (_gate, behind) = short_of_the_start(&lxd);
    let fleet = lxd::fleet();
    let ours = behind.provider(&fleet);
    let order = a_vm(&fleet, &lxd, 1);
    let id = ours.launch(order.clone()).await.unwrap();

    let made = instance(&lxd, &order).await;
    assert_eq!((&made["type"], &made["status"]), (&"virtual-machine".into(), &"Stopped".into()));
    assert_eq!(made["ephemeral"], true);
    let config = &made["config"];
    assert_eq!(config["cloud-init.user-data"], USER_DATA);
    assert_eq!(config["user.runner-fleet.fleet"], fleet.as_str());
    assert_eq!(
        (&config["limits.cpu"], &config["limits.memory"]),
        (&"1".into(), &"67108864B".into())
    );
    assert_eq!(made["devices"]["root"]["size"], "12884901888");

    // Another process of the same fleet, as after a restart.
    let listing = behind.provider(&fleet).list().await.unwrap();
    assert!(listing.complete, "{:?}", listing.faults);
    let [vm] = listing.entries.as_slice() else { panic!("{:?}", listing.entries) };
    assert_eq!((&vm.name, &vm.id), (&order.name, &id));
    assert_eq!(vm.status, VmStatus::Building, "never started is not finished");
    assert_eq!(vm.created_at, Some(order.created_at));
    assert_eq!((&vm.shape, &vm.scope), (&Some(order.shape.digest()), &Some(order.scope.clone())));

    delete_to_the_end(&ours, PATIENCE, &order.name, Some(&id)).await;
    assert_eq!(ours.list().await.unwrap().entries, []);
    assert!(!lxd.names().await.contains(&order.name.to_string()));
    let disk = format!("storage-pools/default/volumes/virtual-machine/{}", order.name);
    assert_eq!(lxd.ask("GET", &disk, None).await["error_code"], 404, "its disk is gone too");
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_virtual_machine_that_was_never_started_is_made_anew_under_its_name() {
    let Some(lxd) = with_vms().await else { return };
    let (_gate, behind) = short_of_the_start(&lxd);
    let fleet = lxd::fleet();
    let ours = behind.provider(&fleet);
    let order = a_vm(&fleet, &lxd, 2);
    ours.launch(order.clone()).await.unwrap();
    let first = instance(&lxd, &order).await["config"]["volatile.uuid"].take();
    ours.launch(order.clone()).await.unwrap();
    let second = instance(&lxd, &order).await["config"]["volatile.uuid"].take();
    assert!(first.is_string() && second.is_string(), "{first} {second}");
    assert_ne!(first, second, "the JIT config in the first one's user data is void");
    assert_eq!(ours.list().await.unwrap().entries.len(), 1);
    delete_to_the_end(&ours, PATIENCE, &order.name, None).await;
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn containers_and_virtual_machines_are_listed_as_one_fleet() {
    let Some(lxd) = with_vms().await else { return };
    let (gate, behind) = short_of_the_start(&lxd);
    let fleet = lxd::fleet();
    let ours = behind.provider(&fleet);
    let vm = a_vm(&fleet, &lxd, 3);
    ours.launch(vm.clone()).await.unwrap();
    gate.answer_nothing_instead();
    let container = order(&fleet, lxd.shape(), 4);
    ours.launch(container.clone()).await.unwrap();
    let mut seen: Vec<_> =
        ours.list().await.unwrap().entries.into_iter().map(|vm| (vm.name, vm.status)).collect();
    seen.sort_by_key(|(name, _)| name.to_string());
    let expected =
        [(vm.name.clone(), VmStatus::Building), (container.name.clone(), VmStatus::Active)];
    assert_eq!(seen, expected);
    for name in [&vm.name, &container.name] {
        delete_to_the_end(&ours, PATIENCE, name, None).await;
    }
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn an_image_of_containers_makes_no_virtual_machine_and_that_is_what_is_told() {
    let Some(lxd) = with_vms().await else { return };
    let fleet = lxd::fleet();
    let ours = lxd.provider(&fleet);
    let shape = Shape { image: "tiny".into(), ..lxd.vm_shape() };
    let findings = ours.check_online(&[lxd.vm_shape(), shape.clone()]).await;
    let about = |grade: Grade, image: &str| {
        findings.iter().any(|finding| finding.grade == grade && finding.about == image)
    };
    assert!(about(Grade::Fine, "image blank"), "{findings:?}");
    assert!(about(Grade::Fault, "image tiny"), "{findings:?}");
    let error = ours.launch(order(&fleet, shape, 5)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    assert!(error.what.contains("of the other type"), "{error}");
    assert_eq!(ours.list().await.unwrap().entries, []);
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_virtual_machine_runs_or_says_why_it_does_not_start_and_leaves_nothing() {
    let Some(lxd) = with_vms().await else { return };
    let fleet = lxd::fleet();
    let ours = lxd.provider(&fleet);
    let order = a_vm(&fleet, &lxd, 6);
    match ours.launch(order.clone()).await {
        Ok(_) => {
            eventually(PATIENCE, "it runs", || async {
                let vms = ours.list().await.unwrap().entries;
                vms.iter().any(|vm| vm.status == VmStatus::Active).then_some(())
            })
            .await;
            delete_to_the_end(&ours, PATIENCE, &order.name, None).await;
        }
        Err(error) => {
            assert!(error.what.contains("starting VM"), "{error}");
            assert!(error.certain, "it was cleared up: {error}");
            println!("{error}");
            eprintln!("skipped, because this machine's LXD can start no virtual machine");
        }
    }
    assert_eq!(ours.list().await.unwrap().entries, []);
    assert!(!lxd.names().await.contains(&order.name.to_string()));
    assert_eq!(ours.delete(&order.name, None).await.unwrap(), Deletion::Gone);
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn where_lxd_makes_none_the_order_is_refused_with_what_is_needed() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    // An LXD that was started without QEMU, as far as it says itself.
    let gate = Gate::before(lxd.socket.clone());
    let mut server = lxd.ask("GET", "", None).await;
    server["metadata"]["environment"]["driver"] = "lxc".into();
    gate.answer("GET /1.0?", &server.to_string());
    let ours = gate.reached(&lxd).provider(&fleet);
    let kind = LxdShape { kind: LxdKind::VirtualMachine, ..LxdShape::default() };
    let error =
        ours.launch(order(&fleet, Shape { lxd: Some(kind), ..lxd.shape() }, 7)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    assert!(error.certain && error.what.contains("vhost_vsock"), "{error}");
    assert_eq!(ours.list().await.unwrap().entries, []);
}
