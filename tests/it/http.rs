//! The HTTP API, as curl, a charm and the command line meet it.

use crate::support::fleet_api::{Asked, Fleet};
use http::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn the_status_shows_the_fleet_its_pools_and_its_ports() {
    let fleet = Fleet::new();
    let (status, body) = fleet.get("/v1/status").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["id"], "ci");
    assert_eq!(body["version"], "1.2.3");
    assert_eq!(body["ready"], false);
    assert_eq!(body["reasons"], json!(["provider east: held"]));
    assert_eq!(body["last_reload"]["ok"], true);
    assert_eq!(body["pools"][0]["name"], "large");
    assert_eq!(body["pools"][0]["counts"]["idle"], 1);
    assert_eq!(body["ports"]["github"]["remaining"], 4000);
    assert!(body["uptime"].is_u64());
}

#[tokio::test]
async fn pools_and_runners_can_be_listed_and_looked_up() {
    let fleet = Fleet::new();
    let (_, pools) = fleet.get("/v1/pools").await;
    let names: Vec<_> = pools["pools"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["large", "small"]);
    let (_, pool) = fleet.get("/v1/pools/small").await;
    assert_eq!(pool["max"], 10);

    let (_, all) = fleet.get("/v1/runners").await;
    assert_eq!(all["runners"].as_array().unwrap().len(), 3);
    for (query, wanted) in [
        ("?pool=large", vec![Fleet::IDLE, Fleet::BUSY]),
        ("?state=busy", vec![Fleet::BUSY]),
        ("?pool=small&state=busy", vec![]),
    ] {
        let (_, some) = fleet.get(&format!("/v1/runners{query}")).await;
        let names: Vec<_> =
            some["runners"].as_array().unwrap().iter().map(|r| &r["name"]).collect();
        assert_eq!(names, wanted, "{query}");
    }
    let (_, runner) = fleet.get(&format!("/v1/runners/{}", Fleet::BUSY)).await;
    assert_eq!(runner["state"], "busy");
    assert_eq!(runner["job"]["repository"], "o/r");
    assert_eq!(runner["vm_id"], "vm-1");
}

#[tokio::test]
async fn health_is_life_and_readiness_is_work() {
    let fleet = Fleet::new();
    assert_eq!(fleet.call(Method::GET, "/healthz", "").await.0, StatusCode::OK);
    let (status, body) = fleet.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["reasons"][0], "provider east: held");
    fleet.control.become_ready();
    let ready = json!({"ready": true, "reasons": [], "attention": []});
    assert_eq!(fleet.get("/readyz").await, (StatusCode::OK, ready));
}

#[tokio::test]
async fn orders_reach_the_fleet() {
    let fleet = Fleet::new();
    let large = || "large".parse().unwrap();
    let idle = || Fleet::IDLE.parse().unwrap();
    let drain = format!("/v1/runners/{}/drain", Fleet::IDLE);
    let delete = format!("/v1/runners/{}?force=true", Fleet::IDLE);
    for (method, path, body, expected, asked) in [
        (
            Method::PUT,
            "/v1/pools/large/target",
            r#"{"runners":5}"#,
            200,
            Asked::Target(large(), Some(5)),
        ),
        (Method::DELETE, "/v1/pools/large/target", "", 200, Asked::Target(large(), None)),
        (Method::POST, "/v1/pools/large/flush", "", 202, Asked::Flush(large())),
        (Method::POST, "/v1/pools/large/flush", r#"{"busy":false}"#, 202, Asked::Flush(large())),
        (Method::POST, &drain, "", 202, Asked::Drain(idle())),
        (Method::DELETE, &delete, "", 202, Asked::Delete(idle(), true)),
        (Method::POST, "/v1/reconcile", "", 202, Asked::Reconcile),
        (Method::POST, "/v1/reload", "", 200, Asked::Reload),
    ] {
        let (status, answer) = fleet.call(method, path, body).await;
        assert_eq!(status.as_u16(), expected, "{path}: {answer}");
        assert_eq!(fleet.control.asked(), [asked], "{path}");
    }
}

#[tokio::test]
async fn flushing_busy_runners_needs_force_and_then_deletes_them() {
    let fleet = Fleet::new();
    let path = "/v1/pools/large/flush";
    let problem = fleet.refused(Method::POST, path, r#"{"busy":true}"#, 409).await;
    assert!(
        problem.contains("kills their jobs") && problem.contains("\"force\": true"),
        "{problem}"
    );
    let (status, answer) = fleet.call(Method::POST, path, r#"{"busy":true,"force":true}"#).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(answer, json!({"pool": "large", "drained": 1, "killed": 1}));
    let busy = Fleet::BUSY.parse().unwrap();
    let asked = [Asked::Flush("large".parse().unwrap()), Asked::Delete(busy, true)];
    assert_eq!(fleet.control.asked(), asked);
}

#[tokio::test]
async fn deleting_without_force_is_refused_and_says_what_to_do_instead() {
    let fleet = Fleet::new();
    for query in ["", "?force=false"] {
        let path = format!("/v1/runners/{}{query}", Fleet::BUSY);
        let problem = fleet.refused(Method::DELETE, &path, "", 409).await;
        assert!(problem.contains("/drain") && problem.contains("force=true"), "{problem}");
    }
}

#[tokio::test]
async fn whatever_is_wrong_is_a_problem_document_and_changes_nothing() {
    let fleet = Fleet::new();
    let long = format!(r#"{{"runners":5,"x":"{}"}}"#, "y".repeat(64 * 1024));
    for (method, path, body, status, says) in [
        (Method::GET, "/", "", 404, "everything lives under /v1"),
        (Method::GET, "/v2/status", "", 404, "there is no /v2/status"),
        (Method::POST, "/v1/status", "", 405, "POST is not possible on /v1/status"),
        (Method::GET, "/v1/pools/large/flush", "", 405, "GET is not possible"),
        (
            Method::GET,
            "/v1/pools/nope",
            "",
            404,
            "there is no pool \"nope\"; there is large, small",
        ),
        (Method::PUT, "/v1/pools/nope/target", r#"{"runners":1}"#, 404, "there is no pool"),
        (Method::GET, "/v1/pools/%2e%2e", "", 404, "there is no pool"),
        (Method::GET, "/v1/runners/ci--large--ffffffffffff", "", 404, "there is no runner"),
        (Method::POST, "/v1/runners/zzz/drain", "", 404, "there is no runner \"zzz\""),
        (Method::DELETE, "/v1/runners/zzz?force=true", "", 404, "there is no runner"),
        (Method::GET, "/v1/runners?pool=nope", "", 404, "there is no pool"),
        (Method::GET, "/v1/runners?state=lazy", "", 422, "creating, registering, idle, busy"),
        (Method::GET, "/v1/runners?color=red", "", 422, "known are pool and state"),
        (Method::DELETE, "/v1/runners/zzz?force=please", "", 422, "force=true"),
        (Method::PUT, "/v1/pools/large/target", "", 422, "such as {\"runners\": 5}"),
        (Method::PUT, "/v1/pools/large/target", r#"{"runners":-1}"#, 422, "the body is not"),
        (Method::PUT, "/v1/pools/large/target", r#"{"runner":5}"#, 422, "unknown field"),
        (Method::PUT, "/v1/pools/large/target", &long, 413, ""),
        (Method::POST, "/v1/pools/large/flush", "{", 422, "the body is not"),
    ] {
        let problem = fleet.refused(method, path, body, status).await;
        assert!(problem.contains(says), "{path}: {problem}");
    }
}

#[tokio::test]
async fn each_refusal_has_its_status() {
    use runner_fleet::http::Refusal;
    let fleet = Fleet::new();
    for (refusal, status) in [
        (Refusal::NotFound("gone".into()), 404),
        (Refusal::Invalid("more than max, which is 40".into()), 422),
        (Refusal::Conflict("it runs a job".into()), 409),
        (Refusal::Unavailable("the daemon stops".into()), 503),
    ] {
        let text = refusal.to_string();
        fleet.control.refuse_with(refusal);
        let (got, problem) =
            fleet.call(Method::PUT, "/v1/pools/large/target", r#"{"runners":50}"#).await;
        assert_eq!(got.as_u16(), status);
        assert_eq!(problem["detail"], text);
        assert_eq!(problem["type"], "about:blank");
    }
}
