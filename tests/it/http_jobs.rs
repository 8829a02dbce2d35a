//! Jobs over the HTTP API: which there were, how long they waited, and why one still does.

use std::time::Duration;

use crate::support::fleet_api::Fleet;
use crate::support::kept_jobs;
use crate::support::kept_jobs::job;
use chrono::Utc;
use http::{Method, StatusCode};
use runner_fleet::http::Control;
use runner_fleet_actors::{
    job::{JobRecord, JobWord},
    port::PortStatus,
};
use serde_json::Value;

/// A fleet that keeps these jobs.
async fn fleet(jobs: Vec<JobRecord>) -> (tempfile::TempDir, Fleet) {
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::new();
    fleet.control.keep_jobs(kept_jobs::desk(folder.path(), jobs).await);
    (folder, fleet)
}

fn keys(body: &Value) -> Vec<&str> {
    body["jobs"].as_array().unwrap().iter().map(|job| job["key"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn jobs_can_be_listed_the_newest_or_the_slowest_first() {
    let mut other = job(4, JobWord::Done, 50);
    other.pool = Some("gone".parse().unwrap());
    let old = job(1, JobWord::Done, 8 * 24 * 3600);
    let (_folder, fleet) =
        fleet(vec![old, job(2, JobWord::Queued, 90), job(3, JobWord::Running, 60), other]).await;
    for (query, wanted) in [
        ("", vec!["4", "3", "2"]),
        ("?since=30d", vec!["4", "3", "2", "1"]),
        ("?limit=1", vec!["4"]),
        ("?pool=large&state=running", vec!["3"]),
        ("?slow=1s", vec!["2", "4", "3"]),
        ("?slow=60s", vec!["2"]),
        ("?pool=small", vec![]),
        ("?pool=gone", vec!["4"]),
    ] {
        let (status, body) = fleet.get(&format!("/v1/jobs{query}")).await;
        assert_eq!(status, StatusCode::OK, "{query}: {body}");
        let mut found = keys(&body);
        let mut wanted = wanted;
        if query == "?slow=1s" {
            // Two waited equally long.
            found.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(body["jobs"][0]["key"], "2", "the slowest first");
        }
        assert_eq!(found, wanted, "{query}");
    }
    let (_, one) = fleet.get("/v1/jobs/3").await;
    assert_eq!(one["facts"]["runner"], kept_jobs::RUNNER);
}

#[tokio::test]
async fn waits_are_told_by_pool_and_day() {
    let (_folder, fleet) =
        fleet(vec![job(1, JobWord::Done, 60), job(2, JobWord::Queued, 60)]).await;
    for query in ["", "?pool=large&since=2d"] {
        let (status, body) = fleet.get(&format!("/v1/waits{query}")).await;
        assert_eq!(status, StatusCode::OK);
        let day = &body["days"][0];
        assert_eq!((&day["pool"], &day["jobs"]), (&"large".into(), &1.into()), "{body}");
        assert!((day["p95"].as_f64().unwrap() - 30.0).abs() < 1.0, "{body}");
    }
    let (_, none) = fleet.get("/v1/waits?pool=small").await;
    assert_eq!(none["days"], serde_json::json!([]));
}

#[tokio::test]
async fn why_a_job_waits_is_told_from_the_job_its_pool_and_its_cloud() {
    let mut stray = job(2, JobWord::Queued, 90);
    stray.facts.labels = vec!["gpu".into()];
    let (_folder, fleet) = fleet(vec![job(1, JobWord::Queued, 90), stray]).await;
    let down = PortStatus {
        held_until: Some(Utc::now() + Duration::from_secs(60)),
        last_error: Some("no route to host".into()),
        ..PortStatus::default()
    };
    fleet.control.model().ports.insert("east".into(), down);
    let (status, body) = fleet.get("/v1/jobs/1/why").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["job"]["key"], "1");
    let reasons: Vec<_> = body["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| reason["because"].as_str().unwrap())
        .collect();
    assert_eq!(reasons, ["runner-idle", "provider-down", "pool-says", "pool-says"], "{body}");
    assert!(body["reasons"][1]["text"].as_str().unwrap().contains("no route to host"), "{body}");
    let (_, stray) = fleet.get("/v1/jobs/2/why").await;
    assert_eq!(stray["reasons"][0]["because"], "no-pool");
    assert!(stray["reasons"][0]["text"].as_str().unwrap().contains("gpu"), "{stray}");
}

#[tokio::test]
async fn what_cannot_be_answered_is_a_problem_document() {
    let (_folder, fleet) = fleet(vec![job(1, JobWord::Done, 60)]).await;
    for (path, status, says) in [
        ("/v1/jobs?color=red", 422, "known are pool, since, slow, state and limit"),
        ("/v1/jobs?since=7", 422, "since = \"7\" is not allowed"),
        ("/v1/jobs?since=200000000d", 422, "since"),
        ("/v1/jobs?slow=soon", 422, "slow = \"soon\" is not allowed"),
        ("/v1/jobs?state=lazy", 422, "blocked, queued, running or done"),
        ("/v1/jobs?limit=0", 422, "a whole number from 1 to 1000"),
        ("/v1/jobs?limit=1001", 422, "a whole number from 1 to 1000"),
        ("/v1/jobs?pool=UPPER", 422, "UPPER"),
        ("/v1/jobs?pool=lrage", 404, "there is no pool \"lrage\"; there is large, small"),
        ("/v1/waits?pool=lrage", 404, "there is no pool"),
        ("/v1/waits?slow=1m", 422, "known are pool and since"),
        ("/v1/jobs/2", 404, "there is no job \"2\""),
        ("/v1/jobs/2/why", 404, "there is no job \"2\""),
        ("/v1/jobs/%20%20", 404, "there is no job"),
    ] {
        let problem = fleet.refused(Method::GET, path, "", status).await;
        assert!(problem.contains(says), "{path}: {problem}");
    }
    let problem = fleet.refused(Method::POST, "/v1/jobs", "", 405).await;
    assert!(problem.contains("POST is not possible"), "{problem}");
}

#[tokio::test]
async fn a_daemon_that_keeps_no_jobs_says_so() {
    let fleet = Fleet::new();
    for path in ["/v1/jobs", "/v1/jobs/1", "/v1/jobs/1/why", "/v1/waits"] {
        let problem = fleet.refused(Method::GET, path, "", 503).await;
        assert!(problem.contains("no jobs are kept"), "{path}: {problem}");
    }
}
