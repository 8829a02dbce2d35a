//! The fleet's actors as a part of the daemon: started once everybody listens who can tell them
//! something, and stopped first, while their answers can still be taken.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::{Addr, AsyncContext};
use async_trait::async_trait;
use futures::FutureExt;
use runner_fleet_actors::{
    event::SharedModel,
    fleet::{Ending, FleetActor, FleetSetup, PoolSetup, Reload, Stop},
    name::Scope,
    pool::{SharedBoots, SharedHabits},
    port::{Clock, Observer},
    supervision::Intensity,
};
use tokio::sync::oneshot;

use super::{
    Pace, assemble,
    control::{Door, gone},
    life::{Change, Part, Renewal},
    ports::Ports,
    reception::Reception,
    sources::Sources,
    targets::Targets,
    user_data::Makings,
};
use crate::{config::Config, github::downloads::Downloads, http::Refusal};

/// What the fleet is made of.
pub(super) struct Setting {
    pub ports: Arc<Ports>,
    pub sources: Arc<Sources>,
    pub reception: Option<Arc<Reception>>,
    pub downloads: Arc<Downloads>,
    pub targets: Arc<Targets>,
    pub pace: Pace,
}

impl Setting {
    fn makings(&self, config: &Config) -> Result<Makings, String> {
        let downloads = Arc::clone(&self.downloads);
        Makings::new(config.guests.as_ref(), self.reception.as_deref(), downloads)
    }

    fn pools(&self, config: &Config, makings: &Makings) -> Vec<PoolSetup> {
        let of =
            |pool| assemble::pool(pool, makings, &self.targets, &self.pace, self.sources.of(pool));
        config.pools.iter().map(of).collect()
    }
}

/// What the fleet needs of the daemon besides.
pub(super) struct Surroundings {
    /// Scopes without a pool in which registrations may be left.
    pub remembered: BTreeSet<Scope>,
    pub clock: Arc<dyn Clock>,
    pub observer: Arc<dyn Observer>,
    pub model: SharedModel,
    pub boots: SharedBoots,
    pub habits: SharedHabits,
    pub io: tokio::runtime::Handle,
}

/// The fleet of a daemon.
pub(super) struct Fleet {
    pub address: Addr<FleetActor>,
    setting: Setting,
    stop_deadline: Duration,
    /// Lets the actor run, which has an address before.
    begin: Mutex<Option<oneshot::Sender<()>>>,
}

impl Fleet {
    /// Makes the fleet's actor; it does nothing yet. Must be called inside the actors' system. Besides
    /// comes the news of the fleet's own end.
    ///
    /// # Errors
    /// A certificate that guests are to trust cannot be read.
    pub(super) fn prepare(
        config: &Config,
        setting: Setting,
        around: Surroundings,
    ) -> Result<(Self, oneshot::Receiver<Ending>), String> {
        let Surroundings { remembered, clock, observer, model, boots, habits, io } = around;
        let makings = setting.makings(config)?;
        let (fleet, ending) = FleetActor::new(FleetSetup {
            id: config.fleet.id.clone(),
            providers: setting.ports.providers(),
            forge: setting.sources.forge(Arc::clone(&setting.ports.forge) as _),
            guests: Reception::guests(setting.reception.as_deref()),
            pools: setting.pools(config, &makings),
            remembered,
            clock,
            observer,
            model,
            boots,
            habits,
            io,
            cloud_cadence: setting.pace.cloud,
            forge_cadence: setting.pace.forge,
            intensity: Intensity::default(),
        });
        let context = actix::Context::new();
        let address = context.address();
        let (begin, begun) = oneshot::channel();
        actix::spawn(async move {
            if begun.await.is_ok() {
                let _address = context.run(fleet);
            }
        });
        let (begin, stop_deadline) = (Mutex::new(Some(begin)), config.fleet.stop_deadline);
        Ok((Self { address, setting, stop_deadline, begin }, ending))
    }
}

#[async_trait]
impl Part<Door> for Fleet {
    async fn start(&self, _: &Arc<Door>) -> Result<(), String> {
        let begin = self.begin.lock().unwrap_or_else(PoisonError::into_inner).take();
        match begin.map(|begin| begin.send(())) {
            Some(Ok(())) => Ok(()),
            _ => Err("the actors' system has ended".to_owned()),
        }
    }

    async fn renew<'a>(&'a self, door: &'a Door, to: &'a Renewal) -> Result<Change<'a>, Refusal> {
        if !self.address.connected() {
            return Err(gone(()));
        }
        let makings = self.setting.makings(&to.new).map_err(Refusal::Invalid)?;
        let change = async move {
            // What pools of a removed scope have left is theirs to tidy: they live on until they are
            // empty.
            let scopes = to.new.pools.iter().map(|pool| &pool.scope);
            let _left = door.scopes.keep(scopes, door.clock.wall());
            let pools = self.setting.pools(&to.new, &makings);
            let providers = self.setting.ports.providers();
            let told = self.address.send(Reload { providers, pools }).await;
            told.unwrap_or_else(|_| vec!["the fleet has ended meanwhile".to_owned()])
        };
        Ok(change.boxed())
    }

    /// Within the deadline: answers that are due are awaited, jobs go on.
    async fn stop(&self) {
        let deadline = self.stop_deadline;
        if self.address.connected() {
            tracing::info!(?deadline, "stopping; jobs go on and are adopted by the next start");
        }
        if tokio::time::timeout(deadline, self.address.send(Stop)).await.is_err() {
            tracing::warn!("calls still under way at the deadline are left to the next start");
        }
    }
}
