//! What may still be asked of GitHub: the rate limits as a pure decision.
//!
//! GitHub has a primary limit (so many calls an hour, told in `x-ratelimit-*` headers; GitHub docs,
//! "Rate limits for the REST API") and secondary limits (too fast, too many at once; told by
//! `retry-after` or only in words). When little is left, what the fleet can best do without goes
//! first: listings only repair, deregistrations only tidy, launches serve a waiting job.
//!
//! A refused call never reaches the network: GitHub bans integrations that go on calling. The
//! alternative, a client that sleeps until the reset inside a call, hides the wait from the brain,
//! which then cannot tell a slow GitHub from a forbidden one.
//!
//! One secondary limit has a number and can be kept beforehand: at most 80 calls a minute that create
//! something (the same page, "About secondary rate limits"). A burst of launches is stretched to it
//! instead of running into a refusal, which stops every call for a minute or longer. The same page
//! also names 500 an hour; registrations of runners have an hourly limit of their own of 10,000, told
//! in their answers, so that number is not meant for them and is not kept. Whoever is not told of any
//! limit (a GitHub Enterprise Server without them) is not held back.
//!
//! Limits are kept by GitHub's resource name: registrations of runners can have a limit of their own
//! (`actions_runner_registration`), and its numbers say nothing of the rest.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use runner_fleet_actors::port::{Door, Time};

use crate::pause;

/// What a call is for: decides who goes first when little is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// Sees what is there.
    List,
    /// Removes a registration.
    Deregister,
    /// Needed for a new runner.
    Launch,
}

/// Listings stop when less than this share of the limit is left, in per cent.
pub const LIST_FLOOR: u64 = 20;
/// Deregistrations stop when less than this share of the limit is left, in per cent.
pub const DEREGISTER_FLOOR: u64 = 5;
/// Shortest hold after a used-up primary limit, for a clock of ours that runs ahead of GitHub's and
/// takes the reset for past.
pub const PRIMARY_HOLD_MIN: Duration = Duration::from_secs(10);
/// Longest hold after repeated secondary limits, and after repeated limits that name no time.
pub const SECONDARY_HOLD_MAX: Duration = Duration::from_secs(900);

/// Calls that create something, in any minute.
pub const CREATIONS_A_MINUTE: usize = 80;
/// The time in which these are counted.
pub const MINUTE: Duration = Duration::from_secs(60);

/// Resources whose limits are kept; GitHub has about a dozen.
const RESOURCES_MAX: usize = 64;
const CORE: &str = "core";
const REGISTRATION: &str = "actions_runner_registration";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    limit: u64,
    remaining: u64,
    reset: Time,
}

/// What is known of the limits. Empty until GitHub says something; a GitHub Enterprise Server with
/// limits switched off never does, and then everything is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    windows: BTreeMap<String, Window>,
    held_until: Option<Time>,
    strikes: u32,
    /// When the creating calls of the last minute were made.
    created: VecDeque<Time>,
    minute: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self::with_minute(MINUTE)
    }
}

/// What one answer says of the limits; made from its status, headers and message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// `x-ratelimit-resource`.
    pub resource: Option<String>,
    /// `x-ratelimit-limit`.
    pub limit: Option<u64>,
    /// `x-ratelimit-remaining`.
    pub remaining: Option<u64>,
    /// `x-ratelimit-reset`.
    pub reset: Option<Time>,
    /// Until when, by `retry-after`.
    pub retry_at: Option<Time>,
    /// Whether the answer is 403 or 429.
    pub refused: bool,
    /// Which limit its words or its status speak of.
    pub says: Option<Limit>,
}

/// A limit, as GitHub's words tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// One that is not named.
    Some,
    /// Too fast, or too much at once. Its time is not believed where it is less than
    /// a minute: `retry-after: 0` was seen, and who comes back at once is banned.
    Secondary,
}

impl Budget {
    /// Nothing known yet. `minute` is [`MINUTE`], or less for a demo in which time runs faster.
    #[must_use]
    pub fn with_minute(minute: Duration) -> Self {
        let (windows, created) = (BTreeMap::new(), VecDeque::new());
        Self { windows, held_until: None, strikes: 0, created, minute }
    }

    /// Takes in an answer. Returns until when nothing may be asked, if the answer is a refusal for
    /// a rate limit; `None` for every other answer, also for a 403 for want of a permission.
    ///
    /// Nothing that an answer says holds longer than `pause::LONGEST`, and a newer answer counts for
    /// more than an older one: one odd answer must not stop the fleet.
    pub fn take_in(&mut self, seen: &Seen, now: Time) -> Option<Time> {
        let latest = pause::after(now, pause::LONGEST);
        let told_reset = seen.reset.map(|reset| reset.min(latest));
        if let (Some(limit), Some(remaining), Some(reset)) =
            (seen.limit, seen.remaining, told_reset)
        {
            let name = seen.resource.clone().unwrap_or_else(|| CORE.to_owned());
            let window = Window { limit, remaining, reset };
            self.windows
                .entry(name)
                .and_modify(|old| {
                    if old.reset == reset {
                        // Answers arrive in any order: within one window only the lowest is news.
                        old.remaining = old.remaining.min(remaining);
                    } else if reset > now || old.reset <= now {
                        // Otherwise it is a late answer of a window that is over.
                        *old = window;
                    }
                })
                .or_insert(window);
            self.bound_windows(now);
        }
        let held = self.held_until.is_some_and(|until| until > now);
        if !seen.refused {
            // What succeeds during a hold was asked before it.
            if !held {
                self.strikes = 0;
            }
            return None;
        }
        // Calls that were under way together are refused together: that is one refusal.
        let before = if held { self.strikes.saturating_sub(1) } else { self.strikes };
        // After a secondary limit, or one that names no time still to come, "wait for at least one minute"
        // (GitHub docs); twice as long after each further one.
        let doubled = self.minute.saturating_mul(1 << before.min(8)).min(SECONDARY_HOLD_MAX);
        let doubled = pause::after(now, doubled);
        let retry_at = seen.retry_at.map(|until| until.min(latest));
        let until = match (retry_at, seen.says) {
            (Some(told), Some(Limit::Secondary)) => told.max(doubled),
            (Some(told), _) if told > now => told,
            (Some(_), _) => doubled,
            (None, says) => match (seen.remaining, told_reset, says) {
                (_, _, Some(Limit::Secondary)) => doubled,
                (Some(0), Some(reset), _) => reset.max(pause::after(now, PRIMARY_HOLD_MIN)),
                (_, _, Some(Limit::Some)) => doubled,
                (_, _, None) => return None,
            },
        };
        self.strikes = before.saturating_add(1);
        self.held_until = Some(until);
        Some(until)
    }

    /// Names of resources come from outside. Windows that are over go first.
    fn bound_windows(&mut self, now: Time) {
        if self.windows.len() > RESOURCES_MAX {
            self.windows.retain(|_, window| window.reset > now);
        }
        while self.windows.len() > RESOURCES_MAX {
            self.windows.pop_last();
        }
    }

    /// Counts a call that creates something and is about to be made, if it may be made now.
    ///
    /// # Errors
    /// The time from which on the same question is worth asking again; nothing was counted.
    pub fn create(&mut self, now: Time) -> Result<(), Time> {
        while self.created.front().is_some_and(|at| *at + self.minute <= now) {
            self.created.pop_front();
        }
        let full = self.created.len().checked_sub(CREATIONS_A_MINUTE);
        let full = full.and_then(|first| self.created.get(first));
        if let Some(first) = full.filter(|_| !self.windows.is_empty()) {
            return Err(*first + self.minute);
        }
        self.created.push_back(now);
        Ok(())
    }

    /// How many creating calls may be made now, and when the next one may.
    #[must_use]
    pub fn door(&self, now: Time) -> Door {
        let recent = self.created.iter().filter(|at| **at + self.minute > now);
        let (count, first) = (recent.clone().count(), recent.min());
        match first.filter(|_| !self.windows.is_empty()) {
            Some(first) => Door {
                permits: u32::try_from(CREATIONS_A_MINUTE.saturating_sub(count))
                    .unwrap_or(u32::MAX),
                next: Some(*first + self.minute),
                why: format!("it takes {CREATIONS_A_MINUTE} registrations a minute"),
            },
            None => Door::open(),
        }
    }

    /// Calls left in the tightest live window, if GitHub says.
    #[must_use]
    pub fn remaining(&self, now: Time) -> Option<u64> {
        self.windows.values().filter(|w| w.reset > now).map(|w| w.remaining).min()
    }

    /// Until when no call of any kind is made.
    #[must_use]
    pub fn held_until(&self, now: Time) -> Option<Time> {
        allow(CallKind::Launch, self, now).err()
    }
}

/// Whether a call may be made now; otherwise from when on.
///
/// # Errors
/// The time from which on the same question is worth asking again.
pub fn allow(kind: CallKind, budget: &Budget, now: Time) -> Result<(), Time> {
    if let Some(until) = budget.held_until.filter(|until| *until > now) {
        return Err(until);
    }
    let floor = match kind {
        CallKind::List => LIST_FLOOR,
        CallKind::Deregister => DEREGISTER_FLOOR,
        CallKind::Launch => 0,
    };
    let empty = |window: &Window| {
        let below = window.remaining.saturating_mul(100) < window.limit.saturating_mul(floor);
        window.reset > now && (window.remaining == 0 || below)
    };
    budget
        .windows
        .iter()
        .filter(|(name, _)| kind == CallKind::Launch || name.as_str() != REGISTRATION)
        .filter(|(_, window)| empty(window))
        .map(|(_, window)| window.reset)
        .max()
        .map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
