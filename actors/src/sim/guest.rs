//! The guests' truth: who listens, who runs a job, who stands down.

use rand::Rng;

use super::{
    happening::Happening,
    judge::Cause,
    listener::{Hand, Unread},
    world::World,
};
use crate::{
    event::{GuestTimes, JobEnd},
    name::RunnerName,
    port::VmStatus,
    runner::{Event, Report},
};

/// A guest as it truly is.
#[derive(Debug, Clone, Default)]
pub(super) struct TrueGuest {
    /// Whether it reports and takes orders.
    pub reports: bool,
    /// Whether its listener runs.
    pub up: bool,
    /// Whether it will never come up.
    pub dud: bool,
    /// Whether it powers off right after its boot.
    pub stillborn: bool,
    /// Whether it ran its job, or lost its registration, or died.
    pub over: bool,
    /// Whether its job keeps saying that it has begun, long after its end.
    pub repeats: bool,
    /// Whether it hangs at its end.
    pub hangs: bool,
    /// Whether its listener is stopped.
    pub frozen: bool,
    /// What its listener has not noticed, because it is stopped.
    pub unread: Unread,
    /// The newest order that it has followed; an older one that arrives later is void.
    pub order: u64,
    /// The job that its listener deals with, as its own log and processes show it.
    pub hand: Option<Hand>,
    /// The job that it has acquired, as the forge has it.
    pub job: Option<u64>,
}

impl World {
    pub fn new_guest(&mut self, pool: usize) -> TrueGuest {
        let repeats = self.chance(self.faults.start_repeated);
        TrueGuest {
            reports: self.pools.get(pool).is_some_and(|pool| pool.reports),
            dud: self.chance(self.faults.guest_never_registers),
            stillborn: self.chance(self.faults.boots_in_vain),
            hangs: repeats || self.chance(self.faults.guest_never_stops),
            repeats,
            ..TrueGuest::default()
        }
    }

    pub fn boots(&mut self, name: &RunnerName) {
        self.tell(name, Report::Booted);
        if self.vms.get(name).is_some_and(|vm| vm.guest.stillborn) {
            return self.between(0.5, 10.0, Happening::PowerOff(name.clone()));
        }
        self.between(5.0, 40.0, Happening::Online(name.clone()));
    }

    pub fn online(&mut self, name: &RunnerName) {
        let Some(vm) = self.vms.get_mut(name) else { return };
        if !alive(&vm.status) || vm.guest.over || vm.guest.dud || vm.guest.up {
            return;
        }
        let pool = vm.pool;
        if self.held_back(name) {
            return;
        }
        let Some(vm) = self.vms.get_mut(name) else { return };
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

    /// The listener polls and learns that its registration is gone: a job is cancelled, and it ends.
    pub fn unlistened(&mut self, name: &RunnerName) {
        let Some(vm) = self.vms.get_mut(name) else { return };
        if self.registrations.contains_key(name) || vm.guest.over || vm.guest.frozen {
            return;
        }
        vm.guest.over = true;
        vm.guest.hand = None;
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
            let stillborn = vm.guest.stillborn;
            self.note(|| format!("guest: {name} powers off"));
            let exit_code = Some(i32::from(stillborn));
            self.tell(name, Report::Stopped(JobEnd { exit_code, ..JobEnd::default() }));
            self.pushes(name);
        }
    }

    /// The VM ends under its guest.
    pub fn guest_dies(&mut self, name: &RunnerName, cause: Cause) {
        let Some(vm) = self.vms.get_mut(name) else { return };
        vm.guest.over = true;
        vm.guest.up = false;
        vm.guest.frozen = false;
        vm.guest.hand = None;
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
