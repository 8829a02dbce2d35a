//! What the fake GitHub knows: registrations, sessions and jobs. No HTTP and no fault in here.
//!
//! A job is matched when it is queued and when a runner comes online, so no change needs a look at
//! more than one side of the match, and a fleet of thousands stays cheap.
//!
//! A job is given to a runner (*assigned*) and then taken by it (*acquired*), as at GitHub: from the
//! assignment on the runner is busy, but only an acquired job is lost with its runner. One that
//! nobody took goes back to the queue.

mod alarm;
mod job;
mod registration;

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

use self::{
    alarm::{Alarm, Alarms},
    job::JobState,
    registration::{Registration, Session},
};
use super::{Group, Options, RegistrationRecord, Stats, applications::Shelf, faults::Lies};

pub use job::{JobId, JobRecord, Lost};

/// Who calls: a registration and which of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) registration: u64,
    pub(crate) session: u64,
}

/// Everything that GitHub knows.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) groups: Vec<Group>,
    pub(crate) shelf: Shelf,
    registrations: BTreeMap<u64, Registration>,
    by_name: HashMap<(Scope, String), u64>,
    /// Jobs that wait or run. Waiting ones are served in this order.
    jobs: BTreeMap<u64, JobState>,
    ended: Vec<JobRecord>,
    alarms: Alarms,
    assignment_timeout: Duration,
    silence: Duration,
    /// GitHub is out of reach: nobody's silence counts.
    away: bool,
    /// Silence before this moment does not count.
    back: Instant,
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
            shelf: Shelf::default(),
            registrations: BTreeMap::new(),
            by_name: HashMap::new(),
            jobs: BTreeMap::new(),
            ended: Vec::new(),
            alarms: Alarms::default(),
            assignment_timeout: options.assignment_timeout,
            silence: options.silence,
            away: false,
            back: Instant::now(),
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
            registered: Instant::now(),
            session: None,
            job: None,
            connected_before: false,
            used: false,
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

    /// Brings a runner online. `None` where it is so already. A listener in this process is heard
    /// as long as it lives; any other one by its calls.
    pub(crate) fn connect(&mut self, id: u64, in_process: bool) -> Option<(Caller, Arc<Notify>)> {
        let number = self.next_id();
        let one = self.registrations.get_mut(&id)?;
        if one.online() {
            return None;
        }
        let session = Session::new(number, u32::from(in_process));
        let bell = Arc::clone(&session.bell);
        one.session = Some(session);
        if !std::mem::replace(&mut one.connected_before, true) {
            self.stats.starts.push(one.registered.elapsed());
        }
        let caller = Caller { registration: id, session: number };
        if !in_process {
            self.watch(caller, Instant::now());
        }
        self.serve_runner(id);
        Some((caller, bell))
    }

    fn watch(&mut self, caller: Caller, heard: Instant) {
        let Caller { registration, session } = caller;
        self.alarms.set(heard + self.silence, Alarm::Silence { registration, session });
    }

    /// Takes a runner offline: its VM died or was stopped. The job that it acquired is lost.
    pub(crate) fn disconnect(&mut self, caller: Caller) {
        let Some(one) = self.of_caller(caller) else { return };
        one.session = None;
        if let Some(job) = one.job.take() {
            self.let_go(job, Lost::Disconnected);
        }
    }

    /// The registration, if this session is its present one.
    fn of_caller(&mut self, caller: Caller) -> Option<&mut Registration> {
        self.registrations
            .get_mut(&caller.registration)
            .filter(|one| one.session.as_ref().is_some_and(|s| s.number == caller.session))
    }

    fn session(&mut self, caller: Caller) -> Option<&mut Session> {
        self.of_caller(caller)?.session.as_mut()
    }

    /// A call of that session is there: it is heard, and online again if it was not.
    pub(crate) fn call_begins(&mut self, caller: Caller) {
        let Some(session) = self.session(caller) else { return };
        session.open += 1;
        session.heard = Instant::now();
        if !std::mem::replace(&mut session.online, true) {
            self.watch(caller, Instant::now());
            self.serve_runner(caller.registration);
        }
    }

    /// That call is over, answered or broken off.
    pub(crate) fn call_ends(&mut self, caller: Caller) {
        let Some(session) = self.session(caller) else { return };
        session.open = session.open.saturating_sub(1);
        session.heard = Instant::now();
    }

    /// The session asks for jobs: what rings for it, and `None` where it is deregistered.
    pub(crate) fn listens(&mut self, caller: Caller) -> Option<Arc<Notify>> {
        let session = self.session(caller)?;
        let bell = Arc::clone(&session.bell);
        if std::mem::take(&mut session.deaf) {
            self.serve_runner(caller.registration);
        }
        Some(bell)
    }

    /// The job of that session, assigned or acquired: `None` where it is deregistered.
    pub(crate) fn job_of(&mut self, caller: Caller) -> Option<Option<JobRecord>> {
        let job = self.of_caller(caller)?.job;
        Some(job.and_then(|job| self.jobs.get(&job)).map(|state| state.record.clone()))
    }

    /// The session takes the job that it was assigned. `false` where it is not its job any more.
    pub(crate) fn acquire(&mut self, caller: Caller, job: JobId) -> bool {
        let Some(one) = self.of_caller(caller).filter(|one| one.job == Some(job.0)) else {
            return false;
        };
        one.used = true;
        let Some(state) = self.jobs.get_mut(&job.0) else { return false };
        if !state.is_acquired() {
            state.record.acquired_at = Some(chrono::Utc::now());
            self.stats.waits.push(state.queued.elapsed());
        }
        true
    }

    /// Whether the session's job goes on. `false` where GitHub has cancelled it.
    pub(crate) fn renew(&mut self, caller: Caller, job: JobId) -> bool {
        self.of_caller(caller).is_some_and(|one| one.job == Some(job.0))
            && self.jobs.get(&job.0).is_some_and(JobState::is_acquired)
    }

    /// Ends the job that the session has acquired; the runner's registration ends with it.
    pub(crate) fn complete(&mut self, caller: Caller, job: JobId, result: &str) {
        if !self.renew(caller, job) {
            return;
        }
        if let Some(one) = self.of_caller(caller) {
            one.job = None;
        }
        let Some(mut state) = self.jobs.remove(&job.0) else { return };
        state.record.completed_at = Some(chrono::Utc::now());
        state.record.result = Some(result.to_owned());
        self.ended.push(state.record);
        self.stats.completed += 1;
        if result != "success" {
            self.stats.failed += 1;
        }
        self.remove(caller.registration);
    }

    /// Deregisters a runner. Where GitHub's flag lies about its job, also a busy one: what it
    /// acquired is lost.
    pub(crate) fn deregister(
        &mut self,
        scope: &Scope,
        id: u64,
        lies: &Lies,
    ) -> Result<(), NotRemoved> {
        let one = self.get(scope, id).ok_or(NotRemoved::Unknown)?;
        if one.busy(lies) {
            return Err(NotRemoved::Busy);
        }
        self.remove(id);
        Ok(())
    }

    fn remove(&mut self, id: u64) {
        let Some(one) = self.registrations.remove(&id) else { return };
        self.by_name.remove(&(one.scope, one.name.to_lowercase()));
        if let Some(job) = one.job {
            self.let_go(job, Lost::Deregistered);
        }
        if let Some(session) = one.session {
            session.ring();
        }
    }

    /// The job has its runner no more: an acquired one is lost, any other one is served anew.
    fn let_go(&mut self, job: u64, why: Lost) {
        let Some(state) = self.jobs.get_mut(&job) else { return };
        if !state.is_acquired() {
            state.unassign();
            return self.serve_job(job);
        }
        if let Some(mut state) = self.jobs.remove(&job) {
            state.record.lost = Some((chrono::Utc::now(), why));
            self.ended.push(state.record);
            self.stats.lost += 1;
        }
    }

    pub(crate) fn queue(&mut self, scope: &Scope, labels: &[String], runs_for: Duration) -> JobId {
        let id = self.next_id();
        self.jobs.insert(id, JobState::new(id, scope, set_of(labels), runs_for));
        self.serve_job(id);
        JobId(id)
    }

    fn serve_job(&mut self, job: u64) {
        let Some(state) = self.jobs.get(&job) else { return };
        let idle = self.registrations.values().find(|one| takes(one, state)).map(|one| one.id);
        if let Some(runner) = idle {
            self.assign(job, runner);
        }
    }

    fn serve_runner(&mut self, runner: u64) {
        let Some(one) = self.registrations.get(&runner) else { return };
        let waiting = self.jobs.iter().find(|(_, job)| job.runner.is_none() && takes(one, job));
        if let Some(job) = waiting.map(|(id, _)| *id) {
            self.assign(job, runner);
        }
    }

    fn assign(&mut self, job: u64, runner: u64) {
        let (Some(state), Some(one)) =
            (self.jobs.get_mut(&job), self.registrations.get_mut(&runner))
        else {
            return;
        };
        state.assign(runner, &one.name);
        one.job = Some(job);
        let alarm = Alarm::Assignment { job, assignment: state.record.assignments };
        self.alarms.set(Instant::now() + self.assignment_timeout, alarm);
        if let Some(session) = &one.session {
            session.ring();
        }
    }

    /// GitHub is out of reach, or is back.
    pub(crate) fn set_away(&mut self, away: bool) {
        self.away = away;
        self.back = Instant::now();
    }

    /// Does what is due by itself; says when to come again.
    pub(crate) fn turn(&mut self, now: Instant) -> Option<Instant> {
        while let Some(alarm) = self.alarms.due(now) {
            match alarm {
                Alarm::Silence { registration, session } => {
                    self.look_at_session(Caller { registration, session }, now);
                }
                Alarm::Assignment { job, assignment } => self.look_at_job(job, assignment),
            }
        }
        self.alarms.next()
    }

    /// Rung when [`turn`](Self::turn) is due earlier than it said.
    pub(crate) fn earlier(&self) -> Arc<Notify> {
        Arc::clone(&self.alarms.earlier)
    }

    fn look_at_session(&mut self, caller: Caller, now: Instant) {
        let (away, back, silence) = (self.away, self.back, self.silence);
        let Some(session) = self.session(caller) else { return };
        if !session.online {
            return;
        }
        let heard = if away || session.open > 0 { now } else { session.heard.max(back) };
        if heard + silence > now {
            return self.watch(caller, heard);
        }
        session.online = false;
        if let Some(job) = self.of_caller(caller).and_then(|one| one.job.take()) {
            self.let_go(job, Lost::Silent);
        }
    }

    fn look_at_job(&mut self, job: u64, assignment: u32) {
        let Some(state) = self.jobs.get(&job) else { return };
        if state.is_acquired() || state.record.assignments != assignment {
            return;
        }
        let Some(one) = state.runner.and_then(|runner| self.registrations.get_mut(&runner)) else {
            return;
        };
        one.job = None;
        if let Some(session) = &mut one.session {
            session.deaf = true;
        }
        self.let_go(job, Lost::Silent);
    }

    pub(crate) fn demand(&self, scope: &Scope, labels: &[String]) -> (u32, u32) {
        let wanted = set_of(labels);
        let ours =
            self.jobs.values().filter(|job| job.record.scope == *scope && job.labels == wanted);
        ours.fold((0, 0), |(waiting, running), job| match job.runner {
            None => (waiting + 1, running),
            Some(_) => (waiting, running + 1),
        })
    }

    pub(crate) fn stats(&self) -> Stats {
        let running = self.jobs.values().filter(|job| job.runner.is_some()).count() as u64;
        let online = self.registrations.values().filter(|one| one.online()).count();
        Stats {
            registrations: self.registrations.len() as u64,
            online: online as u64,
            queued: self.jobs.len() as u64 - running,
            running,
            ..self.stats.clone()
        }
    }

    /// All jobs so far, in the order in which they were queued.
    pub(crate) fn records(&self) -> Vec<JobRecord> {
        let open = self.jobs.values().map(|state| &state.record);
        let mut all: Vec<JobRecord> = self.ended.iter().chain(open).cloned().collect();
        all.sort_by_key(|record| record.id);
        all
    }

    pub(crate) fn registered(&self) -> Vec<RegistrationRecord> {
        let record = |one: &Registration| RegistrationRecord {
            id: one.id,
            scope: one.scope.clone(),
            name: one.name.clone(),
            online: one.online(),
            job: one.job.map(JobId),
        };
        self.registrations.values().map(record).collect()
    }
}

fn takes(runner: &Registration, job: &JobState) -> bool {
    runner.session.as_ref().is_some_and(|session| session.online && !session.deaf)
        && runner.job.is_none()
        && !runner.used
        && runner.scope == job.record.scope
        && job.labels.is_subset(&runner.set)
}
