//! Until when an effect may be sent, looked at right before the socket.
//!
//! Between the decision and the socket an effect waits: for a turn, a place, a token, a connection, and for a
//! process that is stopped. What it was decided on grows old meanwhile: a guest that stood down goes on by
//! itself, a runner that was quiet has a job. So each call carries its [`Grounds`], and whatever is about to
//! send a request that changes something asks [`check`] first, after its last wait.
//!
//! They travel beside the call, in a scope of its task, and not as an argument of each port's method: what
//! they forbid is known to the transport alone, five layers below. A task that an adapter spawns leaves the
//! scope: it takes the grounds along with [`current`], or sends nothing that changes something. A call
//! without grounds is nobody's effect, and goes.

use std::{future::Future, sync::Arc};

use super::{Clock, PortError, Time};

/// When an effect was decided, and until when what it was decided on holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grounds {
    /// When it was decided. Whatever stood before a gap in this process's life is void after it.
    pub since: Time,
    /// When it may be sent no more.
    pub until: Time,
}

impl Grounds {
    /// Whether it may be sent, by a process that is awake since then.
    #[must_use]
    pub fn hold(&self, now: Time, awake_since: Time) -> bool {
        self.since >= awake_since && now < self.until
    }
}

/// Grounds, and the clock that they are held against.
#[derive(Clone)]
pub struct Standing {
    grounds: Grounds,
    clock: Arc<dyn Clock>,
}

tokio::task_local! {
    static STANDING: Standing;
}

impl Standing {
    /// These grounds, by that clock.
    #[must_use]
    pub fn new(grounds: Grounds, clock: Arc<dyn Clock>) -> Self {
        Self { grounds, clock }
    }

    /// Runs `call` on these grounds.
    pub async fn under<F: Future>(self, call: F) -> F::Output {
        STANDING.scope(self, call).await
    }

    fn check(&self, what: &str) -> Result<(), PortError> {
        // The gap first: both are read anew, and the later reading must be the one that sees more.
        let awake_since = self.clock.awake_since();
        let now = self.clock.now();
        if self.grounds.hold(now, awake_since) {
            return Ok(());
        }
        let why = if self.grounds.since < awake_since {
            format!("this process stood still until {awake_since}, after that was decided")
        } else {
            format!("what it was decided on held until {}", self.grounds.until)
        };
        Err(PortError::held_back(
            now,
            format!("{what}: not sent, because {why}; it is decided anew"),
        ))
    }
}

/// The grounds of the call that this task makes, for a task that it spawns.
#[must_use]
pub fn current() -> Option<Standing> {
    STANDING.try_with(Clone::clone).ok()
}

/// Whether the request that is about to be sent may still go. `what` begins the error's text.
///
/// # Errors
/// The local and certain refusal of what may not: nothing was sent.
pub fn check(what: &str) -> Result<(), PortError> {
    current().map_or(Ok(()), |standing| standing.check(what))
}
