//! The real daemon and a queue that says which jobs wait, and never that one has ended.

use std::time::Duration;

use runner_fleet::config::QueueKind;

use crate::support::e2e::{Home, PATIENCE, eventually};
use crate::support::e2e_fakes::{Outside, nothing_secret_was_said, pool};
use crate::support::queue;

const ORG: &str = "octo-org";
const JOBS: usize = 4;

/// The jobs that the daemon has in that state.
async fn jobs_in(home: &Home, state: &str) -> usize {
    let said = home.cli(&["jobs", "--state", state, "--output", "json"]).await;
    let Ok(said) = serde_json::from_str::<serde_json::Value>(&said.out) else { return 0 };
    said["jobs"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs real queues: tests/queue/up.sh"]
async fn jobs_of_a_queue_end_though_nobody_tells_of_it_and_are_no_demand_after_a_restart() {
    let broker = queue::RealBroker::found(QueueKind::Amqp);
    let _shared = queue::BROKERS.read().await;
    let outside = Outside::start_with(31, Duration::ZERO).await;
    let home = Home::new();
    outside.furnish(&home);
    home.secret("queue-url", &broker.url);
    let name = queue::queue_name();
    let pools = pool(
        "queued",
        ORG,
        &format!("demand = [\"queue\"]\nqueue = {{ name = \"{name}\" }}\nmax = 8"),
    );
    let access = "[queue]\nkind = \"amqp\"\nurl_file = \"queue-url\"\n";
    home.configure(&format!("{}\n{access}\n{pools}", outside.head("token_file = \"token\"")));

    let mut messages = Vec::new();
    for _ in 0..JOBS {
        let labels = ["queued".to_owned()];
        let scope = ORG.parse().unwrap();
        let job = outside.github.queue_job(&scope, &labels, Duration::from_millis(500));
        let record = outside.github.jobs().into_iter().find(|one| one.id == job).unwrap();
        let url = format!(
            "{}/api/v3/repos/{}/actions/jobs/{}",
            outside.github.url(),
            record.repository,
            job.0
        );
        let message = serde_json::json!({"labels": labels, "status": "queued", "url": url});
        messages.push(message.to_string());
    }
    broker.send(&name, &messages).await;
    let mut daemon = home.start();
    eventually(PATIENCE, "every job was served", || async {
        (outside.github.stats().completed == JOBS as u64).then_some(())
    })
    .await;
    eventually(PATIENCE, "every job is over for the daemon", || async {
        (jobs_in(&home, "done").await == JOBS).then_some(())
    })
    .await;
    daemon.kill().await;
    daemon = home.start();
    eventually(PATIENCE, "it is there again, and wants nothing", || async {
        let pool = home.pool("queued").await?;
        let none = pool["demand_unknown"] == false && pool["target"] == 0;
        none.then_some(())
    })
    .await;
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(60)).await.0.code(), Some(0));
    nothing_secret_was_said(&home, &outside.secrets());
    broker.remove(&name).await;
}
