//! What words about a job are worth: the forge's, and the guest's own.
//!
//! A runner's name is unique within one scope only, and whoever may have webhooks delivered may name
//! any runner. So a word that carries a number counts only for the runner of that number, and one that
//! carries none is hearsay: it keeps a runner from being drained as long as listings or its guest do not
//! speak against it, and no longer. The word of an end is checked against the guest, which knows best
//! whether its job runs: while it says so, the forge's word alone ends nothing.

use serde::{Deserialize, Serialize};

use super::{Answer, Event, Known, Limits, Report};
use crate::{name::RegistrationId, port::StandDown};

/// How far a runner's guest has told of its one job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Nothing of any job.
    #[default]
    Nothing,
    /// That it has begun.
    Begun,
    /// That it, or the runner application, has ended.
    Over,
}

/// A word that a job has begun, which nothing shows to be about this runner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hearsay {
    /// The number that it bore, where it came before the runner's own was known.
    pub number: Option<RegistrationId>,
}

impl Event {
    /// The number of the registration that a word of the forge is about.
    pub(super) fn number(&self) -> Option<RegistrationId> {
        match self {
            Self::JobStarted { registration, .. } | Self::JobCompleted { registration, .. } => {
                *registration
            }
            _ => None,
        }
    }
}

impl Known {
    /// Whether a word is about somebody else's runner, which has the same name in another scope.
    pub(super) fn is_foreign(&self, event: &Event) -> bool {
        event.number().zip(self.registration).is_some_and(|(told, own)| told != own)
    }

    /// Whether a word says that a job runs here and bears no number of ours.
    pub(super) fn is_hearsay(&self, event: &Event) -> bool {
        let ours = event.number().is_some() && event.number() == self.registration;
        matches!(event, Event::JobStarted { .. }) && !ours
    }

    /// Whether a word that a job has begun was told before: one life has one start, so it is a replay,
    /// and undoes nothing.
    pub(super) fn is_replay(&self, event: &Event) -> bool {
        match event {
            Event::Guest(Report::JobStarted(_), _) => self.told != Told::Nothing,
            Event::JobStarted { .. } => self.forge_told,
            _ => false,
        }
    }

    /// Takes in what the guest has told of its job, and who bears out that there is one.
    pub(super) fn hear(&mut self, event: &Event) {
        let told = match event {
            Event::Guest(Report::JobStarted(_), _) => Told::Begun,
            Event::Guest(Report::JobCompleted(_) | Report::Stopped(_), _) => Told::Over,
            _ => Told::Nothing,
        };
        // Hearsay is no start that was told: the word with its number may come yet, and is the first one.
        self.forge_told |= matches!(event, Event::JobStarted { .. }) && !self.is_hearsay(event);
        // Reports overtake each other, and an end stays one.
        self.told = self.told.max(told);
        let borne_out = match event {
            Event::Guest(Report::JobStarted(_), _)
            | Event::Answered(Answer::StoodDown(Ok(StandDown::Busy))) => true,
            Event::JobStarted { .. } => !self.is_hearsay(event),
            _ => false,
        };
        if borne_out {
            self.hearsay = None;
        }
        if let Some(hearsay) = &mut self.hearsay
            && matches!(event, Event::JobStarted { .. })
        {
            hearsay.number = event.number().or(hearsay.number);
        }
    }

    /// Its number is known: a word that bore it before that was about this runner.
    pub(super) fn number_is(&mut self, number: RegistrationId) {
        self.registration = Some(number);
        if self.hearsay.is_some_and(|hearsay| hearsay.number == Some(number)) {
            self.hearsay = None;
            self.forge_told = true;
        }
    }

    /// Whether a word of the forge that its job is over is no more than a doubt: its guest says that the
    /// job runs, or the word does not say whose job it means.
    pub(super) fn contests(&self, registration: Option<RegistrationId>) -> bool {
        self.told == Told::Begun || registration.is_none() || registration != self.registration
    }

    /// Whether it is busy by hearsay alone, and listings have shown it without a job ever since.
    pub(super) fn hearsay_refuted(&self, limits: &Limits) -> bool {
        self.hearsay.is_some() && self.quiet.spans(limits.ask)
    }
}
