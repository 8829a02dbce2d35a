//! What the fake GitHub knows: registrations, sessions and jobs. No HTTP and no fault in here.
//!
//! A job is matched when it is queued and when a runner comes online, so no change needs a look at
//! more than one side of the match, and a fleet of thousands stays cheap.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use runner_fleet_actors::name::Scope;
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};

use super::{Group, Options, Stats};

/// A job's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// A connected listener.
#[derive(Debug)]
pub(crate) struct Session {
    /// Which connection it is: an older listener of the same runner has no say any more.
    pub(crate) number: u64,
    /// Rung when a job is assigned or the registration goes.
    pub(crate) bell: Arc<Notify>,
}

/// A registered runner.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) id: u64,
    pub(crate) scope: Scope,
    pub(crate) name: String,
    pub(crate) group: u64,
    labels: Vec<String>,
    set: BTreeSet<String>,
    key: String,
    pub(crate) session: Option<Session>,
    pub(crate) job: Option<u64>,
    connected_before: bool,
}

impl Registration {
    /// The runner as the API shows it.
    pub(crate) fn shown(&self, busy_lies: bool) -> Value {
        let labels: Vec<Value> = self
            .labels
            .iter()
            .enumerate()
            .map(|(at, name)| json!({"id": at + 1, "name": name, "type": "custom"}))
            .collect();
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
            "status": if self.session.is_some() { "online" } else { "offline" },
            "busy": self.job.is_some() && !busy_lies,
            "labels": labels,
            "ephemeral": true,
            "version": version,
        })
    }
}

#[derive(Debug)]
struct JobState {
    scope: Scope,
    labels: BTreeSet<String>,
    runs_for: Duration,
    queued: Instant,
    runner: Option<u64>,
}

/// Everything that GitHub knows.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) groups: Vec<Group>,
    registrations: BTreeMap<u64, Registration>,
    by_name: HashMap<(Scope, String), u64>,
    /// Jobs that wait or run; ended ones are only counted. Waiting ones are served in this order.
    jobs: BTreeMap<u64, JobState>,
    last_id: u64,
    rng: SmallRng,
    stats: Stats,
}

/// Why a deregistration is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotRemoved {
    Unknown,
    Busy,
}

fn set_of(labels: &[String]) -> BTreeSet<String> {
    labels.iter().map(|label| label.to_lowercase()).collect()
}

impl World {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            groups: options.groups.clone(),
            registrations: BTreeMap::new(),
            by_name: HashMap::new(),
            jobs: BTreeMap::new(),
            last_id: 0,
            rng: SmallRng::seed_from_u64(options.seed),
            stats: Stats::default(),
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Registers a runner. `None` where the name is taken in that scope.
    pub(crate) fn register(
        &mut self,
        scope: &Scope,
        name: &str,
        group: u64,
        labels: &[String],
    ) -> Option<u64> {
        let place = (scope.clone(), name.to_lowercase());
        if self.by_name.contains_key(&place) {
            return None;
        }
        let id = self.next_id();
        let key = format!("{:032x}", self.rng.random::<u128>());
        let registration = Registration {
            id,
            scope: scope.clone(),
            name: name.to_owned(),
            group,
            labels: labels.to_vec(),
            set: set_of(labels),
            key,
            session: None,
            job: None,
            connected_before: false,
        };
        self.by_name.insert(place, id);
        self.registrations.insert(id, registration);
        self.stats.registered += 1;
        Some(id)
    }

    /// Registers a runner, whatever was there under that name.
    pub(crate) fn add(&mut self, scope: &Scope, name: &str, labels: &[String]) -> u64 {
        if let Some(old) = self.by_name.get(&(scope.clone(), name.to_lowercase())) {
            self.remove(*old);
        }
        self.register(scope, name, 1, labels).unwrap_or_default()
    }

    pub(crate) fn get(&self, scope: &Scope, id: u64) -> Option<&Registration> {
        self.registrations.get(&id).filter(|one| one.scope == *scope)
    }

    pub(crate) fn of<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a Registration> {
        self.registrations.values().filter(move |one| one.scope == *scope)
    }

    /// The JIT config of a registration: what GitHub's looks like from outside, with a key inside
    /// that is good for this registration only.
    pub(crate) fn jit_config(&self, id: u64) -> Option<String> {
        let one = self.registrations.get(&id)?;
        let inner = |value: Value| BASE64_STANDARD.encode(value.to_string());
        let config = json!({
            ".runner": inner(json!({"AgentId": one.id.to_string(), "AgentName": one.name,
                "Ephemeral": "True", "WorkFolder": "_work"})),
            ".credentials": inner(json!({"Scheme": "OAuth", "Data": {"ClientId": one.key}})),
        });
        Some(inner(config))
    }

    /// The registration that a JIT config was made for; `Err` where the text is no JIT config,
    /// `Ok(None)` where its registration is gone.
    pub(crate) fn of_config(&self, encoded: &str) -> Result<Option<u64>, ()> {
        let open = |text: &str| -> Option<Value> {
            let bytes = BASE64_STANDARD.decode(text.trim()).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let config = open(encoded).ok_or(())?;
        let part = |name: &str| config.get(name).and_then(Value::as_str).and_then(open).ok_or(());
        let (runner, credentials) = (part(".runner")?, part(".credentials")?);
        let id = runner.get("AgentId").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let key = credentials.pointer("/Data/ClientId").and_then(Value::as_str).ok_or(())?;
        let found = self.registrations.get(&id.ok_or(())?).filter(|one| one.key == key);
        Ok(found.map(|one| one.id))
    }

    /// Brings a runner online. `None` where it is so already.
    pub(crate) fn connect(&mut self, id: u64) -> Option<(u64, Arc<Notify>)> {
        let number = self.next_id();
        let one = self.registrations.get_mut(&id)?;
        if one.session.is_some() {
            return None;
        }
        let bell = Arc::new(Notify::new());
        one.session = Some(Session { number, bell: Arc::clone(&bell) });
        one.connected_before = true;
        self.serve_runner(id);
        Some((number, bell))
    }

    /// Takes a runner offline: its VM died or was stopped. A job on it is lost.
    pub(crate) fn disconnect(&mut self, id: u64, session: u64) {
        let Some(one) = self.session_of(id, session) else { return };
        one.session = None;
        if let Some(job) = one.job.take() {
            self.lose(job);
        }
    }

    /// The registration, if this session is its present one.
    fn session_of(&mut self, id: u64, session: u64) -> Option<&mut Registration> {
        self.registrations
            .get_mut(&id)
            .filter(|one| one.session.as_ref().is_some_and(|s| s.number == session))
    }

    /// What the session has to do: `None` where it is deregistered.
    pub(crate) fn assigned(&mut self, id: u64, session: u64) -> Option<Option<(JobId, Duration)>> {
        let job = self.session_of(id, session)?.job;
        Some(job.and_then(|job| self.jobs.get(&job).map(|state| (JobId(job), state.runs_for))))
    }

    /// Ends the session's job; the runner's registration ends with it.
    pub(crate) fn complete(&mut self, id: u64, session: u64, success: bool) {
        let Some(job) = self.session_of(id, session).and_then(|one| one.job.take()) else { return };
        self.jobs.remove(&job);
        self.stats.completed += 1;
        if !success {
            self.stats.failed += 1;
        }
        self.remove(id);
    }

    /// Deregisters a runner. With `busy_lies`, also one with a job: the job is lost.
    pub(crate) fn deregister(
        &mut self,
        scope: &Scope,
        id: u64,
        busy_lies: bool,
    ) -> Result<(), NotRemoved> {
        let one = self.get(scope, id).ok_or(NotRemoved::Unknown)?;
        if one.job.is_some() && !busy_lies {
            return Err(NotRemoved::Busy);
        }
        self.remove(id);
        Ok(())
    }

    fn remove(&mut self, id: u64) {
        let Some(one) = self.registrations.remove(&id) else { return };
        self.by_name.remove(&(one.scope, one.name.to_lowercase()));
        if let Some(job) = one.job {
            self.lose(job);
        }
        if let Some(session) = one.session {
            session.bell.notify_waiters();
            session.bell.notify_one();
        }
    }

    fn lose(&mut self, job: u64) {
        if self.jobs.remove(&job).is_some() {
            self.stats.lost += 1;
        }
    }

    pub(crate) fn queue(&mut self, scope: &Scope, labels: &[String], runs_for: Duration) -> JobId {
        let id = self.next_id();
        let job = JobState {
            scope: scope.clone(),
            labels: set_of(labels),
            runs_for,
            queued: Instant::now(),
            runner: None,
        };
        let idle = self.registrations.values().find(|one| takes(one, &job)).map(|one| one.id);
        self.jobs.insert(id, job);
        if let Some(runner) = idle {
            self.start(id, runner);
        }
        JobId(id)
    }

    fn serve_runner(&mut self, runner: u64) {
        let Some(one) = self.registrations.get(&runner) else { return };
        let waiting = self.jobs.iter().find(|(_, job)| job.runner.is_none() && takes(one, job));
        if let Some(job) = waiting.map(|(id, _)| *id) {
            self.start(job, runner);
        }
    }

    fn start(&mut self, job: u64, runner: u64) {
        let (Some(state), Some(one)) =
            (self.jobs.get_mut(&job), self.registrations.get_mut(&runner))
        else {
            return;
        };
        state.runner = Some(runner);
        one.job = Some(job);
        self.stats.waits.push(state.queued.elapsed());
        if let Some(session) = &one.session {
            session.bell.notify_one();
        }
    }

    pub(crate) fn demand(&self, scope: &Scope, labels: &[String]) -> (u32, u32) {
        let wanted = set_of(labels);
        let ours = self.jobs.values().filter(|job| job.scope == *scope && job.labels == wanted);
        ours.fold((0, 0), |(waiting, running), job| match job.runner {
            None => (waiting + 1, running),
            Some(_) => (waiting, running + 1),
        })
    }

    pub(crate) fn stats(&self) -> Stats {
        let running = self.jobs.values().filter(|job| job.runner.is_some()).count() as u64;
        let online = self.registrations.values().filter(|one| one.session.is_some()).count();
        Stats {
            registrations: self.registrations.len() as u64,
            online: online as u64,
            queued: self.jobs.len() as u64 - running,
            running,
            ..self.stats.clone()
        }
    }
}

fn takes(runner: &Registration, job: &JobState) -> bool {
    runner.session.is_some()
        && runner.job.is_none()
        && runner.scope == job.scope
        && job.labels.is_subset(&runner.set)
}
