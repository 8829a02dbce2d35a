//! How long this kind of VM takes until its runner is online, and from when on one that is not counts as one
//! that will not be.
//!
//! The configured limits are for whoever never comes; they are long, because a slow boot must not be killed.
//! Until then a VM that boots in vain would hold the place of one that serves. So the pool learns how long boots
//! take, and who takes far longer is nobody to count on: another one is made where there is room. He is given up
//! by the limit, or where `max` binds, and counts again the moment he is online.

use std::{collections::VecDeque, time::Duration};

use crate::event::BootSnapshot;

/// Boots that are remembered: enough for a 99th percentile that one odd boot does not make.
const REMEMBERED: usize = 200;
/// So many times the 99th percentile is far longer.
const FAR: u32 = 3;
/// Never sooner: a busy cloud may take twice as long as ever before.
const LEAST: Duration = Duration::from_secs(2 * 60);
/// While no boot is known.
const UNKNOWN: Duration = Duration::from_secs(5 * 60);

/// The newest boots, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boots(VecDeque<Duration>);

impl Boots {
    /// One took so long from the decision to launch it until its runner was online.
    pub fn took(&mut self, took: Duration) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(took);
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
