//! A provider that is never asked too much: a decorator around any other.
//!
//! - as many calls at a time as the cloud is found to take ([`pace`]), and so many a second with a
//!   burst where the configuration says so;
//! - launches leave room for deletes and listings: a fleet that is starved of its deletes cannot
//!   make place for the launches it waits for;
//! - a pause that the cloud asked for (`Retry-After`) holds for all calls;
//! - a cloud that fails again and again is left alone for a while ([`breaker`]).
//!
//! A call that is held back is answered at once, or after a bounded wait, as `RateLimited` with the
//! time from which it is worth asking, and with the cause: the brain then plans around it, where a
//! call that hung would only age. It never retries.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::TimeDelta;
use runner_fleet_actors::{
    name::{RunnerName, VmId},
    port::{
        Change, Clock, Deletion, Door, ErrorClass, LaunchOrder, Listing, PortError, PortStatus,
        Provider, Recent, Time, Vm,
    },
};
use tokio::sync::Notify;

use super::{
    breaker::{self, Decision, History},
    pace::{self, Kind, Outcome, Pace},
};

/// How much one cloud is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Most calls at a time.
    pub concurrency: u32,
    /// Calls a second, in the long run; `None`: as many as the places allow.
    pub rate: Option<f64>,
    /// Calls at once after a quiet while, where there is a rate.
    pub burst: u32,
    /// Longest that a call waits for its turn before it is answered as rate limited.
    pub patience: Duration,
    /// When a cloud that fails is left alone.
    pub breaker: breaker::Policy,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: pace::MOST,
            rate: None,
            burst: 40,
            patience: Duration::from_secs(30),
            breaker: breaker::Policy::default(),
        }
    }
}

/// A provider behind limits.
pub struct Limited<P: ?Sized> {
    clock: Arc<dyn Clock>,
    limits: Limits,
    state: Mutex<State>,
    /// Rung where a place has become free: for launches, and for whatever else waits.
    bells: [Notify; 2],
    inner: Arc<P>,
}

impl<P: ?Sized> std::fmt::Debug for Limited<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limited").field("limits", &self.limits).finish_non_exhaustive()
    }
}

struct State {
    pace: Pace,
    bucket: Bucket,
    /// Until when the other side asked not to be called, and in which words.
    pause: Option<(Time, Met)>,
    history: History,
    /// The last failure that the history counts.
    cause: Met,
}

/// A failure in the other side's words, and when it was met.
struct Met {
    what: String,
    at: Time,
}

/// Calls that may be made now; a fraction is on its way.
struct Bucket {
    level: f64,
    at: Time,
}

impl Bucket {
    /// Takes one call out if `reserve` stays in; else how long until it can.
    fn take(&mut self, now: Time, limits: &Limits, reserve: f64) -> Result<(), Duration> {
        let Some(rate) = limits.rate else { return Ok(()) };
        let passed = (now - self.at).to_std().unwrap_or_default().as_secs_f64();
        let full = f64::from(limits.burst.max(1));
        self.level = (self.level + passed * rate).min(full);
        self.at = self.at.max(now);
        let wanted = 1.0 + reserve.min(full - 1.0);
        // A hair below is enough: adding fractions never quite sums up.
        if self.level + 1e-6 >= wanted {
            self.level -= 1.0;
            return Ok(());
        }
        let wait = (wanted - self.level) / rate.max(1e-3);
        Err(Duration::from_secs_f64(wait.clamp(1e-3, 3600.0)))
    }
}

/// The call that shows whether the cloud works again; frees its place also when it is dropped.
struct Probe<'a>(&'a Mutex<State>);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).history.probing = None;
    }
}

impl<P: Provider + ?Sized> Limited<P> {
    /// Puts `inner` behind `limits`.
    #[must_use]
    pub fn new(inner: Arc<P>, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let at = clock.now();
        let bucket = Bucket { level: f64::from(limits.burst.max(1)), at };
        let cause = Met { what: String::new(), at };
        let pace = Pace::new(limits.concurrency);
        let state = State { pace, bucket, pause: None, history: History::default(), cause };
        Self { clock, limits, state: Mutex::new(state), bells: <_>::default(), inner }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T>(
        &self,
        kind: Kind,
        what: &str,
        call: impl Future<Output = Result<T, PortError>> + Send,
    ) -> Result<T, PortError> {
        // Before the wait as well: nobody queues up in front of a closed door.
        self.look(what)?;
        let turn = tokio::time::timeout(self.limits.patience, self.turn(kind));
        let Ok(turn) = turn.await else {
            let until = self.clock.now() + TimeDelta::seconds(1);
            let what = format!(
                "{what}: not asked, {} other calls are before it for {} s",
                self.state().pace.places(),
                self.limits.patience.as_secs()
            );
            return Err(PortError::held_back(until, what));
        };
        let _probe = self.pass(what)?;
        let began = self.clock.now();
        let outcome = call.await;
        self.learn(kind, began, outcome.as_ref().err());
        drop(turn);
        outcome
    }

    /// Who waits like a call of that kind.
    const fn bell(&self, kind: Kind) -> &Notify {
        let [launches, others] = &self.bells;
        match kind {
            Kind::Launch => launches,
            Kind::Delete | Kind::List | Kind::Recent => others,
        }
    }

    /// Waits for a place and for the rate.
    async fn turn(&self, kind: Kind) -> Turn<'_, P> {
        while !self.state().pace.enter(kind) {
            self.bell(kind).notified().await;
        }
        let turn = Turn { of: self, kind };
        // One ring wakes one; there may be a place for the next as well.
        self.bell(kind).notify_one();
        let reserve = match kind {
            Kind::Launch => f64::from(self.limits.burst / 4),
            Kind::Delete | Kind::List | Kind::Recent => 0.0,
        };
        loop {
            let taken = self.state().bucket.take(self.clock.now(), &self.limits, reserve);
            match taken {
                Ok(()) => return turn,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Whether the door is open, without going through it.
    fn look(&self, what: &str) -> Result<Decision, PortError> {
        let now = self.clock.now();
        let mut state = self.state();
        if state.pause.as_ref().is_some_and(|(until, _)| *until <= now) {
            state.pause = None;
        }
        if let Some((until, why)) = &state.pause {
            let what = format!("{what}: not asked, because the cloud wants a pause: {}", why.what);
            return Err(PortError::held_back(*until, what));
        }
        let decision = breaker::decide(&state.history, now, &self.limits.breaker);
        if let Decision::Open { until } = decision {
            let what = format!(
                "{what}: not asked, because the last {} calls failed, the last one with: {}",
                state.history.failures, state.cause.what
            );
            return Err(PortError::held_back(until, what));
        }
        Ok(decision)
    }

    fn pass(&self, what: &str) -> Result<Option<Probe<'_>>, PortError> {
        if self.look(what)? != Decision::Probe {
            return Ok(None);
        }
        let mut state = self.state();
        // Between the look and this lock another call may have become the probe.
        let now = self.clock.now();
        if breaker::decide(&state.history, now, &self.limits.breaker) != Decision::Probe {
            drop(state);
            return self.look(what).map(|_| None);
        }
        state.history.probing = Some(now);
        Ok(Some(Probe(&self.state)))
    }

    fn learn(&self, kind: Kind, began: Time, error: Option<&PortError>) {
        if error.is_some_and(|error| error.local) {
            // It was not asked, and has said nothing.
            return;
        }
        let now = self.clock.now();
        let mut state = self.state();
        state.pace.learn(kind, began, now, came_to(error));
        state.history =
            breaker::after(std::mem::take(&mut state.history), error, now, &self.limits.breaker);
        let Some(error) = error else { return };
        match error.class {
            // The newest word counts, also where it is a shorter one.
            ErrorClass::RateLimited { until }
                if state.pause.as_ref().is_none_or(|(present, _)| *present != until) =>
            {
                tracing::warn!(%until, error = %error, "cloud wants a pause");
                state.pause = Some((until, Met { what: error.what.clone(), at: now }));
            }
            ErrorClass::Transient | ErrorClass::Auth => {
                state.cause = Met { what: error.what.clone(), at: now };
                if let Some(pause) = breaker::pause(&state.history, &self.limits.breaker) {
                    let (failures, pause) = (state.history.failures, pause.as_secs());
                    tracing::warn!(failures, pause, error = %error, "cloud is left alone");
                }
            }
            _ => {}
        }
    }
}

/// What a call says of the pace.
fn came_to(error: Option<&PortError>) -> Outcome {
    match error.map(|error| error.class) {
        None => Outcome::Done,
        Some(ErrorClass::RateLimited { .. }) => Outcome::TooMuch,
        Some(ErrorClass::Transient) => Outcome::Failed,
        Some(_) => Outcome::Refused,
    }
}

/// A place among the calls under way, given back when it is dropped.
struct Turn<'a, P: Provider + ?Sized> {
    of: &'a Limited<P>,
    kind: Kind,
}

impl<P: Provider + ?Sized> Drop for Turn<'_, P> {
    fn drop(&mut self) {
        self.of.state().pace.leave(self.kind);
        self.of.bells.iter().for_each(Notify::notify_one);
    }
}

#[async_trait]
impl<P: Provider + ?Sized> Provider for Limited<P> {
    async fn launch(&self, order: LaunchOrder) -> Result<VmId, PortError> {
        let what = format!("creating VM {}", order.name);
        self.call(Kind::Launch, &what, self.inner.launch(order)).await
    }

    async fn delete(&self, name: &RunnerName, id: Option<&VmId>) -> Result<Deletion, PortError> {
        let what = format!("deleting VM {name}");
        self.call(Kind::Delete, &what, self.inner.delete(name, id)).await
    }

    async fn list(&self) -> Result<Listing<Vm>, PortError> {
        self.call(Kind::List, "listing the fleet's VMs", self.inner.list()).await
    }

    fn tells_recent(&self) -> bool {
        self.inner.tells_recent()
    }

    async fn recent(&self) -> Result<Option<Recent>, PortError> {
        if !self.inner.tells_recent() {
            return Ok(None);
        }
        let what = "asking what has changed of the fleet's VMs";
        self.call(Kind::Recent, what, self.inner.recent()).await
    }

    fn status(&self) -> PortStatus {
        let now = self.clock.now();
        let mut status = self.inner.status();
        let state = self.state();
        let held = match breaker::decide(&state.history, now, &self.limits.breaker) {
            Decision::Open { until } => Some((until, &state.cause)),
            Decision::Closed | Decision::Probe => None,
        };
        let pause = state.pause.as_ref().filter(|(until, _)| now < *until).map(|(u, m)| (*u, m));
        let longest = held.into_iter().chain(pause).max_by_key(|(until, _)| *until);
        if let Some((until, met)) = longest {
            status.held_until = Some(until);
            status.last_error = Some(met.what.clone());
            status.last_error_at = Some(met.at);
        }
        status
    }

    fn door(&self) -> Door {
        let now = self.clock.now();
        let state = self.state();
        if let Some((until, why)) = state.pause.as_ref().filter(|(until, _)| now < *until) {
            return Door::shut(*until, format!("it wants a pause: {}", why.what));
        }
        match breaker::decide(&state.history, now, &self.limits.breaker) {
            Decision::Open { until } => {
                let failures = state.history.failures;
                Door::shut(until, format!("its last {failures} calls failed: {}", state.cause.what))
            }
            Decision::Probe => Door { permits: 1, ..Door::open() },
            Decision::Closed => {
                let (permits, next) = state.pace.permits(now);
                let why = "as many calls are under way as it was found to take".to_owned();
                Door { permits, next, why, ..Door::open() }
            }
        }
    }

    fn end_hold(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        let history = std::mem::take(&mut state.history);
        state.history = breaker::told_mended(history, now, &self.limits.breaker);
        drop(state);
        self.inner.end_hold();
    }

    /// Not a call: nothing is asked by it, so that nothing holds it back.
    fn changes(&self) -> Option<tokio::sync::broadcast::Receiver<Change>> {
        self.inner.changes()
    }
}

#[cfg(test)]
mod tests;
