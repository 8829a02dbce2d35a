//! LXD's own sides, on a real one: what the contract of all providers does not speak of.

use std::path::Path;

use runner_fleet::{
    config::{LxdAccess, LxdReach},
    provider::{
        Grade,
        lxd::{Lxd, LxdConfig},
    },
};
use runner_fleet_actors::{
    name::FleetId,
    port::{
        Deletion, ErrorClass, LaunchOrder, LxdKind, LxdShape, Provider, Secret, Shape, VmStatus,
    },
};

use crate::support::lxd;
use crate::support::lxd::{PATIENCE, RealLxd, clock};
use crate::support::provider::contract::{delete_to_the_end, eventually, order};

fn with_user_data(order: LaunchOrder, script: &str) -> LaunchOrder {
    LaunchOrder { user_data: Secret::new(script), ..order }
}

async fn runs(provider: &Lxd, order: &LaunchOrder) {
    eventually(PATIENCE, "it runs", || async {
        (status(provider, order).await == Some(VmStatus::Active)).then_some(())
    })
    .await;
}

async fn status(provider: &Lxd, order: &LaunchOrder) -> Option<VmStatus> {
    let listing = provider.list().await.unwrap();
    listing.entries.into_iter().find(|vm| vm.name == order.name).map(|vm| vm.status)
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_guest_that_powers_off_leaves_nothing() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    let provider = lxd.provider(&fleet);
    let order = with_user_data(order(&fleet, lxd.shape(), 1), "#!/bin/sh\npoweroff\n");
    provider.launch(order.clone()).await.unwrap();
    eventually(PATIENCE, "it is gone by itself", || async {
        status(&provider, &order).await.is_none().then_some(())
    })
    .await;
    assert_eq!(provider.delete(&order.name, None).await.unwrap(), Deletion::Gone);
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn sizes_profiles_and_nesting_arrive() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    let provider = lxd.provider(&fleet);
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
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_launch_that_fails_at_its_start_leaves_nothing() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    let profile = lxd.broken_profile(&fleet).await;
    let provider = lxd.provider(&fleet);
    let order = order(&fleet, lxd.shape_of(&["default", &profile]), 3);
    let error = provider.launch(order.clone()).await.unwrap_err();
    assert!(error.what.contains("starting VM"), "{error}");
    assert!(error.certain, "it was cleared up: {error}");
    assert_eq!(provider.list().await.unwrap().entries, []);
    assert!(!lxd.names().await.contains(&order.name.to_string()));
    lxd.ask("DELETE", &format!("profiles/{profile}"), None).await;
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_launch_that_broke_off_before_its_start_is_no_finished_runner() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    let order = order(&fleet, lxd.shape(), 4);
    assert!(lxd.plant(order.name.as_str(), Some(&fleet)).await);
    let provider = lxd.provider(&fleet);
    assert_eq!(status(&provider, &order).await, Some(VmStatus::Building));
    // Its user data is void, so that a launch of the same name makes it anew.
    provider.launch(order.clone()).await.unwrap();
    runs(&provider, &order).await;
    let instance = lxd.ask("GET", &format!("instances/{}", order.name), None).await;
    assert_eq!(instance["metadata"]["ephemeral"], true);
    delete_to_the_end(&provider, PATIENCE, &order.name, None).await;
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_project_of_its_own_keeps_others_out_and_a_wrong_one_is_told() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    let project = format!("p-{fleet}");
    let config = serde_json::json!({
        "features.images": "false", "features.profiles": "false", "limits.containers": "1",
    });
    let body = serde_json::json!({ "name": project, "config": config });
    lxd.ask("POST", "projects", Some(body)).await;
    let inside = RealLxd { project: project.clone(), ..lxd.clone() };
    let ours = inside.provider(&fleet);
    let first = order(&fleet, lxd.shape(), 5);
    ours.launch(first.clone()).await.unwrap();
    assert!(inside.names().await.contains(&first.name.to_string()));
    assert!(!lxd.names().await.contains(&first.name.to_string()));
    let error = ours.launch(order(&fleet, lxd.shape(), 6)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Quota, "{error}");
    delete_to_the_end(&ours, PATIENCE, &first.name, None).await;
    lxd.ask("DELETE", &format!("projects/{project}"), None).await;

    // LXD itself lists the instances of a project that is not there as none.
    let nowhere = RealLxd { project: "no-such-project".into(), ..lxd }.provider(&fleet);
    let error = nowhere.list().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    assert!(error.what.contains("no-such-project") && error.what.contains("default"), "{error}");
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_check_names_what_is_missing_before_anything_is_launched() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    let provider = lxd.provider(&fleet);
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
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn disks_in_memory_are_launched_as_far_as_the_hosts_memory_goes() {
    let lxd = RealLxd::found();
    let fleet = lxd::fleet();
    let provider = lxd.provider(&fleet);
    let host = lxd.ask("GET", "resources", None).await;
    let total = host["metadata"]["memory"]["total"].as_u64().unwrap();
    let shape = |memory: u64, disk: u64| {
        let part = LxdShape {
            memory: Some(memory),
            disk: Some(disk),
            storage_pool: Some("memory".into()),
            disk_in_memory: true,
            ..LxdShape::default()
        };
        Shape { lxd: Some(part), ..lxd.shape() }
    };
    let small = order(&fleet, shape(64 << 20, 64 << 20), 8);
    provider.launch(small.clone()).await.unwrap();
    let instance = lxd.ask("GET", &format!("instances/{}", small.name), None).await;
    assert_eq!(instance["metadata"]["devices"]["root"]["pool"], "memory");

    // Either half would fit by itself; what the two promise together does not.
    let error = provider.launch(order(&fleet, shape(total / 2, total / 2), 9)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::NoCapacity, "{error}");
    for number in [format!("{} MiB", total >> 20), format!("{} MiB of memory", total >> 21)] {
        assert!(error.what.contains(&number), "says {number}: {error}");
    }
    assert_eq!(provider.list().await.unwrap().entries.len(), 1, "and was not begun");
    delete_to_the_end(&provider, PATIENCE, &small.name, None).await;
}

/// Where `tests/lxd/up.sh` leaves the certificates.
fn tls_of(lxd: &RealLxd) -> LxdAccess {
    let state = std::env::var("RUNNER_FLEET_TEST_LXD");
    let state = state.unwrap_or_else(|_| "/var/tmp/runner-fleet-lxd".to_owned());
    let file = |name: &str| Path::new(&state).join("tls").join(name);
    let url = std::fs::read_to_string(file("url")).expect("tests/lxd/up.sh makes its certificates");
    let reach = LxdReach::Https {
        url: url.trim().parse().unwrap(),
        client_certificate: file("client.crt"),
        client_key: file("client.key"),
        server_certificate: Some(file("server.crt")),
    };
    LxdAccess { reach, project: lxd.project.clone() }
}

fn over(access: LxdAccess, fleet: &FleetId) -> Lxd {
    Lxd::connect(LxdConfig::new(access, fleet.clone()), clock()).unwrap()
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn over_https_it_is_the_same() {
    let lxd = RealLxd::found();
    let access = tls_of(&lxd);
    let fleet = lxd::fleet();
    let provider = over(access, &fleet);
    let mut changes = provider.changes().unwrap();
    let order = order(&fleet, lxd.shape(), 10);
    provider.launch(order.clone()).await.unwrap();
    runs(&provider, &order).await;
    delete_to_the_end(&provider, PATIENCE, &order.name, None).await;
    let told = tokio::time::timeout(PATIENCE, changes.recv()).await.expect("events too");
    assert_eq!(told.unwrap().name, order.name);
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_stranger_is_told_from_a_server_that_is_one() {
    let lxd = RealLxd::found();
    let access = tls_of(&lxd);
    let LxdReach::Https { url, client_certificate, client_key, server_certificate } = access.reach
    else {
        panic!("it is over the network")
    };
    let reach = |client: (&Path, &Path), server: &Path| LxdAccess {
        reach: LxdReach::Https {
            url: url.clone(),
            client_certificate: client.0.to_path_buf(),
            client_key: client.1.to_path_buf(),
            server_certificate: Some(server.to_path_buf()),
        },
        project: "default".to_owned(),
    };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let (stranger, its_key) = (data.join("github-tls-cert.pem"), data.join("github-tls-key.pem"));
    let server = server_certificate.unwrap();
    let fleet = lxd::fleet();

    let unknown = over(reach((&stranger, &its_key), &server), &fleet);
    let error = unknown.list().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Auth, "{error}");
    assert!(error.what.contains("lxc config trust add"), "{error}");

    let wrong = over(reach((&client_certificate, &client_key), &stranger), &fleet);
    let error = wrong.list().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Auth, "{error}");
    assert!(error.what.contains("another certificate"), "{error}");

    let swapped = reach((&its_key, &stranger), &server);
    let error = Lxd::connect(LxdConfig::new(swapped, fleet), clock()).unwrap_err();
    assert!(error.what.contains("holds no PEM certificate"), "{error}");
}
