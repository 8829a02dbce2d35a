//! Sweeps: one listing of the cloud and one of the forge for the whole fleet, with what can be wrong
//! about them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::Rng;

use super::{Mutant, happening::Happening, outages::Outage, world::World};
use crate::{
    name::RunnerName,
    pool::Survey,
    port::{ErrorClass, Listing, PortError, Registration, Time, Vm},
    runner::Event,
    sweep::{self, Cadence, Look, Means},
};

/// The last listings, for the stale ones, and what was left out of them.
#[derive(Default)]
pub(super) struct Snapshots {
    vms: Option<Arc<Listing<Vm>>>,
    registrations: Option<Arc<Listing<Registration>>>,
    missed_vm: BTreeSet<RunnerName>,
    missed_registration: BTreeSet<RunnerName>,
    /// Until when whole listings of the forge lack a runner, or all.
    pub lacking: Option<(Option<RunnerName>, Time)>,
    /// Until when whole listings of the cloud lack all of the fleet's VMs.
    pub cloudless: Option<Time>,
    /// Of these, those that two listings in a row lacked.
    missed_again: BTreeSet<RunnerName>,
}

impl World {
    /// Takes the snapshots; they arrive some seconds later.
    pub fn sweep_begins(&mut self, epoch: u32) {
        if epoch != self.epoch || self.process.is_none() {
            return;
        }
        let (vms, recent) = match self.next_look() {
            Look::Whole => {
                let listing = self.list_vms();
                let whole = listing.as_ref().is_some_and(|listing| listing.complete);
                self.all_told(whole);
                (listing, None)
            }
            Look::Recent => (None, self.list_recent().map(Arc::new)),
        };
        let registrations = self.list_registrations();
        let mut survey = Survey { vms, recent, registrations, ..Survey::default() };
        if let Some(process) = &mut self.process {
            let hears = self.mutant != Some(Mutant::DeafToSigns);
            let seen = survey.vms.is_some() || survey.recent.is_some();
            survey.cloud_back = process.cloud.swept(seen) && hears;
            survey.forge_back = process.forge.swept(survey.registrations.is_some()) && hears;
        }
        let most = match self.chance(0.05) {
            _ if self.strict => 0.5,
            true => 30.0,
            false => 4.0,
        };
        let hangs = self.outages.until(Outage::CloudHangs, self.now);
        let held = hangs.map_or(0.0, |until| (until - self.now).as_seconds_f64());
        self.between(held + 0.3, held + most, Happening::SweepEnds { epoch, survey });
    }

    pub fn is_cloud_away(&self) -> bool {
        self.outages.until(Outage::CloudAway, self.now).is_some()
    }

    fn list_vms(&mut self) -> Option<Arc<Listing<Vm>>> {
        self.counters.cloud_calls += 1;
        let away = self.is_cloud_away();
        if away || self.chance(self.faults.listing_fails) {
            self.note(|| "listing: fails".to_owned());
            return None;
        }
        if let Some(old) = self.snapshots.vms.clone()
            && self.chance(self.faults.listing_stale)
        {
            self.note(|| format!("listing: stale, of {}", old.as_of.format("%H:%M:%S")));
            return Some(old);
        }
        let entries = self
            .vms
            .iter()
            .filter(|(name, _)| name.is_of(&self.fleet))
            .map(|(name, vm)| vm.listed(name))
            .collect();
        let mut missed = std::mem::take(&mut self.snapshots.missed_vm);
        let mut listing = self.spoil(entries, |vm: &Vm| &vm.name, &mut missed);
        if self.snapshots.cloudless.is_some_and(|until| self.now < until) {
            self.note(|| "listing: lacks every VM".to_owned());
            listing.entries.clear();
        }
        let listing = Arc::new(listing);
        self.snapshots.missed_vm = missed;
        self.snapshots.vms = Some(Arc::clone(&listing));
        Some(listing)
    }

    fn list_registrations(&mut self) -> Option<Arc<Listing<Registration>>> {
        self.counters.forge_calls += 1;
        let away = self.outages.until(Outage::ForgeAway, self.now).is_some();
        if away || self.chance(self.faults.listing_fails) {
            self.note(|| "listing: fails".to_owned());
            return None;
        }
        if let Some(old) = self.snapshots.registrations.clone()
            && self.chance(self.faults.listing_stale)
        {
            self.note(|| format!("listing: stale, of {}", old.as_of.format("%H:%M:%S")));
            return Some(old);
        }
        let entries = self
            .registrations
            .iter()
            .filter(|(name, _)| name.is_of(&self.fleet))
            .map(|(name, registration)| registration.listed(name, self.now))
            .collect();
        let mut missed = std::mem::take(&mut self.snapshots.missed_registration);
        let once = missed.difference(&self.snapshots.missed_again).cloned().collect::<Vec<_>>();
        let mut listing = self.spoil(entries, |r: &Registration| &r.name, &mut missed);
        if listing.complete {
            self.snapshots.missed_again.clear();
            for name in once {
                if self.chance(self.faults.listing_misses_again) {
                    listing.entries.retain(|entry| entry.name != name);
                    self.note(|| format!("listing: {name} is left out again"));
                    missed.insert(name.clone());
                    self.snapshots.missed_again.insert(name);
                }
            }
        }
        if let Some((lacking, until)) = &self.snapshots.lacking
            && self.now < *until
        {
            listing
                .entries
                .retain(|one| lacking.as_ref().is_some_and(|lacking| one.name != *lacking));
            let line = format!("listing: lacks {lacking:?} for minutes");
            self.note(|| line);
        }
        let listing = Arc::new(listing);
        self.snapshots.missed_registration = missed;
        self.snapshots.registrations = Some(Arc::clone(&listing));
        Some(listing)
    }

    /// Makes a listing of a true snapshot: partial and honest about it, short of one entry without a
    /// word, or labelled some seconds too new.
    fn spoil<T>(
        &mut self,
        mut entries: Vec<T>,
        name: impl Fn(&T) -> &RunnerName,
        missed: &mut BTreeSet<RunnerName>,
    ) -> Listing<T> {
        let mut complete = true;
        let before = std::mem::take(missed);
        if self.chance(self.faults.listing_partial) && !entries.is_empty() {
            complete = false;
            entries.truncate(self.rng.random_range(0..entries.len()));
            let left = entries.len();
            self.note(|| format!("listing: partial, {left} entries"));
        } else if self.chance(self.faults.listing_misses) && !entries.is_empty() {
            let index = self.rng.random_range(0..entries.len());
            if entries.get(index).is_some_and(|entry| !before.contains(name(entry))) {
                let name = name(&entries.remove(index)).clone();
                self.note(|| format!("listing: {name} is left out"));
                missed.insert(name);
            }
        }
        if !complete {
            // A gap that was admitted proves nothing, so the memory of the last silent one stays.
            *missed = before;
        }
        let lag =
            if self.chance(self.faults.listing_cached) { self.rng.random_range(1..8) } else { 0 };
        let faults =
            if complete { Vec::new() } else { vec!["a page could not be read".to_owned()] };
        Listing { entries, complete, as_of: self.now + Duration::from_secs(lag), faults }
    }

    /// The listings reach every pool, every pool tells its runners and adopts what nobody owns.
    pub fn sweep_ends(&mut self, epoch: u32, survey: &Survey) {
        if epoch != self.epoch || self.process.is_none() {
            return;
        }
        self.counters.listings += 1;
        if let Some(recent) = &survey.recent {
            self.recent_ends(recent);
        }
        let ended = self.process.as_ref().map(|process| &process.ended);
        let awake_since = self.process.as_ref().map(|process| process.awake_since);
        if let Some(listing) = &survey.vms {
            for entry in &listing.entries {
                let late = ended.and_then(|ended| ended.get(&entry.name));
                let asleep = awake_since.is_some_and(|awake| listing.as_of <= awake);
                let tells = !asleep && late.is_none_or(|ended| listing.as_of > *ended);
                if let (Some(vm), true) = (self.vms.get_mut(&entry.name), tells) {
                    vm.shown_to = epoch;
                }
            }
        }
        let now = self.now;
        for pool in 0..self.pools.len() {
            self.pool_notices(pool);
            let Some(name) = self.pools.get(pool).map(|pool| pool.name.clone()) else { continue };
            let Some(shell) = self.process.as_mut().and_then(|p| p.pools.get_mut(pool)) else {
                continue;
            };
            let whole = survey.vms.as_ref().filter(|listing| listing.complete);
            shell.listed = shell.listed.max(whole.map(|listing| listing.as_of));
            let surveyed = shell.roster.survey(&name, survey, now);
            for (name, state) in surveyed.adopt {
                self.adopt(pool, &name, state);
            }
            for (name, seen) in surveyed.observe {
                self.apply(&name, Event::Observed(seen));
            }
            self.plan_pool(pool);
        }
        self.judge_useless();
        let Some(process) = &self.process else { return };
        let expectation = process.expectation();
        let cadence = Cadence { changing: Duration::from_secs(10), ..Cadence::FORGE };
        let error = PortError::certain(ErrorClass::Transient, "it was not listed");
        let due = match process.cloud.failures().max(process.forge.failures()) {
            0 => now + sweep::pause(expectation, Means::Enough, false, &cadence),
            failures => sweep::after_failure(&error, failures, expectation, &cadence, now),
        };
        self.at(due, Happening::SweepBegins { epoch });
    }
}
