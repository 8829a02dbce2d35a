//! What each pool is told: the newest pressures, the busy runners, and who wants to know.
//!
//! Busy runners are counted here from the fleet's own events and not taken from the read model: an
//! event is heard the moment it happens, so that a job that starts turns from waiting into running
//! in one step.
//!
//! A job's end is known here in milliseconds, by its guest, and at the planner seconds later, by a
//! webhook. In between the pressure still counts it, and a job that is over would look like one that
//! waits: each end would launch a VM for nobody. So an end is taken off the pressure until the
//! pressure falls, or until the planner has had [`HEARS_WITHIN`] to hear of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use runner_fleet_actors::{
    demand::Demand,
    event::{Phase, Transition},
    foreign::Foreign,
    name::{PoolName, RunnerName},
    port::Time,
};
use tokio::sync::watch;

use super::share::{demand, share};

/// How long the planner may take to hear of a job's end. Longer, and a job that came in meanwhile
/// would wait for it where the planner was the first to know.
const HEARS_WITHIN: Duration = Duration::from_secs(15);

struct Follower {
    flavor: String,
    /// When jobs ended that the pressure may still count; the oldest first.
    ended: VecDeque<Time>,
    sender: watch::Sender<Option<Demand>>,
}

/// Pressures in, demand of each pool out.
pub(super) struct Board {
    unit: u32,
    units: u32,
    pressures: Option<(BTreeMap<Foreign, u32>, Time)>,
    busy: BTreeMap<PoolName, BTreeSet<RunnerName>>,
    pools: BTreeMap<PoolName, Follower>,
}

impl Board {
    pub(super) fn new(unit: u32, units: u32) -> Self {
        let (busy, pools) = (BTreeMap::new(), BTreeMap::new());
        Self { unit, units, pressures: None, busy, pools }
    }

    /// The demand of `pool`, whose flavor is called as itself unless [`Board::follow`] said otherwise.
    pub(super) fn watch(&mut self, pool: &PoolName) -> watch::Receiver<Option<Demand>> {
        if !self.pools.contains_key(pool) {
            self.follow(pool, pool.as_str());
        }
        match self.pools.get(pool) {
            Some(follower) => follower.sender.subscribe(),
            None => watch::Sender::new(None).subscribe(),
        }
    }

    /// From now on `pool` follows `flavor`.
    pub(super) fn follow(&mut self, pool: &PoolName, flavor: &str) {
        let follower = self.pools.entry(pool.clone()).or_insert_with(|| Follower {
            flavor: String::new(),
            ended: VecDeque::new(),
            sender: watch::Sender::new(None),
        });
        follower.flavor = flavor.to_owned();
        self.tell(pool);
    }

    /// All pressures, as they are now.
    pub(super) fn hear(&mut self, pressures: BTreeMap<Foreign, u32>, now: Time) {
        if let Some((before, _)) = &self.pressures {
            for follower in self.pools.values_mut() {
                let of =
                    |told: &BTreeMap<Foreign, u32>| told.get(follower.flavor.as_str()).copied();
                let fell = of(before).zip(of(&pressures)).map(|(old, new)| old.saturating_sub(new));
                let fell = usize::try_from(fell.unwrap_or(0)).unwrap_or(usize::MAX);
                follower.ended.drain(..fell.min(follower.ended.len()));
            }
        }
        self.pressures = Some((pressures, now));
        self.tell_all();
    }

    /// Lets go of the ends that the planner must have heard of by now.
    pub(super) fn settle(&mut self, now: Time) {
        for follower in self.pools.values_mut() {
            while follower.ended.front().is_some_and(|at| *at + HEARS_WITHIN <= now) {
                follower.ended.pop_front();
            }
        }
        self.tell_all();
    }

    /// When [`Board::settle`] has something to do.
    pub(super) fn settles_at(&self) -> Option<Time> {
        let oldest = self.pools.values().filter_map(|follower| follower.ended.front());
        oldest.min().map(|at| *at + HEARS_WITHIN)
    }

    /// From now on nothing is known.
    pub(super) fn lose(&mut self) {
        self.pressures = None;
        for follower in self.pools.values_mut() {
            follower.ended.clear();
        }
        self.tell_all();
    }

    /// A runner of any pool changed its state.
    pub(super) fn moved(&mut self, transition: &Transition, now: Time) {
        let busy = self.busy.entry(transition.pool.clone()).or_default();
        let changed = match transition.to {
            Phase::Busy => busy.insert(transition.runner.clone()),
            _ => busy.remove(&transition.runner),
        };
        if !changed {
            return;
        }
        let over = matches!(transition.to, Phase::Draining | Phase::Deleted);
        if over && let Some(follower) = self.pools.get_mut(&transition.pool) {
            follower.ended.push_back(now);
        }
        self.tell(&transition.pool);
    }

    /// The pressures that were heard last, while they are believed.
    pub(super) fn pressures(&self) -> BTreeMap<Foreign, u32> {
        self.pressures.as_ref().map(|(pressures, _)| pressures.clone()).unwrap_or_default()
    }

    /// Pools whose flavor the planner does not tell, while it tells any.
    pub(super) fn without_flavor(&self) -> BTreeMap<PoolName, String> {
        let Some((pressures, _)) = &self.pressures else { return BTreeMap::new() };
        self.pools
            .iter()
            .filter(|(_, follower)| !pressures.contains_key(follower.flavor.as_str()))
            .map(|(pool, follower)| (pool.clone(), follower.flavor.clone()))
            .collect()
    }

    fn tell_all(&self) {
        for pool in self.pools.keys() {
            self.tell(pool);
        }
    }

    fn tell(&self, pool: &PoolName) {
        let Some(follower) = self.pools.get(pool) else { return };
        let busy = self.busy.get(pool).map_or(0, BTreeSet::len);
        let busy = u32::try_from(busy).unwrap_or(u32::MAX);
        // A flavor that the planner does not know is unknown, not without jobs.
        let known = self.pressures.as_ref().and_then(|(pressures, as_of)| {
            let total = share(*pressures.get(follower.flavor.as_str())?, self.unit, self.units);
            let ended = u32::try_from(follower.ended.len()).unwrap_or(u32::MAX);
            Some(demand(total.saturating_sub(ended), busy, *as_of))
        });
        follower.sender.send_if_modified(|last| {
            let changed = *last != known;
            *last = known;
            changed
        });
    }
}
