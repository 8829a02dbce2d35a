//! What is wrong while it lasts, and what an operator should know of until the next start.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use runner_fleet_actors::port::Time;

/// Notes that are kept; more of them say nothing new.
const NOTES: usize = 20;

/// Something that does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What does not work, such as `the ledger /var/lib/runner-fleet/demand.sqlite`.
    pub of: String,
    /// Since when.
    pub since: Time,
    /// What was tried, what came back, what to do.
    pub what: String,
}

/// Troubles by what they are of. Whoever has one begins it and ends it; readiness and status show them
/// meanwhile. Each is logged once when it begins and once when it ends. Cheap to share.
#[derive(Debug, Clone, Default)]
pub struct Troubles(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    lasting: BTreeMap<String, Trouble>,
    notes: Vec<(Time, String)>,
}

impl Troubles {
    /// Something does not work, or still does not, as `what` says now.
    pub fn begin(&self, of: &str, what: String) {
        let mut known = self.known();
        match known.lasting.get_mut(of) {
            Some(trouble) => trouble.what = what,
            None => {
                tracing::error!(%of, %what, "trouble");
                let trouble = Trouble { of: of.to_owned(), since: chrono::Utc::now(), what };
                known.lasting.insert(of.to_owned(), trouble);
            }
        }
    }

    /// It works.
    pub fn end(&self, of: &str) {
        if let Some(trouble) = self.known().lasting.remove(of) {
            tracing::info!(%of, since = %trouble.since, "works again");
        }
    }

    /// The trouble of that name, while it lasts.
    #[must_use]
    pub fn of(&self, of: &str) -> Option<Trouble> {
        self.known().lasting.get(of).cloned()
    }

    /// All that lasts, for a person, as readiness gives its reasons.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let told = |trouble: &Trouble| {
            format!("{}: {} (since {})", trouble.of, trouble.what, trouble.since.format("%FT%TZ"))
        };
        self.known().lasting.values().map(told).collect()
    }

    /// Something happened that an operator should know of, though all works.
    pub fn note(&self, text: String) {
        let mut known = self.known();
        if known.notes.len() >= NOTES {
            known.notes.remove(0);
        }
        known.notes.push((chrono::Utc::now(), text));
    }

    /// What was noted since the start, and when.
    #[must_use]
    pub fn notes(&self) -> Vec<(Time, String)> {
        self.known().notes.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
