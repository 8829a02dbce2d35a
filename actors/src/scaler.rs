//! A pool's target: demand and policy in, a number and its reason out.
//!
//! Growth follows demand at once, a shrink waits a while: a runner too many costs minutes of an idle
//! VM, a runner too few costs somebody's waiting. Unknown demand holds the last target; it is never
//! read as zero, because a broken source would then empty the fleet.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    demand::{Demand, Sure},
    port::Time,
    sight::moment,
};

pub mod actor;

/// What the target may be. From the configuration; can change while the pool runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Never fewer.
    pub min: u32,
    /// Idle runners on top of demand.
    pub spare: u32,
    /// Never more.
    pub max: u32,
    /// How long demand must stay lower before the target follows it down.
    pub shrink_after: Duration,
    /// An operator's fixed target; policy other than `max` does not apply.
    pub fixed: Option<u32>,
}

/// How many runners a pool should have, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The number.
    pub runners: u32,
    /// So many are left alone where they are there already; never fewer than `runners`. While a shrink
    /// waits, nobody is drained, and nobody is made only to be drained.
    pub keep: u32,
    /// Why, for a person.
    pub because: String,
    /// Since when demand asks for fewer than this.
    pub lower_since: Option<Time>,
    /// Whether demand is not wholly known, so that the number may grow and not shrink.
    pub unknown: bool,
}

impl Target {
    /// The target before anything is known.
    #[must_use]
    pub fn initial(policy: &Policy) -> Self {
        let runners = policy.min.min(policy.max);
        let because = format!("min {}, demand unknown", policy.min);
        Self { runners, keep: runners, because, lower_since: None, unknown: true }
    }

    /// The number to plan for where `live` runners are there: those to be kept are, and while demand is
    /// unknown nothing is shrunk. What a target holds after a restart is only `min`, and the runners
    /// that an earlier process made say more about demand than that.
    #[must_use]
    pub fn over(&self, live: u32) -> u32 {
        let keep = if self.unknown { live } else { live.min(self.keep) };
        self.runners.max(keep)
    }

    /// When the target changes even if demand does not.
    #[must_use]
    pub fn again_at(&self, policy: &Policy) -> Option<Time> {
        self.lower_since.map(|since| since + policy.shrink_after)
    }
}

/// The target that follows from `demand`; `None` is unknown, and holds `last` within its bounds.
#[must_use]
pub fn target(demand: Option<Demand>, last: &Target, policy: &Policy, now: Time) -> Target {
    // A configuration with min above max is refused before it gets here; max wins in any case.
    let bound = |n: u32| n.max(policy.min).min(policy.max);
    if let Some(fixed) = policy.fixed {
        let runners = fixed.min(policy.max);
        let capped =
            if runners < fixed { format!(", capped at max {}", policy.max) } else { String::new() };
        return Target {
            runners,
            keep: runners,
            because: format!("set to {fixed} by an operator{capped}"),
            lower_since: None,
            unknown: false,
        };
    }
    let Some(demand) = demand else {
        let runners = bound(last.runners);
        return Target {
            runners,
            keep: runners.max(bound(last.keep)),
            because: format!("demand unknown, {runners} held"),
            lower_since: None,
            unknown: true,
        };
    };
    let wanted = demand.running.saturating_add(demand.waiting).saturating_add(policy.spare);
    let runners = bound(wanted);
    let mut because = format!(
        "{} running + {} waiting + {} spare = {wanted}",
        demand.running, demand.waiting, policy.spare
    );
    if runners > wanted {
        because = format!("{because}, raised to min {}", policy.min);
    } else if runners < wanted {
        because = format!("{because}, capped at max {}", policy.max);
    }
    if demand.sure != Sure::Exact {
        because = format!("at least {because}");
        let held = bound(last.runners);
        let silent = demand.sure == Sure::Silent && runners < held;
        if silent {
            because = format!("{held} held while a source of demand is silent ({because})");
        }
        let runners = if silent { held } else { runners };
        let keep = runners.max(bound(last.keep));
        return Target { runners, keep, because, lower_since: None, unknown: true };
    }
    let held = bound(last.keep);
    if runners >= held {
        return Target { runners, keep: runners, because, lower_since: None, unknown: false };
    }
    let since = last.lower_since.unwrap_or(now);
    if now >= since + policy.shrink_after {
        return Target { runners, keep: runners, because, lower_since: None, unknown: false };
    }
    Target {
        runners,
        keep: held,
        because: format!(
            "{because}; up to {held} are kept until {}",
            moment(since + policy.shrink_after, now)
        ),
        lower_since: Some(since),
        unknown: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap_or_default()
    }

    fn policy() -> Policy {
        let shrink_after = Duration::from_secs(300);
        Policy { min: 1, spare: 1, max: 10, shrink_after, fixed: None }
    }

    /// The target after each demand in turn, told a minute apart.
    fn told(demands: &[Option<Demand>]) -> Target {
        let mut last = Target::initial(&policy());
        for (minute, demand) in (0..).zip(demands) {
            last = target(*demand, &last, &policy(), at(60 * minute));
        }
        last
    }

    fn exact(waiting: u32) -> Option<Demand> {
        Some(Demand::exact(waiting, 0, at(0)))
    }

    fn with(sure: Sure, waiting: u32) -> Option<Demand> {
        Some(Demand { sure, ..Demand::exact(waiting, 0, at(0)) })
    }

    #[test]
    fn a_pool_grows_at_once_and_says_why() {
        let new = told(&[exact(4)]);
        assert_eq!((new.runners, new.keep, new.unknown), (5, 5, false));
        assert_eq!(new.because, "0 running + 4 waiting + 1 spare = 5");
        assert!(told(&[exact(40)]).because.ends_with("= 41, capped at max 10"));
        assert_eq!(told(&[exact(0)]).because, "0 running + 0 waiting + 1 spare = 1");
    }

    #[test]
    fn a_shrink_waits_keeping_runners_and_making_none() {
        let waits = told(&[exact(7), exact(2)]);
        assert_eq!((waits.runners, waits.keep), (3, 8));
        assert_eq!((waits.over(0), waits.over(6), waits.over(9)), (3, 6, 8));
        assert_eq!(waits.again_at(&policy()), Some(at(60 + 300)));
        // What is wanted anew in the meantime is no reason to begin the wait again, unless it is as much.
        let again = told(&[exact(7), exact(2), exact(4)]);
        assert_eq!((again.runners, again.keep, again.lower_since), (5, 8, Some(at(60))));
        let over = told(&[exact(7), exact(2), exact(7), exact(2)]);
        assert_eq!(over.lower_since, Some(at(180)));
        let done = target(exact(2), &waits, &policy(), at(360));
        assert_eq!((done.runners, done.keep), (3, 3));
    }

    #[test]
    fn a_source_that_may_overlook_jobs_keeps_runners_and_has_none_made_for_jobs_that_are_done() {
        let new = told(&[exact(7), with(Sure::AtLeast, 2)]);
        assert_eq!((new.runners, new.keep, new.unknown), (3, 8, true));
        assert_eq!(new.over(9), 9, "as long as jobs may be overlooked nobody is drained");
        assert_eq!(new.over(2), 3, "a runner whose job is done is not replaced");
        assert!(new.because.starts_with("at least "));
    }

    #[test]
    fn a_silent_source_holds_what_was_wanted_and_lets_others_ask_for_more() {
        let new = told(&[exact(7), with(Sure::Silent, 2)]);
        assert_eq!((new.runners, new.over(2), new.over(9)), (8, 8, 9));
        assert!(new.because.starts_with("8 held while a source of demand is silent"));
        assert_eq!(told(&[exact(3), with(Sure::Silent, 8)]).runners, 9);
        assert_eq!(told(&[exact(7), None]).runners, 8);
        assert_eq!(
            told(&[None]).runners,
            1,
            "after a start nothing is made but what is always wanted"
        );
    }

    #[test]
    fn an_operators_number_stands_over_everything_but_the_pools_max() {
        let fixed = |n| Policy { fixed: Some(n), ..policy() };
        let last = told(&[exact(7)]);
        for demand in [None, exact(0), with(Sure::AtLeast, 9)] {
            assert_eq!(target(demand, &last, &fixed(0), at(60)).over(8), 0);
            assert_eq!(target(demand, &last, &fixed(50), at(60)).runners, 10);
        }
    }
}
