//! The daemon's wiring: ports, actors, API and journal, from start to stop.
//!
//! Two runtimes. The actors live on the main thread and never wait; all I/O lives on a pool of
//! threads, so that a slow TLS handshake or a panic in a client costs a task and not the fleet.
//!
//! A stop is graceful within its deadline: no new effects, answers that are due are awaited, jobs go
//! on in their VMs, and the next start adopts them. A kill at any moment loses nothing either, for
//! the cloud and GitHub are the store; it only leaves the next start more to tidy.

mod assemble;
mod clouds;
mod control;
mod held;
mod kept;
mod lock;
mod names;
mod online;
mod readiness;
mod reception;
mod renewable;
mod rotation;
mod scopes;
mod sources;
mod targets;
mod user_data;

use std::{
    collections::BTreeMap,
    path::Path,
    process::ExitCode,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use actix::{Addr, AsyncContext};
use runner_fleet_actors::{
    event::{FleetEvent, ReadModel},
    fleet::{Ending, FleetActor, FleetSetup, Stop},
    port::{Clock, Forge, Observer, PortError, Provider, TokioClock},
    supervision::Intensity,
    sweep::Cadence,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    assemble::Ports,
    control::Door,
    held::Held,
    lock::StateLock,
    reception::Reception,
    renewable::Renewable,
    rotation::{Origin, Rotating},
    scopes::Scopes,
    sources::Sources,
    targets::Targets,
    user_data::Makings,
};
pub use self::{clouds::read_clouds, online::check_online};
use crate::{
    config::{Config, Env},
    demand::JobEars,
    github::{
        budget,
        downloads::{Catalogue, Downloads},
        queue::line::Broker,
        records::Records,
        webhook::repair,
    },
    home,
    http::{self, ApiToken, Control, api::FleetInfo},
    journal::Journal,
    log::LogControl,
    state::StateFolder,
};

/// The daemon gave up on itself (`EX_SOFTWARE` of sysexits.h); the init system starts it again.
const GAVE_UP: u8 = 70;
/// Something that the start needs is not to be had.
const CANNOT_START: u8 = 1;

/// How long news that were taken may still be kept at the stop.
const LAST_NEWS: std::time::Duration = std::time::Duration::from_secs(5);

/// Runs the fleet of `config`, which was read from `path`, until SIGTERM.
#[must_use]
pub fn run(config: Config, path: &Path, log: LogControl) -> ExitCode {
    let start = || -> Result<ExitCode, String> {
        let io = io_runtime()?;
        let system = actix::System::new();
        let code = system.block_on(async {
            let daemon =
                Daemon::start(config, path, Pace::default(), None, Some(log), io.handle()).await?;
            daemon.until_signal().await
        });
        // Calls that outlived the stop's deadline are found by the next start's listings.
        io.shutdown_background();
        code
    };
    start().unwrap_or_else(|error| {
        tracing::error!(%error, "the daemon cannot start");
        ExitCode::from(CANNOT_START)
    })
}

/// The runtime for all I/O.
pub(crate) fn io_runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("io")
        .build()
        .map_err(|error| format!("no threads for I/O: {error}"))
}

/// How often things are looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Pauses between listings of a cloud.
    pub cloud: Cadence,
    /// Pauses between listings of the forge.
    pub forge: Cadence,
    /// How much older than it says a listing's content may be.
    pub listing_lag: std::time::Duration,
    /// How long a finished runner's registration may take to vanish by itself.
    pub registration_grace: std::time::Duration,
    /// How long fewer runners must be wanted before idle ones go.
    pub shrink_after: std::time::Duration,
    /// How often is looked for what webhooks have lost.
    pub repair: repair::Pace,
    /// The minute in which GitHub takes only so many calls that create something.
    pub minute: std::time::Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let limits = runner_fleet_actors::runner::Limits::default();
        Self {
            cloud: Cadence::CLOUD,
            forge: Cadence::FORGE,
            listing_lag: limits.listing_lag,
            registration_grace: limits.registration_grace,
            shrink_after: std::time::Duration::from_secs(20),
            repair: repair::Pace::default(),
            minute: budget::MINUTE,
        }
    }
}

/// A daemon at work.
pub(crate) struct Daemon {
    fleet: Addr<FleetActor>,
    ending: oneshot::Receiver<Ending>,
    door: Arc<Door>,
    stop_api: CancellationToken,
    api: http::Serving,
    guests: Option<home::Serving>,
    tasks: TaskTracker,
    journal: Option<Arc<Journal>>,
    stop_deadline: std::time::Duration,
    broken: Arc<AtomicU64>,
    _lock: StateLock,
}

impl Daemon {
    /// Starts everything. Must be called inside the actors' system. `broker`: whose queues they are,
    /// where that is not who `[queue]` says.
    ///
    /// # Errors
    /// What is not to be had, for the person who must provide it. Nothing was started then.
    pub(crate) async fn start(
        config: Config,
        path: &Path,
        pace: Pace,
        broker: Option<Arc<dyn Broker>>,
        log: Option<LogControl>,
        io: &tokio::runtime::Handle,
    ) -> Result<Self, String> {
        report_panics();
        // A second call finds the same provider in place: TLS is the process's, not the daemon's.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let started_at = chrono::Utc::now();
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::of_system());
        let folder = StateFolder::open(&config.fleet.state_dir)?;
        let lock = StateLock::take(&folder)?;
        kept::say_what_nobody_reaches(&folder, &config);
        let targets = Targets::open(&folder)?;
        let scopes = Scopes::open(&folder)?;
        let remembered = scopes.keep(config.pools.iter().map(|pool| &pool.scope), started_at);
        let reception = config
            .guests
            .as_ref()
            .map(|guests| Reception::prepare(guests, &folder))
            .transpose()?
            .map(Arc::new);
        let journal = match &config.fleet.journal {
            Some(file) => {
                let journal = Journal::open(file, u64::from(config.fleet.journal_max_mib) << 20)
                    .map_err(|error| format!("the journal {}: {error}", file.display()))?;
                Some(Arc::new(journal))
            }
            None => None,
        };
        // Before anything is made of it: what is replaced from here on is another one at a reload.
        let held = Held::read(&config);
        let ports = {
            let (config, clock) = (config.clone(), Arc::clone(&clock));
            let made =
                io.spawn(async move { assemble::ports(&config, &clock, pace.minute).await }).await;
            made.map_err(|error| error.to_string())?.map_err(|faults| listed(&faults))?
        };
        let Ports { github, forge, catalogue, records, providers } = ports;
        let names = Arc::clone(github.names());
        let records: Arc<Renewable<dyn Records>> = Arc::new(Renewable::new(records));
        let forge: Arc<Renewable<dyn Forge>> = Arc::new(Renewable::new(forge));
        let catalogue: Arc<Renewable<dyn Catalogue>> = Arc::new(Renewable::new(catalogue));
        let downloads = Arc::new(Downloads::new(Arc::clone(&clock)));
        let providers: BTreeMap<String, Arc<Rotating>> = providers
            .into_iter()
            .filter_map(|(name, port)| {
                let origin = Origin::of(&name, &config, &held, &clock)?;
                Some((name, Arc::new(Rotating::new(port, origin))))
            })
            .collect();
        let makings =
            Makings::new(config.guests.as_ref(), reception.as_deref(), Arc::clone(&downloads))?;
        let model = Arc::new(ReadModel::default());
        let broken = Arc::new(AtomicU64::new(0));
        let observers = Arc::new(Observers {
            journal: journal.clone(),
            broken: Arc::clone(&broken),
            sources: OnceLock::new(),
        });
        let (sources, prepared) = {
            let (config, folder) = (config.clone(), folder.clone());
            let clock = Arc::clone(&clock);
            let records = Arc::clone(&records) as Arc<dyn Records>;
            let observer = Arc::clone(&observers) as Arc<dyn Observer>;
            let terms = sources::Terms { repair: pace.repair, broker };
            let made = io.spawn(async move {
                Sources::prepare(&config, &folder, github, records, observer, &clock, terms).await
            });
            let made = made.await;
            made.map_err(|error| error.to_string())??
        };
        let sources = Arc::new(sources);
        if observers.sources.set(Arc::clone(&sources)).is_err() {
            return Err("the sources of demand were made twice".to_owned());
        }
        let observer: Arc<dyn Observer> = observers;
        let (fleet, ending) = FleetActor::new(FleetSetup {
            id: config.fleet.id.clone(),
            providers: providers
                .iter()
                .map(|(name, port)| (name.clone(), Arc::clone(port) as Arc<dyn Provider>))
                .collect(),
            forge: sources.forge(Arc::clone(&forge) as Arc<dyn Forge>),
            guests: Reception::guests(reception.as_deref()),
            pools: config
                .pools
                .iter()
                .map(|p| assemble::pool(p, &makings, &targets, &pace, sources.of(p)))
                .collect(),
            remembered,
            clock: Arc::clone(&clock),
            observer: Arc::clone(&observer),
            model: Arc::clone(&model),
            io: io.clone(),
            cloud_cadence: pace.cloud,
            forge_cadence: pace.forge,
            intensity: Intensity::default(),
        });
        let (listen, api_token) = match &config.api.listen {
            Some(listen) => {
                let token = listen.token.read(&Env::of_process()).map_err(|e| e.to_string())?;
                let kept = ApiToken::open(listen.token.clone()).map_err(|e| e.to_string())?;
                (Some((listen.address, token)), Some(kept))
            }
            None => (None, None),
        };
        let info = FleetInfo {
            id: config.fleet.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at,
            last_reload: None,
            notes: Vec::new(),
        };
        let (socket, stop_deadline) = (config.api.socket.clone(), config.fleet.stop_deadline);
        let listing_max_age = Mutex::new(config.fleet.listing_max_age);
        names.configure(config.pools.iter().map(|pool| &pool.scope));
        // The fleet has an address before it runs: a second daemon on the same socket must be
        // refused before it has launched anything.
        let context = actix::Context::new();
        let door = Arc::new(Door {
            model,
            fleet: context.address(),
            clock,
            info: Mutex::new(info),
            listing_max_age,
            config: tokio::sync::Mutex::new(config),
            path: path.to_owned(),
            pace,
            folder,
            targets,
            scopes,
            downloads,
            forge,
            catalogue: Arc::clone(&catalogue),
            records: Arc::clone(&records),
            names,
            sources: Arc::clone(&sources),
            providers: Mutex::new(providers),
            held: Mutex::new(held),
            api_token,
            reception,
            journal: journal.clone(),
            log,
            io: io.clone(),
        });
        let stop_api = CancellationToken::new();
        // What listens already ends again where the rest cannot.
        let unless_started = stop_api.clone().drop_guard();
        let api = {
            let (control, stop) = (Arc::clone(&door) as Arc<dyn Control>, stop_api.clone());
            let served = io.spawn(async move { http::serve(control, &socket, listen, stop).await });
            served.await.map_err(|e| e.to_string())?.map_err(|error| format!("the API: {error}"))?
        };
        let guests = match door.reception.clone() {
            Some(reception) => {
                let ears = Arc::new(reception::Fleet {
                    model: Arc::clone(&door.model),
                    fleet: door.fleet.clone(),
                    observer,
                    clock: Arc::clone(&door.clock),
                    downloads: Arc::clone(&door.downloads),
                    desk: Arc::clone(&sources.desk),
                });
                let stop = stop_api.clone();
                let opened = io.spawn(async move { reception.open(ears, stop).await });
                Some(opened.await.map_err(|e| e.to_string())??)
            }
            None => None,
        };
        let tasks = TaskTracker::new();
        {
            let ears: Arc<dyn JobEars> = Arc::new(sources::Fleet {
                fleet: door.fleet.clone(),
                model: Arc::clone(&door.model),
            });
            let (clock, stop, tasks) = (Arc::clone(&door.clock), stop_api.clone(), tasks.clone());
            let opened = io.spawn(async move {
                sources.start(prepared, records, ears, &clock, &stop, &tasks).await
            });
            opened.await.map_err(|e| e.to_string())??;
        }
        {
            let (door, stop) = (Arc::clone(&door), stop_api.clone());
            io.spawn(async move { stop.run_until_cancelled(door.keep_kept()).await });
        }
        {
            let (door, stop) = (Arc::clone(&door), stop_api.clone());
            io.spawn(async move {
                let records = Arc::clone(&door.records) as Arc<dyn Records>;
                let kept = names::keep(&door.names, &*records, &door.sources.desk, &*door.clock);
                stop.run_until_cancelled(kept).await;
            });
        }
        let fleet = context.run(fleet);
        let stop = stop_api.clone();
        let downloads = Arc::clone(&door.downloads);
        // Idle as long as nobody reads what it brings.
        io.spawn(async move {
            stop.run_until_cancelled(downloads.keep_fresh(&*catalogue)).await;
        });
        unless_started.disarm();
        Ok(Self {
            fleet,
            ending,
            door,
            stop_api,
            api,
            guests,
            tasks,
            journal,
            stop_deadline,
            broken,
            _lock: lock,
        })
    }

    /// What the API may ask of this daemon.
    pub(crate) fn control(&self) -> Arc<dyn Control> {
        Arc::clone(&self.door) as Arc<dyn Control>
    }

    /// Invariants seen broken so far: defects.
    pub(crate) fn invariants_broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    /// Runs until a signal or the fleet's own end; reloads on SIGHUP.
    async fn until_signal(mut self) -> Result<ExitCode, String> {
        let on = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
        let mut term = on(SignalKind::terminate())?;
        let mut interrupt = on(SignalKind::interrupt())?;
        let mut hangup = on(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    // The result is in the log and in the status; there is nobody to answer to.
                    let door = Arc::clone(&self.door);
                    self.door.io.spawn(async move { door.reload().await });
                }
                ending = &mut self.ending => {
                    let last_word = match ending {
                        Ok(Ending::Escalated(what)) => what,
                        Ok(Ending::Stopped) => return Ok(ExitCode::SUCCESS),
                        Err(_) => "the fleet's actor died; the panic message above names the defect".to_owned(),
                    };
                    tracing::error!(%last_word, "the daemon gives up; its init system starts it again");
                    self.end().await;
                    return Ok(ExitCode::from(GAVE_UP));
                }
            }
        }
        let again = async {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::select! {
            () = self.stop() => Ok(ExitCode::SUCCESS),
            () = again => {
                tracing::warn!("asked to stop a second time: calls under way are left to the next start");
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    /// Stops within the deadline: answers that are due are awaited, jobs go on.
    pub(crate) async fn stop(self) {
        tracing::info!(deadline = ?self.stop_deadline, "stopping; jobs go on and are adopted by the next start");
        let stopped = tokio::time::timeout(self.stop_deadline, self.fleet.send(Stop)).await;
        if stopped.is_err() {
            tracing::warn!("calls still under way at the deadline are left to the next start");
        }
        self.end().await;
    }

    async fn end(self) {
        self.stop_api.cancel();
        if let Err(error) = self.api.task.await {
            tracing::warn!(%error, "the api did not end by itself");
        }
        if let Some(guests) = self.guests
            && let Err(error) = guests.task.await
        {
            tracing::warn!(%error, "the guests' listener did not end by itself");
        }
        self.tasks.close();
        if tokio::time::timeout(LAST_NEWS, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                "news of jobs were still being kept at the stop; github tells them again"
            );
        }
        let flushed = self.journal.is_none_or(|j| j.flush(std::time::Duration::from_secs(2)));
        if !flushed {
            tracing::warn!("the end of the journal could not be written");
        }
        tracing::info!("stopped");
    }
}

/// Everybody who is told of everything.
struct Observers {
    journal: Option<Arc<Journal>>,
    broken: Arc<AtomicU64>,
    /// Made after whoever hears of their faults, and before the fleet.
    sources: OnceLock<Arc<Sources>>,
}

impl Observer for Observers {
    fn observe(&self, event: &FleetEvent) {
        if let Some(journal) = &self.journal {
            journal.observe(event);
        }
        if let Some(sources) = self.sources.get() {
            sources.observe(event);
        }
        match event {
            FleetEvent::Transition { transition: t, .. } => tracing::debug!(
                runner = %t.runner, from = ?t.from, to = %t.to, because = %t.because, "transition"
            ),
            FleetEvent::Target { pool, runners, because, .. } => {
                tracing::info!(%pool, runners, %because, "target");
            }
            FleetEvent::Plan { pool, create, drain, because, .. } => {
                tracing::info!(%pool, create, drain, because = %because.join("; "), "plan");
            }
            FleetEvent::Fault { pool, runner, error, .. } => tracing::warn!(
                pool = pool.as_ref().map(tracing::field::display),
                runner = runner.as_ref().map(tracing::field::display),
                class = %error.class, %error, "fault"
            ),
            FleetEvent::GuestLog { pool, runner, log, .. } => {
                // Quoted: its lines must not pass for lines of this log.
                tracing::warn!(%pool, %runner, ?log, "a guest's last words");
            }
            FleetEvent::InvariantBroken { name, seen, .. } => {
                self.broken.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%name, %seen, "an invariant is broken; please report this");
            }
            FleetEvent::GuestTold { .. }
            | FleetEvent::Reconciled { .. }
            | FleetEvent::VmGone { .. } => {}
        }
    }
}

fn listed(faults: &[PortError]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A panic ends one actor or task; its message must reach the log all the same.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let said = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(%at, %said, "a task or actor panicked");
    }));
}
