//! The ports: what the brain's shells ask of the outside, and what every adapter promises.
//!
//! Each trait is small and its contract is written on it; the contract suites in `tests/` hold
//! every adapter to it. Errors come as classes, because each class leads to another decision, and
//! nobody ever matches on a text. No port retries by itself beyond what its contract says: the
//! brain owns retries (`backoff`), so that a retry never sits inside a retry.

use std::{fmt, net::IpAddr, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    event::{FleetEvent, Job},
    foreign::Words,
    name::{PoolName, RegistrationId, RunnerName, Scope, VmId},
};

mod clock;
mod error;
pub mod grounds;
mod recent;
mod shape;

pub use clock::{BEAT, Clock, GAP, Heard, TokioClock};
pub use error::{ErrorClass, PortError};
pub use grounds::{Grounds, Standing};
pub use recent::{Change, Recent};
pub use shape::{ImageProtocol, ImageServer, LxdKind, LxdShape, Shape, is_outdated, short_digest};

/// A point in time. Always handed in; no decision reads a clock.
pub type Time = chrono::DateTime<chrono::Utc>;

/// A text that is shown nowhere: `Debug` and `Display` hide it, and it cannot be serialized.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// All that a provider needs for one VM.
#[derive(Debug, Clone)]
pub struct LaunchOrder {
    /// The runner's name, which is the VM's.
    pub name: RunnerName,
    /// The runner's pool; kept on the VM.
    pub pool: PoolName,
    /// Where the runner is registered; kept on the VM, so that a pool that left the configuration
    /// can still be deregistered after a restart.
    pub scope: Scope,
    /// What kind of VM.
    pub shape: Shape,
    /// Cloud-init user data, not yet base64. Holds the JIT config: a secret until it is used.
    pub user_data: Secret,
    /// When the launch was decided, by the wall; kept on the VM.
    pub created_at: Time,
    /// Whether the name was drawn for this very call, so that nobody can have asked for it before and
    /// it need not be looked up. `false` for every repetition.
    pub fresh: bool,
}

/// A VM's condition, in the house's words. Vendor words end inside the adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum VmStatus {
    /// Accepted, not yet running.
    Building,
    /// Running as far as the cloud knows.
    Active,
    /// There, but not running (Nova's SHUTOFF): the guest has powered off.
    Stopped,
    /// The cloud gave up on it. It stays until somebody deletes it, and keeps counting.
    Error {
        /// What the fault means for the pool.
        #[serde(flatten)]
        class: ErrorClass,
        /// The cloud's own fault text.
        fault: Words,
    },
    /// Being deleted.
    Deleting,
    /// A condition that the adapter has no word for; proves nothing.
    Unknown {
        /// The vendor's word.
        word: Words,
    },
}

/// What a cloud is doing with a VM, in its own word (Nova's task state), and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmTask {
    /// The vendor's word: `deleting`, `spawning`, ….
    pub word: Words,
    /// When the cloud last changed the VM's record; a task that does not move began then or later.
    pub since: Option<Time>,
}

/// One VM of this fleet, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Its name, which is the runner's.
    pub name: RunnerName,
    /// The cloud's identifier.
    pub id: VmId,
    /// Its condition.
    #[serde(flatten)]
    pub status: VmStatus,
    /// When its launch was decided, if it says so: by the wall where a provider tells it, on the timeline
    /// everywhere else in here ([`Vm::on_timeline`]).
    pub created_at: Option<Time>,
    /// Digest of the shape that it was made with, if it says so.
    pub shape: Option<String>,
    /// Where it is registered, if it says so.
    pub scope: Option<Scope>,
    /// An address of it, if it has one.
    pub address: Option<IpAddr>,
    /// What the cloud is doing with it, if it says so: a deletion that was taken on and does not end
    /// shows here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<VmTask>,
}

impl Vm {
    /// The same with its times on the timeline, of which the wall is so far ahead.
    #[must_use]
    pub fn on_timeline(self, ahead: chrono::TimeDelta) -> Self {
        let created_at = self.created_at.map(|at| at.checked_sub_signed(ahead).unwrap_or(at));
        Self { created_at, ..self }
    }
}

/// One sweep over everything of this fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// What was seen.
    pub entries: Vec<T>,
    /// Whether the sweep saw everything. A page or an element that could not be read makes it
    /// `false`; then an entry that is missing proves nothing.
    pub complete: bool,
    /// When the sweep began: it cannot know of anything that happened later.
    pub as_of: Time,
    /// What could not be read, for a person.
    pub faults: Vec<String>,
}

/// How a deletion went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Taken on, not yet done; ask again until `Gone`.
    Accepted,
    /// There is no VM of that name any more.
    Gone,
}

/// What a provider or forge says of itself, for status pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Calls made since the start.
    pub calls: u64,
    /// Calls that failed since the start.
    pub failures: u64,
    /// Calls under way now.
    pub in_flight: u64,
    /// Until when no call is made, and why; `None` when it works.
    pub held_until: Option<Time>,
    /// Calls that may still be made before the rate limit resets, where the other side says so.
    pub remaining: Option<u64>,
    /// The last error, for a person.
    pub last_error: Option<String>,
    /// When that was met; an old one is history.
    #[serde(default)]
    pub last_error_at: Option<Time>,
}

/// Which side a launch stood at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It was to be registered.
    Forge,
    /// Its VM was to be made.
    Cloud,
}

/// What a port would do with launches that came now, by what the other side has said and by its own limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// So many would be asked for at once.
    pub permits: u32,
    /// When more would be.
    pub next: Option<Time>,
    /// Whether what comes now would be refused. Where it is not and nothing goes through, it waits for others.
    pub shut: bool,
    /// Why not more now, for a person.
    pub why: String,
}

impl Door {
    /// Nothing is in the way.
    #[must_use]
    pub fn open() -> Self {
        Self { permits: u32::MAX, next: None, shut: false, why: String::new() }
    }

    /// Nothing goes through before `until`.
    #[must_use]
    pub fn shut(until: Time, why: impl Into<String>) -> Self {
        Self { permits: 0, next: Some(until), shut: true, why: Words::from(why.into()).into() }
    }
}

impl Default for Door {
    fn default() -> Self {
        Self::open()
    }
}

/// The doors that a launch goes through, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doors {
    /// Registrations.
    pub forge: Door,
    /// VMs.
    pub cloud: Door,
}

/// What makes VMs.
///
/// - Every call is bounded in time and makes at most one attempt per call of the trait, except that
///   an expired token is renewed once.
/// - Elements that cannot be read cost themselves, never the rest of a listing.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Asks for one VM. Idempotent by `order.name`: where an answer is lost, or the name is there
    /// already, the VM of that name is looked up and returned; there are never two. (Of a
    /// [fresh](LaunchOrder::fresh) name that need not be expected beforehand.)
    /// Returns once the cloud has taken the order, not once the VM runs.
    ///
    /// # Errors
    /// `Quota`, `NoCapacity`, `RateLimited`, `Auth`, `Invalid` (unknown or ambiguous image, flavor,
    /// network: the message lists the candidates), `Transient`; `certain == false` where the VM may
    /// exist all the same.
    async fn launch(&self, order: LaunchOrder) -> Result<VmId, PortError>;

    /// Asks for the end of the VM (or all VMs) of that name in this fleet. `id` saves a look-up where it is known.
    ///
    /// # Errors
    /// Never `NotFound`: that is `Deletion::Gone`.
    async fn delete(&self, name: &RunnerName, id: Option<&VmId>) -> Result<Deletion, PortError>;

    /// All VMs of this fleet in one sweep, and only those: ownership is the fleet's tag on the VM.
    ///
    /// # Errors
    /// When nothing at all could be learned. A partly read listing is `Ok` with `complete: false`.
    async fn list(&self) -> Result<Listing<Vm>, PortError>;

    /// Whether [`recent`](Provider::recent) is worth asking for now. Never blocks, never asks.
    fn tells_recent(&self) -> bool {
        false
    }

    /// What has changed since it was last asked for or the VMs were last listed, with some overlap; `None` where the
    /// cloud does not tell, or what it tells is not borne out by what it has told before: then list.
    ///
    /// # Errors
    /// As `list`.
    async fn recent(&self) -> Result<Option<Recent>, PortError> {
        Ok(None)
    }

    /// What the provider says of itself. Never blocks.
    fn status(&self) -> PortStatus;

    /// Whether launches would be asked for now. Never blocks, never asks.
    fn door(&self) -> Door {
        Door::open()
    }

    /// Somebody says that what failed is mended: a pause of this side's own judgement ends, and the
    /// next call finds out. A pause that the cloud asked for goes on. Never blocks.
    fn end_hold(&self) {}

    /// Changes of single VMs, told by the cloud itself the moment they happen; `None` where it tells
    /// none. A hint that makes things quick, never the only way to learn: what a receiver missed, or
    /// a broken connection swallowed, is found by the next listing. A receiver that ends (because the
    /// provider was renewed) is asked for again.
    fn changes(&self) -> Option<tokio::sync::broadcast::Receiver<Change>> {
        None
    }
}

/// One registration, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its name, which is the runner's.
    pub name: RunnerName,
    /// The forge's number.
    pub id: RegistrationId,
    /// Whether its listener is connected.
    pub online: bool,
    /// The forge's busy flag. Not proof: it has been seen false in mid-job for tens of minutes
    /// (actions/runner#4422). `None` where the forge did not say.
    pub busy: Option<bool>,
    /// Whether it shows that it was told to give the runner no job ([`Forge::cordon`]). `None` where it does
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordoned: Option<bool>,
}

/// What the forge hands out for a new runner.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The forge's number.
    pub id: RegistrationId,
    /// The encoded JIT config: works once, for one runner.
    pub jit_config: Secret,
}

/// What is asked of the forge for a new runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterOrder {
    /// The runner's name.
    pub name: RunnerName,
    /// Where to register it.
    pub scope: Scope,
    /// Runner group by name, compared without regard to case; `None` = the scope's default group.
    pub group: Option<String>,
    /// Labels; at least one.
    pub labels: Vec<String>,
}

/// What the forge says of one runner and of its job, each asked for by its number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finding {
    /// The registration; `None` where there is none of that number (any more).
    pub registration: Option<Registration>,
    /// Whether its job runs; `None` where no number of a job is known, or the forge does not say.
    pub at_work: Option<bool>,
}

/// What hands out jobs.
#[async_trait]
pub trait Forge: Send + Sync {
    /// Registers a runner and returns its JIT config. Where the name is registered already (an
    /// earlier answer was lost), that registration is removed first: a JIT config is handed out once.
    ///
    /// # Errors
    /// `Auth`, `RateLimited`, `Invalid` (unknown group, scope or label), `Quota` (the forge's limit
    /// of runners), `Busy` (the name is registered and runs a job), `Transient`.
    async fn register(&self, order: &RegisterOrder) -> Result<Registered, PortError>;

    /// Removes a registration. Not there any more is success.
    ///
    /// # Errors
    /// `Busy` where the forge says that it runs a job; `RateLimited`, `Auth`, `Transient`.
    async fn deregister(
        &self,
        scope: &Scope,
        name: &RunnerName,
        id: Option<RegistrationId>,
    ) -> Result<(), PortError>;

    /// Keeps new jobs off a registered runner; what it was given before it keeps. `order` is what it was
    /// registered with. Asked for again, it changes nothing. Listings show it.
    ///
    /// # Errors
    /// `Invalid` where the forge does not have that, or where it did not help (nothing could be taken off);
    /// `Auth`, `RateLimited`, `Transient`.
    async fn cordon(&self, order: &RegisterOrder, id: RegistrationId) -> Result<(), PortError>;

    /// Takes that back: the runner stands as it was registered.
    ///
    /// # Errors
    /// `Invalid` where there is no such runner or the forge does not take it; `Auth`, `RateLimited`,
    /// `Transient`.
    async fn uncordon(&self, order: &RegisterOrder, id: RegistrationId) -> Result<(), PortError>;

    /// All registrations of this fleet in one scope, in one sweep.
    ///
    /// # Errors
    /// When nothing at all could be learned. A partly read listing is `Ok` with `complete: false`.
    async fn list(&self, scope: &Scope) -> Result<Listing<Registration>, PortError>;

    /// One runner by its number (by its name where none is known), and its job where `job` has a number
    /// and a repository: the second witness where listings lack a runner that may be at work. That there
    /// is none is an answer. A job that cannot be asked about is `at_work: None`, unless there is no
    /// registration: then what is left unknown is an error.
    ///
    /// # Errors
    /// `RateLimited`, `Auth`, `Invalid`, `Transient`; never `NotFound`.
    async fn look_up(
        &self,
        scope: &Scope,
        name: &RunnerName,
        id: Option<RegistrationId>,
        job: Option<&Job>,
    ) -> Result<Finding, PortError>;

    /// What the forge's client says of itself. Never blocks.
    fn status(&self) -> PortStatus;

    /// Whether registrations of that pool would be asked for now. Never blocks, never asks.
    fn door(&self, _pool: &PoolName) -> Door {
        Door::open()
    }

    /// As [`Provider::end_hold`]: a rate limit goes on.
    fn end_hold(&self) {}
}

/// The guest's answer to the order to stand down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandDown {
    /// The listener is frozen and no job is accepted: the runner may be deregistered.
    StandingDown,
    /// A job runs or is accepted; the listener goes on.
    Busy,
}

/// The way to the inside of a VM: orders to the guest. A port of its own, because neither the cloud
/// nor the forge can say whether a job was accepted a moment ago; only the guest can.
#[async_trait]
pub trait Guests: Send + Sync {
    /// Asks the guest to stop taking jobs, and whether it has one.
    ///
    /// # Errors
    /// `Transient` where no answer came in time; the order is then withdrawn.
    async fn stand_down(&self, name: &RunnerName) -> Result<StandDown, PortError>;

    /// Tells a guest that stands down to take jobs again. Best effort: an order that gets no further
    /// word ends by itself in the guest.
    async fn go_on(&self, name: &RunnerName);

    /// Tells a guest that stands down to end: its registration is gone, there is nothing to wait for.
    /// Best effort, as `go_on`.
    async fn end(&self, name: &RunnerName);
}

/// Renders what a VM runs at its first boot. Pure; the JIT config goes in, cloud-init user data
/// comes out, and both are secrets.
pub trait UserData: Send + Sync {
    /// The user data for one runner. Never waits.
    ///
    /// # Errors
    /// Where something that the VM could not do without is not known yet; it always leaves nothing
    /// behind.
    fn render(&self, name: &RunnerName, jit_config: &Secret) -> Result<Secret, PortError>;

    /// Whether it can be rendered at all now: asked before a runner is registered for nothing.
    ///
    /// # Errors
    /// As `render`.
    fn ready(&self) -> Result<(), PortError> {
        Ok(())
    }
}

/// What knows how many jobs a pool must serve.
///
/// A source that is silent or broken yields `None`, *unknown*, never zero: then the last target holds.
pub trait DemandSource: Send + Sync {
    /// The newest demand of a pool; each change wakes the watchers.
    fn watch(&self, pool: &PoolName)
    -> tokio::sync::watch::Receiver<Option<crate::demand::Demand>>;
}

/// Sees everything that the fleet does: journal, metrics, event streams.
pub trait Observer: Send + Sync {
    /// Called on the fleet's own thread: must not block and must not fail.
    fn observe(&self, event: &FleetEvent);
}

/// A duration in whole milliseconds, for texts and log lines.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
