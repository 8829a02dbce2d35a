//! A daemon's half of scale sets against the fake GitHub: with a disk that outlives it, ears that write
//! down what they hear, and runners that do as GitHub's do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use runner_fleet::{
    demand::{
        JobEars,
        scale_set::{Hears, Marks, MarksInMemory, NotKept, PoolSet, ScaleSets, Setup, Status},
    },
    fake::github::{FakeGithub, Next, Options, ScaleSetRecord, SetOptions},
    github::Github,
};
use runner_fleet_actors::{
    demand::Demand,
    event::{Job, JobEnd},
    job::{JobNews, JobWord},
    name::{PoolName, RegistrationId, RunnerName},
    port::{Clock, DemandSource, Forge, RegisterOrder, TokioClock},
};
use tokio::runtime::Runtime;

use crate::support::github::*;

pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn pool() -> PoolName {
    "small".parse().unwrap()
}

pub fn pool_set(max: u32) -> PoolSet {
    PoolSet {
        pool: pool(),
        scope: scope("octo-org"),
        name: "small".to_owned(),
        group: None,
        labels: labels(),
        max,
        repositories: runner_fleet_actors::job::Repositories::default(),
    }
}

/// What is on the disk and what was heard: it outlives a daemon.
#[derive(Default)]
pub struct Kept {
    marks: MarksInMemory,
    pub news: Mutex<Vec<JobNews>>,
    pub told: Mutex<Vec<(RunnerName, &'static str)>>,
    /// So many times the disk fails.
    pub failing: Mutex<u32>,
}

impl Kept {
    /// The furthest word of each job.
    pub fn words(&self) -> BTreeMap<String, JobWord> {
        let mut words = BTreeMap::new();
        for one in self.news.lock().unwrap().iter() {
            let known = words.entry(one.key.to_string()).or_insert(one.word);
            *known = one.word.max(*known);
        }
        words
    }
}

#[async_trait]
impl Marks for Kept {
    async fn get(&self, name: &str) -> Result<Option<String>, NotKept> {
        self.marks.get(name).await
    }
    async fn keep(&self, name: &str, value: &str) -> Result<(), NotKept> {
        self.marks.keep(name, value).await
    }
}

#[async_trait]
impl Hears for Kept {
    async fn hear(&self, news: Vec<JobNews>) -> Result<(), NotKept> {
        {
            let mut failing = self.failing.lock().unwrap();
            if *failing > 0 {
                *failing -= 1;
                return Err(NotKept("the disk is full".to_owned()));
            }
        }
        self.news.lock().unwrap().extend(news);
        Ok(())
    }
}

impl JobEars for Kept {
    fn job_started(&self, runner: &RunnerName, _: Option<RegistrationId>, _: Job) {
        self.told.lock().unwrap().push((runner.clone(), "started"));
    }
    fn job_ended(&self, runner: &RunnerName, _: Option<RegistrationId>, _: JobEnd) {
        self.told.lock().unwrap().push((runner.clone(), "completed"));
    }
}

/// One daemon, on a runtime of its own, so that it can be killed.
pub struct Daemon {
    runtime: Option<Runtime>,
    pub sets: Arc<ScaleSets>,
    pub forge: Arc<dyn Forge>,
}

impl Daemon {
    /// Starts without waiting for anything.
    pub fn start(fake: &FakeGithub, kept: &Arc<Kept>, pools: Vec<PoolSet>) -> Self {
        Self::start_by(HandClock::new(), fake, kept, pools)
    }

    /// The same, whose way to GitHub has this clock.
    pub fn start_by(
        clock: Arc<dyn Clock>,
        fake: &FakeGithub,
        kept: &Arc<Kept>,
        pools: Vec<PoolSet>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let inside = runtime.enter();
        let github = Arc::new(Github::new(with_token(fake), clock).unwrap());
        let sets = ScaleSets::new(Setup {
            github: Arc::clone(&github),
            clock: Arc::new(TokioClock::starting_at(chrono::Utc::now())),
            marks: Arc::clone(kept) as Arc<dyn Marks>,
            hears: Arc::clone(kept) as Arc<dyn Hears>,
            owner: "ci on test-host".to_owned(),
        });
        let forge = sets.forge(github);
        sets.configure(pools);
        sets.start(Arc::clone(kept) as Arc<dyn JobEars>);
        drop(inside);
        Self { runtime: Some(runtime), sets, forge }
    }

    pub fn demand(&self) -> Option<Demand> {
        *self.sets.watch(&pool()).borrow()
    }

    pub fn status(&self) -> Status {
        self.sets.status().remove(0)
    }

    /// `kill -9`: nothing is said to anybody.
    pub fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// An orderly end.
    pub async fn stop(mut self) {
        self.sets.stop().await;
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub async fn fake(scale_sets: SetOptions) -> FakeGithub {
    start(Options { scale_sets, rate_limit: None, ..Options::default() }).await
}

pub fn the_set(fake: &FakeGithub) -> Option<ScaleSetRecord> {
    fake.scale_sets().first().cloned()
}

/// Waits until it is so.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a poll of an open session is there: everything before is over.
pub async fn listening(fake: &FakeGithub, max: u32) {
    until("a listener", || {
        the_set(fake).is_some_and(|set| set.session.is_some() && set.capacity == max)
    })
    .await;
}

/// A runner of the pool: registers, comes online, and serves one job.
pub async fn run_one(fake: &FakeGithub, forge: &dyn Forge, token: u64) -> Option<Duration> {
    let order = RegisterOrder { name: name(token), ..order(&scope("octo-org"), token) };
    let registered = forge.register(&order).await.ok()?;
    let mut listener = fake.connect(registered.jit_config.expose()).await.ok()?;
    let Next::Job(job) = listener.next_job().await else { return None };
    tokio::time::sleep(job.runs_for).await;
    listener.complete(true);
    Some(job.runs_for)
}
