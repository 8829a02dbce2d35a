//! What a line of the journal says.

use runner_fleet_actors::{
    event::Phase,
    name::{PoolName, RunnerName},
    port::{ErrorClass, Time},
};
use serde::Serialize;

/// One line: when, and what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Seconds since 1970 with fractions.
    pub timestamp: f64,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

impl Line {
    pub(super) fn new(at: Time, entry: Entry) -> Self {
        // Microseconds stay exact in an f64 until the year 2255.
        let timestamp = at.timestamp_micros() as f64 / 1e6;
        Self { timestamp, entry }
    }

    /// The line as JSON, without the line's end.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Texts, numbers and fixed field names always serialize; there is no failure to report.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// How a job ended, in the words of Canonical's operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// The runner application ended by itself, whatever the job's conclusion.
    Normal,
    /// The job was cut off: killed, or its VM was lost.
    Abnormal,
}

/// More on how a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StatusInfo {
    /// Exit code of the runner application.
    pub code: i32,
}

/// The workflow that a job belongs to, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Workflow {
    /// The workflow's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// `owner/repo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// The event that triggered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github_event: Option<String>,
}

/// What happened. The first four are the metric events of Canonical's operator, field by field; a
/// field without a value is left out, as there. `flavor` is the pool, in every entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Entry {
    /// A runner is online for the first time.
    RunnerInstalled {
        /// The pool.
        flavor: PoolName,
        /// Seconds since its launch was decided.
        duration: f64,
    },
    /// A runner has got its job.
    RunnerStart {
        /// The pool.
        flavor: PoolName,
        /// The job's workflow.
        #[serde(flatten)]
        workflow: Workflow,
        /// Seconds that it waited for a job; none where the start itself was not seen.
        #[serde(skip_serializing_if = "Option::is_none")]
        idle: Option<f64>,
    },
    /// A runner's job has ended.
    RunnerStop {
        /// The pool.
        flavor: PoolName,
        /// The job's workflow.
        #[serde(flatten)]
        workflow: Workflow,
        /// How it ended.
        status: JobStatus,
        /// More on how it ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        status_info: Option<StatusInfo>,
        /// Seconds; none where the start was not seen.
        #[serde(skip_serializing_if = "Option::is_none")]
        job_duration: Option<f64>,
        /// GitHub's conclusion.
        #[serde(skip_serializing_if = "Option::is_none")]
        job_conclusion: Option<String>,
    },
    /// A pool has compared itself with cloud and forge.
    Reconciliation {
        /// The pool.
        flavor: PoolName,
        /// Runners lost since the last one.
        crashed_runners: u32,
        /// Runners waiting for a job.
        idle_runners: u32,
        /// Runners with a job.
        active_runners: u32,
        /// The target.
        expected_runners: u32,
        /// Seconds that it took.
        duration: f64,
    },
    /// A runner changed its state.
    Transition {
        /// The runner.
        runner: RunnerName,
        /// The pool.
        flavor: PoolName,
        /// The state before; none at the start or adoption.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<Phase>,
        /// The state after.
        to: Phase,
        /// Seconds in the state before.
        after: f64,
        /// What caused it.
        because: String,
        /// Where it is on its way out: why, in one word.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
        /// Whether a job was killed by it.
        job_killed: bool,
    },
    /// A pool's target changed.
    Target {
        /// The pool.
        flavor: PoolName,
        /// The new target.
        runners: u32,
        /// Why.
        because: String,
    },
    /// A pool creates, drains or holds.
    Plan {
        /// The pool.
        flavor: PoolName,
        /// How many are created.
        create: u32,
        /// How many are drained.
        drain: u32,
        /// Why.
        because: String,
    },
    /// Something failed.
    Fault {
        /// The pool, where it concerns one.
        #[serde(skip_serializing_if = "Option::is_none")]
        flavor: Option<PoolName>,
        /// The runner, where it concerns one.
        #[serde(skip_serializing_if = "Option::is_none")]
        runner: Option<RunnerName>,
        /// What the failure means.
        #[serde(flatten)]
        class: ErrorClass,
        /// What failed.
        error: String,
    },
    /// What a guest logged before an end that is not the usual one.
    GuestLog {
        /// The pool.
        flavor: PoolName,
        /// The runner.
        runner: RunnerName,
        /// The last lines.
        log: String,
    },
    /// A defect of the fleet itself.
    InvariantBroken {
        /// The invariant.
        name: String,
        /// What was seen.
        seen: String,
    },
    /// Lines that found no room since the last one of these.
    JournalDropped {
        /// How many.
        lines: u64,
    },
}
