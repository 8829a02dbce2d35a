//! What LXD tells by itself, and what happens when it does not answer, on a real LXD.

use std::{sync::Arc, time::Instant};

use runner_fleet::provider::{Limited, Limits, lxd::Lxd};
use runner_fleet_actors::{
    name::FleetId,
    port::{Change, Deletion, ErrorClass, Provider, VmStatus},
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::support::lxd;
use crate::support::lxd::{PATIENCE, RealLxd, clock};
use crate::support::lxd_gate::Gate;
use crate::support::provider::contract::{delete_to_the_end, eventually, order};

fn behind(gate: &Gate, lxd: &RealLxd, fleet: &FleetId) -> Lxd {
    gate.reached(lxd).provider(fleet)
}

async fn heard(changes: &mut Receiver<Change>) -> Result<Change, RecvError> {
    tokio::time::timeout(PATIENCE, changes.recv()).await.expect("something is told")
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_vm_that_stops_is_told_at_once_and_without_a_listing() {
    let lxd = RealLxd::found();
    let gate = Gate::before(lxd.socket.clone());
    let fleet = lxd::fleet();
    // As the daemon has it: behind its limits.
    let inner = Arc::new(behind(&gate, &lxd, &fleet));
    let provider = Limited::new(inner, Limits::default(), clock());
    let mut changes = provider.changes().expect("LXD tells");
    eventually(PATIENCE, "the stream is open", || async { (gate.streams() == 1).then_some(()) })
        .await;
    let order = order(&fleet, lxd.shape(), 1);
    provider.launch(order.clone()).await.unwrap();
    let asked = provider.status().calls;
    let power_off = serde_json::json!({ "command": ["poweroff"], "wait-for-websocket": false });
    lxd.done("POST", &format!("instances/{}/exec", order.name), Some(power_off)).await;
    // LXD says so itself when the container is off; our word may only be the shorter behind it.
    let change = heard(&mut changes).await.unwrap();
    let told = Instant::now();
    assert_eq!((change.name, change.status), (order.name.clone(), VmStatus::Stopped));
    assert_eq!(provider.status().calls, asked, "nobody asked for it");
    eventually(PATIENCE, "LXD has deleted it", || async {
        (!lxd.names().await.contains(&order.name.to_string())).then_some(())
    })
    .await;
    println!("told {:?} before LXD's own listing was rid of it", told.elapsed());
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_stream_that_broke_is_taken_up_again_and_its_listeners_are_told_to_look() {
    let lxd = RealLxd::found();
    let gate = Gate::before(lxd.socket.clone());
    let fleet = lxd::fleet();
    let provider = behind(&gate, &lxd, &fleet);
    let mut changes = provider.changes().unwrap();
    eventually(PATIENCE, "the stream is open", || async { (gate.streams() == 1).then_some(()) })
        .await;
    gate.cut().await;
    assert_eq!(heard(&mut changes).await, Err(RecvError::Closed), "something may have been missed");
    let mut changes = provider.changes().unwrap();
    let order = order(&fleet, lxd.shape(), 2);
    provider.launch(order.clone()).await.unwrap();
    lxd.delete(order.name.as_str()).await;
    assert_eq!(heard(&mut changes).await.unwrap().name, order.name);
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_provider_that_is_replaced_ends_its_listeners() {
    let lxd = RealLxd::found();
    let gate = Gate::before(lxd.socket.clone());
    let provider = behind(&gate, &lxd, &lxd::fleet());
    let mut changes = provider.changes().unwrap();
    drop(provider);
    assert_eq!(heard(&mut changes).await, Err(RecvError::Closed));
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_create_whose_answer_is_lost_makes_no_vm_that_nobody_knows_of() {
    let lxd = RealLxd::found();
    let gate = Gate::before(lxd.socket.clone());
    let fleet = lxd::fleet();
    let provider = behind(&gate, &lxd, &fleet);
    provider.list().await.unwrap();
    gate.lose_answers_to(Some("POST /1.0/instances"));
    let order = order(&fleet, lxd.shape(), 3);
    let lost = provider.launch(order.clone()).await.unwrap_err();
    assert_eq!(lost.class, ErrorClass::Transient, "{lost}");
    if !lost.certain {
        let deletion = provider.delete(&order.name, None).await;
        assert_ne!(deletion, Ok(Deletion::Gone), "it may appear at any moment");
    }
    gate.lose_answers_to(None);
    // LXD may still be at the first one; the brain comes again later, as here.
    eventually(PATIENCE, "the same order again", || async {
        provider.launch(order.clone()).await.ok()
    })
    .await;
    eventually(PATIENCE, "one of it runs", || async {
        let listing = provider.list().await.unwrap();
        assert!(listing.entries.len() <= 1, "{listing:?}");
        listing.entries.iter().any(|vm| vm.status == VmStatus::Active).then_some(())
    })
    .await;
    delete_to_the_end(&provider, PATIENCE, &order.name, None).await;
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn nonsense_is_no_empty_fleet() {
    let lxd = RealLxd::found();
    let gate = Gate::before(lxd.socket.clone());
    let fleet = lxd::fleet();
    let provider = behind(&gate, &lxd, &fleet);
    provider.list().await.unwrap();
    for nonsense in ["", "<html>", "{}", r#"{"type": "sync", "metadata": {}}"#] {
        gate.answer("GET /1.0/instances", nonsense);
        let error = provider.list().await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Transient, "{nonsense:?}: {error}");
    }
    let half = serde_json::json!({ "type": "sync", "metadata": [
        7,
        { "name": format!("{fleet}--large--000000000009"), "status": "Running",
          "config": { "user.runner-fleet.fleet": fleet.as_str() } },
    ]});
    gate.answer("GET /1.0/instances?", &half.to_string());
    let listing = provider.list().await.unwrap();
    assert_eq!(listing.entries.len(), 1, "one that cannot be read costs itself");
    assert!(!listing.complete && listing.faults.len() == 1, "{listing:?}");
    gate.answer_nothing_instead();
    assert_eq!(provider.list().await.unwrap().entries, []);
}
