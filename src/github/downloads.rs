//! What is known of runner applications, read without waiting and renewed behind everybody's back.
//!
//! A launch must not wait for a list, and a thousand launches must not ask for it a thousand times.
//! So one task asks, one call at a time, once an hour a scope and once in six hours a version (GitHub
//! would have to be asked 720 times a month for a list that changes twice), and everybody reads what
//! it brought. While GitHub does not answer the old answer holds, its age is told, and the next try
//! waits longer and longer.
//!
//! Nobody has to say beforehand what is needed: whoever reads makes it wanted, and what nobody has
//! read for a week is asked for no more.
//!
//! A cache inside the call is the alternative: its first reader waits, and one whose call hangs takes
//! the launch with it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use runner_fleet_actors::{
    backoff::{Curve, delay},
    name::Scope,
    port::{Clock, ErrorClass, PortError, Time},
};
use tokio::sync::Notify;

use super::{
    applications::{Application, Offer},
    budget::CallKind,
    freshness::{Deprecation, Freshness, Newest, Version, judge},
};

/// How long a list is fresh.
pub const OFFER_FRESH: Duration = Duration::from_secs(3600);
/// How long a version's schedule is fresh.
pub const SCHEDULE_FRESH: Duration = Duration::from_secs(6 * 3600);
/// After this time without a reader, nothing is asked any more.
pub const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);
/// Versions of a scope that are remembered. Guests tell them, so their number must have an end; a
/// fleet has one a pool, and one more while an image is renewed.
pub const VERSIONS_MAX: usize = 16;

/// Between tries that fail. The list is worth little haste: it changes twice a month.
const RETRY: Curve = Curve { base: Duration::from_secs(15), cap: Duration::from_secs(3600) };

/// Who tells: GitHub, or whoever stands for it.
#[async_trait]
pub trait Catalogue: Send + Sync {
    /// What is offered to a scope.
    async fn offer(&self, scope: &Scope, kind: CallKind) -> Result<Offer, PortError>;

    /// The schedule of a version; `None` where none is told.
    async fn deprecation(
        &self,
        scope: &Scope,
        version: Version,
    ) -> Result<Option<Deprecation>, PortError>;
}

/// When something is asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    at: Time,
    failures: u32,
}

impl Due {
    fn now(now: Time) -> Self {
        Self { at: now, failures: 0 }
    }

    fn after<T>(&mut self, result: &Result<T, PortError>, fresh: Duration, now: Time) {
        match result {
            Ok(_) => *self = Self { at: now + fresh, failures: 0 },
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.at = now + delay(self.failures, 0, RETRY);
                if let ErrorClass::RateLimited { until } = error.class {
                    self.at = self.at.max(until);
                }
            }
        }
    }
}

#[derive(Debug)]
struct Told {
    schedule: Option<Deprecation>,
    due: Due,
    read: Time,
    said: Freshness,
}

#[derive(Debug)]
struct Place {
    applications: Vec<Application>,
    /// When they were told; `None` before the first time.
    as_of: Option<Time>,
    newest: Option<Newest>,
    due: Due,
    read: Time,
    versions: BTreeMap<Version, Told>,
}

impl Place {
    fn new(now: Time) -> Self {
        Self {
            applications: Vec::new(),
            as_of: None,
            newest: None,
            due: Due::now(now),
            read: now,
            versions: BTreeMap::new(),
        }
    }

    fn judged(&self, version: Version, now: Time) -> Freshness {
        let schedule = self.versions.get(&version).and_then(|told| told.schedule);
        judge(version, self.newest, schedule.as_ref(), now)
    }

    /// Tells the log of every version of which there is something new to tell.
    fn say(&mut self, scope: &Scope, now: Time) {
        let (newest, known) = (self.newest, self.as_of.is_some());
        for (version, told) in &mut self.versions {
            let is = judge(*version, newest, told.schedule.as_ref(), now);
            if !known || is == told.said {
                continue;
            }
            told.said = is;
            match is {
                Freshness::Current => tracing::info!(%scope, %version, "runner application: {is}"),
                _ => tracing::warn!(%scope, %version, "runner application: {is}"),
            }
        }
    }
}

/// What to do next.
enum Next {
    Offer(Scope, CallKind),
    Schedule(Scope, Version),
    At(Time),
    Nothing,
}

/// What is known of runner applications, by scope.
pub struct Downloads {
    places: Mutex<BTreeMap<Scope, Place>>,
    wanted: Notify,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Downloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Downloads").field("places", &self.places).finish_non_exhaustive()
    }
}

impl Downloads {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { places: Mutex::default(), wanted: Notify::new(), clock }
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<Scope, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list of a scope will be read: it is asked for now, so that it is there by then.
    pub fn want(&self, scope: &Scope) {
        self.read(scope, |_, _| ());
    }

    /// Reads a scope's place, which is made where it is missing.
    fn read<T>(&self, scope: &Scope, reading: impl FnOnce(&mut Place, Time) -> T) -> T {
        let now = self.clock.now();
        let mut places = self.places();
        let known = places.contains_key(scope);
        let place = places.entry(scope.clone()).or_insert_with(|| Place::new(now));
        place.read = now;
        let read = reading(place, now);
        if !known {
            self.wanted.notify_one();
        }
        read
    }

    /// The newest application on offer for that system (GitHub's words, as `linux` and `x64`) whose
    /// checksum is known. `None` also as long as GitHub has not told.
    #[must_use]
    pub fn latest(&self, scope: &Scope, os: &str, architecture: &str) -> Option<Application> {
        let fits = |one: &&Application| {
            one.os == os && one.architecture == architecture && one.sha256.is_some()
        };
        self.read(scope, |place, _| {
            place.applications.iter().filter(fits).max_by_key(|one| one.version).cloned()
        })
    }

    /// When the list of a scope was told; `None` where it was not yet.
    #[must_use]
    pub fn as_of(&self, scope: &Scope) -> Option<Time> {
        self.places().get(scope)?.as_of
    }

    /// What there is to say of a version that a guest reported. `None` for a text that is no version.
    /// The first time this is only what the list says; GitHub's schedule is asked for behind it.
    pub fn freshness(&self, scope: &Scope, version: &str) -> Option<Freshness> {
        let version: Version = version.parse().ok()?;
        let is = self.read(scope, |place, now| {
            let room = place.versions.len() < VERSIONS_MAX;
            match place.versions.get_mut(&version) {
                Some(told) => told.read = now,
                None if room => {
                    let (due, said) = (Due::now(now), Freshness::Current);
                    place.versions.insert(version, Told { schedule: None, due, read: now, said });
                    self.wanted.notify_one();
                    place.say(scope, now);
                }
                None => {}
            }
            place.judged(version, now)
        });
        Some(is)
    }

    fn next(&self) -> Next {
        let now = self.clock.now();
        let mut places = self.places();
        places.retain(|_, place| place.read + FORGOTTEN > now);
        let mut soonest: Option<Time> = None;
        for (scope, place) in places.iter_mut() {
            place.versions.retain(|_, told| told.read + FORGOTTEN > now);
            if place.due.at <= now {
                // Without any list nothing can be launched; a newer one can wait.
                let kind = if place.as_of.is_none() { CallKind::Launch } else { CallKind::List };
                return Next::Offer(scope.clone(), kind);
            }
            soonest = soonest.into_iter().chain([place.due.at]).min();
            for (version, told) in &place.versions {
                if told.due.at <= now {
                    return Next::Schedule(scope.clone(), *version);
                }
                soonest = soonest.into_iter().chain([told.due.at]).min();
            }
        }
        soonest.map_or(Next::Nothing, Next::At)
    }

    /// Asks whenever something is due, for ever. One call is under way at a time.
    pub async fn keep_fresh(&self, from: &dyn Catalogue) {
        loop {
            let wanted = self.wanted.notified();
            let Some(at) = self.ask_what_is_due(from).await else {
                wanted.await;
                continue;
            };
            let left = (at - self.clock.now()).to_std().unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = wanted => {}
            }
        }
    }

    /// Asks for all that is due; says when something will be.
    async fn ask_what_is_due(&self, from: &dyn Catalogue) -> Option<Time> {
        loop {
            match self.next() {
                Next::Offer(scope, kind) => {
                    let offer = from.offer(&scope, kind).await;
                    self.take_offer(&scope, offer);
                }
                Next::Schedule(scope, version) => {
                    let schedule = from.deprecation(&scope, version).await;
                    self.take_schedule(&scope, version, schedule);
                }
                Next::At(at) => return Some(at),
                Next::Nothing => return None,
            }
        }
    }

    fn take_offer(&self, scope: &Scope, offer: Result<Offer, PortError>) {
        let now = self.clock.now();
        let mut places = self.places();
        let Some(place) = places.get_mut(scope) else { return };
        place.due.after(&offer, OFFER_FRESH, now);
        match offer {
            Ok(offer) => {
                for fault in offer.faults {
                    tracing::warn!(%scope, %fault, "passed over in the list of runner applications");
                }
                place.as_of = Some(now);
                place.applications = offer.applications;
                let newest = place.applications.iter().map(|one| one.version).max();
                if let Some(version) = newest
                    && place.newest.is_none_or(|old| old.version != version)
                {
                    tracing::info!(%scope, %version, "newest runner application on offer");
                    place.newest = Some(Newest { version, seen: now });
                }
                place.say(scope, now);
            }
            Err(error) => tracing::warn!(
                %scope, %error, again = %place.due.at,
                as_of = place.as_of.map(tracing::field::display),
                "the list of runner applications cannot be read; the last one holds"
            ),
        }
    }

    fn take_schedule(
        &self,
        scope: &Scope,
        version: Version,
        schedule: Result<Option<Deprecation>, PortError>,
    ) {
        let now = self.clock.now();
        let mut places = self.places();
        let Some(place) = places.get_mut(scope) else { return };
        let Some(told) = place.versions.get_mut(&version) else { return };
        told.due.after(&schedule, SCHEDULE_FRESH, now);
        match schedule {
            Ok(schedule) => {
                told.schedule = schedule;
                place.say(scope, now);
            }
            Err(error) => tracing::debug!(%scope, %version, %error, "no schedule of a version"),
        }
    }
}

#[cfg(test)]
mod tests;
