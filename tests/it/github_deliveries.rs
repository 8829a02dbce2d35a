//! What the fake GitHub answers about jobs and about the deliveries of its hooks: what repairs lost
//! webhooks. GitHub's own descriptions are the judge.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::github::judge::Judge;
use crate::support::github::receiver;
use crate::support::github::receiver::{Receiver, until};
use crate::support::github::*;
use runner_fleet::{
    fake::github::{
        Exchange, FakeGithub, HookTarget, JobId, JobOrder, Mishap, Next, Once, Operation, Options,
    },
    github::Github,
};
use runner_fleet_actors::port::Forge;
use serde_json::{Value, json};

const GITHUB_COM: &str = include_str!("../data/github-runners.schema.json");
const GHES: &str = include_str!("../data/github-runners-ghes-3.19.schema.json");
const HOOK: u64 = 266_738_161;
const ORG: &str = "/orgs/octo-org/hooks/266738161/deliveries";

/// The API as a plain caller meets it; every exchange is kept for the judge.
struct Api {
    fake: FakeGithub,
    http: reqwest::Client,
    seen: Arc<Mutex<Vec<Exchange>>>,
}

/// An answer: its status, its body and where its next page is.
struct Answer {
    status: u16,
    body: Value,
    next: Option<String>,
}

impl Api {
    async fn start(options: Options) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let recorder = Arc::new(move |exchange: &Exchange| {
            into.lock().unwrap().push(exchange.clone());
        });
        let fake = start(Options { recorder: Some(recorder), ..options }).await;
        Self { fake, http: reqwest::Client::new(), seen }
    }

    async fn call(&self, method: &str, place: &str, bearer: &str) -> Answer {
        let url = if place.starts_with("http") {
            place.to_owned()
        } else {
            format!("{}/api/v3{place}", self.fake.url())
        };
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let response = self.http.request(method, url).bearer_auth(bearer).send().await.unwrap();
        let status = response.status().as_u16();
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let next = link.map(|link| {
            let (url, rel) = link.split_once(">; ").unwrap();
            assert_eq!(rel, "rel=\"next\"");
            url.trim_start_matches('<').to_owned()
        });
        Answer { status, body: response.json().await.unwrap_or_default(), next }
    }

    async fn get(&self, place: &str) -> Answer {
        self.call("GET", place, TOKEN).await
    }

    /// All pages from one on.
    async fn pages(&self, place: &str, bearer: &str) -> Vec<Vec<Value>> {
        let (mut pages, mut at) = (Vec::new(), Some(place.to_owned()));
        while let Some(place) = at.take() {
            let answer = self.call("GET", &place, bearer).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            pages.push(answer.body.as_array().unwrap().clone());
            at = answer.next;
        }
        pages
    }

    fn queue(&self) -> JobId {
        self.fake.queue_job(&scope("octo-org"), &labels(), Duration::from_secs(1))
    }

    /// Adds a hook of the organisation, received here.
    async fn hooked(&self) -> Receiver {
        let receiver = Receiver::start().await;
        self.fake.add_hook(receiver.hook(HOOK, HookTarget::Scope(scope("octo-org"))));
        self.noted(1).await;
        receiver
    }

    async fn noted(&self, count: usize) {
        until("all are noted", || self.fake.deliveries(HOOK).len() == count).await;
    }

    fn judge(&self, at_least: usize) {
        let seen = self.seen.lock().unwrap();
        assert!(seen.len() >= at_least, "only {} exchanges", seen.len());
        for description in [GITHUB_COM, GHES] {
            let judge = Judge::new(description);
            for exchange in seen.iter() {
                assert_eq!(judge.faults(exchange), Vec::<String>::new(), "{exchange:#?}");
            }
        }
    }
}

fn ids(page: &[Value]) -> Vec<u64> {
    page.iter().map(|one| one["id"].as_u64().unwrap()).collect()
}

/// A JWT of the App.
fn jwt(life: i64) -> String {
    let now = chrono::Utc::now().timestamp();
    let claims = json!({"iss": APP_ID, "iat": now - 60, "exp": now + life});
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(APP_KEY.as_bytes()).unwrap();
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

#[tokio::test]
async fn deliveries_are_listed_page_by_page_with_the_newest_first() {
    let api = Api::start(Options::default()).await;
    let _receiver = api.hooked().await;
    for at in 0..7 {
        api.queue();
        api.noted(at + 2).await;
    }
    let pages = api.pages(&format!("{ORG}?per_page=3"), TOKEN).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 2]);
    let all = pages.concat();
    let mut wanted: Vec<u64> = api.fake.deliveries(HOOK).iter().map(|one| one.id).collect();
    wanted.reverse();
    assert_eq!(ids(&all), wanted);
    assert!(wanted.is_sorted_by(|a, b| a > b));
    let smallest = *wanted.last().unwrap();
    assert!(smallest > (1 << 53), "numbers that do not survive as floating point, as GitHub's");
    assert_eq!((&all[0]["event"], &all[0]["action"]), (&json!("workflow_job"), &json!("queued")));
    assert_eq!((&all[7]["event"], &all[7]["action"]), (&json!("ping"), &Value::Null));
    assert_eq!(all[0]["status"], "OK");

    // What is delivered between two pages moves nothing into the second.
    let first = api.get(&format!("{ORG}?per_page=4")).await;
    api.queue();
    api.noted(9).await;
    let second = api.get(&first.next.unwrap()).await;
    assert_eq!(ids(second.body.as_array().unwrap()), wanted[4..]);
    assert_eq!(second.next, None);
    assert_eq!(api.get(ORG).await.body.as_array().unwrap().len(), 9, "thirty fit by default");
    assert_eq!(api.get(&format!("{ORG}?cursor=17")).await.status, 400);
    api.judge(7);
}

#[tokio::test]
async fn failed_deliveries_can_be_asked_for_alone_and_made_again() {
    let api = Api::start(Options::default()).await;
    let receiver = api.hooked().await;
    api.fake.faults().next_deliveries(Mishap::Lost, 2);
    let lost: BTreeSet<u64> = [api.queue(), api.queue()].map(|job| job.0).into();
    api.noted(3).await;
    api.queue();
    api.noted(4).await;
    let failed = api.get(&format!("{ORG}?status=failure")).await.body;
    let failed = failed.as_array().unwrap();
    assert_eq!(failed.len(), 2);
    for one in failed {
        assert_ne!(one["status"], "OK");
        let again = api.call("POST", &format!("{ORG}/{}/attempts", one["id"]), TOKEN).await;
        assert_eq!((again.status, again.body), (202, json!({})));
    }
    api.noted(6).await;
    let posts = receiver.wait(3).await;
    let repaired: BTreeSet<u64> = posts[1..].iter().map(receiver::Post::job).collect();
    assert_eq!(repaired, lost);
    let guids = |all: &[Value]| -> BTreeSet<String> {
        all.iter().map(|one| one["guid"].as_str().unwrap().to_owned()).collect()
    };
    let newest = api.get(&format!("{ORG}?per_page=2")).await.body;
    let newest = newest.as_array().unwrap();
    assert_eq!(guids(newest), guids(failed), "the same events");
    assert!(newest.iter().all(|one| one["redelivery"] == true && one["status"] == "OK"));
    assert!(failed.iter().all(|one| one["redelivery"] == false));
    let still = api.get(&format!("{ORG}?status=failure")).await.body;
    assert_eq!(still.as_array().unwrap(), failed, "a redelivery does not mend the older note");
    let succeeded = api.get(&format!("{ORG}?status=success")).await.body;
    assert_eq!(succeeded.as_array().unwrap().len(), 4);
    api.judge(6);
}

#[tokio::test]
async fn a_redelivery_is_the_same_post_and_tells_of_the_job_as_it_was() {
    let api = Api::start(Options::default()).await;
    let receiver = api.hooked().await;
    let job = api.queue();
    api.noted(2).await;
    api.fake.cancel_job(job);
    api.noted(3).await;
    let queued = api.fake.deliveries(HOOK)[1].clone();
    let again = format!("{ORG}/{}/attempts", queued.id);
    assert_eq!(api.call("POST", &again, TOKEN).await.status, 202);
    let posts = receiver.wait(3).await;
    assert_eq!(posts[2].guid(), queued.guid);
    assert_eq!(posts[2].body, posts[0].body);
    assert_eq!(posts[2].header("x-hub-signature-256"), posts[0].header("x-hub-signature-256"));
    let unknown = format!("{ORG}/{}/attempts", queued.id + 1000);
    assert_eq!(api.call("POST", &unknown, TOKEN).await.status, 404);
    api.judge(2);
}

#[tokio::test]
async fn a_repositorys_hook_answers_at_its_repository_only() {
    let api = Api::start(Options::default()).await;
    let receiver = Receiver::start().await;
    let repo = scope("octo-org/octo-repo");
    api.fake.add_hook(receiver.hook(HOOK, HookTarget::Scope(repo.clone())));
    api.noted(1).await;
    api.fake.queue_job(&repo, &labels(), Duration::ZERO);
    api.noted(2).await;
    let place = format!("/repos/octo-org/octo-repo/hooks/{HOOK}/deliveries");
    let listed = api.get(&place).await.body;
    assert_eq!(listed[0]["repository_id"], receiver.posts()[0].json()["repository"]["id"]);
    let again = api.call("POST", &format!("{place}/{}/attempts", listed[0]["id"]), TOKEN).await;
    assert_eq!(again.status, 202);
    receiver.wait(2).await;
    for wrong in [ORG, "/repos/octo-org/other/hooks/266738161/deliveries"] {
        assert_eq!(api.get(wrong).await.status, 404);
    }
    assert_eq!(api.get("/repos/octo-org/octo-repo/hooks/1/deliveries").await.status, 404);
    api.judge(5);
}

#[tokio::test]
async fn an_apps_deliveries_need_its_jwt() {
    let api = Api::start(Options { app: Some(app()), ..Options::default() }).await;
    let receiver = Receiver::start().await;
    api.fake.add_hook(receiver.hook(HOOK, HookTarget::App));
    api.noted(1).await;
    api.queue();
    api.noted(2).await;
    let place = "/app/hook/deliveries";
    for stranger in [TOKEN, "", "ghs_0", &jwt(3600)] {
        assert_eq!(api.call("GET", place, stranger).await.status, 401);
    }
    let pages = api.pages(&format!("{place}?per_page=1"), &jwt(300)).await;
    assert_eq!(pages.len(), 2);
    assert_eq!(pages[0][0]["installation_id"], json!(INSTALLATION));
    let attempts = format!("{place}/{}/attempts", pages[0][0]["id"]);
    assert_eq!(api.call("POST", &attempts, TOKEN).await.status, 401);
    assert_eq!(api.call("POST", &attempts, &jwt(300)).await.status, 202);
    receiver.wait(2).await;
    api.judge(8);
}

#[tokio::test]
async fn a_job_can_be_looked_up_at_every_step_of_its_life() {
    let api = Api::start(Options::default()).await;
    let github: Github = client(with_token(&api.fake));
    let org = scope("octo-org");
    let blocked = JobOrder { blocked: true, ..JobOrder::new(&org, &labels(), Duration::ZERO) };
    let job = api.fake.queue(blocked);
    let place = format!("/repos/octo-org/project/actions/jobs/{}", job.0);
    let status = async || api.get(&place).await.body["status"].as_str().unwrap().to_owned();
    assert_eq!(status().await, "waiting");
    api.fake.approve_job(job);
    assert_eq!(status().await, "queued");
    let registered = github.register(&order(&org, 1)).await.unwrap();
    let mut listener = api.fake.connect(registered.jit_config.expose()).await.unwrap();
    let assigned = api.get(&place).await.body;
    assert_eq!(assigned["status"], "queued", "given to a runner that has not acquired it");
    assert_eq!(assigned["runner_id"], json!(registered.id.0));
    assert!(matches!(listener.next_job().await, Next::Job(got) if got.id == job));
    assert_eq!(status().await, "in_progress");
    listener.complete(false);
    let over = api.get(&place).await.body;
    assert_eq!((&over["status"], &over["conclusion"]), (&json!("completed"), &json!("failure")));
    assert_eq!(over["runner_name"], json!(name(1)));
    assert_eq!(over["labels"], json!(labels()));

    let elsewhere = format!("/repos/octo-org/other/actions/jobs/{}", job.0);
    assert_eq!(api.get(&elsewhere).await.status, 404);
    assert_eq!(api.get("/repos/octo-org/project/actions/jobs/999").await.status, 404);
    api.fake.faults().once(Operation::Job, Once::Refuse(502));
    assert_eq!(api.get(&place).await.status, 502);
    assert_eq!(status().await, "completed");
    api.judge(10);
}

#[tokio::test]
async fn a_job_that_its_runner_lost_is_over_when_it_is_looked_up() {
    let api = Api::start(Options::default()).await;
    let github: Github = client(with_token(&api.fake));
    let repo = scope("octo-org/octo-repo");
    let registered = github.register(&order(&repo, 1)).await.unwrap();
    let mut listener = api.fake.connect(registered.jit_config.expose()).await.unwrap();
    let job = api.fake.queue_job(&repo, &labels(), Duration::from_secs(60));
    assert!(matches!(listener.next_job().await, Next::Job(_)));
    drop(listener);
    let place = format!("/repos/Octo-Org/octo-repo/actions/jobs/{}", job.0);
    let lost = api.get(&place).await.body;
    assert_eq!((&lost["status"], &lost["conclusion"]), (&json!("completed"), &json!("failure")));
    api.judge(2);
}
