//! Cordons at GitHub: labels and groups really decide who gets a job.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use runner_fleet::{
    fake::github::{Exchange, FakeGithub, Group, Listener, Next, Once, Operation, Options},
    github::{Github, GithubConfig, cordon::MARK},
};
use runner_fleet_actors::{
    name::{RegistrationId, Scope},
    port::{ErrorClass, Forge, Registration},
};

use crate::support::github::{judge::Judge, *};

const GITHUB_COM: &str = include_str!("../data/github-runners.schema.json");
const GHES: &str = include_str!("../data/github-runners-ghes-3.19.schema.json");
const SCOPES: [&str; 3] = ["octo-org/octo-repo", "octo-org", "enterprises/octo-corp"];

fn groups() -> Vec<Group> {
    vec![
        Group { id: 1, name: "Default".to_owned(), default: true, closed: false },
        Group { id: 9, name: "Cordoned".to_owned(), default: false, closed: true },
        Group { id: 4, name: "Private".to_owned(), default: false, closed: false },
    ]
}

async fn idle(fake: &FakeGithub, github: &Github, scope: &Scope) -> (Listener, RegistrationId) {
    let registered = github.register(&order(scope, 1)).await.unwrap();
    (fake.connect(registered.jit_config.expose()).await.unwrap(), registered.id)
}

async fn listed(github: &Github, scope: &Scope) -> Registration {
    github.list(scope).await.unwrap().entries.remove(0)
}

fn with_group(fake: &FakeGithub, group: &str) -> GithubConfig {
    GithubConfig { cordon_group: Some(group.to_owned()), ..with_token(fake) }
}

/// A job that comes behind the cordon waits, and is given once that is off.
async fn keeps_jobs_off(fake: &FakeGithub, github: &Github, scope: &Scope) {
    let (mut listener, id) = idle(fake, github, scope).await;
    assert_eq!(listed(github, scope).await.cordoned, Some(false));
    github.cordon(&order(scope, 1), id).await.unwrap();
    assert_eq!(listed(github, scope).await.cordoned, Some(true));
    fake.queue_job(scope, &labels(), Duration::ZERO);
    assert_eq!(fake.stats().running, 0, "nobody may have it");
    github.cordon(&order(scope, 1), id).await.unwrap();
    github.uncordon(&order(scope, 1), id).await.unwrap();
    assert!(matches!(listener.next_job().await, Next::Job(_)));
    assert_eq!(listed(github, scope).await.cordoned, Some(false));
    listener.complete(true);
}

#[tokio::test]
async fn a_cordoned_runner_gets_no_job_in_any_scope_and_the_calls_are_as_github_describes_them() {
    let seen: Arc<Mutex<Vec<Exchange>>> = Arc::default();
    let into = Arc::clone(&seen);
    let recorder = Arc::new(move |exchange: &Exchange| into.lock().unwrap().push(exchange.clone()));
    let options = Options { recorder: Some(recorder), groups: groups(), ..Options::default() };
    let fake = start(options).await;
    let by_labels = client(with_token(&fake));
    let by_group = client(with_group(&fake, "cordoned"));
    for text in SCOPES {
        keeps_jobs_off(&fake, &by_labels, &scope(text)).await;
        keeps_jobs_off(&fake, &by_group, &scope(text)).await;
    }
    let calls = fake.stats().calls;
    assert_eq!(calls["actions/set-custom-labels-for-self-hosted-runner-for-org"], 3);
    assert_eq!(calls["actions/add-self-hosted-runner-to-group-for-org"], 3);
    for description in [GITHUB_COM, GHES] {
        let judge = Judge::new(description);
        for exchange in seen.lock().unwrap().iter() {
            assert_eq!(judge.faults(exchange), Vec::<String>::new(), "{exchange:#?}");
        }
    }
}

#[tokio::test]
async fn a_job_that_it_had_before_it_keeps() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let (mut listener, id) = idle(&fake, &github, &org).await;
    fake.faults().busy_is_late(Duration::from_secs(3600));
    fake.queue_job(&org, &labels(), Duration::ZERO);
    assert_eq!(listed(&github, &org).await.busy, Some(false), "the flag is late");
    github.cordon(&order(&org, 1), id).await.unwrap();
    assert!(matches!(listener.next_job().await, Next::Job(_)));
    fake.faults().busy_is_late(Duration::ZERO);
    assert_eq!(listed(&github, &org).await.busy, Some(true));
}

#[tokio::test]
async fn a_github_that_gives_jobs_by_labels_of_yesterday_shows_the_cordon_all_the_same() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let (mut listener, id) = idle(&fake, &github, &org).await;
    fake.faults().forget_changes(true);
    github.cordon(&order(&org, 1), id).await.unwrap();
    fake.queue_job(&org, &labels(), Duration::ZERO);
    assert!(matches!(listener.next_job().await, Next::Job(_)));
    let shown = listed(&github, &org).await;
    assert_eq!((shown.busy, shown.cordoned), (Some(true), Some(true)));
}

#[tokio::test]
async fn a_github_without_that_call_says_so_and_what_took_no_label_off_is_no_cordon() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let (_listener, id) = idle(&fake, &github, &org).await;
    let faults = fake.faults();
    faults.once(Operation::SetLabels, Once::Refuse(404));
    let absent = github.cordon(&order(&org, 1), id).await.unwrap_err();
    assert_eq!((absent.class, absent.certain), (ErrorClass::Invalid, true));
    assert!(absent.what.contains("does not have that call"), "{absent}");
    let read_only = |name: &String| serde_json::json!({"id": 1, "name": name, "type": "read-only"});
    let all: Vec<_> = labels().iter().map(read_only).collect();
    let body = serde_json::json!({"total_count": 3, "labels": all}).to_string();
    faults.once(Operation::SetLabels, Once::Say(200, body));
    let kept = github.cordon(&order(&org, 1), id).await.unwrap_err();
    assert!(kept.what.contains("none of its labels went"), "{kept}");
    faults.once(Operation::SetLabels, Once::DoAndHangUp);
    let lost = github.cordon(&order(&org, 1), id).await.unwrap_err();
    assert_eq!((lost.class, lost.certain), (ErrorClass::Transient, false), "it may be cordoned");
    assert_eq!(listed(&github, &org).await.cordoned, Some(true));
    let gone = github.cordon(&order(&org, 1), RegistrationId(4711)).await.unwrap_err();
    assert_eq!(gone.class, ErrorClass::Invalid);
}

#[tokio::test]
async fn labels_that_github_applied_itself_are_not_put_back() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let (_listener, id) = idle(&fake, &github, &org).await;
    let left = serde_json::json!({"total_count": 2, "labels": [
        {"id": 1, "name": "self-hosted", "type": "read-only"},
        {"id": 2, "name": MARK, "type": "custom"},
    ]});
    fake.faults().once(Operation::Labels, Once::Say(200, left.to_string()));
    github.uncordon(&order(&org, 1), id).await.unwrap();
    // Of these the fake knows what it was told: the ones that were set.
    fake.queue_job(&org, &["linux".to_owned(), "small".to_owned()], Duration::ZERO);
    assert_eq!(fake.stats().running, 1);
    fake.queue_job(&org, &labels(), Duration::ZERO);
    assert_eq!(fake.stats().queued, 1);
}

#[tokio::test]
async fn a_group_that_is_to_keep_jobs_off_must_be_there_and_open_to_nobody() {
    let fake = start(Options { groups: groups(), ..Options::default() }).await;
    let org = scope("octo-org");
    client(with_group(&fake, "cordoned")).check(&org, None).await.unwrap();
    let open = client(with_group(&fake, "private")).check(&org, None).await.unwrap_err();
    assert!(open.what.contains("select none"), "{open}");
    let absent = client(with_group(&fake, "nowhere")).check(&org, None).await.unwrap_err();
    assert!(absent.what.contains("there is none of that name"), "{absent}");
    let repository = scope("octo-org/octo-repo");
    client(with_group(&fake, "nowhere")).check(&repository, None).await.unwrap();
}

#[tokio::test]
async fn a_group_that_is_not_there_is_looked_up_once_and_not_by_every_listing() {
    let fake = start(Options { groups: groups(), ..Options::default() }).await;
    let github = client(with_group(&fake, "nowhere"));
    let org = scope("octo-org");
    for _ in 0..3 {
        github.list(&org).await.unwrap();
    }
    let calls = fake.stats().calls;
    assert_eq!(calls["actions/list-self-hosted-runner-groups-for-org"], 1, "{calls:?}");
}
