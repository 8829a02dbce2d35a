//! A job, from its queueing to its end, and what is remembered of it.

use std::{collections::BTreeSet, time::Duration};

use runner_fleet_actors::{name::Scope, port::Time};
use tokio::time::Instant;

/// A job's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// How a job that some runner had acquired was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lost {
    /// Its runner was deregistered in mid-job: GitHub cancels the job.
    Deregistered,
    /// Its runner ended its session in mid-job: the VM was stopped or died.
    Disconnected,
    /// Its runner was not heard of for longer than `Options::silence`.
    Silent,
}

/// What is remembered of a job. Times are of the wall clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// Its number.
    pub id: JobId,
    /// Where it was queued.
    pub scope: Scope,
    /// `owner/repo` of its workflow.
    pub repository: String,
    /// Its workflow's name.
    pub workflow: String,
    /// Its run's number.
    pub run_id: u64,
    /// What started its workflow.
    pub event: String,
    /// How long it runs.
    pub runs_for: Duration,
    /// When it was queued.
    pub queued_at: Time,
    /// When it was given to the runner that it has or had last.
    pub assigned_at: Option<Time>,
    /// When that runner took it.
    pub acquired_at: Option<Time>,
    /// When it ended, by itself.
    pub completed_at: Option<Time>,
    /// What it ended with, in GitHub's word: `success`, `failure`, `cancelled`, ….
    pub result: Option<String>,
    /// When and how it was lost.
    pub lost: Option<(Time, Lost)>,
    /// The name of the runner that it has or had last.
    pub runner: Option<String>,
    /// How many times it was given to a runner.
    pub assignments: u32,
}

/// A job that waits or runs.
#[derive(Debug)]
pub(super) struct JobState {
    pub(super) labels: BTreeSet<String>,
    pub(super) queued: Instant,
    /// The registration that has it.
    pub(super) runner: Option<u64>,
    /// The scale set that it was given to.
    pub(super) given: Option<u64>,
    /// The scale set that may acquire it.
    pub(super) offered: Option<u64>,
    pub(super) record: JobRecord,
}

impl JobState {
    pub(super) fn new(
        id: u64,
        scope: &Scope,
        labels: BTreeSet<String>,
        runs_for: Duration,
    ) -> Self {
        let repository = match scope {
            Scope::Repository { .. } => scope.to_string(),
            Scope::Organisation(owner) | Scope::Enterprise(owner) => format!("{owner}/project"),
        };
        let record = JobRecord {
            id: JobId(id),
            scope: scope.clone(),
            repository,
            workflow: "CI".to_owned(),
            // Runs and jobs are counted apart at GitHub, so equal numbers would hide a mix-up.
            run_id: 9_000_000_000 + id,
            event: "push".to_owned(),
            runs_for,
            queued_at: chrono::Utc::now(),
            assigned_at: None,
            acquired_at: None,
            completed_at: None,
            result: None,
            lost: None,
            runner: None,
            assignments: 0,
        };
        Self { labels, queued: Instant::now(), runner: None, given: None, offered: None, record }
    }

    pub(super) fn is_acquired(&self) -> bool {
        self.record.acquired_at.is_some()
    }

    pub(super) fn assign(&mut self, runner: u64, name: &str) {
        self.runner = Some(runner);
        self.record.runner = Some(name.to_owned());
        self.record.assigned_at = Some(chrono::Utc::now());
        self.record.assignments += 1;
    }

    /// Back to the queue, at its old place.
    pub(super) fn unassign(&mut self) {
        self.runner = None;
        self.record.runner = None;
        self.record.assigned_at = None;
    }
}
