//! What the fake GitHub knows: registrations, sessions and jobs. No HTTP and no fault in here.
//!
//! A job is matched when it is queued and when a runner comes online, so no change needs a look at
//! more than one side of the match, and a fleet of thousands stays cheap.
//!
//! A job is given to a runner (*assigned*) and then taken by it (*acquired*), as at GitHub: from the
//! assignment on the runner is busy, but only an acquired job is lost with its runner. One that
//! nobody took goes back to the queue.

mod alarm;
mod fit;
mod job;
mod letter;
mod news;
mod queue;
mod registration;
mod session;
mod sets;

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
    letter::Word,
    registration::Registration,
    sets::ScaleSet,
};
use super::{
    Group, Options, RegistrationRecord, Stats, applications::Shelf, faults::Lies, renames::Renames,
};

pub use job::{JobId, JobOrder, JobRecord, Lost};
pub(crate) use news::{Action, News, Wire};
pub(crate) use sets::NoLetter;
pub use sets::ScaleSetRecord;

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
    sets: BTreeMap<u64, ScaleSet>,
    /// Scale sets must acquire their jobs, as at a GitHub Enterprise Server.
    must_be_acquired: bool,
    /// Jobs that wait or run. Waiting ones are served in this order.
    jobs: BTreeMap<u64, JobState>,
    ended: BTreeMap<u64, JobRecord>,
    wire: Wire,
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
    /// Jobs are given by the labels and group of the registration, whatever was changed since.
    pub(crate) forgets_changes: bool,
    pub(crate) renames: Renames,
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
    pub(crate) fn new(options: &Options, wire: Wire) -> Self {
        Self {
            groups: options.groups.clone(),
            shelf: Shelf::default(),
            registrations: BTreeMap::new(),
            by_name: HashMap::new(),
            sets: BTreeMap::new(),
            must_be_acquired: options.scale_sets.must_be_acquired,
            jobs: BTreeMap::new(),
            ended: BTreeMap::new(),
            wire,
            alarms: Alarms::default(),
            assignment_timeout: options.assignment_timeout,
            silence: options.silence,
            away: false,
            back: Instant::now(),
            last_id: 0,
            rng: SmallRng::seed_from_u64(options.seed),
            stats: Stats::default(),
            forgets_changes: false,
            renames: Renames::default(),
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
            first_set: set_of(labels),
            key,
            registered: Instant::now(),
            session: None,
            job: None,
            given: None,
            connected_before: false,
            used: false,
            set_of: None,
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
            self.stats.lost += 1;
            self.tell_end(&state);
            self.bury(state.record);
        }
    }

    /// The job is over.
    fn bury(&mut self, record: JobRecord) {
        self.tell(Action::Completed, &record);
        self.ended.insert(record.id.0, record);
    }

    fn serve_job(&mut self, job: u64) {
        let Some(state) = self.jobs.get(&job) else { return };
        let idle = self.registrations.values().find(|one| self.takes(one, state)).map(|one| one.id);
        match idle {
            Some(runner) => self.assign(job, runner),
            None => self.serve_job_by_set(job),
        }
    }

    fn serve_runner(&mut self, runner: u64) {
        let Some(one) = self.registrations.get(&runner) else { return };
        let waiting =
            self.jobs.iter().find(|(_, job)| job.runner.is_none() && self.takes(one, job));
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
        state.assign(one);
        one.job = Some(job);
        one.given = Some(Instant::now());
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
        let ours = ours.filter(|job| !job.record.blocked);
        ours.fold((0, 0), |(waiting, running), job| match job.runner {
            None => (waiting + 1, running),
            Some(_) => (waiting, running + 1),
        })
    }

    pub(crate) fn stats(&self) -> Stats {
        let running = self.jobs.values().filter(|job| job.runner.is_some()).count() as u64;
        let blocked = self.jobs.values().filter(|job| job.record.blocked).count() as u64;
        let online = self.registrations.values().filter(|one| one.online()).count();
        Stats {
            registrations: self.registrations.len() as u64,
            online: online as u64,
            blocked,
            queued: self.jobs.len() as u64 - running - blocked,
            running,
            ..self.stats.clone()
        }
    }

    /// All jobs so far, in the order in which they were queued.
    pub(crate) fn records(&self) -> Vec<JobRecord> {
        let open = self.jobs.values().map(|state| &state.record);
        let mut all: Vec<JobRecord> = self.ended.values().chain(open).cloned().collect();
        all.sort_by_key(|record| record.id);
        all
    }

    /// Does something to what is remembered of each job.
    pub(crate) fn each_record(&mut self, change: impl Fn(&mut JobRecord)) {
        self.jobs.values_mut().for_each(|state| change(&mut state.record));
        self.ended.values_mut().for_each(change);
    }

    /// Runners and scale sets of one scope are another's.
    pub(crate) fn move_scopes(&mut self, from: &Scope, to: &Scope) {
        for one in self.registrations.values_mut().filter(|one| one.scope == *from) {
            let name = one.name.to_lowercase();
            self.by_name.remove(&(from.clone(), name.clone()));
            self.by_name.insert((to.clone(), name), one.id);
            one.scope = to.clone();
        }
        for set in self.sets.values_mut().filter(|set| set.scope == *from) {
            set.scope = to.clone();
        }
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
