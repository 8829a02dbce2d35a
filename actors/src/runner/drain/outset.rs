//! How a drain begins: why, with what is known already, and where it enters the steps.

use super::{
    Drain, Step,
    steps::{go, hold},
};
use crate::{
    event::{DrainReason, Job, JobEnd},
    port::Time,
    runner::{Known, Limits, Next},
};

/// A drain about to begin, together with what is known.
pub(in crate::runner) struct Outset {
    drain: Drain,
    known: Known,
}

impl Drain {
    pub(in crate::runner) fn new(reason: DrainReason, now: Time) -> Self {
        Self {
            forced: reason == DrainReason::Forced,
            reason,
            step: Step::Ask,
            step_since: now,
            due: now,
            not_before: now,
            tries: 0,
            stands_down: false,
            asked_at: None,
            answered: false,
            told: false,
            ended: false,
            forge_knows: false,
            contradicted: false,
            looked_up: false,
            cordon_tries: 0,
            uncordonable: false,
            guest_stopped: false,
            delete_taken: false,
            taken_at: None,
            vm_gone: false,
            registration_gone: false,
            job: None,
            job_end: None,
            job_killed: false,
            suspect: false,
        }
    }

    pub(in crate::runner) fn of_job(mut self, job: Job, end: Option<JobEnd>) -> Self {
        self.job = Some(job);
        self.job_end = end;
        self
    }

    /// The end of its job as the forge told it.
    pub(in crate::runner) fn known_to_forge(mut self) -> Self {
        self.forge_knows = true;
        self
    }

    pub(in crate::runner) fn killing(mut self, job: Job) -> Self {
        self.forced = true;
        self.job_killed = true;
        self.job = Some(job);
        self
    }

    pub(in crate::runner) fn vm_gone(mut self) -> Self {
        self.vm_gone = true;
        self
    }

    /// Its registration is gone. Its VM is deleted by name all the same, also where no list has it: where
    /// the cloud's lists lack what is there, that is the second witness, and a VM that is gone costs it one
    /// call.
    pub(in crate::runner) fn unregistered(mut self) -> Self {
        self.registration_gone = true;
        self
    }

    pub(in crate::runner) fn with(self, known: Known) -> Outset {
        Outset { drain: self, known }
    }
}

impl Outset {
    fn begin(mut self, step: Step, now: Time, limits: &Limits) -> Next {
        self.drain.enter(step, now);
        // What was listed before the drain cannot tell how it ended.
        self.known.blind(now);
        self.known.doubt = None;
        if self.drain.vm_gone && self.drain.registration_gone {
            // Nothing is left to do; the next tick says so, so that every life ends in one way.
            return hold(now, self.drain, self.known);
        }
        go(now, self.drain, self.known, now, limits)
    }

    pub(in crate::runner) fn ask(self, now: Time, limits: &Limits) -> Next {
        self.begin(Step::Ask, now, limits)
    }

    pub(in crate::runner) fn deregister(self, now: Time, limits: &Limits) -> Next {
        self.begin(Step::Deregister, now, limits)
    }

    pub(in crate::runner) fn settle(self, now: Time, limits: &Limits) -> Next {
        self.begin(Step::Settle, now, limits)
    }

    pub(in crate::runner) fn delete(self, now: Time, limits: &Limits) -> Next {
        self.begin(Step::Delete, now, limits)
    }
}
