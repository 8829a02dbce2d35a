//! A fleet over the wire: the real actors and adapters, a GitHub and a cloud on loopback.

#![allow(dead_code, reason = "each bench looks at a part of it")]

pub mod plain;
pub mod usage;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix::{Actor, Addr};
use async_trait::async_trait;
use chrono::Utc;
use runner_fleet::{
    fake::{
        github::{self, FakeGithub},
        guest::StandIns,
        openstack::{self, FakeOpenstack},
    },
    github::{Auth, Github, GithubConfig, TokenSource},
    guest::Guest,
    provider::{
        Limited, Limits,
        openstack::{
            OpenStack, OpenStackConfig,
            cloud::{CloudConfig, Sources},
        },
    },
};
use runner_fleet_actors::{
    event::{FleetEvent, ReadModel, SharedModel},
    fleet::{Ending, FleetActor, FleetSetup, PoolSetup, Stop},
    hands::{Blueprint, NoGuests},
    name::{FleetId, PoolName, RunnerName, Scope, VmId},
    pool::{Policy, actor::Configure},
    port::{
        Clock, Deletion, Door, Forge, LaunchOrder, Listing, Observer, PortError, PortStatus,
        Provider, Recent, Secret, Shape, Time, TokioClock, Vm, VmStatus,
    },
    runner, scaler,
    supervision::Intensity,
    sweep::Cadence,
};
use tokio::{runtime::Handle, sync::oneshot};

/// The label of all jobs and runners.
pub const LABEL: &str = "linux";
/// Calls to the cloud at a time, the fleet's and the ideal's.
pub const AT_ONCE: u32 = 16;

/// Whether the person asks for that part of the bench: by its name, or for all.
pub fn runs(name: &str) -> bool {
    let mut wanted = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
    wanted.peek().is_none() || wanted.any(|word| word == name)
}

/// GitHub's and the cloud's stand-in, and what runs in the VMs.
pub struct Outside {
    pub github: FakeGithub,
    pub cloud: FakeOpenstack,
    /// When each JIT config was asked for.
    pub asked: Arc<Mutex<Vec<Time>>>,
}

impl Outside {
    /// `latency` is each answer's, `boot` a VM's way to ACTIVE, `start` a guest's way online.
    pub async fn start(latency: Duration, boot: [Duration; 2], start: [Duration; 2]) -> Self {
        let quick = [Duration::from_millis(20), Duration::from_millis(60)];
        Self::with(latency, boot, start, quick).await
    }

    /// As `start`; `delete` is a VM's way from its deletion to its end.
    pub async fn with(
        latency: Duration,
        boot: [Duration; 2],
        start: [Duration; 2],
        delete: [Duration; 2],
    ) -> Self {
        let asked: Arc<Mutex<Vec<Time>>> = Arc::default();
        let note = Arc::clone(&asked);
        let github = FakeGithub::start(github::Options {
            rate_limit: None,
            latency,
            recorder: Some(Arc::new(move |exchange| {
                if exchange.operation_id.starts_with("actions/generate-runner-jitconfig") {
                    let at = Utc::now() - latency;
                    note.lock().unwrap_or_else(PoisonError::into_inner).push(at);
                }
            })),
            ..github::Options::default()
        })
        .await
        .unwrap();
        let guests = StandIns::new(github.clone(), start[0]..=start[1], 1);
        let cloud = FakeOpenstack::start(openstack::Options {
            boot: boot[0]..=boot[1],
            delete: delete[0]..=delete[1],
            api_latency: latency,
            guest: Some(Arc::new(guests)),
            ..openstack::Options::default()
        })
        .await
        .unwrap();
        Self { github, cloud, asked }
    }

    pub fn jit_calls(&self) -> Vec<Time> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A daemon's configuration with one pool here. The folder must have `token` and `clouds.yaml`.
    pub fn configuration(&self, sections: &str, pool: &str) -> String {
        format!(
            "[fleet]\nid = \"{}\"\nstate_dir = \"state\"\njournal = \"journal.log\"\n\
             [api]\nsocket = \"api.sock\"\n\
             [github]\nurl = \"{}\"\ntoken_file = \"token\"\n{sections}\
             [providers.fake]\nkind = \"openstack\"\ncloud = \"fake\"\nclouds_file = \"clouds.yaml\"\n\
             [[pools]]\nname = \"{}\"\nscope = \"{}\"\nlabels = [\"{LABEL}\"]\nprovider = \"fake\"\n\
             image = \"debian-12\"\nflavor = \"m1.small\"\nnetwork = \"demo-net\"\n{pool}\n",
            fleet_id(),
            self.github.url(),
            pool_name(),
            scope(),
        )
    }

    pub fn forge(&self, io: &Handle, clock: Arc<dyn Clock>) -> Github {
        let _io = io.enter();
        let auth = Auth::Token(TokenSource::fixed(Secret::new("token-of-the-bench")));
        let config = GithubConfig { url: self.github.url(), ..GithubConfig::new(auth, fleet_id()) };
        Github::new(config, clock).unwrap()
    }

    pub async fn provider(&self, io: &Handle, clock: Arc<dyn Clock>) -> OpenStack {
        let clouds = Some(("clouds.yaml".into(), self.cloud.clouds_yaml()));
        let cloud = CloudConfig::parse(&Sources { clouds, ..Sources::default() }, None).unwrap();
        let config = OpenStackConfig::new(cloud, fleet_id());
        io.spawn(async move { OpenStack::connect(config, clock).await }).await.unwrap().unwrap()
    }
}

pub fn fleet_id() -> FleetId {
    "bench".parse().unwrap()
}

pub fn pool_name() -> PoolName {
    "small".parse().unwrap()
}

pub fn scope() -> Scope {
    "octo-org".parse().unwrap()
}

pub fn shape() -> Shape {
    Shape {
        image: "debian-12".to_owned(),
        flavor: "m1.small".to_owned(),
        network: Some("demo-net".to_owned()),
        ..Shape::default()
    }
}

/// A provider that notes when a listing first told that a VM is off: the fact reaches the daemon.
pub struct Watched {
    inner: Limited<OpenStack>,
    pub stopped: Arc<Mutex<Stopped>>,
}

#[derive(Default)]
pub struct Stopped {
    seen: BTreeSet<RunnerName>,
    /// When each listing came that told of runners that no listing before had told of, and how many.
    pub news: Vec<(Time, usize)>,
}

impl Watched {
    fn note<'a>(&self, vms: impl IntoIterator<Item = &'a Vm>) {
        let at = Utc::now();
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let off = vms.into_iter().filter(|vm| vm.status == VmStatus::Stopped);
        let fresh = off.filter(|vm| stopped.seen.insert(vm.name.clone())).count();
        if fresh > 0 {
            stopped.news.push((at, fresh));
        }
    }
}

#[async_trait]
impl Provider for Watched {
    async fn launch(&self, order: LaunchOrder) -> Result<VmId, PortError> {
        self.inner.launch(order).await
    }
    async fn delete(&self, name: &RunnerName, id: Option<&VmId>) -> Result<Deletion, PortError> {
        self.inner.delete(name, id).await
    }
    async fn list(&self) -> Result<Listing<Vm>, PortError> {
        let listing = self.inner.list().await?;
        self.note(&listing.entries);
        Ok(listing)
    }
    fn tells_recent(&self) -> bool {
        self.inner.tells_recent()
    }
    async fn recent(&self) -> Result<Option<Recent>, PortError> {
        let recent = self.inner.recent().await?;
        self.note(recent.iter().flat_map(|recent| &recent.changed));
        Ok(recent)
    }
    fn status(&self) -> PortStatus {
        self.inner.status()
    }
    fn door(&self) -> Door {
        self.inner.door()
    }
}

struct Nobody;

impl Observer for Nobody {
    fn observe(&self, _event: &FleetEvent) {}
}

/// A fleet of one pool at work.
pub struct Running {
    pub fleet: Addr<FleetActor>,
    pub model: SharedModel,
    pub stopped: Arc<Mutex<Stopped>>,
    ending: oneshot::Receiver<Ending>,
}

impl Running {
    /// Call inside the actors' system; `io` is where the outside lives, too.
    pub async fn start(
        io: &Handle,
        outside: &Outside,
        min: u32,
        max: u32,
        cadences: [Cadence; 2],
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Utc::now()));
        let forge: Arc<dyn Forge> = Arc::new(outside.forge(io, Arc::clone(&clock)));
        // The same in every run, whatever a pace would find out.
        let limits = Limits { concurrency: AT_ONCE, ..Limits::default() };
        let inner = Arc::new(outside.provider(io, Arc::clone(&clock)).await);
        let stopped: Arc<Mutex<Stopped>> = Arc::default();
        let provider: Arc<dyn Provider> = Arc::new(Watched {
            inner: Limited::new(inner, limits, Arc::clone(&clock)),
            stopped: Arc::clone(&stopped),
        });
        let model: SharedModel = Arc::new(ReadModel::default());
        let (fleet, ending) = FleetActor::new(FleetSetup {
            id: fleet_id(),
            providers: [("cloud".to_owned(), provider)].into(),
            forge,
            guests: Arc::new(NoGuests),
            pools: vec![setup(min, max)],
            remembered: Default::default(),
            clock,
            observer: Arc::new(Nobody),
            model: Arc::clone(&model),
            boots: Default::default(),
            habits: Default::default(),
            io: io.clone(),
            cloud_cadence: cadences[0],
            forge_cadence: cadences[1],
            intensity: Intensity::default(),
        });
        Self { fleet: fleet.start(), model, stopped, ending }
    }

    pub async fn stop(self) {
        self.fleet.send(Stop).await.unwrap();
        assert_eq!(self.ending.await, Ok(Ending::Stopped));
    }
}

fn setup(min: u32, max: u32) -> PoolSetup {
    PoolSetup {
        configure: Configure {
            policy: Policy {
                max,
                replace_at_once: 1,
                shape: Some(shape().digest()),
                retiring: false,
            },
            blueprint: Arc::new(Blueprint {
                pool: pool_name(),
                scope: scope(),
                group: None,
                labels: vec![LABEL.to_owned()],
                shape: shape(),
                user_data: Arc::new(Guest::default()),
            }),
            scaling: scaler::Policy {
                min,
                spare: 0,
                max,
                shrink_after: Duration::ZERO,
                fixed: None,
            },
            limits: runner::Limits::default(),
            provider: "cloud".to_owned(),
        },
        demand: Vec::new(),
    }
}

/// Waits until `reached` holds, and says when it did.
/// The section by which guests report home.
pub fn guests_section() -> String {
    let port = free_port();
    format!("[guests]\nlisten = \"127.0.0.1:{port}\"\nurl = \"http://127.0.0.1:{port}\"\n")
}

/// A port of the loopback that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

pub async fn until(what: &str, reached: impl Fn() -> bool) -> Instant {
    let began = Instant::now();
    while !reached() {
        assert!(began.elapsed() < Duration::from_secs(120), "never reached: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Instant::now()
}
