//! A stand-in for GitHub: the runner endpoints of its REST API, with state, served on loopback.
//!
//! It is for tests and for the demo, and behaves as GitHub does towards a fleet: names are taken
//! once, a JIT runner takes one job and vanishes with it, a busy runner is not deregistered, unchanged
//! listings cost nothing. What it answers is held to GitHub's own schemas by the tests. It also
//! fails as GitHub does, on request: see [`Faults`].
//!
//! Canned answers are the alternative; they prove that a client parses, never that a fleet lives.
//!
//! The API is served at the root and below `/api/v3`, so a client takes it for a GitHub Enterprise
//! Server. A runner application in this process uses [`FakeGithub::connect`]; one in a real guest
//! uses the calls below `/_jobs` (their table is in `job_side.rs`), on an address that its guest reaches
//! ([`Options::listen`]). What happens to jobs is posted to webhooks ([`FakeGithub::add_hook`]), and
//! can be looked up: the job itself, and the deliveries of a hook, which can be asked for again.

mod answers;
mod applications;
mod faults;
mod gate;
mod hooks;
mod job_side;
mod listener;
mod operation;
mod points;
mod renames;
mod scale_set;
mod workflows;
mod world;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runner_fleet_actors::{name::Scope, port::Time};
use tokio::{sync::Notify, time::Instant};

pub use applications::Offered;
pub use faults::{Faults, Mishap, Once};
pub use hooks::{Delivery, HookOptions, HookTarget};
pub use listener::{Job, Listener, Next, Refused};
pub use operation::Operation;
pub use scale_set::{SetCall, SetOptions};
pub use world::{JobId, JobOrder, JobRecord, Lost, ScaleSetRecord};

/// One exchange, as a recorder gets it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// GitHub's name of the operation, as in its OpenAPI description.
    pub operation_id: &'static str,
    /// The request's method.
    pub method: String,
    /// The request's path, without `/api/v3`.
    pub path: String,
    /// The request's query.
    pub query: String,
    /// The request's body, where it is JSON.
    pub request: Option<serde_json::Value>,
    /// The answer's status.
    pub status: u16,
    /// The answer's body, where there is one.
    pub response: Option<serde_json::Value>,
}

/// Gets every exchange with a known operation.
pub type Recorder = Arc<dyn Fn(&Exchange) + Send + Sync>;

/// A runner group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether it is the default group.
    pub default: bool,
    /// Whether no repository may use it.
    pub closed: bool,
}

/// A GitHub App with one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its client id or number: the issuer of its JWTs.
    pub id: String,
    /// The number of its installation.
    pub installation_id: u64,
    /// Its public key, PEM: JWTs are verified with it.
    pub public_key: String,
    /// How long its installation tokens live.
    pub token_life: Duration,
    /// The permissions of its installation, by name.
    pub permissions: BTreeMap<String, String>,
}

/// How the fake begins.
#[derive(Clone)]
pub struct Options {
    /// Personal access tokens that are accepted. None and no App: every token is.
    pub tokens: Vec<String>,
    /// Scopes of the tokens as `x-oauth-scopes` tells them; `None` for fine-grained tokens.
    pub oauth_scopes: Option<String>,
    /// An App, if there is one.
    pub app: Option<App>,
    /// Runner groups of every organisation and enterprise.
    pub groups: Vec<Group>,
    /// The scopes that exist; empty: every scope does.
    pub scopes: Vec<Scope>,
    /// Calls an hour; `None` as on a GitHub Enterprise Server without limits.
    pub rate_limit: Option<u64>,
    /// How long each answer takes.
    pub latency: Duration,
    /// Seed of everything that happens by chance.
    pub seed: u64,
    /// Where it listens. Port 0 is any free one. Where this is no loopback address, as for guests
    /// that reach this machine over a network, it listens on loopback as well: see
    /// [`FakeGithub::url`].
    pub listen: SocketAddr,
    /// How long an assigned job waits to be acquired; then it goes back to the queue.
    pub assignment_timeout: Duration,
    /// How long a runner application over HTTP may be silent before it counts as offline and the
    /// job that it has acquired as lost.
    pub silence: Duration,
    /// Whether it tells until when versions of the runner application are taken; a GitHub Enterprise
    /// Server does not.
    pub schedules: bool,
    /// How its scale sets behave.
    pub scale_sets: SetOptions,
    /// How long a hook has for its answer: at github.com 10 seconds, at a GitHub Enterprise Server
    /// 30.
    pub hook_timeout: Duration,
    /// Gets every exchange.
    pub recorder: Option<Recorder>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            oauth_scopes: None,
            app: None,
            groups: vec![Group { id: 1, name: "Default".to_owned(), default: true, closed: false }],
            scopes: Vec::new(),
            rate_limit: Some(5000),
            latency: Duration::ZERO,
            seed: 1,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            assignment_timeout: Duration::from_secs(15),
            silence: Duration::from_secs(10),
            schedules: true,
            scale_sets: SetOptions::default(),
            hook_timeout: Duration::from_secs(10),
            recorder: None,
        }
    }
}

/// What has happened at the fake so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls by GitHub's name of the operation, refused ones included.
    pub calls: BTreeMap<&'static str, u64>,
    /// Calls that counted against the rate limit.
    pub counted: u64,
    /// Calls answered by 304.
    pub unchanged: u64,
    /// Calls refused because they came too fast.
    pub too_fast: u64,
    /// Registrations that there are now.
    pub registrations: u64,
    /// Registrations whose listener is connected now.
    pub online: u64,
    /// Registrations made since the start.
    pub registered: u64,
    /// Jobs that a deployment protection rule holds.
    pub blocked: u64,
    /// Jobs that wait for a runner.
    pub queued: u64,
    /// Jobs that have a runner, assigned or acquired.
    pub running: u64,
    /// Jobs that ran to their end, whatever their result.
    pub completed: u64,
    /// Jobs that ran to their end and failed.
    pub failed: u64,
    /// Jobs whose runner died or was deregistered after it had acquired them.
    pub lost: u64,
    /// Jobs that were cancelled before a runner had acquired them.
    pub cancelled: u64,
    /// Deliveries to hooks, redeliveries included, that were answered with success.
    pub delivered: u64,
    /// Deliveries that were not.
    pub undelivered: u64,
    /// How long each acquired job waited, in the order in which they were acquired.
    pub waits: Vec<Duration>,
    /// How long each runner took from its registration to its first connection, in the order in
    /// which they connected.
    pub starts: Vec<Duration>,
}

/// A registration that there is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationRecord {
    /// Its number.
    pub id: u64,
    /// Where it is.
    pub scope: Scope,
    /// The runner's name.
    pub name: String,
    /// Whether its runner application is connected.
    pub online: bool,
    /// The job that it has, assigned or acquired.
    pub job: Option<JobId>,
}

pub(crate) struct Shared {
    options: Options,
    /// As guests reach it.
    url: String,
    /// As this machine reaches it.
    near: String,
    world: Mutex<world::World>,
    faults: Mutex<faults::State>,
    limits: Mutex<gate::Limits>,
    tokens: Mutex<scale_set::Tokens>,
    set_calls: Mutex<scale_set::Calls>,
    hooks: Mutex<hooks::Hooks>,
    /// Rung when it goes out of reach or comes back.
    weather: Notify,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, world::World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, faults::State> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> MutexGuard<'_, scale_set::Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_calls(&self) -> MutexGuard<'_, scale_set::Calls> {
        self.set_calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hooks(&self) -> MutexGuard<'_, hooks::Hooks> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> MutexGuard<'_, gate::Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A GitHub on loopback. Clones are the same GitHub; it ends with the last one.
#[derive(Clone)]
pub struct FakeGithub {
    shared: Arc<Shared>,
    /// Ends the listening task when the last clone goes.
    _serving: Arc<Serving>,
}

impl std::fmt::Debug for FakeGithub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeGithub").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

impl FakeGithub {
    /// Starts one.
    ///
    /// # Errors
    /// When [`Options::listen`] cannot be had.
    pub async fn start(options: Options) -> io::Result<Self> {
        let socket = tokio::net::TcpListener::bind(options.listen).await?;
        let address = socket.local_addr()?;
        let near = match address.ip().is_loopback() {
            true => None,
            false => Some(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?),
        };
        let url = |address: SocketAddr| format!("http://{address}");
        let (wire, news) = tokio::sync::mpsc::unbounded_channel();
        let (hooks, errands) = hooks::Hooks::new();
        let shared = Arc::new(Shared {
            url: url(address),
            near: url(near.as_ref().map_or(Ok(address), |near| near.local_addr())?),
            world: Mutex::new(world::World::new(&options, world::Wire::new(wire))),
            hooks: Mutex::new(hooks),
            faults: Mutex::new(faults::State::new(&options)),
            limits: Mutex::new(gate::Limits::new(&options)),
            tokens: Mutex::default(),
            set_calls: Mutex::default(),
            weather: Notify::new(),
            options,
        });
        let router = job_side::routes()
            .route("/_downloads/{filename}", axum::routing::get(applications::archive))
            .fallback(gate::serve)
            .with_state(Arc::clone(&shared));
        let turning = tokio::spawn(turn(Arc::clone(&shared)));
        let posting = tokio::spawn(hooks::post_all(Arc::clone(&shared), news, errands));
        let mut tasks = vec![turning, posting];
        for socket in [Some(socket), near].into_iter().flatten() {
            let router = router.clone();
            tasks.push(tokio::spawn(async move {
                if let Err(error) = axum::serve(socket, router).await {
                    tracing::error!(%error, "the github stand-in stopped");
                }
            }));
        }
        Ok(Self { shared, _serving: Arc::new(Serving(tasks)) })
    }

    /// What goes into `[github] url`: a loopback address, to which alone a daemon speaks without TLS.
    #[must_use]
    pub fn url(&self) -> String {
        self.shared.near.clone()
    }

    /// The same GitHub as guests reach it: at the address of [`Options::listen`].
    #[must_use]
    pub fn url_for_guests(&self) -> String {
        self.shared.url.clone()
    }

    /// Jobs waiting and running that ask for exactly these labels: what a demand source would say.
    #[must_use]
    pub fn demand(&self, scope: &Scope, labels: &[String]) -> (u32, u32) {
        self.shared.world().demand(scope, labels)
    }

    /// Brings a runner online: what the runner application in a guest does with its JIT config.
    ///
    /// # Errors
    /// Where the config is none, its registration is gone or used up, it is connected already, or
    /// GitHub is out of reach.
    pub async fn connect(&self, encoded_jit_config: &str) -> Result<Listener, Refused> {
        let latency = {
            let faults = self.shared.faults();
            if faults.unreachable() {
                return Err(Refused::Unreachable);
            }
            faults.latency
        };
        tokio::time::sleep(latency).await;
        listener::connect(Arc::clone(&self.shared), encoded_jit_config)
    }

    /// The way to make it fail.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults::new(Arc::clone(&self.shared))
    }

    /// Replaces the runner groups.
    pub fn set_groups(&self, groups: Vec<Group>) {
        self.shared.world().groups = groups;
    }

    /// Replaces the runner applications on offer. At the start there is version 2.336.0 for Linux on
    /// x64 and arm64, with empty archives.
    pub fn offer(&self, applications: Vec<Offered>) {
        self.shared.world().shelf.offer(applications);
    }

    /// Sets the dates from which on a version can no longer register and gets no jobs.
    pub fn retire(&self, version: &str, registration: Option<Time>, runtime: Option<Time>) {
        self.shared.world().shelf.ends.insert(version.to_owned(), (registration, runtime));
    }

    /// Registers a runner past the API: somebody else's, or one that nobody remembers.
    pub fn add_registration(&self, scope: &Scope, name: &str, labels: &[String]) -> u64 {
        self.shared.world().add(scope, name, labels)
    }

    /// All jobs so far, in the order in which they were queued.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobRecord> {
        self.shared.world().records()
    }

    /// The registrations that there are now, in the order in which they were made.
    #[must_use]
    pub fn registrations(&self) -> Vec<RegistrationRecord> {
        self.shared.world().registered()
    }

    /// What has happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.shared.world().stats();
        let limits = self.shared.limits();
        stats.calls = limits.calls.clone();
        stats.counted = limits.counted;
        stats.unchanged = limits.unchanged;
        stats.too_fast = limits.points.refused;
        drop(limits);
        (stats.delivered, stats.undelivered) = self.shared.hooks().counts();
        stats
    }
}

/// Does what GitHub does by itself, when it is due.
async fn turn(shared: Arc<Shared>) {
    let earlier = shared.world().earlier();
    loop {
        let next = shared.world().turn(Instant::now());
        match next {
            Some(at) => tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = earlier.notified() => {}
            },
            None => earlier.notified().await,
        }
    }
}

/// Ends the tasks with the last clone.
struct Serving(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Serving {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}
