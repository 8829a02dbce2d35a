//! What a fleet is measured beside: a plain loop that lists both sides every two seconds, asks for whatever is
//! missing, and takes away what is too much and not said to be busy.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use futures::{StreamExt, stream};
use runner_fleet_actors::{
    name::RunnerName,
    port::{Clock, Forge, LaunchOrder, Provider, RegisterOrder, TokioClock, UserData},
};
use tokio::{runtime::Handle, task::JoinHandle};

use super::{AT_ONCE, LABEL, Outside, fleet_id, pool_name, scope, shape};

/// A loop that keeps as many runners as `wanted` says, until it is aborted.
pub async fn keep(io: &Handle, outside: &Outside, wanted: Arc<AtomicU32>) -> JoinHandle<()> {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Utc::now()));
    let forge = Arc::new(outside.forge(io, Arc::clone(&clock)));
    let provider = Arc::new(outside.provider(io, Arc::clone(&clock)).await);
    io.spawn(async move {
        let (mut token, scope) = (0, scope());
        loop {
            if let (Ok(vms), Ok(registrations)) = tokio::join!(provider.list(), forge.list(&scope))
            {
                let (there, wanted) =
                    (vms.entries.len() as u64, u64::from(wanted.load(Ordering::Relaxed)));
                let launches = stream::iter(token..token + wanted.saturating_sub(there));
                token += wanted.saturating_sub(there);
                let launch = |token| launch(&*forge, &*provider, token, clock.wall());
                launches.for_each_concurrent(AT_ONCE as usize, launch).await;
                let registrations = registrations.entries.iter();
                let busy: BTreeSet<_> = registrations
                    .filter(|one| one.busy == Some(true))
                    .map(|one| &one.name)
                    .collect();
                let idle = vms.entries.iter().filter(|vm| !busy.contains(&vm.name));
                for vm in idle.take(there.saturating_sub(wanted) as usize) {
                    // What a plain loop does about a failure: the next round sees what is left.
                    let _kept = forge.deregister(&scope, &vm.name, None).await;
                    let _kept = provider.delete(&vm.name, Some(&vm.id)).await;
                }
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    })
}

async fn launch(
    forge: &impl Forge,
    provider: &impl Provider,
    token: u64,
    created_at: chrono::DateTime<Utc>,
) {
    let name = RunnerName::new(&fleet_id(), &pool_name(), token);
    let (group, labels) = (None, vec![LABEL.to_owned()]);
    let order = RegisterOrder { name: name.clone(), scope: scope(), group, labels };
    let Ok(registered) = forge.register(&order).await else { return };
    let user_data = runner_fleet::guest::Guest::default().render(&name, &registered.jit_config);
    let user_data = user_data.unwrap();
    let (pool, scope, shape) = (pool_name(), scope(), shape());
    let _failed = provider
        .launch(LaunchOrder { name, pool, scope, shape, user_data, created_at, fresh: true })
        .await;
}
