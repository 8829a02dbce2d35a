//! The pool's picture of its runners: a projection of their transitions, never a second truth.
//!
//! It may be one step behind; that is harmless, because a runner refuses what it must not do. It
//! also turns listings into observations, one a runner, and finds the names that nobody owns.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

mod members;
mod news;
mod shows;
mod supply;
mod told;

use self::members::{Members, is_ordered};
use super::{Boots, Doubted, Failures, Hold, UNDER_WAY};
use crate::{
    event::{Counts, DrainReason, Phase, Place},
    name::{PoolName, RunnerName},
    port::{Listing, Recent, Registration, Time, Vm, VmStatus},
    runner::{LISTING_LAG, Observation, Sighting, State, adopt},
};

/// One runner as its pool sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its last reported state: what a restarted actor begins with.
    pub state: State,
    /// When it was created or adopted.
    pub created_at: Time,
    /// Drain asked for, answer not seen yet: not planned again, and forgotten after a while.
    asked_at: Option<Time>,
    /// Whether it takes far longer to come online than others did.
    late: bool,
}

/// One sweep's news for a pool; a side that was not listed is `None`.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// The cloud's VMs of the whole fleet.
    pub vms: Option<Arc<Listing<Vm>>>,
    /// The forge's registrations of the pool's scope.
    pub registrations: Option<Arc<Listing<Registration>>>,
    /// What the cloud says has changed: no listing, and beside none.
    pub recent: Option<Arc<Recent>>,
    /// Whether the cloud could not be listed the time before.
    pub cloud_back: bool,
    /// Whether the forge could not be listed the time before.
    pub forge_back: bool,
}

/// What a survey means for a pool.
#[derive(Debug, Default)]
pub struct Surveyed {
    /// News for runners that are there.
    pub observe: Vec<(RunnerName, Observation)>,
    /// Runners that nobody owns, with their state.
    pub adopt: Vec<(RunnerName, State)>,
}

/// How long a drain wish stays unrepeated when the runner does not react.
const ASKED_FOR: chrono::TimeDelta = chrono::TimeDelta::seconds(30);

/// How long a deleted name is remembered, so that a stale listing does not raise it from the dead.
const TOMBSTONE: chrono::TimeDelta = chrono::TimeDelta::minutes(15);
/// How often is looked for names to forget.
const CLEARED: chrono::TimeDelta = chrono::TimeDelta::minutes(1);

/// All runners of a pool, and how sure the pool is of its sides.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    members: Members,
    tombstones: BTreeMap<RunnerName, Time>,
    /// When old tombstones were last cleared away.
    cleared: Option<Time>,
    /// When the cloud was last listed whole.
    pub cloud_seen: Option<Time>,
    /// When the cloud was listed whole for the first time.
    cloud_since: Option<Time>,
    /// Whether the newest listing of the cloud was whole.
    pub cloud_whole: bool,
    /// When the forge was last listed whole.
    pub forge_seen: Option<Time>,
    /// Whether the newest listing of the forge was whole.
    pub forge_whole: bool,
    /// Launches that failed in a row.
    pub failures: Failures,
    /// How long boots take.
    pub boots: Boots,
    /// When somebody else may be late.
    pub late_at: Option<Time>,
    vms: Option<Arc<Listing<Vm>>>,
    registrations: Option<Arc<Listing<Registration>>>,
    /// VMs that were listed after their runner's end, and in how many whole listings since they were
    /// not. Most are gone, and the listing was from a cache; `max` must not rely on it.
    lingering: BTreeMap<RunnerName, u32>,
    /// Runners whose VM was last shown running, and those whose registration was last shown online.
    running: BTreeSet<RunnerName>,
    connected: BTreeSet<RunnerName>,
    doubted_vms: Doubted,
    doubted_registrations: Doubted,
    /// Surveys since both sides were seen whole.
    surveys: u32,
    /// When this process last went on after it had stood still.
    woke: Option<Time>,
}

impl Roster {
    /// One with nobody in it, that knows of these boots.
    #[must_use]
    pub fn knowing(boots: Boots) -> Self {
        Self { boots, ..Self::default() }
    }

    /// Takes in a runner's new state. The first one enters it, `Deleted` removes it.
    pub fn transitioned(&mut self, name: &RunnerName, state: State, now: Time) {
        if state.phase() == Phase::Deleted {
            self.members.remove(name);
            self.tombstones.insert(name.clone(), now);
            if self.cleared.is_none_or(|at| now - at >= CLEARED) {
                self.tombstones.retain(|_, at| now - *at < TOMBSTONE);
                self.cleared = Some(now);
            }
            return;
        }
        if let Some(member) = self.members.get(name) {
            let counted = member.late && state.phase() == Phase::Draining;
            if !counted {
                self.failures.transitioned(name, member.created_at, &member.state, &state, now);
            }
            if member.comes_online(&state) {
                self.boots.took((now - member.created_at).to_std().unwrap_or_default());
            }
        }
        if self.members.contains_key(name) {
            self.members.change(name, |member| {
                member.late &= supply::is_unborn(&state);
                member.state = state;
                member.asked_at = None;
            });
        } else {
            let told = state.known().and_then(|known| known.created_at);
            let created_at = told.unwrap_or(now).min(now);
            let member = Member { state, created_at, asked_at: None, late: false };
            self.members.insert(name.clone(), member);
        }
    }

    /// Launches under way that will tell whether the trouble behind `hold` is over.
    #[must_use]
    pub fn probes(&self, hold: &Hold) -> u32 {
        let probes = self.members.values().filter(|m| hold.probed_by(&m.state, m.created_at));
        u32::try_from(probes.count()).unwrap_or(u32::MAX)
    }

    /// Whether a runner's new state means that it was lost: it, its VM or its launch failed. Once in a
    /// life.
    #[must_use]
    pub fn newly_lost(&self, name: &RunnerName, state: &State) -> bool {
        let lost = |state: &State| state.reason().is_some_and(DrainReason::is_loss);
        lost(state) && self.members.get(name).is_some_and(|member| !lost(&member.state))
    }

    /// Whether a runner's new state means that it came online, at a time that somebody saw.
    #[must_use]
    pub fn newly_online(&self, name: &RunnerName, state: &State) -> bool {
        self.members.get(name).is_some_and(|member| member.comes_online(state))
    }

    /// Whether a runner's new state means that the cloud has taken its launch on: forge and cloud work.
    #[must_use]
    pub fn newly_taken(&self, name: &RunnerName, state: &State) -> bool {
        let taken = |state: &State| state.known().is_some_and(|known| known.vm.is_some());
        taken(state) && self.members.get(name).is_some_and(|member| !taken(&member.state))
    }

    /// Whether the pool knows how many of its runners are busy. Right after a start they are adopted
    /// but have not yet said so; every one of them has judged the first survey of both sides once the
    /// second one came. Where there are none, there is nothing to judge: a new pool must not wait for
    /// its second survey, which a fleet at rest makes a minute later.
    #[must_use]
    pub fn occupancy_known(&self) -> bool {
        self.surveys >= 2 || (self.surveys == 1 && self.members.is_empty())
    }

    /// Remembers that a drain was asked for, so that it is not asked for again at once.
    pub fn asked(&mut self, name: &RunnerName, now: Time) {
        self.members.change(name, |member| member.asked_at = Some(now));
    }

    /// This process stood still until `at`: neither side counts as seen before a listing that began after it,
    /// and the plan waits for them as it does at a start.
    pub fn woke(&mut self, at: Time) {
        self.woke = Some(at);
        (self.cloud_seen, self.cloud_since, self.cloud_whole) = (None, None, false);
        (self.forge_seen, self.forge_whole) = (None, false);
    }

    /// A survey without what began before the last gap.
    fn since_gap(&self, survey: &Survey) -> Survey {
        let counts = |as_of: Time| self.woke.is_none_or(|woke| as_of > woke);
        Survey {
            vms: survey.vms.clone().filter(|listing| counts(listing.as_of)),
            registrations: survey.registrations.clone().filter(|listing| counts(listing.as_of)),
            ..survey.clone()
        }
    }

    /// Turns a survey into news for each runner of `pool`, and finds the ones that nobody owns.
    pub fn survey(&mut self, pool: &PoolName, survey: &Survey, now: Time) -> Surveyed {
        let survey = &self.since_gap(survey);
        // Listings can arrive in another order than they began: an older one is no news.
        if let Some(listing) = &survey.vms
            && self.vms.as_ref().is_none_or(|last| listing.as_of > last.as_of)
        {
            self.cloud_whole = listing.complete && !self.doubt_vms(listing);
            if self.cloud_whole {
                self.cloud_seen = Some(listing.as_of);
                self.cloud_since.get_or_insert(now);
            }
            if survey.cloud_back {
                self.failures.sign(Place::Cloud, now);
            }
            self.vms = Some(Arc::clone(listing));
            self.note_lingering(pool, listing, self.cloud_whole);
        }
        if let Some(listing) = &survey.registrations
            && self.registrations.as_ref().is_none_or(|last| listing.as_of > last.as_of)
        {
            self.forge_whole = listing.complete && !self.doubt_registrations(listing);
            if self.forge_whole {
                self.forge_seen = Some(listing.as_of);
            }
            if survey.forge_back {
                self.failures.sign(Place::Forge, now);
                self.failures.sign(Place::Scope, now);
            }
            self.registrations = Some(Arc::clone(listing));
        }
        if self.cloud_seen.is_some() && self.forge_seen.is_some() {
            self.surveys = self.surveys.saturating_add(1);
        }
        let vms = index(survey.vms.as_deref(), |vm: &Vm| &vm.name);
        let registrations = index(survey.registrations.as_deref(), |r: &Registration| &r.name);
        let vm_as_of = survey.vms.as_ref().map_or(now, |listing| listing.as_of);
        let registration_as_of = survey.registrations.as_ref().map_or(now, |listing| listing.as_of);
        let observe = self
            .members
            .iter()
            .map(|(name, member)| {
                let mut vm = sighting(survey.vms.as_deref(), vms.get(name));
                if vm == Sighting::Absent && self.doubted_vms.doubts(vm_as_of) {
                    vm = Sighting::Unknown;
                }
                let mut registration =
                    sighting(survey.registrations.as_deref(), registrations.get(name));
                // Of a runner on its way out no more is expected than that its registration goes.
                let lives = member.state.phase() < Phase::Draining;
                let doubted = lives && self.doubted_registrations.doubts(registration_as_of);
                if registration == Sighting::Absent && doubted {
                    registration = Sighting::Unknown;
                }
                (name.clone(), Observation { vm, registration, vm_as_of, registration_as_of })
            })
            .collect();
        Surveyed { observe, adopt: self.strangers(pool, now) }
    }

    /// Takes in which VMs a listing shows. Returns whether it lacks so many that the forge shows at work
    /// that what it lacks proves nothing.
    fn doubt_vms(&mut self, listing: &Listing<Vm>) -> bool {
        let (as_of, listed) = (listing.as_of, index(Some(listing), |vm: &Vm| &vm.name));
        if listing.complete {
            let expected = expected(&self.members, &self.running, &self.connected);
            self.doubted_vms.weigh(expected, |name| listed.contains_key(name), as_of);
        }
        let hidden = !listing.complete || self.doubted_vms.doubts(as_of);
        self.running.retain(|name| listed.get(name).map_or(hidden, |vm| runs(vm)));
        let shown = listing.entries.iter().filter(|vm| runs(vm));
        self.running.extend(shown.map(|vm| vm.name.clone()));
        self.doubted_vms.doubts(as_of)
    }

    /// As `doubt_vms`, for the forge's side.
    fn doubt_registrations(&mut self, listing: &Listing<Registration>) -> bool {
        let (as_of, listed) = (listing.as_of, index(Some(listing), |r: &Registration| &r.name));
        if listing.complete {
            let expected = expected(&self.members, &self.connected, &self.running);
            self.doubted_registrations.weigh(expected, |name| listed.contains_key(name), as_of);
        }
        let hidden = !listing.complete || self.doubted_registrations.doubts(as_of);
        self.connected
            .retain(|name| listed.get(name).map_or(hidden, |registration| registration.online));
        let shown = listing.entries.iter().filter(|registration| registration.online);
        self.connected.extend(shown.map(|registration| registration.name.clone()));
        self.doubted_registrations.doubts(as_of)
    }

    /// Finds the VMs that are still listed after their runners' end.
    fn note_lingering(&mut self, pool: &PoolName, listing: &Listing<Vm>, whole: bool) {
        let members = &self.members;
        if whole {
            self.lingering.values_mut().for_each(|misses| *misses += 1);
        }
        let vms = listing.entries.iter().filter(|vm| {
            let died = self.tombstones.get(&vm.name);
            died.is_some_and(|died| listing.as_of > *died) && vm.name.pool() == *pool
        });
        for vm in vms {
            self.lingering.insert(vm.name.clone(), 0);
        }
        self.lingering.retain(|name, misses| *misses < 2 && !members.contains_key(name));
    }

    /// Names of this pool in the newest listings that no runner has.
    fn strangers(&self, pool: &PoolName, now: Time) -> Vec<(RunnerName, State)> {
        let vms = index(self.vms.as_deref(), |vm: &Vm| &vm.name);
        let registrations = index(self.registrations.as_deref(), |r: &Registration| &r.name);
        let unknown = |name: &RunnerName, as_of: Time| {
            !self.members.contains_key(name)
                && name.pool() == *pool
                && self.tombstones.get(name).is_none_or(|died| as_of > *died + LISTING_LAG)
        };
        let mut found = Vec::new();
        if let Some(listing) = &self.vms {
            for vm in listing.entries.iter().filter(|vm| unknown(&vm.name, listing.as_of)) {
                let registration = registrations.get(&vm.name).map(|r| (*r).clone());
                found.push((vm.name.clone(), adopt(Some(vm.clone()), registration, now)));
            }
        }
        if let (Some(listing), true) = (&self.registrations, self.cloud_seen.is_some()) {
            for registration in &listing.entries {
                if unknown(&registration.name, listing.as_of)
                    && !vms.contains_key(&registration.name)
                {
                    let state = adopt(None, Some(registration.clone()), now);
                    found.push((registration.name.clone(), state));
                }
            }
        }
        found
    }

    /// Runners by state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.members.sums().counts
    }

    /// Runners in one state.
    #[must_use]
    pub fn count(&self, phase: Phase) -> u32 {
        self.counts().of(phase).map_or(0, |count| *count)
    }

    /// VMs that may exist.
    #[must_use]
    pub fn vms(&self) -> u32 {
        let lingering = self.lingering.keys().filter(|name| !self.members.contains_key(*name));
        let lingering = u32::try_from(lingering.count()).unwrap_or(u32::MAX);
        self.members.sums().vms.saturating_add(lingering)
    }

    /// How many runners an earlier daemon may have ordered of which no VM is listed yet, and until when
    /// the first of them is waited for. As long as the forge was not listed whole, that may be all of them.
    #[must_use]
    pub fn under_way(&self, now: Time) -> (u32, Option<Time>) {
        let waits = |since: Time| Some(since + UNDER_WAY).filter(|until| now < *until);
        if self.forge_seen.is_none()
            && let Some(until) = self.cloud_since.and_then(waits)
        {
            return (u32::MAX, Some(until));
        }
        if self.members.sums().ordered == 0 {
            return (0, None);
        }
        let ordered = self.members.values().map(|member| &member.state);
        let ordered = ordered.filter(|state| is_ordered(state)).filter_map(|s| waits(s.since()));
        let (found, first) = ordered.fold((0_u32, None), |(found, first), until| {
            (found.saturating_add(1), Some(first.map_or(until, |first: Time| first.min(until))))
        });
        (found, first)
    }

    /// One runner.
    #[must_use]
    pub fn get(&self, name: &RunnerName) -> Option<&Member> {
        self.members.get(name)
    }

    /// All runners, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&RunnerName, &Member)> {
        self.members.iter()
    }

    /// Whether there is no runner.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Forgets a runner whose actor cannot be kept alive: the next listings adopt whatever is left.
    pub fn hand_to_orphans(&mut self, name: &RunnerName) -> Option<Member> {
        self.members.remove(name)
    }

    /// Whether something is expected to change soon, so that listings should come quickly: anything
    /// but idle runners.
    #[must_use]
    pub fn expects_change(&self) -> bool {
        let counts = self.counts();
        counts.live() - counts.idle + counts.draining > 0
    }
}

fn runs(vm: &Vm) -> bool {
    matches!(vm.status, VmStatus::Active | VmStatus::Error { .. } | VmStatus::Unknown { .. })
}

/// Runners that both sides last showed, and that nobody ends.
fn expected<'a>(
    members: &'a Members,
    here: &'a BTreeSet<RunnerName>,
    there: &'a BTreeSet<RunnerName>,
) -> impl Iterator<Item = &'a RunnerName> {
    let lives = |name: &&RunnerName| {
        members.get(*name).is_some_and(|member| member.state.phase() < Phase::Draining)
    };
    here.intersection(there).filter(lives)
}

fn index<'a, T>(
    listing: Option<&'a Listing<T>>,
    name: impl Fn(&'a T) -> &'a RunnerName,
) -> HashMap<&'a RunnerName, &'a T> {
    listing.into_iter().flat_map(|l| &l.entries).map(|entry| (name(entry), entry)).collect()
}

fn sighting<T: Clone>(listing: Option<&Listing<T>>, entry: Option<&&T>) -> Sighting<T> {
    match (entry, listing) {
        (Some(entry), _) => Sighting::Seen((*entry).clone()),
        (None, Some(listing)) if listing.complete => Sighting::Absent,
        (None, _) => Sighting::Unknown,
    }
}
