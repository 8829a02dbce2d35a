//! Demand from a queue: jobs that Canonical's webhook router (or its webhook gateway) puts into RabbitMQ
//! or, by kombu, into MongoDB.
//!
//! The rules:
//!
//! - *A message is acknowledged only when its job runs or is gone.* Until then it stays in the queue, so
//!   a daemon that is killed has lost nothing; GitHub is asked, less and less often ([`verdict`]).
//! - *A job is counted by its number, not by its messages.* News go to the desk, which keeps them and
//!   counts; a message that comes again, or twice, changes nothing there. What the desk cannot know,
//!   the messages that wait behind those that are held, is added here.
//! - *Known only while the line stands.* Without a connection, or before the first look at the queue,
//!   demand is unknown, never zero.
//! - *Whoever may write to the queue is not trusted:* a job must be one of the configured GitHub's
//!   ([`message`]); anything else goes to the dead letters with a line in the journal.
//!
//! | file | what |
//! | --- | --- |
//! | `message.rs`, `kombu.rs` | pure: what a message says; kombu's envelope in MongoDB |
//! | `verdict.rs`, `held.rs` | pure: what becomes of a message; which are held, and when is asked |
//! | `line.rs` | what is asked of a broker; `amqp.rs`, `mongo.rs` the two |
//! | `watch.rs`, `status.rs` | the shell: one queue, from its connection to its demand; what it says of itself |

#[cfg(feature = "amqp")]
pub mod amqp;
pub mod held;
pub mod kombu;
#[cfg_attr(
    not(any(feature = "amqp", feature = "mongodb")),
    allow(dead_code, reason = "some of it is for the clients only")
)]
pub mod line;
pub mod message;
#[cfg(feature = "mongodb")]
pub mod mongo;
pub mod source;
mod status;
pub mod verdict;
mod watch;

use std::{collections::BTreeMap, fmt, io, path::PathBuf, sync::Arc};

use runner_fleet_actors::{
    demand::Demand,
    job::Serves,
    name::PoolName,
    port::{Clock, DemandSource, Observer, PortError},
};
use tokio::{sync::watch as channel, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::status::QueueStatus;
use self::{line::Broker, message::Origin, watch::Watch};
use super::desk::Desk;
use crate::{
    config::{self, Env, QueueKind},
    github::{TokenSource, records::Records},
};

/// One broker and how it is reached.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// Which kind.
    pub kind: QueueKind,
    /// Where: an address with its password, read anew for each connection.
    pub address: TokenSource,
    /// Certificates to trust besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// `[github] url`: whose jobs these are.
    pub github: String,
}

impl QueueConfig {
    /// As `[queue]` says it, for the GitHub of `[github] url`.
    #[must_use]
    pub fn of(queue: &config::Queue, github: &str, env: Env) -> Self {
        let source = queue.url.clone();
        let read = move || source.read(&env).map_err(|error| io::Error::other(error.to_string()));
        Self {
            kind: queue.kind,
            address: TokenSource::from_fn(read),
            ca_file: queue.ca_file.clone(),
            github: github.to_owned(),
        }
    }

    /// The broker behind the address. Connects to nothing yet.
    ///
    /// # Errors
    /// This build lacks the client of that kind; a configuration that names it is refused before.
    pub fn broker(&self) -> Result<Arc<dyn Broker>, PortError> {
        match self.kind {
            #[cfg(feature = "amqp")]
            QueueKind::Amqp => {
                Ok(Arc::new(amqp::Amqp::new(self.address.clone(), self.ca_file.clone())))
            }
            #[cfg(feature = "mongodb")]
            QueueKind::Mongodb => {
                Ok(Arc::new(mongo::Mongo::new(self.address.clone(), self.ca_file.clone())))
            }
            #[cfg(not(all(feature = "amqp", feature = "mongodb")))]
            kind => {
                use runner_fleet_actors::port::ErrorClass;
                let what = format!("this runner-fleet was built without {}", kind.as_str());
                Err(PortError::certain(ErrorClass::Invalid, what))
            }
        }
    }
}

/// A pool that is fed by a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePool {
    /// The queue's name. Several pools may share one; labels decide then.
    pub queue: String,
    /// What the pool serves.
    pub serves: Serves,
    /// VMs at most: more messages than these, and some, are not held.
    pub max: u32,
}

/// What the watch of a queue needs of the house.
#[derive(Clone)]
pub struct Surroundings {
    /// Keeps and counts the jobs.
    pub desk: Arc<Desk>,
    /// Whom to ask about a job.
    pub forge: Arc<dyn Records>,
    /// Gets a line for the journal of whatever is rejected or fails.
    pub observer: Arc<dyn Observer>,
    /// The one way to the time of day.
    pub clock: Arc<dyn Clock>,
}

/// Demand from queues.
pub struct Queue {
    pools: BTreeMap<PoolName, watch::Outlet>,
    statuses: Vec<status::Shared>,
    nobody: channel::Sender<Option<Demand>>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("pools", &self.pools.keys()).finish_non_exhaustive()
    }
}

impl Queue {
    /// Prepares the source and its task, which runs until `stop`; connects to nothing yet. `broker` is
    /// [`QueueConfig::broker`], or whoever stands in for it. The task must run in the runtime that
    /// outlives it.
    ///
    /// # Errors
    /// `Invalid` where the address of GitHub cannot be used.
    pub fn new(
        config: &QueueConfig,
        broker: Arc<dyn Broker>,
        pools: &[QueuePool],
        around: &Surroundings,
        stop: CancellationToken,
    ) -> Result<(Arc<Self>, impl Future<Output = ()> + Send + 'static), PortError> {
        let origin = Origin::new(&config.github)?;
        let mut by_queue: BTreeMap<&str, Vec<&QueuePool>> = BTreeMap::new();
        for pool in pools {
            by_queue.entry(&pool.queue).or_default().push(pool);
        }
        let (mut outlets, mut statuses, mut watches) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (queue, pools) in by_queue {
            let (watch, own) =
                Watch::new(config.kind, queue, &pools, Arc::clone(&broker), origin.clone(), around);
            statuses.push(watch.status());
            watches.push(watch);
            outlets.extend(own);
        }
        let source =
            Arc::new(Self { pools: outlets, statuses, nobody: channel::Sender::new(None) });
        let task = async move {
            let mut running = JoinSet::new();
            for watch in watches {
                running.spawn(watch.run(stop.clone()));
            }
            while running.join_next().await.is_some() {}
        };
        Ok((source, task))
    }

    /// One of the pool's runners has taken a job, of `repository` where that is known: the queue looks
    /// which of its jobs that was, and does not wait for the next check. A hint, and harmless.
    pub fn job_taken(&self, pool: &PoolName, repository: Option<&str>) {
        if let Some(outlet) = self.pools.get(pool) {
            outlet.hurry(repository);
        }
    }

    /// What there is to say of each queue.
    #[must_use]
    pub fn status(&self) -> Vec<QueueStatus> {
        self.statuses.iter().map(status::Shared::read).collect()
    }
}

impl DemandSource for Queue {
    fn watch(&self, pool: &PoolName) -> channel::Receiver<Option<Demand>> {
        match self.pools.get(pool) {
            Some(outlet) => outlet.demand(),
            None => self.nobody.subscribe(),
        }
    }
}

#[cfg(test)]
mod tests;
