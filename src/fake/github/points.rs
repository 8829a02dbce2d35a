//! GitHub's secondary limits that count: points of each endpoint in any minute (GitHub docs, "About
//! secondary rate limits"), and creations, of which it gives fewer where it wants.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{Operation, answers::Reply};

const MINUTE: Duration = Duration::from_secs(60);

/// How many there are, and what was taken of them.
#[derive(Default)]
pub(crate) struct Points {
    /// Points of an endpoint in any minute; `None`: they are not counted.
    pub(crate) of_endpoint: Option<u32>,
    /// Calls that create something in any minute, all endpoints together; `None`: as many as come.
    pub(crate) creations: Option<u32>,
    spent: BTreeMap<Operation, VecDeque<(Instant, u32)>>,
    /// Calls refused so far.
    pub(crate) refused: u64,
}

const fn creates(operation: Operation) -> bool {
    matches!(operation, Operation::JitConfig | Operation::RegistrationToken | Operation::Redeliver)
}

impl Points {
    /// The minute is over.
    pub(crate) fn turn(&mut self) {
        self.spent.clear();
    }

    /// Takes what a call costs, or refuses it.
    pub(crate) fn refuse(&mut self, operation: Operation) -> Option<Reply> {
        let now = Instant::now();
        for spent in self.spent.values_mut() {
            while spent.front().is_some_and(|(at, _)| *at + MINUTE <= now) {
                spent.pop_front();
            }
        }
        let cost = if creates(operation) || operation == Operation::Delete { 5 } else { 1 };
        let here = self.spent.get(&operation).into_iter().flatten();
        let no_points = self
            .of_endpoint
            .is_some_and(|points| here.map(|(_, cost)| cost).sum::<u32>() + cost > points);
        let created = || self.spent.iter().filter(|(operation, _)| creates(**operation));
        let no_creation = creates(operation)
            && self.creations.is_some_and(|most| {
                created().map(|(_, spent)| spent.len()).sum::<usize>() >= most as usize
            });
        if !no_points && !no_creation {
            self.spent.entry(operation).or_default().push_back((now, cost));
            return None;
        }
        self.refused += 1;
        let oldest = created().chain(self.spent.get_key_value(&operation));
        let oldest = oldest.filter_map(|(_, spent)| spent.front()).map(|(at, _)| *at).min();
        let left = oldest.map_or(MINUTE, |at| MINUTE.saturating_sub(now - at));
        let mut reply = Reply::error(
            403,
            "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
        );
        reply.headers.push(("retry-after", (left.as_secs() + 1).to_string()));
        Some(reply)
    }
}
