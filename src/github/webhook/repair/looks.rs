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
const FIRST_LOOK: Duration = Duration::from_secs(24 * 3600);
/// How far a look goes back behind the last one: a delivery may be tried for ten seconds, and clocks
/// differ.
const OVERLAP: Duration = Duration::from_secs(15 * 60);
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

/// From when on the next look goes.
#[must_use]
pub fn since(last_look: Option<Time>, now: Time) -> Time {
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
