//! A stand-in for a broker and for the webhook router that fills its queues.
//!
//! It keeps the promises that a fleet relies on and nothing else: a message is there until it is
//! acknowledged, is held over one line at a time, and is handed out again when that line is lost. Its
//! messages are kombu's, as they lie in MongoDB, so whoever reads them opens the same envelope as from
//! a real one.
//!
//! It speaks no protocol; the tests of AMQP and MongoDB run against real brokers. A broker of its own
//! in the process would prove less than those and be more than the rest of the fake together.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use runner_fleet_actors::port::{ErrorClass, PortError, Time};
use serde_json::json;
use tokio::sync::Notify;

use crate::demand::queue::{
    held::Tag,
    kombu,
    line::{Arrival, Broker, Line},
};

/// How often a line looks how many messages there are. Nothing depends on it: what is put comes at once.
const PERIOD: Duration = Duration::from_millis(200);

/// What has happened at the broker so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BrokerStats {
    /// Messages that were put into a queue.
    pub put: u64,
    /// Messages that were handed out, repetitions included.
    pub handed: u64,
    /// Those among them that had been handed out before.
    pub repeated: u64,
    /// Messages whose work is done.
    pub done: u64,
    /// Messages that were rejected.
    pub rejected: u64,
}

#[derive(Debug)]
struct Message {
    payload: String,
    put_at: Time,
    /// The line that holds it.
    holder: Option<u64>,
    handed_before: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Messages by queue, and there in their order.
    queues: HashMap<String, BTreeMap<u64, Message>>,
    last_message: u64,
    last_line: u64,
    /// Lines up to this one are lost.
    cut: u64,
    stats: BrokerStats,
}

impl State {
    /// Puts back what the lines hold that are lost.
    fn release(&mut self, is_lost: impl Fn(u64) -> bool) {
        for message in self.queues.values_mut().flat_map(BTreeMap::values_mut) {
            if message.holder.is_some_and(&is_lost) {
                message.holder = None;
            }
        }
    }
}

/// A broker inside this process. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct FakeBroker {
    state: Arc<Mutex<State>>,
    bell: Arc<Notify>,
}

impl FakeBroker {
    /// Puts a job into a queue as Canonical's webhook router does: its labels and its address in
    /// GitHub's API, by kombu's `SimpleQueue`.
    pub fn put_job(&self, queue: &str, labels: &[String], url: &str) {
        let body = json!({"labels": labels, "status": "queued", "url": url}).to_string();
        let mut state = self.lock();
        state.last_message += 1;
        let number = state.last_message;
        let payload = json!({
            "body": BASE64_STANDARD.encode(body),
            "content-encoding": "utf-8",
            "content-type": "text/plain",
            "headers": {},
            "properties": {
                "delivery_mode": 2,
                "delivery_info": {"exchange": queue, "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": number.to_string(),
            },
        });
        let message = Message {
            payload: payload.to_string(),
            put_at: chrono::Utc::now(),
            holder: None,
            handed_before: false,
        };
        state.queues.entry(queue.to_owned()).or_default().insert(number, message);
        state.stats.put += 1;
        drop(state);
        self.bell.notify_waiters();
    }

    /// Every line breaks; what they held is there again.
    pub fn hang_up(&self) {
        let mut state = self.lock();
        state.cut = state.last_line;
        state.release(|_| true);
        drop(state);
        self.bell.notify_waiters();
    }

    /// What has happened so far.
    #[must_use]
    pub fn stats(&self) -> BrokerStats {
        self.lock().stats
    }

    /// Messages that are in a queue now, held or not.
    #[must_use]
    pub fn depth(&self, queue: &str) -> usize {
        self.lock().queues.get(queue).map_or(0, BTreeMap::len)
    }

    /// A poisoned lock holds messages; they are as good as before the panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Broker for FakeBroker {
    async fn open(&self, queue: &str, most: u16) -> Result<Box<dyn Line>, PortError> {
        let mut state = self.lock();
        state.last_line += 1;
        let number = state.last_line;
        drop(state);
        let (broker, queue) = (self.clone(), queue.to_owned());
        Ok(Box::new(FakeLine { broker, queue, number, most: usize::from(most) }))
    }

    async fn waiting(&self, queue: &str) -> Result<Option<u64>, PortError> {
        let state = self.lock();
        let queue = state.queues.get(queue);
        let free = |queue: &BTreeMap<u64, Message>| {
            queue.values().filter(|message| message.holder.is_none()).count()
        };
        Ok(queue.map(|queue| u64::try_from(free(queue)).unwrap_or(u64::MAX)))
    }
}

struct FakeLine {
    broker: FakeBroker,
    queue: String,
    number: u64,
    most: usize,
}

impl FakeLine {
    /// The state, as long as this line stands.
    fn state(&self) -> Result<MutexGuard<'_, State>, PortError> {
        let state = self.broker.lock();
        if self.number <= state.cut {
            let what = format!("the line to queue {:?} is broken", self.queue);
            return Err(PortError::certain(ErrorClass::Transient, what));
        }
        Ok(state)
    }

    /// The oldest message that nobody holds, where this line may hold one more.
    fn take(&self) -> Result<Option<Arrival>, PortError> {
        let mut state = self.state()?;
        let state = &mut *state;
        let Some(queue) = state.queues.get_mut(&self.queue) else { return Ok(None) };
        let held = queue.values().filter(|message| message.holder == Some(self.number)).count();
        if held >= self.most {
            return Ok(None);
        }
        let free = queue.iter_mut().find(|(_, message)| message.holder.is_none());
        Ok(free.map(|(number, message)| {
            message.holder = Some(self.number);
            let again = std::mem::replace(&mut message.handed_before, true);
            state.stats.handed += 1;
            state.stats.repeated += u64::from(again);
            let raw = kombu::open(&message.payload);
            Arrival::Message { tag: Tag(*number), raw, again, sent_at: Some(message.put_at) }
        }))
    }

    /// Ends a message, unless it is gone already.
    fn remove(&self, tag: Tag) -> Result<bool, PortError> {
        let mut state = self.state()?;
        let queue = state.queues.get_mut(&self.queue);
        Ok(queue.and_then(|queue| queue.remove(&tag.0)).is_some())
    }
}

#[async_trait]
impl Line for FakeLine {
    fn period(&self) -> Duration {
        PERIOD
    }

    async fn next(&mut self) -> Result<Arrival, PortError> {
        loop {
            let rung = self.broker.bell.notified();
            tokio::pin!(rung);
            // From here on no ring is missed.
            rung.as_mut().enable();
            if let Some(arrival) = self.take()? {
                return Ok(arrival);
            }
            rung.await;
        }
    }

    async fn beat(&mut self) -> Result<Vec<Arrival>, PortError> {
        let state = self.state()?;
        let free = |message: &&Message| message.holder.is_none();
        let queue = state.queues.get(&self.queue);
        let ready = queue.map_or(0, |queue| queue.values().filter(free).count());
        Ok(vec![Arrival::Ready(u32::try_from(ready).unwrap_or(u32::MAX))])
    }

    async fn done(&mut self, tags: &[Tag]) -> Result<(), PortError> {
        for tag in tags {
            let ended = self.remove(*tag)?;
            self.broker.lock().stats.done += u64::from(ended);
        }
        // There is room for others now.
        self.broker.bell.notify_waiters();
        Ok(())
    }

    async fn reject(&mut self, tag: Tag, _why: &str) -> Result<(), PortError> {
        let ended = self.remove(tag)?;
        self.broker.lock().stats.rejected += u64::from(ended);
        self.broker.bell.notify_waiters();
        Ok(())
    }

    async fn close(&mut self) {
        self.broker.lock().release(|holder| holder == self.number);
        self.broker.bell.notify_waiters();
    }
}

impl Drop for FakeLine {
    fn drop(&mut self) {
        self.broker.lock().release(|holder| holder == self.number);
        self.broker.bell.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::demand::queue::message::{self, Message as Said, Origin};

    const URL: &str = "https://api.github.com/repos/octo-org/app/actions/jobs/7";

    fn broker(jobs: usize) -> FakeBroker {
        let broker = FakeBroker::default();
        (0..jobs).for_each(|_| broker.put_job("small", &["x64".to_owned()], URL));
        broker
    }

    /// What comes over a line now, and whether it came before.
    fn next(line: &mut Box<dyn Line>) -> Option<(Tag, bool)> {
        match line.next().now_or_never()?.unwrap() {
            Arrival::Message { tag, again, .. } => Some((tag, again)),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_message_is_the_webhook_routers() {
        let mut line = broker(1).open("small", 1).await.unwrap();
        let Arrival::Message { raw, .. } = line.next().await.unwrap() else { panic!("a message") };
        let github = Origin::new("https://github.com").unwrap();
        let said = message::read(&raw.unwrap(), &github, chrono::Utc::now()).unwrap();
        let Said::Asked(news) = said else { panic!("{said:?}") };
        assert_eq!(news.key.id(), Some(7));
        assert_eq!(news.facts.labels, ["x64"]);
    }

    #[tokio::test]
    async fn a_line_holds_no_more_than_it_may_and_nobody_else_gets_what_it_holds() {
        let broker = broker(3);
        let (mut one, mut other) =
            (broker.open("small", 2).await.unwrap(), broker.open("small", 2).await.unwrap());
        let held = [next(&mut one), next(&mut one), next(&mut one)];
        assert_eq!(held, [Some((Tag(1), false)), Some((Tag(2), false)), None]);
        assert_eq!(next(&mut other), Some((Tag(3), false)));
        one.done(&[Tag(1)]).await.unwrap();
        broker.put_job("small", &[], URL);
        assert_eq!(next(&mut one), Some((Tag(4), false)), "there is room again");
    }

    #[tokio::test]
    async fn what_was_not_acknowledged_comes_again_and_what_was_does_not() {
        let broker = broker(2);
        let mut line = broker.open("small", 9).await.unwrap();
        assert!(next(&mut line).is_some() && next(&mut line).is_some());
        line.done(&[Tag(1)]).await.unwrap();
        broker.hang_up();
        assert!(line.next().await.is_err() && line.beat().await.is_err());
        assert!(line.done(&[Tag(2)]).await.is_err(), "what a lost line says does not count");
        let mut new = broker.open("small", 9).await.unwrap();
        assert_eq!(next(&mut new), Some((Tag(2), true)));
        drop(new);
        let mut last = broker.open("small", 9).await.unwrap();
        assert_eq!(next(&mut last), Some((Tag(2), true)));
        last.reject(Tag(2), "nobody knows it").await.unwrap();
        assert_eq!(broker.depth("small"), 0);
        let stats = BrokerStats { put: 2, handed: 4, repeated: 2, done: 1, rejected: 1 };
        assert_eq!(broker.stats(), stats);
    }
}
