//! Mutants of the brain's own rules: a step is taken with facts that the rule would have kept away.

use std::time::Duration;

use super::{Mutant, world::Pool};
use crate::{
    port::{Finding, Time},
    runner::{Answer, Effect, Event, Limits, Next, State, Told},
};

/// One step of a runner, as `State::next` takes it; or as a mutant takes it.
pub(super) fn next(
    mutant: Option<Mutant>,
    mut state: State,
    mut event: Event,
    now: Time,
    config: &Pool,
) -> Next {
    let limits = &config.believed;
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
        _ => {}
    }
    state.next(event, now, limits)
}
