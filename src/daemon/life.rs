//! The life of the daemon's parts: each is started, renewed and stopped in one order, which is written
//! once, where the parts are put together.
//!
//! A part is whatever has a beginning or an end of its own: a listener, the fleet, the journal, a loop. The
//! rules: *parts start in their order and stop in reverse*, each at its end before the one that was
//! there before it is told, so that nothing is taken away from a part that still works. *What was
//! started is stopped*, also where a later part cannot start. *A reload changes all or nothing*: every
//! part first reads and makes what the new configuration wants of it, which may fail, and only then is
//! any of it put in place. Doing each of these by hand, the alternative, was right for five parts, and
//! forgets the sixth in one of three places.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture};

use super::held::{Changes, Held};
use crate::{config::Config, http::Refusal};

/// Another configuration, or another content of the same places.
pub(super) struct Renewal {
    /// What is to be in force.
    pub new: Config,
    /// What its places hold.
    pub held: Held,
    /// What differs from what is in force.
    pub changes: Changes,
}

/// Puts in place what was read and made, which cannot fail, and says what changed.
pub(super) type Change<'a> = BoxFuture<'a, Vec<String>>;

/// A part of a daemon, which is a `D`. It is prepared when it is made: whatever the start needs is
/// had, and nothing that others could see is begun.
#[async_trait]
pub(super) trait Part<D: Send + Sync>: Send + Sync {
    /// Begins to work, inside the I/O runtime.
    ///
    /// # Errors
    /// What is not to be had, for the person who must provide it; then nothing of it is at work.
    async fn start(&self, daemon: &Arc<D>) -> Result<(), String> {
        let _idle = daemon;
        Ok(())
    }

    /// Reads and makes what another configuration wants; nothing changes before the answer is awaited.
    ///
    /// # Errors
    /// What cannot be used, or not be had.
    async fn renew<'a>(&'a self, daemon: &'a D, to: &'a Renewal) -> Result<Change<'a>, Refusal> {
        let _same = (daemon, to);
        Ok(async { Vec::new() }.boxed())
    }

    /// Ends, within a bound of its own. Only a part that was started is stopped.
    async fn stop(&self) {}
}

/// All parts of a daemon, in the order of their start.
pub(super) struct Life<D> {
    parts: Vec<Arc<dyn Part<D>>>,
    /// How many of them are at work.
    begun: AtomicUsize,
    over: AtomicBool,
}

impl<D> Default for Life<D> {
    fn default() -> Self {
        Self { parts: Vec::new(), begun: AtomicUsize::new(0), over: AtomicBool::new(false) }
    }
}

impl<D: Send + Sync> Life<D> {
    /// One part more, to be started after those that are there.
    pub(super) fn add<P: Part<D> + 'static>(&mut self, part: P) -> Arc<P> {
        let part = Arc::new(part);
        self.parts.push(Arc::clone(&part) as Arc<dyn Part<D>>);
        part
    }

    /// Starts every part.
    ///
    /// # Errors
    /// What the first part that cannot start says; then none is at work any more.
    pub(super) async fn start(&self, daemon: &Arc<D>) -> Result<(), String> {
        for part in &self.parts {
            if let Err(error) = part.start(daemon).await {
                self.stop().await;
                return Err(error);
            }
            self.begun.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Takes another configuration over, and says what changed.
    ///
    /// # Errors
    /// What cannot be used, and then nothing has changed; or the daemon is stopping.
    pub(super) async fn renew(&self, daemon: &D, to: &Renewal) -> Result<Vec<String>, Refusal> {
        let mut changes = Vec::new();
        for part in &self.parts {
            self.goes_on()?;
            changes.push(part.renew(daemon, to).await?);
        }
        let mut done = Vec::new();
        for change in changes {
            // The stop may have come while somebody was asked; nobody may begin anything after it.
            self.goes_on()?;
            done.extend(change.await);
        }
        Ok(done)
    }

    fn goes_on(&self) -> Result<(), Refusal> {
        match self.over.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(Refusal::Unavailable("the daemon is stopping".to_owned())),
        }
    }

    /// Stops what is at work, in reverse.
    pub(super) async fn stop(&self) {
        self.over.store(true, Ordering::Release);
        let begun = self.begun.swap(0, Ordering::AcqRel);
        for part in self.parts.iter().take(begun).rev() {
            part.stop().await;
        }
    }
}

#[cfg(test)]
mod tests;
