//! Whoever tells of demand, asked before a daemon depends on it.
//!
//! No message is taken, no session opened and nothing made: another daemon may be at work with the
//! same queue or scale set. A webhook cannot be asked for, so of webhooks only what lies on this
//! machine is read; that they arrive is shown by `status` later.

use std::{collections::BTreeSet, sync::Arc};

use runner_fleet_actors::port::{Clock, PortError};

use super::{Asked, FAULT, OK, WARNING};
use crate::{
    config::{Config, DemandKind, Env},
    daemon::sources,
    github::{
        Github,
        planner::{Pace, Planner},
        queue::QueueConfig,
        scale_set::{self, Found, PoolSet},
    },
};

fn asked(whom: &str, about: &str, (grade, what): (&'static str, String)) -> Asked {
    Asked { grade, whom: whom.to_owned(), about: about.to_owned(), what }
}

fn fault(error: &PortError) -> (&'static str, String) {
    (FAULT, error.to_string())
}

/// Without a `github` nothing is said of scale sets: why there is none is said already.
pub(super) async fn ask(
    config: &Config,
    github: Option<&Arc<Github>>,
    clock: &Arc<dyn Clock>,
) -> Vec<Asked> {
    let mut all = Vec::from_iter(ask_webhooks(config));
    if let Some(github) = github {
        all.extend(ask_scale_sets(config, github).await);
    }
    all.extend(ask_queues(config).await);
    all.extend(ask_planner(config, clock).await);
    all
}

fn ask_webhooks(config: &Config) -> Option<Asked> {
    let secrets = sources::secrets(config.webhooks.as_ref()?);
    let found = match secrets {
        Ok(_) => (OK, "can be read".to_owned()),
        Err(why) => (FAULT, why),
    };
    Some(asked("webhooks", "secrets", found))
}

async fn ask_scale_sets(config: &Config, github: &Arc<Github>) -> Vec<Asked> {
    let mut all = Vec::new();
    for set in config.pools.iter().filter_map(PoolSet::of) {
        let found = match scale_set::look(Arc::clone(github), &set).await {
            Ok(Found::None) => (OK, "none of that name yet; the daemon makes it".to_owned()),
            Ok(Found::Set { id, missing }) if missing.is_empty() => {
                (OK, format!("there, as number {id}"))
            }
            Ok(Found::Set { id, missing }) => {
                let missing = missing.join(", ");
                let what = format!(
                    "there, as number {id}, without the pool's labels {missing}: jobs that ask for \
                     them are not given to it; delete it, or choose another name"
                );
                (WARNING, what)
            }
            Err(error) => fault(&error),
        };
        all.push(asked("scale set", &format!("{} of {}", set.name, set.scope), found));
    }
    all
}

async fn ask_queues(config: &Config) -> Vec<Asked> {
    let Some(queues) = sources::queues(config) else { return Vec::new() };
    let access = QueueConfig::of(&queues.access, &queues.github, Env::of_process());
    let broker = match access.broker() {
        Ok(broker) => broker,
        Err(error) => return vec![asked("queue", "kind", fault(&error))],
    };
    let names: BTreeSet<_> = queues.pools.iter().map(|pool| &pool.queue).collect();
    let mut all = Vec::new();
    for name in names {
        let found = match broker.waiting(name).await {
            Ok(Some(waiting)) => (OK, format!("{waiting} messages wait")),
            Ok(None) => (OK, "no such queue yet; the daemon declares it as kombu does".to_owned()),
            Err(error) => fault(&error),
        };
        all.push(asked("queue", name, found));
    }
    all
}

async fn ask_planner(config: &Config, clock: &Arc<dyn Clock>) -> Vec<Asked> {
    let Some(access) = &config.planner else { return Vec::new() };
    let planner = Planner::new(access, Env::of_process(), Arc::clone(clock), Pace::default());
    let told = match planner {
        Ok(planner) => planner.ask().await,
        Err(error) => Err(error),
    };
    let pressures = match told {
        Ok(pressures) => pressures,
        Err(error) => return vec![asked("planner", "pressure", fault(&error))],
    };
    let pools = config.pools.iter().filter(|pool| pool.demand.contains(&DemandKind::Planner));
    let one = |flavor: &String| match pressures.get(flavor.as_str()) {
        Some(pressure) => (OK, format!("{pressure} runners wanted in all")),
        None => {
            let known =
                pressures.keys().map(|flavor| flavor.as_str()).collect::<Vec<_>>().join(", ");
            let what = format!("the planner does not tell this flavor; it tells {known}");
            (FAULT, format!("{what}; correct planner_flavor, or make the flavor"))
        }
    };
    pools
        .map(|pool| {
            asked("planner", &format!("flavor {}", pool.planner_flavor), one(&pool.planner_flavor))
        })
        .collect()
}
