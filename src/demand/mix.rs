//! The sources of each pool, joined, and exchanged at a reload.
//!
//! A scaler holds on to one channel for its life; which sources feed it is the configuration's, and
//! changes under it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::select_all;
use runner_fleet_actors::{
    demand::{Demand, combine},
    name::PoolName,
    port::{Clock, DemandSource},
};
use tokio::{runtime::Handle, sync::watch, task::AbortHandle};

/// Who knows the demand of which pool.
pub struct Mix {
    clock: Arc<dyn Clock>,
    io: Handle,
    pools: Mutex<BTreeMap<PoolName, Slot>>,
}

struct Slot {
    demand: Arc<watch::Sender<Option<Demand>>>,
    following: Option<AbortHandle>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(following) = &self.following {
            following.abort();
        }
    }
}

impl Mix {
    /// Sources are followed on `io`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, io: Handle) -> Self {
        Self { clock, io, pools: Mutex::new(BTreeMap::new()) }
    }

    /// From now on these sources know the demand of a pool; none means that there are no jobs but
    /// those that its own runners have.
    pub fn follow(&self, pool: &PoolName, sources: &[Arc<dyn DemandSource>]) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let demand = match pools.get(pool) {
            Some(slot) => Arc::clone(&slot.demand),
            None => Arc::new(watch::Sender::new(None)),
        };
        let following = if sources.is_empty() {
            demand.send_replace(Some(Demand::exact(0, 0, self.clock.now())));
            None
        } else {
            let parts = sources.iter().map(|source| source.watch(pool)).collect();
            let demand = Arc::clone(&demand);
            Some(self.io.spawn(join(parts, demand)).abort_handle())
        };
        pools.insert(pool.clone(), Slot { demand, following });
    }
}

/// Joins what the sources say for as long as any of them lives. One that has ended is silent.
async fn join(
    mut parts: Vec<watch::Receiver<Option<Demand>>>,
    demand: Arc<watch::Sender<Option<Demand>>>,
) {
    let mut ended = Vec::new();
    loop {
        let said: Vec<_> = parts
            .iter_mut()
            .map(|part| *part.borrow_and_update())
            .chain(ended.iter().copied())
            .collect();
        demand.send_if_modified(|old| {
            let new = combine(&said);
            let changed = *old != new;
            *old = new;
            changed
        });
        if parts.is_empty() {
            return;
        }
        let waits = parts.iter_mut().map(|part| Box::pin(part.changed()));
        let (outcome, which, _) = select_all(waits).await;
        if outcome.is_err() {
            parts.remove(which);
            ended.push(None);
        }
    }
}

impl DemandSource for Mix {
    fn watch(&self, pool: &PoolName) -> watch::Receiver<Option<Demand>> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = pools.entry(pool.clone()).or_insert_with(|| Slot {
            demand: Arc::new(watch::Sender::new(None)),
            following: None,
        });
        slot.demand.subscribe()
    }
}

#[cfg(test)]
#[path = "mix/tests.rs"]
mod tests;
