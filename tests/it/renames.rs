//! The real daemon and scopes that are renamed, transferred or taken: what lies in them is told from what
//! only has their name, and what is asked for is asked for under the name that it has.

use std::time::Duration;

use runner_fleet::fake::github::{HookOptions, HookTarget, JobOrder, Operation};
use runner_fleet_actors::{name::Scope, port::Secret};
use serde_json::Value;

use crate::support::{
    e2e::{Home, PATIENCE, eventually},
    e2e_fakes::{HOOK_SECRET, Outside, pool, webhooks},
};

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

struct Story {
    home: Home,
    outside: Outside,
}

impl Story {
    /// A fleet with one pool in that scope, which hears of everybody's jobs, as a public App does.
    async fn begin(of: &str) -> Self {
        let outside = Outside::start_with(29, Duration::ZERO).await;
        let home = Home::new();
        outside.furnish(&home);
        let (hooks, url) = webhooks(&home);
        let hooked = pool("hooked", of, "demand = [\"webhook\"]\nmax = 3");
        home.configure(&format!("{}\n{hooks}{hooked}", outside.head("token_file = \"token\"")));
        outside.github.add_hook(HookOptions {
            url,
            secret: Some(Secret::new(HOOK_SECRET)),
            id: 41,
            target: HookTarget::App,
        });
        Self { home, outside }
    }

    /// A job of a repository, for runners of that scope.
    fn queue(&self, of: &str, repository: &str) {
        let labels = ["self-hosted", "hooked"].map(str::to_owned);
        let order = JobOrder::new(&scope(of), &labels, Duration::from_millis(100));
        self.outside.github.queue(JobOrder { repository: Some(repository.to_owned()), ..order });
    }

    async fn completed(&self, jobs: u64) {
        eventually(PATIENCE, &format!("{jobs} jobs are over"), || async {
            (self.outside.github.stats().completed == jobs).then_some(())
        })
        .await;
    }

    /// How often a repository or an organisation itself was asked for.
    fn asked(&self) -> u64 {
        let calls = self.outside.github.stats().calls;
        ["repos/get", "orgs/get"].iter().filter_map(|call| calls.get(call)).sum()
    }

    async fn attention(&self, text: &str) -> String {
        eventually(PATIENCE, &format!("the status says {text:?}"), || async {
            let status = self.home.status().await?;
            let told = status["attention"].as_array()?.clone();
            let texts = told.iter().filter_map(Value::as_str);
            texts.map(str::to_owned).find(|told| told.contains(text))
        })
        .await
    }

    /// Lists GitHub, and waits until that is done.
    async fn list(&self) {
        let calls = || {
            let calls = self.outside.github.stats().calls;
            calls.iter().filter(|(call, _)| call.contains("list-self-hosted")).map(|(_, n)| n).sum()
        };
        let before: u64 = calls();
        self.home.cli(&["reconcile"]).await.good();
        eventually(PATIENCE, "github is listed", || async { (calls() > before).then_some(()) })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_was_renamed_before_the_start_is_served_and_said() {
    let story = Story::begin("acme/widgets").await;
    story.outside.github.rename(&scope("acme/widgets"), &scope("acme/gadgets"));
    let checked = story.home.cli(&["check", "--online", "--output", "json"]).await.json();
    let warned = checked.as_array().unwrap().iter().any(|one| {
        one["grade"] == "warning"
            && one["what"].as_str().unwrap().contains("called acme/gadgets now")
    });
    assert!(warned, "{checked}");
    let daemon = story.home.start();
    story.attention("acme/widgets is called acme/gadgets now").await;
    assert_eq!(daemon.said().matches("a scope has moved").count(), 1);
    story.queue("acme/gadgets", "acme/gadgets");
    story.completed(1).await;
    // From now on nothing costs two calls.
    let sent_on = story.outside.github.sent_on();
    story.list().await;
    assert_eq!(story.outside.github.sent_on(), sent_on);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(60)).await.0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_is_transferred_meanwhile_goes_on_and_whoever_takes_its_name_gets_nothing()
 {
    let story = Story::begin("acme/widgets").await;
    let daemon = story.home.start();
    story.home.ready().await;
    eventually(PATIENCE, "its number is asked for", || async {
        daemon.said().contains("told a scope's number").then_some(())
    })
    .await;
    assert_eq!(story.asked(), 1, "one call a scope");
    let github = &story.outside.github;
    github.rename(&scope("acme/widgets"), &scope("beta/gizmos"));
    // The first word under the new name is by its number about ours, and makes the daemon ask.
    story.queue("beta/gizmos", "beta/gizmos");
    story.completed(1).await;
    story.attention("acme/widgets is called beta/gizmos now").await;
    // A call that was on its way may have been sent on after that, and is one doubt more.
    assert!((2..=3).contains(&story.asked()), "one more, when it was doubted: {}", story.asked());
    github.take_name(&scope("acme/widgets"));
    for _ in 0..3 {
        story.queue("acme/widgets", "acme/widgets");
    }
    story.queue("beta/gizmos", "beta/gizmos");
    story.completed(2).await;
    let made = story.outside.cloud.stats().creates;
    assert_eq!(made, 2, "a VM for each of ours, and none for a stranger's");
    eventually(PATIENCE, "the strangers' jobs are told of, and foreign", || async {
        let status = story.home.status().await?;
        let mut sources = status["sources"].as_array()?.iter();
        let door = sources.find(|one| one["source"] == "webhooks")?;
        (door["details"]["foreign"] == 3).then_some(())
    })
    .await;
    assert_eq!(story.outside.cloud.stats().creates, 2);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(60)).await.0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organisation_that_is_renamed_is_found_again_by_its_number() {
    let story = Story::begin("acme").await;
    let daemon = story.home.start();
    story.home.ready().await;
    eventually(PATIENCE, "its number is asked for", || async {
        daemon.said().contains("told a scope's number").then_some(())
    })
    .await;
    story.outside.github.rename(&scope("acme"), &scope("acme-labs"));
    // Its old name is not found, and nobody redirects.
    story.home.cli(&["reconcile"]).await.good();
    story.attention("acme is called acme-labs now").await;
    story.home.ready().await;
    story.queue("acme-labs", "acme-labs/app");
    story.completed(1).await;
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(60)).await.0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_github_that_tells_no_numbers_is_served_as_before() {
    let story = Story::begin("acme/widgets").await;
    let faults = story.outside.github.faults();
    for status in [500, 404, 403] {
        faults.once(Operation::Repository, runner_fleet::fake::github::Once::Refuse(status));
    }
    let daemon = story.home.start();
    story.home.ready().await;
    story.queue("acme/widgets", "acme/widgets");
    story.completed(1).await;
    eventually(PATIENCE, "its number was asked for", || async {
        (story.asked() >= 1).then_some(())
    })
    .await;
    story.home.ready().await;
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(60)).await.0.code(), Some(0));
}
