//! GitHub's deliveries at the daemon's door, over HTTP: what is taken, what is refused, what is kept.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::{Client, StatusCode};
use runner_fleet::{
    demand::{
        JobEars,
        desk::Desk,
        ledger::Ledger,
        webhook::{
            door::{BODY_MAX, Door, router},
            signature::Secrets,
        },
    },
    http::server::{self, Bounds},
};
use runner_fleet_actors::{
    event::{Job, JobEnd},
    job::{JobWord, Serves},
    name::{RegistrationId, RunnerName},
    port::{Clock, DemandSource, Secret, TokioClock},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::github::receiver::signature;

/// The number of every runner's registration here.
const NUMBER: u64 = 31;
const SECRET: &str = "kept between GitHub and us";
const OLD_SECRET: &str = "kept there until last year";

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl JobEars for Heard {
    fn job_started(&self, runner: &RunnerName, _: Option<RegistrationId>, job: Job) {
        self.0.lock().unwrap().push(format!("{runner} runs {}", job.run_id.unwrap()));
    }

    fn job_ended(&self, runner: &RunnerName, _: Option<RegistrationId>, end: JobEnd) {
        self.0.lock().unwrap().push(format!("{runner} ended: {}", end.conclusion.unwrap()));
    }

    fn registration(&self, runner: &RunnerName) -> Option<RegistrationId> {
        (runner.pool().as_str() == "large").then_some(RegistrationId(NUMBER))
    }
}

/// A door with everything behind it but a fleet.
struct House {
    state: tempfile::TempDir,
    desk: Arc<Desk>,
    door: Arc<Door>,
    heard: Arc<Heard>,
    url: String,
    client: Client,
    _stop: DropGuard,
}

impl House {
    async fn open() -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), Bounds::webhooks(BODY_MAX)).await
    }

    async fn open_in(state: tempfile::TempDir, bounds: Bounds) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
        let ledger = Arc::new(Ledger::open(state.path()).await.unwrap());
        let pools = [("large", "octo-org"), ("gpu", "octo-org"), ("far", "other-org")];
        let serves = pools.map(|(label, scope)| {
            let labels = vec!["self-hosted".to_owned(), label.to_owned()];
            Serves::new(label.parse().unwrap(), scope.parse().unwrap(), labels)
        });
        let (desk, serving) = Desk::open(ledger, serves.into(), Arc::clone(&clock)).await;
        let secrets = Secrets::new(Secret::new(SECRET), Some(Secret::new(OLD_SECRET)));
        let door = Arc::new(Door::new(Arc::clone(&desk), secrets, clock));
        let heard = Arc::new(Heard::default());
        door.listen_for(Arc::clone(&heard) as Arc<dyn JobEars>);
        let stop = CancellationToken::new();
        tokio::spawn(serving.run(stop.clone()));
        let router = router(Arc::clone(&door), bounds.patience);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let serving =
            server::serve("webhooks", any, None, router, bounds, stop.clone()).await.unwrap();
        let url = format!("http://{}/webhooks/github", serving.address);
        let client = Client::new();
        Self { state, desk, door, heard, url, client, _stop: stop.drop_guard() }
    }

    fn demand(&self, pool: &str) -> (u32, u32) {
        let demand = self.desk.watch(&pool.parse().unwrap()).borrow().unwrap();
        (demand.waiting, demand.running)
    }
}

fn payload(id: u64, action: &str, labels: &[&str]) -> serde_json::Value {
    let runner = (action != "queued").then(|| format!("ci--large--{id:012x}"));
    serde_json::json!({
        "action": action,
        "workflow_job": {
            "id": id, "run_id": 77, "run_attempt": 1, "name": "build", "workflow_name": "CI",
            "status": action, "labels": labels, "runner_name": runner, "runner_id": NUMBER,
            "created_at": "2026-11-21T10:00:00Z", "started_at": "2026-11-21T10:00:05Z",
            "completed_at": (action == "completed").then_some("2026-11-21T10:01:00Z"),
            "conclusion": (action == "completed").then_some("success"),
        },
        "repository": { "full_name": "octo-org/app" },
        "organization": { "login": "octo-org" },
    })
}

struct Delivery<'a> {
    event: &'a str,
    guid: &'a str,
    secret: Option<&'a str>,
    body: Vec<u8>,
}

impl House {
    async fn deliver(&self, delivery: Delivery<'_>) -> (StatusCode, String) {
        let Delivery { event, guid, secret, body } = delivery;
        let mut request = self
            .client
            .post(&self.url)
            .header("x-github-event", event)
            .header("x-github-delivery", guid)
            .header("x-github-hook-id", "41")
            .header("x-github-hook-installation-target-type", "organization");
        if let Some(secret) = secret {
            request = request.header("x-hub-signature-256", signature(secret, &body));
        }
        let answer = request.body(body).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn job(&self, id: u64, action: &str, labels: &[&str]) -> StatusCode {
        let guid = format!("{id}-{action}");
        let body = serde_json::to_vec(&payload(id, action, labels)).unwrap();
        self.deliver(Delivery { event: "workflow_job", guid: &guid, secret: Some(SECRET), body })
            .await
            .0
    }
}

#[tokio::test]
async fn a_jobs_life_is_demand_from_its_queueing_to_its_end_and_its_runner_is_told() {
    let house = House::open().await;
    for (action, wanted) in [("queued", (1, 0)), ("in_progress", (0, 1)), ("completed", (0, 0))] {
        assert_eq!(house.job(1, action, &["Self-Hosted", "LARGE"]).await, StatusCode::OK);
        assert_eq!(house.demand("large"), wanted, "{action}");
    }
    let runner = "ci--large--000000000001";
    let heard = house.heard.0.lock().unwrap().clone();
    assert_eq!(heard, [format!("{runner} runs 77"), format!("{runner} ended: success")]);
    let job = house.desk.job(&1.into()).await.unwrap().unwrap();
    assert_eq!(job.facts.runner.as_deref(), Some(runner));
    assert_eq!(job.facts.conclusion.as_deref(), Some("success"));
}

#[tokio::test]
async fn what_was_answered_for_is_known_by_the_next_daemon() {
    let house = House::open().await;
    for id in 1..=30 {
        assert_eq!(house.job(id, "queued", &["large"]).await, StatusCode::OK);
    }
    // The process is gone at once: nothing is closed, nothing flushed.
    let state = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(house.state.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, state.path().join(path.file_name().unwrap())).unwrap();
    }
    let next = House::open_in(state, Bounds::webhooks(BODY_MAX)).await;
    assert_eq!(next.demand("large"), (30, 0));
    assert_eq!(next.job(30, "queued", &["large"]).await, StatusCode::OK);
    assert_eq!(next.door.status().repeated, 1, "the same delivery once more");
    assert_eq!(next.demand("large"), (30, 0));
}

#[tokio::test]
async fn without_a_good_signature_nothing_is_read() {
    let house = House::open().await;
    let body = serde_json::to_vec(&payload(1, "queued", &["large"])).unwrap();
    let with = |secret| Delivery { event: "workflow_job", guid: "g", secret, body: body.clone() };
    let (status, why) = house.deliver(with(None)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(why.contains("X-Hub-Signature-256"), "{why}");
    let (status, why) = house.deliver(with(Some("a guess"))).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(why.contains("signature is wrong") && !why.contains(SECRET), "{why}");
    assert_eq!(house.demand("large"), (0, 0));
    assert_eq!(house.door.status().refused, 2);
}

/// What has no signature is refused at its head: nothing of its body is waited for or kept.
#[tokio::test]
async fn without_a_signature_the_body_is_not_waited_for() {
    let house = House::open().await;
    let address = house.url.split('/').nth(2).unwrap().to_owned();
    let good = signature(SECRET, b"");
    let (cut, long) = (&good[..good.len() - 1], format!("{good}0"));
    let elsewhere = good.replace("sha256=", "sha1=");
    let odd = format!("sha256={}", "g".repeat(64));
    for header in
        [None, Some(""), Some("sha256="), Some(cut), Some(&long), Some(&elsewhere), Some(&odd)]
    {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let header = header.map(|h| format!("x-hub-signature-256: {h}\r\n")).unwrap_or_default();
        let head = format!(
            "POST /webhooks/github HTTP/1.1\r\nhost: x\r\n{header}expect: 100-continue\r\n\
             x-github-event: workflow_job\r\ncontent-length: 500000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
        let _reset_is_an_end = read.await.expect("answered and closed");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 401"), "{header:?}: {answer}");
    }
    assert_eq!(house.door.status().refused, 7);
    assert_eq!(house.demand("large"), (0, 0));
}

#[tokio::test]
async fn while_a_secret_is_exchanged_both_are_good_and_afterwards_one() {
    let house = House::open().await;
    let body = serde_json::to_vec(&payload(1, "queued", &["large"])).unwrap();
    let old = || Delivery {
        event: "workflow_job",
        guid: "g",
        secret: Some(OLD_SECRET),
        body: body.clone(),
    };
    assert_eq!(house.deliver(old()).await.0, StatusCode::OK);
    house.door.renew(Secrets::new(Secret::new(SECRET), None));
    assert_eq!(house.deliver(old()).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_ping_and_other_events_are_welcome_and_say_nothing_about_demand() {
    let house = House::open().await;
    let of = |event, guid| Delivery {
        event,
        guid,
        secret: Some(SECRET),
        body: b"{\"zen\": \"Keep it logically awesome.\"}".to_vec(),
    };
    assert_eq!(house.deliver(of("ping", "1")).await.0, StatusCode::OK);
    assert_eq!(house.deliver(of("push", "2")).await.0, StatusCode::ACCEPTED);
    assert_eq!(house.door.status().ignored, 2);
    assert!(house.door.status().last_at.is_some());
}

#[tokio::test]
async fn jobs_on_githubs_own_machines_are_left_out_and_those_nobody_can_serve_are_shown() {
    let house = House::open().await;
    assert_eq!(house.job(1, "queued", &["ubuntu-latest"]).await, StatusCode::OK);
    assert_eq!(house.job(2, "queued", &["self-hosted", "riscv"]).await, StatusCode::OK);
    assert_eq!(house.desk.job(&1.into()).await.unwrap(), None);
    assert_eq!(house.door.status().foreign, 1);
    let lonely = house.desk.job(&2.into()).await.unwrap().unwrap();
    assert_eq!((lonely.word, lonely.pool), (JobWord::Queued, None));
    assert!(lonely.unserved.unwrap().contains("riscv"));
}

#[tokio::test]
async fn a_namesake_in_another_pools_scope_is_not_taken_for_the_runner_that_is_known_here() {
    let house = House::open().await;
    let mut runs = payload(1, "in_progress", &["far"]);
    runs["repository"]["full_name"] = "other-org/app".into();
    runs["organization"]["login"] = "other-org".into();
    let body = serde_json::to_vec(&runs).unwrap();
    let of = Delivery { event: "workflow_job", guid: "runs", secret: Some(SECRET), body };
    assert_eq!(house.deliver(of).await.0, StatusCode::OK);
    let job = house.desk.job(&1.into()).await.unwrap().unwrap();
    assert_eq!((job.word, job.facts.runner), (JobWord::Running, None));
    assert_eq!(house.door.status().unproven, 1);
    assert!(house.heard.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_no_delivery_is_told_what_is_wrong_and_changes_nothing() {
    let house = House::open().await;
    let of = |body: &[u8]| Delivery {
        event: "workflow_job",
        guid: "g",
        secret: Some(SECRET),
        body: body.to_vec(),
    };
    let (status, why) = house.deliver(of(b"{\"action\":\"queued\"}")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(why.contains("has no workflow_job"), "{why}");
    let (status, why) = house.deliver(of(&vec![b' '; BODY_MAX + 1])).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{why}");
    let answer = house.client.get(&house.url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    let elsewhere = house.url.replace("/webhooks/github", "/v1/status");
    let answer = house.client.get(elsewhere).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND, "no operator's door here");
}

#[tokio::test]
async fn a_sender_that_never_ends_is_cut_off() {
    let state = tempfile::tempdir().unwrap();
    let bounds = Bounds::webhooks(BODY_MAX).patient(Duration::from_millis(300));
    let house = House::open_in(state, bounds).await;
    let endless = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let request = house
        .client
        .post(&house.url)
        .header("x-hub-signature-256", signature(SECRET, b""))
        .body(reqwest::Body::wrap_stream(endless))
        .send();
    let answer = tokio::time::timeout(Duration::from_secs(20), request).await.unwrap();
    assert!(answer.is_err() || answer.unwrap().status() == StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn githubs_default_content_type_is_taken_and_signed_as_it_was_sent() {
    let house = House::open().await;
    let json = serde_json::to_string(&payload(1, "queued", &["large"])).unwrap();
    let body = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("payload", &json)
        .finish()
        .into_bytes();
    let answer = house
        .client
        .post(&house.url)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-github-event", "workflow_job")
        .header("x-github-delivery", "form")
        .header("x-hub-signature-256", signature(SECRET, &body))
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(house.demand("large"), (1, 0));
}

#[tokio::test]
async fn what_is_refused_after_a_good_signature_is_counted_with_its_reason() {
    let house = House::open().await;
    for guid in ["1", "2"] {
        let body = b"{\"workflow_job\": {\"id\": \"x\\u001b[2J\"}}".to_vec();
        let of = Delivery { event: "workflow_job", guid, secret: Some(SECRET), body };
        assert_eq!(house.deliver(of).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let body = b"{}".to_vec();
    let of = Delivery { event: "workflow_job", guid: "", secret: Some(SECRET), body };
    assert_eq!(house.deliver(of).await.0, StatusCode::BAD_REQUEST);
    let status = house.door.status();
    assert_eq!((status.faults["unreadable"], status.faults["headers"]), (2, 1));
    assert!(status.last_fault.unwrap().contains("X-GitHub-Delivery"));
    assert_eq!(status.refused, 3);
}

#[tokio::test]
async fn an_end_whose_labels_are_null_ends_the_job_all_the_same() {
    let house = House::open().await;
    assert_eq!(house.job(1, "queued", &["large"]).await, StatusCode::OK);
    let mut end = payload(1, "completed", &[]);
    end["workflow_job"]["labels"] = serde_json::Value::Null;
    let body = serde_json::to_vec(&end).unwrap();
    let of = Delivery { event: "workflow_job", guid: "end", secret: Some(SECRET), body };
    assert_eq!(house.deliver(of).await.0, StatusCode::OK);
    assert_eq!(house.demand("large"), (0, 0));
}

#[tokio::test]
async fn names_that_order_terminals_about_or_are_megabytes_long_are_kept_tame_and_short() {
    let house = House::open().await;
    let mut evil = payload(1, "queued", &["large", "\u{1b}[31mred\u{7}"]);
    evil["workflow_job"]["name"] = "\u{1b}]0;owned\u{7}\u{202e}\n".repeat(20_000).into();
    evil["workflow_job"]["workflow_name"] = "x".repeat(400_000).into();
    let body = serde_json::to_vec(&evil).unwrap();
    let of = Delivery { event: "workflow_job", guid: "evil", secret: Some(SECRET), body };
    assert_eq!(house.deliver(of).await.0, StatusCode::OK);
    let job = house.desk.job(&1.into()).await.unwrap().unwrap();
    let shown = [job.facts.name.as_deref(), job.facts.workflow.as_deref(), job.unserved.as_deref()];
    for text in shown.into_iter().flatten().chain(job.facts.labels.iter().map(|label| &**label)) {
        assert!(!text.chars().any(runner_fleet_actors::foreign::is_order), "{text:?}");
        assert!(text.chars().count() <= 1000, "{} characters", text.chars().count());
    }
    let document = serde_json::to_string(&job).unwrap();
    assert!(document.len() < 4000, "{} bytes", document.len());
}
