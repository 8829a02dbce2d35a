//! Scale sets as GitHub keeps them: which jobs are theirs, and what their queues hold.
//!
//! A job that fits a scale set is *given* to it, up to the capacity that its last poll named, and then
//! to one of its runners; as at GitHub these are two steps, and only the second makes it run. Where
//! jobs must be acquired it is *offered* first.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::Rng;
use runner_fleet_actors::name::Scope;
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};

use super::{
    World,
    job::JobState,
    letter::{Word, told},
    set_of,
};

/// Job messages in one message at most, as at GitHub.
const JOBS_MAX: usize = 50;

/// A message that nobody has acknowledged.
#[derive(Debug, Clone)]
struct Letter {
    id: u64,
    jobs: Vec<Value>,
    /// As of its first delivery.
    statistics: Option<Value>,
}

/// The one session of a scale set.
#[derive(Debug)]
struct Session {
    id: String,
    owner: String,
    heard: Instant,
    /// Polls that wait now.
    open: u32,
}

/// A scale set.
#[derive(Debug)]
pub(crate) struct ScaleSet {
    id: u64,
    pub(crate) scope: Scope,
    name: String,
    group: u64,
    labels: Vec<String>,
    set: BTreeSet<String>,
    session: Option<Session>,
    /// As its last poll named it.
    capacity: u32,
    letters: Vec<Letter>,
    acknowledged: Option<Letter>,
    last_letter: u64,
    bell: Arc<Notify>,
    sessions: u64,
    conflicts: u64,
}

/// A scale set that there is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleSetRecord {
    /// Its number.
    pub id: u64,
    /// Where it is.
    pub scope: Scope,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// The owner of its session, if one is open.
    pub session: Option<String>,
    /// Sessions that were opened since it was made.
    pub sessions: u64,
    /// Wishes for a session that were refused because one was open.
    pub conflicts: u64,
    /// The capacity that its last poll named.
    pub capacity: u32,
    /// Jobs that were given to it, waiting and running.
    pub assigned: u64,
    /// Messages that nobody has acknowledged.
    pub unacknowledged: usize,
}

/// Why there is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoLetter {
    /// None so far; wait for the bell.
    Empty,
    /// The session is over, or its scale set gone.
    Over,
}

impl World {
    pub(crate) fn add_set(
        &mut self,
        scope: &Scope,
        name: &str,
        group: u64,
        labels: &[String],
    ) -> Option<u64> {
        if self.find_set(scope, group, name).is_some() {
            return None;
        }
        let id = self.next_id();
        let set = ScaleSet {
            id,
            scope: scope.clone(),
            name: name.to_owned(),
            group,
            labels: labels.to_vec(),
            set: set_of(labels),
            session: None,
            capacity: 0,
            letters: Vec::new(),
            acknowledged: None,
            last_letter: 0,
            bell: Arc::default(),
            sessions: 0,
            conflicts: 0,
        };
        self.sets.insert(id, set);
        self.serve_set(id);
        Some(id)
    }

    pub(crate) fn find_set(&self, scope: &Scope, group: u64, name: &str) -> Option<u64> {
        let named = |set: &&ScaleSet| {
            set.scope == *scope && set.group == group && set.name.eq_ignore_ascii_case(name)
        };
        self.sets.values().find(named).map(|set| set.id)
    }

    pub(crate) fn set_in(&self, scope: &Scope, id: u64) -> Option<&ScaleSet> {
        self.sets.get(&id).filter(|set| set.scope == *scope)
    }

    /// Removes a scale set with all that is about it; its jobs go back to the queue.
    pub(crate) fn remove_set(&mut self, id: u64) {
        let Some(set) = self.sets.remove(&id) else { return };
        set.bell.notify_waiters();
        let mut back = Vec::new();
        for (number, job) in &mut self.jobs {
            if job.given == Some(id) || job.offered == Some(id) {
                (job.given, job.offered) = (None, None);
                back.push(*number);
            }
        }
        back.into_iter().for_each(|job| self.serve_job(job));
    }

    /// Registers a runner of a scale set. `None` where the name is taken.
    pub(crate) fn register_in_set(&mut self, set: u64, name: &str) -> Option<u64> {
        let (scope, group, labels) = {
            let set = self.sets.get(&set)?;
            (set.scope.clone(), set.group, set.labels.clone())
        };
        let id = self.register(&scope, name, group, &labels)?;
        self.registrations.get_mut(&id)?.set_of = Some(set);
        Some(id)
    }

    pub(crate) fn set_shown(&self, id: u64) -> Value {
        let Some(set) = self.sets.get(&id) else { return Value::Null };
        let labels: Vec<Value> =
            set.labels.iter().map(|name| json!({"type": "System", "name": name})).collect();
        json!({
            "id": set.id, "name": set.name, "runnerGroupId": set.group, "labels": labels,
            "RunnerSetting": {"ephemeral": true, "disableUpdate": true},
            "createdOn": "2026-01-01T00:00:00Z", "enabled": true,
            "statistics": self.set_statistics(id),
        })
    }

    fn set_statistics(&self, id: u64) -> Value {
        let jobs = || self.jobs.values().filter(|job| job.given == Some(id));
        let runners = || self.registrations.values().filter(|one| one.set_of == Some(id));
        let offered = self.jobs.values().filter(|job| job.offered == Some(id)).count();
        let busy = runners().filter(|one| one.job.is_some()).count();
        json!({
            "totalAvailableJobs": offered,
            "totalAcquiredJobs": 0,
            "totalAssignedJobs": jobs().count(),
            "totalRunningJobs": jobs().filter(|job| job.is_acquired()).count(),
            "totalRegisteredRunners": runners().count(),
            "totalBusyRunners": busy,
            "totalIdleRunners": runners().filter(|one| one.online() && one.job.is_none()).count(),
        })
    }

    /// Opens a session; `Err` names the owner of the one that is open.
    pub(crate) fn open_session(
        &mut self,
        id: u64,
        owner: &str,
        lapses_after: Duration,
    ) -> Result<String, String> {
        let number = self.rng.random::<u128>();
        let session = uuid::Builder::from_random_bytes(number.to_le_bytes()).into_uuid();
        let Some(set) = self.sets.get_mut(&id) else { return Err(String::new()) };
        if let Some(old) = &set.session
            && (old.open > 0 || old.heard.elapsed() < lapses_after)
        {
            set.conflicts += 1;
            return Err(old.owner.clone());
        }
        let (id, owner) = (session.to_string(), owner.to_owned());
        set.sessions += 1;
        set.session = Some(Session { id: id.clone(), owner, heard: Instant::now(), open: 0 });
        Ok(id)
    }

    pub(crate) fn has_session(&self, id: u64, session: &str) -> bool {
        let open = self.sets.get(&id).and_then(|set| set.session.as_ref());
        open.is_some_and(|open| open.id == session)
    }

    /// Ends a session. `false` where it is not the open one.
    pub(crate) fn close_session(&mut self, id: u64, session: &str) -> bool {
        if !self.has_session(id, session) {
            return false;
        }
        self.end_sessions(|set| set.id == id);
        true
    }

    pub(crate) fn end_sessions(&mut self, which: impl Fn(&ScaleSet) -> bool) {
        for set in self.sets.values_mut().filter(|set| which(set)) {
            set.session = None;
            set.bell.notify_waiters();
        }
    }

    pub(crate) fn ring_sets(&self) {
        self.sets.values().for_each(|set| set.bell.notify_waiters());
    }

    /// A poll begins or ends: the session is heard.
    pub(crate) fn poll_begins(&mut self, id: u64, capacity: u32) {
        let Some(set) = self.sets.get_mut(&id) else { return };
        set.capacity = capacity;
        if let Some(session) = &mut set.session {
            session.open += 1;
        }
        self.serve_set(id);
    }

    pub(crate) fn poll_ends(&mut self, id: u64) {
        let session = self.sets.get_mut(&id).and_then(|set| set.session.as_mut());
        if let Some(session) = session {
            session.open = session.open.saturating_sub(1);
            session.heard = Instant::now();
        }
    }

    pub(crate) fn set_bell(&self, id: u64) -> Option<Arc<Notify>> {
        self.sets.get(&id).map(|set| Arc::clone(&set.bell))
    }

    /// The oldest message that nobody has acknowledged.
    pub(crate) fn letter(&mut self, id: u64, session: &str) -> Result<Value, NoLetter> {
        if !self.has_session(id, session) {
            return Err(NoLetter::Over);
        }
        let statistics = self.set_statistics(id);
        let letter = self.sets.get_mut(&id).and_then(|set| set.letters.first_mut());
        let letter = letter.ok_or(NoLetter::Empty)?;
        let statistics = letter.statistics.get_or_insert(statistics);
        Ok(json!({
            "messageId": letter.id,
            "messageType": "RunnerScaleSetJobMessages",
            "body": Value::Array(letter.jobs.clone()).to_string(),
            "statistics": statistics,
        }))
    }

    /// Acknowledges a message. `false` where there is none of that number.
    pub(crate) fn acknowledge(&mut self, id: u64, letter: u64) -> bool {
        let Some(set) = self.sets.get_mut(&id) else { return false };
        let found = set.letters.iter().position(|one| one.id == letter);
        if let Some(at) = found {
            set.acknowledged = Some(set.letters.remove(at));
        }
        found.is_some()
    }

    /// The last message that was acknowledged comes once more, as it was.
    pub(crate) fn repeat_letters(&mut self) {
        for set in self.sets.values_mut() {
            if let Some(letter) = set.acknowledged.clone() {
                set.letters.insert(0, letter);
                set.bell.notify_waiters();
            }
        }
    }

    /// The jobs that are offered to a scale set.
    pub(crate) fn offered(&self, id: u64) -> Vec<Value> {
        let of = |job: &&JobState| job.offered == Some(id);
        self.jobs.values().filter(of).map(|job| told(job, Word::Available)).collect()
    }

    /// Gives a scale set jobs that were offered to it; the numbers of those that it got.
    pub(crate) fn take_offered(&mut self, id: u64, requests: &[u64]) -> Vec<u64> {
        let mut got = Vec::new();
        for request in requests {
            let Some(job) = self.jobs.get_mut(request) else { continue };
            if job.offered == Some(id) {
                got.push(*request);
                self.give(*request, id);
            }
        }
        got
    }

    /// Gives waiting jobs to a scale set, as many as it has room for.
    pub(super) fn serve_set(&mut self, id: u64) {
        let free =
            |job: &JobState| job.given.is_none() && job.offered.is_none() && !job.record.blocked;
        let waiting: Vec<u64> = self
            .jobs
            .iter()
            .filter(|(_, job)| free(job) && job.runner.is_none() && self.fits(id, job))
            .map(|(number, _)| *number)
            .collect();
        for job in waiting {
            self.offer_or_give(job, id);
        }
    }

    fn fits(&self, id: u64, job: &JobState) -> bool {
        let set = self.sets.get(&id);
        set.is_some_and(|set| set.scope == job.record.scope && job.labels.is_subset(&set.set))
    }

    /// A job that no runner took: perhaps a scale set's.
    pub(super) fn serve_job_by_set(&mut self, job: u64) {
        let Some(state) = self.jobs.get(&job) else { return };
        if state.given.is_some() || state.offered.is_some() || state.record.blocked {
            return;
        }
        let set = self.sets.keys().copied().find(|id| self.fits(*id, state));
        if let Some(set) = set {
            self.offer_or_give(job, set);
        }
    }

    fn offer_or_give(&mut self, job: u64, id: u64) {
        if self.must_be_acquired {
            if let Some(state) = self.jobs.get_mut(&job) {
                state.offered = Some(id);
            }
            return self.tell_set(id, job, Word::Available);
        }
        let given = self.jobs.values().filter(|job| job.given == Some(id)).count() as u64;
        if self.sets.get(&id).is_some_and(|set| given < u64::from(set.capacity)) {
            self.give(job, id);
        }
    }

    fn give(&mut self, job: u64, id: u64) {
        let Some(state) = self.jobs.get_mut(&job) else { return };
        (state.given, state.offered) = (Some(id), None);
        self.tell_set(id, job, Word::Assigned);
        self.serve_job(job);
    }

    /// Something happened to a job of a scale set.
    pub(super) fn tell_set(&mut self, id: u64, job: u64, word: Word) {
        if let Some(state) = self.jobs.get(&job) {
            let message = told(state, word);
            self.post(id, message);
        }
    }

    /// A job of a scale set is over; there may be room for another one.
    pub(super) fn tell_end(&mut self, state: &JobState) {
        let Some(id) = state.given else { return };
        self.post(id, told(state, Word::Completed));
        self.serve_set(id);
    }

    fn post(&mut self, id: u64, message: Value) {
        let Some(set) = self.sets.get_mut(&id) else { return };
        match set.letters.last_mut() {
            Some(last) if last.statistics.is_none() && last.jobs.len() < JOBS_MAX => {
                last.jobs.push(message);
            }
            _ => {
                set.last_letter += 1;
                let id = set.last_letter;
                set.letters.push(Letter { id, jobs: vec![message], statistics: None });
            }
        }
        set.bell.notify_waiters();
    }

    pub(crate) fn set_records(&self) -> Vec<ScaleSetRecord> {
        let record = |set: &ScaleSet| ScaleSetRecord {
            id: set.id,
            scope: set.scope.clone(),
            name: set.name.clone(),
            labels: set.labels.clone(),
            session: set.session.as_ref().map(|session| session.owner.clone()),
            sessions: set.sessions,
            conflicts: set.conflicts,
            capacity: set.capacity,
            assigned: self.jobs.values().filter(|job| job.given == Some(set.id)).count() as u64,
            unacknowledged: set.letters.len(),
        };
        self.sets.values().map(record).collect()
    }
}
