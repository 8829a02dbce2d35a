//! What the simulated cloud tells of changes, where it tells any, and what can be wrong about it: it lacks some, is
//! an answer of before, is older than it says, or calls VMs deleted that nobody has deleted.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{Mutant, world::World};
use crate::{
    name::{RunnerName, VmId},
    port::{Listing, Recent, Time, VmStatus},
    runner::{Event, State},
    sweep::{self, Cadence, Expected, Look},
};

/// What the cloud has told.
#[derive(Default)]
pub(super) struct Told {
    /// Its VMs as they were last told.
    known: BTreeMap<RunnerName, (VmId, VmStatus)>,
    last: Option<Recent>,
    /// When everything was last listed.
    whole: Option<Time>,
}

impl World {
    /// Whether the cloud of that seed's world tells what has changed.
    pub fn tells_recent(seed: u64) -> bool {
        SmallRng::seed_from_u64(seed ^ 0x7265_6365_6e74).random_bool(0.5)
    }

    /// How the process looks at the cloud next.
    pub fn next_look(&self) -> Look {
        let Some(process) = &self.process else { return Look::Whole };
        let whole = self.told.whole.filter(|_| self.tells && process.cloud.failures() == 0);
        // Who takes it for all that there is sees no need for more.
        let enough = self.mutant == Some(Mutant::TakesRecentForAll);
        let expected = Expected {
            by: process.expectation(),
            shows_from: Some(self.now),
            absence: process.absence_awaited() && !enough,
        };
        sweep::look(expected, whole, self.now, &Cadence::CLOUD)
    }

    /// A whole listing is asked for: what changed before it is not told any more.
    pub fn all_told(&mut self, listed: bool) {
        let vms = self.vms.iter().filter(|(name, _)| name.is_of(&self.fleet));
        let known = vms.map(|(name, vm)| (name.clone(), (vm.id.clone(), vm.status.clone())));
        self.told = Told { known: known.collect(), last: None, whole: listed.then_some(self.now) };
    }

    /// What has changed; `None` where the cloud does not answer.
    pub fn list_recent(&mut self) -> Option<Recent> {
        self.counters.cloud_calls += 1;
        let faults = self.faults;
        if self.is_cloud_away() || self.chance(faults.listing_fails) {
            self.note(|| "recent: fails".to_owned());
            self.told.whole = None;
            return None;
        }
        if let Some(old) = self.told.last.clone()
            && self.chance(faults.recent_repeats)
        {
            self.note(|| "recent: an answer of before".to_owned());
            return Some(old);
        }
        let lag = if self.chance(faults.listing_cached) { self.rng.random_range(1..8) } else { 0 };
        let mut recent = Recent::nothing(self.now + Duration::from_secs(lag));
        let mut known = std::mem::take(&mut self.told.known);
        let there: Vec<_> = self
            .vms
            .iter()
            .filter(|(name, _)| name.is_of(&self.fleet))
            .map(|(name, vm)| vm.listed(name))
            .collect();
        for vm in there {
            let now = (vm.id.clone(), vm.status.clone());
            // The question overlaps the one before.
            let told = known.get(&vm.name) == Some(&now) && !self.chance(0.2);
            if told || self.chance(faults.recent_lacks) {
                continue;
            }
            known.insert(vm.name.clone(), now);
            // Lies about its age are another fault: both at once are two witnesses that lie.
            let lies = vm.status != VmStatus::Deleting && lag == 0;
            if lies && self.chance(faults.recent_lies) {
                recent.deleted.push((vm.name.clone(), vm.id.clone()));
            }
            recent.changed.push(vm);
        }
        let gone: Vec<_> =
            known.keys().filter(|name| !self.vms.contains_key(*name)).cloned().collect();
        for name in gone {
            if self.chance(faults.recent_lacks) {
                continue;
            }
            let Some((id, _)) = known.get(&name) else { continue };
            recent.deleted.push((name.clone(), id.clone()));
            if self.chance(0.5) {
                known.remove(&name);
            }
        }
        (self.told.known, self.told.last) = (known, Some(recent.clone()));
        Some(recent)
    }

    /// What has changed reaches every pool, and every runner that it names.
    pub fn recent_ends(&mut self, recent: &Recent) {
        self.counters.recents += 1;
        let now = self.now;
        for pool in 0..self.pools.len() {
            self.pool_notices(pool);
            let name = self.pools.get(pool).map(|pool| pool.name.clone());
            let shell = self.process.as_mut().and_then(|p| p.pools.get_mut(pool));
            let Some((shell, name)) = shell.zip(name) else { continue };
            let news = if self.mutant == Some(Mutant::TakesRecentForAll) {
                let Recent { changed, as_of, .. } = recent.clone();
                let listing =
                    Listing { entries: changed, complete: true, as_of, faults: Vec::new() };
                let survey =
                    crate::pool::Survey { vms: Some(listing.into()), ..Default::default() };
                let surveyed = shell.roster.survey(&name, &survey, now);
                let seen = |(name, seen)| (name, Event::Observed(seen));
                surveyed.observe.into_iter().map(seen).collect()
            } else {
                shell.roster.recent(recent)
            };
            for (name, event) in news {
                self.apply(&name, event);
            }
        }
    }

    /// Judges what was made of the cloud's word that a VM is deleted.
    pub fn judge_ended(&mut self, name: &RunnerName, before: &State, event: &Event, after: &State) {
        let Event::VmEnded { vm, .. } = event else { return };
        let gone = |state: &State| match state {
            State::Draining { drain, .. } => drain.vm_gone,
            State::Deleted { .. } => true,
            _ => false,
        };
        if !gone(before) && gone(after) {
            self.counters.ends_told += 1;
            if self.vms.get(name).is_some_and(|there| there.id == *vm) {
                let detail = format!("{name} counts as gone, and its VM is there");
                self.violated(crate::invariant::ENDED, detail);
            }
        }
    }
}
