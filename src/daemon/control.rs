//! What the API may ask: the one door from HTTP to the actors.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::Addr;
use async_trait::async_trait;
use runner_fleet_actors::{
    event::{ReadModel, SharedModel},
    fleet::{Fix, FleetActor, Reconcile, Reload, Route, RouteError},
    name::{PoolName, RunnerName},
    pool::actor::{Order, Refused},
    port::{Clock, Forge, PortStatus, Provider},
};

use super::{
    Pace, assemble,
    held::{self, Held},
    readiness,
    reception::Reception,
    renewable::Renewable,
    rotation::{Origin, Rotating},
    scopes::Scopes,
    sources::Sources,
    targets::Targets,
    user_data::Makings,
};
use crate::{
    config::Config,
    demand::desk::Desk,
    github::{
        downloads::{Catalogue, Downloads},
        names::{self, Names},
        records::Records,
    },
    http::{
        ApiToken, Control, Refusal,
        api::{self, FleetInfo, Readiness},
    },
    journal::Journal,
    log::LogControl,
    state::StateFolder,
};

/// The daemon as its API sees it.
pub(super) struct Door {
    pub model: SharedModel,
    pub fleet: Addr<FleetActor>,
    pub clock: Arc<dyn Clock>,
    pub info: Mutex<FleetInfo>,
    /// How old the last whole listing may be before the fleet is not ready.
    pub listing_max_age: Mutex<Duration>,
    pub config: tokio::sync::Mutex<Config>,
    pub path: PathBuf,
    pub pace: Pace,
    pub folder: StateFolder,
    pub targets: Targets,
    pub scopes: Scopes,
    pub downloads: Arc<Downloads>,
    pub forge: Arc<Renewable<dyn Forge>>,
    pub catalogue: Arc<Renewable<dyn Catalogue>>,
    pub records: Arc<Renewable<dyn Records>>,
    pub names: Arc<Names>,
    pub sources: Arc<Sources>,
    pub providers: Mutex<BTreeMap<String, Arc<Rotating>>>,
    /// What the places of `config` held when it was taken over.
    pub held: Mutex<Held>,
    pub api_token: Option<ApiToken>,
    pub reception: Option<Arc<Reception>>,
    pub journal: Option<Arc<Journal>>,
    pub log: Option<LogControl>,
    pub io: tokio::runtime::Handle,
}

fn gone<E>(_: E) -> Refusal {
    Refusal::Unavailable("the fleet is stopping or being started again; try once more".to_owned())
}

fn refusal(error: RouteError) -> Refusal {
    let text = error.to_string();
    match error {
        RouteError::NoPool(_) | RouteError::Refused(Refused::NoRunner(_)) => {
            Refusal::NotFound(text)
        }
        RouteError::Refused(Refused::Busy(_)) => Refusal::Conflict(text),
        RouteError::Refused(Refused::Stopping) | RouteError::NoAnswer(_) => {
            Refusal::Unavailable(text)
        }
    }
}

/// How often is looked whether the disk takes again what it has refused.
const WRITE_AGAIN: std::time::Duration = std::time::Duration::from_secs(10);

impl Door {
    /// Writes again what the disk has refused, for ever.
    pub async fn keep_kept(&self) {
        loop {
            tokio::time::sleep(WRITE_AGAIN).await;
            if self.folder.troubles().reasons().is_empty() {
                continue;
            }
            tokio::task::block_in_place(|| {
                self.targets.write_again();
                self.scopes.write_again();
                if let Some(reception) = &self.reception {
                    reception.keep_key();
                }
            });
        }
    }

    async fn order(&self, pool: PoolName, order: Order) -> Result<u32, Refusal> {
        self.fleet.send(Route { pool, order }).await.map_err(gone)?.map_err(refusal)
    }

    /// Renews whatever another configuration is made of, or other secrets, keys and certificates in the
    /// same places, and says which.
    async fn renew_ports(
        &self,
        old: &Config,
        new: &Config,
        held: &Held,
    ) -> Result<Vec<String>, Refusal> {
        let invalid =
            |fault: runner_fleet_actors::port::PortError| Refusal::Invalid(fault.to_string());
        let mut was = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Not what it held at the last reload: a refusal may have made it take up another since.
        was.providers = self
            .providers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(name, rotating)| (name.clone(), rotating.held()))
            .collect();
        let changes = held::changes(&was, held, old, new);
        let mut renewed = Vec::new();
        // Clouds and GitHub are made before anything is put in place, so their faults change nothing.
        // What follows is read and put in place one after the other: a fault there leaves what stands
        // before it renewed, which is what its place holds.
        let mut providers = Vec::new();
        for name in &changes.providers {
            if let Some(origin) = Origin::of(name, new, held, &self.clock) {
                let port = origin.make().await.map_err(invalid)?;
                providers.push((name.clone(), port, origin));
            }
        }
        let github = match changes.github {
            true => {
                let names = Arc::clone(&self.names);
                let github = assemble::github(new, &self.clock, self.pace.minute, names);
                Some(Arc::new(github.map_err(invalid)?))
            }
            false => None,
        };
        if let Some(reception) = &self.reception {
            reception.renew_certificate().map_err(Refusal::Invalid)?;
        }
        let planner = self.sources.renew(new, changes.planner).map_err(Refusal::Invalid)?;
        if let Some((token, listen)) = self.api_token.as_ref().zip(new.api.listen.as_ref()) {
            let other = token.renew(&listen.token);
            let other = other.map_err(|error| Refusal::Invalid(format!("api: {error}")))?;
            renewed.extend(other.then(|| "the api's token is renewed".to_owned()));
        }
        for (what, is_new) in [
            ("the guests' certificate is renewed", changes.guests),
            ("the webhooks' secrets and certificate are renewed", changes.webhooks),
            ("the planner's token and authorities are renewed", planner),
            ("the queue's address and authorities are renewed", changes.queue),
        ] {
            renewed.extend(is_new.then(|| what.to_owned()));
        }
        if let Some(github) = github {
            self.forge.renew(Arc::clone(&github) as Arc<dyn Forge>);
            self.records.renew(Arc::clone(&github) as Arc<dyn Records>);
            self.sources.renew_github(Arc::clone(&github));
            self.catalogue.renew(github);
            renewed.push("github is renewed".to_owned());
        }
        let mut known = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, port, origin) in providers {
            renewed.push(format!("provider {name} is renewed"));
            match known.get(&name) {
                Some(rotating) => rotating.renew(port, origin),
                None => {
                    known.insert(name, Arc::new(Rotating::new(port, origin)));
                }
            }
        }
        Ok(renewed)
    }

    async fn take_over(&self) -> Result<String, Refusal> {
        let mut current = self.config.lock().await;
        let new =
            Config::load(&self.path).map_err(|faults| Refusal::Invalid(faults.to_string()))?;
        let restart = current.restart_needed(&new);
        if restart.contains(&"fleet.id") {
            return Err(Refusal::Invalid(
                "fleet.id cannot change while the daemon runs: the VMs of the old fleet would be \
                 nobody's. Empty its pools first, then restart"
                    .to_owned(),
            ));
        }
        let makings = Makings::new(
            new.guests.as_ref(),
            self.reception.as_deref(),
            Arc::clone(&self.downloads),
        )
        .map_err(Refusal::Invalid)?;
        // What pools of a removed scope have left is theirs to tidy: they live on until they are empty.
        let _left = self.scopes.keep(new.pools.iter().map(|pool| &pool.scope), self.clock.wall());
        let held = Held::read(&new);
        let mut done = self.renew_ports(&current, &new, &held).await?;
        self.sources.reload(&new).map_err(Refusal::Invalid)?;
        self.names.configure(new.pools.iter().map(|pool| &pool.scope));
        let pools = new
            .pools
            .iter()
            .map(|p| assemble::pool(p, &makings, &self.targets, &self.pace, self.sources.of(p)))
            .collect();
        let providers = self
            .providers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(name, port)| (name.clone(), Arc::clone(port) as Arc<dyn Provider>))
            .collect();
        done.extend(self.fleet.send(Reload { providers, pools }).await.map_err(gone)?);
        *self.listing_max_age.lock().unwrap_or_else(PoisonError::into_inner) =
            new.fleet.listing_max_age;
        if let Some(log) = &self.log {
            log.set_level(new.fleet.log_level);
        }
        if let Some(journal) = &self.journal {
            journal.reopen();
        }
        for warning in &new.warnings {
            let warning = warning.at(&self.path);
            tracing::warn!(%warning, "the configuration is unwise");
        }
        if !restart.is_empty() {
            done.push(format!("waiting for a restart: {}", restart.join(", ")));
        }
        let given = held::given_at_the_start(&new);
        if !given.is_empty() {
            done.push(format!(
                "read at the start only, a new value needs a restart: {}",
                given.join(", ")
            ));
        }
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        *current = new;
        Ok(done.join("\n"))
    }
}

#[async_trait]
impl Control for Door {
    fn model(&self) -> &ReadModel {
        &self.model
    }

    fn api_token(&self) -> Option<&ApiToken> {
        self.api_token.as_ref()
    }

    fn sources(&self) -> Vec<api::SourceStatus> {
        self.sources.status()
    }

    fn desk(&self) -> Option<&Desk> {
        Some(&self.sources.desk)
    }

    fn fleet(&self) -> FleetInfo {
        let info = self.info.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let notes = self.folder.troubles().notes();
        let notes = notes.into_iter().map(|(at, what)| api::Note { at, what }).collect();
        FleetInfo { notes, ..info }
    }

    fn readiness(&self) -> Readiness {
        let bound = *self.listing_max_age.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = readiness::readiness(&self.model, bound, self.clock.now());
        told.reasons.splice(0..0, self.folder.troubles().reasons());
        let known = self.names.book(|book| book.known());
        told.attention.extend(known.iter().filter_map(|(scope, known)| names::told(scope, known)));
        told.ready = told.reasons.is_empty();
        told
    }

    /// As they are now, also between two listings.
    fn ports(&self) -> BTreeMap<String, PortStatus> {
        let providers = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ports: BTreeMap<_, _> =
            providers.iter().map(|(name, port)| (name.clone(), port.status())).collect();
        ports.insert("github".to_owned(), self.forge.status());
        ports
    }

    async fn set_target(&self, pool: &PoolName, runners: Option<u32>) -> Result<(), Refusal> {
        let Some(max) = self.model.pools.get(pool).filter(|p| !p.retiring).map(|p| p.max) else {
            return Err(refusal(RouteError::NoPool(pool.clone())));
        };
        if let Some(runners) = runners.filter(|runners| *runners > max) {
            return Err(Refusal::Invalid(format!(
                "pool {pool} has max = {max}, so its target cannot be {runners}; raise max in the configuration"
            )));
        }
        self.targets.keep(pool, runners).map_err(|error| {
            Refusal::Unavailable(format!(
                "the target cannot be kept over a restart, so it is not set: {error}"
            ))
        })?;
        let fix = Fix { pool: pool.clone(), runners };
        self.fleet.send(fix).await.map_err(gone)?.map_err(refusal)
    }

    async fn drain(&self, runner: &RunnerName) -> Result<(), Refusal> {
        self.order(runner.pool(), Order::Drain(runner.clone())).await.map(|_| ())
    }

    async fn delete(&self, runner: &RunnerName, force: bool) -> Result<(), Refusal> {
        let order = match force {
            true => Order::Force(runner.clone()),
            false => Order::Drain(runner.clone()),
        };
        self.order(runner.pool(), order).await.map(|_| ())
    }

    async fn flush(&self, pool: &PoolName) -> Result<u32, Refusal> {
        self.order(pool.clone(), Order::Flush).await
    }

    async fn reconcile(&self) -> Result<(), Refusal> {
        self.fleet.send(Reconcile).await.map_err(gone)
    }

    async fn reload(&self) -> Result<String, Refusal> {
        let result = self.take_over().await;
        let reload = api::Reload {
            at: self.clock.wall(),
            ok: result.is_ok(),
            what: match &result {
                Ok(done) => done.clone(),
                Err(refusal) => refusal.to_string(),
            },
        };
        match &result {
            Ok(done) => tracing::info!(%done, "configuration reloaded"),
            Err(refusal) => {
                tracing::error!(%refusal, "configuration not reloaded, the old one stays")
            }
        }
        self.info.lock().unwrap_or_else(PoisonError::into_inner).last_reload = Some(reload);
        result
    }
}
