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
    fleet::{Fix, FleetActor, Reconcile, Route, RouteError},
    name::{PoolName, RunnerName},
    pool::actor::{Order, Refused},
    port::{Clock, PortStatus},
};

use super::{
    api::Api,
    held::{self, Held},
    learnt::Learnt,
    life::{Life, Renewal},
    observers::Observers,
    ports::Ports,
    readiness,
    reception::Reception,
    scopes::Scopes,
    sources::Sources,
    targets::Targets,
};
use crate::{
    config::Config,
    demand::{SOURCES, desk::Desk},
    github::{downloads::Downloads, names},
    http::{
        ApiToken, Control, Refusal,
        api::{self as wire, FleetInfo, Readiness},
    },
    log::LogControl,
    state::StateFolder,
};

/// The daemon as its API sees it, and as its parts see each other.
pub(super) struct Door {
    pub model: SharedModel,
    pub fleet: Addr<FleetActor>,
    pub clock: Arc<dyn Clock>,
    pub info: Mutex<FleetInfo>,
    /// How old the last whole listing may be before the fleet is not ready.
    pub listing_max_age: Mutex<Duration>,
    pub config: tokio::sync::Mutex<Config>,
    pub path: PathBuf,
    pub folder: StateFolder,
    pub targets: Arc<Targets>,
    pub scopes: Scopes,
    pub learnt: Learnt,
    pub downloads: Arc<Downloads>,
    pub observers: Arc<Observers>,
    pub ports: Arc<Ports>,
    pub api: Arc<Api>,
    pub reception: Option<Arc<Reception>>,
    pub sources: Arc<Sources>,
    /// What the places of `config` held when it was taken over.
    pub held: Mutex<Held>,
    pub log: Option<LogControl>,
    pub life: Life<Self>,
}

pub(super) fn gone<E>(_: E) -> Refusal {
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
    /// Writes down what was learnt, and again what the disk has refused, for ever.
    pub async fn keep_kept(&self) {
        loop {
            tokio::time::sleep(WRITE_AGAIN).await;
            tokio::task::block_in_place(|| self.learnt.keep(self.ports.github().lessons()));
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
        let held = Held::read(&new, SOURCES);
        let was = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let was = Held { providers: self.ports.held(), ..was };
        let changes = held::changes(&was, &held, &current, &new);
        let renewal = Renewal { new, held, changes };
        let mut done = self.life.renew(self, &renewal).await?;
        let Renewal { new, held, .. } = renewal;
        *self.listing_max_age.lock().unwrap_or_else(PoisonError::into_inner) =
            new.fleet.listing_max_age;
        if let Some(log) = &self.log {
            log.set_level(new.fleet.log_level);
        }
        for warning in &new.warnings {
            let warning = warning.at(&self.path);
            tracing::warn!(%warning, "the configuration is unwise");
        }
        if !restart.is_empty() {
            done.push(format!("waiting for a restart: {}", restart.join(", ")));
        }
        let given = held::given_at_the_start(&new, SOURCES);
        if !given.is_empty() {
            done.push(format!(
                "read at the start only, a new value needs a restart: {}",
                given.join(", ")
            ));
        }
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held.after(was);
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
        self.api.token.as_ref()
    }

    fn sources(&self) -> Vec<wire::SourceStatus> {
        self.sources.status()
    }

    fn desk(&self) -> Option<&Desk> {
        Some(&self.sources.desk)
    }

    fn fleet(&self) -> FleetInfo {
        let info = self.info.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let notes = self.folder.troubles().notes();
        let notes = notes.into_iter().map(|(at, what)| wire::Note { at, what }).collect();
        FleetInfo { notes, ..info }
    }

    fn readiness(&self) -> Readiness {
        let bound = *self.listing_max_age.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = readiness::readiness(&self.model, bound, self.clock.now());
        told.reasons.splice(0..0, self.folder.troubles().reasons());
        let known = self.ports.names.book(|book| book.known());
        told.attention.extend(known.iter().filter_map(|(scope, known)| names::told(scope, known)));
        told.ready = told.reasons.is_empty();
        told
    }

    fn ports(&self) -> BTreeMap<String, PortStatus> {
        self.ports.status()
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
        let reload = wire::Reload {
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
