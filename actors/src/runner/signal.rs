//! What a runner's life is told with: effects out, answers and events in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Limits, Observation, Sighting};
use crate::{
    event::{DrainReason, GuestTimes, Job, JobEnd},
    name::{RegistrationId, VmId},
    port::{Deletion, Finding, PortError, Stage, StandDown, Time},
};

/// What the shell is asked to do. By name, so that repeating one is harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Ask the forge for a JIT config, then the provider for a VM. One effect, so that no secret
    /// passes through the brain.
    Launch,
    /// Ask the guest whether it has a job, and to take none until told.
    StandDown,
    /// Tell the guest to take jobs again. Has no answer: an order without a next word ends by itself.
    GoOn,
    /// Tell the guest that stands down to end. Has no answer: the VM's end is one.
    End,
    /// Tell the forge to give the runner no job.
    Cordon,
    /// Tell the forge that the runner takes jobs again.
    Uncordon,
    /// Remove the registration.
    Deregister,
    /// Delete the VM.
    DeleteVm,
    /// Ask the forge about the runner and its job by their numbers.
    LookUp,
}

impl Effect {
    /// How long the shell waits for its answer.
    #[must_use]
    pub fn limit(self, limits: &Limits) -> Duration {
        match self {
            Self::Launch => limits.launch,
            Self::StandDown
            | Self::GoOn
            | Self::End
            | Self::Cordon
            | Self::Uncordon
            | Self::Deregister
            | Self::DeleteVm
            | Self::LookUp => limits.effect,
        }
    }

    /// Whether an answer is due: a word to a guest has none, and so is never in flight.
    #[must_use]
    pub fn has_answer(self) -> bool {
        !matches!(self, Self::GoOn | Self::End)
    }
}

/// Why a launch failed, and what it may have left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchFailure {
    /// What failed.
    pub error: PortError,
    /// Which side it stood at.
    pub stage: Stage,
    /// Whether a VM may exist.
    pub vm_possible: bool,
    /// Whether a registration may exist.
    pub registration_possible: bool,
    /// Its number, where it is known to exist.
    pub registration: Option<RegistrationId>,
}

/// The answer to an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To `Launch`: the cloud has taken the order.
    Launched {
        /// The VM.
        vm: VmId,
        /// The registration.
        registration: RegistrationId,
    },
    /// To `Launch`: it failed.
    LaunchFailed(LaunchFailure),
    /// To `StandDown`.
    StoodDown(Result<StandDown, PortError>),
    /// To `Cordon`.
    Cordoned(Result<(), PortError>),
    /// To `Uncordon`.
    Uncordoned(Result<(), PortError>),
    /// To `Deregister`.
    Deregistered(Result<(), PortError>),
    /// To `DeleteVm`.
    VmDeleted(Result<Deletion, PortError>),
    /// To `LookUp`.
    LookedUp(Result<Finding, PortError>),
}

impl Answer {
    /// The effect that it answers.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::Launched { .. } | Self::LaunchFailed(_) => Effect::Launch,
            Self::StoodDown(_) => Effect::StandDown,
            Self::Cordoned(_) => Effect::Cordon,
            Self::Uncordoned(_) => Effect::Uncordon,
            Self::Deregistered(_) => Effect::Deregister,
            Self::VmDeleted(_) => Effect::DeleteVm,
            Self::LookedUp(_) => Effect::LookUp,
        }
    }
}

/// What the guest says of itself. A replay changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The VM is up.
    Booted,
    /// The runner application listens for jobs.
    RunnerStarted,
    /// A job began.
    JobStarted(Job),
    /// The job ended.
    JobCompleted(JobEnd),
    /// The runner application ended: the guest's last word before it powers off.
    Stopped(JobEnd),
    /// The version of the runner application. Told beside the other reports, and true at any time.
    Version(String),
}

/// Everything that can happen to a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time passed. Early and repeated ticks change nothing.
    Tick,
    /// A listing of the cloud or the forge.
    Observed(Observation),
    /// The cloud says that a VM is deleted.
    VmEnded {
        /// Which.
        vm: VmId,
        /// When it was asked: a word from before its deletion is not about that.
        as_of: Time,
    },
    /// An effect came back.
    Answered(Answer),
    /// The guest reported, with all the times that it has counted so far.
    Guest(Report, GuestTimes),
    /// The forge says that its job began.
    JobStarted {
        /// The job.
        job: Job,
        /// The number of the runner that the word is about, where it says so.
        registration: Option<RegistrationId>,
    },
    /// The forge says that its job ended.
    JobCompleted {
        /// How.
        end: JobEnd,
        /// The number of the runner that the word is about, where it says so.
        registration: Option<RegistrationId>,
    },
    /// The pool or an operator wishes it gone. Refused while it is busy.
    Drain(DrainReason),
    /// An operator wishes it gone whatever it does.
    Force,
    /// This process stood still until then: what was concluded before counts no more.
    Woke(Time),
}

impl Event {
    /// The event in words, for "why is it in this state?".
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Tick => "its time limit passed".to_owned(),
            Self::Observed(seen) => match (&seen.vm, &seen.registration) {
                (Sighting::Unknown, _) => "the forge showed it".to_owned(),
                (_, Sighting::Unknown) => "the cloud showed it".to_owned(),
                _ => "a listing showed it".to_owned(),
            },
            Self::VmEnded { .. } => "the cloud says that its VM is deleted".to_owned(),
            Self::Answered(Answer::Launched { .. }) => "the cloud took the order".to_owned(),
            Self::Answered(Answer::LaunchFailed(failure)) => {
                format!("the launch failed: {}", failure.error)
            }
            Self::Answered(Answer::StoodDown(Ok(StandDown::StandingDown))) => {
                "the guest stands down".to_owned()
            }
            Self::Answered(Answer::StoodDown(Ok(StandDown::Busy))) => {
                "the guest has a job".to_owned()
            }
            Self::Answered(Answer::Cordoned(Ok(()))) => "it gets no more jobs".to_owned(),
            Self::Answered(Answer::Uncordoned(Ok(()))) => "it gets jobs again".to_owned(),
            Self::Answered(Answer::Deregistered(Ok(()))) => "its registration is gone".to_owned(),
            Self::Answered(Answer::VmDeleted(Ok(_))) => "its VM is deleted".to_owned(),
            Self::Answered(Answer::LookedUp(Ok(found))) => {
                match (&found.registration, found.at_work) {
                    (_, Some(true)) => "the forge says by number that its job runs".to_owned(),
                    (Some(_), _) => "the forge has it by its number".to_owned(),
                    (None, _) => "the forge has no runner of its number".to_owned(),
                }
            }
            Self::Answered(
                Answer::StoodDown(Err(error))
                | Answer::Cordoned(Err(error))
                | Answer::Uncordoned(Err(error))
                | Answer::Deregistered(Err(error))
                | Answer::VmDeleted(Err(error))
                | Answer::LookedUp(Err(error)),
            ) => error.to_string(),
            Self::Guest(Report::Booted, _) => "the guest has booted".to_owned(),
            Self::Guest(Report::RunnerStarted, _) => "the guest listens for jobs".to_owned(),
            Self::Guest(Report::JobStarted(_), _) => "the guest has begun a job".to_owned(),
            Self::Guest(Report::JobCompleted(_), _) => "the guest has ended its job".to_owned(),
            Self::Guest(Report::Stopped(_), _) => "the guest's runner application ended".to_owned(),
            Self::Guest(Report::Version(version), _) => {
                format!("the guest runs version {version} of the runner application")
            }
            Self::JobStarted { .. } => "the forge reports its job begun".to_owned(),
            Self::JobCompleted { .. } => "the forge reports its job ended".to_owned(),
            Self::Drain(reason) => format!("asked to drain: {}", reason.as_str()),
            Self::Force => "deleted by force".to_owned(),
            Self::Woke(_) => "the process stood still for a while".to_owned(),
        }
    }
}
