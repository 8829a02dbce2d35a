//! Until when an effect's reasons hold, and what a gap in this process's life makes of what is known.
//!
//! - *Whatever was given up is not sent.* An effect holds no longer than its answer is waited for: what waits
//!   on in an adapter after that belongs to a decision that is past.
//! - *A guest that stands down does so for a while.* It goes on by itself 300 s after it froze
//!   (`src/guest/program/standdown.py`), and it froze after it was asked. So its word is good for [`STANDS`]
//!   from the asking, whenever the answer was read.
//! - *Quiet grows old.* A proof by listings is good for [`FRESH`] from its newest one.
//! - *A gap ends what was concluded before it.* While the process stood still the world went on: runs of
//!   listings begin anew, listings from before prove nothing, a guest that stood down is asked again, and
//!   nothing is removed before its side was listed.
//!
//! What cannot become wrong has no end: a guest may always be told to go on, which it does by itself as well,
//! and to end, which it does only where it stands down.

use std::time::Duration;

use super::{Drain, Effect, Known, Limits, State, evidence::Run};
use crate::port::{Grounds, Time};

/// How long a stand-down is good from the moment in which it was asked for: the guest's own 300 s, less the
/// longest that a request is on the wire before its other side acts.
pub const STANDS: Duration = Duration::from_secs(240);

/// How long a runner that listings have proven quiet counts as quiet after the newest of them: twice the
/// slowest sweep, so that a sweep that is late stops no drain, and one that fails does.
pub const FRESH: Duration = Duration::from_secs(120);

impl State {
    /// The grounds of an effect that this state was given at `now`; `None` where it may go at any time.
    #[must_use]
    pub fn grounds(&self, effect: Effect, now: Time, limits: &Limits) -> Option<Grounds> {
        let given_up = now + effect.limit(limits);
        let until = match (effect, self) {
            (Effect::GoOn | Effect::End, _) => return None,
            (Effect::Deregister, Self::Draining { drain, known, .. }) if !drain.vm_gone => {
                drain.holds_until(known, now).map_or(now, |holds| holds.min(given_up))
            }
            _ => given_up,
        };
        Some(Grounds { since: now, until })
    }
}

impl Drain {
    /// Until when holds what shows that no job is lost by a deregistration.
    pub(super) fn holds_until(&self, known: &Known, now: Time) -> Option<Time> {
        if self.stands(now) { self.stands_until() } else { known.quiet.fresh_until() }
    }

    /// Until when its guest stands down.
    fn stands_until(&self) -> Option<Time> {
        self.asked_at.filter(|_| self.stands_down).map(|asked| asked + STANDS)
    }

    /// Whether its guest stands down, as far as it has not gone on by itself.
    pub(super) fn stands(&self, now: Time) -> bool {
        self.stands_until().is_some_and(|until| now < until)
    }
}

impl Run {
    fn fresh_until(&self) -> Option<Time> {
        self.newest().map(|newest| newest + FRESH)
    }

    /// Whether its newest listing still tells how things are.
    pub(super) fn is_fresh(&self, now: Time) -> bool {
        self.fresh_until().is_some_and(|until| now < until)
    }
}

impl Known {
    /// This process stood still until `at`: what was concluded from before counts no more.
    pub(super) fn wake(&mut self, at: Time, now: Time) {
        self.woke = self.woke.max(Some(at));
        for run in
            [&mut self.vm_absent, &mut self.registration_absent, &mut self.quiet, &mut self.offline]
        {
            run.break_off();
        }
        self.doubt = None;
        if let Some(flight) = &mut self.in_flight {
            // Its answer may lie here unread.
            flight.until = flight.until.max(now);
        }
    }

    /// Whether a listing that began then is from before the last gap.
    pub(super) fn slept_through(&self, as_of: Time) -> bool {
        self.woke.is_some_and(|woke| as_of <= woke)
    }

    /// Until when a removal waits for its side to be listed after a gap. Where nobody can list it, as long as
    /// a drain asks: a name is used once, so that what was to be removed still is.
    pub(super) fn looks_first(&self, effect: Effect, now: Time, limits: &Limits) -> Option<Time> {
        let woke = self.woke?;
        let heard = match effect {
            Effect::DeleteVm => self.vm_heard,
            _ => self.registration_heard,
        };
        let until = woke + limits.ask;
        (heard <= Some(woke) && now < until).then_some(until)
    }

    /// When a limit of a waiting runner passes that would pass then: not before the listings after a gap could
    /// tell how far it has come.
    pub(super) fn limit_after_gap(&self, due: Time, limits: &Limits) -> Time {
        self.woke.map_or(due, |woke| due.max(woke + limits.listing_lag))
    }
}
