//! The way through a drain: how far the facts take it, and what is asked for there.

use std::time::Duration;

use super::{Drain, Step, cordon::Way};
use crate::{
    event::{DrainReason, Job},
    port::Time,
    runner::{Effect, Known, Limits, Next, State},
};

/// How long a guest that was never heard is asked, before it is taken for one that cannot answer.
const BOOTS: Duration = Duration::from_secs(2 * 60);

/// Takes the drain as far as the facts allow, up to one effect.
pub(super) fn go(since: Time, mut drain: Drain, known: Known, now: Time, limits: &Limits) -> Next {
    if drain.vm_gone && drain.registration_gone {
        return (State::Deleted { since: now, reason: drain.reason }, Vec::new());
    }
    if known.in_flight.is_some() {
        return hold(since, drain, known);
    }
    // Each pass moves one step further, and there are five: the bound is never met.
    for _ in 0..8 {
        let (step, effect) = match drain.step {
            Step::Ask => {
                let give_up = drain.step_since + limits.ask;
                // A guest that can answer is asked; only where it cannot, or was asked in vain all
                // the time, listings must do, and one of them must be newer than the drain.
                // One that boots still is asked for as long as that takes: it may have a job in a moment.
                let boots = drain.is_wished() && now < drain.step_since + BOOTS;
                let answers = known.answers(limits) || boots && limits.guests_report;
                let in_vain = answers && !drain.answered && now >= give_up;
                let fresh = known.quiet.is_fresh(now);
                let silent = in_vain && fresh && known.quiet.spans(limits.ask);
                let quiet = !answers
                    && known.quiet.spans(limits.idle_proof)
                    && known.quiet.newer_than(drain.step_since);
                let mute = quiet && fresh;
                // What listings lack they have not shown quiet.
                let unlisted = quiet && known.registration_absent.begun() && !drain.looked_up;
                let proven = drain.stands(now) || silent || mute;
                let over = drain.vm_gone || drain.vm_dead(&known);
                if !over && !drain.stands(now) && unlisted && now < give_up {
                    return look_first(since, drain, known, give_up, now, limits);
                } else if drain.vm_gone {
                    (Step::Deregister, None)
                } else if drain.vm_dead(&known) {
                    (Step::Delete, None)
                } else if proven && !drain.registration_gone {
                    (Step::Cordon, None)
                } else if drain.registration_gone {
                    (Step::Settle, None)
                } else if now >= give_up {
                    return resume(drain, known, now);
                } else if answers && now >= drain.not_before {
                    return call(since, drain, known, Effect::StandDown, now, limits);
                } else {
                    let until = if boots { drain.step_since + BOOTS } else { give_up };
                    drain.due = if answers { drain.not_before.min(until) } else { give_up };
                    return hold(since, drain, known);
                }
            }
            // What showed it quiet is broken off or too old, or it is gone: that is settled there.
            Step::Cordon if !drain.is_shown_quiet(&known, now) => (Step::Ask, None),
            Step::Cordon => match drain.beyond_quiet(&known, now, limits) {
                // Where it has to wait it waits here, so that what allows it is looked at again.
                Way::On if now < drain.not_before => {
                    let holds = drain.holds_until(&known, now).unwrap_or(drain.not_before);
                    drain.due = drain.not_before.min(holds);
                    return hold(since, drain, known);
                }
                Way::On => (Step::Deregister, Some(Effect::Deregister)),
                Way::Ask => (Step::Cordon, Some(Effect::Cordon)),
                Way::GiveUp => return resume(drain, known, now),
                Way::Wait(until) => {
                    drain.due = until;
                    return hold(since, drain, known);
                }
            },
            Step::Deregister => {
                if drain.registration_gone {
                    (Step::Settle, None)
                } else if !drain.vm_gone && drain.vm_dead(&known) {
                    (Step::Delete, None)
                } else if !drain.vm_gone {
                    (Step::Ask, None)
                } else if let Some(until) = waits(&drain, &known, Effect::Deregister, now, limits) {
                    drain.due = until;
                    return hold(since, drain, known);
                } else {
                    (Step::Deregister, Some(Effect::Deregister))
                }
            }
            Step::Settle => {
                let over = drain.step_since + patience(&drain, &known, limits);
                if drain.vm_gone {
                    (Step::Deregister, None)
                } else if drain.contradicted && !drain.vm_dead(&known) {
                    return look_up(since, drain, known, now, limits);
                } else if drain.vm_dead(&known) || now >= over {
                    drain.not_before = drain.not_before.min(now);
                    (Step::Delete, None)
                } else {
                    drain.due = over;
                    return settle(since, drain, known, now, limits);
                }
            }
            Step::Delete => {
                if drain.vm_gone {
                    let vanishes = drain.reason == DrainReason::Finished;
                    drain.not_before = if vanishes { now + limits.registration_grace } else { now };
                    (Step::Deregister, None)
                } else if let Some(until) = waits(&drain, &known, Effect::DeleteVm, now, limits) {
                    drain.due = until;
                    return hold(since, drain, known);
                } else {
                    (Step::Delete, Some(Effect::DeleteVm))
                }
            }
        };
        drain.enter(step, now);
        if let Some(effect) = effect {
            return call(since, drain, known, effect, now, limits);
        }
    }
    hold(since, drain, known)
}

/// Until when a removal waits: after failures, and after a gap for its side to be listed.
fn waits(drain: &Drain, known: &Known, effect: Effect, now: Time, limits: &Limits) -> Option<Time> {
    let look = known.looks_first(effect, now, limits).filter(|_| !drain.forced);
    look.into_iter().chain(Some(drain.not_before).filter(|until| now < *until)).max()
}

fn call(
    since: Time,
    mut drain: Drain,
    mut known: Known,
    effect: Effect,
    now: Time,
    limits: &Limits,
) -> Next {
    if effect == Effect::StandDown {
        drain.told = true;
        drain.stands_down = false;
        drain.asked_at = Some(now);
    }
    known.cordon.up |= effect == Effect::Cordon;
    known.fly(effect, now, limits);
    (State::Draining { since, drain, known }, vec![effect])
}

pub(super) fn hold(since: Time, drain: Drain, known: Known) -> Next {
    (State::Draining { since, drain, known }, Vec::new())
}

/// How long the VM may take to end by itself. The job's hook has reported before the runner
/// application tells the forge of the job's end; while the forge is out of reach that takes minutes,
/// and without it the forge would take the job for lost.
fn patience(drain: &Drain, known: &Known, limits: &Limits) -> Duration {
    let told = drain.forge_knows || drain.registration_gone;
    let untold = drain.reason == DrainReason::Finished && known.answers(limits) && !told;
    if untold { limits.settle.max(limits.last_words) } else { limits.settle }
}

/// Waits for the VM's own end. A guest that stands down would wait with it: once its registration is
/// gone, it is told to end. One whose answer was lost is not told, because it may have found a job. Where
/// lists lack its registration, it is looked up whether there is nobody any more to be told anything.
fn settle(since: Time, mut drain: Drain, mut known: Known, now: Time, limits: &Limits) -> Next {
    let first = drain.stands_down && drain.registration_gone && !drain.ended;
    drain.ended |= first;
    let mut effects = if first { vec![Effect::End] } else { Vec::new() };
    let told = drain.forge_knows || drain.registration_gone;
    let unlisted = !told && known.registration_absent.spans(limits.idle_proof);
    effects.extend(known.look_into(unlisted, now, limits));
    if let Some(doubt) = known.doubt {
        drain.due = drain.due.min(doubt.not_before);
    }
    (State::Draining { since, drain, known }, effects)
}

/// Looks it up before the drain goes on, until `give_up`: where nothing but lists that lack it speaks for
/// its being quiet, before it is deregistered.
fn look_first(
    since: Time,
    mut drain: Drain,
    mut known: Known,
    give_up: Time,
    now: Time,
    limits: &Limits,
) -> Next {
    let effects: Vec<_> = known.look_into(true, now, limits).into_iter().collect();
    drain.due = known.doubt.map_or(give_up, |doubt| doubt.not_before.min(give_up));
    (State::Draining { since, drain, known }, effects)
}

/// Listings contradict the word of its end: nothing goes before a look-up has settled that, and where
/// none can for as long as a drain asks, the runner is taken for one at work.
fn look_up(since: Time, drain: Drain, known: Known, now: Time, limits: &Limits) -> Next {
    let give_up = drain.step_since + limits.ask;
    if now >= give_up {
        let job = drain.job.clone().unwrap_or_default();
        return back_to_busy(drain, known, job, now);
    }
    look_first(since, drain, known, give_up, now, limits)
}

/// A job was there after all.
pub(super) fn back_to_busy(drain: Drain, known: Known, job: Job, now: Time) -> Next {
    (State::Busy { since: now, job, known }, drain.word_to_go_on())
}

/// Nobody could say whether a job runs: the drain is given up, and the pool may ask again later.
pub(super) fn resume(drain: Drain, mut known: Known, now: Time) -> Next {
    let effects = drain.word_to_go_on();
    known.blind(now);
    let state = if known.was_online {
        State::Idle { since: now, known }
    } else {
        State::Registering { since: now, known }
    };
    (state, effects)
}
