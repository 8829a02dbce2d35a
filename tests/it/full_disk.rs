//! The state folder on a disk that is full, or whose files are taken away beneath the daemon: what was
//! answered for is there after `kill -9`, what is not there was refused, and the daemon says so while it
//! lasts.
//!
//! On a real small tmpfs, which only root may mount.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runner_fleet::{
    config::QueueKind,
    demand::{
        desk::Desk,
        ledger::{Entry, Ledger},
        queue::{Queue, QueueConfig, Surroundings},
        scale_set::Marks,
    },
    fake::broker::FakeBroker,
    github::{TokenSource, records::Records},
    state::StateFolder,
};
use runner_fleet_actors::{
    job::{JobFacts, JobNews, JobWord},
    port::{Clock, DemandSource, Observer, TokioClock},
};
use sqlx::{ConnectOptions, Connection, Row, sqlite::SqliteConnectOptions};
use tokio_util::sync::CancellationToken;

use crate::support::{
    e2e::{Home, PATIENCE, eventually},
    e2e_fakes::{HOOK_SECRET, Outside, pool, webhooks},
    github::receiver::signature,
    queue::{Faults, Forge, large, pool as queue_pool},
};

const ORG: &str = "octo-org";

/// A small file system of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user may not mount one, nor root in this container; then that is said.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "runner-fleet-test"])
            .arg(at)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        if !mounted.status.success() {
            let why = String::from_utf8_lossy(&mounted.stderr).into_owned();
            let root = fs::metadata("/proc/self").unwrap().uid() == 0;
            let forbidden = why.contains("denied") || why.contains("not permitted");
            assert!(!root || forbidden, "root could not mount a file system: {why}");
            println!("skipped, because no file system may be mounted here: {}", why.trim());
            return None;
        }
        Some(Self(at.to_owned()))
    }

    fn fill(&self) {
        let mut file = File::create(self.0.join("fill")).unwrap();
        for block in [4096, 256, 1] {
            while file.write_all(&vec![0; block]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(done.is_ok_and(|done| done.success()), "umount {}", self.0.display());
    }
}

/// What somebody else finds in the file: keys of jobs, names of marks.
async fn found_by_another(folder: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let file = folder.join("demand.sqlite");
    let mut other = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    let mut all = Vec::new();
    for sql in ["SELECT key FROM jobs", "SELECT name FROM marks"] {
        let rows = sqlx::query(sql).fetch_all(&mut other).await.unwrap();
        all.push(rows.iter().map(|row| row.get(0)).collect());
    }
    other.close().await.unwrap();
    let marks = all.pop().unwrap();
    (all.pop().unwrap(), marks)
}

fn news(id: u64) -> JobNews {
    let facts = JobFacts {
        repository: Some("octo-org/app".into()),
        labels: vec!["large".into()],
        ..JobFacts::default()
    };
    JobNews { key: id.into(), word: JobWord::Queued, at: chrono::Utc::now(), facts }
}

/// A desk on that folder, and what it takes and refuses.
struct House {
    folder: StateFolder,
    desk: Arc<Desk>,
    serving: tokio::task::JoinHandle<()>,
    next: AtomicU64,
    taken: std::sync::Mutex<BTreeSet<String>>,
}

impl House {
    async fn open(path: &Path) -> Self {
        let folder = StateFolder::open(path).unwrap();
        let ledger = Arc::new(Ledger::open_in(&folder).await.unwrap());
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
        let serves = vec![queue_pool("large", "jobs", 4).serves];
        let (desk, serving) = Desk::open(ledger, serves, clock).await;
        let serving = tokio::spawn(serving.run(CancellationToken::new()));
        Self { folder, desk, serving, next: AtomicU64::new(1), taken: Default::default() }
    }

    async fn tell(&self) -> bool {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let with = vec![Entry::Delivery { id: format!("d-{id}"), at: chrono::Utc::now() }];
        let taken = self.desk.hear_with(vec![news(id)], with).await.is_ok();
        if taken {
            self.taken.lock().unwrap().insert(id.to_string());
        }
        taken
    }

    /// So many refusals, each by a try at the disk or shortly after one.
    async fn refuses(&self, times: usize) {
        let mut refused = 0;
        while refused < times {
            refused += usize::from(!self.tell().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let reasons = self.folder.troubles().reasons();
        assert!(reasons.len() == 1 && reasons[0].contains("demand.sqlite"), "{reasons:?}");
    }

    async fn takes_again(&self) {
        eventually(PATIENCE, "news are taken again", || async { self.tell().await.then_some(()) })
            .await;
        assert_eq!(self.folder.troubles().reasons(), [""; 0]);
        for _ in 0..20 {
            assert!(self.tell().await);
        }
    }

    async fn all_is_there(&self) {
        let (jobs, _) = found_by_another(self.folder.path()).await;
        let missing: Vec<_> = self.taken.lock().unwrap().difference(&jobs).cloned().collect();
        assert_eq!(missing, [""; 0], "acknowledged, and not there for another connection");
    }
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
        house.refuses(6).await;
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
    house.refuses(3).await;
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

/// The real daemon with its state on a small disk, and somebody who posts deliveries.
struct Story {
    // Unmounted before the folder around it is removed.
    disk: SmallDisk,
    home: Home,
    outside: Outside,
    url: String,
    client: reqwest::Client,
}

impl Story {
    async fn begin(demand: &str) -> Option<Self> {
        let outside = Outside::start_with(31, Duration::ZERO).await;
        let home = Home::new();
        outside.furnish(&home);
        let disk = SmallDisk::mount(&home.path("state"), "12m")?;
        let (hooks, url) = webhooks(&home);
        let pools = pool("large", ORG, &format!("demand = [\"{demand}\"]\nmax = 2"));
        home.configure(&format!("{}\n{hooks}{pools}", outside.head("token_file = \"token\"")));
        Some(Self { disk, home, outside, url, client: reqwest::Client::new() })
    }

    /// The status of the answer.
    async fn deliver(&self, id: u64) -> u16 {
        let body = serde_json::json!({
            "action": "queued",
            "workflow_job": {
                "id": id, "run_id": 77, "run_attempt": 1, "name": "build", "workflow_name": "CI",
                "status": "queued", "labels": ["self-hosted", "large"],
                "created_at": "2026-11-21T10:00:00Z", "started_at": "2026-11-21T10:00:00Z",
            },
            "repository": { "full_name": "octo-org/app" },
            "organization": { "login": "octo-org" },
        });
        let body = serde_json::to_vec(&body).unwrap();
        let answer = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("x-github-event", "workflow_job")
            .header("x-github-delivery", format!("delivery-{id}"))
            .header("x-github-hook-id", "41")
            .header("x-github-hook-installation-target-type", "organization")
            .header("x-hub-signature-256", signature(HOOK_SECRET, &body))
            .body(body)
            .send()
            .await
            .unwrap();
        answer.status().as_u16()
    }

    async fn not_ready(&self) -> String {
        let status = eventually(PATIENCE, "it is not ready", || async {
            self.home.status().await.filter(|status| status["ready"] == false)
        })
        .await;
        status["reasons"].to_string()
    }

    /// Delivers until so many were refused; those that were not are `acknowledged`.
    async fn refuses(&self, acknowledged: &mut Vec<u64>, next: &mut u64, times: usize) {
        let mut refused = 0;
        while refused < times {
            *next += 1;
            match self.deliver(*next).await {
                200 => acknowledged.push(*next),
                503 => refused += 1,
                other => panic!("an answer of {other}"),
            }
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }

    async fn takes_again(&self, acknowledged: &mut Vec<u64>, next: &mut u64) {
        let mut taken = 0;
        let end = std::time::Instant::now() + PATIENCE;
        while taken < 20 {
            assert!(std::time::Instant::now() < end, "deliveries are taken again");
            *next += 1;
            if self.deliver(*next).await == 200 {
                acknowledged.push(*next);
                taken += 1;
            } else {
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        }
        self.home.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_after_a_full_disk_has_every_delivery_that_it_answered_for() {
    let Some(story) = Story::begin("webhook").await else { return };
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
    let Some(story) = Story::begin("webhook").await else { return };
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
    let Some(story) = Story::begin("scale-set").await else { return };
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
