//! LXD and Incus as a provider: containers and virtual machines, over the REST API.
//!
//! - **Ownership is a key** (`user.runner-fleet.fleet`) in the instance's own configuration, set in
//!   the create call itself. A name alone claims nothing, and names of others are never touched.
//! - **Ephemeral instances.** LXD deletes them itself when they stop, so that a runner that powers
//!   off leaves nothing, also while the daemon is away. What is there, stopped and never started is
//!   a launch that broke off; it counts as such, never as a runner that has finished.
//! - **When is an order taken?** LXD answers a create with an operation that runs in the background:
//!   a moment with a local image, minutes where the image is fetched first. A launch waits for the
//!   whole of it, the start included, but at most [`LxdConfig::follow`], a second: so most failures
//!   reach the brain as the launch's own, with their class, and no call hangs on a download. What
//!   takes longer is followed in the background, listed as `Building` meanwhile, and as `Error` with
//!   its reason if it fails. The alternatives: to return at once makes every wrong profile a VM that
//!   fails later and nobody knows why; to wait for the end holds a place among the calls for minutes.
//! - **A failed launch leaves nothing.** LXD keeps the stopped instance of a failed start, although
//!   it is ephemeral; it is removed before the failure is reported.
//! - **Never two of one name.** Names are unique in a project, so that LXD itself refuses the second;
//!   launches of one name go one after the other, and the second finds the first.
//! - **Listings are not filtered by LXD**: a cluster lists what is on a silent member by its name
//!   alone, and a filter by key would drop it without a word. A project of the fleet's own keeps the
//!   listing short.
//! - **No retry.** The brain owns them. Only the wait for an operation is asked again.
//!
//! Nothing here asks which of the two it speaks to. Where they differ:
//!
//! | | LXD 5.0 | LXD 5.21 and later | Incus 6 |
//! | --- | --- | --- | --- |
//! | socket | `/var/lib/lxd/unix.socket`, snap: `/var/snap/lxd/common/lxd/unix.socket` | the same | `/var/lib/incus/unix.socket` |
//! | group that may open it | `lxd` | `lxd` | `incus-admin` (`incus`: own project only) |
//! | `environment.server` in `GET /1.0` | `lxd` | `lxd` | `incus` |
//! | create and start in one operation | no: started by a second call | `instance_create_start` | `instance_create_start` |
//! | keys `cloud-init.*` | `cloud_init`; before that `user.user-data` | yes | yes |
//! | a failed operation, waited for | status 200, `err` in the operation | an error with status 200 | as LXD 5.0 |
//! | refusal by a project's limits | 500 and a text | 500 and a text | 500 and a text |
//! | image servers (protocols) | `simplestreams`, `lxd` | `simplestreams`, `lxd` | `simplestreams`, `incus` |
//! | lifecycle events, `user.*` keys, ephemeral instances | the same | the same | the same |
//!
//! Two limits of LXD are worth knowing. The user data stays readable inside the guest, over
//! `/dev/lxd/sock`, for root and whoever may open that; the JIT config in it is useless after its
//! first use. And an instance's name is its identifier: a runner's name is drawn anew each time, so
//! that the same name never means another VM.

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::TimeDelta;
use dashmap::DashMap;
use runner_fleet_actors::{
    name::{FleetId, RunnerName, VmId},
    port::{
        Change, Clock, Deletion, ErrorClass, LaunchOrder, Listing, PortError, PortStatus, Provider,
        Time, Vm,
    },
};
use tokio::sync::broadcast;

mod answer;
mod api;
mod check;
mod events;
mod image_server;
mod launch;
mod memory;
mod order;
mod remove;
mod survey;
mod sweep;
mod transport;
mod vm;

use api::Api;
pub use api::Timeouts;
use events::Hub;
pub(crate) use survey::Marked;
pub use vm::listing;

use crate::config::LxdAccess;

/// What it takes to speak to one LXD for one fleet.
#[derive(Debug, Clone)]
pub struct LxdConfig {
    /// Where it is, as whom it is asked, and in which project.
    pub access: LxdAccess,
    /// Whose VMs these are.
    pub fleet: FleetId,
    /// How long calls may take.
    pub timeouts: Timeouts,
    /// How long a launch waits for the operation that it began. Longer tells more failures as the
    /// launch's own; shorter lets more launches begin at once, because each holds a place among the
    /// calls under way for so long.
    pub follow: Duration,
    /// The same for a deletion.
    pub follow_delete: Duration,
    /// How long after a lost answer to a create its VM may still come into sight.
    pub doubt: Duration,
}

impl LxdConfig {
    /// The usual bounds.
    #[must_use]
    pub fn new(access: LxdAccess, fleet: FleetId) -> Self {
        let timeouts = Timeouts::default();
        // A launch alone takes less. Where many begin at once each takes longer, and to wait for
        // them eight at a time made twenty up to 1.8 times as slow as LXD is by itself.
        let follow = Duration::from_secs(1);
        let follow_delete = Duration::from_secs(5);
        Self { access, fleet, timeouts, follow, follow_delete, doubt: timeouts.call }
    }
}

/// One project of one LXD, alone or a cluster, for one fleet.
pub struct Lxd {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Lxd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lxd").field("fleet", &self.inner.fleet).finish_non_exhaustive()
    }
}

/// What launches in the background share with the calls.
struct Inner {
    fleet: FleetId,
    api: Api,
    clock: Arc<dyn Clock>,
    follow: Duration,
    follow_delete: Duration,
    doubt: TimeDelta,
    /// For a call of the trait as a whole.
    bound: Duration,
    /// Launches by name, as far as listings do not tell of them.
    launches: DashMap<RunnerName, launch::Launch>,
    /// Launches of one name go one after the other.
    turns: DashMap<RunnerName, Arc<tokio::sync::Mutex<()>>>,
    /// An instance keeps its address for its life, and asking for it costs a look into the guest.
    addresses: DashMap<RunnerName, IpAddr>,
    memory: memory::Ledger,
    hub: Hub,
}

impl Lxd {
    /// Reads the certificates and calls nobody: an LXD that is down must not stop the daemon's start.
    /// Called inside the runtime that its events are to be read on.
    ///
    /// # Errors
    /// `Invalid` where a certificate or a key cannot be used.
    pub fn connect(config: LxdConfig, clock: Arc<dyn Clock>) -> Result<Self, PortError> {
        let api = Api::new(&config.access, config.timeouts, Arc::clone(&clock))?;
        let inner = Inner {
            fleet: config.fleet,
            api,
            clock,
            follow: config.follow,
            follow_delete: config.follow_delete,
            doubt: TimeDelta::from_std(config.doubt).unwrap_or(TimeDelta::minutes(1)),
            bound: config.timeouts.call.saturating_mul(3),
            launches: DashMap::new(),
            turns: DashMap::new(),
            addresses: DashMap::new(),
            memory: memory::Ledger::default(),
            hub: Hub::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

/// Launches in the background may live on for a while; nobody hears of them any more.
impl Drop for Lxd {
    fn drop(&mut self) {
        self.inner.hub.close();
    }
}

impl Inner {
    async fn bounded<T>(
        &self,
        what: impl FnOnce() -> String,
        call: impl Future<Output = Result<T, PortError>> + Send,
    ) -> Result<T, PortError> {
        tokio::time::timeout(self.bound, call).await.unwrap_or_else(|_| {
            let what = format!("{}: not done within {} s", what(), self.bound.as_secs());
            Err(PortError::doubtful(ErrorClass::Transient, what))
        })
    }

    fn now(&self) -> Time {
        self.clock.now()
    }
}

#[async_trait]
impl Provider for Lxd {
    async fn launch(&self, order: LaunchOrder) -> Result<VmId, PortError> {
        let what = format!("creating VM {}", order.name);
        self.inner.bounded(|| what, launch::launch(&self.inner, order)).await
    }

    async fn delete(&self, name: &RunnerName, _id: Option<&VmId>) -> Result<Deletion, PortError> {
        self.inner.bounded(|| format!("deleting VM {name}"), self.inner.delete(name)).await
    }

    async fn list(&self) -> Result<Listing<Vm>, PortError> {
        self.inner.bounded(|| "listing the fleet's VMs".to_owned(), self.inner.sweep()).await
    }

    fn status(&self) -> PortStatus {
        self.inner.api.status()
    }

    fn changes(&self) -> Option<broadcast::Receiver<Change>> {
        self.inner.hub.subscribe(&self.inner)
    }
}
