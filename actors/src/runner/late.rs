//! How late the forge's busy flag is, as one runner shows it: from a word that its job has begun to the first
//! listing that shows it, where a listing in between did not.

use serde::{Deserialize, Serialize};

use super::{Event, Known, Observation, Report, Sighting};
use crate::port::Time;

/// What one runner's job shows of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// When its job was first said to run, by somebody who knows.
    began: Option<Time>,
    /// Whether a listing that began later did not show it.
    unshown: bool,
    /// How late the flag was.
    pub by: Option<std::time::Duration>,
}

impl Known {
    /// Takes in who says that its job runs, and whether the flag does.
    pub(super) fn note_late(&mut self, event: &Event, now: Time) {
        match event {
            Event::Observed(seen) if self.registration_heard < Some(seen.registration_as_of) => {
                self.late.listed(seen);
            }
            Event::Guest(Report::JobStarted(_), _) | Event::JobStarted { .. }
                if !self.is_hearsay(event) =>
            {
                self.late.began.get_or_insert(now);
            }
            _ => {}
        }
    }
}

impl Late {
    fn listed(&mut self, seen: &Observation) {
        let Sighting::Seen(registration) = &seen.registration else { return };
        match (self.began, registration.busy) {
            (None, Some(true)) => {
                // The flag came first: it tells nothing of how late it would have been.
                self.began = Some(seen.registration_as_of);
                self.by.get_or_insert_default();
            }
            (Some(began), Some(busy)) if self.by.is_none() && seen.registration_as_of > began => {
                let late = (seen.registration_as_of - began).to_std().unwrap_or_default();
                if busy {
                    self.by = Some(if self.unshown { late } else { std::time::Duration::ZERO });
                }
                self.unshown |= !busy;
            }
            _ => {}
        }
    }
}
