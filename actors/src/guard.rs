//! The drop guard that reports an actor's end to its parent.
//!
//! Measured on actix 0.13.5: a panic in a handler or in a spawned future ends that actor only, and
//! nobody is told; `actix::Supervisor` does not restart it. A guard inside the actor is dropped on
//! every end, so the parent always learns of it. Nothing here may panic: a second panic during an
//! unwind aborts the process.

use actix::{Message, Recipient};

/// A child came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Died<K: Send + 'static> {
    /// Which child.
    pub key: K,
    /// Which of the starts of that child it was; an older one's end is no news.
    pub start: u64,
    /// Whether it ended as it should.
    pub orderly: bool,
}

/// Held by the child; reports when it is dropped.
#[derive(Debug)]
pub struct Guard<K: Clone + Send + 'static> {
    key: K,
    start: u64,
    orderly: bool,
    parent: Recipient<Died<K>>,
}

impl<K: Clone + Send + 'static> Guard<K> {
    /// A guard that tells `parent` of the end of `key`.
    #[must_use]
    pub fn new(key: K, start: u64, parent: Recipient<Died<K>>) -> Self {
        Self { key, start, orderly: false, parent }
    }

    /// The end that follows is as it should be.
    pub fn orderly(&mut self) {
        self.orderly = true;
    }

    /// Whether the parent still lives.
    #[must_use]
    pub fn parent_lives(&self) -> bool {
        self.parent.connected()
    }
}

impl<K: Clone + Send + 'static> Drop for Guard<K> {
    fn drop(&mut self) {
        let orderly = self.orderly && !std::thread::panicking();
        self.parent.do_send(Died { key: self.key.clone(), start: self.start, orderly });
    }
}
