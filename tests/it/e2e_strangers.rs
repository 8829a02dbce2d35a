//! The real daemon and the deliveries of strangers: whoever installed a public App posts signed webhooks
//! that name this fleet's runners, or that ask for them.

use std::time::Duration;

use runner_fleet::fake::github::{HookOptions, HookTarget};
use runner_fleet_actors::port::Secret;
use serde_json::{Value, json};

use crate::support::{
    e2e::{Home, PATIENCE, eventually},
    e2e_fakes::{HOOK_SECRET, Outside, pool, webhooks},
    github::receiver::signature,
};

const ORG: &str = "octo-org";

struct Story {
    home: Home,
    outside: Outside,
    url: String,
    client: reqwest::Client,
}

impl Story {
    async fn begin(sizes: &str) -> Self {
        let outside = Outside::start_with(23, Duration::ZERO).await;
        let home = Home::new();
        outside.furnish(&home);
        let (hooks, url) = webhooks(&home);
        let hooked = pool("hooked", ORG, &format!("demand = [\"webhook\"]\n{sizes}"));
        home.configure(&format!("{}\n{hooks}{hooked}", outside.head("token_file = \"token\"")));
        outside.github.add_hook(HookOptions {
            url: url.clone(),
            secret: Some(Secret::new(HOOK_SECRET)),
            id: 41,
            target: HookTarget::Scope(ORG.parse().unwrap()),
        });
        Self { home, outside, url, client: reqwest::Client::new() }
    }

    /// Posts what somebody's GitHub signs, and waits for the answer.
    async fn deliver(&self, guid: &str, payload: &Value) {
        let body = payload.to_string();
        let answer = self
            .client
            .post(&self.url)
            .header("x-github-event", "workflow_job")
            .header("x-github-delivery", guid)
            .header("x-hub-signature-256", signature(HOOK_SECRET, body.as_bytes()))
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{guid}");
    }

    /// The only runner in this state: its name and the number of its registration.
    async fn runner(&self, state: &str) -> (String, u64) {
        eventually(PATIENCE, &format!("a runner is {state}"), || async {
            let answer = self.home.cli(&["runners", "--output", "json"]).await.json();
            let all = answer["runners"].as_array()?.clone();
            let one = all.iter().find(|one| one["state"] == state)?;
            Some((one["name"].as_str()?.to_owned(), one["registration_id"].as_u64()?))
        })
        .await
    }

    async fn door(&self) -> Value {
        let status = self.home.status().await.unwrap();
        let sources = status["sources"].as_array().unwrap();
        sources.iter().find(|one| one["source"] == "webhooks").unwrap()["details"].clone()
    }
}

fn word(action: &str, repository: Option<&str>, runner: &str, number: Option<u64>) -> Value {
    let done = action == "completed";
    json!({
        "action": action,
        "workflow_job": {
            "id": 900_001, "run_id": 900_002, "status": action, "labels": ["self-hosted", "hooked"],
            "conclusion": done.then_some("success"), "runner_name": runner, "runner_id": number,
        },
        "repository": repository.map(|name| json!({"full_name": name})),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_word_neither_ends_a_busy_runner_nor_pins_an_idle_one_and_the_right_one_does() {
    let story = Story::begin("spare = 2\nmax = 5").await;
    let daemon = story.home.start();
    story.home.holds("hooked", "idle", 2).await;
    let labels = ["self-hosted", "hooked"].map(str::to_owned);
    story.outside.github.queue_job(&ORG.parse().unwrap(), &labels, Duration::from_secs(20));
    let (busy, number) = story.runner("busy").await;
    let (idle, idle_number) = story.runner("idle").await;
    for (turn, (repository, number, idle_number)) in [
        (Some("evil/repo"), Some(number), Some(idle_number)),
        (Some("octo-org2/app"), Some(number), Some(idle_number)),
        (Some("octo-org/app"), Some(number + 1000), Some(idle_number + 1000)),
        (Some("octo-org/app"), None, None),
        (None, Some(number), Some(idle_number)),
    ]
    .into_iter()
    .enumerate()
    {
        let ends = word("completed", repository, &busy, number);
        story.deliver(&format!("end-{turn}"), &ends).await;
        let pins = word("in_progress", repository, &idle, idle_number);
        story.deliver(&format!("pin-{turn}"), &pins).await;
    }
    let door = story.door().await;
    assert_eq!(door["unproven"], 10, "each is counted: {door}");
    assert_eq!(story.runner("busy").await.0, busy, "its job runs on");
    // Words are taken in order: after this one, those before have had their effect, if they had any.
    let right = word("in_progress", Some("octo-org/app"), &idle, Some(idle_number));
    story.deliver("right", &right).await;
    story.home.holds("hooked", "busy", 2).await;
    let ended = word("completed", Some("octo-org/app"), &idle, Some(idle_number));
    story.deliver("ended", &ended).await;
    eventually(
        PATIENCE,
        "the runner that was rightly said to be done is on its way out",
        || async {
            story
                .home
                .runners()
                .await
                .contains(&(idle.clone(), "draining".to_owned()))
                .then_some(())
        },
    )
    .await;
    assert!(story.home.runners().await.contains(&(busy.clone(), "busy".to_owned())));
    eventually(PATIENCE, "the job comes to its own end", || async {
        (story.outside.github.stats().completed == 1).then_some(())
    })
    .await;
    assert_eq!(story.outside.github.stats().lost, 0);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(60)).await.0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_jobs_make_no_vm_and_what_a_pool_shuts_out_is_kept_and_said() {
    let more = "max = 10\nrepositories = [\"octo-org/app\", \"octo-org/docs\"]\n\
                deny_repositories = [\"octo-org/docs\"]\npublic_repositories = false";
    let story = Story::begin(more).await;
    let daemon = story.home.start();
    story.home.ready().await;
    let job = |id: u64, labels: Value, repository: Value| {
        json!({
            "action": "queued",
            "workflow_job": {"id": id, "run_id": id, "status": "queued", "labels": labels},
            "repository": repository,
        })
    };
    let labels = json!(["self-hosted", "hooked"]);
    for id in 1..=20 {
        let evil = job(id, labels.clone(), json!({"full_name": "evil/repo"}));
        story.deliver(&format!("evil-{id}"), &evil).await;
        let nowhere = job(100 + id, labels.clone(), Value::Null);
        story.deliver(&format!("nowhere-{id}"), &nowhere).await;
    }
    for (id, labels, repository, why) in [
        (
            201,
            &labels,
            json!({"full_name": "octo-org/docs"}),
            "deny_repositories has octo-org/docs",
        ),
        (202, &labels, json!({"full_name": "octo-org/other"}), "do not have octo-org/other"),
        (203, &labels, json!({"full_name": "octo-org/app", "private": false}), "is public"),
        (204, &json!([]), json!({"full_name": "octo-org/app"}), "asks for no label"),
        (205, &json!(["self-hosted, hooked"]), json!({"full_name": "octo-org/app"}), "one text"),
    ] {
        story.deliver(&format!("shut-{id}"), &job(id, labels.clone(), repository)).await;
        let answer = story.home.cli(&["why-waiting", &id.to_string()]).await;
        let said = answer.good();
        assert!(said.contains(why) && said.contains("no pool"), "{id}: {said}");
    }
    let door = story.door().await;
    assert_eq!(door["foreign"], 40, "{door}");
    let jobs = story.home.cli(&["jobs", "--output", "json"]).await.json();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 5, "strangers fill no ledger: {jobs}");
    // The one that is let in is served, and no other has been.
    let ours = job(300, labels.clone(), json!({"full_name": "Octo-Org/App", "private": true}));
    story.deliver("ours", &ours).await;
    eventually(PATIENCE, "a VM is made", || async {
        (!story.outside.cloud.vms().is_empty()).then_some(())
    })
    .await;
    assert_eq!(story.outside.cloud.stats().creates, 1);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(60)).await.0.code(), Some(0));
}
