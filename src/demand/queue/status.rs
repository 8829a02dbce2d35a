//! What there is to say of one queue: for the status page, written by its watch only.

use std::sync::{Arc, Mutex, PoisonError};

use runner_fleet_actors::port::Time;
use serde::Serialize;

/// One queue as it is at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueStatus {
    /// Its name.
    pub queue: String,
    /// `amqp` or `mongodb`.
    pub kind: &'static str,
    /// Since when there is a connection; `None` = there is none, and demand is unknown.
    pub connected_since: Option<Time>,
    /// When a message came last.
    pub last_message_at: Option<Time>,
    /// Since when there is no connection or no good word for a failure; `None` while it works.
    pub failing_since: Option<Time>,
    /// What failed last, and is not forgotten by what succeeds.
    pub last_error: Option<String>,
    /// Messages that are held until their jobs run or are gone.
    pub held: usize,
    /// Messages that wait behind those.
    pub ready: u32,
    /// Messages that came, repetitions included.
    pub received: u64,
    /// Messages whose work is done.
    pub done: u64,
    /// Messages that nobody could act on.
    pub rejected: u64,
}

/// The status, shared between the watch and whoever looks.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<QueueStatus>>);

impl Shared {
    pub fn new(queue: &str, kind: &'static str) -> Self {
        Self(Arc::new(Mutex::new(QueueStatus {
            queue: queue.to_owned(),
            kind,
            connected_since: None,
            last_message_at: None,
            failing_since: None,
            last_error: None,
            held: 0,
            ready: 0,
            received: 0,
            done: 0,
            rejected: 0,
        })))
    }

    /// A poisoned lock holds plain numbers; they are as good as before the panic.
    pub fn write(&self, change: impl FnOnce(&mut QueueStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn read(&self) -> QueueStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
