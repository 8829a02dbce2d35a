//! What runs inside the fake cloud's VMs: a stand-in for the runner application.
//!
//! It does what a guest does: takes the JIT config out of its user data, comes online at the fake
//! GitHub, runs one job, and powers its VM off. It keeps the count that matters most: jobs that were
//! killed because their VM or registration was taken away.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{
    github::{FakeGithub, Listener, Next},
    openstack::{FakeGuest, FakeVm},
};
use crate::guest;

/// What the guests saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// VMs that booted.
    pub booted: u64,
    /// Names of VMs that were taken away in mid-job.
    pub vm_taken: Vec<String>,
    /// Names of runners whose registration was taken away in mid-job.
    pub registration_taken: Vec<String>,
}

/// The inside of all VMs of a fake cloud.
#[derive(Clone)]
pub struct StandIns {
    github: FakeGithub,
    start: RangeInclusive<Duration>,
    seen: Arc<Mutex<Seen>>,
    chance: Arc<Mutex<SmallRng>>,
    io: tokio::runtime::Handle,
}

impl StandIns {
    /// Guests that take `start` from boot to being online at `github`. Must be called inside a
    /// tokio runtime; the guests live there.
    #[must_use]
    pub fn new(github: FakeGithub, start: RangeInclusive<Duration>, seed: u64) -> Self {
        Self {
            github,
            start,
            seen: Arc::default(),
            chance: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))),
            io: tokio::runtime::Handle::current(),
        }
    }

    /// What the guests saw so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_time(&self) -> Duration {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        chance.random_range(self.start.clone())
    }

    /// A GitHub that is out of reach for a moment costs a guest that moment, as the real listener.
    async fn connect(&self, jit_config: &str) -> Option<Listener> {
        loop {
            match self.github.connect(jit_config).await {
                Ok(listener) => return Some(listener),
                Err(super::github::Refused::Unreachable) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(_) => return None,
            }
        }
    }

    async fn live(self, vm: FakeVm) {
        tokio::time::sleep(self.start_time()).await;
        let Some(jit_config) = guest::jit_config_in(&vm.user_data) else { return vm.power_off() };
        let Some(mut listener) = self.connect(jit_config.expose()).await else {
            return vm.power_off();
        };
        let next = tokio::select! {
            // A job that was assigned in the VM's last instant is a job that was taken away.
            biased;
            next = listener.next_job() => next,
            () = vm.killed() => return,
        };
        if let Next::Job(job) = next {
            tokio::select! {
                () = tokio::time::sleep(job.runs_for) => listener.complete(true),
                () = listener.deregistered() => {
                    self.lock().registration_taken.push(vm.name.clone());
                }
                () = vm.killed() => {
                    self.lock().vm_taken.push(vm.name.clone());
                    return;
                }
            }
        }
        vm.power_off();
    }
}

impl FakeGuest for StandIns {
    fn booted(&self, vm: FakeVm) {
        self.lock().booted += 1;
        let killed = vm.killed();
        let life = self.clone().live(vm.clone());
        self.io.spawn(async move {
            tokio::select! {
                // The job's own arm notes a kill in mid-job before this one ends it all.
                biased;
                () = life => {}
                () = killed => {}
            }
        });
    }
}
