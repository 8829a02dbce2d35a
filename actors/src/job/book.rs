//! The book of open jobs: what waits and runs for each pool, and what must be looked up.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{JobKey, JobNews, JobRecord, JobWord, Serves, Way, matching};
use crate::{
    backoff::{self, Curve},
    name::PoolName,
    port::Time,
};

/// A queued job that nobody has taken is asked about: a lost `completed` would make it a phantom.
const QUEUED: Curve = Curve { base: Duration::from_secs(5 * 60), cap: Duration::from_secs(3600) };
/// One that no pool takes is asked about seldom: it is no demand, and there may be many.
const UNSERVED: Curve =
    Curve { base: Duration::from_secs(3600), cap: Duration::from_secs(6 * 3600) };
/// A running job is asked about: a lost `completed` would count it for ever.
const RUNNING: Curve =
    Curve { base: Duration::from_secs(20 * 60), cap: Duration::from_secs(3 * 3600) };
/// A job whose runner is gone, and one that just began without a word of the forge, are asked about
/// soon: the forge's own news are on their way.
const SOON: Duration = Duration::from_secs(20);
/// A job that could not be looked up is asked about again, and keeps no other from being asked about.
const UNANSWERED: Curve = Curve { base: Duration::from_secs(15), cap: Duration::from_secs(600) };
/// A job that is over stays in the book for a while, so that news of it that come late find it.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// A guest's word that it has begun a job, not yet explained by news of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Start {
    pool: PoolName,
    run_id: Option<u64>,
    at: Time,
    /// The guest has ended that job as well.
    over: bool,
}

/// All jobs that are open, and those that ended a moment ago.
#[derive(Debug, Clone, Default)]
pub struct Book {
    jobs: BTreeMap<JobKey, JobRecord>,
    /// By runner.
    starts: BTreeMap<String, Start>,
    /// What is known of the fleet's runners that have no job yet.
    ways: BTreeMap<String, Way>,
    /// Jobs of which a guest said that they are over, or whose runner's VM is gone, and since when: the
    /// forge's own word is on its way, or was lost. They are no demand any more.
    ended: BTreeMap<JobKey, Time>,
    /// Jobs that could not be looked up: how often in a row, and until when they are left alone.
    unanswered: BTreeMap<JobKey, (u32, Time)>,
}

impl Book {
    /// The record of a job, if it is in the book.
    #[must_use]
    pub fn get(&self, key: &JobKey) -> Option<&JobRecord> {
        self.jobs.get(key)
    }

    /// All jobs in the book.
    pub fn jobs(&self) -> impl Iterator<Item = &JobRecord> {
        self.jobs.values()
    }

    /// Takes back a record that was kept, after a restart or because news of it came late.
    pub fn recall(&mut self, record: JobRecord) {
        self.jobs.entry(record.key.clone()).or_insert(record);
    }

    /// Takes in news. Returns the record if it changed and must be kept.
    pub fn apply(&mut self, news: JobNews, pools: &[Serves]) -> Option<&JobRecord> {
        let JobNews { key, word, at, facts } = news;
        let facts = facts.bounded();
        if self.jobs.get(&key).is_some_and(|known| known.facts.is_of_another_repository(&facts)) {
            return None;
        }
        let before = self.jobs.remove(&key);
        let mut record = match before.clone() {
            None => JobRecord {
                key: key.clone(),
                word,
                facts,
                pool: None,
                unserved: None,
                way: Way::default(),
                heard_at: at,
                last_at: at,
                checks: 0,
            },
            Some(mut known) => {
                known.facts =
                    if word > known.word { facts.or(known.facts) } else { known.facts.or(facts) };
                if word > known.word {
                    known.word = word;
                    known.checks = 0;
                }
                known.last_at = known.last_at.max(at);
                known
            }
        };
        // A job that nobody has taken follows the configuration; one that runs stays where it is.
        if record.word <= JobWord::Queued || record.pool.is_none() {
            record.assign(pools);
        }
        if let Some(runner) = &record.facts.runner
            && record.way.assigned_at.is_none()
        {
            record.way.assigned_at = Some(at);
            if let Some(way) = self.ways.remove(runner.as_str()) {
                record.way.launched_at = way.launched_at;
                record.way.booted_at = way.booted_at;
            }
        }
        let start = record.facts.runner.as_deref().and_then(|runner| self.starts.remove(runner));
        if start.is_some_and(|start| start.over) {
            self.ended.entry(key.clone()).or_insert(at);
        }
        if record.word == JobWord::Done {
            self.ended.remove(&key);
        }
        let same = |before: &JobRecord| {
            (before.word, &before.facts, &before.pool, &before.unserved, &before.way)
                == (record.word, &record.facts, &record.pool, &record.unserved, &record.way)
        };
        let changed = !before.as_ref().is_some_and(same);
        let kept = self.jobs.entry(key).or_insert(record);
        changed.then_some(&*kept)
    }

    /// A guest has begun a job: one of the queued jobs of that run is taken, before its forge says so.
    pub fn guest_started(&mut self, runner: &str, pool: &PoolName, run_id: Option<u64>, now: Time) {
        let explained = self.jobs.values().any(|job| job.facts.runner.as_deref() == Some(runner));
        if !explained {
            let start = Start { pool: pool.clone(), run_id, at: now, over: false };
            self.starts.insert(runner.to_owned(), start);
        }
    }

    /// A runner's launch was decided.
    pub fn runner_launched(&mut self, runner: &str, at: Time) {
        self.ways.entry(runner.to_owned()).or_default().launched_at = Some(at);
    }

    /// A runner's VM has booted.
    pub fn runner_booted(&mut self, runner: &str, at: Time) {
        self.ways.entry(runner.to_owned()).or_default().booted_at = Some(at);
    }

    /// There is no such runner any more.
    pub fn runner_forgotten(&mut self, runner: &str) {
        self.ways.remove(runner);
    }

    /// A runner's word that it has begun a job was not taken: there is no such runner.
    pub fn start_withdrawn(&mut self, runner: &str) {
        self.starts.remove(runner);
    }

    /// Why a pool makes no runner for the jobs that wait for it. The jobs whose record this changes.
    pub fn delayed(&mut self, pool: &PoolName, why: &str) -> Vec<JobKey> {
        let waits =
            |job: &&mut JobRecord| job.word == JobWord::Queued && job.pool.as_ref() == Some(pool);
        let mut changed = Vec::new();
        for job in self.jobs.values_mut().filter(waits) {
            if job.way.delayed.as_deref() != Some(why) {
                job.way.delayed = Some(why.to_owned());
                changed.push(job.key.clone());
            }
        }
        changed
    }

    /// A guest has ended its job, or its VM is gone: what it ran is no demand any more, and is looked up
    /// if its forge does not say the same soon.
    pub fn runner_ended(&mut self, runner: &str, now: Time) {
        if let Some(start) = self.starts.get_mut(runner) {
            start.over = true;
        }
        for job in self.jobs.values() {
            if job.word == JobWord::Running && job.facts.runner.as_deref() == Some(runner) {
                self.ended.entry(job.key.clone()).or_insert(now);
            }
        }
    }

    /// Jobs that wait and run, by pool; a pool that is not named has none. One pass over the book,
    /// however many pools there are.
    #[must_use]
    pub fn demands(&self) -> BTreeMap<&PoolName, (u32, u32)> {
        let mut queued: BTreeMap<(&PoolName, Option<u64>), u32> = BTreeMap::new();
        let mut demands: BTreeMap<&PoolName, (u32, u32)> = BTreeMap::new();
        for job in self.jobs.values() {
            let Some(pool) = &job.pool else { continue };
            match job.word {
                JobWord::Queued => *queued.entry((pool, job.facts.run_id)).or_default() += 1,
                JobWord::Running if !self.ended.contains_key(&job.key) => {
                    let (_, running) = demands.entry(pool).or_default();
                    *running = running.saturating_add(1);
                }
                JobWord::Running | JobWord::Blocked | JobWord::Done => {}
            }
        }
        for start in self.starts.values() {
            let left = queued.get_mut(&(&start.pool, start.run_id)).filter(|left| **left > 0);
            if let Some(left) = left {
                *left -= 1;
                let (_, running) = demands.entry(&start.pool).or_default();
                *running = running.saturating_add(u32::from(!start.over));
            }
        }
        for ((pool, _), left) in queued {
            let (waiting, _) = demands.entry(pool).or_default();
            *waiting = waiting.saturating_add(left);
        }
        demands
    }

    /// Jobs that wait for a pool whose source gave them to it, and that it does not take.
    #[must_use]
    pub fn refused(&self, pool: &PoolName) -> u32 {
        let refused = self.jobs.values().filter(|job| {
            job.word == JobWord::Queued
                && job.pool.is_none()
                && job.facts.pool.as_ref() == Some(pool)
        });
        u32::try_from(refused.count()).unwrap_or(u32::MAX)
    }

    /// Runs of which some job has begun by a guest's word alone.
    fn begun(&self) -> BTreeSet<u64> {
        self.starts.values().filter_map(|start| start.run_id).collect()
    }

    /// When a job is to be looked up at its forge; `None` for what is over or has no id there.
    fn check_with(&self, job: &JobRecord, begun: &BTreeSet<u64>) -> Option<Time> {
        let seed = job.key.id()?;
        let curve = match job.word {
            JobWord::Blocked | JobWord::Queued if job.pool.is_none() => UNSERVED,
            JobWord::Blocked | JobWord::Queued => QUEUED,
            JobWord::Running => RUNNING,
            JobWord::Done => return None,
        };
        let usual = job.last_at + backoff::delay(job.checks.saturating_add(1), seed, curve);
        let taken = job.checks == 0 && job.facts.run_id.is_some_and(|run| begun.contains(&run));
        let ended = self.ended.get(&job.key).filter(|_| job.checks == 0).map(|at| *at + SOON);
        let begun = (taken && job.word == JobWord::Queued).then(|| job.last_at + SOON * 3);
        let due = [ended, begun].into_iter().flatten().fold(usual, Time::min);
        Some(self.unanswered.get(&job.key).map_or(due, |(_, until)| due.max(*until)))
    }

    /// Jobs to be looked up now, the longest due first, and when to look here again.
    #[must_use]
    pub fn doubtful(&self, now: Time) -> (Vec<&JobRecord>, Option<Time>) {
        let mut due = Vec::new();
        let mut next: Option<Time> = None;
        let begun = self.begun();
        for job in self.jobs.values() {
            match self.check_with(job, &begun) {
                Some(at) if at <= now => due.push((at, job)),
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        due.sort_by_key(|(at, _)| *at);
        (due.into_iter().map(|(_, job)| job).collect(), next)
    }

    /// A job was looked up and nothing new was learned, or nothing could be.
    pub fn checked(&mut self, key: &JobKey, now: Time) {
        self.unanswered.remove(key);
        if let Some(job) = self.jobs.get_mut(key) {
            job.checks = job.checks.saturating_add(1);
            job.last_at = job.last_at.max(now);
        }
    }

    /// A job was asked about and no answer came: it stays as doubtful as it was.
    pub fn unanswered(&mut self, key: &JobKey, now: Time) {
        let (times, until) = self.unanswered.entry(key.clone()).or_insert((0, now));
        *times = times.saturating_add(1);
        *until = now + backoff::delay(*times, key.id().unwrap_or_default(), UNANSWERED);
    }

    /// The configuration changed: jobs that nobody has taken are matched anew. What changed is returned.
    pub fn rematch(&mut self, pools: &[Serves]) -> Vec<JobRecord> {
        let mut changed = Vec::new();
        for job in self.jobs.values_mut().filter(|job| job.word <= JobWord::Queued) {
            let before = (job.pool.clone(), job.unserved.clone());
            job.assign(pools);
            if before != (job.pool.clone(), job.unserved.clone()) {
                changed.push(job.clone());
            }
        }
        changed
    }

    /// Forgets what ended a while ago, and starts that nothing has explained.
    pub fn tidy(&mut self, now: Time) {
        self.jobs.retain(|_, job| job.word != JobWord::Done || job.last_at + REMEMBERED > now);
        let open: BTreeSet<_> = self.jobs.keys().collect();
        self.ended.retain(|key, _| open.contains(key));
        self.unanswered.retain(|key, _| open.contains(key));
        self.starts.retain(|_, start| start.at + REMEMBERED > now);
    }
}

impl JobRecord {
    fn assign(&mut self, pools: &[Serves]) {
        match matching(&self.facts, pools) {
            Ok(pool) => {
                self.pool = Some(pool.clone());
                self.unserved = None;
            }
            Err(why) => {
                self.pool = None;
                self.unserved = Some(why);
            }
        }
    }
}
