//! How often the cloud and the forge are listed.
//!
//! One sweep serves the whole fleet, however many pools: every few seconds while a change is
//! expected, every minute or so when all is quiet. Listings are the repair for everything that
//! events lose, and the price of a lost event is one pause; but each costs a call, and GitHub counts.

use std::time::Duration;

use crate::{
    backoff::{self, Curve},
    event::PoolSnapshot,
    port::{ErrorClass, PortError, Time},
};

mod purse;

pub mod task;

pub use purse::{Means, Purse};

/// What the pools concerned expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expectation {
    /// All idle and at target: nothing will change by itself.
    Quiet,
    /// Jobs run, and will end.
    Working,
    /// Something is on its way in or out.
    Changing,
}

/// The pauses between two sweeps of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// While something is on its way in or out.
    pub changing: Duration,
    /// While jobs run.
    pub working: Duration,
    /// When all is quiet.
    pub quiet: Duration,
}

impl Cadence {
    /// For a cloud: its listing is the first to show that a guest has powered off. Shorter pauses
    /// load Nova's database for the whole project; longer ones keep finished VMs paid for.
    pub const CLOUD: Self = Self {
        changing: Duration::from_secs(3),
        working: Duration::from_secs(5),
        quiet: Duration::from_secs(60),
    };

    /// For the forge: 100 runners a page, and an unchanged page is free (ETag), but each changed one
    /// counts against 5,000 calls an hour (GitHub docs, "rate limits for the REST API").
    pub const FORGE: Self = Self {
        changing: Duration::from_secs(8),
        working: Duration::from_secs(20),
        quiet: Duration::from_secs(60),
    };

    /// All pauses divided by `factor`, for a demo in which time runs faster.
    #[must_use]
    pub fn faster(self, factor: u32) -> Self {
        let factor = factor.max(1);
        Self {
            changing: self.changing / factor,
            working: self.working / factor,
            quiet: self.quiet / factor,
        }
    }
}

/// What a pool expects, from what it shows.
#[must_use]
pub fn expectation(pool: &PoolSnapshot) -> Expectation {
    let counts = &pool.counts;
    let moving = counts.creating + counts.registering + counts.draining > 0;
    let never_seen = pool.cloud_seen_at.is_none() || pool.forge_seen_at.is_none();
    if moving || never_seen || counts.live() != pool.target {
        Expectation::Changing
    } else if counts.busy > 0 {
        Expectation::Working
    } else {
        Expectation::Quiet
    }
}

/// The pause after a sweep that went well.
#[must_use]
pub fn pause(expectation: Expectation, means: Means, cadence: &Cadence) -> Duration {
    match (means, expectation) {
        (Means::Spent, _) | (_, Expectation::Quiet) => cadence.quiet,
        (Means::Enough, Expectation::Working) => cadence.working,
        (Means::Enough, Expectation::Changing) => cadence.changing,
    }
}

/// When to sweep again after `failures` sweeps in a row failed, the last one with `error`.
#[must_use]
pub fn after_failure(error: &PortError, failures: u32, cadence: &Cadence, now: Time) -> Time {
    let curve = Curve { base: cadence.changing, cap: cadence.quiet.max(cadence.changing) };
    let class = match error.class {
        // An hour's hold by the rate limit is obeyed; anything longer is a clock that disagrees.
        ErrorClass::RateLimited { until } => {
            ErrorClass::RateLimited { until: until.min(now + Duration::from_secs(3600)) }
        }
        class => class,
    };
    backoff::retry_at(class, failures, u64::from(failures), curve, now)
}
