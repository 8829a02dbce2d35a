//! What the guests' reports alone say of demand: where GitHub cannot call in, and nothing else counts.
//!
//! A guest knows its own job, so running jobs are known the moment they begin and end; of jobs that
//! wait nobody tells. Two rules follow:
//!
//! - *Spare does the growing.* A pool keeps `spare` idle runners above the running jobs. A burst takes
//!   them all at once, each of its first jobs brings one runner more, and so it grows by `spare` in the
//!   time that a VM takes to boot. Guessing at waiting jobs from how quickly they were taken would be
//!   the alternative; it pays for VMs that nobody may want, where a larger `spare` says so plainly.
//! - *A guest that is not heard makes the rest uncertain.* A runner that listings show busy, and whose
//!   guest has not said so, proves that reports get lost; then what is known is a lower bound
//!   ([`Sure::AtLeast`](runner_fleet_actors::demand::Sure)): the pool may grow, and does not shrink
//!   until that runner has spoken or is gone. That is also so for jobs that run over a restart.
//!
//! That nobody tells of waiting jobs does not make the number a lower bound for ever: such a pool could
//! only grow. Whoever chooses this source takes running jobs and `spare` for all the demand there is.

pub mod source;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use runner_fleet_actors::{
    demand::Demand,
    event::{FleetEvent, Phase},
    name::{PoolName, RunnerName},
    port::{Clock, DemandSource, Observer, Time},
};
use serde::Serialize;
use tokio::sync::watch;

/// The busy runners of one pool, and whether each one's guest has told of its job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard(BTreeMap<RunnerName, bool>);

impl Heard {
    /// A runner is busy; `told`: its guest says so.
    pub fn busy(&mut self, runner: &RunnerName, told: bool) {
        *self.0.entry(runner.clone()).or_default() |= told;
    }

    /// A runner is not busy, or not any more.
    pub fn free(&mut self, runner: &RunnerName) {
        self.0.remove(runner);
    }

    /// Whether a runner counts as busy.
    #[must_use]
    pub fn is_busy(&self, runner: &RunnerName) -> bool {
        self.0.contains_key(runner)
    }

    /// Busy runners whose guests have not said so.
    pub fn silent(&self) -> impl Iterator<Item = &RunnerName> {
        self.0.iter().filter(|(_, told)| !**told).map(|(runner, _)| runner)
    }

    /// The jobs that guests told of; exact where no busy runner's guest is silent.
    #[must_use]
    pub fn demand(&self, now: Time) -> Demand {
        let told = self.0.values().filter(|told| **told).count();
        let running = u32::try_from(told).unwrap_or(u32::MAX);
        if told == self.0.len() {
            Demand::exact(0, running, now)
        } else {
            Demand::at_least(0, running, now)
        }
    }
}

/// What the guests' reports say of themselves as a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReportsStatus {
    /// When a guest last told of a job or of its end; `None` before the first.
    pub last_word_at: Option<Time>,
    /// Such words since the start.
    pub words: u64,
    /// Busy runners whose guests have not said so: their pools do not shrink.
    pub silent: Vec<RunnerName>,
}

struct Followed {
    heard: Heard,
    sender: watch::Sender<Option<Demand>>,
}

/// Guests' reports as a source of demand. The fleet's events must reach it as an [`Observer`].
pub struct GuestReports {
    clock: Arc<dyn Clock>,
    pools: Mutex<BTreeMap<PoolName, Followed>>,
    notes: Mutex<ReportsStatus>,
}

impl GuestReports {
    /// A source that has heard nobody yet: no job runs as far as guests say.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, pools: Mutex::default(), notes: Mutex::default() })
    }

    /// What it says of itself. Never blocks for long.
    #[must_use]
    pub fn status(&self) -> ReportsStatus {
        let mut status = self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        status.silent = pools.values().flat_map(|pool| pool.heard.silent().cloned()).collect();
        status
    }

    fn note(&self, at: Time) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.last_word_at = notes.last_word_at.max(Some(at));
        notes.words += 1;
    }

    fn with<T>(&self, pool: &PoolName, act: impl FnOnce(&mut Followed) -> T) -> T {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = pools.entry(pool.clone()).or_insert_with(|| {
            let heard = Heard::default();
            let demand = heard.demand(self.clock.now());
            Followed { heard, sender: watch::Sender::new(Some(demand)) }
        });
        act(followed)
    }

    fn change(&self, pool: &PoolName, act: impl FnOnce(&mut Heard)) {
        let now = self.clock.now();
        self.with(pool, |Followed { heard, sender }| {
            let before = heard.clone();
            act(heard);
            if *heard != before {
                sender.send_replace(Some(heard.demand(now)));
            }
        });
    }
}

impl DemandSource for GuestReports {
    fn watch(&self, pool: &PoolName) -> watch::Receiver<Option<Demand>> {
        self.with(pool, |followed| followed.sender.subscribe())
    }
}

impl Observer for GuestReports {
    fn observe(&self, event: &FleetEvent) {
        if let FleetEvent::GuestTold { at, .. } = event {
            self.note(*at);
        }
        match event {
            FleetEvent::Transition { transition, .. } => {
                let runner = &transition.runner;
                let told = transition.times.job_started.is_some();
                self.change(&transition.pool, |heard| match transition.to {
                    Phase::Busy => heard.busy(runner, told),
                    _ => heard.free(runner),
                });
            }
            // The word of a guest whose runner a listing has shown busy before.
            FleetEvent::GuestTold { pool, runner, job: Some(_), end: None, .. } => {
                self.change(pool, |heard| {
                    if heard.is_busy(runner) {
                        heard.busy(runner, true);
                    }
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
