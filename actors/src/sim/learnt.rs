//! What the brain has learnt of the outside: what of it outlives a process, and the judge's own books of it.

use std::{collections::BTreeMap, time::Duration};

use super::{Mutant, evidence::Evidence, process::RunnerShell, world::World};
use crate::{
    event::Phase,
    invariant::{self, Broken},
    name::RunnerName,
    pool::{Boots, Roster},
    port::Time,
    runner::State,
};

/// What was learnt, in all processes.
#[derive(Default)]
pub(super) struct Books {
    /// How long the boots of each pool took that somebody saw.
    boots: BTreeMap<usize, Boots>,
    /// The longest lag of the forge's flag that was shown.
    pub late: Duration,
    /// Since when a job was seen that came past a cordon.
    pub leaked_at: Option<Time>,
}

impl Books {
    /// What is broken where a pool counts on somebody who takes far longer than all who came online.
    pub fn far<'a>(
        &self,
        pool: usize,
        roster: &Roster,
        runners: impl Iterator<Item = (&'a RunnerName, &'a RunnerShell)>,
        now: Time,
    ) -> Option<Broken> {
        let patience = self.boots.get(&pool)?.patience();
        let lives =
            runners.filter(|(_, one)| one.pool == pool && one.state.phase() < Phase::Draining);
        let near = lives.filter(|(name, one)| {
            let Some(member) = roster.get(name).filter(|_| is_unborn(&one.state)) else {
                return true;
            };
            let due = member.created_at + patience;
            // Where the forge is not seen, nobody is seen online.
            now < due || roster.forge_seen.is_none_or(|seen| seen < due)
        });
        let (live, near) = (roster.live() as usize, near.count());
        let seen = format!("pool {pool} counts {live}, of whom {near} came in time or still may");
        (live > near).then_some(Broken { name: invariant::SUPPLY, seen })
    }
}

fn is_unborn(state: &State) -> bool {
    let waits = matches!(state, State::Creating { .. } | State::Registering { .. });
    waits && state.known().is_some_and(|known| !known.was_online)
}

impl World {
    /// What is on the disk when a process dies.
    pub fn keep(&mut self) {
        let Some(process) = self.process.take() else { return };
        if self.mutant != Some(Mutant::ForgetsHabits) {
            self.habits = process.habits.believed(self.now);
        }
        if self.mutant != Some(Mutant::ForgetsBoots) {
            for (pool, shell) in self.pools.iter_mut().zip(process.pools) {
                pool.boots = shell.roster.boots;
            }
        }
    }

    /// Writes down how long a runner took that comes online, where somebody saw when.
    pub fn note_boot(&mut self, pool: usize, name: &RunnerName, was: &State, is: &State) {
        let online = matches!(is.phase(), Phase::Idle | Phase::Busy);
        let shell = self.process.as_ref().and_then(|process| process.pools.get(pool));
        let member = shell.and_then(|shell| shell.roster.get(name));
        if let Some(member) = member.filter(|_| online && is_unborn(was) && !was.is_found()) {
            let took = (self.now - member.created_at).to_std().unwrap_or_default();
            self.books.boots.entry(pool).or_default().took(took);
        }
    }

    /// Judges how long a cordoned runner was watched that is deregistered now.
    pub fn judge_watch(&mut self, name: &RunnerName, evidence: &Evidence) {
        let cordoned = self.registrations.get(name).and_then(|one| one.cordoned);
        let limits = self.pool_of(name).and_then(|pool| self.pools.get(pool)).map(|p| &p.limits);
        let Some((since, limits)) = cordoned.zip(limits) else { return };
        let watch = limits.watch.max(self.books.late);
        // A listing from a cache says that it is newer than it is.
        if self.now + limits.listing_lag < since + watch
            && !evidence.proven_quiet(limits.idle_alone)
        {
            let detail = format!("{name} goes before it was watched for {watch:?}");
            self.violated(invariant::WATCHED, detail);
        }
    }
}
