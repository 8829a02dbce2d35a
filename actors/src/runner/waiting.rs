//! Creating, registering, idle: a runner that waits for a job.
//!
//! One function for three states, because the same facts end them in the same way; what differs is
//! which fact moves it forward and which limit it has.

use super::{
    Answer, Drain, Event, Known, Limits, Next, Report, State, boot,
    doubt::{Verdict, verdict},
    evidence::News,
    failure_class,
};
use crate::{
    event::{DrainReason, GuestTimes, Job, Phase},
    port::{ErrorClass, PortError, Time, VmStatus},
};

/// What follows from an event while no job runs.
pub(super) fn next(state: State, event: Event, now: Time, limits: &Limits) -> Next {
    let phase = state.phase();
    let (since, wish, mut known) = match state {
        State::Creating { since, wish, known } => (since, wish, known),
        State::Registering { since, known } | State::Idle { since, known } => (since, None, known),
        other => return (other, Vec::new()),
    };
    let launching = phase == Phase::Creating && known.in_flight.is_some();
    let out = |reason: DrainReason, known: Known| Drain::new(reason, now).with(known);
    match event {
        Event::Observed(mut seen) => {
            let news = known.take_in(&mut seen);
            if launching {
                // The VM can be listed before its order is answered. What shows it at work is taken
                // at once, and must not be forgotten; anything else awaits the answer, since a drain
                // beside a launch in flight would be a second effect.
                return if news.busy && wish != Some(DrainReason::Forced) {
                    (State::Busy { since: now, job: Job::default(), known }, Vec::new())
                } else if news.online && wish.is_none() {
                    idle(None, known, now, limits)
                } else {
                    stay(phase, since, wish, known)
                };
            }
            observed(phase, since, wish, known, news, now, limits)
        }
        // The guest's or the forge's word that a job runs beats every other opinion.
        Event::Guest(Report::JobStarted(job), _) | Event::JobStarted { job, .. } => match wish {
            Some(DrainReason::Forced) => {
                Drain::new(DrainReason::Forced, now).killing(job).with(known).delete(now, limits)
            }
            _ => (State::Busy { since: now, job, known }, Vec::new()),
        },
        Event::Guest(Report::JobCompleted(end), _) => {
            let drain = Drain::new(DrainReason::Finished, now).of_job(Job::default(), Some(end));
            drain.with(known).settle(now, limits)
        }
        // Of a runner without a job, a word that does not say whom it means says nothing.
        Event::JobCompleted { registration, .. } if known.contests(registration) => {
            stay(phase, since, wish, known)
        }
        Event::JobCompleted { end, .. } => {
            let drain = Drain::new(DrainReason::Finished, now).of_job(Job::default(), Some(end));
            drain.known_to_forge().with(known).settle(now, limits)
        }
        Event::Guest(Report::Stopped(end), _) => {
            if let Some(error) = boot::failed_to_serve(&end, &known) {
                known.last_error = Some(error);
                return out(DrainReason::BootFailed, known).delete(now, limits);
            }
            let mut drain = Drain::ended(DrainReason::Finished, &known, now);
            // A guest that counts, and has counted no job, tells of no job's end.
            if boot::served(&known) || known.times == GuestTimes::default() {
                drain.job_end = Some(end);
            }
            drain.with(known).delete(now, limits)
        }
        Event::Guest(Report::RunnerStarted, _) if phase != Phase::Idle => {
            idle(wish, known, now, limits)
        }
        Event::Guest(Report::Booted, _) if phase == Phase::Creating => match wish {
            Some(reason) => wished(reason, known, now, limits),
            None => (State::Registering { since: now, known }, Vec::new()),
        },
        Event::Answered(Answer::LookedUp(Ok(finding))) => match verdict(&finding, false) {
            Verdict::AtWork => (State::Busy { since: now, job: Job::default(), known }, Vec::new()),
            Verdict::Gone if phase != Phase::Creating && known.all_gone() => {
                let drain = Drain::new(DrainReason::Finished, now).unregistered();
                drain.with(known).delete(now, limits)
            }
            Verdict::Gone if known.registration_absent.spans(limits.idle_proof) => {
                let drain = Drain::new(DrainReason::RegistrationVanished, now).unregistered();
                drain.with(known).settle(now, limits)
            }
            Verdict::There | Verdict::Gone => stay(phase, since, wish, known),
        },
        Event::Answered(Answer::Launched { .. }) => match wish {
            Some(reason) => wished(reason, known, now, limits),
            None => stay(phase, since, None, known),
        },
        Event::Answered(Answer::LaunchFailed(failure)) if phase == Phase::Creating => {
            if failure.vm_possible {
                // The next listings tell whether there is a VM; until then nothing is known.
                return stay(phase, since, wish, known);
            }
            let reason = match failure.error {
                PortError { local: true, .. } => DrainReason::HeldBack,
                PortError { class, .. } => DrainReason::LaunchFailed { class },
            };
            let mut drain = Drain::new(reason, now).vm_gone();
            drain.registration_gone = !failure.registration_possible;
            if known.registration.is_none() {
                // Listings tell whether there is one at all, for nothing, and by which number it goes.
                drain.not_before = now + limits.registration_grace;
            }
            drain.with(known).deregister(now, limits)
        }
        // Force outlasts a milder wish.
        Event::Drain(_) if launching && wish == Some(DrainReason::Forced) => {
            stay(phase, since, wish, known)
        }
        Event::Drain(reason) if launching => stay(phase, since, Some(reason), known),
        Event::Force if launching => stay(phase, since, Some(DrainReason::Forced), known),
        Event::Drain(reason) => out(reason, known).ask(now, limits),
        Event::Force => out(DrainReason::Forced, known).delete(now, limits),
        Event::Tick
            if known.in_flight.is_none()
                && now >= known.limit_after_gap(since + limit(phase, limits), limits) =>
        {
            match wish {
                Some(reason) => wished(reason, known, now, limits),
                None => out(DrainReason::Overdue { phase }, known).ask(now, limits),
            }
        }
        // Nobody asked for that: whole listings and a look-up settle what became of it.
        Event::VmEnded { .. }
        | Event::Tick
        | Event::Woke(_)
        | Event::Answered(_)
        | Event::Guest(..) => stay(phase, since, wish, known),
    }
}

/// What a listing means for a runner without a job, most certain facts first.
fn observed(
    phase: Phase,
    since: Time,
    wish: Option<DrainReason>,
    mut known: Known,
    news: News,
    now: Time,
    limits: &Limits,
) -> Next {
    let out = |reason: DrainReason, known: Known| Drain::new(reason, now).with(known);
    if wish == Some(DrainReason::Forced) {
        return wished(DrainReason::Forced, known, now, limits);
    }
    if known.vm_stopped() {
        // Powered off by itself: the job came and went between two listings, or the guest gave up.
        return Drain::ended(DrainReason::Finished, &known, now).with(known).delete(now, limits);
    }
    if phase != Phase::Creating && known.all_gone() && known.asked_in_vain(now, limits) {
        // Its VM is deleted by name, and that is the second witness.
        let drain = Drain::new(DrainReason::Finished, now).unregistered();
        return drain.with(known).delete(now, limits);
    }
    if known.vm_gone(limits.idle_proof) {
        let drain = match phase {
            Phase::Creating => {
                Drain::new(DrainReason::LaunchFailed { class: failure_class(&known) }, now)
            }
            _ => Drain::ended(DrainReason::VmVanished, &known, now),
        };
        return drain.vm_gone().with(known).deregister(now, limits);
    }
    let unheard = phase == Phase::Creating && !known.was_online && !known.reports;
    if let (true, Some(VmStatus::Error { class, fault })) = (unheard, &known.vm_status)
        && matches!(class, ErrorClass::NoCapacity | ErrorClass::Quota | ErrorClass::Invalid)
    {
        // No host took it, so nothing can run in it: its place is freed at once.
        let class = *class;
        known.last_error = Some(PortError::certain(class, fault.clone()));
        return out(DrainReason::LaunchFailed { class }, known).delete(now, limits);
    }
    if news.busy {
        return (State::Busy { since: now, job: Job::default(), known }, Vec::new());
    }
    if let Some(VmStatus::Error { class, fault }) = &known.vm_status {
        // It ran before or may have, so a job may run in it still: the careful way out.
        let class = *class;
        known.last_error = Some(PortError::certain(class, fault.clone()));
        let reason = match phase {
            Phase::Creating => DrainReason::LaunchFailed { class },
            _ => DrainReason::VmFailed,
        };
        return out(reason, known).ask(now, limits);
    }
    if known.registration_absent.spans(limits.idle_proof) && known.asked_in_vain(now, limits) {
        // Nobody can say more of it: the careful way out.
        return out(DrainReason::RegistrationVanished, known).ask(now, limits);
    }
    if phase == Phase::Idle && known.offline.spans(limits.register) {
        return out(DrainReason::Overdue { phase: Phase::Registering }, known).ask(now, limits);
    }
    if news.online && phase != Phase::Idle {
        return idle(wish, known, now, limits);
    }
    if phase == Phase::Creating && known.vm_status == Some(VmStatus::Active) {
        return match wish {
            Some(reason) => wished(reason, known, now, limits),
            None => (State::Registering { since: now, known }, Vec::new()),
        };
    }
    stay(phase, since, wish, known)
}

fn idle(wish: Option<DrainReason>, known: Known, now: Time, limits: &Limits) -> Next {
    match wish {
        Some(reason) => wished(reason, known, now, limits),
        None => (State::Idle { since: now, known }, Vec::new()),
    }
}

/// A drain that was wished for while the launch was in flight.
fn wished(reason: DrainReason, known: Known, now: Time, limits: &Limits) -> Next {
    let forced = reason == DrainReason::Forced;
    let out = Drain::new(reason, now).with(known);
    if forced { out.delete(now, limits) } else { out.ask(now, limits) }
}

fn limit(phase: Phase, limits: &Limits) -> std::time::Duration {
    match phase {
        Phase::Creating => limits.launch,
        Phase::Registering => limits.register,
        _ => limits.idle,
    }
}

fn stay(phase: Phase, since: Time, wish: Option<DrainReason>, known: Known) -> Next {
    let state = match phase {
        Phase::Creating => State::Creating { since, wish, known },
        Phase::Registering => State::Registering { since, known },
        _ => State::Idle { since, known },
    };
    (state, Vec::new())
}
