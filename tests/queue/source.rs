//! Demand from a queue, on a real RabbitMQ and on a server that speaks MongoDB's wire protocol, with
//! messages that kombu itself has written as Canonical's webhook router does.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use runner_fleet::config::QueueKind;
use runner_fleet_actors::{
    demand::Demand,
    job::{JobKey, JobWord},
    port::ErrorClass,
};

use crate::support::queue::{
    BROKERS, Fleet, Forge, RealBroker, eventually, large, message, pool, queue_name,
};

/// What the story of a killed daemon tells that daemon.
const KILLED_QUEUE: &str = "RUNNER_FLEET_TEST_KILLED_QUEUE";
const KILLED_STATE: &str = "RUNNER_FLEET_TEST_KILLED_STATE";
const KILLED_KIND: &str = "RUNNER_FLEET_TEST_KILLED_KIND";

macro_rules! on_each_broker {
    ($($story:ident)*) => {
        mod amqp { $(
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs real queues: tests/queue/up.sh"]
            async fn $story() {
                let broker = super::RealBroker::found(super::QueueKind::Amqp);
                super::$story(broker).await;
            }
        )* }
        mod mongodb { $(
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs real queues: tests/queue/up.sh"]
            async fn $story() {
                let broker = super::RealBroker::found(super::QueueKind::Mongodb);
                super::$story(broker).await;
            }
        )* }
    };
}

on_each_broker! {
    a_message_of_kombu_is_one_waiting_job_until_its_job_runs
    a_message_that_comes_twice_or_again_is_one_job
    what_nobody_can_act_on_goes_to_the_dead_letters_with_its_reason
    more_jobs_than_runners_are_counted_and_not_all_held
    pools_that_share_a_queue_get_the_jobs_with_their_labels
    a_broker_that_is_away_is_unknown_demand_and_everything_is_there_when_it_is_back
    a_daemon_killed_in_mid_burst_loses_no_job_and_counts_none_twice
    a_look_at_a_queue_takes_no_message_and_makes_no_queue
}

async fn a_message_of_kombu_is_one_waiting_job_until_its_job_runs(broker: RealBroker) {
    let _shared = BROKERS.read().await;
    let (queue, state, forge) = (queue_name(), tempfile::tempdir().unwrap(), Arc::default());
    let pools = [pool("large", &queue, 4)];
    let fleet = Fleet::start(&broker, &pools, state.path(), &forge).await;
    assert_eq!(*fleet.demand(&large()).borrow(), None, "nothing is known yet");
    fleet.counts(&large(), 0, 0).await;
    broker.send(&queue, &[message(1, &["large"])]).await;
    broker.send_with(&queue, &[message(2, &["large", "self-hosted"])], &["--dictionaries"]).await;
    fleet.counts(&large(), 2, 0).await;
    assert_eq!(fleet.source.status()[0].held, 2, "they are held, not done");
    // Another consumer may see it or not: it is still there for the next daemon.
    fleet.stop().await;
    assert_eq!(broker.left(&queue).await, 2);

    let fleet = Fleet::start(&broker, &pools, state.path(), &forge).await;
    fleet.counts(&large(), 2, 0).await;
    forge.say(1, JobWord::Running);
    fleet.source.job_taken(&large(), Some("octo-org/app"));
    fleet.counts(&large(), 1, 1).await;
    forge.say(2, JobWord::Done);
    fleet.source.job_taken(&large(), None);
    fleet.counts(&large(), 0, 1).await;
    eventually("both messages are done", || async {
        (fleet.source.status()[0].done == 2).then_some(())
    })
    .await;
    fleet.stop().await;
    assert_eq!(broker.left(&queue).await, 0);
    broker.remove(&queue).await;
}

async fn a_message_that_comes_twice_or_again_is_one_job(broker: RealBroker) {
    let _shared = BROKERS.read().await;
    let (queue, state, forge) = (queue_name(), tempfile::tempdir().unwrap(), Arc::default());
    let pools = [pool("large", &queue, 4)];
    let twice = [message(1, &["large"]), message(1, &["large"]), message(2, &["large"])];
    broker.send(&queue, &twice).await;
    for _ in 0..3 {
        let fleet = Fleet::start(&broker, &pools, state.path(), &forge).await;
        fleet.counts(&large(), 2, 0).await;
        eventually("all three are held", || async {
            (fleet.source.status()[0].held == 3).then_some(())
        })
        .await;
        fleet.stop().await;
    }
    // It runs, but the daemon ended before it could say so to the broker.
    forge.say(1, JobWord::Running);
    let fleet = Fleet::start(&broker, &pools, state.path(), &forge).await;
    fleet.source.job_taken(&large(), None);
    fleet.counts(&large(), 1, 1).await;
    broker.send(&queue, &[message(1, &["large"])]).await;
    eventually("all three messages of the job are done", || async {
        fleet.source.job_taken(&large(), None);
        (fleet.source.status()[0].done == 3).then_some(())
    })
    .await;
    fleet.counts(&large(), 1, 1).await;
    fleet.stop().await;
    broker.remove(&queue).await;
}

async fn what_nobody_can_act_on_goes_to_the_dead_letters_with_its_reason(broker: RealBroker) {
    let _shared = BROKERS.read().await;
    let (queue, state, forge) = (queue_name(), tempfile::tempdir().unwrap(), Arc::default());
    let foreign = message(3, &["large"]).replace("api.github.com", "evil.example");
    let bad = ["not JSON".to_owned(), message(2, &["large", "gpu"]), foreign];
    broker.send(&queue, &bad).await;
    broker.send(&queue, &[message(4, &["large"])]).await;
    let pools = [pool("large", &queue, 4)];
    let fleet = Fleet::start(&broker, &pools, state.path(), &forge).await;
    fleet.counts(&large(), 1, 0).await;
    let mut dead = Vec::new();
    for _ in 0..3 {
        let more = eventually("a dead letter", || async {
            let more = broker.dead(&queue).await;
            (!more.is_empty()).then_some(more)
        });
        if dead.len() < 3 {
            dead.extend(more.await);
        }
    }
    assert_eq!(dead.len(), 3, "{dead:?}");
    let said = fleet.faults.said();
    for reason in ["it is not JSON", "lacks \"gpu\"", "is no job of https://api.github.com/"] {
        assert_eq!(said.iter().filter(|said| said.contains(reason)).count(), 1, "{said:?}");
    }
    assert_eq!(fleet.source.status()[0].rejected, 3);
    fleet.stop().await;
    assert_eq!(broker.left(&queue).await, 1, "the good one is still there");
    broker.remove(&queue).await;
}

async fn more_jobs_than_runners_are_counted_and_not_all_held(broker: RealBroker) {
    let _shared = BROKERS.read().await;
    let (queue, state, forge) = (queue_name(), tempfile::tempdir().unwrap(), Arc::default());
    let burst: Vec<_> = (1..=50).map(|id| message(id, &["large"])).collect();
    broker.send(&queue, &burst).await;
    let fleet = Fleet::start(&broker, &[pool("large", &queue, 4)], state.path(), &forge).await;
    fleet.counts(&large(), 50, 0).await;
    let status = fleet.source.status().remove(0);
    assert_eq!((status.held, status.ready), (20, 30));
    fleet.stop().await;
    assert_eq!(broker.left(&queue).await, 50);
    broker.remove(&queue).await;
}

async fn pools_that_share_a_queue_get_the_jobs_with_their_labels(broker: RealBroker) {
    let _shared = BROKERS.read().await;
    let (queue, state, forge) = (queue_name(), tempfile::tempdir().unwrap(), Arc::default());
    let jobs: Vec<_> =
        (1..=9).map(|id| message(id, &[if id % 3 == 0 { "small" } else { "Large" }])).collect();
    broker.send(&queue, &jobs).await;
    let pools = [pool("small", &queue, 4), pool("large", &queue, 4)];
    let fleet = Fleet::start(&broker, &pools, state.path(), &forge).await;
    fleet.counts(&large(), 6, 0).await;
    fleet.counts(&"small".parse().unwrap(), 3, 0).await;
    fleet.stop().await;
    broker.remove(&queue).await;
}

async fn a_broker_that_is_away_is_unknown_demand_and_everything_is_there_when_it_is_back(
    broker: RealBroker,
) {
    let _alone = BROKERS.write().await;
    let (queue, state, forge) = (queue_name(), tempfile::tempdir().unwrap(), Arc::default());
    let burst: Vec<_> = (1..=5).map(|id| message(id, &["large"])).collect();
    broker.send(&queue, &burst).await;
    let fleet = Fleet::start(&broker, &[pool("large", &queue, 4)], state.path(), &forge).await;
    fleet.counts(&large(), 5, 0).await;
    broker.turn("stop").await;
    let unknown = fleet.becomes_unknown(&large()).await;
    let status = fleet.source.status().remove(0);
    // First of all: the other stories want it.
    broker.turn("start").await;
    assert!(unknown, "demand stays known: {status:?}");
    assert!(status.connected_since.is_none() && status.last_error.is_some(), "{status:?}");
    fleet.counts(&large(), 5, 0).await;
    broker.send(&queue, &[message(6, &["large"])]).await;
    fleet.counts(&large(), 6, 0).await;
    assert_eq!(fleet.faults.said().len(), 1, "one line for one outage: {:?}", fleet.faults.said());
    fleet.stop().await;
    broker.remove(&queue).await;
}

async fn a_daemon_killed_in_mid_burst_loses_no_job_and_counts_none_twice(broker: RealBroker) {
    let _shared = BROKERS.read().await;
    const JOBS: u64 = 200;
    let (queue, state) = (queue_name(), tempfile::tempdir().unwrap());
    let burst: Vec<_> = (1..=JOBS).map(|id| message(id, &["large"])).collect();
    broker.send(&queue, &burst).await;
    // Twice, and each time with messages that are done, held, and not seen yet.
    for enough in [JOBS * 2 / 3, JOBS / 3] {
        let mut daemon = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "source::the_daemon_that_is_killed", "--ignored"])
            .env(KILLED_QUEUE, &queue)
            .env(KILLED_STATE, state.path())
            .env(KILLED_KIND, broker.kind.as_str())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let left = eventually("it has done a part", || async {
            let left = broker.left(&queue).await;
            (left < enough).then_some(left)
        })
        .await;
        daemon.start_kill().unwrap();
        daemon.wait().await.unwrap();
        assert!(left > 0, "it was killed too late to prove anything");
    }

    let forge = Forge::all(JobWord::Running, Duration::ZERO);
    let pools = [pool("large", &queue, 20)];
    let fleet = Fleet::start(&broker, &pools, state.path(), &forge).await;
    let all = u32::try_from(JOBS).unwrap();
    let demand = fleet.demand(&large());
    eventually("every job runs", || async {
        fleet.source.job_taken(&large(), None);
        let demand = *demand.borrow();
        demand.filter(|demand| *demand == Demand::exact(0, all, demand.as_of))
    })
    .await;
    for id in 1..=JOBS {
        let word = fleet.desk.book(|book| book.get(&JobKey::from(id)).map(|job| job.word));
        assert_eq!(word, Some(JobWord::Running), "job {id}");
    }
    assert_eq!(fleet.faults.said(), Vec::<String>::new());
    fleet.stop().await;
    assert_eq!(broker.left(&queue).await, 0);
    broker.remove(&queue).await;
}

/// Serves a queue whose jobs all run at once, until somebody kills it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the daemon of another test, which starts and kills it"]
async fn the_daemon_that_is_killed() {
    let given = |name: &str| std::env::var(name).unwrap();
    let kind = [QueueKind::Amqp, QueueKind::Mongodb]
        .into_iter()
        .find(|kind| kind.as_str() == given(KILLED_KIND))
        .unwrap();
    let broker = RealBroker::found(kind);
    let forge = Forge::all(JobWord::Running, Duration::from_millis(5));
    let (queue, state) = (given(KILLED_QUEUE), given(KILLED_STATE));
    let fleet =
        Fleet::start(&broker, &[pool("large", &queue, 20)], Path::new(&state), &forge).await;
    loop {
        fleet.source.job_taken(&large(), None);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs real queues: tests/queue/up.sh"]
async fn the_gateways_events_move_a_job_from_waiting_to_running_to_its_end() {
    let broker = RealBroker::found(QueueKind::Amqp);
    let _shared = BROKERS.read().await;
    let (queue, state, forge) = (queue_name(), tempfile::tempdir().unwrap(), Arc::default());
    let pools = [pool("large", &queue, 4), pool("small", &queue, 4)];
    let fleet = Fleet::start(&broker, &pools, state.path(), &forge).await;
    let event = |id: u64, action: &str, labels: &[&str]| {
        let url = format!("https://api.github.com/repos/octo-org/app/actions/jobs/{id}");
        let job = serde_json::json!({
            "id": id, "run_id": 7, "status": action, "labels": labels, "url": url,
        });
        let repository = serde_json::json!({"full_name": "octo-org/app"});
        serde_json::json!({"action": action, "workflow_job": job, "repository": repository})
            .to_string()
    };
    fleet.counts(&large(), 0, 0).await;
    let publish = |event: String| {
        let (broker, queue) = (&broker, &queue);
        async move { broker.publish_event(queue, "workflow_job", event.as_bytes()).await }
    };
    publish(event(1, "queued", &["large"])).await;
    publish(event(2, "queued", &["ubuntu-latest"])).await;
    broker.publish_event(&queue, "push", b"{}").await;
    fleet.counts(&large(), 1, 0).await;
    publish(event(1, "in_progress", &["large"])).await;
    fleet.counts(&large(), 0, 1).await;
    publish(event(1, "completed", &["large"])).await;
    fleet.counts(&large(), 0, 0).await;
    eventually("all messages are done", || async {
        // The message of the queued job ends with the next look at it.
        fleet.source.job_taken(&large(), None);
        (fleet.source.status()[0].done == 5).then_some(())
    })
    .await;
    assert_eq!(fleet.faults.said(), Vec::<String>::new(), "jobs of others are no fault");
    fleet.stop().await;
    assert_eq!(broker.left(&queue).await, 0);
    broker.remove(&queue).await;
}

async fn a_look_at_a_queue_takes_no_message_and_makes_no_queue(broker: RealBroker) {
    let _shared = BROKERS.read().await;
    let (queue, looker) = (queue_name(), broker.config().broker().unwrap());
    // In MongoDB a queue is nothing but its messages.
    let none = (broker.kind == QueueKind::Mongodb).then_some(0);
    for _ in 0..2 {
        assert_eq!(looker.waiting(&queue).await.unwrap(), none);
    }
    broker.send(&queue, &[message(1, &["large"]), message(2, &["large"])]).await;
    for _ in 0..2 {
        assert_eq!(looker.waiting(&queue).await.unwrap(), Some(2));
    }
    broker.remove(&queue).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs real queues: tests/queue/up.sh"]
async fn a_wrong_password_is_told_without_showing_it_and_demand_stays_unknown() {
    let broker = RealBroker::found(QueueKind::Amqp);
    let _shared = BROKERS.read().await;
    let url = broker.url.replace("fleet-secret", "s3cr3t-and-wrong");
    let wrong = RealBroker { url, ..broker };
    let (state, forge) = (tempfile::tempdir().unwrap(), Arc::default());
    let pools = [pool("large", &queue_name(), 4)];
    let fleet = Fleet::start(&wrong, &pools, state.path(), &forge).await;
    let said =
        eventually("the refusal is told", || async { fleet.faults.said().first().cloned() }).await;
    assert!(said.contains("check user, password, virtual host"), "{said}");
    assert!(!said.contains("s3cr3t"), "{said}");
    let status = fleet.source.status().remove(0);
    assert!(!format!("{status:?}").contains("s3cr3t"), "{status:?}");
    assert_eq!(*fleet.demand(&large()).borrow(), None);
    fleet.stop().await;
    let refused = wrong.config().broker().unwrap().waiting("large").await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Auth);
    assert!(!refused.what.contains("s3cr3t"), "{refused}");
}
