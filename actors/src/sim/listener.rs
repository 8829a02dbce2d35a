//! The listener inside a guest: from a job's message to its worker, one small step after the other.
//!
//! Between any two of the steps the guest may freeze it (SIGSTOP), and it goes on where it stood when
//! it is let go. What is on the wire goes on meanwhile: a message waits in the socket, and a request
//! to acquire a job that has left acts at the forge although nobody reads its answer. That, and not
//! the job's run, is where an order to stand down can do harm.

use super::{happening::Happening, judge::Cause, world::World};
use crate::{
    name::RunnerName,
    runner::{Event, Report},
};

/// How far a listener has come with the job in its hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The message has reached the process, which has not written a word of it yet.
    Received,
    /// Its diagnostic log says that a message came.
    Logged,
    /// The request to acquire the job has left.
    Acquiring,
    /// Its log says that the job is its own.
    Accepted,
    /// The worker's process is there.
    Spawned,
    /// The worker runs the job.
    Running,
}

/// The job that a listener deals with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hand {
    pub job: u64,
    pub stage: Stage,
}

/// What has happened to a frozen listener without its notice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unread {
    /// A message in its socket.
    message: Option<u64>,
    /// The answer to its request.
    acquired: Option<bool>,
    /// It was stopped before its next step.
    step: bool,
    /// It was to start.
    start: bool,
}

impl World {
    /// Whether the guest's listener is free for a job, frozen or not: the forge cannot tell.
    pub fn listens(&self, name: &RunnerName) -> bool {
        self.vms.get(name).is_some_and(|vm| {
            let guest = &vm.guest;
            let free =
                guest.job.is_none() && guest.hand.is_none() && guest.unread.message.is_none();
            super::guest::alive(&vm.status) && guest.up && !guest.over && free
        })
    }

    /// A job's message reaches the listener's machine.
    pub fn message(&mut self, name: &RunnerName, job: u64) {
        let assigned = self.registrations.get(name).is_some_and(|r| r.job == Some(job));
        if !assigned || !self.listens(name) {
            return;
        }
        let Some(vm) = self.vms.get_mut(name) else { return };
        if vm.guest.frozen {
            vm.guest.unread.message = Some(job);
            return;
        }
        vm.guest.hand = Some(Hand { job, stage: Stage::Received });
        self.next_step(name, job, 0.5);
    }

    /// The listener's next step with the job in its hand.
    pub fn step(&mut self, name: &RunnerName, job: u64) {
        let Some(vm) = self.vms.get_mut(name) else { return };
        let guest = &mut vm.guest;
        let Some(hand) = guest.hand.as_mut().filter(|hand| hand.job == job) else { return };
        if guest.frozen {
            guest.unread.step = true;
            return;
        }
        match hand.stage {
            Stage::Received => {
                hand.stage = Stage::Logged;
                self.next_step(name, job, 0.5);
            }
            Stage::Logged => {
                hand.stage = Stage::Acquiring;
                self.between(0.01, 1.0, Happening::ForgeAcquires { name: name.clone(), job });
            }
            Stage::Accepted => {
                hand.stage = Stage::Spawned;
                self.next_step(name, job, 2.0);
            }
            Stage::Spawned => {
                hand.stage = Stage::Running;
                self.job_runs(name, job);
            }
            // It waits for the forge's answer; or for its worker.
            Stage::Acquiring | Stage::Running => {}
        }
    }

    fn next_step(&mut self, name: &RunnerName, job: u64, most: f64) {
        self.between(0.002, most, Happening::Step { name: name.clone(), job });
    }

    /// The request to acquire a job reaches the forge, frozen listener or not.
    pub fn forge_acquires(&mut self, name: &RunnerName, job: u64) {
        let asks = self.vms.get(name).is_some_and(|vm| !vm.guest.over);
        let assigned = self.registrations.get(name).is_some_and(|r| r.job == Some(job));
        let granted = asks && assigned && self.jobs.contains_key(&job);
        if granted {
            if let Some(job) = self.jobs.get_mut(&job) {
                job.running = true;
            }
            if let Some(vm) = self.vms.get_mut(name) {
                vm.guest.job = Some(job);
            }
            self.note(|| format!("forge: {name} has acquired job {job}"));
        }
        self.between(0.01, 1.0, Happening::Acquired { name: name.clone(), job, granted });
    }

    /// The forge's answer reaches the listener's machine.
    pub fn acquired(&mut self, name: &RunnerName, job: u64, granted: bool) {
        let Some(vm) = self.vms.get_mut(name) else { return };
        let (pool, guest) = (vm.pool, &mut vm.guest);
        let asked = Some(Hand { job, stage: Stage::Acquiring });
        if guest.hand != asked || guest.over {
            return;
        }
        if guest.frozen {
            guest.unread.acquired = Some(granted);
        } else if granted {
            guest.hand = Some(Hand { job, stage: Stage::Accepted });
            self.next_step(name, job, 0.5);
        } else {
            // Somebody else has it by now: the listener polls again.
            guest.hand = None;
            self.assign(pool);
        }
    }

    fn job_runs(&mut self, name: &RunnerName, job: u64) {
        self.note(|| format!("guest: {name} runs job {job}"));
        if !self.chance(self.faults.job_never_ends) {
            let most = if self.chance(0.3) { self.longest_job } else { self.longest_job / 8.0 };
            let least = 10.0_f64.min(most / 4.0);
            self.between(least, most, Happening::JobEnds { name: name.clone(), job });
        }
        self.tell(name, Report::JobStarted(Self::guests_word_of(job)));
        let registration = self.registrations.get(name).map(|registration| registration.id);
        self.webhook(name, Event::JobStarted { job: Self::word_of(job), registration });
    }

    /// The guest stops its listener. Nothing else in it stops.
    pub fn freeze(&mut self, name: &RunnerName) {
        if let Some(vm) = self.vms.get_mut(name)
            && !vm.guest.over
        {
            vm.guest.frozen = true;
            self.note(|| format!("guest: {name} freezes its listener"));
        }
    }

    /// The guest lets its listener go on, which finds what came meanwhile.
    pub fn thaw(&mut self, name: &RunnerName) {
        let Some(vm) = self.vms.get_mut(name) else { return };
        let (pool, guest) = (vm.pool, &mut vm.guest);
        if !std::mem::replace(&mut guest.frozen, false) {
            return;
        }
        let (unread, hand) = (std::mem::take(&mut guest.unread), guest.hand);
        self.note(|| format!("guest: {name} lets its listener go on"));
        if let Some(job) = unread.message {
            self.between(0.0, 0.2, Happening::Message { name: name.clone(), job });
        }
        if let (Some(granted), Some(hand)) = (unread.acquired, hand) {
            let (name, job) = (name.clone(), hand.job);
            self.between(0.0, 0.2, Happening::Acquired { name, job, granted });
        }
        if let (true, Some(hand)) = (unread.step, hand) {
            self.next_step(name, hand.job, 0.2);
        }
        if unread.start {
            self.between(0.0, 1.0, Happening::Online(name.clone()));
        }
        if !self.registrations.contains_key(name) {
            self.between(0.1, 5.0, Happening::Unlistened(name.clone()));
        }
        self.assign(pool);
    }

    /// Whether the listener is held back from starting.
    pub fn held_back(&mut self, name: &RunnerName) -> bool {
        let Some(vm) = self.vms.get_mut(name) else { return false };
        vm.guest.unread.start |= vm.guest.frozen;
        vm.guest.frozen
    }

    /// The guest ends its listener, whatever it does.
    pub fn end_listener(&mut self, name: &RunnerName) {
        let Some(vm) = self.vms.get_mut(name) else { return };
        if vm.guest.over {
            return;
        }
        vm.guest.over = true;
        vm.guest.frozen = false;
        vm.guest.hand = None;
        let job = vm.guest.job.take();
        self.note(|| format!("guest: {name} ends its listener"));
        if let Some(job) = job {
            let doom = self.jobs.remove(&job).and_then(|job| job.doom);
            self.job_lost(name, job, doom.unwrap_or(Cause::Drain));
        }
        self.powers_off_soon(name);
    }
}
