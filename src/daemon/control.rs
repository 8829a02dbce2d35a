//! What the API may ask: the one door from HTTP to the actors.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use actix::Addr;
use async_trait::async_trait;
use runner_fleet_actors::{
    event::{ReadModel, SharedModel},
    fleet::{Fix, FleetActor, Reconcile, Reload, Route, RouteError},
    name::{PoolName, RunnerName},
    pool::actor::{Order, Refused},
    port::{Clock, Forge, Provider},
};

use super::{
    Pace, assemble, reception::Reception, renewable::Renewable, scopes::Scopes, sources::Sources,
    targets::Targets, user_data::Makings,
};
use crate::{
    config::Config,
    demand::desk::Desk,
    github::{
        downloads::{Catalogue, Downloads},
        records::Records,
    },
    http::{
        Control, Refusal,
        api::{self, FleetInfo, Readiness},
    },
    journal::Journal,
    log::LogControl,
};

/// The daemon as its API sees it.
pub(super) struct Door {
    pub model: SharedModel,
    pub fleet: Addr<FleetActor>,
    pub clock: Arc<dyn Clock>,
    pub info: Mutex<FleetInfo>,
    pub config: tokio::sync::Mutex<Config>,
    pub path: PathBuf,
    pub pace: Pace,
    pub targets: Targets,
    pub scopes: Scopes,
    pub downloads: Arc<Downloads>,
    pub forge: Arc<Renewable<dyn Forge>>,
    pub catalogue: Arc<Renewable<dyn Catalogue>>,
    pub records: Arc<Renewable<dyn Records>>,
    pub sources: Arc<Sources>,
    pub providers: Mutex<std::collections::BTreeMap<String, Arc<Renewable<dyn Provider>>>>,
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

impl Door {
    async fn order(&self, pool: PoolName, order: Order) -> Result<u32, Refusal> {
        self.fleet.send(Route { pool, order }).await.map_err(gone)?.map_err(refusal)
    }

    /// Renews the ports whose configuration changed, and says which.
    async fn renew_ports(&self, old: &Config, new: &Config) -> Result<Vec<String>, Refusal> {
        let invalid =
            |fault: runner_fleet_actors::port::PortError| Refusal::Invalid(fault.to_string());
        let mut renewed = Vec::new();
        // All are made before any is put in place: a fault changes nothing.
        let mut providers = Vec::new();
        for (name, provider) in &new.providers {
            if old.providers.get(name) != Some(provider) {
                let port = assemble::limited(name, provider, &new.fleet.id, &self.clock)
                    .await
                    .map_err(invalid)?;
                providers.push((name.clone(), port));
            }
        }
        if let Some(reception) = &self.reception {
            reception.renew_certificate().map_err(Refusal::Invalid)?;
        }
        self.sources.renew(new).map_err(Refusal::Invalid)?;
        if old.github != new.github {
            let github = assemble::github(new, &self.clock, self.pace.minute).map_err(invalid)?;
            let github = Arc::new(github);
            self.forge.renew(Arc::clone(&github) as Arc<dyn Forge>);
            self.records.renew(Arc::clone(&github) as Arc<dyn Records>);
            self.sources.renew_github(Arc::clone(&github));
            self.catalogue.renew(github);
            renewed.push("github is renewed".to_owned());
        }
        let mut known = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, port) in providers {
            renewed.push(format!("provider {name} is renewed"));
            match known.get(&name) {
                Some(renewable) => renewable.renew(port),
                None => {
                    known.insert(name, Arc::new(Renewable::new(port)));
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
        let kept = self.scopes.keep(new.pools.iter().map(|pool| &pool.scope), self.clock.now());
        kept.map_err(|error| Refusal::Unavailable(format!("nothing was changed: {error}")))?;
        let mut done = self.renew_ports(&current, &new).await?;
        self.sources.reload(&new).map_err(Refusal::Invalid)?;
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
        if let Some(log) = &self.log {
            log.set_level(new.fleet.log_level);
        }
        if let Some(journal) = &self.journal {
            journal.reopen();
        }
        if !restart.is_empty() {
            done.push(format!("waiting for a restart: {}", restart.join(", ")));
        }
        *current = new;
        Ok(done.join("\n"))
    }
}

#[async_trait]
impl Control for Door {
    fn model(&self) -> &ReadModel {
        &self.model
    }

    fn sources(&self) -> Vec<api::SourceStatus> {
        self.sources.status()
    }

    fn desk(&self) -> Option<&Desk> {
        Some(&self.sources.desk)
    }

    fn fleet(&self) -> FleetInfo {
        self.info.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn readiness(&self) -> Readiness {
        let mut reasons = Vec::new();
        for pool in &self.model.pools {
            for (side, seen) in [("cloud", pool.cloud_seen_at), ("forge", pool.forge_seen_at)] {
                if seen.is_none() {
                    reasons
                        .push(format!("pool {}: the {side} was not listed whole yet", pool.name));
                }
            }
            if let Some(until) = pool.launches_held_until {
                let why = pool.last_error.as_ref().map_or(String::new(), |e| format!(": {e}"));
                reasons.push(format!(
                    "pool {}: launches are held until {}{why}",
                    pool.name,
                    until.format("%H:%M:%SZ")
                ));
            }
        }
        reasons.sort();
        Readiness { ready: reasons.is_empty(), reasons }
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
            at: self.clock.now(),
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
