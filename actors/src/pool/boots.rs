//! How long this kind of VM takes until its runner is online, and from when on one that is not counts as one
//! that will not be.
//!
//! The configured limits are for whoever never comes; they are long, because a slow boot must not be killed.
//! Until then a VM that boots in vain would hold the place of one that serves. So the pool learns how long boots
//! take, and who takes far longer is nobody to count on: another one is made where there is room. He is given up
//! by the limit, or where `max` binds, and counts again the moment he is online.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use crate::{event::BootSnapshot, name::PoolName};

/// Boots that are remembered: enough for a 99th percentile that one odd boot does not make.
const REMEMBERED: usize = 200;
/// So many times the 99th percentile is far longer.
const FAR: u32 = 3;
/// Never sooner: a busy cloud may take twice as long as ever before.
const LEAST: Duration = Duration::from_secs(2 * 60);
/// While no boot is known.
const UNKNOWN: Duration = Duration::from_secs(5 * 60);
/// No boot is believed to have taken longer, whoever says so.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The newest boots, the oldest first. Written down as milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u64>", into = "Vec<u64>")]
pub struct Boots(VecDeque<Duration>);

/// What the pools of a fleet have learnt of their boots, each at its provider. It outlives a pool's actor, and
/// whoever owns the fleet may keep it over a restart.
pub type SharedBoots = Arc<DashMap<(PoolName, String), Boots>>;

impl Boots {
    /// One took so long from the decision to launch it until its runner was online.
    pub fn took(&mut self, took: Duration) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(took.min(LONGEST));
    }

    /// From this age on a runner that was never online counts as one that will not be.
    #[must_use]
    pub fn patience(&self) -> Duration {
        match self.summary() {
            Some(known) => known.p99.saturating_mul(FAR).max(LEAST),
            None => UNKNOWN,
        }
    }

    /// What is known; `None` before the first boot.
    #[must_use]
    pub fn summary(&self) -> Option<BootSnapshot> {
        let mut sorted: Vec<_> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let at =
            |share: usize| sorted.get((sorted.len() * share).div_ceil(100).max(1) - 1).copied();
        Some(BootSnapshot {
            boots: u32::try_from(sorted.len()).unwrap_or(u32::MAX),
            shortest: sorted.first().copied()?,
            median: at(50)?,
            p99: at(99)?,
        })
    }
}

impl FromIterator<Duration> for Boots {
    fn from_iter<T: IntoIterator<Item = Duration>>(boots: T) -> Self {
        let mut known = Self::default();
        boots.into_iter().for_each(|took| known.took(took));
        known
    }
}

impl From<Vec<u64>> for Boots {
    fn from(milliseconds: Vec<u64>) -> Self {
        milliseconds.into_iter().map(Duration::from_millis).collect()
    }
}

impl From<Boots> for Vec<u64> {
    fn from(boots: Boots) -> Self {
        let whole = |took: Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        boots.0.into_iter().map(whole).collect()
    }
}
