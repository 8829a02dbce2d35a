//! A stand-in for an OpenStack cloud: Keystone, Nova, Glance and Neutron on one loopback port, as far
//! as the provider uses them, with faults that a real cloud shows seldom and at the worst moment.
//!
//! It answers like Nova where that matters: a VM is BUILD and then ACTIVE; a delete is 204, the VM
//! stays ACTIVE with the task `deleting`, a second delete is 204 as well and a later one 404; a
//! filter by metadata is ignored, one by tags is not; whoever asks for changes is told of deleted VMs too, which
//! have lost their tags; a listing is paged by marker and `next` link;
//! unknown references are 400, a used-up quota is 403 in Nova's words. What it leaves out, it answers
//! with 404, so that a client that begins to use more notices. No real cloud is needed to try the
//! product out, and none can be told to lose the answer of a create.

use std::{
    collections::BTreeMap, future::Future, io, net::SocketAddr, ops::RangeInclusive, sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::watch;

mod cloud;
mod faults;
mod http;
mod nova;

pub use faults::{Changes, Faults};

use cloud::Cloud;

/// The user of [`FakeOpenstack::clouds_yaml`].
const USER: &str = "demo";
/// Its password: not secret, but a test can look for it where no password may be.
const PASSWORD: &str = "fake-cloud-password";

/// What kind of cloud it is.
#[derive(Clone)]
pub struct Options {
    /// How long a VM takes from its create to ACTIVE.
    pub boot: RangeInclusive<Duration>,
    /// How long a VM takes from its delete until it is gone.
    pub delete: RangeInclusive<Duration>,
    /// Names of images; a name that stands twice is ambiguous.
    pub images: Vec<String>,
    /// Names of flavors. VMs of `no.such.host` end in ERROR.
    pub flavors: Vec<String>,
    /// Names of networks; a name that stands twice is ambiguous.
    pub networks: Vec<String>,
    /// VMs that the project may have.
    pub quota_instances: u32,
    /// How long a token lives.
    pub token_lifetime: Duration,
    /// How long every answer takes.
    pub api_latency: Duration,
    /// Seed of all chance.
    pub seed: u64,
    /// Largest page of a listing, whatever the client asks for (Nova's `max_limit`).
    pub page_limit: usize,
    /// What runs inside the VMs, if anything does.
    pub guest: Option<Arc<dyn FakeGuest>>,
}

impl Default for Options {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Self {
            boot: Duration::from_millis(20)..=Duration::from_millis(60),
            delete: Duration::from_millis(20)..=Duration::from_millis(60),
            images: names(&["debian-12", "cirros"]),
            flavors: names(&["m1.tiny", "m1.small", "no.such.host"]),
            networks: names(&["demo-net", "shared-net"]),
            quota_instances: 10_000,
            token_lifetime: Duration::from_secs(3600),
            api_latency: Duration::ZERO,
            seed: 0,
            page_limit: 1000,
            guest: None,
        }
    }
}

/// What runs inside the VMs of a fake cloud.
pub trait FakeGuest: Send + Sync {
    /// A VM has become ACTIVE. Called on the cloud's own task: must not block.
    fn booted(&self, vm: FakeVm);
}

/// A running VM, as seen from the inside.
#[derive(Clone)]
pub struct FakeVm {
    /// Its name.
    pub name: String,
    /// Its identifier.
    pub id: String,
    /// Its user data, decoded.
    pub user_data: String,
    cloud: Arc<Cloud>,
    killed: watch::Receiver<bool>,
}

impl FakeVm {
    /// The guest powers itself off: ACTIVE becomes SHUTOFF.
    pub fn power_off(&self) {
        self.cloud.power_off(&self.id);
    }

    /// Resolves when the VM is gone, by a delete or by a fault.
    pub fn killed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut killed = self.killed.clone();
        async move {
            // An error means that the VM went away together with its cloud.
            let _ = killed.wait_for(|dead| *dead).await;
        }
    }
}

/// What has happened in a cloud so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls by kind (`POST /compute/v2.1/servers`), refused ones included.
    pub calls: BTreeMap<String, u64>,
    /// VMs that are there now.
    pub present: usize,
    /// Most VMs that were there at one time.
    pub peak: usize,
    /// VMs made.
    pub creates: u64,
    /// VMs deleted, not counting those that vanished.
    pub deletes: u64,
}

/// A VM as an administrator of the cloud would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmRecord {
    /// Its identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Nova's status.
    pub status: String,
    /// Nova's task, if one is under way.
    pub task: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// When it was made.
    pub created: DateTime<Utc>,
}

/// A cloud that lives as long as its last clone.
#[derive(Clone)]
pub struct FakeOpenstack {
    cloud: Arc<Cloud>,
    address: SocketAddr,
    _serving: Arc<Serving>,
}

struct Serving(tokio::task::JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl FakeOpenstack {
    /// Starts a cloud on a free loopback port, inside the present tokio runtime.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let cloud = Arc::new(Cloud::new(options, format!("http://{address}")));
        let router = http::router(cloud.clone());
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "fake openstack stopped serving");
            }
        });
        Ok(Self { cloud, address, _serving: Arc::new(Serving(serving)) })
    }

    /// Keystone's address.
    #[must_use]
    pub fn auth_url(&self) -> String {
        format!("http://{}/identity/v3", self.address)
    }

    /// A `clouds.yaml` with this cloud under the name `fake`.
    #[must_use]
    pub fn clouds_yaml(&self) -> String {
        format!(
            "clouds:\n  fake:\n    region_name: RegionOne\n    auth:\n      auth_url: {}\n      \
             username: {USER}\n      password: {PASSWORD}\n      project_name: demo\n      \
             user_domain_name: Default\n      project_domain_name: Default\n",
            self.auth_url()
        )
    }

    /// What can be made to go wrong.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults(self.cloud.clone())
    }

    /// What has happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.cloud.stats()
    }

    /// The tokens that are good now. Secrets: a test can look for them where none may be.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.cloud.with(|state| state.tokens.keys().cloned().collect())
    }

    /// All VMs that are there, oldest first, whosoever they are.
    #[must_use]
    pub fn vms(&self) -> Vec<VmRecord> {
        self.cloud.records()
    }

    /// Puts a VM there that no client of the fleet has made, and returns its identifier.
    pub fn plant(&self, name: &str, tags: &[&str]) -> String {
        self.cloud.plant(name, tags)
    }

    /// Lays fields over what listings show of a VM: the odd answers of odd clouds.
    pub fn distort(&self, id: &str, fields: Value) {
        self.cloud.with(|state| {
            if let Some(vm) = state.vm(id) {
                vm.distortion = Some(fields);
            }
        });
    }

    /// Locks a VM (`openstack server lock`): its delete is refused with 409.
    pub fn lock(&self, id: &str, locked: bool) {
        self.cloud.with(|state| {
            if let Some(vm) = state.vm(id) {
                vm.locked = locked;
            }
        });
    }

    /// Replaces an image by a new one of the same name, as an image builder does.
    pub fn rebuild_image(&self, name: &str) {
        self.cloud.with(|state| {
            for image in state.images.iter_mut().filter(|image| image.name == name) {
                image.id = cloud::new_id();
            }
        });
    }
}
