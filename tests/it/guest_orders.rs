//! What guests are told to do, and what they answer, over real sockets.

use std::sync::Arc;

use crate::support::guest_door::{Door, Guest, SOON, name};
use runner_fleet::home::{BODY_MAX, Bounds, Hub};
use runner_fleet_actors::{
    port::{ErrorClass, Guests, StandDown},
    runner::Report,
};
use serde_json::json;

#[tokio::test]
async fn an_order_reaches_the_open_poll_and_its_answer_the_fleet() {
    let door = Door::open().await;
    let guest = door.guest(1);
    let mut after = 0;
    for (word, meant) in [("standing-down", StandDown::StandingDown), ("busy", StandDown::Busy)] {
        let polling = tokio::spawn({
            let guest = guest.clone();
            async move { guest.poll(after, 50).await }
        });
        let asked = ask_until_heard(&door.hub, 1).await;
        let (number, order) = polling.await.unwrap().expect("an order");
        assert_eq!(order, "stand-down");
        assert_eq!(guest.answer(number, word).await, 204);
        assert_eq!(guest.answer(number, word).await, 204, "a replay of the answer");
        assert_eq!(asked.await.unwrap().unwrap(), meant);
        after = number;
    }
    door.close().await;
}

/// Asks, as soon as the guest's poll has arrived.
async fn ask_until_heard(
    hub: &Arc<Hub>,
    token: u64,
) -> tokio::task::JoinHandle<Result<StandDown, runner_fleet_actors::port::PortError>> {
    let end = tokio::time::Instant::now() + SOON;
    while !hub.hears(&name(token)) {
        assert!(tokio::time::Instant::now() < end, "no poll arrived");
        tokio::task::yield_now().await;
    }
    let hub = Arc::clone(hub);
    tokio::spawn(async move { hub.stand_down(&name(token)).await })
}

#[tokio::test]
async fn the_newest_order_is_the_only_one_and_an_answer_to_an_older_one_comes_too_late() {
    let door = Door::open().await;
    let guest = door.guest(1);
    let polling = {
        let guest = guest.clone();
        tokio::spawn(async move { guest.poll(0, 50).await })
    };
    let asked = ask_until_heard(&door.hub, 1).await;
    let (down, _) = polling.await.unwrap().unwrap();
    door.hub.go_on(&name(1)).await;
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Transient, false));
    assert_eq!(guest.answer(down, "standing-down").await, 409, "it is withdrawn: go on");
    let (on, order) = guest.poll(down, 50).await.expect("the newer order waits");
    assert_eq!((order.as_str(), on > down), ("go-on", true));
    assert_eq!(guest.poll(down, 0).await, Some((on, order)), "the answer to the poll may be lost");
    assert_eq!(guest.poll(on, 0).await, None, "nothing newer");
    door.hub.go_on(&name(1)).await;
    door.hub.end(&name(1)).await;
    assert_eq!(guest.poll(on, 50).await.unwrap().1, "end", "what was not fetched is void");
    assert_eq!(door.guest(2).poll(0, 0).await, None, "orders are for one guest");
    door.close().await;
}

#[tokio::test]
async fn a_newer_poll_ends_the_older() {
    let door = Door::open().await;
    let guest = door.guest(1);
    let older = {
        let guest = guest.clone();
        tokio::spawn(async move { guest.poll(0, 50).await })
    };
    while !door.hub.hears(&name(1)) {
        tokio::task::yield_now().await;
    }
    let newer = {
        let guest = guest.clone();
        tokio::spawn(async move { guest.poll(0, 50).await })
    };
    let ended = tokio::time::timeout(SOON, older).await.expect("long before its time").unwrap();
    assert_eq!(ended, None);
    door.hub.end(&name(1)).await;
    assert_eq!(newer.await.unwrap().unwrap().1, "end");
    door.close().await;
}

#[tokio::test]
async fn a_restarted_daemon_knows_the_tokens_and_its_orders_are_newer() {
    let door = Door::open().await;
    let before = door.guest(1);
    door.hub.go_on(&name(1)).await;
    let (number, _) = before.poll(0, 0).await.unwrap();
    let polling = {
        let guest = before.clone();
        tokio::spawn(async move {
            guest.send(guest.http.get(guest.url(&format!("orders?after={number}&wait=50")))).await
        })
    };
    while !door.hub.hears(&name(1)) {
        tokio::task::yield_now().await;
    }
    let state = door.close().await;
    assert_eq!(polling.await.unwrap().0, 503, "an open poll ends with the daemon");

    let mut door = Door::open_with(state, None, Bounds::guests(BODY_MAX)).await;
    let after = Guest { token: before.token.clone(), ..door.guest(1) };
    assert_eq!(after.report(json!({"report": "runner-started"})).await, 204);
    assert_eq!(door.heard().await.1.reports, [Report::RunnerStarted]);
    door.hub.end(&name(1)).await;
    let (newer, order) = after.poll(number, 50).await.unwrap();
    assert_eq!((order.as_str(), newer > number), ("end", true));
    // The clock was set back: what the guest has seen lies in the future.
    let future = newer + 3_600_000_000;
    assert_eq!(after.poll(future, 0).await, None);
    door.hub.go_on(&name(1)).await;
    assert_eq!(after.poll(future, 0).await.unwrap().1, "go-on");
    door.close().await;
}
