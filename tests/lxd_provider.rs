//! LXD's own sides, on a real one: what the contract of all providers does not speak of.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{sync::Arc, time::Duration};

use runner_fleet::provider::{
    Grade,
    lxd::{Lxd, LxdConfig},
};
use runner_fleet_actors::{
    name::FleetId,
    port::{
        Deletion, ErrorClass, LaunchOrder, LxdKind, LxdShape, Provider, Secret, Shape, TokioClock,
        VmStatus,
    },
};

#[path = "provider/contract.rs"]
#[allow(dead_code, reason = "the suite itself is held elsewhere")]
mod contract;
#[path = "support/lxd.rs"]
mod lxd;

use contract::{delete_to_the_end, eventually, order};
use lxd::RealLxd;

const PATIENCE: Duration = Duration::from_secs(60);

fn provider(lxd: &RealLxd, fleet: &FleetId) -> Lxd {
    let clock = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
    Lxd::connect(LxdConfig::new(lxd.access(), fleet.clone()), clock).unwrap()
}

fn with_user_data(order: LaunchOrder, script: &str) -> LaunchOrder {
    LaunchOrder { user_data: Secret::new(script), ..order }
}

async fn status(provider: &Lxd, order: &LaunchOrder) -> Option<VmStatus> {
    let listing = provider.list().await.unwrap();
    listing.entries.into_iter().find(|vm| vm.name == order.name).map(|vm| vm.status)
}

#[tokio::test]
async fn a_guest_that_powers_off_leaves_nothing() {
    let Some(lxd) = RealLxd::found() else { return };
    let fleet = lxd::fleet();
    let provider = provider(&lxd, &fleet);
    let order = with_user_data(order(&fleet, lxd.shape(), 1), "#!/bin/sh\npoweroff\n");
    provider.launch(order.clone()).await.unwrap();
    eventually(PATIENCE, "it is gone by itself", || async {
        status(&provider, &order).await.is_none().then_some(())
    })
    .await;
    assert_eq!(provider.delete(&order.name, None).await.unwrap(), Deletion::Gone);
}

#[tokio::test]
async fn sizes_profiles_and_nesting_arrive() {
    let Some(lxd) = RealLxd::found() else { return };
    let fleet = lxd::fleet();
    let provider = provider(&lxd, &fleet);
    let part = LxdShape {
        cpu: Some(1),
        memory: Some(64 << 20),
        disk: Some(512 << 20),
        nesting: true,
        profiles: vec!["default".into()],
        ..LxdShape::default()
    };
    let shape = Shape { lxd: Some(part), network: Some("lxdbr0".into()), ..lxd.shape() };
    let order = order(&fleet, shape, 2);
    provider.launch(order.clone()).await.unwrap();
    let instance = lxd.ask("GET", &format!("instances/{}", order.name), None).await;
    let (config, devices) = (&instance["metadata"]["config"], &instance["metadata"]["devices"]);
    assert_eq!(config["limits.cpu"], "1");
    assert_eq!(config["limits.memory"], "67108864B");
    assert_eq!(config["security.nesting"], "true");
    assert_eq!(config["user.runner-fleet.pool"], "large");
    assert_eq!(devices["root"]["pool"], "default");
    assert_eq!(devices["root"]["size"], "536870912");
    assert_eq!(devices["eth0"]["network"], "lxdbr0");
    assert_eq!(instance["metadata"]["ephemeral"], true);
    delete_to_the_end(&provider, PATIENCE, &order.name, None).await;
}

#[tokio::test]
async fn a_launch_that_fails_at_its_start_leaves_nothing() {
    let Some(lxd) = RealLxd::found() else { return };
    let fleet = lxd::fleet();
    // A device that is looked for at the start only.
    let profile = format!("broken-{fleet}");
    let devices = serde_json::json!({
        "gone": { "type": "disk", "source": "/no/such/folder", "path": "/mnt", "required": "false" },
        "bad": { "type": "unix-char", "source": "/dev/no-such-device", "path": "/dev/x" },
    });
    let body = serde_json::json!({ "name": profile, "devices": devices });
    lxd.ask("POST", "profiles", Some(body)).await;
    let provider = provider(&lxd, &fleet);
    let part =
        LxdShape { profiles: vec!["default".into(), profile.clone()], ..LxdShape::default() };
    let order = order(&fleet, Shape { lxd: Some(part), ..lxd.shape() }, 3);
    let error = provider.launch(order.clone()).await.unwrap_err();
    assert!(error.what.contains("starting VM"), "{error}");
    assert!(error.certain, "it was cleared up: {error}");
    assert_eq!(provider.list().await.unwrap().entries, []);
    assert!(!lxd.names().await.contains(&order.name.to_string()));
    lxd.ask("DELETE", &format!("profiles/{profile}"), None).await;
}

#[tokio::test]
async fn a_launch_that_broke_off_before_its_start_is_no_finished_runner() {
    let Some(lxd) = RealLxd::found() else { return };
    let fleet = lxd::fleet();
    let order = order(&fleet, lxd.shape(), 4);
    assert!(lxd.plant(order.name.as_str(), Some(&fleet)).await);
    let provider = provider(&lxd, &fleet);
    assert_eq!(status(&provider, &order).await, Some(VmStatus::Building));
    // Its user data is void, so that a launch of the same name makes it anew.
    provider.launch(order.clone()).await.unwrap();
    assert_eq!(status(&provider, &order).await, Some(VmStatus::Active));
    let instance = lxd.ask("GET", &format!("instances/{}", order.name), None).await;
    assert_eq!(instance["metadata"]["ephemeral"], true);
    delete_to_the_end(&provider, PATIENCE, &order.name, None).await;
}

#[tokio::test]
async fn a_project_of_its_own_keeps_others_out_and_a_wrong_one_is_told() {
    let Some(lxd) = RealLxd::found() else { return };
    let fleet = lxd::fleet();
    let project = format!("p-{fleet}");
    let config = serde_json::json!({
        "features.images": "false", "features.profiles": "false", "limits.containers": "1",
    });
    let body = serde_json::json!({ "name": project, "config": config });
    lxd.ask("POST", "projects", Some(body)).await;
    let inside = RealLxd { project: project.clone(), ..lxd.clone() };
    let ours = provider(&inside, &fleet);
    let first = order(&fleet, lxd.shape(), 5);
    ours.launch(first.clone()).await.unwrap();
    assert!(inside.names().await.contains(&first.name.to_string()));
    assert!(!lxd.names().await.contains(&first.name.to_string()));
    let error = ours.launch(order(&fleet, lxd.shape(), 6)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Quota, "{error}");
    delete_to_the_end(&ours, PATIENCE, &first.name, None).await;
    lxd.ask("DELETE", &format!("projects/{project}"), None).await;

    // LXD itself lists the instances of a project that is not there as none.
    let nowhere = provider(&RealLxd { project: "no-such-project".into(), ..lxd }, &fleet);
    let error = nowhere.list().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    assert!(error.what.contains("no-such-project") && error.what.contains("default"), "{error}");
}

#[tokio::test]
async fn virtual_machines_are_made_or_refused_with_the_reason() {
    let Some(lxd) = RealLxd::found() else { return };
    let fleet = lxd::fleet();
    let provider = provider(&lxd, &fleet);
    let part = LxdShape { kind: LxdKind::VirtualMachine, ..LxdShape::default() };
    let order = order(&fleet, Shape { lxd: Some(part), ..lxd.shape() }, 7);
    let server = lxd.ask("GET", "", None).await;
    let driver = server["metadata"]["environment"]["driver"].as_str().unwrap();
    if driver.contains("qemu") {
        // `tiny` is an image of containers, and that is what must be told.
        let error = provider.launch(order).await.unwrap_err();
        assert!(error.what.contains("of the other type"), "{error}");
        return;
    }
    let error = provider.launch(order).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    assert!(error.what.contains("vhost_vsock"), "{error}");
    assert_eq!(provider.list().await.unwrap().entries, []);
    eprintln!("skipped, because this machine's LXD makes no virtual machines (driver {driver})");
}

#[tokio::test]
async fn a_check_names_what_is_missing_before_anything_is_launched() {
    let Some(lxd) = RealLxd::found() else { return };
    let fleet = lxd::fleet();
    let provider = provider(&lxd, &fleet);
    let part = LxdShape {
        kind: LxdKind::VirtualMachine,
        profiles: vec!["default".into(), "no-profile".into()],
        storage_pool: Some("no-pool".into()),
        ..LxdShape::default()
    };
    let bad = Shape {
        image: "no-image".into(),
        network: Some("lxdbr0".into()),
        lxd: Some(part),
        ..Shape::default()
    };
    let findings = provider.check_online(&[lxd.shape(), bad]).await;
    let of = |grade: Grade| -> Vec<&str> {
        findings.iter().filter(|f| f.grade == grade).map(|f| f.about.as_str()).collect()
    };
    for fine in ["lxd", "image tiny", "profile default", "network lxdbr0"] {
        assert!(of(Grade::Fine).contains(&fine), "{fine}: {findings:?}");
    }
    for fault in ["image no-image", "profile no-profile", "storage pool no-pool"] {
        assert!(of(Grade::Fault).contains(&fault), "{fault}: {findings:?}");
    }
}

#[tokio::test]
async fn a_socket_that_cannot_be_opened_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = RealLxd { socket: folder.path().join("unix.socket"), project: "default".into() };
    let error = provider(&nobody, &lxd::fleet()).list().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient);
    assert!(error.certain && error.what.contains("there is no such socket"), "{error}");
    let _bound = std::os::unix::net::UnixListener::bind(&nobody.socket).unwrap();
    drop(_bound);
    let error = provider(&nobody, &lxd::fleet()).list().await.unwrap_err();
    assert!(error.what.contains("nobody listens"), "{error}");
}
