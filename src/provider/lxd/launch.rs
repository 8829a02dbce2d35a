//! A launch: look for a name that is not fresh, create, start, and clear up behind a failure. A name that is
//! there all the same is LXD's to refuse: it has none twice.
//!
//! It runs as a task of its own, so that a caller who gives up half-way does not leave an instance
//! that nobody starts. The caller waits for it a while ([`super::LxdConfig::follow`]) and then leaves
//! it to listings.

use std::{sync::Arc, time::Duration};

use http::Method;
use runner_fleet_actors::{
    name::{RunnerName, VmId},
    port::{
        Change, Deletion, ErrorClass, LaunchOrder, LxdKind, LxdShape, PortError, Standing, Time,
        Vm, VmStatus, grounds,
    },
};
use serde_json::json;
use tokio::sync::oneshot;

use super::{
    Inner,
    answer::fault_class,
    api::{Call, Outcome, Server},
    order,
    vm::{Own, Seen},
};
use crate::provider::text::tidy;

/// How long an operation is followed at most: an image of some gigabytes over a slow line. The brain
/// has given the launch up long before.
const FOLLOWED: Duration = Duration::from_secs(3600);
/// How long a failed launch is remembered for listings, should nobody ask for its deletion.
const REMEMBERED: chrono::TimeDelta = chrono::TimeDelta::hours(1);
/// How long the removal of what a launch left is waited for: nobody else waits for it, and a failure
/// is not certain before it is done.
const CLEARED: Duration = Duration::from_secs(60);
/// Between two questions for an operation, where LXD could not be asked.
const PAUSE: Duration = Duration::from_secs(2);

/// What this process knows of a launch beyond what listings show.
#[derive(Debug, Clone)]
pub(super) enum Launch {
    /// Its task runs.
    UnderWay {
        /// As a listing should show it where LXD shows nothing yet.
        vm: Box<Vm>,
        /// Its caller went away with a promise.
        left: bool,
        /// Its end was asked for meanwhile.
        unwanted: bool,
    },
    /// It failed after its caller had left with a promise.
    Failed {
        /// As a listing should show it.
        vm: Box<Vm>,
        /// When.
        at: Time,
    },
    /// LXD may have been asked, and has not answered.
    Doubtful {
        /// Until when the VM may still appear.
        until: Time,
    },
}

/// Makes one VM.
pub(super) async fn launch(inner: &Arc<Inner>, order: LaunchOrder) -> Result<VmId, PortError> {
    let name = order.name.clone();
    order::part_of(&order.shape)?;
    let turn = inner.turns.entry(name.clone()).or_default().clone();
    let turn = turn.lock_owned().await;
    let vm = Box::new(as_ordered(&order));
    let begun = Launch::UnderWay { vm, left: false, unwanted: false };
    inner.launches.insert(name.clone(), begun);
    let (taken, was_taken) = oneshot::channel();
    let standing = grounds::current();
    let mut task = tokio::spawn({
        let inner = Arc::clone(inner);
        async move {
            let made = inner.make(&order, standing, taken).await;
            let made = inner.end(&order, made).await;
            drop(turn);
            inner.turns.remove_if(&order.name, |_, turn| Arc::strong_count(turn) == 1);
            made
        }
    });
    let promised = async {
        // Where the task ends without it, its own end comes first.
        let _ended = was_taken.await;
        tokio::time::sleep(inner.follow).await;
    };
    tokio::select! {
        made = &mut task => return of_task(&name, made),
        () = promised => {}
    }
    // Under the entry's lock: either the task still has to read this, or it has ended.
    if let Some(mut entry) = inner.launches.get_mut(&name)
        && let Launch::UnderWay { left, .. } = entry.value_mut()
    {
        *left = true;
        drop(entry);
        tracing::debug!(runner = %name, "creation goes on in the background");
        return Ok(VmId(name.as_str().to_owned()));
    }
    of_task(&name, task.await)
}

fn of_task(
    name: &RunnerName,
    made: Result<Result<VmId, PortError>, tokio::task::JoinError>,
) -> Result<VmId, PortError> {
    made.unwrap_or_else(|error| {
        let what = format!("creating VM {name}: broken off: {error}");
        Err(PortError::doubtful(ErrorClass::Transient, what))
    })
}

fn as_ordered(order: &LaunchOrder) -> Vm {
    Vm {
        name: order.name.clone(),
        id: VmId(order.name.as_str().to_owned()),
        status: VmStatus::Building,
        created_at: Some(order.created_at),
        shape: Some(order.shape.digest()),
        scope: Some(order.scope.clone()),
        address: None,
        task: None,
    }
}

impl Inner {
    /// After the task's work: what of it is still to be remembered or undone.
    async fn end(
        &self,
        order: &LaunchOrder,
        made: Result<VmId, PortError>,
    ) -> Result<VmId, PortError> {
        let name = &order.name;
        self.has_ended(name).await;
        let known = self.launches.get(name).map(|entry| entry.value().clone());
        if let Some(Launch::UnderWay { unwanted: true, .. }) = known {
            let removed = self.clear(name).await;
            tracing::info!(runner = %name, ?removed, "vm was to be deleted while it was made");
        }
        let mut entry = match self.launches.get_mut(name) {
            Some(entry) => entry,
            None => return made,
        };
        let Launch::UnderWay { vm, left, unwanted } = entry.value() else { return made };
        let next = match &made {
            Err(error) if *left && !*unwanted => {
                tracing::warn!(runner = %name, error = %error, "creation in the background failed");
                let mut vm = vm.clone();
                vm.status =
                    VmStatus::Error { class: error.class, fault: error.what.clone().into() };
                Some(Launch::Failed { vm, at: self.now() })
            }
            Err(error) if !error.certain => {
                Some(Launch::Doubtful { until: self.now() + self.doubt })
            }
            _ => None,
        };
        // Only who left with a promise is still to be told; everybody else has the answer itself.
        let told = match (&next, &made) {
            (Some(Launch::Failed { vm, .. }), _) => Some(vm.status.clone()),
            (None, Ok(_)) if *left && !*unwanted => Some(VmStatus::Active),
            _ => None,
        };
        match next {
            Some(next) => {
                *entry = next;
                drop(entry);
            }
            None => {
                drop(entry);
                self.launches.remove(name);
            }
        }
        if let Some(status) = told {
            self.hub.tell(Change { name: name.clone(), status, as_of: self.now() });
        }
        made
    }

    /// Forgets launches that nobody will ask for any more.
    pub(super) fn forget_old_launches(&self, now: Time) {
        self.launches.retain(|_, launch| match launch {
            Launch::UnderWay { .. } => true,
            Launch::Failed { at, .. } => now < *at + REMEMBERED,
            Launch::Doubtful { until } => now < *until,
        });
    }

    /// The instance of this name as it is now.
    pub(super) async fn look(&self, name: &RunnerName) -> Result<Option<Seen>, PortError> {
        let call = Call::read(format!("looking for VM {name}"), ["instances", name.as_str()]);
        let found = self.api.find(call).await?;
        Ok(found.map(|element| super::vm::read(&element, &self.fleet, self.now())))
    }

    async fn make(
        &self,
        order: &LaunchOrder,
        standing: Option<Standing>,
        taken: oneshot::Sender<()>,
    ) -> Result<VmId, PortError> {
        let name = &order.name;
        let lxd = order::part_of(&order.shape)?;
        let tried = format!("creating VM {name}");
        let server = self.api.server().await?;
        can_make(server, lxd, &tried)?;
        if !order.fresh
            && let Some(id) = self.already_there(name).await?
        {
            return Ok(id);
        }
        self.let_through(name, lxd).await?;
        let resolved = order::resolve(&self.api, &order.shape, lxd).await?;
        let call = order::create(&self.fleet, order, lxd, resolved, server);
        // It alone goes on these grounds: what follows ends what was begun.
        let begun = match standing {
            Some(standing) => standing.under(self.begin(&call, order)).await,
            None => self.begin(&call, order).await,
        };
        let operation = match begun {
            Ok(operation) => operation,
            // Nothing was asked, so nothing is there.
            Err(error) if error.local => return Err(error),
            Err(error) => return self.failed(order, error).await,
        };
        let _nobody_waits = taken.send(());
        if let Err(error) = self.follow(&tried, &operation).await {
            return self.failed(order, error).await;
        }
        if !server.has(order::CREATE_START) {
            if self.is_unwanted(name) {
                return Ok(VmId(name.as_str().to_owned()));
            }
            if let Err(error) = self.start(name).await {
                return self.failed(order, error).await;
            }
        }
        Ok(VmId(name.as_str().to_owned()))
    }

    fn is_unwanted(&self, name: &RunnerName) -> bool {
        let known = self.launches.get(name);
        matches!(known.as_deref(), Some(Launch::UnderWay { unwanted: true, .. }))
    }

    /// A VM of this name from an earlier launch. One that was never started is replaced: its user
    /// data holds a JIT config that is void since a new one was asked for.
    async fn already_there(&self, name: &RunnerName) -> Result<Option<VmId>, PortError> {
        match self.look(name).await? {
            None => Ok(None),
            Some(Seen::Ours(own)) if own.started || own.runs => {
                tracing::info!(runner = %name, "vm of this name is there already");
                Ok(Some(own.vm.id))
            }
            Some(Seen::Ours(_)) => match self.clear(name).await? {
                Deletion::Gone => Ok(None),
                Deletion::Accepted => {
                    let what = format!(
                        "creating VM {name}: one of that name that was never started is still \
                         being deleted"
                    );
                    Err(PortError::certain(ErrorClass::Transient, what))
                }
            },
            Some(_) => {
                let what = format!(
                    "creating VM {name}: an instance of that name is there and is not this \
                     fleet's: rename or delete it"
                );
                Err(PortError::certain(ErrorClass::Invalid, what))
            }
        }
    }

    async fn begin(&self, call: &Call<'_>, order: &LaunchOrder) -> Result<String, PortError> {
        let secrets = [order.user_data.expose()];
        let answer = self.api.send(call).await?.success(&call.tried, call.purpose, &secrets)?;
        answer.operation().map(str::to_owned).ok_or_else(|| {
            let what = format!("{}: the answer names no operation", call.tried);
            PortError::doubtful(ErrorClass::Transient, what)
        })
    }

    /// Follows an operation to its end.
    ///
    /// # Errors
    /// Its own failure, certain; doubtful where it cannot be known.
    async fn follow(&self, tried: &str, operation: &str) -> Result<(), PortError> {
        let followed = async {
            loop {
                match self.api.wait(tried, operation, FOLLOWED).await {
                    Ok(Outcome::Running) => {}
                    Ok(ended) => return ended,
                    Err(error) => {
                        tracing::debug!(error = %error, "operation cannot be asked for");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        let doubt =
            |why: &str| Err(PortError::doubtful(ErrorClass::Transient, format!("{tried}: {why}")));
        match tokio::time::timeout(FOLLOWED, followed).await {
            Ok(Outcome::Done) => Ok(()),
            Ok(Outcome::Failed(text)) => {
                let what = format!("{tried}: {}", tidy(&text, &[]));
                Err(PortError::certain(fault_class(&text), what))
            }
            Ok(Outcome::Forgotten | Outcome::Running) => {
                doubt("LXD forgot it, by a restart perhaps")
            }
            Err(_) => doubt("it did not end within an hour"),
        }
    }

    async fn start(&self, name: &RunnerName) -> Result<(), PortError> {
        let tried = format!("starting VM {name}");
        let body = json!({ "action": "start", "timeout": 60 });
        let path = ["instances", name.as_str(), "state"];
        let call = Call::change(&tried, Method::PUT, path, Some(body));
        let answer = self.api.send(&call).await?.success(&tried, call.purpose, &[])?;
        match answer.operation() {
            Some(operation) => self.follow(&tried, operation).await,
            None => Ok(()),
        }
    }

    /// After a step that failed: is the VM there all the same; else nothing may be left of it, and
    /// the person is told what is missing.
    async fn failed(&self, order: &LaunchOrder, error: PortError) -> Result<VmId, PortError> {
        let name = &order.name;
        match self.look(name).await {
            // Not there, or not there yet: as certain as the failure itself.
            Ok(None) => return Err(self.explain(order, error).await),
            Err(_) => return Err(error.leaving_nothing(false)),
            Ok(Some(Seen::Ours(own))) if runs_as_ordered(&own) => {
                tracing::info!(runner = %name, "vm is there although its creation seemed to fail");
                return Ok(own.vm.id);
            }
            Ok(Some(Seen::Ours(_))) => {
                let removed = self.clear(name).await;
                if !matches!(removed, Ok(Deletion::Gone)) {
                    return Err(error.leaving_nothing(false));
                }
            }
            Ok(Some(_)) => {}
        }
        Err(self.explain(order, error.leaving_nothing(true)).await)
    }

    /// Removes what there is of this name and stays until it is gone, or the patience is at its end.
    async fn clear(&self, name: &RunnerName) -> Result<Deletion, PortError> {
        let cleared = async {
            loop {
                match self.remove(name, CLEARED).await {
                    Ok(Deletion::Accepted) => tokio::time::sleep(PAUSE).await,
                    ended => return ended,
                }
            }
        };
        tokio::time::timeout(CLEARED, cleared).await.unwrap_or(Ok(Deletion::Accepted))
    }

    /// LXD says in prose what was not found; asked for by name, it says it clearly.
    async fn explain(&self, order: &LaunchOrder, error: PortError) -> PortError {
        let unclear = matches!(
            error.class,
            ErrorClass::NotFound | ErrorClass::Invalid | ErrorClass::Transient
        );
        let Some(lxd) = order.shape.lxd.as_ref().filter(|_| unclear) else { return error };
        let missing = self.missing(&order.shape, lxd).await;
        let error = match &lxd.image_server {
            // LXD's words name the image, and not where it was looked for.
            Some(server) if error.what.contains("image") => {
                let what = format!("{} (image server: {})", error.what, server.url);
                PortError::certain(error.class, what).leaving_nothing(error.certain)
            }
            _ => error,
        };
        if missing.is_empty() {
            let class = match error.class {
                ErrorClass::NotFound => ErrorClass::Invalid,
                other => other,
            };
            return error.classed(class);
        }
        // What names something that is not there has made nothing.
        PortError::certain(ErrorClass::Invalid, format!("{} ({})", error.what, missing.join("; ")))
    }
}

fn runs_as_ordered(own: &Own) -> bool {
    own.runs && own.started
}

fn can_make(server: &Server, lxd: &LxdShape, tried: &str) -> Result<(), PortError> {
    // In a cluster the asked member speaks for itself only.
    if lxd.kind == LxdKind::Container || server.clustered || server.drivers.contains("qemu") {
        return Ok(());
    }
    let what = format!(
        "{tried}: this {} makes no virtual machines (its driver is {:?}): its log says why at its \
         start; QEMU, /dev/kvm and the module vhost_vsock are needed",
        server.version, server.drivers
    );
    Err(PortError::certain(ErrorClass::Invalid, what))
}
