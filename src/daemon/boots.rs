//! How long the boots of each pool took, kept over a restart: whoever starts anew would wait five minutes for VMs
//! that never come online, where the process before him knew after two.
//!
//! A small JSON file in the state folder, replaced as a whole: for each pool and provider the newest boots, in
//! milliseconds. It may be some seconds old, and nothing depends on it: whoever knows less learns it again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use runner_fleet_actors::{
    name::PoolName,
    pool::{Boots, SharedBoots},
};

use crate::state::StateFolder;

const FILE: &str = "boots.json";

type Written = BTreeMap<PoolName, BTreeMap<String, Boots>>;

/// What the fleet learns, and the file that keeps it.
#[derive(Debug)]
pub(super) struct KeptBoots {
    folder: StateFolder,
    /// The fleet's own; it writes there.
    known: SharedBoots,
    written: Mutex<Written>,
}

impl KeptBoots {
    /// Reads what an earlier daemon kept in `folder` of these pools at these providers; others are forgotten. A
    /// file that cannot be understood is moved aside.
    ///
    /// # Errors
    /// Where the file cannot be read or moved.
    pub(super) fn open<'a>(
        folder: &StateFolder,
        pools: impl IntoIterator<Item = (&'a PoolName, &'a str)>,
    ) -> Result<Self, String> {
        let costs = "how long boots take is learnt again";
        let written: Written = super::kept::read(folder, FILE, costs, |text| {
            serde_json::from_str(text).map_err(|error| error.to_string())
        })?;
        let there: BTreeSet<_> = pools.into_iter().collect();
        let known = SharedBoots::default();
        for (pool, places) in &written {
            for (provider, boots) in places {
                if there.contains(&(pool, provider.as_str())) {
                    known.insert((pool.clone(), provider.clone()), boots.clone());
                }
            }
        }
        Ok(Self { folder: folder.clone(), known, written: Mutex::new(written) })
    }

    /// For the fleet.
    pub(super) fn shared(&self) -> SharedBoots {
        Arc::clone(&self.known)
    }

    /// Writes down what is news. What the disk refuses is a trouble of the folder, and is written with the next
    /// call.
    pub(super) fn keep(&self) {
        let mut news = Written::new();
        for entry in self.known.iter() {
            let (pool, provider) = entry.key();
            news.entry(pool.clone()).or_default().insert(provider.clone(), entry.value().clone());
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = self.folder.troubles().of(&super::kept::named(&self.folder, FILE)).is_some();
        if refused || *written != news {
            // Its trouble is begun and ended there.
            let _refused = super::kept::write(&self.folder, FILE, &news);
            *written = news;
        }
    }
}

#[cfg(test)]
#[path = "boots/tests.rs"]
mod tests;
