//! GitHub and the clouds as parts of the daemon: connected at the start, made anew where a reload finds
//! another configuration or other secrets in the same places. Whoever uses them keeps what he has.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt;
use runner_fleet_actors::port::{Clock, Forge, PortError, PortStatus, Provider};

use super::{
    assemble,
    control::Door,
    held::{Held, OfProvider},
    life::{Change, Part, Renewal},
    renewable::Renewable,
    rotation::{Origin, Rotating},
};
use crate::{
    config::Config,
    github::{Github, Lessons, downloads::Catalogue, names::Names, records::Records},
    http::Refusal,
};

/// All ports of a daemon.
pub(super) struct Ports {
    github: Renewable<Github>,
    pub forge: Arc<Renewable<dyn Forge>>,
    pub catalogue: Arc<Renewable<dyn Catalogue>>,
    pub records: Arc<Renewable<dyn Records>>,
    /// What the pools' scopes are called now.
    pub names: Arc<Names>,
    providers: Mutex<BTreeMap<String, Arc<Rotating>>>,
    clock: Arc<dyn Clock>,
    minute: Duration,
}

fn listed(faults: &[PortError]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Ports {
    /// Connects every port; makes no call that must succeed. Must be called inside the I/O runtime.
    ///
    /// # Errors
    /// What is wrong with which of them: all faults, not the first.
    pub(super) async fn connect(
        config: &Config,
        held: &Held,
        clock: &Arc<dyn Clock>,
        minute: Duration,
        lessons: Lessons,
    ) -> Result<Self, String> {
        let mut faults = Vec::new();
        let mut providers = BTreeMap::new();
        for (name, provider) in &config.providers {
            let shapes = assemble::shapes(config, name);
            match assemble::limited(name, provider, &config.fleet.id, clock, shapes).await {
                Ok(port) => {
                    let origin = Origin::of(name, config, held, clock);
                    let rotating = origin.map(|origin| Arc::new(Rotating::new(port, origin)));
                    providers.extend(rotating.map(|rotating| (name.clone(), rotating)));
                }
                Err(fault) => faults.push(fault),
            }
        }
        let names = Arc::<Names>::default();
        names.configure(config.pools.iter().map(|pool| &pool.scope));
        let github = match assemble::github(config, clock, minute, Arc::clone(&names), lessons) {
            Ok(github) if faults.is_empty() => Arc::new(github),
            Ok(_) => return Err(listed(&faults)),
            Err(fault) => {
                faults.push(fault);
                return Err(listed(&faults));
            }
        };
        Ok(Self {
            forge: Arc::new(Renewable::new(Arc::clone(&github) as Arc<dyn Forge>)),
            catalogue: Arc::new(Renewable::new(Arc::clone(&github) as Arc<dyn Catalogue>)),
            records: Arc::new(Renewable::new(Arc::clone(&github) as Arc<dyn Records>)),
            github: Renewable::new(github),
            names,
            providers: Mutex::new(providers),
            clock: Arc::clone(clock),
            minute,
        })
    }

    /// The GitHub of the present configuration.
    pub(super) fn github(&self) -> Arc<Github> {
        self.github.now()
    }

    fn rotating(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Rotating>>> {
        self.providers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every cloud, by name.
    pub(super) fn providers(&self) -> BTreeMap<String, Arc<dyn Provider>> {
        let all = self.rotating();
        all.iter()
            .map(|(name, port)| (name.clone(), Arc::clone(port) as Arc<dyn Provider>))
            .collect()
    }

    /// What the clouds' places held when they were made. Not what they held at the last reload: a refusal
    /// may have made one take up another since.
    pub(super) fn held(&self) -> BTreeMap<String, OfProvider> {
        self.rotating().iter().map(|(name, port)| (name.clone(), port.held())).collect()
    }

    /// How they are now, also between two listings; the forge as `github`.
    pub(super) fn status(&self) -> BTreeMap<String, PortStatus> {
        let mut ports: BTreeMap<_, _> =
            self.rotating().iter().map(|(name, port)| (name.clone(), port.status())).collect();
        ports.insert("github".to_owned(), self.forge.status());
        ports
    }

    fn renew_github(&self, github: Arc<Github>) {
        self.forge.renew(Arc::clone(&github) as Arc<dyn Forge>);
        self.records.renew(Arc::clone(&github) as Arc<dyn Records>);
        self.catalogue.renew(Arc::clone(&github) as Arc<dyn Catalogue>);
        self.github.renew(github);
    }
}

#[async_trait]
impl Part<Door> for Ports {
    async fn renew<'a>(&'a self, _: &'a Door, to: &'a Renewal) -> Result<Change<'a>, Refusal> {
        let invalid = |fault: PortError| Refusal::Invalid(fault.to_string());
        let mut providers = Vec::new();
        for name in &to.changes.providers {
            if let Some(origin) = Origin::of(name, &to.new, &to.held, &self.clock) {
                let port = origin.make().await.map_err(invalid)?;
                providers.push((name.clone(), port, origin));
            }
        }
        let github = match to.changes.github {
            true => {
                let names = Arc::clone(&self.names);
                let lessons = self.github().lessons();
                let github = assemble::github(&to.new, &self.clock, self.minute, names, lessons);
                Some(Arc::new(github.map_err(invalid)?))
            }
            false => None,
        };
        let change = async move {
            let mut done = Vec::new();
            if let Some(github) = github {
                self.renew_github(github);
                done.push("github is renewed".to_owned());
            }
            let mut known = self.rotating();
            for (name, port, origin) in providers {
                done.push(format!("provider {name} is renewed"));
                match known.get(&name) {
                    Some(rotating) => rotating.renew(port, origin),
                    None => {
                        known.insert(name, Arc::new(Rotating::new(port, origin)));
                    }
                }
            }
            done
        };
        Ok(change.boxed())
    }
}
