//! The one outward record of what the fleet does, and the read model for everything that only looks.
//!
//! Journal, metrics and pages are all fed from `FleetEvent`; nothing else leaves the brain. The
//! snapshots are projections: they are replaced whole by the actor that owns the truth, and nobody
//! decides anything from them.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use crate::{
    foreign::Foreign,
    name::{PoolName, RegistrationId, RunnerName, Scope, VmId},
    pool::Habits,
    port::{ErrorClass, PortError, PortStatus, Time, VmTask},
    sight::{Side, Sight},
};

mod hold;
mod stuck;
mod times;

pub use hold::{BootSnapshot, HoldSnapshot, Place};
pub use stuck::{SLOW_DELETION, SLOW_LAUNCH, Stuck, may_be_stuck};
pub use times::GuestTimes;

/// The six states of a runner, without their data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The VM is asked for and being made.
    Creating,
    /// The VM runs; its runner is not yet online at the forge.
    Registering,
    /// Online, waiting for a job.
    Idle,
    /// Running a job.
    Busy,
    /// On its way out.
    Draining,
    /// Neither a VM nor a registration is left.
    Deleted,
}

impl Phase {
    /// All six, in the order of a life.
    pub const ALL: [Self; 6] =
        [Self::Creating, Self::Registering, Self::Idle, Self::Busy, Self::Draining, Self::Deleted];

    /// The state's name as users see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Registering => "registering",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Deleted => "deleted",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is known of the job that a runner runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// GitHub's number of the job (`workflow_job.id`), where the source has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// `owner/repo`.
    pub repository: Option<Foreign>,
    /// The workflow's name.
    pub workflow: Option<Foreign>,
    /// The event that triggered the workflow run.
    pub event: Option<Foreign>,
    /// GitHub's number of the workflow run.
    pub run_id: Option<u64>,
}

/// How a job ended, as far as anybody said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// GitHub's conclusion (`success`, `failure`, `cancelled`, …).
    pub conclusion: Option<Foreign>,
    /// Exit code of the runner application.
    pub exit_code: Option<i32>,
}

/// Why a runner is on its way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum DrainReason {
    /// Its one job ended, or its runner application did.
    Finished,
    /// The pool has more runners than its target.
    Shrink,
    /// It was made with an image, flavor or other property that the pool no longer has.
    Outdated,
    /// An operator asked for it.
    Operator,
    /// An operator asked for its deletion whatever it does.
    Forced,
    /// The pool left the configuration.
    PoolRemoved,
    /// The launch failed.
    LaunchFailed {
        /// What failed, for the pool's backoff.
        #[serde(flatten)]
        class: ErrorClass,
    },
    /// Its launch was held back here before anything was asked: no failure, another one takes its turn.
    HeldBack,
    /// Its VM ended, or its runner application failed, before it could serve a job; for the pool's
    /// backoff, as a failed launch.
    BootFailed,
    /// It was not made, not online, or without a job for longer than its limit.
    Overdue {
        /// The state whose limit passed.
        phase: Phase,
    },
    /// Its job ran longer than the pool's limit; the job is killed.
    JobOverdue,
    /// The VM is gone although nobody deleted it here.
    VmVanished,
    /// The cloud put the VM into an error state after it had been made.
    VmFailed,
    /// The registration is gone although the VM is there.
    RegistrationVanished,
    /// A registration or VM of this fleet without a runner.
    Orphan,
    /// It gets no jobs by an earlier word of ours, which could not be taken back.
    Cordoned,
}

impl DrainReason {
    /// Whether the runner was lost to a failure rather than ended by its job or by somebody's wish.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::VmVanished | Self::VmFailed | Self::LaunchFailed { .. } | Self::BootFailed
        )
    }

    /// The reason as one word, for log lines and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Shrink => "shrink",
            Self::Outdated => "outdated",
            Self::Operator => "operator",
            Self::Forced => "forced",
            Self::PoolRemoved => "pool_removed",
            Self::LaunchFailed { .. } => "launch_failed",
            Self::HeldBack => "held_back",
            Self::BootFailed => "boot_failed",
            Self::Overdue { .. } => "overdue",
            Self::JobOverdue => "job_overdue",
            Self::VmVanished => "vm_vanished",
            Self::VmFailed => "vm_failed",
            Self::RegistrationVanished => "registration_vanished",
            Self::Orphan => "orphan",
            Self::Cordoned => "cordoned",
        }
    }
}

/// A change of a runner's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// Which runner.
    pub runner: RunnerName,
    /// Its pool.
    pub pool: PoolName,
    /// The state before; `None` at the start or adoption of a runner.
    pub from: Option<Phase>,
    /// The state after.
    pub to: Phase,
    /// When its launch was decided, as far as known; of an adopted one that does not say: when it
    /// was adopted.
    pub created_at: Time,
    /// How long it was in the state before.
    pub after: Duration,
    /// What caused it, in words.
    pub because: String,
    /// Where `to` is draining or deleted: why.
    pub reason: Option<DrainReason>,
    /// Whether a job was killed by this change.
    pub job_killed: bool,
    /// The job, where there is or was one.
    pub job: Option<Job>,
    /// How the job ended, once it did.
    pub job_end: Option<JobEnd>,
    /// What its guest has counted, as far as it has said.
    pub times: GuestTimes,
    /// Whether it was so before: a process that has just started finds it, one side after the other.
    #[serde(default)]
    pub found: bool,
}

/// Everything that the fleet tells the outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum FleetEvent {
    /// A runner changed its state.
    Transition {
        /// When.
        at: Time,
        /// What changed.
        #[serde(flatten)]
        transition: Transition,
    },
    /// A pool's target changed.
    Target {
        /// When.
        at: Time,
        /// Whose.
        pool: PoolName,
        /// The new target.
        runners: u32,
        /// Why.
        because: String,
    },
    /// A plan that does or holds something.
    Plan {
        /// When.
        at: Time,
        /// Whose.
        pool: PoolName,
        /// How many runners are created.
        create: u32,
        /// How many runners are drained.
        drain: u32,
        /// Why.
        because: Vec<String>,
    },
    /// A pool has taken in a listing and repaired what differed.
    Reconciled {
        /// When.
        at: Time,
        /// Whose.
        pool: PoolName,
        /// How long the listing took.
        took: Duration,
        /// Runners by state.
        counts: Counts,
        /// Runners lost since the last one: vanished, failed, or their actor died.
        crashed: u32,
        /// The pool's target.
        target: u32,
    },
    /// Something failed that a person may want to know.
    Fault {
        /// When.
        at: Time,
        /// Whose, where it concerns one pool.
        pool: Option<PoolName>,
        /// Which runner, where it concerns one.
        runner: Option<RunnerName>,
        /// What failed.
        error: PortError,
    },
    /// The VM of a runner that is on its way out is known to be gone: its guest says no more. What is
    /// left is its registration, which may take minutes; where nothing is left, `Transition` to
    /// `Deleted` comes instead.
    VmGone {
        /// When it was known.
        at: Time,
        /// The runner's pool.
        pool: PoolName,
        /// Whose VM.
        runner: RunnerName,
    },
    /// What a guest has told of its job, or of its own end. Comes beside the change of state that it
    /// causes, if it causes one, before or after it.
    GuestTold {
        /// When it was told.
        at: Time,
        /// The runner's pool.
        pool: PoolName,
        /// Whose guest.
        runner: RunnerName,
        /// The job, where it has or had one.
        job: Option<Job>,
        /// How its runner application ended, once it did: the guest's last word.
        end: Option<JobEnd>,
        /// What the guest has counted.
        times: GuestTimes,
    },
    /// The last lines that a guest has logged, told by it on an end that is not the usual one.
    GuestLog {
        /// When it was told.
        at: Time,
        /// The runner's pool.
        pool: PoolName,
        /// Whose guest.
        runner: RunnerName,
        /// The lines.
        log: String,
    },
    /// An invariant that the simulation proves was seen broken in production: a defect.
    InvariantBroken {
        /// When.
        at: Time,
        /// The invariant's name.
        name: String,
        /// What was seen.
        seen: String,
    },
}

/// Runners by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Runners whose VM is being made.
    pub creating: u32,
    /// Runners not yet online.
    pub registering: u32,
    /// Runners waiting for a job.
    pub idle: u32,
    /// Runners with a job.
    pub busy: u32,
    /// Runners on their way out.
    pub draining: u32,
}

impl Counts {
    /// The count of runners in `phase`; deleted ones are counted nowhere.
    pub fn of(&mut self, phase: Phase) -> Option<&mut u32> {
        match phase {
            Phase::Creating => Some(&mut self.creating),
            Phase::Registering => Some(&mut self.registering),
            Phase::Idle => Some(&mut self.idle),
            Phase::Busy => Some(&mut self.busy),
            Phase::Draining => Some(&mut self.draining),
            Phase::Deleted => None,
        }
    }

    /// Counts one more runner of `phase`.
    pub fn add(&mut self, phase: Phase) {
        if let Some(count) = self.of(phase) {
            *count += 1;
        }
    }

    /// Runners that serve or will serve a job: all but the draining ones.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.creating + self.registering + self.idle + self.busy
    }
}

/// A runner as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunnerSnapshot {
    /// Its name.
    pub name: RunnerName,
    /// Its pool.
    pub pool: PoolName,
    /// Its state.
    pub state: Phase,
    /// Since when it is in this state.
    pub since: Time,
    /// When it was created or adopted.
    pub created_at: Time,
    /// Why it is in this state, in words.
    pub why: String,
    /// The last error met on its way.
    pub last_error: Option<String>,
    /// The cloud's identifier of its VM.
    pub vm_id: Option<VmId>,
    /// The forge's number of its registration.
    pub registration_id: Option<RegistrationId>,
    /// The job that it runs.
    pub job: Option<Job>,
    /// Where draining: the step.
    pub step: Option<String>,
    /// Where draining: since when it is at that step.
    #[serde(default)]
    pub step_since: Option<Time>,
    /// Where draining: how often that step was tried without an end.
    #[serde(default)]
    pub tries: u32,
    /// What its cloud is doing with its VM, where it says so.
    #[serde(default)]
    pub task: Option<VmTask>,
    /// When its present state must have ended.
    pub deadline: Option<Time>,
    /// Digest of the shape that it was made with.
    pub shape: Option<String>,
    /// The version of its runner application, if its guest has said.
    pub version: Option<String>,
}

impl RunnerSnapshot {
    /// Whether it lives in that VM, and nobody has asked for its end.
    #[must_use]
    pub fn lives_in(&self, vm: &VmId) -> bool {
        self.state < Phase::Draining && self.vm_id.as_ref() == Some(vm)
    }
}

/// A pool as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolSnapshot {
    /// Its name.
    pub name: PoolName,
    /// Where its runners register.
    pub scope: Scope,
    /// Which provider makes its VMs.
    pub provider: String,
    /// Smallest number of runners.
    pub min: u32,
    /// Idle runners wanted on top of the busy ones.
    pub spare: u32,
    /// Largest number of VMs, the draining ones included.
    pub max: u32,
    /// The target.
    pub target: u32,
    /// Why the target is what it is.
    pub target_because: String,
    /// An operator's fixed target, if there is one.
    pub target_override: Option<u32>,
    /// Whether demand is not wholly known, so that the target may grow and not shrink.
    #[serde(default)]
    pub demand_unknown: bool,
    /// Runners by state.
    pub counts: Counts,
    /// What the last plan did or holds, and why: the answer to "why are there N runners?".
    pub because: Vec<String>,
    /// What holds launches back, each with what ends it.
    #[serde(default)]
    pub holds: Vec<HoldSnapshot>,
    /// How long its boots take, once one is known.
    #[serde(default)]
    pub boots: Option<BootSnapshot>,
    /// Runners that take far longer to come online than others did: nobody counts on them.
    #[serde(default)]
    pub late: u32,
    /// What its scope has shown of the forge: how late the busy flag is, and jobs that came past cordons.
    #[serde(default)]
    pub habits: Habits,
    /// When the cloud was last seen whole.
    pub cloud_seen_at: Option<Time>,
    /// When the forge was last seen whole.
    pub forge_seen_at: Option<Time>,
    /// From when on the forge may show something that is awaited and that nobody else tells.
    #[serde(skip)]
    pub forge_shows_from: Option<Time>,
    /// Whether someone waits for a proof that a VM is not there.
    #[serde(skip)]
    pub absence_awaited: bool,
    /// Whether the pool left the configuration and is being emptied.
    pub retiring: bool,
}

/// The read model: what pages, API and metrics look at. Written only by the actors that own the
/// truth, whole entries at a time.
#[derive(Debug, Default)]
pub struct ReadModel {
    /// Every runner that is not deleted.
    pub runners: DashMap<RunnerName, RunnerSnapshot>,
    /// Every pool.
    pub pools: DashMap<PoolName, PoolSnapshot>,
    /// Providers by name, and the forge as `github`.
    pub ports: DashMap<String, PortStatus>,
    /// How well each cloud and each scope is seen, from the moment that it is asked for.
    pub sights: DashMap<Side, Sight>,
}

/// Shared by all that look.
pub type SharedModel = Arc<ReadModel>;
