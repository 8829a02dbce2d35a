//! The jobs' side: what the runner application inside a guest does.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::{
    Shared,
    world::{Caller, JobId},
};

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
    /// It got a job and has acquired it.
    Job(Job),
    /// Its registration is gone; the runner application ends.
    Deregistered,
}

/// A connected runner. Dropping it is what a dying VM does: the runner goes offline, the job that it
/// has acquired is lost, the registration stays.
pub struct Listener {
    shared: Arc<Shared>,
    caller: Caller,
    bell: Arc<Notify>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("caller", &self.caller).finish_non_exhaustive()
    }
}

pub(super) fn connect(shared: Arc<Shared>, encoded: &str) -> Result<Listener, Refused> {
    let (caller, bell) = {
        let mut world = shared.world();
        let found = world.of_config(encoded).map_err(|()| Refused::NotAConfig)?;
        world.connect(found.ok_or(Refused::Gone)?, true).ok_or(Refused::Connected)?
    };
    Ok(Listener { shared, caller, bell })
}

impl Listener {
    /// Waits for a job, and acquires it, or for the end of the registration. With a job under way it
    /// is that job. May be dropped while it waits; nothing is lost.
    pub async fn next_job(&mut self) -> Next {
        loop {
            let rung = self.bell.notified();
            if let Some(next) = self.taken() {
                return next;
            }
            rung.await;
        }
    }

    fn taken(&self) -> Option<Next> {
        let mut world = self.shared.world();
        if world.listens(self.caller).is_none() {
            return Some(Next::Deregistered);
        }
        let job = world.job_of(self.caller).flatten()?;
        let taken = world.acquire(self.caller, job.id);
        taken.then_some(Next::Job(Job { id: job.id, runs_for: job.runs_for }))
    }

    /// Waits for the end of the registration, also in mid-job: GitHub then cancels the job, and the
    /// runner application ends.
    pub async fn deregistered(&self) {
        loop {
            let rung = self.bell.notified();
            if self.shared.world().job_of(self.caller).is_none() {
                return;
            }
            rung.await;
        }
    }

    /// The job has ended, and with it the registration: a JIT runner takes one job. Without a job,
    /// or with one that GitHub cancelled, this is an end like any other.
    pub fn complete(self, success: bool) {
        let mut world = self.shared.world();
        if let Some(job) = world.job_of(self.caller).flatten() {
            world.complete(self.caller, job.id, if success { "success" } else { "failure" });
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.world().disconnect(self.caller);
    }
}
