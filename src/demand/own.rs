//! Jobs as the fleet's own runners show them: the record of what ran where nobody else tells of jobs.
//!
//! A webhook, a scale set and a queue name each job. A planner, a fixed size and guests do not; what is
//! left of a job is then what its runner knows, and that is still worth keeping: when it began and
//! ended, on which runner, and what its guest said of it. Such a job is known by its runner, which has
//! at most one, and nobody knows how long it waited.
//!
//! It is a record and no source of demand: the pool counts its busy runners itself. A job that ended
//! while no daemon was there to see it is closed, without a result, once the pool knows its runners
//! again; it must not seem to run for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use runner_fleet_actors::{
    event::{FleetEvent, Job, JobEnd, Phase},
    job::{JobFacts, JobKey, JobNews, JobWord},
    name::{PoolName, RunnerName},
    port::{Observer, Time},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::desk::Desk;

/// How the key of such a job begins; the runner's name follows.
const KEY: &str = "runner:";
/// News that may wait to be kept. More are dropped: it is a record, and no job depends on it.
const INBOX: usize = 4096;
/// News that are kept together.
const BATCH: usize = 256;
/// After so many listings of the cloud a pool has long heard of each of its runners whether it is busy,
/// also where the forge's listing came late.
const SURVEYS: u32 = 4;

#[derive(Default)]
struct Pool {
    busy: BTreeSet<RunnerName>,
    surveys: u32,
}

/// Watches the fleet's events as an [`Observer`], and tells the desk of the jobs in them.
pub struct OwnJobs {
    desk: Arc<Desk>,
    news: mpsc::Sender<JobNews>,
    pools: Mutex<BTreeMap<PoolName, Pool>>,
}

/// What keeps the news; to be spawned.
pub struct Keeping {
    desk: Arc<Desk>,
    news: mpsc::Receiver<JobNews>,
}

impl OwnJobs {
    /// Keeps the jobs of no pool yet; see [`OwnJobs::configure`].
    #[must_use]
    pub fn new(desk: Arc<Desk>) -> (Arc<Self>, Keeping) {
        let (news, received) = mpsc::channel(INBOX);
        let own = Self { desk: Arc::clone(&desk), news, pools: Mutex::default() };
        (Arc::new(own), Keeping { desk, news: received })
    }

    /// From now on the jobs of these pools are kept: the pools whose jobs nobody else names.
    pub fn configure(&self, pools: impl IntoIterator<Item = PoolName>) {
        let mut known = self.pools();
        let mut before = std::mem::take(&mut *known);
        *known = pools
            .into_iter()
            .map(|name| {
                let pool = before.remove(&name).unwrap_or_default();
                (name, pool)
            })
            .collect();
    }

    fn pools(&self) -> MutexGuard<'_, BTreeMap<PoolName, Pool>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, news: JobNews) {
        if let Err(error) = self.news.try_send(news) {
            tracing::warn!(%error, "a job is not recorded; it runs all the same");
        }
    }

    /// Jobs that are still said to run on runners that are not busy (any more).
    fn left_open(&self, pool: &PoolName, busy: &BTreeSet<RunnerName>, now: Time) -> Vec<JobNews> {
        self.desk.book(|book| {
            let open = book.jobs().filter(|job| job.word == JobWord::Running);
            open.filter(|job| job.pool.as_ref() == Some(pool))
                .filter_map(|job| job.key.as_str().strip_prefix(KEY)?.parse::<RunnerName>().ok())
                .filter(|runner| !busy.contains(runner))
                .filter_map(|runner| news(&runner, pool, JobWord::Done, now, None, None))
                .collect()
        })
    }
}

/// News of the job of a runner; `None` never, as far as names of runners fit into keys of jobs.
fn news(
    runner: &RunnerName,
    pool: &PoolName,
    word: JobWord,
    at: Time,
    job: Option<&Job>,
    end: Option<&JobEnd>,
) -> Option<JobNews> {
    let key: JobKey = format!("{KEY}{runner}").parse().ok()?;
    let job = job.cloned().unwrap_or_default();
    let facts = JobFacts {
        repository: job.repository,
        run_id: job.run_id,
        workflow: job.workflow,
        event: job.event,
        pool: Some(pool.clone()),
        runner: Some(runner.as_str().into()),
        started_at: (word == JobWord::Running).then_some(at),
        ended_at: (word == JobWord::Done).then_some(at),
        conclusion: end.and_then(|end| end.conclusion.clone()),
        ..JobFacts::default()
    };
    Some(JobNews { key, word, at, facts })
}

impl Observer for OwnJobs {
    fn observe(&self, event: &FleetEvent) {
        let mut told = Vec::new();
        match event {
            FleetEvent::Transition { at, transition } => {
                let mut pools = self.pools();
                let Some(pool) = pools.get_mut(&transition.pool) else { return };
                let (runner, job) = (&transition.runner, transition.job.as_ref());
                let (name, end) = (&transition.pool, transition.job_end.as_ref());
                let word = if transition.to == Phase::Busy {
                    pool.busy.insert(runner.clone());
                    Some(JobWord::Running)
                } else {
                    pool.busy.remove(runner).then_some(JobWord::Done)
                };
                told.extend(word.and_then(|word| news(runner, name, word, *at, job, end)));
            }
            // The guest's own word fills in what a listing could not know, also of how a job ended.
            FleetEvent::GuestTold { at, pool, runner, job, end, .. } => {
                let pools = self.pools();
                let Some(known) = pools.get(pool) else { return };
                let (job, end) = (job.as_ref(), end.as_ref());
                let word = match (known.busy.contains(runner), end) {
                    (true, None) => JobWord::Running,
                    (false, Some(_)) if job.is_some() => JobWord::Done,
                    _ => return,
                };
                told.extend(news(runner, pool, word, *at, job, end));
            }
            FleetEvent::Reconciled { at, pool, .. } => {
                let mut pools = self.pools();
                let Some(known) = pools.get_mut(pool) else { return };
                known.surveys = known.surveys.saturating_add(1);
                if known.surveys == SURVEYS {
                    told = self.left_open(pool, &known.busy, *at);
                }
            }
            _ => {}
        }
        for news in told {
            self.tell(news);
        }
    }
}

impl Keeping {
    /// Keeps news until `stop`, those included that were told before it, or until nobody is left to tell any.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            let received = tokio::select! {
                biased;
                received = self.news.recv_many(&mut batch, BATCH) => received,
                () = stop.cancelled() => {
                    self.news.close();
                    continue;
                }
            };
            if received == 0 {
                return;
            }
            // What the disk refuses is told by the desk, and goes along with its next batch.
            let _told = self.desk.hear(std::mem::take(&mut batch)).await;
        }
    }
}

#[cfg(test)]
mod tests;
