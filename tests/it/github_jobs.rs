//! The fake GitHub's jobs over HTTP: what a runner application in a real guest meets.

use std::time::{Duration, Instant};

use crate::support::github::*;
use runner_fleet::{
    fake::github::{FakeGithub, JobRecord, Lost, Options, Refused},
    github::Github,
};
use runner_fleet_actors::port::{ErrorClass, Forge, Registered};
use serde_json::{Value, json};

/// Above what a loaded machine needs between two lines of a test, below a person's patience.
const SILENCE: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(30);

/// One stand-in runner application, a call at a time.
struct Runner {
    http: reqwest::Client,
    url: String,
    session: String,
}

impl Runner {
    async fn connect(fake: &FakeGithub, registered: &Registered) -> Self {
        let (http, url) = (reqwest::Client::new(), fake.url());
        let body = json!({"jit_config": registered.jit_config.expose()});
        let (status, answer) = post(&http, &url, "connect", &body).await;
        assert_eq!(status, 200, "{answer}");
        Self { http, url, session: answer["session"].as_str().unwrap().to_owned() }
    }

    async fn message(&self, wait: f64) -> (u16, Value) {
        let url = format!("{}/_jobs/message?session={}&wait={wait}", self.url, self.session);
        read(self.http.get(url).send().await.unwrap()).await
    }

    async fn about(&self, call: &str, job: u64) -> u16 {
        let body = json!({"session": self.session, "job": job, "result": "success"});
        post(&self.http, &self.url, call, &body).await.0
    }

    async fn disconnect(&self) -> u16 {
        post(&self.http, &self.url, "disconnect", &json!({"session": self.session})).await.0
    }
}

async fn post(http: &reqwest::Client, url: &str, call: &str, body: &Value) -> (u16, Value) {
    let request = http.post(format!("{url}/_jobs/{call}")).body(body.to_string());
    read(request.send().await.unwrap()).await
}

async fn read(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_default())
}

async fn world(options: Options) -> (FakeGithub, Github) {
    let fake = start(options).await;
    let github = client(with_token(&fake));
    (fake, github)
}

async fn online(fake: &FakeGithub, github: &Github, number: u64) -> (Registered, Runner) {
    let registered = github.register(&order(&scope("octo-org"), number)).await.unwrap();
    let runner = Runner::connect(fake, &registered).await;
    (registered, runner)
}

fn queue(fake: &FakeGithub) -> u64 {
    fake.queue_job(&scope("octo-org"), &labels(), Duration::from_millis(2500)).0
}

fn record(fake: &FakeGithub, job: u64) -> JobRecord {
    fake.jobs().into_iter().find(|one| one.id.0 == job).unwrap()
}

/// Waits until the fake's world is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_job_is_told_until_it_is_acquired_and_its_end_uses_the_registration_up() {
    let (fake, github) = world(Options::default()).await;
    let (registered, runner) = online(&fake, &github, 1).await;
    assert_eq!(runner.message(0.0).await, (204, Value::Null));
    let (told, job) = tokio::join!(runner.message(50.0), async { queue(&fake) });
    let wanted = json!({"job": job, "runs_for": 2.5, "repository": "octo-org/project",
        "workflow": "CI", "run_id": 9_000_000_000 + job, "event": "push"});
    assert_eq!(told, (200, wanted.clone()));
    assert_eq!(runner.message(50.0).await, (200, wanted), "told again until it is acquired");
    assert_eq!(runner.about("renew", job).await, 410, "what was not acquired cannot be renewed");
    assert_eq!(runner.about("complete", job).await, 204);
    assert_eq!(record(&fake, job).completed_at, None, "nor completed");

    assert_eq!(runner.about("acquire", job).await, 200);
    assert_eq!(runner.about("acquire", job).await, 200, "the answer may have been lost");
    assert_eq!(runner.message(0.0).await.0, 204);
    assert_eq!(runner.about("renew", job).await, 200);
    assert_eq!(runner.about("complete", job).await, 204);
    assert_eq!(runner.about("complete", job).await, 204, "the answer may have been lost");
    assert_eq!(runner.message(50.0).await.0, 410);

    let record = record(&fake, job);
    assert_eq!(record.runner, Some(name(1).to_string()));
    assert_eq!((record.result.as_deref(), record.lost), (Some("success"), None));
    let times = [record.assigned_at, record.acquired_at, record.completed_at].map(Option::unwrap);
    assert!(times.is_sorted() && record.queued_at <= times[0]);
    let stats = fake.stats();
    assert_eq!((stats.completed, stats.lost, stats.registrations), (1, 0, 0));
    let config = json!({"jit_config": registered.jit_config.expose()});
    assert_eq!(post(&runner.http, &runner.url, "connect", &config).await.0, 404);
}

#[tokio::test]
async fn who_cannot_come_online_learns_why() {
    let (fake, github) = world(Options::default()).await;
    let (registered, runner) = online(&fake, &github, 1).await;
    let again = json!({"jit_config": registered.jit_config.expose()});
    let connect = async |body: &Value| post(&runner.http, &runner.url, "connect", body).await.0;
    assert_eq!(connect(&again).await, 409);
    let refused = fake.connect(registered.jit_config.expose()).await.unwrap_err();
    assert_eq!(refused, Refused::Connected, "both ways lead to one GitHub");
    assert_eq!(connect(&json!({"jit_config": "bm90IG9uZQ=="})).await, 400);
    assert_eq!(connect(&json!({})).await, 400);
    let (status, _) =
        post(&runner.http, &runner.url, "acquire", &json!({"session": "no", "job": 1})).await;
    assert_eq!(status, 400);
    assert_eq!(runner.disconnect().await, 204);
    assert_eq!(connect(&again).await, 200);
    assert_eq!(runner.message(50.0).await.0, 410, "the older session has no say any more");
}

#[tokio::test]
async fn a_job_that_its_runner_does_not_acquire_goes_to_another_one() {
    let assignment_timeout = Duration::from_millis(50);
    let (fake, github) = world(Options { assignment_timeout, ..Options::default() }).await;
    let (_, frozen) = online(&fake, &github, 1).await;
    let job = queue(&fake);
    until("it is back in the queue", || record(&fake, job).runner.is_none()).await;
    assert_eq!(fake.stats().queued, 1, "a runner that does not ask is not assigned it again");
    let (_, other) = online(&fake, &github, 2).await;
    // Told and acquired within the timeout, or told anew after it.
    let taken = loop {
        assert_eq!(other.message(50.0).await.1["job"], json!(job));
        if other.about("acquire", job).await == 200 {
            break record(&fake, job);
        }
    };
    assert_eq!(taken.runner, Some(name(2).to_string()));
    assert_eq!(frozen.about("acquire", job).await, 409, "not its job any more");
    assert_eq!(frozen.message(0.0).await.0, 204);
    let stats = fake.stats();
    assert_eq!((stats.lost, stats.registrations, stats.waits.len()), (0, 2, 1));
}

#[tokio::test]
async fn a_runner_is_busy_from_the_assignment_on() {
    let (fake, github) = world(Options::default()).await;
    let org = scope("octo-org");
    let (registered, runner) = online(&fake, &github, 1).await;
    let job = queue(&fake);
    assert_eq!(github.list(&org).await.unwrap().entries[0].busy, Some(true));
    let refused = github.deregister(&org, &name(1), Some(registered.id)).await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Busy);
    assert_eq!(runner.about("acquire", job).await, 200);
    let refused = github.deregister(&org, &name(1), Some(registered.id)).await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Busy);
    assert_eq!(fake.registrations()[0].job.map(|job| job.0), Some(job));
}

#[tokio::test]
async fn where_the_flag_lies_a_deregistration_loses_what_was_acquired_and_only_that() {
    let (fake, github) = world(Options::default()).await;
    let org = scope("octo-org");
    let (first, assigned) = online(&fake, &github, 1).await;
    let given_back = queue(&fake);
    let (second, running) = online(&fake, &github, 2).await;
    let lost = queue(&fake);
    assert_eq!(running.about("acquire", lost).await, 200);
    fake.faults().busy_lies_for(PATIENCE);
    assert!(github.list(&org).await.unwrap().entries.iter().all(|one| one.busy == Some(false)));
    for (number, id) in [(1, first.id), (2, second.id)] {
        github.deregister(&org, &name(number), Some(id)).await.unwrap();
    }
    assert_eq!(assigned.about("acquire", given_back).await, 409);
    assert_eq!(assigned.message(50.0).await.0, 410);
    assert_eq!(running.about("renew", lost).await, 410);
    assert_eq!(running.about("complete", lost).await, 204);
    let killed = record(&fake, lost);
    assert_eq!(killed.runner, Some(name(2).to_string()));
    assert_eq!(killed.lost.map(|(_, how)| how), Some(Lost::Deregistered));
    assert_eq!(killed.completed_at, None, "a cancelled job cannot be completed");
    assert_eq!(record(&fake, given_back).runner, None);
    let stats = fake.stats();
    assert_eq!((stats.queued, stats.lost, stats.registrations), (1, 1, 0));
}

#[tokio::test]
async fn the_flag_may_lie_about_some_jobs_only() {
    let (fake, github) = world(Options::default()).await;
    let org = scope("octo-org");
    let mut jobs = Vec::new();
    for number in [1, 2] {
        online(&fake, &github, number).await;
        jobs.push(fake.queue_job(&org, &labels(), Duration::from_secs(60)));
    }
    fake.faults().busy_lies_about(&jobs[..1]);
    let busy = async || -> Vec<Option<bool>> {
        github.list(&org).await.unwrap().entries.iter().map(|one| one.busy).collect()
    };
    assert_eq!(busy().await, [Some(false), Some(true)]);
    fake.faults().busy_lies(false);
    assert_eq!(busy().await, [Some(true), Some(true)]);
}

#[tokio::test]
async fn a_runner_that_falls_silent_loses_its_job_and_gets_no_other_one() {
    let (fake, github) = world(Options { silence: SILENCE, ..Options::default() }).await;
    let (_, runner) = online(&fake, &github, 1).await;
    let job = queue(&fake);
    assert_eq!(runner.about("acquire", job).await, 200);
    until("it is offline", || fake.stats().online == 0).await;
    assert_eq!(record(&fake, job).lost.map(|(_, how)| how), Some(Lost::Silent));
    let next = queue(&fake);
    assert_eq!(runner.about("renew", job).await, 410);
    assert_eq!(fake.stats().registrations, 1);
    assert_eq!(record(&fake, next).runner, None, "a JIT runner takes one job");
}

#[tokio::test]
async fn a_runner_that_was_silent_without_a_job_is_online_again_when_it_is_heard() {
    let (fake, github) = world(Options { silence: SILENCE, ..Options::default() }).await;
    let (registered, frozen) = online(&fake, &github, 1).await;
    let job = queue(&fake);
    until("it is offline", || fake.stats().online == 0).await;
    assert_eq!(record(&fake, job).runner, None, "what it had not acquired is in the queue");
    assert_eq!(frozen.message(0.0).await.1["job"], json!(job));
    assert_eq!(frozen.about("acquire", job).await, 200);
    assert_eq!(fake.stats().online, 1);
    // A call that waits for its answer is no silence: this one lasts longer than that.
    let wait = SILENCE.as_secs_f64() * 1.5;
    assert_eq!(frozen.message(wait).await.0, 204);
    assert_eq!(frozen.about("renew", job).await, 200);
    assert_eq!(fake.stats().lost, 0);
    assert_eq!(fake.registrations()[0].id, registered.id.0);
}

#[tokio::test]
async fn a_runner_that_disconnects_in_mid_job_loses_it() {
    let (fake, github) = world(Options::default()).await;
    let (_, runner) = online(&fake, &github, 1).await;
    let job = queue(&fake);
    assert_eq!(runner.about("acquire", job).await, 200);
    assert_eq!(runner.disconnect().await, 204);
    assert_eq!(record(&fake, job).lost.map(|(_, how)| how), Some(Lost::Disconnected));
    assert_eq!((fake.stats().online, fake.stats().registrations), (0, 1));
}

#[tokio::test]
async fn an_outage_breaks_calls_off_and_costs_neither_session_nor_job() {
    let (fake, github) = world(Options { silence: SILENCE, ..Options::default() }).await;
    let (_, idle) = online(&fake, &github, 1).await;
    let job = queue(&fake);
    assert_eq!(idle.about("acquire", job).await, 200);
    let (broken, ()) = tokio::join!(idle.message(50.0), async {
        fake.faults().outage(true);
    });
    assert_eq!(broken.0, 503);
    for call in ["acquire", "renew", "complete"] {
        assert_eq!(idle.about(call, job).await, 503);
    }
    // Longer than a silence that would count.
    tokio::time::sleep(SILENCE * 2).await;
    fake.faults().outage(false);
    assert_eq!(idle.about("renew", job).await, 200);
    assert_eq!(idle.about("complete", job).await, 204);
    assert_eq!((fake.stats().completed, fake.stats().lost), (1, 0));
}

#[tokio::test]
async fn it_listens_where_it_is_told_to() {
    let listen = "127.0.0.9:0".parse().unwrap();
    let (fake, github) = world(Options { listen, ..Options::default() }).await;
    assert!(fake.url().starts_with("http://127.0.0.9:"), "{}", fake.url());
    assert_eq!(fake.url(), fake.url_for_guests());
    online(&fake, &github, 1).await;
    assert_eq!(fake.stats().online, 1);
}

#[tokio::test]
async fn where_guests_reach_it_over_a_network_its_daemon_does_over_loopback() {
    let listen = "0.0.0.0:0".parse().unwrap();
    let (fake, github) = world(Options { listen, ..Options::default() }).await;
    assert!(fake.url().starts_with("http://127.0.0.1:"), "{}", fake.url());
    assert_ne!(fake.url(), fake.url_for_guests());
    online(&fake, &github, 1).await;
    let answer = reqwest::get(format!("{}/rate_limit", fake.url_for_guests())).await;
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(fake.stats().online, 1, "one and the same");
}
