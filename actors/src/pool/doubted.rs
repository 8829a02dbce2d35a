//! Listings that lack many at once.
//!
//! Runners come and go one by one, and whoever ends a runner sees it on both sides. Where a listing lacks
//! several that the other side still shows at work, or all of them, the likelier explanation is the
//! listing: a page that was lost, a filter that failed, a replica that knows nothing. What it lacks then
//! proves nothing for a while. It is bounded, because a whole cloud can be lost as well; and what is left
//! of the doubt after that is settled runner by runner, by look-ups.

use std::{collections::BTreeSet, time::Duration};

use crate::{name::RunnerName, port::Time};

/// So many at once are a doubt, where they are also [a part](PART) of those that are expected.
const MANY: usize = 2;
/// One in so many, or more.
const PART: usize = 4;
/// How long what a doubtful listing lacks proves nothing.
pub const DOUBTED_FOR: Duration = Duration::from_secs(600);

/// One side's doubtful listings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doubted {
    since: Option<Time>,
    lacking: BTreeSet<RunnerName>,
}

impl Doubted {
    /// Takes in a whole listing of `as_of`: which of the `expected` runners, those that the other side
    /// shows at work, it `lists`. A doubt lasts until none of those is lacking that it began with.
    pub fn weigh<'a>(
        &mut self,
        expected: impl Iterator<Item = &'a RunnerName>,
        lists: impl Fn(&RunnerName) -> bool,
        as_of: Time,
    ) {
        let (listed, lacking): (Vec<_>, Vec<_>) = expected.partition(|name| lists(name));
        let many = lacking.len() >= MANY && lacking.len() * PART >= listed.len() + lacking.len();
        self.lacking.retain(|name| lacking.contains(&name));
        if many {
            self.lacking.extend(lacking.into_iter().cloned());
        }
        self.since = if self.lacking.is_empty() { None } else { self.since.or(Some(as_of)) };
    }

    /// Whether what a listing of `as_of` lacks proves nothing.
    #[must_use]
    pub fn doubts(&self, as_of: Time) -> bool {
        self.since.is_some_and(|since| as_of < since + DOUBTED_FOR)
    }
}
