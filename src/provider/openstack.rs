//! OpenStack as a provider: Keystone for who we are, Nova for the VMs, Glance and Neutron for what
//! the configuration's words stand for.
//!
//! - **Ownership is a tag** (`runner-fleet:FLEET`), set in the create call itself, so that there is
//!   no moment in which a VM exists without it. A name alone claims nothing.
//! - **Never two of one name.** A launch looks its name up before it creates, unless the name is fresh,
//!   and after an answer that was lost, and two launches of one name go one after the other. After a lost answer the
//!   VM may also come into sight later; until then the name is *in doubt*: no second create is made
//!   for it, and a delete is not reported as done.
//! - **Own narrow calls.** The typed lists of the crate `openstack` fail as a whole over one odd VM,
//!   know neither tags nor faults, and lose the identifier of a VM whose look-up after the create
//!   fails; here every element is read by itself, over a session of that crate.
//! - **No retry but one**: an expired token is renewed and the call repeated. The brain owns the rest.
//! - **No redirection leads elsewhere**: what carries credentials goes to the cloud and no other address.
//!
//! One limit of Nova is worth knowing: where a whole cell of a cloud is down, a listing by tag leaves
//! its VMs out without a word (Compute API, "Handling down cells"). A VM that is missing from one
//! listing proves nothing, here as everywhere.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::TimeDelta;
use dashmap::DashMap;
use runner_fleet_actors::{
    name::{FleetId, RunnerName, VmId},
    port::{
        Clock, Deletion, ErrorClass, LaunchOrder, Listing, PortError, PortStatus, Provider, Recent,
        Shape, Time, Vm,
    },
};

mod answer;
mod api;
mod catalog;
mod check;
pub mod cloud;
mod keystone;
mod pages;
mod refs;
mod servers;
mod since;
mod version;
mod vm;
mod wire;

use api::Api;
pub use api::Timeouts;
use refs::Refs;
pub use vm::take;

/// What it takes to speak to one cloud for one fleet.
#[derive(Debug, Clone)]
pub struct OpenStackConfig {
    /// Which cloud, and who we are there.
    pub cloud: cloud::CloudConfig,
    /// Whose VMs these are.
    pub fleet: FleetId,
    /// How long calls may take.
    pub timeouts: Timeouts,
    /// VMs asked for in one page of a listing; Nova's own limit (1000 by default) still holds.
    pub page_size: u32,
    /// How long after a lost answer to a create its VM may still come into sight.
    pub doubt: Duration,
    /// What will be launched there, as far as that is known: what it names is looked up at the start.
    pub shapes: Vec<Shape>,
}

impl OpenStackConfig {
    /// The usual bounds.
    #[must_use]
    pub fn new(cloud: cloud::CloudConfig, fleet: FleetId) -> Self {
        let timeouts = Timeouts::default();
        let (doubt, shapes) = (timeouts.call, Vec::new());
        Self { cloud, fleet, timeouts, page_size: 500, doubt, shapes }
    }
}

/// One OpenStack cloud, for one fleet.
pub struct OpenStack {
    fleet: FleetId,
    api: Arc<Api>,
    refs: Arc<Refs>,
    force: servers::Force,
    clock: Arc<dyn Clock>,
    page_size: u32,
    /// For a call of the trait as a whole: some of them make several HTTP calls, and wait for one
    /// another's look-ups.
    bound: Duration,
    doubt: TimeDelta,
    /// Names whose create got no answer, with the time up to which its VM may still appear.
    doubtful: DashMap<RunnerName, Time>,
    /// Launches under way by name: a second one of the same name waits for the first.
    launching: DashMap<RunnerName, Arc<tokio::sync::Mutex<()>>>,
    /// VMs that this process knows to be the fleet's, so that a deletion by id needs no look-up.
    own: std::sync::Mutex<HashMap<VmId, RunnerName>>,
    /// Since when it is asked what has changed.
    since: std::sync::Mutex<since::Since>,
}

impl std::fmt::Debug for OpenStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenStack").field("fleet", &self.fleet).finish_non_exhaustive()
    }
}

impl OpenStack {
    /// Prepares everything and waits for nobody: a cloud that is down must not stop the daemon's start.
    /// Must be called inside the I/O runtime, where names are looked up in the background.
    ///
    /// # Errors
    /// `Invalid` when the HTTP client cannot be made: a `cacert` that is no certificate file.
    pub async fn connect(
        config: OpenStackConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PortError> {
        for warning in &config.cloud.warnings {
            tracing::warn!(cloud = %config.cloud.name, "clouds.yaml: {warning}");
        }
        let api = Arc::new(Api::new(&config.cloud, config.timeouts, clock.clone()).await?);
        let refs = Arc::new(Refs::new(clock.clone()));
        if !config.shapes.is_empty() {
            let (refs, api) = (Arc::downgrade(&refs), Arc::downgrade(&api));
            tokio::spawn(Refs::keep(refs, api, config.shapes));
        }
        Ok(Self {
            fleet: config.fleet,
            api,
            refs,
            force: servers::Force::default(),
            clock,
            page_size: config.page_size.max(1),
            bound: config.timeouts.call.saturating_mul(3),
            doubt: TimeDelta::from_std(config.doubt).unwrap_or(TimeDelta::minutes(1)),
            doubtful: DashMap::new(),
            launching: DashMap::new(),
            own: std::sync::Mutex::default(),
            since: std::sync::Mutex::default(),
        })
    }

    fn own(&self) -> std::sync::MutexGuard<'_, HashMap<VmId, RunnerName>> {
        self.own.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn since(&self) -> std::sync::MutexGuard<'_, since::Since> {
        self.since.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn bounded<T>(
        &self,
        what: impl FnOnce() -> String,
        call: impl Future<Output = Result<T, PortError>> + Send,
    ) -> Result<T, PortError> {
        tokio::time::timeout(self.bound, call).await.unwrap_or_else(|_| {
            let what = format!("{}: not done within {} s", what(), self.bound.as_secs());
            Err(PortError::certain(ErrorClass::Transient, what))
        })
    }

    /// Until when a VM of this name may still come into sight, if it may.
    fn in_doubt(&self, name: &RunnerName) -> Option<Time> {
        let now = self.clock.now();
        self.doubtful.remove_if(name, |_, until| *until <= now);
        self.doubtful.get(name).map(|until| *until)
    }

    async fn found(&self, name: &RunnerName) -> Result<Option<VmId>, PortError> {
        let found = servers::of_name(&self.api, &self.fleet, name).await?;
        let Some(vm) = found.first() else { return Ok(None) };
        self.doubtful.remove(name);
        self.own().insert(vm.id.clone(), name.clone());
        Ok(Some(vm.id.clone()))
    }

    async fn launch_alone(&self, order: &LaunchOrder) -> Result<VmId, PortError> {
        let user_data = servers::user_data(order)?;
        if !order.fresh
            && let Some(id) = self.found(&order.name).await?
        {
            tracing::info!(runner = %order.name, vm = %id, "vm of this name is there already");
            return Ok(id);
        }
        if let Some(until) = self.in_doubt(&order.name) {
            let what = format!(
                "creating VM {}: an earlier create got no answer and its VM may still appear; no \
                 second one is asked for before {}",
                order.name,
                until.format("%H:%M:%S UTC")
            );
            return Err(PortError::doubtful(ErrorClass::Transient, what));
        }
        let resolved = self.refs.resolve(&self.api, &order.shape).await?;
        let call = servers::create(&self.fleet, order, &resolved, &user_data);
        // In doubt before the call and not after it: this future may be dropped half-way.
        self.doubtful.insert(order.name.clone(), self.clock.now() + self.doubt);
        let answer = match self.api.send(&call).await {
            Ok(answer) => answer,
            Err(error) => return self.settle(&order.name, error).await,
        };
        if answer.status.is_success()
            && let Some(id) = servers::created(&answer)
        {
            self.doubtful.remove(&order.name);
            self.own().insert(id.clone(), order.name.clone());
            return Ok(id);
        }
        if answer.status.is_success() {
            let what = format!("{}: the answer names no VM", call.tried);
            let error = PortError::doubtful(ErrorClass::Transient, what);
            return self.settle(&order.name, error).await;
        }
        let secrets = [user_data.as_str(), order.user_data.expose()];
        let mut error = answer.failure(&call.tried, call.purpose, &secrets);
        if matches!(error.class, ErrorClass::Invalid | ErrorClass::NotFound) {
            self.refs.forget(&order.shape).await;
            error.class = ErrorClass::Invalid;
            if resolved.remembered {
                // Most likely the image was rebuilt under its name since it was looked up.
                error.class = ErrorClass::Transient;
                error.add("; image, flavor and network are looked up anew next time");
            }
        }
        if error.class == ErrorClass::Quota {
            error.add(&self.force.advice().unwrap_or_default());
        }
        self.settle(&order.name, error).await
    }

    /// After a create that failed: a doubtful one may have made the VM all the same.
    async fn settle(&self, name: &RunnerName, error: PortError) -> Result<VmId, PortError> {
        if error.certain {
            self.doubtful.remove(name);
            return Err(error);
        }
        self.doubtful.insert(name.clone(), self.clock.now() + self.doubt);
        match self.found(name).await {
            Ok(Some(id)) => {
                tracing::info!(runner = %name, vm = %id, "create lost its answer, vm found by name");
                Ok(id)
            }
            Ok(None) | Err(_) => Err(error),
        }
    }

    /// Deletes the VM of this id if it is known, or shows itself, to be the fleet's.
    async fn delete_one(&self, name: &RunnerName, id: &VmId) -> Result<bool, PortError> {
        let known = self.own().get(id) == Some(name);
        if !known {
            match servers::is_ours(&self.api, &self.fleet, name, id).await? {
                Some(true) => {}
                Some(false) => {
                    tracing::warn!(runner = %name, vm = %id, "vm is not this fleet's, left alone");
                    return Ok(false);
                }
                None => return Ok(false),
            }
        }
        let taken_on = servers::delete(&self.api, &self.force, name, id).await?;
        if !taken_on {
            self.own().remove(id);
        }
        Ok(taken_on)
    }
}

impl OpenStack {
    async fn launch_in_turn(&self, order: &LaunchOrder) -> Result<VmId, PortError> {
        let turn = self.launching.entry(order.name.clone()).or_default().clone();
        let guard = turn.lock().await;
        let launched = self.launch_alone(order).await;
        drop(guard);
        drop(turn);
        self.launching.remove_if(&order.name, |_, turn| Arc::strong_count(turn) == 1);
        launched
    }

    async fn delete_all(
        &self,
        name: &RunnerName,
        id: Option<&VmId>,
    ) -> Result<Deletion, PortError> {
        if let Some(id) = id
            && self.delete_one(name, id).await?
        {
            return Ok(Deletion::Accepted);
        }
        // Gone is said of the name: a second VM of it, or one whose id nobody knows, counts too.
        let mut deletion = Deletion::Gone;
        for vm in servers::of_name(&self.api, &self.fleet, name).await? {
            if servers::delete(&self.api, &self.force, name, &vm.id).await? {
                deletion = Deletion::Accepted;
            }
        }
        if deletion == Deletion::Gone && self.in_doubt(name).is_some() {
            return Ok(Deletion::Accepted);
        }
        Ok(deletion)
    }

    async fn sweep(&self) -> Result<Listing<Vm>, PortError> {
        let as_of = self.clock.now();
        let (listing, stamps) =
            servers::list(&self.api, &self.fleet, self.page_size, as_of).await?;
        if listing.complete {
            self.since().listed(stamps.all, stamps.date, self.clock.now());
        }
        let seen = listing.entries.iter().map(|vm| (vm.id.clone(), vm.name.clone()));
        {
            let mut own = self.own();
            if listing.complete {
                own.clear();
            }
            own.extend(seen);
        }
        for vm in &listing.entries {
            self.doubtful.remove(&vm.name);
        }
        self.doubtful.retain(|_, until| as_of < *until);
        // A launch whose future was dropped has left its entry behind.
        self.launching.retain(|_, turn| Arc::strong_count(turn) > 1);
        Ok(listing)
    }

    async fn changed(&self) -> Result<Option<Recent>, PortError> {
        let as_of = self.clock.now();
        let Some(since) = self.since().question(as_of) else { return Ok(None) };
        let asked = servers::recent(&self.api, &self.fleet, self.page_size, (since, as_of)).await;
        let now = self.clock.now();
        let (recent, stamps) = match asked {
            Ok(told) => told,
            Err(error) => {
                match error.class {
                    // Of the cloud, not of this question.
                    ErrorClass::Auth | ErrorClass::RateLimited { .. } => {}
                    ErrorClass::Transient => self.since().doubt(now, &error.what),
                    // It does not take the question.
                    _ => {
                        self.since().leave(now, &error.what);
                        return Ok(None);
                    }
                }
                return Err(error);
            }
        };
        if let Err(why) = self.since().told(&stamps.all, stamps.date, since, now) {
            tracing::debug!(
                why,
                "what the cloud tells of changes is not believed, everything is listed"
            );
            return Ok(None);
        }
        self.own().extend(recent.changed.iter().map(|vm| (vm.id.clone(), vm.name.clone())));
        for vm in &recent.changed {
            self.doubtful.remove(&vm.name);
        }
        Ok(Some(recent))
    }
}

#[async_trait]
impl Provider for OpenStack {
    async fn launch(&self, order: LaunchOrder) -> Result<VmId, PortError> {
        let what = || format!("creating VM {}", order.name);
        let launched = self.bounded(what, self.launch_in_turn(&order)).await;
        launched.map_err(|error| {
            // Cut off between the create and its answer, the VM may be there.
            let certain = error.certain && self.in_doubt(&order.name).is_none();
            error.leaving_nothing(certain)
        })
    }

    async fn delete(&self, name: &RunnerName, id: Option<&VmId>) -> Result<Deletion, PortError> {
        self.bounded(|| format!("deleting VM {name}"), self.delete_all(name, id)).await
    }

    async fn list(&self) -> Result<Listing<Vm>, PortError> {
        self.bounded(|| "listing the fleet's VMs".to_owned(), self.sweep()).await
    }

    fn tells_recent(&self) -> bool {
        self.since().question(self.clock.now()).is_some()
    }

    async fn recent(&self) -> Result<Option<Recent>, PortError> {
        let what = || "asking what has changed of the fleet's VMs".to_owned();
        self.bounded(what, self.changed()).await
    }

    fn status(&self) -> PortStatus {
        self.api.status()
    }
}
