//! The sources of demand, put together: ledger, desk, and whatever listens or asks for them.
//!
//! Which ones there are is the business of [`crate::demand::SOURCES`]; here each of them is made, told of
//! another configuration, shown, started and stopped like every other. They exist in two steps, as the
//! reception of the guests: the fleet needs to know of demand before it is started, and what listens tells
//! the fleet's actors what it heard.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::Addr;
use async_trait::async_trait;
use futures::{FutureExt, future::join_all};
use runner_fleet_actors::{
    event::{FleetEvent, Job, JobEnd, SharedModel},
    fleet::{FleetActor, Route},
    job::Serves,
    name::{PoolName, RegistrationId, RunnerName},
    pool::actor::Order,
    port::{Clock, DemandSource, Forge, Observer},
    runner::Event,
};
use tokio::time::timeout;

use super::{
    control::Door,
    life::{Change, Part, Renewal},
};
use crate::{
    config::{Config, Pool},
    demand::{
        JobEars,
        desk::{self, Desk},
        ledger::Ledger,
        own::{self, OwnJobs},
        served,
        source::{House, Kind, Source},
    },
    http::{Refusal, api::SourceStatus},
    state::StateFolder,
    tasks::Tasks,
};

/// How long news that were taken may still be kept at the stop, and as long again what keeps them.
const LAST_NEWS: Duration = Duration::from_secs(5);

/// All that knows of demand in a daemon.
pub(super) struct Sources {
    pub desk: Arc<Desk>,
    own: Arc<OwnJobs>,
    kinds: Vec<&'static dyn Kind>,
    /// Those that this daemon has.
    all: Vec<(&'static dyn Kind, Box<dyn Source>)>,
    /// What is to be served once the fleet is there.
    waiting: Mutex<Option<(desk::Serving, own::Keeping)>>,
    /// Of those who lay news of our own on the desk.
    own_tasks: Tasks,
    /// Of the desk, which outlives whatever lays news on it.
    tasks: Tasks,
}

fn serves(config: &Config, kinds: &[&'static dyn Kind]) -> Vec<Serves> {
    config.pools.iter().map(|pool| served(kinds, pool)).collect()
}

/// Pools whose jobs nobody names: their runners show what they ran.
fn unnamed(config: &Config, kinds: &[&'static dyn Kind]) -> Vec<PoolName> {
    let named = |pool: &&Pool| kinds.iter().any(|kind| kind.names_jobs_of(pool, config));
    config.pools.iter().filter(|pool| !named(pool)).map(|pool| pool.name.clone()).collect()
}

impl Sources {
    /// Opens the ledger and makes every source of these kinds that `config` wants; listens to nobody yet.
    /// Must be called inside the I/O runtime.
    ///
    /// # Errors
    /// What is not to be had, for the person who must provide it.
    pub(super) async fn prepare(
        kinds: &[&'static dyn Kind],
        config: &Config,
        folder: &StateFolder,
        clock: &Arc<dyn Clock>,
        house: impl FnOnce(Arc<Desk>) -> House + Send,
    ) -> Result<Self, String> {
        let ledger = Ledger::open_in(folder).await.map_err(|error| error.to_string())?;
        let (desk, serving) =
            Desk::open(Arc::new(ledger), serves(config, kinds), Arc::clone(clock)).await;
        let (own, keeping) = OwnJobs::new(Arc::clone(&desk));
        own.configure(unnamed(config, kinds));
        let house = house(Arc::clone(&desk));
        let mut all = Vec::new();
        for kind in kinds {
            all.extend(kind.make(config, &house)?.map(|source| (*kind, source)));
        }
        for (_, source) in &all {
            source.configure(config)?();
        }
        let (kinds, waiting) = (kinds.to_vec(), Mutex::new(Some((serving, keeping))));
        let (own_tasks, tasks) = (Tasks::default(), Tasks::default());
        Ok(Self { desk, own, kinds, all, waiting, own_tasks, tasks })
    }

    /// Who knows of a pool's demand besides the pool itself.
    pub(super) fn of(&self, pool: &Pool) -> Vec<Arc<dyn DemandSource>> {
        self.all.iter().filter_map(|(_, source)| source.of(pool)).collect()
    }

    /// The forge for every pool: the one over REST, or what a source makes of it.
    pub(super) fn forge(&self, rest: Arc<dyn Forge>) -> Arc<dyn Forge> {
        self.all.iter().fold(rest, |forge, (_, source)| source.forge(forge))
    }

    /// What each source says of itself.
    pub(super) fn status(&self) -> Vec<SourceStatus> {
        self.all.iter().flat_map(|(_, source)| source.status()).collect()
    }

    /// Reads what another configuration wants, and the secrets and certificates of the sources that are
    /// named in `anew`; what comes back takes all of it over, and says what was renewed. That is to be
    /// called inside the I/O runtime, once GitHub is renewed and before the pools ask for their sources.
    ///
    /// # Errors
    /// What cannot be used; then the old sources stay as they are.
    fn renew<'a>(
        &'a self,
        config: &'a Config,
        anew: &BTreeSet<&'static str>,
    ) -> Result<impl FnOnce() -> Vec<String> + Send + use<'a>, String> {
        let (mut changes, mut said) = (Vec::new(), Vec::new());
        for (kind, source) in &self.all {
            let anew = anew.contains(kind.name());
            changes.push(source.renew(config, anew)?);
            changes.push(source.configure(config)?);
            said.extend(anew.then(|| format!("{} are renewed", kind.holdings())));
        }
        Ok(move || {
            changes.into_iter().for_each(|change| change());
            self.own.configure(unnamed(config, &self.kinds));
            self.desk.configure(serves(config, &self.kinds));
            said
        })
    }

    /// Begins to listen, everywhere.
    ///
    /// # Errors
    /// What is not to be had; then nobody is listened to.
    async fn listen(&self, ears: &Arc<dyn JobEars>) -> Result<(), String> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((desk, own)) = waiting {
            self.tasks.spawn(desk.run(self.tasks.stop()));
            self.own_tasks.spawn(own.run(self.own_tasks.stop()));
        }
        for (_, source) in &self.all {
            if let Err(error) = source.start(ears).await {
                self.leave().await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Listens to nobody any more, and keeps what was heard. The sources end beside each other, because one
    /// that takes leave of somebody who is away must not cost the others their time.
    async fn leave(&self) {
        let ended = join_all(self.all.iter().rev().map(|(_, source)| source.stop()));
        let ended = timeout(LAST_NEWS, ended).await.is_ok();
        let kept = async {
            self.own_tasks.end().await;
            self.tasks.end().await;
        };
        let kept = timeout(LAST_NEWS, kept).await.is_ok();
        if !ended || !kept {
            tracing::warn!(
                "news of jobs were still being kept at the stop; github tells them again"
            );
        }
    }
}

#[async_trait]
impl Part<Door> for Sources {
    async fn start(&self, door: &Arc<Door>) -> Result<(), String> {
        let (fleet, model) = (door.fleet.clone(), Arc::clone(&door.model));
        self.listen(&(Arc::new(Fleet { fleet, model }) as Arc<dyn JobEars>)).await
    }

    async fn renew<'a>(&'a self, door: &'a Door, to: &'a Renewal) -> Result<Change<'a>, Refusal> {
        let renewed = Self::renew(self, &to.new, &to.changes.sources).map_err(Refusal::Invalid)?;
        let change = async move {
            let said = renewed();
            // Once the desk knows the scopes: what is told of one that it does not know is lost on it, and
            // what was told of one that has a pool again is not told twice.
            door.ports.names.configure(to.new.pools.iter().map(|pool| &pool.scope));
            self.desk.learn(&door.ports.names.book(|book| book.known()));
            said
        };
        Ok(change.boxed())
    }

    async fn stop(&self) {
        self.leave().await;
    }
}

impl Observer for Sources {
    fn observe(&self, event: &FleetEvent) {
        self.desk.observe(event);
        self.all.iter().for_each(|(_, source)| source.observe(event));
        self.own.observe(event);
    }
}

/// The fleet's actors, as far as they hear of jobs from the forge.
struct Fleet {
    fleet: Addr<FleetActor>,
    model: SharedModel,
}

impl Fleet {
    fn tell(&self, runner: &RunnerName, event: Event) {
        let order = Order::Tell(runner.clone(), Box::new(event));
        // Whether there is such a runner is the fleet's to know; a word about another one is dropped.
        self.fleet.do_send(Route { pool: runner.pool(), order });
    }
}

impl JobEars for Fleet {
    fn job_started(&self, runner: &RunnerName, registration: Option<RegistrationId>, job: Job) {
        self.tell(runner, Event::JobStarted { job, registration });
    }

    fn job_ended(&self, runner: &RunnerName, registration: Option<RegistrationId>, end: JobEnd) {
        self.tell(runner, Event::JobCompleted { end, registration });
    }

    fn registration(&self, runner: &RunnerName) -> Option<RegistrationId> {
        self.model.runners.get(runner)?.registration_id
    }
}

#[cfg(test)]
mod tests;
