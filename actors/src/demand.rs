//! Demand: how many jobs wait and run for a pool, as far as somebody knows.
//!
//! Sources differ in what they can know. A webhook tells of each job, a scale set counts for itself, a
//! planner names one number, a guest knows its own job only. What they say is joined by one rule:
//! *each number is the largest that any source names, and it is exact only where every source is.*
//! Sources of one pool mostly describe the same jobs, so adding them would pay for each job twice;
//! where one of them is silent, what was wanted last holds, the others may make the pool grow, and
//! nobody may make it shrink.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::port::Time;

/// How sure a source is of its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sure {
    /// A source says nothing at the moment: what was wanted last is held, and may grow.
    Silent,
    /// There may be more: these are served, and nobody is drained.
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
    Some(Demand { sure: if silent { Sure::Silent } else { whole.sure }, ..whole })
}

/// How long a runner that has just become busy counts as one that has taken a job from a source's
/// waiting ones, before its job counts as one that the source does not know: as long as the slowest
/// source needs to tell that a job has begun.
pub const NEWS_LAG: Duration = Duration::from_secs(45);

/// What has just happened to a pool's busy runners, and not every source may have heard of yet.
#[derive(Debug, Clone, Default)]
pub struct News {
    running: u32,
    /// When jobs began and ended, the oldest first; those that every source has heard of by now are left out.
    begun: VecDeque<Time>,
    ended: VecDeque<Time>,
}

/// Jobs that began or ended within [`NEWS_LAG`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fresh {
    /// Runners that are busy since then: a source may count their jobs among those that wait.
    pub begun: u32,
    /// Runners that are busy no more: a source may count their jobs among those that run.
    pub ended: u32,
}

impl News {
    /// So many runners are busy now.
    pub fn fresh(&mut self, running: u32, now: Time) -> Fresh {
        for _ in self.running..running {
            self.begun.push_back(now);
        }
        // The job that ended may be any; the oldest news is the first that everybody has.
        for _ in running..self.running {
            self.begun.pop_front();
            self.ended.push_back(now);
        }
        self.running = running;
        for news in [&mut self.begun, &mut self.ended] {
            while news.front().is_some_and(|at| *at + NEWS_LAG <= now) {
                news.pop_front();
            }
        }
        let count = |news: &VecDeque<Time>| u32::try_from(news.len()).unwrap_or(u32::MAX);
        Fresh { begun: count(&self.begun), ended: count(&self.ended) }
    }

    /// When something of it stops being news.
    #[must_use]
    pub fn again_at(&self) -> Option<Time> {
        let fronts = self.begun.front().into_iter().chain(self.ended.front());
        fronts.min().map(|at| *at + NEWS_LAG)
    }
}

/// What the sources of a pool and the pool itself say together. A runner knows of its job before any source
/// does: until the source follows, the same job waits in one number and runs in the other, and one that is
/// over runs in the source's number still. Neither is a job that wants a runner.
#[must_use]
pub fn join(busy: Option<Demand>, sources: &[Option<Demand>], fresh: Fresh) -> Option<Demand> {
    if sources.is_empty() {
        return busy;
    }
    let told = combine(sources);
    let Some(busy) = busy else {
        // A pool that does not know its runners yet is no source that has gone silent.
        return told.map(|told| Demand { sure: told.sure.min(Sure::AtLeast), ..told });
    };
    let told = told.map(|told| {
        let begun = busy.running.saturating_sub(told.running).min(fresh.begun);
        let ended = told.running.saturating_sub(busy.running).min(fresh.ended);
        Demand {
            waiting: told.waiting.saturating_sub(begun),
            running: told.running - ended,
            ..told
        }
    });
    combine(&[Some(busy), told])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap_or_default()
    }

    fn begun(begun: u32) -> Fresh {
        Fresh { begun, ended: 0 }
    }

    #[test]
    fn sources_that_see_the_same_jobs_do_not_pay_for_them_twice() {
        let (hook, busy) = (Demand::exact(3, 1, at(5)), Demand::exact(0, 2, at(4)));
        assert_eq!(combine(&[Some(hook), Some(busy)]), Some(Demand::exact(3, 2, at(4))));
    }

    #[test]
    fn a_silent_source_leaves_the_others_to_grow_the_pool_and_nobody_to_shrink_it() {
        let busy = Demand::exact(0, 2, at(4));
        let silent = Demand { sure: Sure::Silent, ..busy };
        assert_eq!(combine(&[None, Some(busy)]), Some(silent));
        assert_eq!(combine(&[Some(silent), Some(busy)]), Some(silent));
        let unsure = Demand::at_least(1, 0, at(1));
        assert_eq!(combine(&[Some(unsure), Some(busy)]), Some(Demand::at_least(1, 2, at(1))));
    }

    #[test]
    fn a_job_that_a_runner_has_just_taken_does_not_wait_as_well() {
        let (busy, told) = (Demand::exact(0, 3, at(5)), Demand::exact(2, 2, at(4)));
        assert_eq!(join(Some(busy), &[Some(told)], begun(1)), Some(Demand::exact(1, 3, at(4))));
        assert_eq!(join(Some(busy), &[Some(told)], begun(0)), Some(Demand::exact(2, 3, at(4))));
        assert_eq!(join(Some(busy), &[Some(told)], begun(9)), Some(Demand::exact(1, 3, at(4))));
    }

    #[test]
    fn runners_busy_with_jobs_that_no_source_knows_starve_nobody_that_waits() {
        let (busy, told) = (Demand::exact(0, 5, at(5)), Demand::exact(2, 0, at(4)));
        assert_eq!(join(Some(busy), &[Some(told)], begun(0)), Some(Demand::exact(2, 5, at(4))));
    }

    #[test]
    fn a_pool_without_sources_has_the_demand_that_it_sees() {
        let busy = Demand::exact(0, 5, at(5));
        assert_eq!(join(Some(busy), &[], begun(3)), Some(busy));
        assert_eq!(join(None, &[], begun(0)), None);
        assert_eq!(join(None, &[Some(busy)], begun(0)), Some(Demand::at_least(0, 5, at(5))));
    }

    #[test]
    fn a_runner_is_news_for_as_long_as_the_slowest_source_needs() {
        let mut news = News::default();
        assert_eq!(news.again_at(), None);
        assert_eq!(news.fresh(2, at(0)), begun(2));
        assert_eq!(news.fresh(3, at(10)), begun(3));
        assert_eq!(news.again_at(), Some(at(45)));
        assert_eq!(news.fresh(3, at(45)), begun(1));
        let ended = |ended| Fresh { begun: 0, ended };
        assert_eq!(news.fresh(1, at(50)), ended(2), "and the one left may be any");
        assert_eq!(news.fresh(0, at(51)), ended(3));
        assert_eq!(news.again_at(), Some(at(95)));
        assert_eq!(news.fresh(0, at(96)), Fresh::default());
    }

    #[test]
    fn a_job_whose_end_the_pool_knows_and_its_source_does_not_yet_wants_no_runner() {
        let (busy, told) = (Demand::exact(0, 2, at(5)), Demand::exact(1, 4, at(4)));
        let joined = |ended| join(Some(busy), &[Some(told)], Fresh { begun: 0, ended });
        assert_eq!(joined(2), Some(Demand::exact(1, 2, at(4))));
        assert_eq!(joined(9), Some(Demand::exact(1, 2, at(4))), "never fewer than are busy");
        assert_eq!(joined(0), Some(Demand::exact(1, 4, at(4))), "it has had the time to tell");
    }

    #[test]
    fn where_nobody_knows_anything_demand_is_unknown() {
        assert_eq!(combine(&[None, None]), None);
        assert_eq!(combine(&[]), None);
    }
}
