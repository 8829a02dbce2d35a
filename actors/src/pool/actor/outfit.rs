//! How a pool is set up, and what it is given to live.

use std::sync::Arc;

use actix::{Message, Recipient};
use tokio::sync::watch;

use super::signs::Works;
use crate::{
    demand::Demand,
    hands::Blueprint,
    name::{FleetId, PoolName, Scope},
    pool::{Boots, Policy, SharedBoots},
    runner::{Limits, actor::Shared},
    scaler,
    supervision::Intensity,
};

/// How a pool is set up. Changed as a whole by a reload.
#[derive(Clone)]
pub struct Configure {
    /// What new runners are made of.
    pub blueprint: Arc<Blueprint>,
    /// What the pool may do.
    pub policy: Policy,
    /// Its scaling policy, for those who look.
    pub scaling: scaler::Policy,
    /// The limits of its runners' states.
    pub limits: Limits,
    /// Its provider's name, for those who look.
    pub provider: String,
}

impl Message for Configure {
    type Result = ();
}

/// What tells a pool apart: its runners on one provider, registered in one scope. A reload that
/// moves a pool leaves the runners at the old place to a retiring pool of the same name; one actor
/// for both would look for them where they are not, and delete what it takes for finished.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolKey {
    /// The pool's name.
    pub pool: PoolName,
    /// Its provider.
    pub provider: String,
    /// Where its runners register.
    pub scope: Scope,
}

/// Wakes the sweeps: counters, so that no wish is lost while a sweep is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stir {
    /// A change is on its way: look more often.
    pub changes: u64,
    /// Somebody wants the listings now.
    pub at_once: u64,
}

/// What a pool is given to live.
pub struct Outfit {
    /// The fleet.
    pub fleet: FleetId,
    /// What its runners share: the ports, limits, read model, observer.
    pub shared: Arc<Shared>,
    /// How it is set up.
    pub configure: Configure,
    /// Where its busy runners are published, the part of demand that every pool knows.
    pub occupancy: Arc<watch::Sender<Option<Demand>>>,
    /// Who is told that a launch was taken on.
    pub works: Recipient<Works>,
    /// How long boots took before, and from now on.
    pub boots: SharedBoots,
    /// Wakes the sweeps when a change is on its way.
    pub stir: Arc<watch::Sender<Stir>>,
    /// Whether another pool of that name is the one that people look at.
    pub shadow: bool,
    /// How often a runner's actor may die.
    pub intensity: Intensity,
}

impl Outfit {
    /// What tells this pool apart.
    #[must_use]
    pub fn key(&self) -> PoolKey {
        PoolKey {
            pool: self.shared.pool.clone(),
            provider: self.configure.provider.clone(),
            scope: self.configure.blueprint.scope.clone(),
        }
    }

    /// How long boots took, as far as anybody remembers.
    pub(super) fn kept(&self) -> Boots {
        self.boots.get(&self.place()).map(|boots| boots.clone()).unwrap_or_default()
    }

    /// For whoever comes after this actor.
    pub(super) fn keep(&self, boots: &Boots) {
        self.boots.insert(self.place(), boots.clone());
    }

    fn place(&self) -> (PoolName, String) {
        (self.shared.pool.clone(), self.configure.provider.clone())
    }
}
