//! Looking through the deliveries, decided: what was lost, how far back a look goes, and what follows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use runner_fleet_actors::{
    backoff::{self, Curve},
    port::{ErrorClass, Time},
};

use super::Pace;
use crate::github::records::Delivery;

/// How long GitHub keeps its log of deliveries (GitHub docs, "Viewing webhook deliveries").
const LOGGED: Duration = Duration::from_secs(3 * 24 * 3600);
/// How far back the first look goes: a job waits a day at most (GitHub docs, "Usage limits").
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(24 * 3600);
/// How far a look goes back behind the last one: a delivery may be tried for ten seconds, and clocks
/// differ.
pub(super) const OVERLAP: Duration = Duration::from_secs(15 * 60);
/// Between two looks that fail.
const RETRY: Curve = Curve { base: Duration::from_secs(15), cap: Duration::from_secs(600) };
/// So often a delivery is asked for; then its job is left to the other net.
const TRIES: u32 = 3;
/// So often it may be asked for in vain: with the pauses of [`RETRY`], for three quarters of an hour. A restart begins anew.
const FAILURES: u32 = 10;
/// How long after the start demand counts as all there is where no look was possible.
const UNLOOKED: Duration = Duration::from_secs(300);

/// After so many calls that failed one after the other, the next would fail too. Fewer may be the fault of
/// what was asked about.
const IN_A_ROW: u32 = 3;

/// The calls of one turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Row(u32);

impl Row {
    /// One was answered.
    pub fn answered(&mut self) {
        self.0 = 0;
    }

    /// One failed. Whether that is enough for this turn.
    #[must_use]
    pub fn failed(&mut self, class: ErrorClass) -> bool {
        self.0 += 1;
        self.0 >= IN_A_ROW || matches!(class, ErrorClass::RateLimited { .. })
    }
}

/// A budget of calls that only look: so many at once, and so many turns for each further one. A turn is
/// [`Pace::turn`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LookUps {
    left: f64,
    most: f64,
    /// Turns that bring one.
    turns: f64,
    at: Time,
    /// Over all turns.
    made: u64,
}

impl LookUps {
    /// For jobs: with turns of five seconds one each ten, 360 an hour besides 30 at once. GitHub takes
    /// 5,000 calls an hour of one token (GitHub docs, "Primary rate limit"), and launches need most.
    #[must_use]
    pub fn of_jobs(now: Time) -> Self {
        Self { left: 30.0, most: 30.0, turns: 2.0, at: now, made: 0 }
    }

    /// For hooks that were only heard of: one each two minutes besides eight at once.
    #[must_use]
    pub fn of_hooks(now: Time) -> Self {
        Self { left: 8.0, most: 8.0, turns: 24.0, at: now, made: 0 }
    }

    /// As many of `wanted` as may be made now.
    #[must_use]
    pub fn take(&mut self, wanted: usize, turn: Duration, now: Time) -> usize {
        let passed = (now - self.at).to_std().unwrap_or_default();
        self.at = now;
        let brought = passed.as_secs_f64() / (turn.as_secs_f64() * self.turns).max(f64::EPSILON);
        self.left = (self.left + brought).min(self.most);
        // As small as `most`, so nothing is cut.
        let may = wanted.min(self.left.max(0.0) as usize);
        self.left -= may as f64;
        self.made = self.made.saturating_add(may as u64);
        may
    }

    /// How many were made so far.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made
    }
}

/// Which of the jobs that are due are looked up: of those that have become doubtful last the most, and
/// each fifth of those that have waited longest, so that none waits for ever. `due` has the longest due
/// first; `made` were looked up before, for most turns have one look-up or none, and each fifth of all
/// is meant.
#[must_use]
pub fn chosen<T: Copy>(due: &[T], may: usize, made: u64) -> Vec<T> {
    let may = may.min(due.len());
    let old = (usize::try_from(made % 5).unwrap_or_default() + may) / 5;
    let newest = due.iter().rev().take(may - old);
    newest.chain(due.iter().take(old)).copied().collect()
}

/// How often one delivery was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    /// GitHub took it upon itself to send it again.
    pub asked: u32,
    /// It did not.
    pub failed: u32,
}

impl Tried {
    fn enough(self) -> bool {
        self.asked >= TRIES || self.failed >= FAILURES
    }
}

/// What was asked for, by the deliveries' ids.
pub type Tries = BTreeMap<String, Tried>;

/// Of what GitHub has logged since `since`, what never arrived in any attempt and is asked for again:
/// one attempt of each, the newest.
#[must_use]
pub fn lost(logged: &[Delivery], since: Time, tries: &Tries) -> Vec<(String, u64)> {
    let arrived: BTreeSet<&str> =
        logged.iter().filter(|d| d.arrived()).map(|d| d.guid.as_str()).collect();
    let mut newest: BTreeMap<&str, &Delivery> = BTreeMap::new();
    let missed = logged.iter().filter(|d| {
        d.delivered_at >= since
            && d.event == "workflow_job"
            && !arrived.contains(d.guid.as_str())
            && tries.get(&d.guid).is_none_or(|tried| !tried.enough())
    });
    for delivery in missed {
        let held = newest.entry(delivery.guid.as_str()).or_insert(delivery);
        if (held.delivered_at, held.id) < (delivery.delivered_at, delivery.id) {
            *held = delivery;
        }
    }
    // The oldest first: GitHub tells a job's life in order. What was tried in vain before comes last.
    let mut lost: Vec<_> = newest.into_values().collect();
    lost.sort_by_key(|delivery| {
        let tried = tries.get(&delivery.guid).copied().unwrap_or_default();
        (tried.asked + tried.failed, delivery.delivered_at, delivery.id)
    });
    lost.into_iter().map(|delivery| (delivery.guid.clone(), delivery.id)).collect()
}

/// From when on the next look goes. A last look that lies ahead was noted by a clock that was wrong.
#[must_use]
pub fn since(last_look: Option<Time>, now: Time) -> Time {
    let last_look = last_look.filter(|last| *last <= now);
    last_look.map_or(now - FIRST_LOOK, |last| (last - OVERLAP).max(now - LOGGED))
}

/// What has come of looking through the deliveries so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// Looks in a row that could not be brought to their end; 0 = the last one could.
    pub failures: u32,
    /// Whether demand counts as all there is.
    pub sure: bool,
    /// How long it has been looked.
    pub since_start: Duration,
}

/// What follows a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// When demand counts as all there is, if it becomes so now: what was asked for again arrives first.
    pub sure_in: Option<Duration>,
    /// From then, or from now: the next look.
    pub pause: Duration,
}

/// What to do after a look. Demand is not *at least* for ever where no look is possible.
#[must_use]
pub fn after(looks: Looks, pace: Pace) -> Next {
    let Looks { failures, sure, since_start } = looks;
    let pause = if failures == 0 { pace.period } else { backoff::delay(failures, 0, RETRY) };
    let sure_in = match (sure, failures) {
        (true, _) => None,
        (false, 0) => Some(pace.arrival),
        (false, _) => (since_start >= UNLOOKED).then_some(Duration::ZERO),
    };
    let pause = if sure || sure_in.is_some() { pause } else { pause.min(UNLOOKED) };
    Next { sure_in, pause }
}

#[cfg(test)]
#[path = "looks/tests.rs"]
mod tests;
