//! Who may call GitHub now, who waits for another call's end, and who is sent away: the shell around
//! the [budget](super::budget).
//!
//! Waits are short and bounded: for a place among the calls under way, or for the word of a call that
//! goes first. What has to wait for a time is refused here and now with that time, so that the brain
//! can plan around it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runner_fleet_actors::port::{Clock, PortError, Time};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::{
    budget::{self, Budget, CallKind, Seen, Ticket, Turn, pace::Ending},
    client::Call,
    route::Endpoint,
};
use crate::pause;

/// Calls under way at once. GitHub's secondary limit is 100 for all that share the credentials
/// (GitHub docs, "About secondary rate limits").
const AT_ONCE: usize = 50;

/// The budget, and whoever waits for it.
pub(super) struct Turns {
    clock: Arc<dyn Clock>,
    budget: Mutex<Budget>,
    /// Rung where a call at that endpoint has ended.
    bells: Mutex<BTreeMap<Endpoint, Arc<Notify>>>,
    at_once: Semaphore,
    patience: Duration,
}

/// A poisoned lock holds plain numbers; they are as good as before the panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call's way out and its place among those under way, given back when it is dropped.
pub(super) struct Way<'a> {
    turns: &'a Turns,
    ticket: Option<Ticket>,
    bell: Arc<Notify>,
    ending: Ending,
    place: Option<SemaphorePermit<'a>>,
}

impl Way<'_> {
    /// The call is sent from here on: where nobody hears of its end, GitHub may have counted it.
    pub(super) const fn sent(&mut self) {
        self.ending = Ending::Lost;
    }

    /// It has ended so.
    pub(super) fn ended(mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Way<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        drop(self.place.take());
        let all = self.turns.budget().end(ticket, self.ending, self.turns.clock.now());
        if all {
            lock(&self.turns.bells).values().for_each(|bell| bell.notify_one());
        } else {
            self.bell.notify_one();
        }
    }
}

impl Turns {
    /// A call may wait for `patience` for its turn.
    pub(super) fn new(clock: Arc<dyn Clock>, budget: Budget, patience: Duration) -> Self {
        let (budget, at_once) = (Mutex::new(budget), Semaphore::new(AT_ONCE));
        Self { clock, budget, bells: Mutex::default(), at_once, patience }
    }

    pub(super) fn budget(&self) -> MutexGuard<'_, Budget> {
        lock(&self.budget)
    }

    /// Takes in an answer, as [`Budget::take_in`].
    pub(super) fn take_in(&self, seen: &Seen) -> Option<Time> {
        self.budget().take_in(seen, self.clock.now())
    }

    /// Waits for this call's turn; `kind` as in [`Budget::ask`].
    ///
    /// # Errors
    /// `RateLimited`, without a call: where it has to wait for a time, and where its turn did not come.
    pub(super) async fn take(
        &self,
        call: &Call<'_>,
        kind: Option<CallKind>,
    ) -> Result<Way<'_>, PortError> {
        let endpoint = Endpoint::of(&call.method, &call.path);
        let bell = Arc::clone(lock(&self.bells).entry(endpoint.clone()).or_default());
        let turn = async {
            let ticket = self.ticket(call, kind, &endpoint, &bell).await?;
            let ending = Ending::NotSent;
            let mut way = Way { turns: self, ticket: Some(ticket), bell, ending, place: None };
            way.place = self.at_once.acquire().await.ok();
            // GitHub may have asked for silence meanwhile.
            let held = self.budget().held(self.clock.now());
            held.map_or(Ok(way), |until| Err(refused(call, until, None)))
        };
        tokio::time::timeout(self.patience, turn).await.unwrap_or_else(|_| {
            let until = pause::after(self.clock.now(), budget::SOON);
            let why = "not tried, too many calls are under way; GitHub answers slowly";
            Err(call.held_back(until, why))
        })
    }

    async fn ticket(
        &self,
        call: &Call<'_>,
        kind: Option<CallKind>,
        endpoint: &Endpoint,
        bell: &Notify,
    ) -> Result<Ticket, PortError> {
        loop {
            let turn = self.budget().ask(kind, endpoint, self.clock.now());
            let decided = match turn {
                Turn::Go(ticket) => Ok(ticket),
                Turn::Later { until, most } => Err(refused(call, until, most)),
                Turn::Wait => {
                    bell.notified().await;
                    continue;
                }
            };
            // One ring wakes one; who waits behind this one may have its turn as well.
            bell.notify_one();
            return decided;
        }
    }
}

fn refused(call: &Call<'_>, until: Time, most: Option<u32>) -> PortError {
    let why = match most {
        Some(most) => format!(
            "not tried, GitHub is asked for {most} of these a minute at most; it goes on by itself at \
             {until}"
        ),
        None => format!(
            "not tried, the rate limit of GitHub leaves no room before {until}; it goes on by itself"
        ),
    };
    call.held_back(until, &why)
}
