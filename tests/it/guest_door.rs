//! What guests may say, over real sockets.

use std::time::Duration;

use crate::support::guest_door::{Door, Guest, name};
use runner_fleet_actors::runner::Report;
use serde_json::json;

#[tokio::test]
async fn a_guest_speaks_for_its_own_runner_only() {
    let mut door = Door::open().await;
    let (one, two) = (door.guest(1), door.guest(2));
    let booted = json!({"report": "booted", "times": {"booted": 3.5}});
    assert_eq!(one.report(booted.clone()).await, 204);
    let (runner, told) = door.heard().await;
    assert_eq!((runner, told.reports), (name(1), vec![Report::Booted]));
    assert_eq!(told.times.booted, Some(Duration::from_millis(3_500)));

    let stolen = Guest { token: one.token.clone(), ..two.clone() };
    let nonsense = Guest { token: "0".repeat(64), ..one.clone() };
    for guest in [&stolen, &nonsense] {
        assert_eq!(guest.report(booted.clone()).await, 403);
        assert_eq!(guest.answer(1, "busy").await, 403);
        assert_eq!(guest.send(guest.http.get(guest.url("orders?wait=50"))).await.0, 403);
    }
    let odd = format!("{}/not-a-name/reports", one.base);
    assert_eq!(one.send(one.http.post(odd)).await.0, 403);
    for token in ["", "short", &one.token.to_uppercase()] {
        let malformed = Guest { token: token.to_owned(), ..one.clone() };
        assert_eq!(malformed.report(booted.clone()).await, 401, "{token:?}");
    }
    let bare = one.http.post(one.url("reports")).json(&booted).send().await.unwrap();
    assert_eq!(bare.status(), 401, "without a token");
    door.close().await;
}

#[tokio::test]
async fn the_operators_paths_are_not_here() {
    let door = Door::open().await;
    let guest = door.guest(1);
    for path in ["/v1/status", "/v1/runners", "/healthz", "/v1/guest"] {
        let url = format!("http://{}{path}", door.serving.address);
        assert_eq!(guest.send(guest.http.get(url)).await.0, 404, "{path}");
    }
    assert_eq!(guest.send(guest.http.delete(guest.url("orders"))).await.0, 405);
    door.close().await;
}

#[tokio::test]
async fn a_report_is_told_once_more_when_it_comes_once_more_and_its_log_only_once() {
    let mut door = Door::open().await;
    let guest = door.guest(1);
    let stopped = json!({
        "report": "stopped", "times": {"booted": 1, "stopped": 9.5}, "exit_code": 7,
        "runner_version": "2.330.0", "log": "no space left on device",
    });
    for _ in 0..2 {
        assert_eq!(guest.report(stopped.clone()).await, 204);
    }
    let (first, again) = (door.heard().await, door.heard().await);
    assert_eq!(first, again, "the brain is told the same, and takes nothing twice");
    assert_eq!(first.1.version.as_deref(), Some("2.330.0"));
    let log = (name(1), "no space left on device".to_owned());
    assert_eq!(*door.ears.logs.lock().unwrap(), [log]);
    door.close().await;
}

/// A 404 or a 503 is worth another try, and nothing of the report is lost by it.
#[tokio::test]
async fn a_daemon_that_knows_no_such_runner_yet_is_asked_again() {
    let mut door = Door::open().await;
    let guest = door.guest(3);
    let stopped = json!({"report": "stopped", "exit_code": 1, "log": "the reason"});
    assert_eq!(guest.report(stopped.clone()).await, 404);
    assert_eq!(guest.send(guest.http.get(guest.url("orders"))).await.0, 404);
    door.ears.known.lock().unwrap().insert(name(3));
    *door.ears.away.lock().unwrap() = true;
    assert_eq!(guest.report(stopped.clone()).await, 503);
    *door.ears.away.lock().unwrap() = false;
    assert_eq!(guest.report(stopped).await, 204);
    assert_eq!(door.heard().await.0, name(3));
    assert_eq!(door.ears.logs.lock().unwrap().len(), 1);
    door.close().await;
}

/// A token ends with its runner: nothing that is said with it is told to anybody or remembered.
#[tokio::test]
async fn the_token_of_a_dead_runner_reaches_nobody() {
    let mut door = Door::open().await;
    let guest = door.guest(1);
    assert_eq!(guest.report(json!({"report": "job-started", "job": {"run_id": 7}})).await, 204);
    assert_eq!(door.heard().await.0, name(1));
    door.ears.known.lock().unwrap().remove(&name(1));
    let before = door.hub.remembered();
    let dead = door.guest(3);
    let starts = json!({"report": "job-started", "job": {"run_id": 8}, "log": "a last word"});
    for _ in 0..200 {
        assert_eq!(guest.report(starts.clone()).await, 404);
        assert_eq!(dead.report(starts.clone()).await, 404);
    }
    assert_eq!(dead.answer(1, "busy").await, 404);
    assert_eq!(dead.send(dead.http.get(dead.url("orders?wait=50"))).await.0, 404);

    // A daemon that has just started cannot know who is dead: later, and for nobody's ears either.
    *door.ears.unlisted.lock().unwrap() = true;
    assert_eq!(dead.report(starts.clone()).await, 503);
    assert_eq!(dead.send(dead.http.get(dead.url("orders?wait=50"))).await.0, 503);
    assert!(door.told.try_recv().is_err(), "nobody was told");
    assert_eq!(*door.ears.logs.lock().unwrap(), []);
    assert_eq!(door.hub.remembered(), before, "no slot for the dead");
    door.close().await;
}

#[tokio::test]
async fn what_is_no_report_is_refused_for_good() {
    let door = Door::open().await;
    let guest = door.guest(1);
    assert_eq!(guest.report(json!({"report": "exploded"})).await, 422);
    assert_eq!(guest.report(json!({"report": "booted", "times": {"booted": "3"}})).await, 422);
    let torn = guest.http.post(guest.url("reports")).body("{\"report\": ");
    assert_eq!(guest.send(torn).await.0, 400);
    assert_eq!(guest.send(guest.http.get(guest.url("orders?after=x"))).await.0, 422);
    let huge = json!({"report": "stopped", "log": "x".repeat(20_000)});
    assert_eq!(guest.report(huge).await, 413);
    let more = json!({"report": "booted", "mood": {"of": "a newer guest"}});
    assert_eq!(guest.report(more).await, 204);
    door.close().await;
}

#[tokio::test]
async fn a_guest_that_calls_all_the_time_is_slowed_down_alone() {
    let door = Door::open().await;
    let (loud, quiet) = (door.guest(1), door.guest(2));
    let booted = json!({"report": "booted"});
    let mut taken = 0;
    while loud.report(booted.clone()).await == 204 {
        taken += 1;
        assert!(taken < 1_000, "it is never slowed down");
    }
    assert!(taken >= 60, "a whole life fits: {taken}");
    assert_eq!(loud.report(booted.clone()).await, 429);
    assert_eq!(quiet.report(booted).await, 204);
    door.close().await;
}
