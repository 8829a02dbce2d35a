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
            (since + policy.shrink_after).format("%H:%M:%SZ")
        ),
        lower_since: Some(since),
        unknown: false,
    }
}
