//! Cordons: a runner that nobody can ask is taken out of the way of new jobs before it is deregistered.
//!
//! A job that began a moment ago, under a flag that comes late, lies inside any quiet run of listings. So the
//! forge is first told to give the runner nothing more, and what it had given before shows while the runner is
//! watched. Both are witnesses and neither is a proof: the forge may give jobs past a cordon (actions/runner#4225
//! tells of labels that a replaced runner no longer had and that jobs came by), so a job that can only have come
//! after the cordon is told to whoever plans.
//!
//! Whoever is not on its way out must not stay behind a cordon: it would be idle and useless for ever. So putting
//! it back is a duty of every waiting runner, whoever cordoned it: this drain, an earlier process (a listing shows
//! it), or a call that was given up and acted late. One that cannot be put back is drained.

use serde::{Deserialize, Serialize};

use super::{Answer, Drain, Effect, Event, Known, Limits, Sighting, State};
use crate::{
    backoff,
    event::{DrainReason, Phase},
    port::{ErrorClass, PortError, Registration, Time},
};

/// So often it is tried to put a runner back before it is drained instead.
pub(super) const TRIES: u32 = 5;

/// What is known of a runner's cordon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cordon {
    /// Whether it may be cordoned: it was asked for, or a listing shows it.
    pub up: bool,
    /// Whether an answer to that was lost: then no refusal says that it is not.
    pub doubtful: bool,
    /// Since when it certainly is, by the forge's answer; a listing tells no time.
    pub since: Option<Time>,
    /// When it was last put back, by the forge's answer.
    pub lifted: Option<Time>,
    /// How often it was tried to put it back.
    pub tries: u32,
    /// When that is next due.
    pub not_before: Option<Time>,
    /// Whether a job came to it that can only have begun behind the cordon.
    pub leaked: bool,
}

impl Cordon {
    /// Nothing holds jobs off any more, as far as anybody knows. How often that was tried is forgotten once a
    /// listing shows it.
    fn lift(&mut self) {
        let Self { leaked, lifted, tries, .. } = *self;
        *self = Self { leaked, lifted, tries, ..Self::default() };
    }

    /// A listing shows whether it is cordoned.
    pub(super) fn seen(&mut self, registration: &Registration, as_of: Time, limits: &Limits) {
        let knows = |at: Option<Time>| at.is_none_or(|at| as_of > at + limits.listing_lag);
        match registration.cordoned {
            Some(true) if knows(self.lifted) => self.up = true,
            Some(false) if knows(self.lifted.max(self.since)) => {
                // Put back by us, or by somebody else.
                self.tries = 0;
                if self.since.is_some() {
                    self.lift();
                }
            }
            _ => {}
        }
    }
}

impl Known {
    /// What an event tells of its cordon.
    pub(super) fn note_cordon(&mut self, event: &Event, now: Time, limits: &Limits) {
        if self.has_leaked(event, now, limits) {
            self.cordon.leaked = true;
        }
        match event {
            Event::Observed(seen) => {
                if let Sighting::Seen(registration) = &seen.registration
                    && self.registration_heard < Some(seen.registration_as_of)
                {
                    self.cordon.seen(registration, seen.registration_as_of, limits);
                }
            }
            Event::Answered(Answer::Cordoned(Ok(()))) => {
                self.cordon.up = true;
                self.cordon.tries = 0;
                self.cordon.since.get_or_insert(now);
            }
            Event::Answered(Answer::Cordoned(Err(error))) => {
                self.cordon.doubtful |= !error.certain;
                self.cordon.up &= self.cordon.doubtful;
            }
            Event::Answered(Answer::Uncordoned(Ok(()))) => {
                self.cordon.lift();
                self.cordon.lifted = Some(now);
            }
            Event::Answered(Answer::Uncordoned(Err(error))) => {
                // What was refused here was not tried.
                self.cordon.tries = self.cordon.tries.saturating_sub(u32::from(error.local));
                let (tries, seed) = (self.cordon.tries, self.seed());
                let at = backoff::retry_at(error.class, tries, seed, backoff::EFFECT, now);
                self.cordon.not_before = Some(at);
            }
            _ => {}
        }
    }

    /// Whether an event shows a job that began after the cordon held: what was seen may be as old as the forge
    /// was ever late.
    fn has_leaked(&self, event: &Event, now: Time, limits: &Limits) -> bool {
        let seen_at = match event {
            Event::Observed(seen) => match &seen.registration {
                Sighting::Seen(one) if one.busy == Some(true) => Some(seen.registration_as_of),
                _ => None,
            },
            Event::JobStarted { .. } if !self.is_hearsay(event) && !self.is_replay(event) => {
                Some(now)
            }
            Event::Answered(Answer::Deregistered(Err(PortError {
                class: ErrorClass::Busy,
                ..
            }))) => Some(now),
            _ => None,
        };
        let watched = self.cordon.since.map(|since| since + limits.watch);
        seen_at.zip(watched).is_some_and(|(seen_at, watched)| seen_at > watched)
    }
}

impl State {
    /// When the runner's cordon is next to be taken off, where it has one and is not on its way out. A runner
    /// at work serves no second job: there it is given up after a few tries.
    pub(super) fn uncordon_due(&self) -> Option<Time> {
        let known = self.known().filter(|known| known.in_flight.is_none())?;
        let waits =
            self.phase() < Phase::Busy || self.phase() == Phase::Busy && known.cordon.tries < TRIES;
        (known.cordon.up && waits).then(|| known.cordon.not_before.unwrap_or(self.since()))
    }

    /// Takes its cordon off where it is not on its way out; one that cannot be put back is drained.
    pub(super) fn uncordon(mut self, now: Time, limits: &Limits) -> (Self, Option<Effect>) {
        if self.uncordon_due().is_none_or(|due| now < due) {
            return (self, None);
        }
        if self.phase() < Phase::Busy
            && self.known().is_some_and(|known| known.cordon.tries >= TRIES)
        {
            let Some(known) = self.known_mut().map(std::mem::take) else { return (self, None) };
            let known = Known { cordon: Cordon { tries: 0, ..known.cordon }, ..known };
            let (state, effects) =
                Drain::new(DrainReason::Cordoned, now).with(known).ask(now, limits);
            return (state, effects.into_iter().next());
        }
        let effect = self.known_mut().map(|known| {
            let seed = known.seed();
            let cordon = &mut known.cordon;
            // From here on it may be off: a job that comes is no sign of anything.
            cordon.since = None;
            cordon.tries = cordon.tries.saturating_add(1);
            cordon.not_before = Some(now + backoff::delay(cordon.tries, seed, backoff::EFFECT));
            known.fly(Effect::Uncordon, now, limits);
            Effect::Uncordon
        });
        (self, effect)
    }
}
