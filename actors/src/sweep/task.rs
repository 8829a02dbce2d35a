//! The loop that sweeps one side for the whole fleet.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};

use super::{
    Cadence, Expected, Look, Means, Seen, Streak, after_failure, after_look, beside, look,
};
use crate::{
    event::{FleetEvent, SharedModel},
    pool::actor::Stir,
    port::{Clock, ErrorClass, Observer, PortError, PortStatus, Time},
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

    /// Looks for ever: `ask` does, by a listing wherever it cannot be told what has changed; `deliver` hands out,
    /// together with whether the side is back after a failure, and tells what may be spent on the next one,
    /// `expect` tells how soon it is wanted. After a failure, and when somebody wants to know at once, everything
    /// is listed.
    pub(crate) async fn run<T, F>(
        mut self,
        ask: impl Fn(Look) -> F,
        mut deliver: impl FnMut(Seen<T>, bool) -> Means,
        expect: impl Fn() -> Expected,
    ) where
        F: Future<Output = Result<Seen<T>, PortError>> + Send + 'static,
        T: Send + Sync + 'static,
    {
        let mut streak = Streak::default();
        let mut means = Means::Enough;
        // Nothing is known to hang yet, and the first listing of a big fleet has many pages.
        let mut usual = self.cadence.away * 2;
        // When the last listing of everything began that nothing has put in doubt since, and whether the side was
        // last seen to tell what has changed.
        let (mut whole, mut tells) = (None, false);
        let mut urgent = self.stir.borrow_and_update().at_once;
        self.tell(self.clock.now(), |_| {});
        loop {
            if std::mem::replace(&mut urgent, self.stir.borrow_and_update().at_once) != urgent {
                whole = None;
            }
            let begun = tokio::time::Instant::now();
            let look = look(expect(), whole, self.clock.now(), &self.cadence);
            let seen = self.look(&ask, look, usual).await;
            let now = self.clock.now();
            let mut failed = None;
            let mut due: Option<Time> = match seen {
                Ok(seen) => {
                    let back = streak.swept(true);
                    match &seen {
                        Seen::Listed(listing) => {
                            usual = begun.elapsed();
                            // Asked for what has changed, it has listed everything: it does not tell.
                            tells &= look == Look::Whole;
                            whole = listing.complete.then_some(listing.as_of);
                            if !listing.complete {
                                tracing::warn!(side = %self.side, faults = ?listing.faults, "a listing is partial");
                            }
                            self.tell(now, |sight| {
                                sight.listed(listing.complete, listing.as_of, &listing.faults);
                            });
                        }
                        Seen::Changed(_) => {
                            tells = true;
                            self.tell(now, |_| {});
                        }
                    }
                    means = deliver(seen, back);
                    None
                }
                Err(error) => {
                    whole = None;
                    streak.swept(false);
                    let failures = streak.failures();
                    let due = after_failure(&error, failures, expect().by, &self.cadence, now);
                    self.tell(now, |sight| sight.failed(&error, due, now));
                    if !error.local && streak.is_worth_a_line() {
                        tracing::warn!(side = %self.side, failures, %error, "a listing failed");
                        self.observer.observe(&FleetEvent::Fault {
                            at: now,
                            pool: None,
                            runner: None,
                            error: error.clone(),
                        });
                    }
                    failed = Some(error);
                    None
                }
            };
            // The pause is measured from here and recomputed whenever something stirs, so that a
            // plan made during a long pause shortens it.
            loop {
                let at = due.unwrap_or_else(|| match &failed {
                    Some(error) => {
                        after_failure(error, streak.failures(), expect().by, &self.cadence, now)
                    }
                    None => after_look(expect(), means, tells, &self.cadence, now),
                });
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

    /// One look. Where it takes far longer than the last good one did, others are begun beside it, and the
    /// first good one counts: what hangs together with its side may hang on when that is back. The first is
    /// left its time, in case the side has only grown slow; the others follow each other.
    async fn look<T, F>(
        &self,
        ask: &impl Fn(Look) -> F,
        look: Look,
        usual: Duration,
    ) -> Result<Seen<T>, PortError>
    where
        F: Future<Output = Result<Seen<T>, PortError>> + Send + 'static,
        T: Send + Sync + 'static,
    {
        let failed = |what: String| {
            PortError::certain(
                ErrorClass::Transient,
                format!("could not list {}: {what}", self.side),
            )
        };
        let pause = beside(usual, &self.cadence);
        let mut first = self.io.spawn(ask(look));
        // What is dropped is ended.
        let mut others = JoinSet::new();
        let mut asked = 1;
        let limit = tokio::time::sleep(SWEEP_LIMIT);
        tokio::pin!(limit);
        let mut next = tokio::time::interval_at(tokio::time::Instant::now() + pause, pause);
        let outcome = loop {
            tokio::select! {
                done = &mut first => break done,
                Some(done) = others.join_next() => {
                    if let Ok(Ok(seen)) = done {
                        first.abort();
                        return Ok(seen);
                    }
                }
                _ = next.tick() => {
                    asked += 1;
                    if asked % BESIDE == 0 {
                        others.abort_all();
                    }
                    others.spawn_on(ask(Look::Whole), &self.io);
                }
                () = &mut limit => {
                    first.abort();
                    return Err(failed(format!("no answer in {} s", SWEEP_LIMIT.as_secs())));
                }
            }
        };
        outcome.unwrap_or_else(|_panic| Err(failed("the adapter failed".to_owned())))
    }
}

/// How many listings beside one that hangs before the older ones are given up.
const BESIDE: u32 = 3;
