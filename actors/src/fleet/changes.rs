//! What a cloud tells by itself, and whom it concerns.
//!
//! A listing every few seconds finds every change sooner or later; a cloud that pushes makes it at
//! once, and nothing else. So a change is one side's sighting of one runner and goes through the same
//! door as a listing's. Whatever is wrong with the stream (it lagged, it ended, it tells of a VM whose
//! launch is not answered yet) is answered with a listing, never with a guess.

use std::sync::Arc;

use actix::{Addr, AsyncContext, Context, Handler, Message};
use tokio::sync::{broadcast::error::RecvError, watch};

use super::FleetActor;
use crate::{
    backoff::{self, Curve},
    pool::actor::{Changed, Stir},
    port::{Change, Provider},
};

/// How soon a stream that ended is asked for again. One that is renewed is there at once; a provider
/// whose streams end one after the other must not be asked in a loop.
const RESUBSCRIBE: Curve =
    Curve { base: std::time::Duration::from_millis(100), cap: std::time::Duration::from_secs(30) };

impl FleetActor {
    /// One listener a provider; those of providers that are not there any more end.
    pub(super) fn hear_every_cloud(&mut self, ctx: &mut Context<Self>) {
        let providers = &self.setup.providers;
        self.listeners.retain(|name, task| {
            let keep = providers.contains_key(name) && !task.is_finished();
            if !keep {
                task.abort();
            }
            keep
        });
        for (name, provider) in providers {
            self.listeners.entry(name.clone()).or_insert_with(|| {
                let (provider, stir) = (Arc::clone(provider), Arc::clone(&self.stir));
                actix_rt::spawn(hear(name.clone(), provider, ctx.address(), stir))
            });
        }
    }

    /// Subscribes anew, because a provider may have been renewed in place.
    pub(super) fn hear_anew(&mut self, ctx: &mut Context<Self>) {
        self.hear_nobody();
        self.hear_every_cloud(ctx);
    }

    /// Ends all listeners.
    pub(super) fn hear_nobody(&mut self) {
        for (_, task) in std::mem::take(&mut self.listeners) {
            task.abort();
        }
    }
}

/// Hands on what a provider tells, until it says that it tells nothing.
async fn hear(
    name: String,
    provider: Arc<dyn Provider>,
    fleet: Addr<FleetActor>,
    stir: Arc<watch::Sender<Stir>>,
) {
    let mut ended = 0;
    while let Some(mut changes) = provider.changes() {
        if ended > 0 {
            // Listed after the new subscription, so that nothing falls in between.
            stir.send_modify(|stir| stir.at_once += 1);
        }
        loop {
            match changes.recv().await {
                Ok(change) => {
                    ended = 0;
                    fleet.do_send(Pushed { provider: name.clone(), change });
                }
                Err(RecvError::Lagged(missed)) => {
                    tracing::debug!(provider = %name, missed, "changes were missed; a listing finds them");
                    stir.send_modify(|stir| stir.at_once += 1);
                }
                Err(RecvError::Closed) => break,
            }
        }
        ended += 1;
        tracing::debug!(provider = %name, ended, "a stream of changes ended");
        tokio::time::sleep(backoff::delay(ended, 0, RESUBSCRIBE)).await;
    }
}

/// A provider tells of one VM.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Pushed {
    provider: String,
    change: Change,
}

impl Handler<Pushed> for FleetActor {
    type Result = ();

    fn handle(&mut self, Pushed { provider, change }: Pushed, _ctx: &mut Self::Context) {
        if self.stopping.is_some() {
            return;
        }
        // A pool that moves leaves a twin of its name at the same provider; the runner is with one.
        let pool = change.name.pool();
        for (key, child) in &self.pools {
            if key.pool == pool && key.provider == provider {
                child.addr.do_send(Changed(change.clone()));
            }
        }
    }
}
