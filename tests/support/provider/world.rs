//! A fake cloud, a provider in front of it, and a clock in the test's hands.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use runner_fleet::{
    fake::openstack::{FakeOpenstack, Options},
    provider::openstack::{
        OpenStack, OpenStackConfig,
        cloud::{CloudConfig, Sources},
    },
};
use runner_fleet_actors::{
    name::RunnerName,
    port::{Clock, LaunchOrder, PortError, Provider, Secret, Shape, Time},
};

/// A clock that stands still until the test moves it.
pub struct Hands(Mutex<Time>);

impl Hands {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(chrono::Utc::now())))
    }

    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for Hands {
    fn now(&self) -> Time {
        *self.0.lock().unwrap()
    }
}

pub const LOG_IN: &str = "POST /identity/v3/auth/tokens";
pub const CREATE: &str = "POST /compute/v2.1/servers";
pub const LIST: &str = "GET /compute/v2.1/servers/detail";
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub cloud: FakeOpenstack,
    pub clock: Arc<Hands>,
    pub provider: Arc<OpenStack>,
}

pub fn config(cloud: &FakeOpenstack) -> OpenStackConfig {
    let clouds = Some(("clouds.yaml".into(), cloud.clouds_yaml()));
    let found = Sources { clouds, ..Sources::default() };
    let cloud = CloudConfig::parse(&found, None).unwrap();
    OpenStackConfig::new(cloud, "ci".parse().unwrap())
}

impl World {
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let cloud = FakeOpenstack::start(options).await.unwrap();
        let clock = Hands::new();
        let provider = OpenStack::connect(config(&cloud), clock.clone()).await.unwrap();
        Self { cloud, clock, provider: Arc::new(provider) }
    }

    pub fn calls(&self, kind: &str) -> u64 {
        self.cloud.stats().calls.get(kind).copied().unwrap_or_default()
    }

    pub async fn launch(&self, token: u64) -> Result<String, PortError> {
        self.provider.launch(order(token)).await.map(|id| id.0)
    }

    pub async fn until(&self, what: &str, seen: impl Fn(&FakeOpenstack) -> bool) {
        let reached = async {
            while !seen(&self.cloud) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

pub fn name(token: u64) -> RunnerName {
    RunnerName::new(&"ci".parse().unwrap(), &"large".parse().unwrap(), token)
}

pub fn order(token: u64) -> LaunchOrder {
    LaunchOrder {
        name: name(token),
        pool: "large".parse().unwrap(),
        scope: "octo-org".parse().unwrap(),
        shape: Shape {
            image: "debian-12".into(),
            flavor: "m1.tiny".into(),
            network: Some("demo-net".into()),
            ..Shape::default()
        },
        user_data: Secret::new("#cloud-config\n# the-jit-config-of-the-test\n"),
        created_at: chrono::Utc::now(),
        fresh: false,
    }
}
