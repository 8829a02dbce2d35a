//! What runs inside the fake cloud's VMs: a stand-in for the runner application.
//!
//! It does what a guest does: takes the JIT config out of its user data, comes online at the fake
//! GitHub, runs one job, and powers its VM off; where its user data names a home, it reports there and
//! obeys its orders. It keeps the count that matters most: jobs that were
//! killed because their VM or registration was taken away.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use serde_json::json;

use super::{
    github::{FakeGithub, Listener, Next},
    openstack::{FakeGuest, FakeVm},
    voice::Voice,
};
use crate::{guest, home::OrderWord};

/// The version that stand-ins say they are.
const VERSION: &str = "2.330.0";

/// How long the real guest stands down without another word (`src/guest/program/standdown.py`).
const FROZEN: Duration = Duration::from_secs(300);

/// How guests stand down.
struct Stance {
    /// For how long without another word.
    frozen: Duration,
    /// What happens between the moment in which one freezes and its answer.
    frozen_first: Option<Arc<dyn Fn() + Send + Sync>>,
}

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
    stance: Arc<Mutex<Stance>>,
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
            stance: Arc::new(Mutex::new(Stance { frozen: FROZEN, frozen_first: None })),
            chance: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))),
            io: tokio::runtime::Handle::current(),
        }
    }

    /// What the guests saw so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// A guest that stands down goes on by itself after `frozen`; when it has frozen, and before it says so,
    /// `then` happens.
    pub fn stand_down_for(&self, frozen: Duration, then: impl Fn() + Send + Sync + 'static) {
        *self.stance() = Stance { frozen, frozen_first: Some(Arc::new(then)) };
    }

    fn stance(&self) -> MutexGuard<'_, Stance> {
        self.stance.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut voice = Voice::of(&vm.user_data);
        voice.say("booted");
        tokio::time::sleep(self.start_time()).await;
        let Some(jit_config) = guest::jit_config_in(&vm.user_data) else { return vm.power_off() };
        let Some(mut listener) = self.connect(jit_config.expose()).await else {
            return vm.power_off();
        };
        voice.know("runner_version", json!(VERSION));
        voice.say("runner-started");
        let next = tokio::select! {
            // A job that was assigned in the VM's last instant is a job that was taken away.
            biased;
            next = self.next_job(&mut listener, &mut voice) => next,
            () = vm.killed() => return,
        };
        if let Next::Job(job) = next {
            if let Some(known) = self.github.jobs().into_iter().find(|known| known.id == job.id) {
                let facts = json!({
                    "repository": known.repository, "workflow": known.workflow,
                    "event": known.event, "run_id": known.run_id,
                });
                voice.know("job", facts);
            }
            voice.say("job-started");
            tokio::select! {
                () = end_of_job(job.runs_for, &mut voice) => {
                    voice.know("result", json!("success"));
                    voice.say("job-completed");
                    listener.complete(true);
                }
                () = listener.deregistered() => {
                    self.lock().registration_taken.push(vm.name.clone());
                }
                () = vm.killed() => {
                    self.lock().vm_taken.push(vm.name.clone());
                    return;
                }
            }
        }
        voice.know("exit_code", json!(0));
        voice.say_last("stopped").await;
        vm.power_off();
    }
}

/// A guest with a job says so to whoever asks.
async fn end_of_job(runs_for: Duration, voice: &mut Voice) {
    let busy = async {
        loop {
            let order = voice.order().await;
            if order.order == OrderWord::StandDown {
                let _withdrawn = voice.answer(order.number, "busy").await;
            }
        }
    };
    tokio::select! {
        () = busy => {}
        () = tokio::time::sleep(runs_for) => {}
    }
}

impl StandIns {
    /// Waits for a job, or for the end, and stands down when it is told to. Frozen, it takes no job: one
    /// that is assigned meanwhile goes back to the queue.
    async fn next_job(&self, listener: &mut Listener, voice: &mut Voice) -> Next {
        let mut told = None;
        loop {
            let order = match told.take() {
                Some(order) => order,
                None => tokio::select! {
                    biased;
                    next = listener.next_job() => return next,
                    order = voice.order() => order,
                },
            };
            if order.order != OrderWord::StandDown {
                continue;
            }
            let (frozen, then) = {
                let stance = self.stance();
                (stance.frozen, stance.frozen_first.clone())
            };
            if let Some(then) = then {
                then();
            }
            let stands = async {
                let taken = voice.answer(order.number, "standing-down").await;
                if taken { Some(voice.order().await) } else { None }
            };
            // Nobody's word for so long: it goes on by itself.
            told = tokio::time::timeout(frozen, stands).await.ok().flatten();
            if told.is_some_and(|next| next.order == OrderWord::End) {
                return Next::Deregistered;
            }
        }
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
