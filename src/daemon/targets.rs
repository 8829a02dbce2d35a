//! Fixed targets that operators set, kept over a restart.
//!
//! They are the one thing that neither the cloud nor GitHub nor the configuration knows. A small
//! JSON file in the state folder, replaced as a whole: a half-written file cannot be.

use std::{collections::BTreeMap, io};

use runner_fleet_actors::name::PoolName;

use super::kept::Kept;
use crate::state::StateFolder;

/// The fixed targets and the file that keeps them.
#[derive(Debug)]
pub(super) struct Targets(Kept<BTreeMap<PoolName, u32>>);

impl Targets {
    /// Reads what an earlier daemon kept in `folder`. A file that cannot be understood is moved aside,
    /// and its pools follow demand until an operator fixes them again; that is said.
    ///
    /// # Errors
    /// Where the file cannot be read or moved.
    pub(super) fn open(folder: &StateFolder) -> Result<Self, String> {
        let costs = "no pool has a fixed target now: set those again that operators had fixed \
                     (runner-fleet target POOL N)";
        Kept::open(folder, "targets.json", costs).map(Self)
    }

    /// A pool's fixed target.
    pub(super) fn of(&self, pool: &PoolName) -> Option<u32> {
        self.0.get().get(pool).copied()
    }

    /// Keeps a pool's fixed target, or forgets it. On an error nothing is changed.
    pub(super) fn keep(&self, pool: &PoolName, runners: Option<u32>) -> io::Result<()> {
        self.0.replace(|fixed| {
            let _before = match runners {
                Some(runners) => fixed.insert(pool.clone(), runners),
                None => fixed.remove(pool),
            };
        })
    }

    /// Writes the file again where the disk refused it last; what it holds is what is in force.
    pub(super) fn write_again(&self) {
        self.0.write_again();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_target_outlives_the_daemon_and_a_cleared_one_does_not() {
        let place = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(place.path()).unwrap();
        let (small, large): (PoolName, PoolName) =
            ("small".parse().unwrap(), "large".parse().unwrap());
        let first = Targets::open(&folder).unwrap();
        first.keep(&small, Some(0)).unwrap();
        first.keep(&large, Some(7)).unwrap();
        first.keep(&large, None).unwrap();
        let second = Targets::open(&folder).unwrap();
        assert_eq!((second.of(&small), second.of(&large)), (Some(0), None));
    }
}
