//! Whoever is told of everything that the fleet does; and the journal as a part of the daemon, which is
//! written to its end after all others have ended.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt;
use runner_fleet_actors::{event::FleetEvent, port::Observer};

use super::{
    control::Door,
    life::{Change, Part, Renewal},
    sources::Sources,
};
use crate::{config, http::Refusal, journal::Journal};

/// How long the end of the journal may take to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The journal of a configuration, if it wants one.
///
/// # Errors
/// It cannot be had; for the person who must act.
pub(super) fn journal(config: &config::Fleet) -> Result<Option<Journal>, String> {
    let Some(file) = &config.journal else { return Ok(None) };
    let journal = Journal::open(file, u64::from(config.journal_max_mib) << 20)
        .map_err(|error| format!("the journal {}: {error}", file.display()))?;
    Ok(Some(journal))
}

#[async_trait]
impl Part<Door> for Journal {
    async fn renew<'a>(&'a self, _: &'a Door, _: &'a Renewal) -> Result<Change<'a>, Refusal> {
        let change = async {
            self.reopen();
            Vec::new()
        };
        Ok(change.boxed())
    }

    async fn stop(&self) {
        if !tokio::task::block_in_place(|| self.flush(LAST_LINES)) {
            tracing::warn!("the end of the journal could not be written");
        }
    }
}

/// Everybody who is told of everything.
#[derive(Default)]
pub(super) struct Observers {
    pub journal: Option<Arc<Journal>>,
    /// Invariants seen broken so far: defects.
    pub broken: AtomicU64,
    /// Made after whoever hears of their faults, and before the fleet.
    pub sources: OnceLock<Arc<Sources>>,
}

impl Observer for Observers {
    fn observe(&self, event: &FleetEvent) {
        if let Some(journal) = &self.journal {
            journal.observe(event);
        }
        if let Some(sources) = self.sources.get() {
            sources.observe(event);
        }
        match event {
            FleetEvent::Transition { transition: t, .. } => tracing::debug!(
                runner = %t.runner, from = ?t.from, to = %t.to, because = %t.because, "transition"
            ),
            FleetEvent::Target { pool, runners, because, .. } => {
                tracing::info!(%pool, runners, %because, "target");
            }
            FleetEvent::Plan { pool, create, drain, because, .. } => {
                tracing::info!(%pool, create, drain, because = %because.join("; "), "plan");
            }
            FleetEvent::Fault { pool, runner, error, .. } => tracing::warn!(
                pool = pool.as_ref().map(tracing::field::display),
                runner = runner.as_ref().map(tracing::field::display),
                class = %error.class, %error, "fault"
            ),
            FleetEvent::GuestLog { pool, runner, log, .. } => {
                // Quoted: its lines must not pass for lines of this log.
                tracing::warn!(%pool, %runner, ?log, "a guest's last words");
            }
            FleetEvent::InvariantBroken { name, seen, .. } => {
                self.broken.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%name, %seen, "an invariant is broken; please report this");
            }
            FleetEvent::GuestTold { .. }
            | FleetEvent::Reconciled { .. }
            | FleetEvent::VmGone { .. } => {}
        }
    }
}
