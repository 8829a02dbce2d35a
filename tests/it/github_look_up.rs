//! One runner and its job asked for by their numbers, where listings lack it.

use std::time::Duration;

use crate::support::github::*;
use runner_fleet::fake::github::{FakeGithub, Once, Operation};
use runner_fleet_actors::{
    event::Job,
    name::RegistrationId,
    port::{ErrorClass, Finding, Forge},
};
use serde_json::json;

/// A runner that has a job for a while, its number and that of its job.
async fn at_work(fake: &FakeGithub, github: &impl Forge) -> (RegistrationId, Job) {
    let registered = github.register(&order(&scope("octo-org"), 1)).await.unwrap();
    let (http, url) = (reqwest::Client::new(), fake.url());
    let post = async |call: &str, body: serde_json::Value| {
        let request = http.post(format!("{url}/_jobs/{call}")).body(body.to_string());
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{call}: {}", response.status());
        serde_json::from_str::<serde_json::Value>(&response.text().await.unwrap())
            .unwrap_or_default()
    };
    let config = json!({"jit_config": registered.jit_config.expose()});
    let session = post("connect", config).await["session"].as_str().unwrap().to_owned();
    let job = fake.queue_job(&scope("octo-org"), &labels(), Duration::from_secs(60)).0;
    let message = format!("{url}/_jobs/message?session={session}&wait=30");
    assert_eq!(http.get(message).send().await.unwrap().status(), 200);
    post("acquire", json!({"session": session, "job": job, "result": "success"})).await;
    let repository = Some("octo-org/project".into());
    (registered.id, Job { id: Some(job), repository, ..Job::default() })
}

#[tokio::test]
async fn a_runner_at_work_that_listings_lack_is_found_by_its_number_with_its_job() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let (id, job) = at_work(&fake, &github).await;
    fake.faults().listings_miss_one(true);
    assert_eq!(github.list(&org).await.unwrap().entries, []);
    let found = github.look_up(&org, &name(1), Some(id), Some(&job)).await.unwrap();
    assert_eq!(found.at_work, Some(true));
    let shown = found.registration.unwrap();
    assert_eq!((shown.id, shown.online, shown.busy), (id, true, Some(true)));
    let without_a_number = Job { id: None, ..job };
    let found = github.look_up(&org, &name(1), Some(id), Some(&without_a_number)).await.unwrap();
    assert_eq!(found.at_work, None, "nobody can say");
}

#[tokio::test]
async fn that_there_is_no_runner_of_a_number_is_an_answer() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let id = RegistrationId(fake.add_registration(&org, name(1).as_str(), &labels()));
    let found = github.look_up(&org, &name(1), Some(id), None).await.unwrap();
    assert_eq!(found.registration.map(|one| one.id), Some(id));
    let by_name = github.look_up(&org, &name(1), None, None).await.unwrap();
    assert_eq!(by_name.registration.map(|one| one.id), Some(id));
    github.deregister(&org, &name(1), Some(id)).await.unwrap();
    for number in [Some(id), None] {
        let found = github.look_up(&org, &name(1), number, None).await.unwrap();
        assert_eq!(found, Finding::default());
    }
}

#[tokio::test]
async fn a_number_that_is_somebody_elses_runner_is_none_of_ours() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let id = RegistrationId(fake.add_registration(&org, "my-laptop", &labels()));
    let found = github.look_up(&org, &name(1), Some(id), None).await.unwrap();
    assert_eq!(found, Finding::default());
}

#[tokio::test]
async fn a_refusal_is_no_answer() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let (id, job) = at_work(&fake, &github).await;
    fake.faults().once(Operation::Get, Once::Refuse(502));
    let error = github.look_up(&org, &name(1), Some(id), Some(&job)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
    fake.faults().once(Operation::Job, Once::Refuse(502));
    let found = github.look_up(&org, &name(1), Some(id), Some(&job)).await.unwrap();
    assert_eq!((found.registration.is_some(), found.at_work), (true, None), "one of two is enough");
    let unknown = Some(RegistrationId(424_242));
    fake.faults().once(Operation::Job, Once::Refuse(502));
    let error = github.look_up(&org, &name(1), unknown, Some(&job)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient, "its job may run: {error}");
    let found = github.look_up(&org, &name(1), unknown, Some(&job)).await.unwrap();
    assert_eq!((found.registration, found.at_work), (None, Some(true)));
}
