//! A desk with its ledger on a disk that fails, alone and in a whole daemon; what was answered for, and what
//! somebody else finds of it.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runner_fleet::{
    demand::{
        desk::Desk,
        ledger::{Entry, Ledger},
    },
    state::StateFolder,
};
use runner_fleet_actors::{
    job::{JobFacts, JobNews, JobWord},
    port::{Clock, TokioClock},
};
use sqlx::{ConnectOptions, Connection, Row, sqlite::SqliteConnectOptions};
use tokio_util::sync::CancellationToken;

use super::{
    e2e::{Home, PATIENCE, eventually},
    e2e_fakes::{HOOK_SECRET, Outside, pool, webhooks},
    github::receiver::signature,
    queue::pool as queue_pool,
};

pub const ORG: &str = "octo-org";

/// What somebody else finds in the file: keys of jobs, names of marks.
pub async fn found_by_another(folder: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
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
pub struct House {
    pub folder: StateFolder,
    pub desk: Arc<Desk>,
    pub serving: tokio::task::JoinHandle<()>,
    pub next: AtomicU64,
    taken: std::sync::Mutex<BTreeSet<String>>,
}

impl House {
    pub async fn open(path: &Path) -> Self {
        let folder = StateFolder::open(path).unwrap();
        let ledger = Arc::new(Ledger::open_in(&folder).await.unwrap());
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
        let serves = vec![queue_pool("large", "jobs", 4).serves];
        let (desk, serving) = Desk::open(ledger, serves, clock).await;
        let serving = tokio::spawn(serving.run(CancellationToken::new()));
        Self { folder, desk, serving, next: AtomicU64::new(1), taken: Default::default() }
    }

    pub async fn tell(&self) -> bool {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let with = vec![Entry::Delivery { id: format!("d-{id}"), at: chrono::Utc::now() }];
        let taken = self.desk.hear_with(vec![news(id)], with).await.is_ok();
        if taken {
            self.taken.lock().unwrap().insert(id.to_string());
        }
        taken
    }

    /// So many refusals, each by a try at the disk or shortly after one; what the folder says of the last.
    pub async fn refuses(&self, times: usize) -> String {
        let (mut refused, mut said) = (0, String::new());
        let end = std::time::Instant::now() + PATIENCE;
        while refused < times {
            assert!(
                std::time::Instant::now() < end,
                "{refused} of {times} refused: the rest was taken"
            );
            if !self.tell().await {
                refused += 1;
                let reasons = self.folder.troubles().reasons();
                assert!(reasons.len() == 1 && reasons[0].contains("demand.sqlite"), "{reasons:?}");
                said = reasons.concat();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        said
    }

    pub async fn takes_again(&self) {
        eventually(PATIENCE, "news are taken again", || async { self.tell().await.then_some(()) })
            .await;
        assert_eq!(self.folder.troubles().reasons(), [""; 0]);
        for _ in 0..20 {
            assert!(self.tell().await);
        }
    }

    pub async fn all_is_there(&self) {
        let (jobs, _) = found_by_another(self.folder.path()).await;
        let missing: Vec<_> = self.taken.lock().unwrap().difference(&jobs).cloned().collect();
        assert_eq!(missing, [""; 0], "acknowledged, and not there for another connection");
    }
}

/// The real daemon with its state on a small disk, and somebody who posts deliveries.
pub struct Story<D> {
    // Unmounted before the folder around it is removed.
    pub disk: D,
    pub home: Home,
    pub outside: Outside,
    url: String,
    client: reqwest::Client,
}

impl<D> Story<D> {
    /// `None` where there can be no such disk.
    pub async fn begin(demand: &str, mount: impl FnOnce(&Path) -> Option<D>) -> Option<Self> {
        let outside = Outside::start_with(31, Duration::ZERO).await;
        let home = Home::new();
        outside.furnish(&home);
        let disk = mount(&home.path("state"))?;
        let (hooks, url) = webhooks(&home);
        let pools = pool("large", ORG, &format!("demand = [\"{demand}\"]\nmax = 2"));
        home.configure(&format!("{}\n{hooks}{pools}", outside.head("token_file = \"token\"")));
        Some(Self { disk, home, outside, url, client: reqwest::Client::new() })
    }

    /// The status of the answer.
    pub async fn deliver(&self, id: u64) -> u16 {
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

    pub async fn not_ready(&self) -> String {
        let status = eventually(PATIENCE, "it is not ready", || async {
            self.home.status().await.filter(|status| status["ready"] == false)
        })
        .await;
        status["reasons"].to_string()
    }

    /// Delivers until so many were refused; those that were not are `acknowledged`.
    pub async fn refuses(&self, acknowledged: &mut Vec<u64>, next: &mut u64, times: usize) {
        let mut refused = 0;
        let end = std::time::Instant::now() + PATIENCE;
        while refused < times {
            assert!(
                std::time::Instant::now() < end,
                "{refused} of {times} refused: the rest was taken"
            );
            *next += 1;
            match self.deliver(*next).await {
                200 => acknowledged.push(*next),
                503 => refused += 1,
                other => panic!("an answer of {other}"),
            }
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }

    pub async fn takes_again(&self, acknowledged: &mut Vec<u64>, next: &mut u64) {
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
