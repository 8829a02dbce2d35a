//! A provider whose credentials may be replaced while it is in use: at a reload, and where the cloud
//! refuses those that it was made with.
//!
//! Passwords and certificates of clouds expire on a date, and whoever replaces the file does not always
//! reload as well. So after a refusal the places are read again, at most once in [`LOOK_AGAIN`]; where
//! they hold something else, the provider is made anew and the call repeated once. A refused call has
//! certainly done nothing, and nobody is asked more often than before while the places hold the same:
//! wrong log-ins lock accounts.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use runner_fleet_actors::{
    name::{FleetId, RunnerName, VmId},
    port::{
        Change, Clock, Deletion, Door, ErrorClass, LaunchOrder, Listing, PortError, PortStatus,
        Provider, Recent, Shape, Time, Vm,
    },
};
use tokio::sync::Mutex;

use super::{
    assemble,
    held::{Held, OfProvider},
};
use crate::config;

/// How often refusals make the places be read again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What a provider is made of.
pub(super) struct Origin {
    name: String,
    provider: config::Provider,
    fleet: FleetId,
    clock: Arc<dyn Clock>,
    /// What is launched there.
    shapes: Vec<Shape>,
    /// What its places held when it was made.
    held: OfProvider,
}

impl Origin {
    /// Of the provider of that name; `None` where there is none.
    pub(super) fn of(
        name: &str,
        config: &config::Config,
        held: &Held,
        clock: &Arc<dyn Clock>,
    ) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            provider: config.providers.get(name)?.clone(),
            fleet: config.fleet.id.clone(),
            clock: Arc::clone(clock),
            shapes: assemble::shapes(config, name),
            held: held.providers.get(name)?.clone(),
        })
    }

    /// Makes the provider, as its places are now.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) async fn make(&self) -> Result<Arc<dyn Provider>, PortError> {
        let shapes = self.shapes.clone();
        assemble::limited(&self.name, &self.provider, &self.fleet, &self.clock, shapes).await
    }
}

struct Now {
    port: Arc<dyn Provider>,
    origin: Arc<Origin>,
}

/// A provider that stands for whichever was made last. Calls under way end with the one they began with.
pub(super) struct Rotating {
    now: RwLock<Now>,
    looked: Mutex<Option<Time>>,
}

impl Rotating {
    pub(super) fn new(port: Arc<dyn Provider>, origin: Origin) -> Self {
        let now = Now { port, origin: Arc::new(origin) };
        Self { now: RwLock::new(now), looked: Mutex::default() }
    }

    pub(super) fn renew(&self, port: Arc<dyn Provider>, origin: Origin) {
        let now = Now { port, origin: Arc::new(origin) };
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Puts in place what was made after a refusal of what `was` made, and says which one stands. Where a
    /// reload was quicker, its own stands: it is of the new settings.
    fn rotate(
        &self,
        was: &Arc<Origin>,
        port: Arc<dyn Provider>,
        origin: Origin,
    ) -> Arc<dyn Provider> {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&now.origin, was) {
            *now = Now { port, origin: Arc::new(origin) };
        }
        Arc::clone(&now.port)
    }

    /// What the places held that the present one was made of.
    pub(super) fn held(&self) -> OfProvider {
        self.now().1.held.clone()
    }

    fn now(&self) -> (Arc<dyn Provider>, Arc<Origin>) {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&now.port), Arc::clone(&now.origin))
    }

    /// The provider to ask once more after `refused` was, if there is another one.
    async fn other_than(
        &self,
        refused: &Arc<dyn Provider>,
        error: &PortError,
    ) -> Option<Arc<dyn Provider>> {
        if !error.certain || !matches!(error.class, ErrorClass::Auth | ErrorClass::Transient) {
            return None;
        }
        // Whoever waits here finds what the first one got.
        let mut looked = self.looked.lock().await;
        let (port, was) = self.now();
        if !Arc::ptr_eq(&port, refused) {
            return Some(port);
        }
        let now = was.clock.now();
        if looked.is_some_and(|at| now < at + LOOK_AGAIN) {
            return None;
        }
        *looked = Some(now);
        let held = OfProvider::read(&was.provider);
        if held == was.held {
            return None;
        }
        let (provider, name) = (was.provider.clone(), was.name.clone());
        let (fleet, clock, shapes) =
            (was.fleet.clone(), Arc::clone(&was.clock), was.shapes.clone());
        let origin = Origin { name, provider, fleet, clock, shapes, held };
        match origin.make().await {
            Ok(port) => {
                tracing::info!(provider = %origin.name, "what it is reached with was replaced; taken up");
                Some(self.rotate(&was, port, origin))
            }
            Err(error) => {
                tracing::warn!(
                    provider = %origin.name, %error,
                    "what it is reached with was replaced by what cannot be used; the old stays"
                );
                None
            }
        }
    }
}

#[async_trait]
impl Provider for Rotating {
    async fn launch(&self, order: LaunchOrder) -> Result<VmId, PortError> {
        let (port, _) = self.now();
        let error = match port.launch(order.clone()).await {
            Err(error) => error,
            made => return made,
        };
        match self.other_than(&port, &error).await {
            Some(port) => port.launch(LaunchOrder { fresh: false, ..order }).await,
            None => Err(error),
        }
    }

    async fn delete(&self, name: &RunnerName, id: Option<&VmId>) -> Result<Deletion, PortError> {
        let (port, _) = self.now();
        let error = match port.delete(name, id).await {
            Err(error) => error,
            done => return done,
        };
        match self.other_than(&port, &error).await {
            Some(port) => port.delete(name, id).await,
            None => Err(error),
        }
    }

    async fn list(&self) -> Result<Listing<Vm>, PortError> {
        let (port, _) = self.now();
        let error = match port.list().await {
            Err(error) => error,
            seen => return seen,
        };
        match self.other_than(&port, &error).await {
            Some(port) => port.list().await,
            None => Err(error),
        }
    }

    fn tells_recent(&self) -> bool {
        self.now().0.tells_recent()
    }

    /// Refused, it is followed by a listing, which asks whoever has other credentials.
    async fn recent(&self) -> Result<Option<Recent>, PortError> {
        self.now().0.recent().await
    }

    fn status(&self) -> PortStatus {
        self.now().0.status()
    }

    fn door(&self) -> Door {
        self.now().0.door()
    }

    fn end_hold(&self) {
        self.now().0.end_hold();
    }

    /// Those of the provider that is set now. They end when it is replaced and dropped; whoever
    /// listens then asks again.
    fn changes(&self) -> Option<tokio::sync::broadcast::Receiver<Change>> {
        self.now().0.changes()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use runner_fleet_actors::port::TokioClock;

    use super::*;

    /// A provider that only is another one than the rest.
    struct Another;

    #[async_trait]
    impl Provider for Another {
        async fn launch(&self, _: LaunchOrder) -> Result<VmId, PortError> {
            Err(PortError::certain(ErrorClass::Invalid, "never asked"))
        }

        async fn delete(&self, _: &RunnerName, _: Option<&VmId>) -> Result<Deletion, PortError> {
            Ok(Deletion::Gone)
        }

        async fn list(&self) -> Result<Listing<Vm>, PortError> {
            Err(PortError::certain(ErrorClass::Invalid, "never asked"))
        }

        fn status(&self) -> PortStatus {
            PortStatus::default()
        }
    }

    #[test]
    fn a_rotation_does_not_undo_the_reload_that_was_quicker() {
        let text = "[fleet]\nid = \"ci\"\n[github]\ntoken_file = \"token\"\n[providers.lxd]\n\
                    kind = \"lxd\"\nsocket = \"/run/lxd/unix.socket\"\n";
        let config = config::Config::parse(text, Path::new("/fleet.toml"), &config::Env::default());
        let config = config.unwrap();
        let held = Held::read(&config, &[]);
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::of_system());
        let origin = || Origin::of("lxd", &config, &held, &clock).unwrap();
        let port = || Arc::new(Another) as Arc<dyn Provider>;

        let rotating = Rotating::new(port(), origin());
        let (_, refused) = rotating.now();
        let of_reload = port();
        rotating.renew(Arc::clone(&of_reload), origin());
        let stands = rotating.rotate(&refused, port(), origin());
        assert!(Arc::ptr_eq(&stands, &of_reload), "the call is repeated with the reload's");
        assert!(Arc::ptr_eq(&rotating.now().0, &of_reload));

        let (_, refused) = rotating.now();
        let of_rotation = port();
        let stands = rotating.rotate(&refused, Arc::clone(&of_rotation), origin());
        assert!(Arc::ptr_eq(&stands, &of_rotation), "nobody was quicker");
        assert!(Arc::ptr_eq(&rotating.now().0, &of_rotation));
    }
}
