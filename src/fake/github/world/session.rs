//! What runner applications do: they come online, take a job, end it, fall silent or go.

use std::sync::Arc;

use tokio::{sync::Notify, time::Instant};

use super::{
    Action, Caller, JobId, JobRecord, Lost, World,
    alarm::Alarm,
    job::JobState,
    registration::{Registration, Session},
};

impl World {
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
            let record = state.record.clone();
            self.tell(Action::InProgress, &record);
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
        self.bury(state.record);
        self.stats.completed += 1;
        if result != "success" {
            self.stats.failed += 1;
        }
        self.remove(caller.registration);
    }

    pub(super) fn look_at_session(&mut self, caller: Caller, now: Instant) {
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
}
