//! What was learnt of the outside, kept over a restart: how fast GitHub may be asked (whoever starts anew a minute
//! after a refusal would be refused again), how long the boots of each pool take (he would wait five minutes for VMs
//! that never come online, where the process before him knew after two), and what each scope has shown of GitHub's
//! habits (he would deregister a runner at work, whose flag is later than he thinks).
//!
//! Small JSON files in the state folder. They may be some seconds old, and nothing depends on them: whoever knows
//! less learns it again. What nobody asks for any more is forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use runner_fleet_actors::{
    name::{PoolName, Scope},
    pool::{Boots, Habits, SharedBoots, SharedHabits},
    port::Time,
};

use super::kept::Kept;
use crate::{github::Lessons, state::StateFolder};

/// What the fleet learns, and the files that keep it.
#[derive(Debug)]
pub(super) struct Learnt {
    paces: Kept<Lessons>,
    boots: Kept<BTreeMap<PoolName, BTreeMap<String, Boots>>>,
    habits: Kept<BTreeMap<Scope, Habits>>,
    /// The fleet's own; it writes there.
    known_boots: SharedBoots,
    known_habits: SharedHabits,
}

impl Learnt {
    /// Reads what an earlier daemon kept in `folder`: of boots those of these pools at these providers, of habits
    /// what is still believed `now`. A file that cannot be understood is moved aside.
    ///
    /// # Errors
    /// Where a file cannot be read or moved.
    pub(super) fn open<'a>(
        folder: &StateFolder,
        pools: impl IntoIterator<Item = (&'a PoolName, &'a str)>,
        now: Time,
    ) -> Result<Self, String> {
        let paces = "how fast GitHub may be asked is learnt again";
        let boots = "how long boots take is learnt again";
        let habits = "how late GitHub shows jobs, and whether they come to runners that are to get none, is \
                      learnt again";
        let learnt = Self {
            paces: Kept::open(folder, "paces.json", paces)?,
            boots: Kept::open(folder, "boots.json", boots)?,
            habits: Kept::open(folder, "habits.json", habits)?,
            known_boots: SharedBoots::default(),
            known_habits: SharedHabits::default(),
        };
        let there: BTreeSet<_> = pools.into_iter().collect();
        for (pool, places) in learnt.boots.get() {
            for (provider, boots) in places {
                if there.contains(&(&pool, provider.as_str())) {
                    learnt.known_boots.insert((pool.clone(), provider), boots);
                }
            }
        }
        for (scope, habits) in learnt.habits.get() {
            let believed = habits.believed(now);
            if believed != Habits::default() {
                learnt.known_habits.insert(scope, believed);
            }
        }
        Ok(learnt)
    }

    /// Of how fast GitHub may be asked: what was read, or last written.
    pub(super) fn lessons(&self) -> Lessons {
        self.paces.get()
    }

    /// For the fleet.
    pub(super) fn boots(&self) -> SharedBoots {
        Arc::clone(&self.known_boots)
    }

    /// For the fleet.
    pub(super) fn habits(&self) -> SharedHabits {
        Arc::clone(&self.known_habits)
    }

    /// Writes down what is news. What the disk refuses is a trouble of the folder, and is written with the next
    /// call.
    pub(super) fn keep(&self, lessons: Lessons) {
        self.paces.keep(lessons);
        let mut boots = BTreeMap::<_, BTreeMap<_, _>>::new();
        for entry in self.known_boots.iter() {
            let (pool, provider) = entry.key();
            boots.entry(pool.clone()).or_default().insert(provider.clone(), entry.value().clone());
        }
        self.boots.keep(boots);
        self.habits.keep(self.known_habits.iter().map(|h| (h.key().clone(), *h.value())).collect());
    }
}

#[cfg(test)]
#[path = "learnt/tests.rs"]
mod tests;
