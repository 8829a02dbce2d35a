//! Demand: how many jobs wait and run for a pool, as far as somebody knows.
//!
//! Sources differ in what they can know. A webhook tells of each job, a scale set counts for itself, a
//! planner names one number, a guest knows its own job only. What they say is joined by one rule:
//! *each number is the largest that any source names, and it is exact only where every source is.*
//! Sources of one pool mostly describe the same jobs, so adding them would pay for each job twice;
//! where one of them is silent, the others may make the pool grow, and nobody may make it shrink.

use serde::{Deserialize, Serialize};

use crate::port::Time;

/// How sure a source is of its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sure {
    /// There may be more: the pool may grow by it, and must not shrink by it.
    AtLeast,
    /// These are all.
    Exact,
}

/// Jobs that wait and run for a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Jobs without a runner.
    pub waiting: u32,
    /// Jobs with one.
    pub running: u32,
    /// When this was true.
    pub as_of: Time,
    /// Whether these are all.
    pub sure: Sure,
}

impl Demand {
    /// A demand that counts every job.
    #[must_use]
    pub fn exact(waiting: u32, running: u32, as_of: Time) -> Self {
        Self { waiting, running, as_of, sure: Sure::Exact }
    }

    /// A demand that may overlook jobs.
    #[must_use]
    pub fn at_least(waiting: u32, running: u32, as_of: Time) -> Self {
        Self { waiting, running, as_of, sure: Sure::AtLeast }
    }
}

/// What several sources of one pool say together; `None` = unknown, for a part and for the whole.
#[must_use]
pub fn combine(parts: &[Option<Demand>]) -> Option<Demand> {
    let silent = parts.iter().any(Option::is_none);
    let whole = parts.iter().flatten().copied().reduce(|one, other| Demand {
        waiting: one.waiting.max(other.waiting),
        running: one.running.max(other.running),
        as_of: one.as_of.min(other.as_of),
        sure: one.sure.min(other.sure),
    })?;
    Some(Demand { sure: if silent { Sure::AtLeast } else { whole.sure }, ..whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap_or_default()
    }

    #[test]
    fn sources_that_see_the_same_jobs_do_not_pay_for_them_twice() {
        let (hook, busy) = (Demand::exact(3, 1, at(5)), Demand::exact(0, 2, at(4)));
        assert_eq!(combine(&[Some(hook), Some(busy)]), Some(Demand::exact(3, 2, at(4))));
    }

    #[test]
    fn a_silent_source_leaves_the_others_to_grow_the_pool_and_nobody_to_shrink_it() {
        let busy = Demand::exact(0, 2, at(4));
        assert_eq!(combine(&[None, Some(busy)]), Some(Demand::at_least(0, 2, at(4))));
        let unsure = Demand::at_least(1, 0, at(1));
        assert_eq!(combine(&[Some(unsure), Some(busy)]), Some(Demand::at_least(1, 2, at(1))));
    }

    #[test]
    fn where_nobody_knows_anything_demand_is_unknown() {
        assert_eq!(combine(&[None, None]), None);
        assert_eq!(combine(&[]), None);
    }
}
