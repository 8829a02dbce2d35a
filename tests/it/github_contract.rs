//! GitHub's own descriptions of github.com and GHES judge what the client sends and the fake emits.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::github::judge::Judge;
use crate::support::github::*;
use runner_fleet::{
    demand::{
        JobEars,
        scale_set::{Hears, Marks, MarksInMemory, NotKept, PoolSet, ScaleSets, Setup},
    },
    fake::github::{Exchange, FakeGithub, Group, Next, Offered, Options, Refused},
    github::{
        Github,
        budget::CallKind,
        downloads::Catalogue,
        freshness::{Deprecation, Version},
    },
};
use runner_fleet_actors::{
    event::{Job, JobEnd},
    job::JobNews,
    name::{RegistrationId, RunnerName},
    port::{ErrorClass, Forge},
};

const GITHUB_COM: &str = include_str!("../data/github-runners.schema.json");
const GHES: &str = include_str!("../data/github-runners-ghes-3.19.schema.json");
const SCOPES: [&str; 3] = ["octo-org/octo-repo", "octo-org", "enterprises/octo-corp"];

type Seen = Arc<Mutex<Vec<Exchange>>>;

async fn recorded(options: Options) -> (FakeGithub, Seen) {
    let seen = Seen::default();
    let into = Arc::clone(&seen);
    let recorder = Arc::new(move |exchange: &Exchange| into.lock().unwrap().push(exchange.clone()));
    (start(Options { recorder: Some(recorder), ..options }).await, seen)
}

fn judge(seen: &Seen, at_least: usize) {
    let seen = seen.lock().unwrap();
    assert!(seen.len() >= at_least, "only {} exchanges", seen.len());
    for description in [GITHUB_COM, GHES] {
        let judge = Judge::new(description);
        for exchange in seen.iter() {
            // A GitHub Enterprise Server has no such call, so whoever meets one answers 404.
            let absent = exchange.operation_id.contains("deprecation") && description == GHES;
            if absent && exchange.status == 404 {
                continue;
            }
            assert_eq!(judge.faults(exchange), Vec::<String>::new(), "{exchange:#?}");
        }
    }
}

#[tokio::test]
async fn a_runners_whole_life_in_every_scope_is_as_github_describes_it() {
    let groups = vec![
        Group { id: 1, name: "Default".to_owned(), default: true, closed: false },
        Group { id: 4, name: "Big Iron".to_owned(), default: false, closed: false },
    ];
    let (fake, seen) = recorded(Options { groups, ..Options::default() }).await;
    let github = client(with_token(&fake));
    for text in SCOPES {
        let scope = scope(text);
        let registered = github.register(&order(&scope, 1)).await.unwrap();
        let mut listener = fake.connect(registered.jit_config.expose()).await.unwrap();
        let idle = github.list(&scope).await.unwrap();
        assert!(idle.complete, "{:?}", idle.faults);
        assert_eq!(idle.entries.len(), 1);
        assert_eq!(idle.entries[0].id, registered.id);
        assert!(idle.entries[0].online);
        assert_eq!(idle.entries[0].busy, Some(false));

        let job = fake.queue_job(&scope, &["SMALL".to_owned()], Duration::from_secs(1));
        assert!(matches!(listener.next_job().await, Next::Job(got) if got.id == job));
        assert_eq!(github.list(&scope).await.unwrap().entries[0].busy, Some(true));
        let busy = github.deregister(&scope, &name(1), Some(registered.id)).await.unwrap_err();
        assert_eq!(busy.class, ErrorClass::Busy);

        listener.complete(true);
        assert!(github.list(&scope).await.unwrap().entries.is_empty());
        github.deregister(&scope, &name(1), Some(registered.id)).await.unwrap();
        github.deregister(&scope, &name(1), None).await.unwrap();

        github.register(&order(&scope, 2)).await.unwrap();
        github.register(&order(&scope, 2)).await.unwrap();
        github.deregister(&scope, &name(2), None).await.unwrap();
        github.check(&scope, None).await.unwrap();
    }
    let stats = fake.stats();
    assert_eq!((stats.completed, stats.lost, stats.registrations), (3, 0, 0));
    judge(&seen, 30);
}

#[tokio::test]
async fn runner_applications_are_offered_and_retired_as_github_describes_it() {
    let (fake, seen) = recorded(Options::default()).await;
    let github = client(with_token(&fake));
    let (old, newest): (Version, Version) =
        ("2.335.0".parse().unwrap(), "2.336.0".parse().unwrap());
    let end = Some("2026-12-24T00:00:00Z".parse().unwrap());
    fake.retire("2.335.0", None, end);
    for text in SCOPES {
        let scope = scope(text);
        let offer = github.offer(&scope, CallKind::List).await.unwrap();
        assert_eq!(offer.faults, Vec::<String>::new());
        let words: Vec<_> = offer.applications.iter().map(|one| &*one.architecture).collect();
        assert_eq!(words, ["x64", "arm64"]);
        let one = &offer.applications[0];
        assert_eq!((one.version, &*one.os, one.sha256.is_some()), (newest, "linux", true));
        let none = github.deprecation(&scope, newest).await.unwrap();
        assert_eq!(none, Some(Deprecation::default()), "no date is set");
        let retired = github.deprecation(&scope, old).await.unwrap();
        assert_eq!(retired, Some(Deprecation { registration: None, runtime: end }));
    }
    // Of these three calls a GitHub Enterprise Server knows the first.
    let judged = seen.lock().unwrap().len();
    assert_eq!(judged, 9);
    let github_com = Judge::new(GITHUB_COM);
    for exchange in seen.lock().unwrap().iter() {
        assert_eq!(github_com.faults(exchange), Vec::<String>::new(), "{exchange:#?}");
    }
}

#[tokio::test]
async fn a_github_enterprise_server_tells_no_schedule_and_that_is_an_answer() {
    let (fake, seen) = recorded(Options { schedules: false, ..Options::default() }).await;
    let github = client(with_token(&fake));
    for text in SCOPES {
        github.offer(&scope(text), CallKind::List).await.unwrap();
        let told = github.deprecation(&scope(text), "2.335.0".parse().unwrap()).await;
        assert_eq!(told.unwrap(), None);
    }
    assert_eq!(github.status().failures, 0);
    judge(&seen, 6);
}

#[tokio::test]
async fn an_archive_on_offer_is_what_its_checksum_says() {
    let (fake, github) = pair().await;
    fake.offer(vec![Offered::linux("x64", "2.340.0", b"an archive".to_vec())]);
    let offer = github.offer(&scope("octo-org"), CallKind::List).await.unwrap();
    let one = &offer.applications[0];
    let bytes = reqwest::get(one.url.clone()).await.unwrap().bytes().await.unwrap();
    assert_eq!(bytes, b"an archive".as_slice());
    let sum = "9e691d5adacf0e102f203100842ffaba4e2a7dfe3dbd536827d3c0db8c7e88f1";
    assert_eq!(one.sha256.as_deref(), Some(sum));
    assert_eq!(one.filename, "actions-runner-linux-x64-2.340.0.tar.gz");
}

#[tokio::test]
async fn an_apps_tokens_are_as_github_describes_them() {
    let (fake, seen) = recorded(Options { app: Some(app()), ..Options::default() }).await;
    let github = client(with_app(&fake));
    github.register(&order(&scope("octo-org"), 1)).await.unwrap();
    assert_eq!(fake.stats().calls["apps/create-installation-access-token"], 1);
    judge(&seen, 3);
}

#[tokio::test]
async fn refusals_are_as_github_describes_them() {
    let (fake, seen) = recorded(Options::default()).await;
    let github = client(with_token(&fake));
    let org = scope("octo-org");
    fake.faults().revoke(TOKEN);
    github.list(&org).await.unwrap_err();
    fake.faults().accept(TOKEN);
    fake.faults().forbid(true);
    github.list(&org).await.unwrap_err();
    fake.faults().forbid(false);
    fake.faults().outage(true);
    github.list(&org).await.unwrap_err();
    fake.faults().outage(false);
    github.list(&org).await.unwrap();
    github.list(&org).await.unwrap();
    let http = reqwest::Client::new();
    let limit = http.get(format!("{}/rate_limit", fake.url())).bearer_auth(TOKEN);
    assert_eq!(limit.send().await.unwrap().status(), 200);
    judge(&seen, 6);
}

/// Without this, a judge that finds nothing would pass for one that had nothing to find.
#[test]
fn the_judge_finds_what_is_wrong() {
    let good = Exchange {
        operation_id: "actions/generate-runner-jitconfig-for-org",
        method: "POST".to_owned(),
        path: "/orgs/octo/actions/runners/generate-jitconfig".to_owned(),
        query: String::new(),
        request: Some(serde_json::json!({"name": "a", "runner_group_id": 1, "labels": ["x"]})),
        status: 409,
        response: Some(serde_json::json!({"message": "Already exists"})),
    };
    for description in [GITHUB_COM, GHES] {
        let judge = Judge::new(description);
        assert_eq!(judge.faults(&good), Vec::<String>::new());
        let mutants = [
            Exchange { method: "PUT".to_owned(), ..good.clone() },
            Exchange { path: "/orgs/octo/actions/runners".to_owned(), ..good.clone() },
            Exchange { query: "fleet=ci".to_owned(), ..good.clone() },
            Exchange { request: Some(serde_json::json!({"name": "a"})), ..good.clone() },
            Exchange {
                request: Some(serde_json::json!(
                    {"name": "a", "runner_group_id": 1, "labels": ["x"], "ephemeral": true}
                )),
                ..good.clone()
            },
            Exchange { status: 418, ..good.clone() },
            Exchange { status: 201, response: Some(serde_json::json!({})), ..good.clone() },
        ];
        for mutant in mutants {
            assert_ne!(judge.faults(&mutant), Vec::<String>::new(), "{mutant:#?}");
        }
    }
}

#[tokio::test]
async fn a_runner_is_lost_with_its_vm_and_its_registration_stays() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let registered = github.register(&order(&org, 1)).await.unwrap();
    fake.queue_job(&org, &labels(), Duration::from_secs(1));
    assert_eq!(fake.demand(&org, &labels()), (1, 0));
    let mut listener = fake.connect(registered.jit_config.expose()).await.unwrap();
    let second = fake.connect(registered.jit_config.expose()).await;
    assert_eq!(second.unwrap_err(), Refused::Connected);
    assert!(matches!(listener.next_job().await, Next::Job(_)));
    assert_eq!(fake.demand(&org, &labels()), (0, 1));
    drop(listener);
    let stats = fake.stats();
    assert_eq!((stats.lost, stats.completed, stats.registrations, stats.online), (1, 0, 1, 0));
    assert!(!github.list(&org).await.unwrap().entries[0].online);
}

#[tokio::test]
async fn a_deregistered_runner_hears_of_it_and_its_config_is_refused() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let registered = github.register(&order(&org, 1)).await.unwrap();
    let mut listener = fake.connect(registered.jit_config.expose()).await.unwrap();
    let (next, ()) = tokio::join!(listener.next_job(), async {
        github.deregister(&org, &name(1), Some(registered.id)).await.unwrap();
    });
    assert_eq!(next, Next::Deregistered);
    let config = registered.jit_config.expose();
    assert_eq!(fake.connect(config).await.unwrap_err(), Refused::Gone);
    assert_eq!(fake.connect("bm90IG9uZQ==").await.unwrap_err(), Refused::NotAConfig);
}

#[tokio::test]
async fn where_the_busy_flag_lies_a_deregistration_kills_the_job() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let registered = github.register(&order(&org, 1)).await.unwrap();
    let mut listener = fake.connect(registered.jit_config.expose()).await.unwrap();
    fake.queue_job(&org, &labels(), Duration::from_secs(1));
    assert!(matches!(listener.next_job().await, Next::Job(_)));
    fake.faults().busy_lies(true);
    assert_eq!(github.list(&org).await.unwrap().entries[0].busy, Some(false));
    github.deregister(&org, &name(1), Some(registered.id)).await.unwrap();
    listener.deregistered().await;
    listener.complete(true);
    let stats = fake.stats();
    assert_eq!((stats.lost, stats.completed), (1, 0), "a cancelled job cannot be completed");
}

#[tokio::test]
async fn a_job_waits_for_a_runner_of_its_scope_with_all_its_labels() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let mut listeners = Vec::new();
    let elsewhere = scope("octo-org/octo-repo");
    for (at, scope) in [&elsewhere, &org].into_iter().enumerate() {
        let registered = github.register(&order(scope, at as u64)).await.unwrap();
        listeners.push(fake.connect(registered.jit_config.expose()).await.unwrap());
    }
    fake.queue_job(&org, &["small".to_owned(), "gpu".to_owned()], Duration::ZERO);
    assert_eq!(fake.stats().running, 0, "no runner has the label gpu");
    let fits = fake.queue_job(&org, &["small".to_owned()], Duration::ZERO);
    assert!(matches!(listeners[1].next_job().await, Next::Job(job) if job.id == fits));
    let stats = fake.stats();
    assert_eq!((stats.queued, stats.running, stats.waits.len()), (1, 1, 1));
}

#[tokio::test]
async fn the_status_counts_calls_and_shows_what_is_left() {
    let (_fake, github) = pair().await;
    let github: &dyn Forge = &github as &Github;
    github.list(&scope("octo-org")).await.unwrap();
    let status = github.status();
    assert_eq!((status.calls, status.failures, status.in_flight), (1, 0, 0));
    assert_eq!((status.remaining, status.held_until, status.last_error), (Some(4999), None, None));
}

#[tokio::test]
async fn a_scale_sets_way_into_the_actions_service_is_as_github_describes_it() {
    let (fake, seen) = recorded(Options::default()).await;
    let github = Arc::new(client(with_token(&fake)));
    let marks = Arc::new(MarksInMemory::default());
    for (number, text) in SCOPES.iter().enumerate() {
        let sets = ScaleSets::new(Setup {
            github: Arc::clone(&github),
            clock: HandClock::new(),
            marks: Arc::clone(&marks) as Arc<dyn Marks>,
            hears: Arc::new(Nobody),
            owner: "ci".to_owned(),
        });
        sets.configure(vec![PoolSet {
            pool: "small".parse().unwrap(),
            scope: scope(text),
            name: "small".to_owned(),
            group: None,
            labels: labels(),
            max: 1,
            repositories: runner_fleet_actors::job::Repositories::default(),
        }]);
        sets.start(Arc::new(Nobody));
        while fake.scale_sets().len() <= number {
            tokio::task::yield_now().await;
        }
        sets.stop().await;
    }
    let kinds: BTreeSet<_> = seen.lock().unwrap().iter().map(|one| one.operation_id).collect();
    assert_eq!(kinds.len(), 3, "nothing else of the REST API is asked: {kinds:?}");
    judge(&seen, 3);
}

struct Nobody;

#[async_trait::async_trait]
impl Hears for Nobody {
    async fn hear(&self, _: Vec<JobNews>) -> Result<(), NotKept> {
        Ok(())
    }
}

impl JobEars for Nobody {
    fn job_started(&self, _: &RunnerName, _: Option<RegistrationId>, _: Job) {}
    fn job_ended(&self, _: &RunnerName, _: Option<RegistrationId>, _: JobEnd) {}
}
