//! The cloud's truth: which VMs exist, in which condition.

use rand::Rng;

use super::{
    guest::TrueGuest,
    happening::{Call, Happening},
    judge::Cause,
    world::{World, shape},
};
use crate::{
    demand::Sure,
    name::{RunnerName, VmId},
    port::{Change, Deletion, ErrorClass, Grounds, PortError, Stage, Time, Vm, VmStatus},
    runner::{Answer, Event, LaunchFailure},
};

/// A VM as it truly is.
pub(super) struct TrueVm {
    pub id: VmId,
    pub pool: usize,
    pub status: VmStatus,
    pub created_at: Time,
    pub shape: String,
    pub guest: TrueGuest,
    /// The process that asked for it.
    pub asked_by: u32,
    /// Whether it appeared after its absence could be proven.
    pub late: bool,
    /// The newest process to which a listing has shown it.
    pub shown_to: u32,
}

impl TrueVm {
    /// As a listing shows it.
    pub fn listed(&self, name: &RunnerName) -> Vm {
        Vm {
            name: name.clone(),
            id: self.id.clone(),
            status: self.status.clone(),
            created_at: Some(self.created_at),
            shape: Some(self.shape.clone()),
            scope: None,
            address: None,
            task: None,
        }
    }
}

impl World {
    /// A create reaches the cloud. One that was on the wire when its process died may still act.
    pub fn create(&mut self, epoch: u32, op: u64, name: &RunnerName) {
        self.counters.cloud_calls += 1;
        if epoch != self.epoch && self.chance(0.5) {
            return;
        }
        let faults = self.faults;
        let registration = self.registrations.get(name).map(|registration| registration.id);
        let failure = |class, what: &str, possible: bool| {
            let error = if possible {
                PortError::doubtful(class, what)
            } else {
                PortError::certain(class, what)
            };
            Answer::LaunchFailed(LaunchFailure {
                error,
                stage: Stage::Cloud,
                vm_possible: possible,
                registration_possible: true,
                registration,
            })
        };
        if self.chance(faults.create_refused) {
            let class = if self.chance(0.5) { ErrorClass::Quota } else { ErrorClass::Auth };
            let answer = failure(class, "the cloud refuses to make it", false);
            return self.reply(epoch, op, name, answer);
        }
        if self.chance(faults.create_makes_later) {
            let lag = self.rng.random_range(2.0..240.0);
            let late = lag > self.proof_lag();
            self.after(lag, Happening::Appears { name: name.clone(), epoch, late });
            let answer = failure(ErrorClass::Transient, "503 and a VM that is to come", true);
            return self.reply(epoch, op, name, answer);
        }
        self.make_vm(name, epoch, false);
        if self.chance(faults.create_fails_yet_makes) {
            let answer = failure(ErrorClass::Transient, "503 and a VM", true);
            return self.reply(epoch, op, name, answer);
        }
        if self.chance(faults.launch_answer_lost) {
            return;
        }
        let (Some(vm), Some(registration)) =
            (self.vms.get(name).map(|vm| vm.id.clone()), registration)
        else {
            return;
        };
        let answer = Answer::Launched { vm, registration };
        if self.chance(faults.launch_answer_late) {
            let (epoch, name) = (epoch, name.clone());
            self.between(30.0, 320.0, Happening::Answer { epoch, op, name, answer });
        } else {
            self.reply(epoch, op, name, answer);
        }
    }

    /// A VM that appears later than this after its create failed may have been proven absent: the
    /// proof's own time, less what a cached listing may be older than it says.
    fn proof_lag(&self) -> f64 {
        self.pools.first().map_or(0.0, |pool| pool.limits.idle_proof.as_secs_f64()) - 15.0
    }

    /// The VM of that name comes to be.
    pub fn make_vm(&mut self, name: &RunnerName, epoch: u32, late: bool) {
        let Some(pool) = self.pool_of(name) else { return };
        if late {
            self.counters.ghosts += 1;
        }
        if let Some(process) = &mut self.process {
            process.buried.remove(name);
        }
        let id = VmId(format!("vm-{}", self.fresh_id()));
        let guest = self.new_guest(pool);
        let (shape, now) = (shape(self.pools.get(pool).map_or(0, |pool| pool.shape)), self.now);
        self.note(|| format!("cloud: {name} accepted{}", if late { ", late" } else { "" }));
        self.vms.insert(
            name.clone(),
            TrueVm {
                id,
                pool,
                status: VmStatus::Building,
                created_at: now,
                shape,
                guest,
                asked_by: epoch,
                late,
                shown_to: 0,
            },
        );
        if !self.chance(self.faults.build_sticks) {
            self.between(5.0, 60.0, Happening::Built(name.clone()));
        }
    }

    pub fn place_foreigner(&mut self, name: RunnerName) {
        let registration = self.new_registration(usize::MAX);
        self.registrations.insert(name.clone(), registration);
        self.place_vm(name, usize::MAX);
    }

    /// A VM that was there before anything else.
    pub fn place_vm(&mut self, name: RunnerName, pool: usize) {
        let id = VmId(format!("vm-{}", self.fresh_id()));
        let guest = self.new_guest(pool);
        self.vms.insert(
            name,
            TrueVm {
                id,
                pool,
                status: VmStatus::Active,
                created_at: self.now,
                shape: shape(0),
                guest,
                asked_by: 0,
                late: false,
                shown_to: 0,
            },
        );
    }

    pub fn built(&mut self, name: &RunnerName) {
        let fails = self.chance(self.faults.build_fails);
        let Some(vm) = self.vms.get_mut(name) else { return };
        if vm.status != VmStatus::Building {
            return;
        }
        if fails {
            let class = ErrorClass::NoCapacity;
            vm.status = VmStatus::Error { class, fault: "No valid host was found".into() };
            self.note(|| format!("cloud: {name} has no host"));
            return;
        }
        vm.status = VmStatus::Active;
        self.note(|| format!("cloud: {name} is active"));
        self.boots(name);
    }

    /// A deletion reaches the cloud.
    pub fn delete(&mut self, epoch: u32, op: u64, name: &RunnerName, cause: Cause) {
        self.counters.cloud_calls += 1;
        if epoch != self.epoch && self.chance(0.5) {
            return;
        }
        if let Some(error) = self.call_fault() {
            return self.reply(epoch, op, name, Answer::VmDeleted(Err(error)));
        }
        let deletion = self.delete_now(name, cause);
        self.reply_or_lose(epoch, op, name, Answer::VmDeleted(Ok(deletion)));
    }

    pub fn delete_now(&mut self, name: &RunnerName, cause: Cause) -> Deletion {
        let Some(vm) = self.vms.get_mut(name) else { return Deletion::Gone };
        if vm.status != VmStatus::Deleting {
            vm.status = VmStatus::Deleting;
            self.note(|| format!("cloud: {name} is being deleted"));
            self.guest_dies(name, cause);
            let slow = self.chance(self.faults.deletion_slow);
            let most = if slow { 240.0 } else { 25.0 };
            self.between(1.0, most, Happening::Erased(name.clone()));
        }
        Deletion::Accepted
    }

    /// A cloud that keeps no VM whose guest powered off removes it, and may tell so by itself.
    pub fn pushes(&mut self, name: &RunnerName) {
        let Some(vm) = self.vms.get(name) else { return };
        if !self.pools.get(vm.pool).is_some_and(|pool| pool.vanishes) {
            return;
        }
        self.vms.remove(name);
        self.note(|| format!("cloud: {name} is gone with its guest"));
        if self.chance(self.faults.change_lost) {
            return;
        }
        let most = if self.chance(self.faults.change_late) { 90.0 } else { 0.5 };
        let change = Change { name: name.clone(), status: VmStatus::Stopped, as_of: self.now };
        self.between(0.005, most, Happening::Changed { change });
    }

    pub fn erased(&mut self, name: &RunnerName) {
        self.vms.remove(name);
        self.note(|| format!("cloud: {name} is gone"));
    }

    /// Rare faults of the cloud: one VM of the fleet is hit.
    pub fn mischief(&mut self) {
        if self.calm_since.is_some() {
            return;
        }
        self.between(20.0, 100.0, Happening::Mischief);
        // Struck once a minute on average.
        let per_minute = |rate: f64| rate / 60.0;
        let faults = self.faults;
        self.lists_go_wrong();
        self.outages_begin();
        let unknown = self.chance(per_minute(faults.demand_unknown));
        let vanish = self.chance(per_minute(faults.vms_vanish));
        let stop = self.chance(per_minute(faults.vms_stop));
        let fail = self.chance(per_minute(faults.vms_fail));
        if unknown {
            let until = self.now + std::time::Duration::from_secs(self.rng.random_range(30..1500));
            let pool = self.rng.random_range(0..self.pools.len());
            let kinds = [None, Some(Sure::Silent), Some(Sure::AtLeast)];
            let known = kinds[self.rng.random_range(0..kinds.len())];
            if let Some(pool) = self.pools.get_mut(pool) {
                pool.unknown_until = Some(until);
                pool.known = known;
            }
        }
        if vanish && let Some(name) = self.any_active_vm() {
            self.note(|| format!("cloud: {name} vanishes"));
            self.guest_dies(&name, Cause::Cloud);
            self.vms.remove(&name);
        }
        if stop && let Some(name) = self.any_active_vm() {
            self.note(|| format!("cloud: {name} shuts down by itself"));
            self.guest_dies(&name, Cause::Cloud);
            if let Some(vm) = self.vms.get_mut(&name) {
                vm.status = VmStatus::Stopped;
            }
        }
        if fail && let Some(name) = self.any_active_vm() {
            self.note(|| format!("cloud: {name} goes to ERROR, its guest lives on"));
            if let Some(vm) = self.vms.get_mut(&name) {
                let fault = "the hypervisor is not reachable".into();
                vm.status = VmStatus::Error { class: ErrorClass::Transient, fault };
            }
        }
    }

    /// Whole listings begin to lack what is there, for minutes.
    fn lists_go_wrong(&mut self) {
        let per_minute = |rate: f64| rate / 60.0;
        let faults = self.faults;
        let one = self.chance(per_minute(faults.forge_lacks_one));
        let all = self.chance(per_minute(faults.forge_lacks_all));
        let cloudless = self.chance(per_minute(faults.cloud_lacks_all));
        let until = |world: &mut Self, most: u64| {
            world.now + std::time::Duration::from_secs(world.rng.random_range(60..most))
        };
        let over = |at: Option<crate::port::Time>, now| at.is_none_or(|until| now >= until);
        // Two witnesses that lie at once prove whatever they like: one side is right, and has been for a
        // while.
        let since = self.now - std::time::Duration::from_secs(180);
        let whole = over(self.snapshots.lacking.as_ref().map(|(_, until)| *until), since);
        let clouded = over(self.snapshots.cloudless, since);
        if clouded && whole && (one || all) {
            let name = if all { None } else { self.any_active_vm() };
            if all || name.is_some() {
                self.snapshots.lacking = Some((name, until(self, 1500)));
            }
        }
        if clouded && whole && !(one || all) && cloudless && self.crowded() {
            self.snapshots.cloudless = Some(until(self, 480));
        }
        if self.chance(per_minute(faults.foreign_words))
            && !self.is_paused()
            && let Some(name) = self.any_active_vm()
        {
            self.foreign_word(&name);
        }
    }

    /// Whether every pool has enough idle or busy runners that the loss of all is a doubt.
    fn crowded(&self) -> bool {
        (0..self.pools.len()).all(|pool| {
            let up = |vm: &&TrueVm| vm.pool == pool && vm.guest.up && !vm.guest.over;
            self.vms.values().filter(up).count() >= 4
        })
    }

    /// A word about another runner of that name: with its own number, or with none.
    fn foreign_word(&mut self, name: &RunnerName) {
        let numbered = self.chance(0.7);
        let registration = numbered.then_some(crate::name::RegistrationId(u64::MAX));
        let event = if self.chance(0.5) {
            Event::JobStarted { job: crate::event::Job::default(), registration }
        } else {
            Event::JobCompleted { end: crate::event::JobEnd::default(), registration }
        };
        self.apply(name, event);
    }

    fn any_active_vm(&mut self) -> Option<RunnerName> {
        let active: Vec<_> = self
            .vms
            .iter()
            .filter(|(_, vm)| vm.pool != usize::MAX && vm.status == VmStatus::Active)
            .map(|(name, _)| name)
            .collect();
        if active.is_empty() {
            return None;
        }
        Some(active[self.rng.random_range(0..active.len())].clone())
    }

    pub fn perform(
        &mut self,
        (epoch, op): (u32, u64),
        name: &RunnerName,
        (call, grounds): (Call, Option<Grounds>),
    ) {
        if !self.may_go((epoch, op), name, (call, grounds)) {
            return;
        }
        if self.meets_outage((epoch, op), name, call) {
            return;
        }
        match call {
            Call::LookUp { job } => self.look_up(epoch, op, name, job),
            Call::Cordon { on } => self.cordon(epoch, op, name, on),
            Call::Register => self.register(epoch, op, name, grounds),
            Call::Create => self.create(epoch, op, name),
            Call::Order { word } => self.order(epoch, op, name, word),
            Call::Deregister { forced, silent, ahead } => {
                let cause = Cause::of_drain(forced, silent);
                let cause = if ahead && cause == Cause::Drain { Cause::Ahead } else { cause };
                self.deregister(epoch, op, name, cause);
            }
            Call::Delete { forced, silent } => {
                self.delete(epoch, op, name, Cause::of_drain(forced, silent));
            }
        }
    }
}
