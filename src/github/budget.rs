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
//! How fast an endpoint is asked within these limits, and how many calls may be under way there, is
//! [`pace`]'s to say: it begins at the points that GitHub publishes and learns from refusals. Whoever
//! is not told of any limit (a GitHub Enterprise Server without them) is not held back. After a
//! refusal one call goes first, of whatever kind, and the crowd when it was answered: a crowd that
//! comes back together is refused together. What does not go through this client does not count here,
//! as the JIT configs of a scale set, which GitHub's actions service hands out.
//!
//! Limits are kept by GitHub's resource name: registrations of runners can have a limit of their own
//! (`actions_runner_registration`), and its numbers say nothing of the rest.

pub mod pace;

use std::{collections::BTreeMap, time::Duration};

use runner_fleet_actors::port::Time;

use self::pace::{Ending, Lesson, Pace, Room};
use super::route::Endpoint;
use crate::pause;

/// What a call is for: decides who goes first when little is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// Sees what is there.
    List,
    /// Removes a registration, or keeps jobs off it before that.
    Deregister,
    /// Needed for a new runner, or for one that is to take jobs again.
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

/// The time for which GitHub gives points, and the shortest hold after a limit that names no time.
pub const MINUTE: Duration = Duration::from_secs(60);

/// Resources whose limits are kept; GitHub has about a dozen.
const RESOURCES_MAX: usize = 64;
/// Endpoints whose paces are kept; this program knows about two dozen.
const ENDPOINTS_MAX: usize = 64;
/// When to ask again where a call is under way that shows it.
pub(super) const SOON: Duration = Duration::from_secs(1);
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
    /// Whether an answer came that tells of no limit.
    untold: bool,
    held_until: Option<Time>,
    strikes: u32,
    /// Refusals so far; those that come together are one.
    round: u64,
    /// Whether the last of them tells how fast GitHub may be asked.
    teaches: bool,
    restart: Restart,
    paces: BTreeMap<Endpoint, Pace>,
    minute: Duration,
}

/// Who goes first after a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restart {
    /// Nobody: all go.
    Open,
    /// One, and who comes next is it.
    One,
    /// One is under way.
    UnderWay,
}

/// The way out for one call. Whoever has one tells how it ended ([`Budget::end`]).
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Ticket {
    endpoint: Endpoint,
    first: bool,
}

/// What is to become of a call that somebody wants to make.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is made.
    Go(Ticket),
    /// It waits until another call has ended.
    Wait,
    /// It is not made now.
    Later {
        /// From when on it is worth asking again.
        until: Time,
        /// Calls a minute at its endpoint, where these are what holds it back.
        most: Option<u32>,
    },
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
    pub const fn with_minute(minute: Duration) -> Self {
        Self {
            windows: BTreeMap::new(),
            untold: false,
            held_until: None,
            strikes: 0,
            round: 0,
            teaches: false,
            restart: Restart::Open,
            paces: BTreeMap::new(),
            minute,
        }
    }

    /// What an earlier process has learnt of the paces.
    #[must_use]
    pub fn knowing(mut self, lessons: BTreeMap<Endpoint, Lesson>) -> Self {
        let minute = self.minute;
        let pace = |(endpoint, lesson): (Endpoint, Lesson)| {
            let pace = Pace::new(endpoint.cost(), minute, lesson);
            (endpoint, pace)
        };
        self.paces = lessons.into_iter().take(ENDPOINTS_MAX).map(pace).collect();
        self
    }

    /// What a later process should know of the paces.
    #[must_use]
    pub fn lessons(&self, now: Time) -> BTreeMap<Endpoint, Lesson> {
        let known = |(endpoint, pace): (&Endpoint, &Pace)| {
            pace.lesson(now).map(|lesson| (endpoint.clone(), lesson))
        };
        self.paces.iter().filter_map(known).collect()
    }

    /// What is to become of a call at `endpoint`. `kind` is `None` for one that counts for somebody else's
    /// primary limit, as an App's own.
    pub fn ask(&mut self, kind: Option<CallKind>, endpoint: &Endpoint, now: Time) -> Turn {
        let held = self.held(now).map_or(Ok(()), Err);
        if let Err(until) = kind.map_or(held, |kind| allow(kind, self, now)) {
            return Turn::Later { until, most: None };
        }
        if self.restart == Restart::UnderWay {
            return Turn::Wait;
        }
        let told = self.tells();
        self.bound_paces(now);
        let minute = self.minute;
        let pace = self
            .paces
            .entry(endpoint.clone())
            .or_insert_with(|| Pace::new(endpoint.cost(), minute, Lesson::default()));
        match pace.room(now, told) {
            Room::AfterAnother => return Turn::Wait,
            Room::At(until) => return Turn::Later { until, most: Some(pace.most(now)) },
            Room::Now => pace.begin(),
        }
        let first = self.restart == Restart::One;
        if first {
            self.restart = Restart::UnderWay;
        }
        Turn::Go(Ticket { endpoint: endpoint.clone(), first })
    }

    /// A call has ended so; what its answer said was [taken in](Self::take_in) before. Returns whether who
    /// waits at any endpoint is to ask again, and not only who waits at this one.
    pub fn end(&mut self, ticket: Ticket, ending: Ending, now: Time) -> bool {
        if let Some(pace) = self.paces.get_mut(&ticket.endpoint) {
            pace.end(ending, self.teaches.then_some(self.round), now);
        }
        if ticket.first && self.restart == Restart::UnderWay {
            let open = ending == Ending::Answered;
            self.restart = if open { Restart::Open } else { Restart::One };
        }
        ticket.first || ending == Ending::Refused
    }

    /// Launches that may go now, and from when on the next may where there is none, or where the rest waits
    /// for what becomes of the first: a forecast for whoever plans, which counts nothing.
    #[must_use]
    pub fn permits(&self, now: Time) -> (u32, Option<Time>) {
        if let Err(until) = allow(CallKind::Launch, self, now) {
            return (0, Some(until));
        }
        let soon = || Some(pause::after(now, SOON));
        match self.restart {
            Restart::Open => {}
            Restart::One => return (1, soon()),
            Restart::UnderWay => return (0, soon()),
        }
        let live = |(name, window): (&String, &Window)| {
            let counts = name == CORE || name == REGISTRATION;
            (counts && window.reset > now).then_some((window.remaining, window.reset))
        };
        let window = self.windows.iter().filter_map(live).min();
        let (calls, reset) = window.map_or((u32::MAX, None), |(remaining, reset)| {
            (u32::try_from(remaining).unwrap_or(u32::MAX), Some(reset))
        });
        let endpoint = Endpoint::launch();
        let fresh = Pace::new(endpoint.cost(), self.minute, Lesson::default());
        let (left, next) = match self.paces.get(&endpoint).unwrap_or(&fresh) {
            pace if self.tells() || pace.is_limited(now) => pace.left(now),
            _ => (u32::MAX, None),
        };
        if left <= calls { (left, next) } else { (calls, reset) }
    }

    /// Whether GitHub tells of limits, as far as anybody knows.
    fn tells(&self) -> bool {
        !self.windows.is_empty() || !self.untold
    }

    /// Endpoints are named by this program, but what is kept comes from a file.
    fn bound_paces(&mut self, now: Time) {
        if self.paces.len() >= ENDPOINTS_MAX {
            self.paces.retain(|_, pace| !pace.is_idle(now));
        }
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
        self.untold |= (seen.limit, seen.remaining, seen.reset) == (None, None, None);
        let held = self.held(now).is_some();
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
        self.restart = Restart::One;
        if !held {
            self.round = self.round.wrapping_add(1);
            // A used-up primary limit tells nothing of the pace: it has a number.
            self.teaches = seen.remaining != Some(0);
        }
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

    /// Calls left in the tightest live window, if GitHub says.
    #[must_use]
    pub fn remaining(&self, now: Time) -> Option<u64> {
        self.windows.values().filter(|w| w.reset > now).map(|w| w.remaining).min()
    }

    /// Until when GitHub has asked for silence.
    #[must_use]
    pub fn held(&self, now: Time) -> Option<Time> {
        self.held_until.filter(|until| *until > now)
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
    if let Some(until) = budget.held(now) {
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
