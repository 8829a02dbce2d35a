//! What LXD tells by itself: a VM that stops is known at once.
//!
//! One websocket (`/1.0/events?type=lifecycle`) for as long as somebody listens; in a cluster any
//! member passes on the events of all. It is a hint. LXD keeps no events for who was away, so that a
//! stream that had broken and is there again ends its receivers: whoever listens asks for a new one,
//! and lists once after that. A connection that is silent is asked for a sign of life, because a
//! network that drops packets closes nothing.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use runner_fleet_actors::{
    backoff::{self, Curve},
    name::RunnerName,
    port::{Change, VmStatus},
};
use serde_json::Value;
use tokio::{runtime::Handle, sync::broadcast, task::AbortHandle};
use tokio_tungstenite::{client_async, tungstenite::Message};

use super::{Inner, launch::Launch};
use crate::provider::text::tidy;

/// Changes that a slow receiver may lag behind.
const KEPT: usize = 1024;
/// Without a word for so long, a sign of life is asked for; twice, and the connection is dead.
const SILENCE: Duration = Duration::from_secs(30);
/// Between two tries to connect.
const AGAIN: Curve = Curve { base: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// Who listens, and the task that reads.
pub(super) struct Hub {
    sender: Mutex<broadcast::Sender<Change>>,
    reader: Mutex<Option<AbortHandle>>,
    /// Where the reader runs: whoever subscribes may be on a runtime that is not made for I/O.
    runtime: Option<Handle>,
}

impl Hub {
    pub(super) fn new() -> Self {
        Self {
            sender: Mutex::new(broadcast::channel(KEPT).0),
            reader: Mutex::default(),
            runtime: Handle::try_current().ok(),
        }
    }

    /// A receiver of all that happens from now on. The first one starts the reader.
    pub(super) fn subscribe(&self, inner: &Arc<Inner>) -> Option<broadcast::Receiver<Change>> {
        let runtime = self.runtime.as_ref()?;
        let receiver = self.sender().subscribe();
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.is_none() {
            *reader = Some(runtime.spawn(read(Arc::downgrade(inner))).abort_handle());
        }
        Some(receiver)
    }

    pub(super) fn tell(&self, change: Change) {
        // Nobody listens: nobody misses it.
        let _receivers = self.sender().send(change);
    }

    /// Ends all receivers.
    fn renew(&self) {
        *self.sender() = broadcast::channel(KEPT).0;
    }

    /// Ends the reader and all receivers.
    pub(super) fn close(&self) {
        if let Some(reader) = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take() {
            reader.abort();
        }
        self.renew();
    }

    fn sender(&self) -> std::sync::MutexGuard<'_, broadcast::Sender<Change>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads events until the provider is gone.
async fn read(provider: Weak<Inner>) {
    let mut failed = 0;
    let mut connected = false;
    loop {
        let Some(inner) = provider.upgrade() else { return };
        let ended = inner.read_events(&mut connected, &mut failed).await;
        drop(inner);
        failed += 1;
        tracing::debug!(failed, why = %ended, "the stream of events ended");
        tokio::time::sleep(backoff::delay(failed, 0, AGAIN)).await;
    }
}

impl Inner {
    /// One connection, to its end.
    async fn read_events(&self, connected: &mut bool, failed: &mut u32) -> String {
        let wire = match self.api.connect().await {
            Ok(wire) => wire,
            Err(error) => return error.what,
        };
        let address = format!("ws://{}{}", self.api.host(), self.api.events());
        let opened = tokio::time::timeout(SILENCE, client_async(address, wire)).await;
        let mut socket = match opened {
            Ok(Ok((socket, _))) => socket,
            Ok(Err(error)) => return tidy(&error.to_string(), &[]),
            Err(_) => return "no answer".to_owned(),
        };
        *failed = 0;
        if std::mem::replace(connected, true) {
            self.hub.renew();
        }
        let mut asked = false;
        loop {
            match tokio::time::timeout(SILENCE, socket.next()).await {
                Ok(Some(Ok(message))) => {
                    asked = false;
                    if let Message::Text(text) = message {
                        self.hear(text.as_str());
                    }
                }
                Ok(Some(Err(error))) => return tidy(&error.to_string(), &[]),
                Ok(None) => return "closed".to_owned(),
                Err(_) if asked => return "no sign of life".to_owned(),
                Err(_) => {
                    asked = true;
                    if let Err(error) = socket.send(Message::Ping(Vec::new().into())).await {
                        return tidy(&error.to_string(), &[]);
                    }
                }
            }
        }
    }

    fn hear(&self, event: &str) {
        let Some(name) = ended(event).filter(|name| name.is_of(&self.fleet)) else { return };
        // What happens to it while it is made, or is cleared away after a failure, is told by the
        // launch itself.
        let known = self.launches.get(&name);
        if matches!(known.as_deref(), Some(Launch::UnderWay { .. } | Launch::Failed { .. })) {
            return;
        }
        drop(known);
        self.hub.tell(Change { name, status: VmStatus::Stopped, as_of: self.now() });
    }
}

/// The runner whose VM has ended, if that is what the event says. A restart of the guest is told as
/// `instance-restarted` and ends nothing.
fn ended(event: &str) -> Option<RunnerName> {
    let event: Value = serde_json::from_str(event).ok()?;
    let metadata = event.get("metadata")?;
    let action = metadata.get("action")?.as_str()?;
    if !matches!(action, "instance-stopped" | "instance-shutdown" | "instance-deleted") {
        return None;
    }
    // /1.0/instances/NAME, behind it ?project=… where it is not the default one.
    let source = metadata.get("source")?.as_str()?.split('?').next()?;
    source.strip_prefix("/1.0/instances/")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, source: &str) -> String {
        let metadata = serde_json::json!({ "action": action, "source": source });
        serde_json::json!({ "type": "lifecycle", "metadata": metadata }).to_string()
    }

    #[test]
    fn a_vm_has_ended_when_it_was_shut_down_stopped_or_deleted() {
        let source = "/1.0/instances/ci--large--0123456789ab?project=ci";
        let name: RunnerName = "ci--large--0123456789ab".parse().unwrap();
        for action in ["instance-shutdown", "instance-stopped", "instance-deleted"] {
            assert_eq!(ended(&event(action, source)), Some(name.clone()));
        }
        for action in ["instance-started", "instance-restarted", "instance-paused", "x"] {
            assert_eq!(ended(&event(action, source)), None);
        }
    }

    #[test]
    fn what_is_no_runner_or_no_event_is_passed_over() {
        for source in ["/1.0/instances/web", "/1.0/profiles/ci--large--0123456789ab", ""] {
            assert_eq!(ended(&event("instance-stopped", source)), None);
        }
        for text in ["", "{}", "[]", "{\"metadata\": 7}", "not json"] {
            assert_eq!(ended(text), None);
        }
    }
}
