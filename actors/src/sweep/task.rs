//! The loop that sweeps one side for the whole fleet.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{Cadence, Expectation, Means, after_failure, pause};
use crate::{
    event::{FleetEvent, SharedModel},
    pool::actor::Stir,
    port::{Clock, Listing, Observer, PortError, PortStatus, Time},
    sight::{Side, Sight},
};

/// Upper bound of one sweep: a listing that takes longer is of no use as a repair.
const SWEEP_LIMIT: Duration = Duration::from_secs(180);

/// What a sweeping loop needs besides its listing.
pub(crate) struct Sweeper {
    /// What is swept.
    pub side: Side,
    /// Its port, as the read model calls it, and what that says of itself.
    pub port: (String, Box<dyn Fn() -> PortStatus>),
    /// Where it is told how well the side is seen.
    pub model: SharedModel,
    /// How often.
    pub cadence: Cadence,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who is told of failures.
    pub observer: Arc<dyn Observer>,
    /// Wakes the loop.
    pub stir: watch::Receiver<Stir>,
    /// Where I/O runs.
    pub io: tokio::runtime::Handle,
}

impl Sweeper {
    /// Tells how well the side is seen from now on.
    fn tell(&self, now: Time, change: impl FnOnce(&mut Sight)) {
        let mut sight =
            self.model.sights.entry(self.side.clone()).or_insert_with(|| Sight::new(now));
        change(&mut sight);
        drop(sight);
        let (name, status) = &self.port;
        self.model.ports.insert(name.clone(), status());
    }

    /// Lists for ever: `list` asks, `deliver` hands out and tells what may be spent on the next one,
    /// `expect` tells how soon it is wanted.
    pub(crate) async fn run<T, F>(
        mut self,
        list: impl Fn() -> F,
        mut deliver: impl FnMut(Arc<Listing<T>>) -> Means,
        expect: impl Fn() -> Expectation,
    ) where
        F: Future<Output = Result<Listing<T>, PortError>> + Send + 'static,
        T: Send + Sync + 'static,
    {
        let mut failures = 0;
        let mut means = Means::Enough;
        self.tell(self.clock.now(), |_| {});
        loop {
            let urgent = self.stir.borrow_and_update().at_once;
            let swept = match tokio::time::timeout(SWEEP_LIMIT, self.io.spawn(list())).await {
                Ok(Ok(result)) => result,
                Ok(Err(_panic)) => Err(PortError::certain(
                    crate::port::ErrorClass::Transient,
                    format!("could not list {}: the adapter failed", self.side),
                )),
                Err(_elapsed) => Err(PortError::certain(
                    crate::port::ErrorClass::Transient,
                    format!(
                        "could not list {}: no answer in {} s",
                        self.side,
                        SWEEP_LIMIT.as_secs()
                    ),
                )),
            };
            let now = self.clock.now();
            let mut due = match swept {
                Ok(listing) => {
                    failures = 0;
                    if !listing.complete {
                        tracing::warn!(side = %self.side, faults = ?listing.faults, "a listing is partial");
                    }
                    self.tell(now, |sight| {
                        sight.listed(listing.complete, listing.as_of, &listing.faults);
                    });
                    means = deliver(Arc::new(listing));
                    None
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(side = %self.side, failures, %error, "a listing failed");
                    let due = after_failure(&error, failures, &self.cadence, now);
                    self.tell(now, |sight| sight.failed(&error, due, now));
                    self.observer.observe(&FleetEvent::Fault {
                        at: now,
                        pool: None,
                        runner: None,
                        error,
                    });
                    Some(due)
                }
            };
            // The pause is measured from here and recomputed whenever something stirs, so that a
            // plan made during a long pause shortens it.
            loop {
                let at = due.unwrap_or_else(|| now + pause(expect(), means, &self.cadence));
                let wait = (at - self.clock.now()).to_std().unwrap_or_default();
                if wait.is_zero() {
                    break;
                }
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    changed = self.stir.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        // A forced look ends a backoff too: somebody has just mended something.
                        if self.stir.borrow_and_update().at_once != urgent {
                            due = Some(self.clock.now());
                        }
                    }
                }
            }
        }
    }
}
