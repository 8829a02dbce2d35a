//! What one process of the daemon holds in memory, and loses when it dies.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::Evidence;
use crate::{
    event::Phase,
    name::RunnerName,
    pool::{Habits, Policy, Roster},
    port::{Door, Doors, Heard, Time},
    runner::{Effect, State},
    scaler::Target,
    sweep::{Expectation, Streak},
};

/// One process of the daemon.
pub(super) struct Process {
    pub pools: Vec<PoolShell>,
    pub runners: BTreeMap<RunnerName, RunnerShell>,
    /// Names that were deleted with nothing left of them.
    pub buried: BTreeSet<RunnerName>,
    /// When each runner of this process ended.
    pub ended: BTreeMap<RunnerName, Time>,
    /// How the listings of the cloud and of the forge go.
    pub cloud: Streak,
    pub forge: Streak,
    /// What the forge has shown of its habits.
    pub habits: Habits,
    /// What the forge's client knows of a limit: until when it asks for no registration.
    pub limited: Option<Time>,
    /// Since when it has been awake.
    pub awake_since: Time,
    /// When it was started.
    pub began: Time,
}

/// A pool's actor and its scaler's.
pub(super) struct PoolShell {
    pub roster: Roster,
    pub target: Target,
    pub policy: Policy,
    /// Whether demand or an operator has ever set its target.
    pub heard: bool,
    pub replan_at: Option<Time>,
    pub heard_of_gaps: Heard,
    /// When its target last rose.
    pub raised: Option<Time>,
    /// When the newest whole listing of the cloud began that reached it.
    pub listed: Option<Time>,
}

/// A runner's actor.
pub(super) struct RunnerShell {
    pub pool: usize,
    pub state: State,
    /// Number of the operation whose answer is due.
    pub op: Option<u64>,
    pub armed: u64,
    pub armed_for: Option<Time>,
    pub ticked: (Option<Time>, u32),
    pub evidence: Evidence,
    pub heard_of_gaps: Heard,
}

impl Process {
    pub fn knows(&self, name: &RunnerName) -> bool {
        self.runners.contains_key(name)
    }

    /// Whether a runner counts a VM of that name.
    pub fn holds(&self, name: &RunnerName) -> bool {
        self.runners.get(name).is_some_and(|runner| runner.state.holds_vm())
    }

    /// What this process was told about a runner.
    pub fn evidence(&self, name: &RunnerName) -> Option<Evidence> {
        self.runners.get(name).map(|runner| runner.evidence)
    }

    /// The state of a runner that it has.
    pub fn phase(&self, name: &RunnerName) -> Option<Phase> {
        self.runners.get(name).map(|runner| runner.state.phase())
    }

    /// Since when a runner is in its state.
    pub fn since(&self, name: &RunnerName) -> Option<Time> {
        self.runners.get(name).map(|runner| runner.state.since())
    }

    /// Until when the forge had a runner's cordon stay, by a refusal of before.
    pub fn cordon_held_until(&self, name: &RunnerName) -> Option<Time> {
        self.runners.get(name)?.state.known()?.cordon.not_before
    }

    pub fn names(&self) -> impl Iterator<Item = &RunnerName> {
        self.runners.keys()
    }

    /// Runners whose launch is under way.
    pub fn launching(&self, pool: usize) -> impl Iterator<Item = &RunnerName> {
        self.runners.iter().filter_map(move |(name, runner)| {
            let flight = runner.state.known().and_then(|known| known.in_flight);
            let launching = flight.is_some_and(|flight| flight.effect == Effect::Launch);
            (runner.pool == pool && launching).then_some(name)
        })
    }

    pub fn absence_awaited(&self) -> bool {
        self.pools.iter().any(|pool| pool.roster.absence_awaited())
    }

    pub fn expectation(&self) -> Expectation {
        match self.pools.iter().any(|pool| pool.roster.expects_change()) {
            true => Expectation::Changing,
            false => Expectation::Quiet,
        }
    }

    /// What the doors of forge and cloud let through.
    pub fn doors(&self, now: Time) -> Doors {
        let limited = self.limited.filter(|until| now < *until);
        let forge = limited.map_or_else(Door::open, |until| Door::shut(until, "the forge says so"));
        Doors { forge, ..Doors::default() }
    }

    pub fn is_op(&self, name: &RunnerName, op: u64) -> bool {
        self.runners.get(name).is_some_and(|runner| runner.op == Some(op))
    }
}
