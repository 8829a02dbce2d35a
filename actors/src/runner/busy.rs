//! Busy: nothing but the job's end, its VM's end, force or its own limit move it; or listings, where it
//! was busy by hearsay alone.
//!
//! A wish to drain is refused here and nowhere else, so that nobody who wishes needs to be right.

use super::{Drain, Event, Known, Limits, Next, Report, State};
use crate::{
    event::{DrainReason, Job, JobEnd},
    port::Time,
};

/// What follows from an event while a job runs.
pub(super) fn next(
    since: Time,
    job: Job,
    mut known: Known,
    event: Event,
    now: Time,
    limits: &Limits,
) -> Next {
    let finished = |job: Job, end: Option<JobEnd>, known: Known| {
        Drain::new(DrainReason::Finished, now).of_job(job, end).with(known)
    };
    match event {
        Event::Observed(mut seen) => {
            known.take_in(&mut seen);
            if known.vm_stopped() {
                // A powered-off guest runs nothing, whatever the forge still believes.
                return finished(job, None, known).delete(now, limits);
            }
            if known.all_gone() {
                let drain = Drain::new(DrainReason::Finished, now).of_job(job, None).all_gone();
                return drain.with(known).settle(now, limits);
            }
            if known.vm_gone(limits.idle_proof) {
                return Drain::new(DrainReason::VmVanished, now)
                    .of_job(job, None)
                    .vm_gone()
                    .with(known)
                    .deregister(now, limits);
            }
            // A registration that is gone for good: the job ended, or its listener has cancelled it.
            // A guest that used to report gets longer, because its own word is the better one.
            let proof = if known.answers(limits) { limits.ask } else { limits.idle_proof };
            if known.registration_absent.spans(proof) {
                return finished(job, None, known).settle(now, limits);
            }
            if known.hearsay_refuted(limits) {
                known.hearsay = None;
                return (State::Idle { since: now, known }, Vec::new());
            }
            (State::Busy { since, job, known }, Vec::new())
        }
        Event::Guest(Report::JobStarted(told), _) | Event::JobStarted { job: told, .. } => {
            (State::Busy { since, job: merged(job, told), known }, Vec::new())
        }
        Event::Guest(Report::JobCompleted(end), _) => {
            finished(job, Some(end), known).settle(now, limits)
        }
        // Its own guest says that the job runs, and will say when it does not.
        Event::JobCompleted { .. } if known.guest_is_at_work() => {
            (State::Busy { since, job, known }, Vec::new())
        }
        Event::JobCompleted { end, .. } => Drain::new(DrainReason::Finished, now)
            .of_job(job, Some(end))
            .known_to_forge()
            .with(known)
            .settle(now, limits),
        Event::Guest(Report::Stopped(end), _) => {
            finished(job, Some(end), known).delete(now, limits)
        }
        Event::Force => {
            Drain::new(DrainReason::Forced, now).killing(job).with(known).delete(now, limits)
        }
        Event::Tick if now >= since + limits.busy => {
            Drain::new(DrainReason::JobOverdue, now).killing(job).with(known).delete(now, limits)
        }
        // A wish to drain is refused: the runner ends with its job anyway.
        Event::Drain(_)
        | Event::Tick
        | Event::Answered(_)
        | Event::Guest(Report::Booted | Report::RunnerStarted | Report::Version(_), _) => {
            (State::Busy { since, job, known }, Vec::new())
        }
    }
}

/// What two sources say of one job: each field from whoever knows it, the newer first.
fn merged(old: Job, new: Job) -> Job {
    Job {
        id: new.id.or(old.id),
        repository: new.repository.or(old.repository),
        workflow: new.workflow.or(old.workflow),
        event: new.event.or(old.event),
        run_id: new.run_id.or(old.run_id),
    }
}
