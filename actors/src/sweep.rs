//! How often the cloud and the forge are listed.
//!
//! One sweep serves the whole fleet, however many pools: every few seconds while a change is
//! expected, every minute or so when all is quiet. Listings are the repair for everything that
//! events lose, and the price of a lost event is one pause; but each costs a call, and GitHub counts.

use std::{ops::Deref, time::Duration};

use crate::{
    backoff::{self, Curve},
    event::PoolSnapshot,
    port::{ErrorClass, Listing, PortError, Recent, Time},
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
    /// While the side is away and something is awaited.
    pub away: Duration,
    /// While something is on its way or jobs run, at a cloud that tells what has changed.
    pub recent: Duration,
    /// Between two whole listings meanwhile, while nobody waits for a proof that only they give.
    pub whole: Duration,
}

/// How a side is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// By a listing of everything.
    Whole,
    /// By what has changed, where the side tells that.
    Recent,
}

/// What a look brought.
#[derive(Debug)]
pub enum Seen<T> {
    /// A listing, whole or partial.
    Listed(Listing<T>),
    /// What has changed.
    Changed(Recent),
}

/// How to look next, where the last whole listing that went well began at `whole`.
#[must_use]
pub fn look(expected: Expected, whole: Option<Time>, now: Time, cadence: &Cadence) -> Look {
    let pause = if expected.absence { cadence.changing } else { cadence.whole };
    match whole {
        Some(at) if expected.by != Expectation::Quiet && now < at + pause => Look::Recent,
        _ => Look::Whole,
    }
}

impl Cadence {
    /// For a cloud: its listing is the first to show that a guest has powered off. Shorter pauses
    /// load Nova's database for the whole project; longer ones keep finished VMs paid for.
    pub const CLOUD: Self = Self {
        changing: Duration::from_secs(3),
        working: Duration::from_secs(5),
        quiet: Duration::from_secs(60),
        away: Duration::from_secs(2),
        recent: Duration::from_secs(3),
        whole: Duration::from_secs(30),
    };

    /// For the forge: 100 runners a page, and an unchanged page is free (ETag), but each changed one
    /// counts against 5,000 calls an hour (GitHub docs, "rate limits for the REST API").
    pub const FORGE: Self = Self {
        changing: Duration::from_secs(8),
        working: Duration::from_secs(20),
        quiet: Duration::from_secs(60),
        away: Duration::from_secs(2),
        // It does not tell.
        recent: Duration::from_secs(8),
        whole: Duration::from_secs(8),
    };

    /// All pauses divided by `factor`, for a demo in which time runs faster.
    #[must_use]
    pub fn faster(self, factor: u32) -> Self {
        let factor = factor.max(1);
        Self {
            changing: self.changing / factor,
            working: self.working / factor,
            quiet: self.quiet / factor,
            away: self.away / factor,
            recent: self.recent / factor,
            whole: self.whole / factor,
        }
    }
}

/// What is expected of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// What the pools concerned expect.
    pub by: Expectation,
    /// From when on this side may show what is on its way; `None`: the others tell it.
    pub shows_from: Option<Time>,
    /// Whether someone waits for a proof that something is not there.
    pub absence: bool,
}

/// What the pools concerned expect of their cloud, whose every look may show it.
#[must_use]
pub fn of_cloud(
    pools: impl Iterator<Item = impl Deref<Target = PoolSnapshot>>,
    now: Time,
) -> Expected {
    let nothing = Expected { by: Expectation::Quiet, shows_from: Some(now), absence: false };
    pools.fold(nothing, |all, pool| Expected {
        by: all.by.max(expectation(&pool)),
        absence: all.absence || pool.absence_awaited,
        ..all
    })
}

/// What the pools concerned expect of the forge.
#[must_use]
pub fn of_forge(pools: impl Iterator<Item = impl Deref<Target = PoolSnapshot>>) -> Expected {
    let quiet = Expected { by: Expectation::Quiet, shows_from: None, absence: false };
    pools.fold(quiet, |all, pool| {
        let from = pool.forge_shows_from.into_iter().chain(all.shows_from).min();
        Expected { by: all.by.max(expectation(&pool)), shows_from: from, ..all }
    })
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

/// Whether the sweeps, which pause by what the pools expect, must hear of what a pool shows now: it expects something
/// else than `before`, or the forge may show something sooner.
#[must_use]
pub fn stirs(before: Option<&PoolSnapshot>, now: &PoolSnapshot) -> bool {
    before.is_none_or(|before| {
        let sooner = match (now.forge_shows_from, before.forge_shows_from) {
            (Some(from), Some(was)) => from < was,
            (from, was) => from.is_some() && was.is_none(),
        };
        sooner || expectation(before) != expectation(now)
    })
}

/// How the sweeps of one side go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streak {
    failures: u32,
}

impl Streak {
    /// One went well or failed. Whether the side is back by it.
    pub fn swept(&mut self, well: bool) -> bool {
        let failures = if well { 0 } else { self.failures.saturating_add(1) };
        std::mem::replace(&mut self.failures, failures) > 0 && well
    }

    /// How many have failed in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the last failure is worth a line: a side that is away for long is told of ever more rarely.
    #[must_use]
    pub fn is_worth_a_line(&self) -> bool {
        self.failures <= 3 || self.failures.is_power_of_two()
    }
}

/// The pause after a look that went well; `tells`: the side tells what has changed.
#[must_use]
pub fn pause(expectation: Expectation, means: Means, tells: bool, cadence: &Cadence) -> Duration {
    match (means, expectation) {
        (Means::Spent, _) | (_, Expectation::Quiet) => cadence.quiet,
        (Means::Enough, _) if tells => cadence.recent,
        (Means::Enough, Expectation::Working) => cadence.working,
        (Means::Enough, Expectation::Changing) => cadence.changing,
    }
}

/// When to look again after a look that went well at `now`. What is on its way is looked for when it can be seen, and
/// no more rarely than when all is quiet.
#[must_use]
pub fn after_look(
    expected: Expected,
    means: Means,
    tells: bool,
    cadence: &Cadence,
    now: Time,
) -> Time {
    let soon = now + pause(expected.by, means, tells, cadence);
    if expected.by != Expectation::Changing {
        return soon;
    }
    let late = now + cadence.quiet.max(cadence.changing);
    expected.shows_from.map_or(late, |from| from.min(late)).max(soon)
}

/// When to sweep again after `failures` sweeps in a row failed, the last one with `error`.
///
/// While something is awaited, a side that is away is asked every few seconds: a listing is the cheapest way
/// to learn that it is back, and whoever waits longer is the last one there. Who was refused is not asked
/// so often.
#[must_use]
pub fn after_failure(
    error: &PortError,
    failures: u32,
    expectation: Expectation,
    cadence: &Cadence,
    now: Time,
) -> Time {
    let class = match error.class {
        ErrorClass::Transient if expectation == Expectation::Changing => {
            return now + cadence.away;
        }
        // An hour's hold by the rate limit is obeyed; anything longer is a clock that disagrees.
        ErrorClass::RateLimited { until } => {
            let until = until.min(now + Duration::from_secs(3600));
            if error.local {
                return until.max(now + cadence.away / 8);
            }
            ErrorClass::RateLimited { until }
        }
        class => class,
    };
    let curve = Curve { base: cadence.changing, cap: cadence.quiet.max(cadence.changing) };
    backoff::retry_at(class, failures, u64::from(failures), curve, now)
}

/// After how long another listing is begun beside one that has not come back, where the last good one took
/// `usual`: what hangs with its side hangs on when that is back.
#[must_use]
pub fn beside(usual: Duration, cadence: &Cadence) -> Duration {
    usual.saturating_mul(3).max(cadence.away + cadence.away / 2)
}
