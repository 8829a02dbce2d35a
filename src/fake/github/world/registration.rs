//! A registered runner and its session.

use std::{collections::BTreeSet, sync::Arc};

use runner_fleet_actors::name::Scope;
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};

use super::super::faults::Lies;

/// A runner application's connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// Which connection it is: an older one of the same runner has no say any more.
    pub(super) number: u64,
    /// Rung when a job is assigned or the registration goes.
    pub(super) bell: Arc<Notify>,
    /// Whether it is heard often enough.
    pub(super) online: bool,
    /// When it was heard last.
    pub(super) heard: Instant,
    /// Calls of it that wait for their answer now. A listener in this process is one long call.
    pub(super) open: u32,
    /// It let an assignment run out. It gets no other one before it asks for jobs again.
    pub(super) deaf: bool,
}

impl Session {
    pub(super) fn new(number: u64, open: u32) -> Self {
        let bell = Arc::default();
        Self { number, bell, online: true, heard: Instant::now(), open, deaf: false }
    }

    pub(super) fn ring(&self) {
        // Whoever waits now, and whoever is just about to.
        self.bell.notify_waiters();
        self.bell.notify_one();
    }
}

/// A registered runner.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) id: u64,
    pub(crate) scope: Scope,
    pub(crate) name: String,
    pub(super) group: u64,
    pub(super) labels: Vec<String>,
    pub(super) set: BTreeSet<String>,
    /// The labels that it was registered with.
    pub(super) first_set: BTreeSet<String>,
    pub(super) key: String,
    pub(super) registered: Instant,
    pub(super) session: Option<Session>,
    /// The job that is assigned to it or that it has acquired.
    pub(super) job: Option<u64>,
    /// When that was assigned.
    pub(super) given: Option<Instant>,
    pub(super) connected_before: bool,
    /// It has acquired a job; a JIT runner gets no other one.
    pub(super) used: bool,
    /// The scale set that it is of.
    pub(crate) set_of: Option<u64>,
}

impl Registration {
    pub(super) fn online(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.online)
    }

    /// Whether GitHub takes it for busy.
    pub(super) fn busy(&self, lies: &Lies) -> bool {
        self.job.is_some_and(|job| !lies.about(job)) && !lies.hide(self.given)
    }

    /// Its labels as the API shows them: a JIT runner has those that it was registered with, and no others.
    pub(crate) fn shown_labels(&self) -> Vec<Value> {
        let label = |(at, name)| json!({"id": at + 1, "name": name, "type": "custom"});
        self.labels.iter().enumerate().map(label).collect()
    }

    /// The runner as the API shows it.
    pub(crate) fn shown(&self, lies: &Lies) -> Value {
        let (os, version) = if self.connected_before {
            ("linux", json!("2.336.0"))
        } else {
            ("unknown", Value::Null)
        };
        json!({
            "id": self.id,
            "runner_group_id": self.group,
            "name": self.name,
            "os": os,
            "status": if self.online() { "online" } else { "offline" },
            "busy": self.busy(lies),
            "labels": self.shown_labels(),
            "ephemeral": true,
            "version": version,
        })
    }
}
