//! The sources of demand, put together: ledger, desk, and whatever listens or asks for them.
//!
//! It exists in two steps, as the reception of the guests: the fleet needs to know of demand before it
//! is started, and what listens tells the fleet's actors what it heard.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::Addr;
use runner_fleet_actors::{
    event::{FleetEvent, Job, JobEnd, Phase, SharedModel},
    fleet::{FleetActor, Route},
    job::Serves,
    name::{FleetId, PoolName, RegistrationId, RunnerName},
    pool::actor::Order,
    port::{Clock, DemandSource, Forge, Observer},
    runner::Event,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::held::{self, Mark};
use crate::{
    config::{self, Config, DemandKind, Env, Pool},
    demand::{
        JobEars,
        desk::{self, Desk},
        guests::GuestReports,
        ledger::Ledger,
        own::{self, OwnJobs},
        planner::{self, Planner},
        queue::{self, Queue, QueueConfig, QueuePool, line::Broker},
        scale_set::{self, Hears, PoolSet, ScaleSets},
        webhook::{
            door::{self, Door},
            repair::{self, Repair},
            signature::Secrets,
        },
    },
    github::{Github, records::Records},
    http::{
        api::SourceStatus,
        server::{self, Bounds, tls::Tls},
    },
    state::StateFolder,
};

/// All that knows of demand in a daemon.
pub(super) struct Sources {
    pub desk: Arc<Desk>,
    webhooks: Option<Webhooks>,
    planner: Option<Arc<Planner>>,
    reports: Arc<GuestReports>,
    own: Arc<OwnJobs>,
    sets: Arc<ScaleSets>,
    queue: Mutex<Option<QueueLine>>,
    around: queue::Surroundings,
    terms: Terms,
}

/// How the sources live, besides what the configuration says.
pub(super) struct Terms {
    /// How often is looked for what webhooks have lost.
    pub repair: repair::Pace,
    /// Whose queues they are. `None`: those of the broker in `[queue]`.
    pub broker: Option<Arc<dyn Broker>>,
}

/// The queues of one configuration, and how they are left alone.
struct QueueLine {
    source: Arc<Queue>,
    stop: CancellationToken,
    config: Queues,
}

/// What a reload may change about queues.
#[derive(Clone, PartialEq)]
pub(super) struct Queues {
    pub(super) access: config::Queue,
    pub(super) github: String,
    pub(super) pools: Vec<QueuePool>,
    /// What the broker's address and authorities are.
    pub(super) held: Mark,
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

fn served(pool: &Pool) -> Serves {
    let set = PoolSet::of(pool);
    let labels = set.as_ref().map_or_else(|| pool.labels.clone(), PoolSet::all_labels);
    Serves {
        repositories: pool.repositories.clone(),
        group: set.as_ref().map_or_else(|| pool.group.clone(), |set| set.group.clone()),
        priority: pool.priority,
        scale_set: set.is_some(),
        ..Serves::new(pool.name.clone(), pool.scope.clone(), labels)
    }
}

fn serves(config: &Config) -> Vec<Serves> {
    config.pools.iter().map(served).collect()
}

/// Pools whose jobs nobody names: their runners show what they ran.
fn unnamed(config: &Config) -> Vec<PoolName> {
    let named = |pool: &&Pool| {
        let named = [DemandKind::Webhook, DemandKind::Queue, DemandKind::ScaleSet];
        config.webhooks.is_some() || named.iter().any(|kind| pool.demand.contains(kind))
    };
    config.pools.iter().filter(|pool| !named(pool)).map(|pool| pool.name.clone()).collect()
}

/// The queues that pools are fed from.
pub(super) fn queues(config: &Config) -> Option<Queues> {
    let access = config.queue.clone()?;
    let fed = |pool: &&Pool| pool.demand.contains(&DemandKind::Queue);
    let pools = config.pools.iter().filter(fed).map(|pool| QueuePool {
        queue: pool.queue.clone(),
        serves: served(pool),
        max: pool.max,
    });
    let (github, held) = (config.github.url.to_string(), held::of_queue(config));
    Some(Queues { access, github, pools: pools.collect(), held })
}

fn details(status: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(status).unwrap_or_default()
}

/// A poisoned lock holds which queues are watched; that is as good as before the panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who GitHub says has the session of a scale set.
fn owner(fleet: &FleetId) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{fleet} on {}", host.trim())
}

pub(super) fn secrets(config: &config::Webhooks) -> Result<Secrets, String> {
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
        folder: &StateFolder,
        github: Arc<Github>,
        records: Arc<dyn Records>,
        observer: Arc<dyn Observer>,
        clock: &Arc<dyn Clock>,
        terms: Terms,
    ) -> Result<(Self, Prepared), String> {
        let ledger = Ledger::open_in(folder).await.map_err(|error| error.to_string())?;
        let ledger = Arc::new(ledger);
        let (desk, serving) =
            Desk::open(Arc::clone(&ledger), serves(config), Arc::clone(clock)).await;
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
        let around = queue::Surroundings {
            desk: Arc::clone(&desk),
            forge: records,
            observer,
            clock: Arc::clone(clock),
        };
        let queue = Mutex::default();
        let sources = Self { desk, webhooks, planner, reports, own, sets, queue, around, terms };
        sources.configure(config)?;
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
        if let Some(line) = &*lock(&self.queue)
            && pool.demand.contains(&DemandKind::Queue)
        {
            sources.push(Arc::clone(&line.source) as Arc<dyn DemandSource>);
        }
        if pool.demand.contains(&DemandKind::ScaleSet) {
            sources.push(Arc::clone(&self.sets) as Arc<dyn DemandSource>);
        }
        sources
    }

    fn configure(&self, config: &Config) -> Result<(), String> {
        self.watch_queues(config)?;
        self.own.configure(unnamed(config));
        self.sets.configure(config.pools.iter().filter_map(PoolSet::of).collect());
        if let Some(planner) = &self.planner {
            for pool in config.pools.iter().filter(|p| p.demand.contains(&DemandKind::Planner)) {
                planner.follow(&pool.name, &pool.planner_flavor);
            }
        }
        Ok(())
    }

    /// Watches the queues of `config`. What an earlier watch held goes back to its broker and comes to
    /// the new one.
    fn watch_queues(&self, config: &Config) -> Result<(), String> {
        let wanted = queues(config);
        let mut line = lock(&self.queue);
        if line.as_ref().map(|line| &line.config) == wanted.as_ref() {
            return Ok(());
        }
        let new = match wanted {
            Some(config) => {
                let stop = CancellationToken::new();
                let access = QueueConfig::of(&config.access, &config.github, Env::of_process());
                let broker = match self.terms.broker.clone() {
                    Some(broker) => broker,
                    None => access.broker().map_err(|error| format!("queue: {}", error.what))?,
                };
                let (source, watch) =
                    Queue::new(&access, broker, &config.pools, &self.around, stop.clone())
                        .map_err(|error| format!("queue: {}", error.what))?;
                tokio::spawn(watch);
                Some(QueueLine { source, stop, config })
            }
            None => None,
        };
        if let Some(old) = std::mem::replace(&mut *line, new) {
            old.stop.cancel();
        }
        Ok(())
    }

    /// What each source says of itself.
    pub(super) fn status(&self) -> Vec<SourceStatus> {
        let mut all = Vec::new();
        if let Some(webhooks) = &self.webhooks {
            let status = webhooks.door.status();
            all.push(SourceStatus {
                source: "webhooks".to_owned(),
                connected_since: None,
                last_word_at: status.last_at,
                signals: status.taken,
                last_error: status.last_fault.as_ref().map(ToString::to_string),
                failing_since: None,
                details: details(&status),
            });
        }
        all.extend(self.sets.status().into_iter().map(|status| SourceStatus {
            source: format!("scale-set {}", status.scale_set),
            connected_since: status.connected_since,
            last_word_at: status.last_word,
            signals: status.messages,
            last_error: status.last_error.clone(),
            failing_since: status.failing_since,
            details: details(&status),
        }));
        let queues = lock(&self.queue).as_ref().map(|line| line.source.status());
        all.extend(queues.into_iter().flatten().map(|status| SourceStatus {
            source: format!("queue {}", status.queue),
            connected_since: status.connected_since,
            last_word_at: status.last_message_at,
            signals: status.received,
            last_error: status.last_error.clone(),
            failing_since: status.failing_since,
            details: details(&status),
        }));
        if let Some(planner) = &self.planner {
            let status = planner.status();
            all.push(SourceStatus {
                source: "planner".to_owned(),
                connected_since: status.connected_since,
                last_word_at: status.last_word_at,
                signals: status.lines,
                last_error: status.last_error.clone(),
                failing_since: status.failing_since,
                details: details(&status),
            });
        }
        let status = self.reports.status();
        if status.words > 0 {
            all.push(SourceStatus {
                source: "guests".to_owned(),
                connected_since: None,
                last_word_at: status.last_word_at,
                signals: status.words,
                last_error: None,
                failing_since: None,
                details: details(&status),
            });
        }
        all
    }

    /// Takes over a new configuration; call [`Sources::renew`] first. Must be called inside the I/O
    /// runtime, and before the pools ask for their sources.
    ///
    /// # Errors
    /// What cannot be used; then the old sources stay.
    pub(super) fn reload(&self, config: &Config) -> Result<(), String> {
        self.configure(config)?;
        self.desk.configure(serves(config));
        Ok(())
    }

    /// The forge for every pool: the one over REST, and for pools with a scale set its own.
    pub(super) fn forge(&self, rest: Arc<dyn Forge>) -> Arc<dyn Forge> {
        self.sets.forge(rest)
    }

    /// Other credentials from now on.
    pub(super) fn renew_github(&self, github: Arc<Github>) {
        self.sets.renew(github);
    }

    /// Reads secrets and certificates again; the planner is asked anew where what it wants is another
    /// one, and whether it is so is the answer. On an error the webhooks' may be new already.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub(super) fn renew(&self, config: &Config, planner_anew: bool) -> Result<bool, String> {
        if let Some((old, new)) = self.webhooks.as_ref().zip(config.webhooks.as_ref()) {
            let secrets = secrets(new).map_err(|why| format!("webhooks: {why}"))?;
            old.tls.as_ref().map_or(Ok(()), |tls| tls.renew())?;
            old.door.renew(secrets);
        }
        let planner = self.planner.as_ref().zip(config.planner.as_ref());
        let Some((planner, access)) = planner.filter(|_| planner_anew) else { return Ok(false) };
        planner.renew(access).map_err(|error| format!("planner: {}", error.what))?;
        Ok(true)
    }

    /// Serves everything until `stop`, each on `tasks`.
    ///
    /// # Errors
    /// An address that is not to be had.
    pub(super) async fn start(
        self: &Arc<Self>,
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
        let (sources, stopped) = (Arc::clone(self), stop.clone());
        tasks.spawn(async move {
            stopped.cancelled().await;
            if let Some(line) = lock(&sources.queue).take() {
                line.stop.cancel();
            }
        });
        tasks.spawn(prepared.own.run(stop.clone()));
        if let Some(planner) = &self.planner {
            tasks.spawn(Arc::clone(planner).run(stop.clone()));
        }
        let (desk, clock) = (Arc::clone(&self.desk), Arc::clone(clock));
        let repair = Repair::new(desk, records, clock, self.terms.repair);
        let Some(webhooks) = &self.webhooks else {
            tasks.spawn(repair.run_jobs(stop.clone()));
            return Ok(());
        };
        let repair = repair.hearing_of(Arc::clone(webhooks.door.hooks()));
        webhooks.door.listen_for(ears);
        let bounds = Bounds::webhooks(door::BODY_MAX);
        let router = door::router(Arc::clone(&webhooks.door), bounds.patience);
        let (listen, tls) = (webhooks.config.listen, webhooks.tls.clone());
        let serving = server::serve("webhooks", listen, tls, router, bounds, stop.clone())
            .await
            .map_err(|error| format!("webhooks.listen: {error}"))?;
        tasks.spawn(async move {
            if let Err(error) = serving.task.await {
                tracing::warn!(%error, "the webhooks' listener did not end by itself");
            }
        });
        tasks.spawn(repair.run(stop.clone()));
        Ok(())
    }
}

impl Observer for Sources {
    fn observe(&self, event: &FleetEvent) {
        self.desk.observe(event);
        if let FleetEvent::Transition { transition, .. } = event
            && transition.to == Phase::Busy
            && let Some(line) = &*lock(&self.queue)
        {
            line.source.job_taken(&transition.runner.pool(), None);
        }
        self.reports.observe(event);
        self.own.observe(event);
        if let Some(planner) = &self.planner {
            planner.observe(event);
        }
    }
}

/// The fleet's actors, as far as they hear of jobs from the forge.
pub(super) struct Fleet {
    pub fleet: Addr<FleetActor>,
    pub model: SharedModel,
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
