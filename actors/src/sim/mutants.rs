//! Mutants of the brain's own rules: a step is taken with facts that the rule would have kept away.

use std::time::Duration;

use super::Mutant;
use crate::{
    port::{Finding, Time},
    runner::{Answer, Cordon, Effect, Event, Limits, Next, State, Told},
};

/// One step of a runner, as `State::next` takes it; or as a mutant takes it.
pub(super) fn next(
    mutant: Option<Mutant>,
    mut state: State,
    mut event: Event,
    now: Time,
    limits: &Limits,
) -> Next {
    match (mutant, &mut event) {
        (Some(Mutant::BelievesLists), Event::Answered(Answer::LookedUp(found))) => {
            *found = Ok(Finding::default());
        }
        (
            Some(Mutant::TakesEveryWord),
            Event::JobStarted { registration, .. } | Event::JobCompleted { registration, .. },
        ) => *registration = state.known().and_then(|known| known.registration),
        (Some(Mutant::OldQuiet), Event::Drain(_)) => {
            return state.next(event, now - Duration::from_secs(120), limits);
        }
        (Some(Mutant::AnyOrder), Event::Observed(_)) => {
            if let Some(known) = state.known_mut() {
                (known.vm_heard, known.registration_heard) = (None, None);
            }
        }
        (Some(Mutant::LaunchBlindsNothing), Event::Answered(answer))
            if answer.effect() == Effect::Launch =>
        {
            let limits = Limits { listing_lag: Duration::ZERO, ..limits.clone() };
            return state.next(event, now, &limits);
        }
        (Some(Mutant::EveryStart), Event::Guest(..)) => {
            if let Some(known) = state.known_mut() {
                known.told = Told::Nothing;
            }
        }
        (Some(Mutant::BelievesDeletions), Event::VmEnded { .. }) => {
            if let State::Draining { drain, .. } = &mut state {
                (drain.delete_taken, drain.taken_at) = (true, Some(Time::UNIX_EPOCH));
            }
        }
        (Some(Mutant::NeverUncordons), _) => {
            let (mut state, mut effects) = state.next(event, now, limits);
            if effects.contains(&Effect::Uncordon) {
                effects.retain(|effect| *effect != Effect::Uncordon);
                if let Some(known) = state.known_mut() {
                    (known.in_flight, known.cordon) = (None, Cordon::default());
                }
            }
            return (state, effects);
        }
        _ => {}
    }
    state.next(event, now, limits)
}
