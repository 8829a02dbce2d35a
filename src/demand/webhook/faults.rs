//! What was wrong with deliveries whose signature was good: whoever set the webhook up must hear of it.
//! Each kind is logged once and counted from then on, because a wrong setting is wrong for each delivery.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use runner_fleet_actors::foreign::Words;

/// What kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Blame {
    /// A header is missing that GitHub always sends.
    Headers,
    /// The body is not what GitHub documents for its event.
    Unreadable,
    /// The disk did not take it.
    NotKept,
}

impl Blame {
    fn as_str(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Unreadable => "unreadable",
            Self::NotKept => "not-kept",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Blames(Mutex<Blamed>);

#[derive(Debug, Default)]
struct Blamed {
    counts: BTreeMap<Blame, u64>,
    last: Option<Words>,
}

impl Blames {
    /// Counts a fault, and says it where it is the first of its kind.
    pub fn blame(&self, kind: Blame, why: &str) {
        let why = Words::from(why);
        if self.count(kind, &why) == 1 {
            tracing::warn!(
                kind = kind.as_str(), %why,
                "a webhook delivery with a good signature is refused; further ones of this kind are \
                 counted in the status"
            );
        } else {
            tracing::debug!(kind = kind.as_str(), %why, "a webhook delivery is refused");
        }
    }

    /// Counts a fault that is said elsewhere. How many of its kind there have been.
    pub fn count(&self, kind: Blame, why: &str) -> u64 {
        let mut blamed = self.lock();
        blamed.last = Some(why.into());
        let count = blamed.counts.entry(kind).or_default();
        *count += 1;
        *count
    }

    /// How many of each kind.
    pub fn counted(&self) -> BTreeMap<String, u64> {
        let counts = self.lock().counts.clone();
        counts.into_iter().map(|(kind, count)| (kind.as_str().to_owned(), count)).collect()
    }

    /// The last one, for a person.
    pub fn last(&self) -> Option<Words> {
        self.lock().last.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Blamed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
