//! The daemon's wiring: ports, actors, API and journal, from start to stop.
//!
//! What has a beginning or an end is a part (`life.rs`), and all parts are put together in one place, in the
//! order of their start; a reload and the stop go through the same list.
//!
//! Two runtimes. The actors live on the main thread and never wait; all I/O lives on a pool of
//! threads, so that a slow TLS handshake or a panic in a client costs a task and not the fleet.
//!
//! A stop is graceful within its deadline: no new effects, answers that are due are awaited, jobs go
//! on in their VMs, and the next start adopts them. A kill at any moment loses nothing either, for
//! the cloud and GitHub are the store; it only leaves the next start more to tidy.

mod api;
mod assemble;
mod background;
mod clouds;
mod control;
mod fleet;
mod held;
mod kept;
mod learnt;
mod life;
mod lock;
mod names;
mod observers;
mod online;
mod ports;
mod readiness;
mod reception;
mod renewable;
mod rotation;
mod scopes;
mod sources;
mod targets;
mod user_data;

use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, atomic::Ordering},
};

use futures::FutureExt;
use runner_fleet_actors::{
    event::ReadModel,
    fleet::Ending,
    port::{Clock, Observer, TokioClock},
    sweep::Cadence,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use self::{
    api::Api, background::Background, control::Door, fleet::Fleet, held::Held, learnt::Learnt,
    life::Life, lock::StateLock, observers::Observers, ports::Ports, reception::Reception,
    scopes::Scopes, sources::Sources, targets::Targets,
};
pub use self::{clouds::read_clouds, online::check_online};
use crate::{
    config::Config,
    demand::{
        SOURCES,
        queue::line::Broker,
        source::{House, Terms},
        webhook::repair,
    },
    github::{budget, downloads::Downloads, records::Records},
    http::{Control, api::FleetInfo},
    log::LogControl,
    state::StateFolder,
};

/// The daemon gave up on itself (`EX_SOFTWARE` of sysexits.h); the init system starts it again.
const GAVE_UP: u8 = 70;
/// Something that the start needs is not to be had.
const CANNOT_START: u8 = 1;

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
    /// The minute for which GitHub gives points.
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
    ending: oneshot::Receiver<Ending>,
    door: Arc<Door>,
    io: tokio::runtime::Handle,
    _lock: StateLock,
}

impl Daemon {
    /// Starts everything. Must be called inside the actors' system. `broker`: whose queues they are,
    /// where that is not who `[queue]` says.
    ///
    /// # Errors
    /// What is not to be had, for the person who must provide it. Nothing is at work then.
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
        let folder = StateFolder::open(&config.fleet.state_dir)?;
        let lock = StateLock::take(&folder)?;
        kept::say_what_nobody_reaches(&folder, &config);
        let terms = Terms { repair: pace.repair, broker };
        let (door, ending) = Self::prepare(config, path, folder, pace, terms, log, io).await?;
        let door = Arc::new(door);
        {
            let door = Arc::clone(&door);
            inside(io, async move { door.life.start(&door).await }).await?;
        }
        Ok(Self { ending, door, io: io.clone(), _lock: lock })
    }

    /// Makes every part, in the order in which they are started and renewed; they are stopped in reverse.
    async fn prepare(
        config: Config,
        path: &Path,
        folder: StateFolder,
        pace: Pace,
        terms: Terms,
        log: Option<LogControl>,
        io: &tokio::runtime::Handle,
    ) -> Result<(Door, oneshot::Receiver<Ending>), String> {
        let started_at = chrono::Utc::now();
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::of_system());
        let targets = Arc::new(Targets::open(&folder)?);
        let scopes = Scopes::open(&folder)?;
        let learnt = {
            let pools = config.pools.iter().map(|pool| (&pool.name, pool.provider.as_str()));
            Learnt::open(&folder, pools, started_at)?
        };
        let remembered = scopes.keep(config.pools.iter().map(|pool| &pool.scope), started_at);
        let model = Arc::new(ReadModel::default());
        let downloads = Arc::new(Downloads::new(Arc::clone(&clock)));
        // Before anything is made of it: what is replaced from here on is another one at a reload.
        let held = Held::read(&config, SOURCES);

        let mut life = Life::default();
        let journal = observers::journal(&config.fleet)?.map(|journal| life.add(journal));
        let observers = Arc::new(Observers { journal, ..Observers::default() });
        let ports = {
            let (config, held, clock) = (config.clone(), held.clone(), Arc::clone(&clock));
            let lessons = learnt.lessons();
            let ports =
                async move { Ports::connect(&config, &held, &clock, pace.minute, lessons).await };
            life.add(inside(io, ports).await?)
        };
        let api = life.add(Api::prepare(&config.api)?);
        let reception = config.guests.as_ref().map(|guests| Reception::prepare(guests, &folder));
        let reception = reception.transpose()?.map(|reception| life.add(reception));
        let sources = {
            let (config, folder, clock) = (config.clone(), folder.clone(), Arc::clone(&clock));
            let (ports, observers) = (Arc::clone(&ports), Arc::clone(&observers));
            let of = Arc::clone(&clock);
            let house = move |desk| House {
                desk,
                records: Arc::clone(&ports.records) as Arc<dyn Records>,
                github: Arc::new(move || ports.github()),
                observer: observers,
                clock: of,
                terms,
            };
            let sources =
                async move { Sources::prepare(SOURCES, &config, &folder, &clock, house).await };
            life.add(inside(io, sources).await?)
        };
        if observers.sources.set(Arc::clone(&sources)).is_err() {
            return Err("the sources of demand were made twice".to_owned());
        }
        life.add(Background::new(|door| async move { door.keep_kept().await }.boxed()));
        life.add(Background::new(|door| {
            async move {
                let records = Arc::clone(&door.ports.records) as Arc<dyn Records>;
                let desk = &door.sources.desk;
                names::keep(&door.ports.names, &*records, desk, &*door.clock).await;
            }
            .boxed()
        }));
        let (fleet, ending) = Fleet::prepare(
            &config,
            fleet::Setting {
                ports: Arc::clone(&ports),
                sources: Arc::clone(&sources),
                reception: reception.clone(),
                downloads: Arc::clone(&downloads),
                targets: Arc::clone(&targets),
                pace,
            },
            fleet::Surroundings {
                remembered,
                clock: Arc::clone(&clock),
                observer: Arc::clone(&observers) as Arc<dyn Observer>,
                model: Arc::clone(&model),
                boots: learnt.boots(),
                habits: learnt.habits(),
                io: io.clone(),
            },
        )?;
        let fleet = life.add(fleet).address.clone();
        // Idle as long as nobody reads what it brings.
        life.add(Background::new(|door| {
            async move { door.downloads.keep_fresh(&*door.ports.catalogue).await }.boxed()
        }));

        let info = FleetInfo {
            id: config.fleet.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at,
            last_reload: None,
            notes: Vec::new(),
        };
        let door = Door {
            model,
            fleet,
            clock,
            info: Mutex::new(info),
            listing_max_age: Mutex::new(config.fleet.listing_max_age),
            config: tokio::sync::Mutex::new(config),
            path: path.to_owned(),
            folder,
            targets,
            scopes,
            learnt,
            downloads,
            observers,
            ports,
            api,
            reception,
            sources,
            held: Mutex::new(held),
            log,
            life,
        };
        Ok((door, ending))
    }

    /// What the API may ask of this daemon.
    pub(crate) fn control(&self) -> Arc<dyn Control> {
        Arc::clone(&self.door) as Arc<dyn Control>
    }

    /// Invariants seen broken so far: defects.
    pub(crate) fn invariants_broken(&self) -> u64 {
        self.door.observers.broken.load(Ordering::Relaxed)
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
                    self.io.spawn(async move { door.reload().await });
                }
                ending = &mut self.ending => {
                    let last_word = match ending {
                        Ok(Ending::Escalated(what)) => what,
                        Ok(Ending::Stopped) => {
                            self.stop().await;
                            return Ok(ExitCode::SUCCESS);
                        }
                        Err(_) => "the fleet's actor died; the panic message above names the defect".to_owned(),
                    };
                    tracing::error!(%last_word, "the daemon gives up; its init system starts it again");
                    self.stop().await;
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

    /// Stops every part, the fleet within its deadline: answers that are due are awaited, jobs go on.
    pub(crate) async fn stop(self) {
        let door = self.door;
        let stopped = self.io.spawn(async move { door.life.stop().await });
        if let Err(error) = stopped.await {
            tracing::warn!(%error, "the daemon was not stopped to its end");
        }
        tracing::info!("stopped");
    }
}

/// Does what must be done inside the I/O runtime.
async fn inside<T: Send + 'static>(
    io: &tokio::runtime::Handle,
    work: impl Future<Output = Result<T, String>> + Send + 'static,
) -> Result<T, String> {
    io.spawn(work).await.map_err(|error| error.to_string())?
}

/// A panic ends one actor or task; its message must reach the log all the same.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let said = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(%at, %said, "a task or actor panicked");
    }));
}
