//! The sources of demand, put together: ledger, desk, mix, and whatever listens or asks for them.
//!
//! It exists in two steps, as the reception of the guests: the fleet needs to know of demand before it
//! is started, and what listens tells the fleet's actors what it heard.

use std::{path::Path, sync::Arc};

use actix::Addr;
use runner_fleet_actors::{
    event::{FleetEvent, Job, JobEnd, Phase},
    fleet::{FleetActor, Route},
    job::Serves,
    name::RunnerName,
    pool::actor::Order,
    port::{Clock, DemandSource},
    runner::Event,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{self, Config, DemandKind, Env},
    demand::{
        JobEars,
        desk::{self, Desk},
        ledger::Ledger,
        mix::Mix,
    },
    github::{
        records::Records,
        webhook::{door::Door, repair::Repair, signature::Secrets},
    },
    http::{
        strangers::{self, Bounds},
        tls::Tls,
    },
};

/// All that knows of demand in a daemon.
pub(super) struct Sources {
    pub desk: Arc<Desk>,
    mix: Arc<Mix>,
    webhooks: Option<Webhooks>,
}

struct Webhooks {
    config: config::Webhooks,
    door: Arc<Door>,
    tls: Option<Arc<Tls>>,
}

/// What is to be served once the fleet is there.
pub(super) struct Prepared {
    desk: desk::Serving,
}

fn serves(config: &Config) -> Vec<Serves> {
    let serves = config.pools.iter().map(|pool| Serves {
        pool: pool.name.clone(),
        scope: pool.scope.clone(),
        labels: pool.labels.clone(),
        priority: pool.priority,
    });
    serves.collect()
}

fn secrets(config: &config::Webhooks) -> Result<Secrets, String> {
    let env = Env::of_process();
    let read = |source: &config::SecretSource| source.read(&env).map_err(|e| e.to_string());
    let previous = config.previous_secret.as_ref().map(read).transpose()?;
    Ok(Secrets::new(read(&config.secret)?, previous))
}

impl Sources {
    /// Opens the ledger and reads secrets and certificates; listens to nobody yet. Must be called
    /// inside the I/O runtime.
    ///
    /// # Errors
    /// What is not to be had, for the person who must provide it.
    pub(super) async fn prepare(
        config: &Config,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Self, Prepared), String> {
        let state_dir: &Path = &config.fleet.state_dir;
        let ledger = Ledger::open(state_dir).await.map_err(|error| error.to_string())?;
        let (desk, serving) = Desk::open(Arc::new(ledger), serves(config), Arc::clone(clock))
            .await
            .map_err(|error| error.to_string())?;
        let webhooks = match &config.webhooks {
            Some(webhooks) => {
                let secrets = secrets(webhooks).map_err(|why| format!("webhooks: {why}"))?;
                let tls = webhooks.tls.clone().map(Tls::read).transpose()?.map(Arc::new);
                let door = Arc::new(Door::new(Arc::clone(&desk), secrets, Arc::clone(clock)));
                Some(Webhooks { config: webhooks.clone(), door, tls })
            }
            None => None,
        };
        let mix = Mix::new(Arc::clone(clock), tokio::runtime::Handle::current());
        let sources = Self { desk, mix: Arc::new(mix), webhooks };
        sources.follow(config);
        Ok((sources, Prepared { desk: serving }))
    }

    /// What a scaler follows.
    pub(super) fn demand(&self) -> Arc<dyn DemandSource> {
        Arc::clone(&self.mix) as Arc<dyn DemandSource>
    }

    fn follow(&self, config: &Config) {
        for pool in &config.pools {
            let mut sources: Vec<Arc<dyn DemandSource>> = Vec::new();
            if pool.demand.contains(&DemandKind::Webhook) {
                sources.push(Arc::clone(&self.desk) as Arc<dyn DemandSource>);
            }
            self.mix.follow(&pool.name, &sources);
        }
    }

    /// Takes over a new configuration; call [`Sources::renew`] first.
    pub(super) fn reload(&self, config: &Config) {
        self.desk.configure(serves(config));
        self.follow(config);
    }

    /// Reads secrets and certificates again. On an error the old ones stay.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub(super) fn renew(&self, config: &Config) -> Result<(), String> {
        let (Some(old), Some(new)) = (&self.webhooks, &config.webhooks) else { return Ok(()) };
        let secrets = secrets(new).map_err(|why| format!("webhooks: {why}"))?;
        old.tls.as_ref().map_or(Ok(()), |tls| tls.renew())?;
        old.door.renew(secrets);
        Ok(())
    }

    /// Serves everything until `stop`, each on `tasks`.
    ///
    /// # Errors
    /// An address that is not to be had.
    pub(super) async fn start(
        &self,
        prepared: Prepared,
        records: Arc<dyn Records>,
        ears: Arc<dyn JobEars>,
        clock: &Arc<dyn Clock>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<(), String> {
        tasks.spawn(prepared.desk.run(stop.clone()));
        let Some(webhooks) = &self.webhooks else { return Ok(()) };
        webhooks.door.listen_for(ears);
        let bounds = Bounds::default();
        let router =
            crate::github::webhook::door::router(Arc::clone(&webhooks.door), bounds.patience);
        let (listen, tls) = (webhooks.config.listen, webhooks.tls.clone());
        let serving = strangers::serve("webhooks", listen, tls, router, bounds, stop.clone())
            .await
            .map_err(|error| format!("webhooks.listen: {error}"))?;
        tasks.spawn(async move {
            if let Err(error) = serving.task.await {
                tracing::warn!(%error, "the webhooks' listener did not end by itself");
            }
        });
        let repair = Repair { desk: Arc::clone(&self.desk), records, clock: Arc::clone(clock) };
        tasks.spawn(repair.run(stop.clone()));
        Ok(())
    }

    /// What the fleet's own events say of jobs.
    pub(super) fn observe(desk: &Desk, event: &FleetEvent) {
        match event {
            FleetEvent::Transition { transition, .. } if transition.to == Phase::Deleted => {
                desk.runner_ended(transition.runner.as_str());
            }
            _ => {}
        }
    }
}

/// The fleet's actors, as far as they hear of jobs from the forge.
pub(super) struct Fleet(pub Addr<FleetActor>);

impl Fleet {
    fn tell(&self, runner: &RunnerName, event: Event) {
        let order = Order::Tell(runner.clone(), Box::new(event));
        // Whether there is such a runner is the fleet's to know; a word about another one is dropped.
        self.0.do_send(Route { pool: runner.pool(), order });
    }
}

impl JobEars for Fleet {
    fn job_started(&self, runner: &RunnerName, job: Job) {
        self.tell(runner, Event::JobStarted(job));
    }

    fn job_ended(&self, runner: &RunnerName, end: JobEnd) {
        self.tell(runner, Event::JobCompleted(end));
    }
}
