//! The orders to the guests, and their answers.
//!
//! A guest keeps one long poll open; an order is put into its slot and the poll ends with it. Rules:
//!
//! - *Only the newest order counts.* One that was not fetched yet is void when the next one comes, and
//!   with it the question that it asked.
//! - *One poll a guest.* A newer poll ends the older: after a broken connection the older one is a
//!   corpse that would swallow the next order.
//! - *A question has one answer, or is withdrawn.* Either happens under the slot's lock, so a guest is
//!   never told that its answer was taken while the brain hears that there was none. A withdrawn order
//!   to stand down becomes the order to go on: a guest that froze and whose answer was lost goes on with
//!   its next poll instead of waiting its order out.
//! - *An order stays until a newer one comes*, also once it was fetched: the connection may have broken
//!   under it, and the guest then asks again after the number that it last saw.
//! - *A slot lives as long as its guest is heard.* Orders to a guest that was silent for
//!   [`Patience::forget`] are forgotten with it; a frozen guest has gone on by itself long before.
//!
//! Numbers of orders are microseconds since 1970, and greater than any that the guest says it has seen:
//! they grow over a restart of the daemon, and over a clock that was set back.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use runner_fleet_actors::{
    name::RunnerName,
    port::{ErrorClass, Guests, PortError, StandDown, grounds},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout, timeout_at},
};

/// How long the hub waits for a guest.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long an order to stand down may go without its answer.
    pub answer: Duration,
    /// A guest without a poll for so long is not asked at all. Waiting for it would only make the drain
    /// late, which then proves by listings what it cannot ask.
    pub away: Duration,
    /// When a silent guest's slot is given back.
    pub forget: Duration,
}

impl Default for Patience {
    /// A guest with an open poll has its order in milliseconds, and looks for up to 20 s where a job
    /// message is in doubt, so 25 s without an answer mean away; that is well within the brain's own
    /// limit of 120 s for the call, so that what is withdrawn is withdrawn here. The pauses between a
    /// guest's polls end at 30 s, so one that was silent for 60 s is gone or cut off. And after 300 s
    /// without a word a frozen guest goes on by itself, so nothing is left to say to it after 600 s.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { answer: seconds(25), away: seconds(60), forget: seconds(600) }
    }
}

/// Calls of one guest in a minute. A whole life needs some dozens; a job that has found the token may not
/// keep the fleet's actors busy.
const CALLS_A_MINUTE: u32 = 120;

/// Slots below which nobody looks for silent ones.
const FEW: usize = 64;

#[cfg(test)]
mod tests;

/// What a guest is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderWord {
    /// Freeze the listener, look for a job, and answer.
    StandDown,
    /// Take jobs again.
    GoOn,
    /// End: the registration is gone.
    End,
}

/// One order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Greater than that of any order before.
    pub number: u64,
    /// What to do.
    pub order: OrderWord,
}

/// An answer came too late: its order is void, and the guest goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this order is withdrawn: its answer came too late, or a newer one took its place; go on")]
pub struct Withdrawn;

/// What is known of one guest.
struct Slot {
    newest: Option<Order>,
    /// The order whose answer is due, and who waits for it.
    question: Option<(u64, oneshot::Sender<StandDown>)>,
    /// The answer that was taken last: a guest that did not hear so says it again.
    answered: Option<(u64, StandDown)>,
    /// The greatest number that the guest has seen or may have.
    seen: u64,
    /// Which poll is the one that counts.
    poll: u64,
    open: bool,
    /// When its newest poll began or ended.
    polled: Option<Instant>,
    touched: Instant,
    minute: Instant,
    calls: u32,
    log_told: bool,
    news: watch::Sender<()>,
}

impl Slot {
    fn new(now: Instant) -> Self {
        Self {
            newest: None,
            question: None,
            answered: None,
            seen: 0,
            poll: 0,
            open: false,
            polled: None,
            touched: now,
            minute: now,
            calls: 0,
            log_told: false,
            news: watch::Sender::new(()),
        }
    }

    fn put(&mut self, order: OrderWord) -> u64 {
        let clock = u64::try_from(chrono::Utc::now().timestamp_micros()).unwrap_or_default();
        let number = clock.max(self.seen.saturating_add(1));
        self.seen = number;
        self.newest = Some(Order { number, order });
        // Whoever waited for an answer to an older order hears by this that none will come.
        self.question = None;
        self.touched = Instant::now();
        self.news.send_replace(());
        number
    }

    fn silent(&self, now: Instant, forget: Duration) -> bool {
        !self.open && self.question.is_none() && now >= self.touched + forget
    }
}

#[derive(Default)]
struct Slots {
    of: HashMap<RunnerName, Slot>,
    /// How many there may be before the silent ones are looked for.
    room: usize,
}

impl Slots {
    fn slot(&mut self, runner: &RunnerName, forget: Duration) -> &mut Slot {
        let now = Instant::now();
        if !self.of.contains_key(runner) && self.of.len() >= self.room {
            self.of.retain(|_, slot| !slot.silent(now, forget));
            self.room = (self.of.len() * 2).max(FEW);
        }
        self.of.entry(runner.clone()).or_insert_with(|| Slot::new(now))
    }
}

/// The orders of all guests.
#[derive(Default)]
pub struct Hub {
    patience: Patience,
    slots: Mutex<Slots>,
}

/// A poll under way. However it ends, its guest counts as heard up to then.
struct OpenPoll<'a> {
    hub: &'a Hub,
    runner: &'a RunnerName,
    poll: u64,
}

impl Drop for OpenPoll<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.hub.lock().of.get_mut(self.runner)
            && slot.poll == self.poll
        {
            let now = Instant::now();
            slot.open = false;
            slot.polled = Some(now);
            slot.touched = now;
        }
    }
}

impl Hub {
    /// A hub that waits as it is told; `Hub::default()` waits as guests need it.
    #[must_use]
    pub fn new(patience: Patience) -> Self {
        Self { patience, slots: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call of a guest; false where it calls too often.
    pub fn admits(&self, runner: &RunnerName) -> bool {
        let now = Instant::now();
        let mut slots = self.lock();
        let slot = slots.slot(runner, self.patience.forget);
        slot.touched = now;
        if now >= slot.minute + Duration::from_secs(60) {
            slot.minute = now;
            slot.calls = 0;
        }
        slot.calls = slot.calls.saturating_add(1);
        slot.calls <= CALLS_A_MINUTE
    }

    /// Whether this is the first log excerpt that the guest sends; a replay is none.
    pub fn first_log(&self, runner: &RunnerName) -> bool {
        !std::mem::replace(&mut self.lock().slot(runner, self.patience.forget).log_told, true)
    }

    /// Whether a guest has a poll open.
    #[must_use]
    pub fn hears(&self, runner: &RunnerName) -> bool {
        self.lock().of.get(runner).is_some_and(|slot| slot.open)
    }

    /// How many guests are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.lock().of.len()
    }

    /// The newest order with a number greater than `after`, as soon as there is one; `None` after `wait`,
    /// or when the guest has begun a newer poll.
    pub async fn next(&self, runner: &RunnerName, after: u64, wait: Duration) -> Option<Order> {
        let until = Instant::now() + wait;
        let (poll, mut news) = {
            let mut slots = self.lock();
            let slot = slots.slot(runner, self.patience.forget);
            slot.poll += 1;
            slot.open = true;
            slot.polled = Some(Instant::now());
            slot.seen = slot.seen.max(after);
            // The older poll looks, and finds that it is not the one that counts any more.
            slot.news.send_replace(());
            (slot.poll, slot.news.subscribe())
        };
        let _open = OpenPoll { hub: self, runner, poll };
        loop {
            {
                let slots = self.lock();
                let slot = slots.of.get(runner).filter(|slot| slot.poll == poll)?;
                if let Some(order) = slot.newest.filter(|order| order.number > after) {
                    return Some(order);
                }
            }
            match timeout_at(until, news.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }

    /// Takes a guest's answer. The same answer again is taken again.
    ///
    /// # Errors
    /// The order is void.
    pub fn answer(
        &self,
        runner: &RunnerName,
        number: u64,
        answer: StandDown,
    ) -> Result<(), Withdrawn> {
        let mut slots = self.lock();
        let slot = slots.slot(runner, self.patience.forget);
        if slot.answered == Some((number, answer)) {
            return Ok(());
        }
        let (_, asker) = slot.question.take_if(|(asked, _)| *asked == number).ok_or(Withdrawn)?;
        asker.send(answer).map_err(|_| Withdrawn)?;
        slot.answered = Some((number, answer));
        Ok(())
    }

    /// Puts the order to stand down where its guest is there to hear it.
    fn ask(&self, runner: &RunnerName) -> Result<(u64, oneshot::Receiver<StandDown>), PortError> {
        let now = Instant::now();
        let mut slots = self.lock();
        let away = |since: &str| {
            let what = format!(
                "{runner} cannot be asked to stand down: its guest has not asked for orders {since}; \
                 listings decide instead"
            );
            Err(PortError::certain(ErrorClass::Transient, what))
        };
        let Some(slot) = slots.of.get_mut(runner) else {
            return away("since this daemon started");
        };
        match slot.polled {
            _ if slot.open => {}
            None => return away("since this daemon started"),
            Some(at) if now >= at + self.patience.away => {
                return away(&format!("for {} s", (now - at).as_secs()));
            }
            Some(_) => {}
        }
        let number = slot.put(OrderWord::StandDown);
        let (asker, answer) = oneshot::channel();
        slot.question = Some((number, asker));
        Ok((number, answer))
    }

    /// Withdraws an order to stand down; false where its answer came meanwhile.
    fn withdraw(&self, runner: &RunnerName, number: u64) -> bool {
        let mut slots = self.lock();
        let Some(slot) = slots.of.get_mut(runner) else { return true };
        let asked = slot.question.take_if(|(asked, _)| *asked == number).is_some();
        if asked {
            slot.put(OrderWord::GoOn);
        }
        asked
    }
}

/// Withdraws a question whose asker is gone, so that no guest freezes for nobody.
struct Asking<'a> {
    hub: &'a Hub,
    runner: &'a RunnerName,
    number: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.hub.withdraw(self.runner, self.number);
    }
}

#[async_trait]
impl Guests for Hub {
    async fn stand_down(&self, runner: &RunnerName) -> Result<StandDown, PortError> {
        grounds::check(&format!("asking {runner} to stand down"))?;
        let (number, mut answer) = self.ask(runner)?;
        let _asking = Asking { hub: self, runner, number };
        let heard = match timeout(self.patience.answer, &mut answer).await {
            Ok(heard) => heard.ok(),
            // The answer may have come in the instant in which it was given up.
            Err(_) if self.withdraw(runner, number) => None,
            Err(_) => answer.try_recv().ok(),
        };
        heard.ok_or_else(|| {
            let what = format!(
                "{runner} was asked to stand down and gave no answer within {} s, or was given a \
                 newer order; the order is withdrawn",
                self.patience.answer.as_secs()
            );
            PortError::doubtful(ErrorClass::Transient, what)
        })
    }

    async fn go_on(&self, runner: &RunnerName) {
        self.lock().slot(runner, self.patience.forget).put(OrderWord::GoOn);
    }

    async fn end(&self, runner: &RunnerName) {
        self.lock().slot(runner, self.patience.forget).put(OrderWord::End);
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("guests", &self.remembered()).finish_non_exhaustive()
    }
}
