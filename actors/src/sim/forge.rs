//! The forge's truth: registrations, jobs, and what it says of them.

use rand::Rng;

use super::{
    happening::{Call, Happening},
    judge::Cause,
    world::World,
};
use crate::{
    event::{Job, JobEnd},
    name::{RegistrationId, RunnerName},
    port::{ErrorClass, Finding, Grounds, PortError, Registration, Stage, Time},
    runner::{Answer, Event, LaunchFailure, Report},
};

/// A registration as it truly is.
pub(super) struct TrueRegistration {
    pub id: RegistrationId,
    pub pool: usize,
    pub online: bool,
    /// The job that the forge has assigned to it.
    pub job: Option<u64>,
    /// When the forge's busy flag is false although a job runs.
    pub lie: Option<(Time, Time)>,
    /// When the flag begins to show its job at all.
    pub shown_from: Option<Time>,
    /// Since when it is to get no job.
    pub cordoned: Option<Time>,
}

impl TrueRegistration {
    /// What the forge says.
    pub fn says_busy(&self, now: Time) -> bool {
        let shown = self.shown_from.is_none_or(|from| now >= from);
        let lies = self.lie.is_some_and(|(from, to)| now >= from && now < to);
        self.job.is_some() && shown && !lies
    }

    /// As a listing shows it.
    pub fn listed(&self, name: &RunnerName, now: Time) -> Registration {
        Registration {
            name: name.clone(),
            id: self.id,
            online: self.online,
            busy: Some(self.says_busy(now)),
            cordoned: Some(self.cordoned.is_some()),
        }
    }
}

/// A job that was assigned.
pub(super) struct TrueJob {
    pub pool: usize,
    /// Whether a guest has taken it up.
    pub running: bool,
    /// What took its registration away, if something did: its listener will cancel it.
    pub doom: Option<Cause>,
    /// Whether the flag shows it, if late.
    pub shows: bool,
}

impl World {
    pub fn new_registration(&mut self, pool: usize) -> TrueRegistration {
        let id = RegistrationId(self.fresh_id());
        TrueRegistration {
            id,
            pool,
            online: false,
            job: None,
            lie: None,
            shown_from: None,
            cordoned: None,
        }
    }

    /// Asking for a JIT config: the first half of a launch.
    pub fn register(&mut self, epoch: u32, op: u64, name: &RunnerName, grounds: Option<Grounds>) {
        self.counters.forge_calls += 1;
        if epoch != self.epoch && self.chance(0.5) {
            return;
        }
        let Some(pool) = self.pool_of(name) else { return };
        let failure = |class, possible: bool| {
            let what = "the forge does not register it";
            let error = if possible {
                PortError::doubtful(class, what)
            } else {
                PortError::certain(class, what)
            };
            Answer::LaunchFailed(LaunchFailure {
                error,
                stage: Stage::Forge,
                vm_possible: false,
                registration_possible: possible,
                registration: None,
            })
        };
        if self.chance(self.faults.register_fails) {
            let class = match self.rng.random_range(0..3) {
                0 => ErrorClass::RateLimited { until: self.some_minutes_on() },
                1 => ErrorClass::Auth,
                _ => ErrorClass::Transient,
            };
            return self.reply(epoch, op, name, failure(class, false));
        }
        let registration = self.new_registration(pool);
        self.registrations.insert(name.clone(), registration);
        if self.chance(self.faults.register_answer_lost) {
            return self.reply(epoch, op, name, failure(ErrorClass::Transient, true));
        }
        if epoch == self.epoch && self.process.is_some() {
            let (name, call) = (name.clone(), Call::Create);
            let most = if self.strict { 0.2 } else { 3.0 };
            self.between(0.1, most, Happening::Perform { epoch, op, name, call, grounds });
        }
    }

    /// A deregistration reaches the forge.
    pub fn deregister(&mut self, epoch: u32, op: u64, name: &RunnerName, cause: Cause) {
        self.counters.forge_calls += 1;
        if epoch != self.epoch && self.chance(0.5) {
            return;
        }
        if let Some(error) = self.call_fault() {
            return self.reply(epoch, op, name, Answer::Deregistered(Err(error)));
        }
        let now = self.now;
        if self.registrations.get(name).is_some_and(|r| r.says_busy(now)) {
            let error = PortError::certain(ErrorClass::Busy, "422: it runs a job");
            return self.reply(epoch, op, name, Answer::Deregistered(Err(error)));
        }
        self.remove_registration(epoch, name, cause);
        self.reply_or_lose(epoch, op, name, Answer::Deregistered(Ok(())));
    }

    /// The forge is told to keep jobs off a runner, or to give it jobs again.
    pub fn cordon(&mut self, epoch: u32, op: u64, name: &RunnerName, on: bool) {
        self.counters.forge_calls += 1;
        self.counters.cordons += u64::from(on);
        if epoch != self.epoch && self.chance(0.5) {
            return;
        }
        let answer = |done| if on { Answer::Cordoned(done) } else { Answer::Uncordoned(done) };
        if let Some(error) = self.call_fault() {
            return self.reply(epoch, op, name, answer(Err(error)));
        }
        let (now, refused) = (self.now, self.chance(self.faults.cordon_refused));
        let Some(registration) = self.registrations.get_mut(name).filter(|_| !refused) else {
            let error = PortError::certain(ErrorClass::Invalid, "404");
            return self.reply(epoch, op, name, answer(Err(error)));
        };
        registration.cordoned = on.then(|| registration.cordoned.unwrap_or(now));
        let pool = registration.pool;
        self.note(|| format!("forge: {name} is cordoned: {on}"));
        self.reply_or_lose(epoch, op, name, answer(Ok(())));
        self.assign(pool);
    }

    /// A runner and its job are asked for by their numbers.
    pub fn look_up(&mut self, epoch: u32, op: u64, name: &RunnerName, job: Option<u64>) {
        self.counters.forge_calls += 1;
        self.counters.look_ups += 1;
        if let Some(error) = self.call_fault() {
            return self.reply(epoch, op, name, Answer::LookedUp(Err(error)));
        }
        let registration = self.registrations.get(name).map(|one| one.listed(name, self.now));
        let at_work = job.map(|job| self.jobs.get(&job).is_some_and(|job| job.running));
        let finding = Finding { registration, at_work };
        self.note(|| format!("forge: {name} is looked up: {finding:?}"));
        self.reply_or_lose(epoch, op, name, Answer::LookedUp(Ok(finding)));
    }

    /// The registration is removed by a call. A listener in mid-job learns it at its next poll and
    /// cancels the job.
    fn remove_registration(&mut self, epoch: u32, name: &RunnerName, cause: Cause) {
        let Some(registration) = self.registrations.remove(name) else { return };
        self.note(|| format!("forge: {name} deregistered"));
        self.judge_deregistered(epoch, name, &registration, cause);
        if let Some(job) = registration.job
            && let Some(known) = self.jobs.get_mut(&job)
        {
            if known.running {
                known.doom = Some(cause);
            } else {
                // Assigned and never taken up: back to the queue.
                self.jobs.remove(&job);
                self.enqueue(registration.pool, 1);
            }
        }
        self.between(0.5, 50.0, Happening::Unlistened(name.clone()));
    }

    /// A fault of a call that did not act.
    pub fn call_fault(&mut self) -> Option<PortError> {
        let faults = self.faults;
        if self.chance(faults.rate_limited) {
            let until = self.some_minutes_on();
            return Some(PortError::certain(ErrorClass::RateLimited { until }, "rate limited"));
        }
        if self.chance(faults.auth) {
            return Some(PortError::certain(ErrorClass::Auth, "401"));
        }
        if self.chance(faults.call_fails) {
            return Some(PortError::certain(ErrorClass::Transient, "502"));
        }
        None
    }

    fn some_minutes_on(&mut self) -> Time {
        self.now + std::time::Duration::from_secs(self.rng.random_range(5..600))
    }

    /// Jobs come in ones, and now and then in bursts.
    pub fn jobs_arrive(&mut self, pool: usize) {
        if self.calm_since.is_some() {
            return;
        }
        let burst = self.chance(0.15);
        let jobs = if burst { self.rng.random_range(3..15) } else { 1 };
        self.between(2.0, if burst { 1500.0 } else { 300.0 }, Happening::JobsArrive { pool });
        self.enqueue(pool, jobs);
    }

    pub fn enqueue(&mut self, pool: usize, jobs: u32) {
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.waiting += jobs;
        }
        self.assign(pool);
        self.demand_changes(pool);
    }

    /// Gives waiting jobs to runners that listen.
    pub fn assign(&mut self, pool: usize) {
        loop {
            if self.pools.get(pool).is_none_or(|pool| pool.waiting == 0) {
                return;
            }
            let leaks = self.chance(self.faults.cordon_leaks);
            let free: Vec<_> = self
                .registrations
                .iter()
                .filter(|(name, r)| {
                    let open = leaks || r.cordoned.is_none();
                    r.pool == pool && r.online && r.job.is_none() && open && self.listens(name)
                })
                .map(|(name, _)| name)
                .collect();
            if free.is_empty() {
                return;
            }
            let name = free[self.rng.random_range(0..free.len())].clone();
            let id = self.fresh_id();
            if let Some(registration) = self.registrations.get_mut(&name) {
                registration.job = Some(id);
            }
            if let Some(pool) = self.pools.get_mut(pool) {
                pool.waiting -= 1;
            }
            self.note(|| format!("forge: job {id} assigned to {name}"));
            self.is_late_about(&name);
            let shows = !self.lie_about(&name);
            self.jobs.insert(id, TrueJob { pool, running: false, doom: None, shows });
            self.between(20.0, 90.0, Happening::Requeue { name: name.clone(), job: id });
            self.between(0.05, 3.0, Happening::Message { name, job: id });
        }
    }

    /// Draws how late the busy flag of this job is.
    fn is_late_about(&mut self, name: &RunnerName) {
        let most = self.faults.flag_late;
        let late = if most > 0.0 { self.rng.random_range(most * 0.4..=most) } else { 0.0 };
        let from = self.now + std::time::Duration::from_secs_f64(late);
        if let Some(registration) = self.registrations.get_mut(name) {
            registration.shown_from = Some(from);
        }
    }

    /// Draws whether, from when and how long the busy flag of this job is false.
    fn lie_about(&mut self, name: &RunnerName) -> bool {
        if !self.chance(self.faults.busy_lies) {
            return false;
        }
        self.counters.jobs_lied_about += 1;
        // From the start, or in mid-job; for a moment, or for up to an hour.
        let begin = if self.chance(0.5) { 0 } else { self.rng.random_range(0..900) };
        let length = if self.chance(0.5) { 45 } else { 3600 };
        let length = self.rng.random_range(5..=length);
        let from = self.now + std::time::Duration::from_secs(begin);
        if let Some(registration) = self.registrations.get_mut(name) {
            registration.lie = Some((from, from + std::time::Duration::from_secs(length)));
        }
        true
    }

    /// Nobody has acquired the job in time: it goes back to the queue.
    pub fn requeue(&mut self, name: &RunnerName, job: u64) {
        if self.jobs.get(&job).is_none_or(|job| job.running) {
            return;
        }
        let Some(registration) = self.registrations.get_mut(name) else { return };
        if registration.job != Some(job) {
            return;
        }
        registration.job = None;
        registration.lie = None;
        let pool = registration.pool;
        self.jobs.remove(&job);
        self.note(|| format!("forge: job {job} back to the queue"));
        self.enqueue(pool, 1);
    }

    /// The forge's own word on a job's begin or end.
    pub fn webhook(&mut self, name: &RunnerName, mut event: Event) {
        if self.chance(self.faults.words_unnumbered)
            && let Event::JobStarted { registration, .. } | Event::JobCompleted { registration, .. } =
                &mut event
        {
            *registration = None;
        }
        if !self.chance(self.faults.webhook_lost) {
            let name = name.clone();
            self.between(0.2, 10.0, Happening::Deliver { name, event });
        }
    }

    /// A job ran to its end: its hook reports home, and the runner application tells the forge.
    pub fn job_ends(&mut self, name: &RunnerName, job: u64) {
        let running = self.vms.get(name).is_some_and(|vm| vm.guest.job == Some(job));
        if !running {
            return;
        }
        self.note(|| format!("guest: {name} ends job {job}"));
        if self.vms.get(name).is_some_and(|vm| vm.guest.repeats && vm.guest.reports) {
            for minute in 1..=12 {
                let report = Report::JobStarted(Self::guests_word_of(job));
                let event = Event::Guest(report, crate::event::GuestTimes::default());
                self.after(
                    f64::from(minute) * 60.0,
                    Happening::Deliver { name: name.clone(), event },
                );
            }
        } else {
            self.tell(name, Report::JobCompleted(JobEnd::default()));
        }
        if self.chance(self.faults.completion_late) {
            self.between(5.0, 300.0, Happening::JobTold { name: name.clone(), job });
        } else {
            self.job_told(name, job);
        }
    }

    /// The forge knows the job's result, and removes the ephemeral registration itself.
    pub fn job_told(&mut self, name: &RunnerName, job: u64) {
        let running = self.vms.get(name).is_some_and(|vm| vm.guest.job == Some(job));
        if !running {
            return;
        }
        self.note(|| format!("forge: job {job} of {name} is over"));
        if let Some(vm) = self.vms.get_mut(name) {
            vm.guest.job = None;
            vm.guest.hand = None;
            vm.guest.over = true;
        }
        let pool = self.jobs.remove(&job).map(|job| job.pool);
        let number = self.registrations.remove(name).map(|registration| registration.id);
        self.counters.jobs_done += 1;
        let registration = number;
        self.webhook(name, Event::JobCompleted { end: JobEnd::default(), registration });
        self.powers_off_soon(name);
        if let Some(pool) = pool {
            self.demand_changes(pool);
        }
    }

    /// The forge gives up on a job whose runner died, or lets another have what was never acquired;
    /// the registration stays until it is removed.
    pub fn abandon(&mut self, name: &RunnerName, job: u64) {
        self.requeue(name, job);
        if let Some(registration) = self.registrations.get_mut(name)
            && registration.job == Some(job)
        {
            registration.job = None;
            registration.online = false;
        }
    }

    /// A guest is not told its job's number.
    pub fn guests_word_of(job: u64) -> Job {
        Job { run_id: Some(job), ..Job::default() }
    }

    pub fn word_of(job: u64) -> Job {
        Job { id: Some(job), run_id: Some(job), ..Job::default() }
    }
}
