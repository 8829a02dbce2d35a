//! What the watch of a queue asks of a broker: one line to one queue.
//!
//! AMQP pushes and MongoDB must be asked, so a line has both: [`Line::next`] for what comes by itself
//! and [`Line::beat`] for what is looked up now and then. Nothing is ever taken out of the queue before
//! [`Line::done`] or [`Line::reject`] says so; a line that is dropped leaves every message where it was.

use std::time::Duration;

use async_trait::async_trait;
use runner_fleet_actors::port::{ErrorClass, PortError, Secret, Time};

use super::{held::Tag, message::Raw, message::Refusal};
use crate::github::TokenSource;

/// How long any one exchange with a broker may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest text of a broker that is shown.
const SHOWN: usize = 300;

/// What comes over a line.
#[derive(Debug)]
pub enum Arrival {
    /// A message that is held from now on.
    Message {
        /// What this line calls it.
        tag: Tag,
        /// What it is, or why it cannot even be unpacked.
        raw: Result<Raw, Refusal>,
        /// Whether it was handed out before.
        again: bool,
        /// When it was put into the queue, where the broker knows.
        sent_at: Option<Time>,
    },
    /// A message is no longer held: it was given back, or somebody else has taken it.
    Withdrawn(Tag),
    /// Messages that wait in the queue and are not held over this line.
    Ready(u32),
}

/// A line to one queue.
#[async_trait]
pub trait Line: Send {
    /// How often [`Line::beat`] is to be called.
    fn period(&self) -> Duration;

    /// What comes by itself. May be dropped at any moment without losing anything.
    ///
    /// # Errors
    /// The line is lost.
    async fn next(&mut self) -> Result<Arrival, PortError>;

    /// Looks at the queue. Ends with [`Arrival::Ready`].
    ///
    /// # Errors
    /// The line is lost.
    async fn beat(&mut self) -> Result<Vec<Arrival>, PortError>;

    /// Ends messages whose work is done. One that is gone already is no error.
    ///
    /// # Errors
    /// The line is lost; each message is where it was, or gone.
    async fn done(&mut self, tags: &[Tag]) -> Result<(), PortError>;

    /// Ends a message that nobody can act on; a person may want to know why.
    ///
    /// # Errors
    /// As [`Line::done`].
    async fn reject(&mut self, tag: Tag, why: &str) -> Result<(), PortError>;

    /// Takes leave. Messages that are held go back.
    async fn close(&mut self);
}

/// Who makes lines.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Opens a line to `queue` that holds at most `most` messages at a time.
    ///
    /// # Errors
    /// Why there is none, without a secret.
    async fn open(&self, queue: &str, most: u16) -> Result<Box<dyn Line>, PortError>;

    /// Looks at `queue` without taking a message or making anything: how many wait in it; `None` where
    /// there is no such queue yet.
    ///
    /// # Errors
    /// As [`Broker::open`].
    async fn waiting(&self, queue: &str) -> Result<Option<u64>, PortError>;
}

/// A broker's address as it is now, with its password.
pub(super) fn address(source: &TokenSource) -> Result<Secret, PortError> {
    source.read().map_err(|error| {
        PortError::certain(ErrorClass::Auth, format!("the queue's address: {error}"))
    })
}

/// Waits for one exchange with a broker, and no longer than is reasonable.
pub(super) async fn within<T, E>(
    what: &str,
    exchange: impl Future<Output = Result<T, E>> + Send,
    failed: impl FnOnce(&E) -> (ErrorClass, String) + Send,
) -> Result<T, PortError> {
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let (class, why) = failed(&error);
            let why: String = why.chars().take(SHOWN).collect();
            Err(PortError::certain(class, format!("{what}: {why}")))
        }
        Err(_) => {
            let why = format!("{what}: no answer within {} s", PATIENCE.as_secs());
            Err(PortError::certain(ErrorClass::Transient, why))
        }
    }
}
