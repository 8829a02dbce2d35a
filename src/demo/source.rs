//! Who tells a demo's fleet of its jobs: what the configuration says of it, how a job is told, how the
//! telling fails, and how much was told.
//!
//! A job is always queued at the fake GitHub; a source only decides how the fleet hears of it. The
//! numbers are those of whoever tells, not the fleet's own: the fleet is what is on trial.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use runner_fleet_actors::{name::Scope, port::Secret};
use serde::Serialize;

use super::{LABEL, POOL, SCOPE, write_secret};
use crate::{
    cli::DemoDemand,
    demand::queue::line::Broker,
    fake::{
        broker::FakeBroker,
        github::{FakeGithub, HookOptions, HookTarget, JobId, Mishap, SetCall},
    },
};

/// The number of the demo's webhook at the fake GitHub.
const HOOK: u64 = 1;
const SECRET_FILE: &str = "webhook-secret";
const ADDRESS_FILE: &str = "queue-address";
/// What becomes of webhooks while they are not to be relied on; the rest comes as it should.
const MISHAPS: [(Mishap, f64); 4] = [
    (Mishap::Lost, 0.1),
    (Mishap::Unheard, 0.05),
    (Mishap::Twice, 0.1),
    (Mishap::Late(Duration::from_millis(700)), 0.1),
];

/// Who tells the fleet of jobs.
pub(super) enum Source {
    /// Nobody.
    Static,
    /// Webhooks: where the daemon listens, and what they are signed with.
    Webhook(SocketAddr, Secret),
    /// A runner scale set, called as the pool.
    ScaleSet,
    /// A queue, called as the pool.
    Queue(FakeBroker),
}

/// What a source has told.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Signals {
    /// Its word in the configuration.
    pub demand: &'static str,
    /// Webhooks that came and were taken, messages of a scale set that were acknowledged, messages of
    /// a queue that were handed out.
    pub signals: u64,
    /// Of webhooks those that did not come or were not heard to be answered, of a queue's messages
    /// those that came again, of a scale set how often a session was asked for again.
    pub signals_amiss: u64,
}

impl Source {
    /// Lays down in `folder` what the configuration names.
    pub(super) fn new(kind: DemoDemand, folder: &Path) -> io::Result<Self> {
        Ok(match kind {
            DemoDemand::Static => Self::Static,
            DemoDemand::ScaleSet => Self::ScaleSet,
            DemoDemand::Webhook => {
                let secret = uuid::Uuid::new_v4().simple().to_string();
                write_secret(&folder.join(SECRET_FILE), &secret)?;
                // Free now; the daemon asks for it a moment later.
                let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                Self::Webhook(socket.local_addr()?, Secret::new(secret))
            }
            DemoDemand::Queue => {
                // Wanted by the configuration, and never read: the broker is in this process.
                write_secret(&folder.join(ADDRESS_FILE), "mongodb://in-this-process")?;
                Self::Queue(FakeBroker::default())
            }
        })
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Webhook(..) => "webhook",
            Self::ScaleSet => "scale-set",
            Self::Queue(_) => "queue",
        }
    }

    /// What the configuration says of it, besides the pool.
    pub(super) fn section(&self) -> String {
        match self {
            Self::Static | Self::ScaleSet => String::new(),
            Self::Webhook(listen, _) => {
                format!("[webhooks]\nlisten = \"{listen}\"\nsecret_file = \"{SECRET_FILE}\"\n")
            }
            Self::Queue(_) => {
                format!("[queue]\nkind = \"mongodb\"\nurl_file = \"{ADDRESS_FILE}\"\n")
            }
        }
    }

    /// What `[[pools]]` says of it.
    pub(super) fn of_pool(&self) -> String {
        format!("demand = [\"{}\"]", self.word())
    }

    /// Whose queues the daemon reads.
    pub(super) fn broker(&self) -> Option<Arc<dyn Broker>> {
        match self {
            Self::Queue(broker) => Some(Arc::new(broker.clone())),
            _ => None,
        }
    }

    /// The daemon listens: from now on jobs can be told.
    pub(super) fn open(&self, github: &FakeGithub) {
        let (Self::Webhook(listen, secret), Ok(scope)) = (self, SCOPE.parse::<Scope>()) else {
            return;
        };
        github.add_hook(HookOptions {
            url: format!("http://{listen}/webhooks/github"),
            secret: Some(secret.clone()),
            id: HOOK,
            target: HookTarget::Scope(scope),
        });
    }

    /// Queues jobs at GitHub, so that the fleet hears of them.
    pub(super) fn queue(&self, github: &FakeGithub, scope: &Scope, runs: &[Duration]) {
        let labels = [LABEL.to_owned()];
        let mut queued: Vec<JobId> = Vec::new();
        for runs_for in runs {
            queued.push(match self {
                Self::ScaleSet => github.queue_job_for_scale_set(scope, POOL, *runs_for),
                _ => github.queue_job(scope, &labels, *runs_for),
            });
        }
        if let Self::Queue(broker) = self {
            for job in github.jobs().into_iter().filter(|job| queued.contains(&job.id)) {
                let (base, repository, id) = (github.url(), job.repository, job.id.0);
                let url = format!("{base}/api/v3/repos/{repository}/actions/jobs/{id}");
                broker.put_job(POOL, &labels, &url);
            }
        }
    }

    /// Webhooks are not to be relied on from now on, or are again.
    pub(super) fn be_unreliable(&self, github: &FakeGithub, on: bool) {
        github.faults().deliveries(if on { &MISHAPS } else { &[] });
    }

    /// The line to the source breaks. What was said over it last is said again.
    pub(super) fn hang_up(&self, github: &FakeGithub) {
        match self {
            Self::Static | Self::Webhook(..) => {}
            Self::ScaleSet => {
                github.faults().repeat_last_messages();
                github.faults().drop_sessions();
            }
            Self::Queue(broker) => broker.hang_up(),
        }
    }

    /// What it has told so far.
    pub(super) fn told(&self, github: &FakeGithub) -> Signals {
        let (signals, signals_amiss) = match self {
            Self::Static => (0, 0),
            Self::Webhook(..) => {
                let stats = github.stats();
                (stats.delivered, stats.undelivered)
            }
            Self::ScaleSet => {
                let sessions = github.set_calls(SetCall::OpenSession);
                (github.set_calls(SetCall::Acknowledge), sessions.saturating_sub(1))
            }
            Self::Queue(broker) => {
                let stats = broker.stats();
                (stats.handed, stats.repeated)
            }
        };
        Signals { demand: self.word(), signals, signals_amiss }
    }
}

impl Signals {
    /// For a person.
    pub(super) fn words(&self) -> String {
        let Self { demand, signals, signals_amiss } = self;
        match *demand {
            "webhook" => format!(
                "{signals} webhooks came; {signals_amiss} more were lost, or not heard to be answered"
            ),
            "scale-set" => format!(
                "{signals} messages of the scale set taken; its session was opened {signals_amiss} \
                 times again"
            ),
            "queue" => {
                format!("{signals} messages of the queue came, {signals_amiss} of them again")
            }
            _ => "none: idle runners wait for jobs (static)".to_owned(),
        }
    }
}
