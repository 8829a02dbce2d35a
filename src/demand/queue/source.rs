//! Queues as a source of the daemon's.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture};
use runner_fleet_actors::{
    event::{FleetEvent, Phase},
    port::{Clock, DemandSource, PortError},
};
use tokio_util::sync::CancellationToken;

use super::{Queue, QueueConfig, QueuePool, Surroundings};
use crate::{
    config::{self, Config, DemandKind, Env, Mark, Marker, Pool, SecretSource},
    demand::{
        JobEars, SOURCES, served,
        source::{Change, House, Kind, Source, details, no_change},
    },
    github::Github,
    http::api::SourceStatus,
    provider::{Finding, Grade},
    tasks::Tasks,
};

/// `[queue]`, and pools with `demand = ["queue"]`.
pub struct OfQueues;

/// What a reload may change about queues.
#[derive(Clone, PartialEq)]
struct Wanted {
    access: config::Queue,
    github: String,
    pools: Vec<QueuePool>,
    /// What the broker's address and authorities are.
    held: Option<Mark>,
}

impl Wanted {
    fn of(config: &Config) -> Option<Self> {
        let access = config.queue.clone()?;
        let fed = |pool: &&Pool| pool.demand.contains(&DemandKind::Queue);
        let pools = config.pools.iter().filter(fed).map(|pool| QueuePool {
            queue: pool.queue.clone(),
            serves: served(SOURCES, pool),
            max: pool.max,
        });
        let (github, held) = (config.github.url.to_string(), OfQueues.held(config));
        Some(Self { access, github, pools: pools.collect(), held })
    }

    fn access(&self) -> QueueConfig {
        QueueConfig::of(&self.access, &self.github, Env::of_process())
    }
}

#[async_trait]
impl Kind for OfQueues {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn make(&self, _: &Config, house: &House) -> Result<Option<Box<dyn Source>>, String> {
        let (state, tasks) = (Mutex::default(), Tasks::default());
        Ok(Some(Box::new(Watching { house: house.clone(), state, tasks })))
    }

    fn held(&self, config: &Config) -> Option<Mark> {
        let queue = config.queue.as_ref()?;
        Some(Marker::default().secret(&queue.url).files(&queue.ca_file).done())
    }

    fn holdings(&self) -> &'static str {
        "the queue's address and authorities"
    }

    fn secrets<'a>(&self, config: &'a Config) -> Vec<(&'static str, &'a SecretSource)> {
        config.queue.iter().map(|queue| ("queue.url", &queue.url)).collect()
    }

    fn names_jobs_of(&self, pool: &Pool, _: &Config) -> bool {
        pool.demand.contains(&DemandKind::Queue)
    }

    async fn ask(
        &self,
        config: &Config,
        _: Option<&Arc<Github>>,
        _: &Arc<dyn Clock>,
    ) -> Vec<Finding> {
        let Some(wanted) = Wanted::of(config) else { return Vec::new() };
        let fault =
            |about: &str, error: PortError| Finding::new(Grade::Fault, about, error.to_string());
        let broker = match wanted.access().broker() {
            Ok(broker) => broker,
            Err(error) => return vec![fault("kind", error)],
        };
        let names: BTreeSet<_> = wanted.pools.iter().map(|pool| &pool.queue).collect();
        let mut all = Vec::new();
        for name in names {
            all.push(match broker.waiting(name).await {
                Ok(Some(waiting)) => {
                    Finding::new(Grade::Fine, name, format!("{waiting} messages wait"))
                }
                Ok(None) => {
                    let what = "no such queue yet; the daemon declares it as kombu does";
                    Finding::new(Grade::Fine, name, what)
                }
                Err(error) => fault(name, error),
            });
        }
        all
    }
}

/// The queues of one configuration, and how they are left alone.
struct Line {
    source: Arc<Queue>,
    stop: CancellationToken,
    wanted: Wanted,
    /// The watch, before it has begun.
    watch: Option<BoxFuture<'static, ()>>,
}

#[derive(Default)]
struct State {
    line: Option<Line>,
    started: bool,
}

struct Watching {
    house: House,
    state: Mutex<State>,
    tasks: Tasks,
}

impl Watching {
    /// A poisoned lock holds which queues are watched; that is as good as before the panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, wanted: Wanted) -> Result<Line, String> {
        let told = |error: PortError| format!("queue: {}", error.what);
        let House { desk, records, observer, clock, terms, .. } = self.house.clone();
        let access = wanted.access();
        let broker = match terms.broker {
            Some(broker) => broker,
            None => access.broker().map_err(told)?,
        };
        let around = Surroundings { desk, forge: records, observer, clock };
        let stop = self.tasks.stop().child_token();
        let (source, watch) =
            Queue::new(&access, broker, &wanted.pools, &around, stop.clone()).map_err(told)?;
        Ok(Line { source, stop, wanted, watch: Some(watch.boxed()) })
    }

    fn begin(&self, line: &mut Line) {
        if let Some(watch) = line.watch.take() {
            self.tasks.spawn(watch);
        }
    }
}

#[async_trait]
impl Source for Watching {
    /// Where something is new all queues are watched anew: what the earlier watch held goes back to its
    /// broker and comes to the new one.
    fn configure<'a>(&'a self, config: &Config) -> Result<Change<'a>, String> {
        let wanted = Wanted::of(config);
        if self.state().line.as_ref().map(|line| &line.wanted) == wanted.as_ref() {
            return Ok(no_change());
        }
        let new = wanted.map(|wanted| self.line(wanted)).transpose()?;
        Ok(Box::new(move || {
            let mut state = self.state();
            let old = std::mem::replace(&mut state.line, new);
            if state.started {
                state.line.iter_mut().for_each(|line| self.begin(line));
            }
            old.iter().for_each(|old| old.stop.cancel());
        }))
    }

    fn of(&self, pool: &Pool) -> Option<Arc<dyn DemandSource>> {
        let state = self.state();
        let line = state.line.as_ref().filter(|_| pool.demand.contains(&DemandKind::Queue))?;
        Some(Arc::clone(&line.source) as Arc<dyn DemandSource>)
    }

    fn status(&self) -> Vec<SourceStatus> {
        let queues = self.state().line.as_ref().map(|line| line.source.status());
        let all = queues.into_iter().flatten().map(|status| SourceStatus {
            source: format!("queue {}", status.queue),
            connected_since: status.connected_since,
            last_word_at: status.last_message_at,
            signals: status.received,
            last_error: status.last_error.clone(),
            failing_since: status.failing_since,
            details: details(&status),
        });
        all.collect()
    }

    fn observe(&self, event: &FleetEvent) {
        if let FleetEvent::Transition { transition, .. } = event
            && transition.to == Phase::Busy
            && let Some(line) = &self.state().line
        {
            line.source.job_taken(&transition.runner.pool(), None);
        }
    }

    async fn start(&self, _: &Arc<dyn JobEars>) -> Result<(), String> {
        let mut state = self.state();
        state.started = true;
        state.line.iter_mut().for_each(|line| self.begin(line));
        Ok(())
    }

    async fn stop(&self) {
        self.tasks.end().await;
    }
}
