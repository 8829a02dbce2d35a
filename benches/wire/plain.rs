//! What a fleet is measured beside: a plain loop that lists both sides every two seconds, asks for whatever is
//! missing, and takes away what is off, or too much and not said to be busy.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use futures::{StreamExt, stream};
use runner_fleet::{github::Github, provider::openstack::OpenStack};
use runner_fleet_actors::{
    name::RunnerName,
    port::{
        Clock, Forge, LaunchOrder, PortError, Provider, RegisterOrder, Time, TokioClock, UserData,
        Vm, VmStatus,
    },
};
use tokio::{runtime::Handle, task::JoinHandle};

use super::{AT_ONCE, LABEL, Outside, fleet_id, pool_name, scope, shape};

/// Between two rounds.
pub const PAUSE: Duration = Duration::from_secs(2);

/// A loop that keeps as many runners as `wanted` says, until it is aborted.
pub async fn keep(io: &Handle, outside: &Outside, wanted: Arc<AtomicU32>) -> JoinHandle<()> {
    let plain = Plain::new(io, outside).await;
    io.spawn(async move {
        loop {
            let _vms = plain.round(wanted.load(Ordering::Relaxed) as usize).await;
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// What the loop knows.
pub struct Plain {
    forge: Github,
    provider: OpenStack,
    token: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl Plain {
    pub async fn new(io: &Handle, outside: &Outside) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Utc::now()));
        let forge = outside.forge(io, Arc::clone(&clock));
        let provider = outside.provider(io, Arc::clone(&clock)).await;
        Self { forge, provider, token: AtomicU64::new(0), clock }
    }

    /// One round, and how many VMs it saw; `None` where a side could not be listed.
    pub async fn round(&self, wanted: usize) -> Option<usize> {
        let scope = scope();
        let (vms, registrations) = tokio::join!(self.provider.list(), self.forge.list(&scope));
        let (vms, registrations) = (vms.ok()?.entries, registrations.ok()?.entries);
        let registrations: BTreeMap<_, _> =
            registrations.iter().map(|one| (&one.name, one)).collect();
        let lives = |vm: &&Vm| !matches!(vm.status, VmStatus::Stopped | VmStatus::Deleting);
        let busy = |vm: &&Vm| registrations.get(&vm.name).is_some_and(|r| r.busy == Some(true));
        let live = vms.iter().filter(lives).count();
        let off = vms.iter().filter(|vm| vm.status == VmStatus::Stopped);
        let idle = vms.iter().filter(lives).filter(|vm| !busy(vm));
        let gone = off.chain(idle.take(live.saturating_sub(wanted)));
        let at_once = AT_ONCE as usize;
        // What a plain loop does about a failure: the next round sees what is left.
        stream::iter(gone)
            .for_each_concurrent(at_once, async |vm| {
                if let Some(one) = registrations.get(&vm.name) {
                    let _kept = self.forge.deregister(&scope, &vm.name, Some(one.id)).await;
                }
                let _kept = self.provider.delete(&vm.name, Some(&vm.id)).await;
            })
            .await;
        stream::iter(0..wanted.saturating_sub(live))
            .for_each_concurrent(at_once, async |_| {
                let token = self.token.fetch_add(1, Ordering::Relaxed);
                let _missing = launch(&self.forge, &self.provider, token, self.clock.wall()).await;
            })
            .await;
        Some(vms.len())
    }
}

/// The two calls that a runner takes.
pub async fn launch(
    forge: &impl Forge,
    provider: &impl Provider,
    token: u64,
    created_at: Time,
) -> Result<(), PortError> {
    let name = RunnerName::new(&fleet_id(), &pool_name(), token);
    let (group, labels) = (None, vec![LABEL.to_owned()]);
    let order = RegisterOrder { name: name.clone(), scope: scope(), group, labels };
    let registered = forge.register(&order).await?;
    let user_data = runner_fleet::guest::Guest::default().render(&name, &registered.jit_config)?;
    let (pool, scope, shape) = (pool_name(), scope(), shape());
    let order = LaunchOrder { name, pool, scope, shape, user_data, created_at, fresh: true };
    provider.launch(order).await.map(|_| ())
}
