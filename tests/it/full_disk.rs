//! The state folder on a disk that is full, or whose files are taken away beneath the daemon: what was
//! answered for is there after `kill -9`, what is not there was refused, and the daemon says so while it
//! lasts.
//!
//! On a real small tmpfs, which only root may mount.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use runner_fleet::{
    config::QueueKind,
    demand::{
        queue::{Queue, QueueConfig, Surroundings},
        scale_set::Marks,
    },
    fake::broker::FakeBroker,
    github::{TokenSource, records::Records},
};
use runner_fleet_actors::{
    job::JobWord,
    port::{DemandSource, Observer, TokioClock},
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    disks::SmallDisk,
    e2e::{PATIENCE, eventually},
    ledger_house::{House, ORG, Story, found_by_another},
    queue::{Faults, Forge, large, pool as queue_pool},
};

fn on_tmpfs(at: &Path) -> Option<SmallDisk> {
    SmallDisk::mount(at, "12m")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_while_a_disk_fills_and_is_freed_is_there() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&place.path().join("state"), "12m") else { return };
    let house = House::open(&disk.0).await;
    for _ in 0..2 {
        for _ in 0..10 {
            assert!(house.tell().await);
        }
        disk.fill();
        let _said = house.refuses(6).await;
        let mark = Marks::keep(&**house.desk.ledger(), "scale-set large", "7").await;
        assert!(mark.is_err(), "a mark is no better than a job");
        house.all_is_there().await;
        disk.free();
        house.takes_again().await;
        house.all_is_there().await;
    }
    // What was refused is in the book, and is kept without anybody's telling it again.
    let told = house.next.load(Ordering::Relaxed) - 1;
    eventually(PATIENCE, "memory and file agree", || async {
        let (jobs, _) = found_by_another(house.folder.path()).await;
        (jobs.len() as u64 == told).then_some(())
    })
    .await;
    house.serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_full_disk_recalls_its_jobs_when_there_is_room() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&place.path().join("state"), "12m") else { return };
    let first = House::open(&disk.0).await;
    assert!(first.tell().await);
    first.serving.abort();
    let _ended = first.serving.await;
    drop(first.desk);
    // Its connections end on threads of their own. The last one that may write removes what lies beside
    // the file, so that a start needs room.
    eventually(PATIENCE, "the ledger is closed", || async {
        let _found = found_by_another(&disk.0).await;
        (!disk.0.join("demand.sqlite-wal").exists()).then_some(())
    })
    .await;
    disk.fill();
    let second = House::open(&disk.0).await;
    assert!(!second.folder.troubles().reasons().is_empty(), "it is said");
    let demand = second.desk.watch(&large());
    assert_eq!(demand.borrow().unwrap().sure, runner_fleet_actors::demand::Sure::AtLeast);
    second.desk.now_sure(runner_fleet_actors::demand::Sure::Exact);
    assert_eq!(demand.borrow().unwrap().sure, runner_fleet_actors::demand::Sure::AtLeast);
    disk.free();
    let mut demand = second.desk.watch(&large());
    let recalled = demand.wait_for(|demand| {
        demand.is_some_and(|demand| {
            demand.waiting == 1 && demand.sure == runner_fleet_actors::demand::Sure::Exact
        })
    });
    tokio::time::timeout(PATIENCE, recalled).await.unwrap().unwrap();
    second.serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queues_message_is_acknowledged_only_when_its_job_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&place.path().join("state"), "12m") else { return };
    let house = House::open(&disk.0).await;
    let (broker, forge) = (FakeBroker::default(), Arc::new(Forge::default()));
    let around = Surroundings {
        desk: Arc::clone(&house.desk),
        forge: Arc::clone(&forge) as Arc<dyn Records>,
        observer: Arc::new(Faults::default()) as Arc<dyn Observer>,
        clock: Arc::new(TokioClock::starting_at(chrono::Utc::now())),
    };
    let config = QueueConfig {
        kind: QueueKind::Amqp,
        address: TokenSource::from_fn(|| Ok(runner_fleet_actors::port::Secret::new("unused"))),
        ca_file: None,
        github: "https://github.com".to_owned(),
    };
    let stop = CancellationToken::new();
    let (queue, watching) = Queue::new(
        &config,
        Arc::new(broker.clone()),
        &[queue_pool("large", "jobs", 4)],
        &around,
        stop.clone(),
    )
    .unwrap();
    let watching = tokio::spawn(watching);
    let put = |id: u64| {
        let url = format!("https://api.github.com/repos/octo-org/app/actions/jobs/{id}");
        broker.put_job("jobs", &["large".to_owned()], &url);
    };
    (1..=3).for_each(put);
    eventually(PATIENCE, "three jobs wait", || async {
        queue.watch(&large()).borrow().is_some_and(|demand| demand.waiting == 3).then_some(())
    })
    .await;
    disk.fill();
    let _said = house.refuses(3).await;
    (1..=3).for_each(|id| forge.say(id, JobWord::Running));
    for _ in 0..20 {
        queue.job_taken(&large(), Some("octo-org/app"));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(broker.stats().done, 0, "acknowledged though nothing is kept");
    }
    disk.free();
    eventually(PATIENCE, "all are acknowledged", || async {
        queue.job_taken(&large(), Some("octo-org/app"));
        (broker.stats().done == 3).then_some(())
    })
    .await;
    let (jobs, _) = found_by_another(house.folder.path()).await;
    assert!(["1", "2", "3"].iter().all(|id| jobs.contains(*id)), "{jobs:?}");
    stop.cancel();
    watching.await.unwrap();
    house.serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_after_a_full_disk_has_every_delivery_that_it_answered_for() {
    let Some(story) = Story::begin("webhook", on_tmpfs).await else { return };
    let daemon = story.home.start();
    story.home.ready().await;
    let (mut acknowledged, mut next) = (Vec::new(), 0);
    for _ in 0..5 {
        next += 1;
        assert_eq!(story.deliver(next).await, 200);
        acknowledged.push(next);
    }
    story.disk.fill();
    story.refuses(&mut acknowledged, &mut next, 8).await;
    let reasons = story.not_ready().await;
    assert!(reasons.contains("demand.sqlite") && reasons.contains("full"), "{reasons}");
    story.disk.free();
    story.takes_again(&mut acknowledged, &mut next).await;
    daemon.kill().await;
    let (jobs, _) = found_by_another(&story.disk.0).await;
    let lost: Vec<_> = acknowledged.iter().filter(|id| !jobs.contains(&id.to_string())).collect();
    assert!(lost.is_empty(), "acknowledged, and gone after kill -9: {lost:?}");
    let daemon = story.home.start();
    story.home.ready().await;
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_overwritten_and_taken_away_costs_nothing_that_is_answered_for_after_it() {
    let Some(story) = Story::begin("webhook", on_tmpfs).await else { return };
    let mut daemon = story.home.start();
    story.home.ready().await;
    let (mut acknowledged, mut next) = (vec![1], 1);
    assert_eq!(story.deliver(1).await, 200);
    // A write-ahead log that is cut and overwritten beneath the daemon, and one that is taken away.
    let wal = story.disk.0.join("demand.sqlite-wal");
    OpenOptions::new().write(true).open(&wal).unwrap().write_all(&[0xA5; 4096]).unwrap();
    fs::rename(&wal, story.disk.0.join("taken-away")).unwrap();
    story.refuses(&mut acknowledged, &mut next, 1).await;
    story.takes_again(&mut acknowledged, &mut next).await;
    assert!(daemon.runs());
    daemon.kill().await;
    let (jobs, _) = found_by_another(&story.disk.0).await;
    let lost: Vec<_> =
        acknowledged.iter().skip(1).filter(|id| !jobs.contains(&id.to_string())).collect();
    assert!(lost.is_empty(), "acknowledged, and gone after kill -9: {lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scale_sets_jobs_and_marks_outlive_a_full_disk_and_a_kill() {
    let Some(story) = Story::begin("scale-set", on_tmpfs).await else { return };
    let daemon = story.home.start();
    eventually(PATIENCE, "the scale set is there", || async {
        (!story.outside.github.scale_sets().is_empty()).then_some(())
    })
    .await;
    story.home.ready().await;
    let queue = || {
        let runs_for = Duration::from_millis(300);
        story.outside.github.queue_job_for_scale_set(&ORG.parse().unwrap(), "large", runs_for);
    };
    queue();
    story.disk.fill();
    queue();
    let reasons = story.not_ready().await;
    assert!(reasons.contains("demand.sqlite"), "{reasons}");
    queue();
    story.disk.free();
    eventually(PATIENCE, "every job was served", || async {
        (story.outside.github.stats().completed == 3).then_some(())
    })
    .await;
    story.home.ready().await;
    daemon.kill().await;
    let (jobs, marks) = found_by_another(&story.disk.0).await;
    assert!(marks.iter().any(|name| name.starts_with("scale-set ")), "{marks:?}");
    assert!(jobs.len() >= 3, "{jobs:?}");
    let daemon = story.home.start();
    queue();
    eventually(PATIENCE, "the next daemon goes on", || async {
        (story.outside.github.stats().completed == 4).then_some(())
    })
    .await;
    assert_eq!(story.outside.github.stats().lost, 0);
    daemon.kill().await;
}
