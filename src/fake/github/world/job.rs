//! A job, from its queueing to its end, and what is remembered of it.

use std::{collections::BTreeSet, time::Duration};

use runner_fleet_actors::{name::Scope, port::Time};
use tokio::time::Instant;

use super::registration::Registration;

/// A job's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// A job to queue, as its workflow wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOrder {
    /// Where the runners are that may take it.
    pub scope: Scope,
    /// `owner/repo` of its workflow; `None` for the scope's own repository, or `project` of its
    /// organisation or enterprise.
    pub repository: Option<String>,
    /// Its `runs-on`, as written.
    pub labels: Vec<String>,
    /// How long it runs.
    pub runs_for: Duration,
    /// Its name.
    pub name: String,
    /// Its workflow's name.
    pub workflow: String,
    /// What started its workflow.
    pub event: String,
    /// A deployment protection rule holds it until somebody approves.
    pub blocked: bool,
}

impl JobOrder {
    /// An ordinary job.
    #[must_use]
    pub fn new(scope: &Scope, labels: &[String], runs_for: Duration) -> Self {
        Self {
            scope: scope.clone(),
            repository: None,
            labels: labels.to_vec(),
            runs_for,
            name: "build".to_owned(),
            workflow: "CI".to_owned(),
            event: "push".to_owned(),
            blocked: false,
        }
    }
}

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
    /// Its `runs-on`, as written.
    pub labels: Vec<String>,
    /// Its name.
    pub name: String,
    /// Its workflow's name.
    pub workflow: String,
    /// Its run's number; several jobs may share it.
    pub run_id: u64,
    /// What started its workflow.
    pub event: String,
    /// How long it runs.
    pub runs_for: Duration,
    /// When it was queued.
    pub queued_at: Time,
    /// A deployment protection rule holds it.
    pub blocked: bool,
    /// When somebody approved it, where a rule held it.
    pub approved_at: Option<Time>,
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
    /// That runner's number.
    pub runner_id: Option<u64>,
    /// The number of that runner's group.
    pub runner_group: Option<u64>,
    /// How many times it was given to a runner.
    pub assignments: u32,
}

impl JobRecord {
    /// How far it is, in GitHub's word.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self {
            Self { .. } if self.ended_at().is_some() => "completed",
            Self { acquired_at: Some(_), .. } => "in_progress",
            Self { blocked: true, .. } => "waiting",
            _ => "queued",
        }
    }

    /// What it ended with, in GitHub's word: its own result, or what GitHub makes of a loss.
    #[must_use]
    pub fn conclusion(&self) -> Option<&str> {
        match self.lost {
            Some((_, Lost::Deregistered)) => Some("cancelled"),
            Some((_, Lost::Disconnected | Lost::Silent)) => Some("failure"),
            None => self.result.as_deref(),
        }
    }

    /// When it ended, by itself or not.
    #[must_use]
    pub fn ended_at(&self) -> Option<Time> {
        self.completed_at.or(self.lost.map(|(at, _)| at))
    }
}

/// A job that waits or runs.
#[derive(Debug)]
pub(super) struct JobState {
    pub(super) labels: BTreeSet<String>,
    pub(super) queued: Instant,
    /// The registration that has it.
    pub(super) runner: Option<u64>,
    pub(super) record: JobRecord,
}

impl JobState {
    pub(super) fn new(id: u64, run_id: u64, order: &JobOrder) -> Self {
        let own = || match &order.scope {
            Scope::Repository { .. } => order.scope.to_string(),
            Scope::Organisation(owner) | Scope::Enterprise(owner) => format!("{owner}/project"),
        };
        let record = JobRecord {
            id: JobId(id),
            scope: order.scope.clone(),
            repository: order.repository.clone().unwrap_or_else(own),
            labels: order.labels.clone(),
            name: order.name.clone(),
            workflow: order.workflow.clone(),
            run_id,
            event: order.event.clone(),
            runs_for: order.runs_for,
            queued_at: chrono::Utc::now(),
            blocked: order.blocked,
            approved_at: None,
            assigned_at: None,
            acquired_at: None,
            completed_at: None,
            result: None,
            lost: None,
            runner: None,
            runner_id: None,
            runner_group: None,
            assignments: 0,
        };
        let labels = super::set_of(&order.labels);
        Self { labels, queued: Instant::now(), runner: None, record }
    }

    pub(super) fn is_acquired(&self) -> bool {
        self.record.acquired_at.is_some()
    }

    pub(super) fn assign(&mut self, runner: &Registration) {
        self.runner = Some(runner.id);
        self.record.runner = Some(runner.name.clone());
        self.record.runner_id = Some(runner.id);
        self.record.runner_group = Some(runner.group);
        self.record.assigned_at = Some(chrono::Utc::now());
        self.record.assignments += 1;
    }

    /// Back to the queue, at its old place.
    pub(super) fn unassign(&mut self) {
        self.runner = None;
        self.record.runner = None;
        self.record.runner_id = None;
        self.record.runner_group = None;
        self.record.assigned_at = None;
    }
}
