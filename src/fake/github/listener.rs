//! The jobs' side: what the runner application inside a guest does.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::{Shared, world::JobId};

/// Why a runner cannot come online.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The text is no JIT config.
    #[error("that is no JIT config")]
    NotAConfig,
    /// Its registration is gone: deregistered, or used up by a job.
    #[error("the registration of this JIT config is gone")]
    Gone,
    /// Its runner is online already.
    #[error("a runner of this JIT config is connected already")]
    Connected,
    /// GitHub is out of reach.
    #[error("GitHub is out of reach")]
    Unreachable,
}

/// A job, as its runner gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// How long it runs.
    pub runs_for: Duration,
}

/// What a listener hears next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It got a job, and is busy from now on.
    Job(Job),
    /// Its registration is gone; the runner application ends.
    Deregistered,
}

/// A connected runner. Dropping it is what a dying VM does: the runner goes offline, a job on it is
/// lost, the registration stays.
pub struct Listener {
    shared: Arc<Shared>,
    registration: u64,
    session: u64,
    bell: Arc<Notify>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("registration", &self.registration).finish_non_exhaustive()
    }
}

pub(super) fn connect(shared: Arc<Shared>, encoded: &str) -> Result<Listener, Refused> {
    let (registration, session, bell) = {
        let mut world = shared.world();
        let found = world.of_config(encoded).map_err(|()| Refused::NotAConfig)?;
        let registration = found.ok_or(Refused::Gone)?;
        let (session, bell) = world.connect(registration).ok_or(Refused::Connected)?;
        (registration, session, bell)
    };
    Ok(Listener { shared, registration, session, bell })
}

impl Listener {
    /// Waits for a job or for the end of the registration. With a job under way it is that job.
    /// May be dropped while it waits; nothing is lost.
    pub async fn next_job(&mut self) -> Next {
        loop {
            let rung = self.bell.notified();
            match self.shared.world().assigned(self.registration, self.session) {
                None => return Next::Deregistered,
                Some(Some((id, runs_for))) => return Next::Job(Job { id, runs_for }),
                Some(None) => {}
            }
            rung.await;
        }
    }

    /// Waits for the end of the registration, also in mid-job: GitHub then cancels the job, and the
    /// runner application ends.
    pub async fn deregistered(&self) {
        loop {
            let rung = self.bell.notified();
            if self.shared.world().assigned(self.registration, self.session).is_none() {
                return;
            }
            rung.await;
        }
    }

    /// The job has ended, and with it the registration: a JIT runner takes one job. Without a job,
    /// or with one that GitHub cancelled, this is an end like any other.
    pub fn complete(self, success: bool) {
        self.shared.world().complete(self.registration, self.session, success);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.world().disconnect(self.registration, self.session);
    }
}
