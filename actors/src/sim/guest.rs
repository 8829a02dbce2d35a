//! The guests' truth: who listens, who runs a job, who stands down.

use std::time::Duration;

use rand::Rng;

use super::{
    judge::Cause,
    world::{Happening, World},
};
use crate::{
    event::{GuestTimes, JobEnd},
    name::RunnerName,
    port::{ErrorClass, PortError, StandDown, Time, VmStatus},
    runner::{Answer, Event, Report},
};

/// How long a guest stands down without another word. Longer than two calls may take together, so
/// that an order is still good when the deregistration that it was given for acts.
const LAPSE: Duration = Duration::from_secs(300);

/// A guest as it truly is.
#[derive(Debug, Clone, Default)]
pub(super) struct TrueGuest {
    /// Whether it reports and takes orders.
    pub reports: bool,
    /// Whether its listener runs.
    pub up: bool,
    /// Whether it will never come up.
    pub dud: bool,
    /// Whether it ran its job, or lost its registration, or died.
    pub over: bool,
    /// Whether it hangs at its end.
    pub hangs: bool,
    /// Until when it stands down.
    pub frozen_until: Option<Time>,
    /// The newest order that it has followed; an older one that arrives later is void.
    pub order: u64,
    /// The job that it runs.
    pub job: Option<u64>,
}

impl World {
    pub fn new_guest(&mut self, pool: usize) -> TrueGuest {
        TrueGuest {
            reports: self.pools.get(pool).is_some_and(|pool| pool.reports),
            dud: self.chance(self.faults.guest_never_registers),
            hangs: self.chance(self.faults.guest_never_stops),
            ..TrueGuest::default()
        }
    }

    pub fn boots(&mut self, name: &RunnerName) {
        self.tell(name, Report::Booted);
        self.between(5.0, 40.0, Happening::Online(name.clone()));
    }

    pub fn online(&mut self, name: &RunnerName) {
        let Some(vm) = self.vms.get_mut(name) else { return };
        if !alive(&vm.status) || vm.guest.over || vm.guest.dud {
            return;
        }
        let pool = vm.pool;
        let Some(registration) = self.registrations.get_mut(name) else {
            // Its JIT config is void.
            vm.guest.over = true;
            self.powers_off_soon(name);
            return;
        };
        registration.online = true;
        vm.guest.up = true;
        self.note(|| format!("guest: {name} listens"));
        self.tell(name, Report::RunnerStarted);
        self.assign(pool);
    }

    /// Whether the guest's listener takes jobs now.
    pub fn listens(&self, name: &RunnerName) -> bool {
        self.vms.get(name).is_some_and(|vm| {
            let guest = &vm.guest;
            alive(&vm.status) && guest.up && !guest.over && guest.job.is_none()
        })
    }

    /// The listener takes up an assigned job, unless it stands down or is gone.
    pub fn acquire(&mut self, name: &RunnerName, job: u64) {
        if !self.jobs.contains_key(&job) {
            return;
        }
        let assigned = self.registrations.get(name).is_some_and(|r| r.job == Some(job));
        let frozen = self.vms.get(name).is_some_and(|vm| vm.guest.frozen_until.is_some());
        if !assigned || frozen || !self.listens(name) {
            self.between(20.0, 60.0, Happening::Requeue { name: name.clone(), job });
            return;
        }
        if let Some(vm) = self.vms.get_mut(name) {
            vm.guest.job = Some(job);
        }
        if let Some(job) = self.jobs.get_mut(&job) {
            job.running = true;
        }
        self.note(|| format!("guest: {name} runs job {job}"));
        if !self.chance(self.faults.job_never_ends) {
            let most = if self.chance(0.3) { 2400.0 } else { 300.0 };
            self.between(10.0, most, Happening::JobEnds { name: name.clone(), job });
        }
        self.tell(name, Report::JobStarted(Self::word_of(job)));
        self.webhook(name, Event::JobStarted(Self::word_of(job)));
    }

    /// The order to stand down reaches the guest.
    pub fn stand_down(&mut self, epoch: u32, op: u64, name: &RunnerName) {
        self.counters.guest_calls += 1;
        let until = self.now + LAPSE;
        let lost = self.chance(self.faults.order_lost);
        let answer = match self.vms.get_mut(name) {
            Some(vm) if alive(&vm.status) && vm.guest.reports && !vm.guest.dud && !lost => {
                vm.guest.order = vm.guest.order.max(op);
                if vm.guest.job.is_some() {
                    Ok(StandDown::Busy)
                } else {
                    vm.guest.frozen_until = Some(until);
                    self.at(until, Happening::Lapse(name.clone()));
                    Ok(StandDown::StandingDown)
                }
            }
            _ => {
                let error = PortError::certain(ErrorClass::Transient, "the guest does not answer");
                let (name, answer) = (name.clone(), Answer::StoodDown(Err(error)));
                return self.between(10.0, 60.0, Happening::Answer { epoch, op, name, answer });
            }
        };
        self.note(|| format!("guest: {name} says {answer:?}"));
        if !self.chance(self.faults.stand_down_lost) {
            self.reply(epoch, op, name, Answer::StoodDown(answer));
        }
    }

    /// The word to go on reaches the guest.
    pub fn go_on(&mut self, name: &RunnerName, order: u64) {
        self.counters.guest_calls += 1;
        let lost = self.chance(self.faults.order_lost);
        if let Some(vm) = self.vms.get_mut(name)
            && !lost
            && vm.guest.order <= order
        {
            vm.guest.order = order;
            vm.guest.frozen_until = None;
            let pool = vm.pool;
            self.assign(pool);
        }
    }

    /// The word to end reaches the guest: a frozen listener is ended, and the guest powers off.
    pub fn end(&mut self, name: &RunnerName, order: u64) {
        self.counters.guest_calls += 1;
        let lost = self.chance(self.faults.order_lost);
        if let Some(vm) = self.vms.get_mut(name)
            && !lost
            && vm.guest.order <= order
            && vm.guest.frozen_until.take().is_some()
        {
            vm.guest.order = order;
            vm.guest.over = true;
            self.powers_off_soon(name);
        }
    }

    pub fn lapse(&mut self, name: &RunnerName) {
        let now = self.now;
        if let Some(vm) = self.vms.get_mut(name)
            && vm.guest.frozen_until.is_some_and(|until| now >= until)
        {
            vm.guest.frozen_until = None;
            let pool = vm.pool;
            self.assign(pool);
        }
    }

    /// The listener polls and learns that its registration is gone: a job is cancelled, and it ends.
    pub fn unlistened(&mut self, name: &RunnerName) {
        let Some(vm) = self.vms.get_mut(name) else { return };
        if self.registrations.contains_key(name) || vm.guest.over {
            return;
        }
        vm.guest.over = true;
        if let Some(job) = vm.guest.job.take() {
            let cause = self.jobs.remove(&job).and_then(|job| job.doom);
            self.job_lost(name, job, cause.unwrap_or(Cause::Cloud));
        }
        self.powers_off_soon(name);
    }

    pub fn powers_off_soon(&mut self, name: &RunnerName) {
        if let Some(vm) = self.vms.get(name)
            && !vm.guest.hangs
        {
            self.between(1.0, 40.0, Happening::PowerOff(name.clone()));
        }
    }

    pub fn power_off(&mut self, name: &RunnerName) {
        let Some(vm) = self.vms.get_mut(name) else { return };
        if alive(&vm.status) {
            vm.guest.over = true;
            vm.status = VmStatus::Stopped;
            self.note(|| format!("guest: {name} powers off"));
            self.tell(name, Report::Stopped(JobEnd::default()));
        }
    }

    /// The VM ends under its guest.
    pub fn guest_dies(&mut self, name: &RunnerName, cause: Cause) {
        let Some(vm) = self.vms.get_mut(name) else { return };
        vm.guest.over = true;
        vm.guest.up = false;
        let job = vm.guest.job.take();
        if let Some(registration) = self.registrations.get_mut(name) {
            registration.online = false;
            if let Some(job) = registration.job {
                let name = name.clone();
                self.between(60.0, 600.0, Happening::Abandon { name, job });
            }
        }
        if let Some(job) = job {
            let doom = self.jobs.remove(&job).and_then(|job| job.doom);
            self.job_lost(name, job, doom.unwrap_or(cause));
        }
    }

    /// A guest reports home: lost, late or again, as the knobs say.
    pub fn tell(&mut self, name: &RunnerName, report: Report) {
        if !self.vms.get(name).is_some_and(|vm| vm.guest.reports && !vm.guest.dud) {
            return;
        }
        let event = Event::Guest(report, GuestTimes::default());
        if self.chance(self.faults.report_replayed) {
            let (name, event) = (name.clone(), event.clone());
            self.between(1.0, 600.0, Happening::Deliver { name, event });
        }
        if self.chance(self.faults.report_lost) {
            return;
        }
        let most = if self.chance(self.faults.report_late) { 120.0 } else { 2.0 };
        let name = name.clone();
        self.between(0.05, most, Happening::Deliver { name, event });
    }

    /// A seeded number, so that a run replays.
    pub fn token(&mut self) -> u64 {
        self.rng.random()
    }
}

/// Whether a guest can run in a VM of that status.
pub(super) fn alive(status: &VmStatus) -> bool {
    matches!(status, VmStatus::Active | VmStatus::Error { .. })
}
