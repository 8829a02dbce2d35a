//! The sources of demand, put together: ledger, desk, and whatever listens or asks for them.
//!
//! It exists in two steps, as the reception of the guests: the fleet needs to know of demand before it
//! is started, and what listens tells the fleet's actors what it heard.

use std::{path::Path, sync::Arc};

use actix::Addr;
use runner_fleet_actors::{
    event::{FleetEvent, Job, JobEnd, Phase},
    fleet::{FleetActor, Route},
    job::Serves,
    name::{FleetId, PoolName, RunnerName},
    pool::actor::Order,
    port::{Clock, DemandSource, Forge, Observer},
    runner::Event,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{self, Config, DemandKind, Env, Pool},
    demand::{
        JobEars,
        desk::{self, Desk},
        ledger::Ledger,
        own::{self, OwnJobs},
    },
    github::{
        Github,
        planner::{self, Planner},
        records::Records,
        scale_set::{self, Hears, PoolSet, ScaleSets},
        webhook::{door::Door, repair::Repair, signature::Secrets},
    },
    home::reports::GuestReports,
    http::{
        strangers::{self, Bounds},
        tls::Tls,
    },
};

/// All that knows of demand in a daemon.
pub(super) struct Sources {
    pub desk: Arc<Desk>,
    webhooks: Option<Webhooks>,
    planner: Option<Arc<Planner>>,
    reports: Arc<GuestReports>,
    own: Arc<OwnJobs>,
    sets: Arc<ScaleSets>,
}

struct Webhooks {
    config: config::Webhooks,
    door: Arc<Door>,
    tls: Option<Arc<Tls>>,
}

/// What is to be served once the fleet is there.
pub(super) struct Prepared {
    desk: desk::Serving,
    own: own::Keeping,
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

/// Pools whose jobs nobody names: their runners show what they ran.
fn unnamed(config: &Config) -> Vec<PoolName> {
    let named = |pool: &&Pool| {
        let named = [DemandKind::Webhook, DemandKind::Queue, DemandKind::ScaleSet];
        config.webhooks.is_some() || named.iter().any(|kind| pool.demand.contains(kind))
    };
    config.pools.iter().filter(|pool| !named(pool)).map(|pool| pool.name.clone()).collect()
}

/// Who GitHub says has the session of a scale set.
fn owner(fleet: &FleetId) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{fleet} on {}", host.trim())
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
        github: Arc<Github>,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Self, Prepared), String> {
        let state_dir: &Path = &config.fleet.state_dir;
        let ledger = Ledger::open(state_dir).await.map_err(|error| error.to_string())?;
        let ledger = Arc::new(ledger);
        let (desk, serving) = Desk::open(Arc::clone(&ledger), serves(config), Arc::clone(clock))
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
        let planner = match &config.planner {
            Some(access) => {
                let (env, clock) = (Env::of_process(), Arc::clone(clock));
                let planner = Planner::new(access, env, clock, planner::Pace::default());
                Some(planner.map_err(|error| format!("planner: {}", error.what))?)
            }
            None => None,
        };
        let reports = GuestReports::new(Arc::clone(clock));
        let (own, keeping) = OwnJobs::new(Arc::clone(&desk));
        let sets = ScaleSets::new(scale_set::Setup {
            github,
            clock: Arc::clone(clock),
            marks: ledger,
            hears: Arc::clone(&desk) as Arc<dyn Hears>,
            owner: owner(&config.fleet.id),
        });
        let sources = Self { desk, webhooks, planner, reports, own, sets };
        sources.configure(config);
        Ok((sources, Prepared { desk: serving, own: keeping }))
    }

    /// Who knows of a pool's demand besides the pool itself.
    pub(super) fn of(&self, pool: &Pool) -> Vec<Arc<dyn DemandSource>> {
        let mut sources: Vec<Arc<dyn DemandSource>> = Vec::new();
        if pool.demand.contains(&DemandKind::Webhook) {
            sources.push(Arc::clone(&self.desk) as Arc<dyn DemandSource>);
        }
        if let Some(planner) = &self.planner
            && pool.demand.contains(&DemandKind::Planner)
        {
            sources.push(Arc::clone(planner) as Arc<dyn DemandSource>);
        }
        if pool.demand.contains(&DemandKind::Guests) {
            sources.push(Arc::clone(&self.reports) as Arc<dyn DemandSource>);
        }
        if pool.demand.contains(&DemandKind::ScaleSet) {
            sources.push(Arc::clone(&self.sets) as Arc<dyn DemandSource>);
        }
        sources
    }

    fn configure(&self, config: &Config) {
        self.own.configure(unnamed(config));
        self.sets.configure(config.pools.iter().filter_map(PoolSet::of).collect());
        if let Some(planner) = &self.planner {
            for pool in config.pools.iter().filter(|p| p.demand.contains(&DemandKind::Planner)) {
                planner.follow(&pool.name, &pool.planner_flavor);
            }
        }
    }

    /// Takes over a new configuration; call [`Sources::renew`] first.
    pub(super) fn reload(&self, config: &Config) {
        self.desk.configure(serves(config));
        self.configure(config);
    }

    /// The forge for every pool: the one over REST, and for pools with a scale set its own.
    pub(super) fn forge(&self, rest: Arc<dyn Forge>) -> Arc<dyn Forge> {
        self.sets.forge(rest)
    }

    /// Other credentials from now on.
    pub(super) fn renew_github(&self, github: Arc<Github>) {
        self.sets.renew(github);
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
        self.sets.start(Arc::clone(&ears));
        let (sets, stopped) = (Arc::clone(&self.sets), stop.clone());
        tasks.spawn(async move {
            stopped.cancelled().await;
            sets.stop().await;
        });
        tasks.spawn(prepared.own.run(stop.clone()));
        if let Some(planner) = &self.planner {
            tasks.spawn(Arc::clone(planner).run(stop.clone()));
        }
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
}

impl Observer for Sources {
    fn observe(&self, event: &FleetEvent) {
        if let FleetEvent::Transition { transition, .. } = event
            && transition.to == Phase::Deleted
        {
            self.desk.runner_ended(transition.runner.as_str());
        }
        self.reports.observe(event);
        self.own.observe(event);
        if let Some(planner) = &self.planner {
            planner.observe(event);
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
