//! Draining: the one moment in which a fleet can kill a job, taken in five steps.
//!
//! *Ask* the guest to stand down (or wait until listings prove it idle, then *cordon* the runner and watch
//! it), *deregister*, let the VM *settle*, *delete* until it is gone. The forge's refusal turns the drain
//! back into busy. GitHub's busy flag alone proves nothing (seen false in mid-job, and DELETE then succeeds:
//! actions/runner#4422), and a deregistration is not harmless: the listener of a busy runner cancels
//! its job at the next poll. Deleting the VM first, as most peers do, kills whatever was assigned in
//! the last seconds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod cordon;
mod outset;
mod steps;

use super::{
    Answer, Effect, Event, Known, Limits, Next, Observation, Report, Sighting, Told,
    doubt::{Verdict, verdict},
};
use crate::{
    backoff,
    event::{DrainReason, Job, JobEnd},
    port::{Deletion, ErrorClass, PortError, StandDown, Time, VmStatus},
};
use steps::{back_to_busy, go, resume};

/// Where a drain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Learning that no job runs.
    Ask,
    /// Keeping new jobs off a runner that nobody can ask, and watching for the ones before.
    Cordon,
    /// Removing the registration.
    Deregister,
    /// Leaving the VM a moment to stop by itself.
    Settle,
    /// Deleting the VM.
    Delete,
}

impl Step {
    /// Whether the registration stands still by what was done up to there.
    fn is_early(self) -> bool {
        matches!(self, Self::Ask | Self::Cordon | Self::Deregister)
    }

    /// The step as one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Cordon => "cordon",
            Self::Deregister => "deregister",
            Self::Settle => "settle",
            Self::Delete => "delete",
        }
    }
}

/// A drain under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Why.
    pub reason: DrainReason,
    /// Where it stands.
    pub step: Step,
    /// Since when it stands there.
    pub step_since: Time,
    /// When the next tick does something.
    pub due: Time,
    /// No effect before this: backoff after failures.
    pub not_before: Time,
    /// Failures of this step in a row.
    pub tries: u32,
    /// Whether the guest said that it stands down, and was not given up since; for how long, see
    /// [`STANDS`](super::STANDS).
    pub stands_down: bool,
    /// When the guest was last asked to stand down.
    #[serde(default)]
    pub asked_at: Option<Time>,
    /// Whether the guest has answered in this drain: then it is not silent, and is only ever asked.
    pub answered: bool,
    /// Whether the guest was told to stand down and may do so still, also where its answer was lost.
    pub told: bool,
    /// Whether the guest that stands down was told to end.
    pub ended: bool,
    /// Whether the forge itself said that the job is over.
    pub forge_knows: bool,
    /// Whether a listing that is newer than the forge's word of the end shows it at work: a look-up tells
    /// which of the two is right, before its VM goes.
    pub contradicted: bool,
    /// Whether a look-up in this drain was answered.
    pub looked_up: bool,
    /// How often a cordon was asked for in vain.
    #[serde(default)]
    pub cordon_tries: u32,
    /// Whether there is none to be had in this drain.
    #[serde(default)]
    pub uncordonable: bool,
    /// Whether the guest said that its runner application ended.
    pub guest_stopped: bool,
    /// Whether the cloud has taken the deletion on.
    pub delete_taken: bool,
    /// When it first said so.
    #[serde(default)]
    pub taken_at: Option<Time>,
    /// Whether there is no VM any more.
    pub vm_gone: bool,
    /// Whether there is no registration any more.
    pub registration_gone: bool,
    /// VM first, whatever runs in it.
    pub forced: bool,
    /// The job that it had.
    pub job: Option<Job>,
    /// How the job ended, as far as anybody said.
    pub job_end: Option<JobEnd>,
    /// Whether this drain kills a job.
    pub job_killed: bool,
    /// Whether the VM ended before its runner was seen online, and the forge has not yet shown what
    /// that means: it removes the registration of a runner whose job is done, and keeps one that
    /// never came online.
    pub suspect: bool,
}

impl Drain {
    /// Whether it is over only because it was not found, in listings and by its number. Either may have
    /// been wrong, so that is taken back where it shows again while its VM is left a moment.
    fn is_inferred(&self) -> bool {
        let told = self.job_end.is_some() || self.forge_knows || self.guest_stopped;
        matches!(self.reason, DrainReason::Finished | DrainReason::RegistrationVanished) && !told
    }

    /// Whether somebody wishes it gone who would have it serve otherwise: then its guest is asked also where it
    /// boots still, because it may be online, and have a job, in a moment.
    fn is_wished(&self) -> bool {
        matches!(
            self.reason,
            DrainReason::Shrink | DrainReason::Outdated | DrainReason::PoolRemoved
        )
    }

    /// Whether a job that turns up now calls the drain off.
    fn may_turn_back(&self) -> bool {
        let finished = self.reason == DrainReason::Finished && !self.is_inferred();
        let over = finished || self.job_end.is_some();
        match self.step {
            Step::Settle => !self.forced && !over,
            Step::Delete => false,
            _ => !self.forced && !self.vm_gone && !over,
        }
    }

    /// Whether the VM, believed gone because no listing had it, may be running all the same: then
    /// the word that it has a job is the better one. Where it is wrong, listings prove it again.
    fn may_be_alive(&self) -> bool {
        let unproven = matches!(
            self.reason,
            DrainReason::LaunchFailed { .. } | DrainReason::Orphan | DrainReason::VmVanished
        );
        self.vm_gone && !self.forced && unproven
    }

    /// What a guest is told whose drain is called off. Orders to one guest keep their order, so the
    /// word also takes back an order whose answer is still due.
    fn word_to_go_on(&self) -> Vec<Effect> {
        if self.told { vec![Effect::GoOn] } else { Vec::new() }
    }

    /// Whether nothing can run in the VM any more.
    fn vm_dead(&self, known: &Known) -> bool {
        self.forced || self.guest_stopped || known.vm_stopped()
    }

    fn enter(&mut self, step: Step, now: Time) {
        // Asking, cordoning and deregistering share one clock and one count of failures: the drain goes to
        // and fro between them while the forge does not answer.
        let before = self.step.is_early() && !self.vm_gone;
        if self.step != step && !(before && step.is_early()) {
            self.step_since = now;
            self.tries = 0;
        }
        self.step = step;
    }

    /// Its job turns out to be over.
    fn job_ended(&mut self, end: JobEnd, now: Time) {
        self.job_end.get_or_insert(end);
        self.suspect = false;
        if self.step.is_early() && !self.vm_gone {
            self.reason = DrainReason::Finished;
            self.enter(Step::Settle, now);
        }
    }

    /// Whether a listing that began after the forge's word of the job's end contradicts it.
    fn weigh(&mut self, seen: &Observation, known: &Known) {
        let by_word_alone = self.forge_knows && !self.guest_stopped && known.told != Told::Over;
        match &seen.registration {
            Sighting::Seen(registration) if seen.registration_as_of > self.step_since => {
                self.contradicted = by_word_alone && registration.busy == Some(true);
            }
            Sighting::Absent => self.contradicted = false,
            Sighting::Seen(_) | Sighting::Unknown => {}
        }
    }

    fn failed(&mut self, error: &PortError, curve: backoff::Curve, seed: u64, now: Time) {
        if let (true, ErrorClass::RateLimited { until }) = (error.local, error.class)
            && until <= now
        {
            // It came too late, and nothing holds it back: it is decided anew.
            self.not_before = now;
            return;
        }
        // What was refused here was not tried.
        self.tries = self.tries.saturating_add(u32::from(!error.local));
        self.not_before = backoff::retry_at(error.class, self.tries, seed, curve, now);
    }

    /// Facts of a listing that end parts of the drain.
    fn learn(&mut self, seen: &Observation, known: &Known, limits: &Limits) {
        if seen.vm == Sighting::Absent {
            // Absence that was asked for needs two listings, since one may lack an entry; a surprise
            // needs proof.
            let expected = self.delete_taken && known.vm_absent.repeated();
            self.vm_gone |= expected || known.vm_absent.spans(limits.idle_proof);
        }
        if self.vm_gone
            && matches!(&seen.vm, Sighting::Seen(vm) if vm.status != VmStatus::Deleting)
            && known.blind_until.is_none_or(|blind| {
                let lag = if self.delete_taken { limits.listing_lag } else { Duration::ZERO };
                seen.vm_as_of > blind + lag
            })
        {
            // It is there after all: a create that was slow to show. Back to the careful way out, unless
            // it is to go whatever it does.
            self.vm_gone = false;
            self.delete_taken = false;
            self.not_before = self.not_before.min(seen.vm_as_of);
            self.enter(if self.forced { Step::Delete } else { Step::Ask }, seen.vm_as_of);
        }
        let over = self.vm_gone || self.vm_dead(known) || self.step == Step::Delete;
        // While the VM lives, its runner application may still be at work, and lost where the VM goes.
        if seen.registration == Sighting::Absent && over && known.registration_absent.repeated() {
            self.registration_gone = true;
        }
        if let (Sighting::Seen(_), DrainReason::LaunchFailed { .. }, 0) =
            (&seen.registration, &self.reason, self.tries)
        {
            // The forge has it after all, and a listing has told its number.
            self.not_before = self.not_before.min(seen.registration_as_of);
        }
        if matches!(seen.registration, Sighting::Seen(_)) && known.registration.is_some() {
            // It is there after all (or again): it must go before this runner is done.
            self.registration_gone &=
                known.blind_until.is_some_and(|blind| seen.registration_as_of <= blind);
        }
    }
}

/// What follows from an event while draining; `replay`: it tells of a start that was told before.
pub(super) fn next(
    since: Time,
    mut drain: Drain,
    mut known: Known,
    (event, replay): (Event, bool),
    now: Time,
    limits: &Limits,
) -> Next {
    let seed = known.seed();
    match event {
        Event::Observed(mut seen) => {
            let news = known.take_in(&mut seen);
            drain.clear_up(&seen, &mut known, now);
            drain.learn(&seen, &known, limits);
            drain.weigh(&seen, &known);
            let alive = !drain.vm_dead(&known);
            // A guest that stands down has no job and takes none: what was assigned to it goes back to
            // the queue. Told to go on, it could take it up under the deregistration on its way.
            let stands = drain.stands(now) && known.in_flight.is_some();
            let turns = drain.step != Step::Settle && drain.may_turn_back();
            if news.busy && alive && turns && !stands {
                return back_to_busy(drain, known, Job::default(), now);
            }
            let refuted = drain.is_inferred() && matches!(seen.registration, Sighting::Seen(_));
            if refuted && alive && drain.step == Step::Settle {
                return match drain.job.clone().or(news.busy.then(Job::default)) {
                    Some(job) => back_to_busy(drain, known, job, now),
                    None => resume(drain, known, now),
                };
            }
            if drain.reason == DrainReason::Orphan
                && drain.step == Step::Ask
                && matches!(known.vm_status, Some(VmStatus::Active | VmStatus::Building))
                && matches!(seen.vm, Sighting::Seen(_))
            {
                // The VM had only not been listed yet: no orphan at all.
                return resume(drain, known, now);
            }
        }
        // The forge calls a job begun that it has assigned: of a guest that stands down, see above.
        Event::JobStarted { .. } if drain.stands(now) && known.in_flight.is_some() => {}
        Event::Guest(Report::JobStarted(job), _) | Event::JobStarted { job, .. }
            if !replay && (drain.may_turn_back() || drain.may_be_alive()) =>
        {
            return back_to_busy(drain, known, job, now);
        }
        Event::Guest(Report::JobCompleted(end), _) => drain.job_ended(end, now),
        // One that is contested shortens nothing: the drain goes its careful way in any case.
        Event::JobCompleted { end, registration } if !known.contests(registration) => {
            drain.forge_knows = true;
            drain.job_ended(end, now);
        }
        Event::Guest(Report::Stopped(end), _) => {
            drain.last_word(end, &mut known, now);
        }
        Event::Answered(Answer::StoodDown(Ok(StandDown::StandingDown))) => {
            drain.stands_down = true;
            drain.answered = true;
        }
        Event::Answered(Answer::StoodDown(Ok(StandDown::Busy))) if drain.may_turn_back() => {
            drain.told = false;
            return back_to_busy(drain, known, Job::default(), now);
        }
        Event::Answered(Answer::StoodDown(Err(error))) => {
            drain.failed(&error, backoff::EFFECT, seed, now);
        }
        Event::Answered(Answer::Cordoned(Err(error))) => drain.not_cordoned(&error, seed, now),
        Event::Answered(Answer::Deregistered(Ok(()))) => {
            drain.registration_gone = true;
            drain.not_before = now;
            known.blind(now);
        }
        Event::Answered(Answer::Deregistered(Err(error))) => {
            let refused = error.class == ErrorClass::Busy;
            let alive = !drain.vm_gone && !drain.vm_dead(&known);
            if refused && alive && drain.may_turn_back() {
                return back_to_busy(drain, known, Job::default(), now);
            }
            // Where the drain went on meanwhile (the job ended, an operator forced it), it stays there.
            if drain.step == Step::Deregister {
                // Without its number it is looked for by its name, in listings.
                let known = known.registration.is_some();
                let curve = if known { backoff::EFFECT } else { backoff::LOOK_UP };
                drain.failed(&error, curve, seed, now);
            }
            if alive && drain.step == Step::Deregister {
                // An order to stand down may have lapsed meanwhile, and a proof grown old.
                drain.stands_down = false;
                drain.step = Step::Ask;
            }
        }
        Event::Answered(Answer::VmDeleted(Ok(Deletion::Gone))) => {
            drain.vm_gone = true;
            drain.delete_taken = true;
            known.blind(now);
        }
        Event::Answered(Answer::VmDeleted(Ok(Deletion::Accepted))) => {
            if !drain.delete_taken {
                (drain.delete_taken, drain.taken_at) = (true, Some(now));
                known.blind(now);
            }
            drain.tries = drain.tries.saturating_add(1);
            drain.not_before = now + backoff::delay(drain.tries, seed, backoff::DELETION);
        }
        Event::Answered(Answer::VmDeleted(Err(error))) => {
            drain.failed(&error, backoff::EFFECT, seed, now);
        }
        // Two say so, one after the other: the cloud took this deletion on, and names the VM that is deleted.
        Event::VmEnded { vm, as_of }
            if drain.delete_taken
                && known.vm.as_ref() == Some(&vm)
                && drain.taken_at.is_some_and(|taken| as_of > taken) =>
        {
            if !drain.vm_gone {
                drain.vm_gone = true;
                known.blind(now);
            }
        }
        Event::Answered(Answer::LookedUp(Ok(finding))) => {
            let alive = !drain.vm_dead(&known) && drain.step == Step::Settle;
            drain.registration_gone |= finding.registration.is_none();
            drain.looked_up = true;
            match verdict(&finding, false) {
                Verdict::AtWork if drain.step == Step::Ask && drain.may_turn_back() => {
                    return back_to_busy(drain, known, Job::default(), now);
                }
                // The forge's own answers lag behind its word for a moment.
                Verdict::AtWork
                    if alive
                        && drain.contradicted
                        && now >= drain.step_since + limits.listing_lag =>
                {
                    let job = drain.job.clone().unwrap_or_default();
                    return back_to_busy(drain, known, job, now);
                }
                Verdict::AtWork => {}
                Verdict::There | Verdict::Gone => drain.contradicted = false,
            }
        }
        Event::Force => {
            drain.forced = true;
            drain.reason = DrainReason::Forced;
            drain.not_before = now;
            drain.enter(Step::Delete, now);
        }
        // It may have gone on meanwhile, also where its answer lies here unread: it is asked again.
        Event::Woke(_) => (drain.stands_down, drain.asked_at) = (false, None),
        // Who speaks has a VM, whatever listings lacked: it is asked, as it would have been.
        Event::Guest(Report::Booted | Report::RunnerStarted | Report::Version(_), _)
            if drain.may_be_alive() =>
        {
            drain.vm_gone = false;
            drain.delete_taken = false;
            known.vm_absent.break_off();
            drain.enter(Step::Ask, now);
        }
        // Late answers of a launch were noted as facts already; a second wish adds nothing.
        Event::Tick
        | Event::VmEnded { .. }
        | Event::Drain(_)
        | Event::JobStarted { .. }
        | Event::JobCompleted { .. }
        | Event::Answered(_)
        | Event::Guest(
            Report::Booted | Report::RunnerStarted | Report::JobStarted(_) | Report::Version(_),
            _,
        ) => {}
    }
    go(since, drain, known, now, limits)
}
