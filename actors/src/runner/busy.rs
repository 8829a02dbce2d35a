//! Busy: nothing but the job's end, told or looked up, its VM's end, force or its own limit move it; or listings, where it
//! was busy by hearsay alone.
//!
//! A wish to drain is refused here and nowhere else, so that nobody who wishes needs to be right.

use super::{
    Answer, Drain, Event, Known, Limits, Next, Report, State,
    doubt::{Verdict, verdict},
};
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
            if known.vm_gone(limits.ask) && known.asked_in_vain(now, limits) {
                return lost(job, known, now, limits);
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
        Event::Answered(Answer::LookedUp(Ok(finding))) => {
            let vm_lost = known.vm_lost(limits);
            match verdict(&finding, vm_lost) {
                Verdict::Gone if vm_lost => lost(job, known, now, limits),
                Verdict::Gone if known.busy_is_doubtful(limits) => {
                    let mut drain = Drain::new(DrainReason::Finished, now);
                    // What the forge says of the job it knows, and of a runner that is gone as well.
                    drain.forge_knows = known.contested.is_some() || finding.at_work == Some(false);
                    drain.registration_gone = finding.registration.is_none();
                    let end = known.contested.take();
                    drain.of_job(job, end).with(known).settle(now, limits)
                }
                Verdict::AtWork | Verdict::There | Verdict::Gone => {
                    known.borne_out(&finding, now, limits);
                    (State::Busy { since, job, known }, Vec::new())
                }
            }
        }
        // Its own guest says that the job runs, and will say when it does not; or nothing shows that the
        // word is about this runner.
        Event::JobCompleted { end, registration } if known.contests(registration) => {
            known.contested.get_or_insert(end);
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
        // A wish to drain is refused: the runner ends with its job anyway. And a job is not over because one answer
        // of the cloud calls its VM deleted that nobody asked to delete.
        Event::Drain(_)
        | Event::VmEnded { .. }
        | Event::Tick
        | Event::Woke(_)
        | Event::Answered(_)
        | Event::Guest(Report::Booted | Report::RunnerStarted | Report::Version(_), _) => {
            (State::Busy { since, job, known }, Vec::new())
        }
    }
}

/// The cloud lacks the VM, and nothing speaks for it.
fn lost(job: Job, known: Known, now: Time, limits: &Limits) -> Next {
    if known.all_gone() {
        let drain = Drain::new(DrainReason::Finished, now).of_job(job, None).unregistered();
        return drain.with(known).delete(now, limits);
    }
    let drain = Drain::new(DrainReason::VmVanished, now).of_job(job, None).vm_gone();
    drain.with(known).deregister(now, limits)
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
