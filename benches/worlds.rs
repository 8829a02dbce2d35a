//! Worlds in which a fleet may wait too long, ask too much or lose jobs, over the wire: real actors and adapters
//! against a GitHub and a cloud on loopback, in this process. Beside each, in a world of its own, a plain loop that
//! lists both sides every two seconds.
//!
//! - *points*: GitHub gives each endpoint 900 points a minute; 0 → 200 runners;
//! - *creations*: GitHub takes 30 creations a minute; 0 → 50 runners;
//! - *unborn*: of twenty VMs half never register;
//! - *mute*: nobody but GitHub's flag tells of jobs, and that comes 45 s late; twenty jobs begin, and the pool shrinks.
//!
//! `cargo bench --bench worlds [-- points|creations|unborn|mute]`; ends with 1 where a bound is broken. Nothing of it
//! depends on the machine's speed: `--profile dev` is enough.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a bench reports to the person who runs it, and stops where its set-up fails"
)]

mod wire;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use runner_fleet::fake::{
    github::{self, FakeGithub},
    guest::StandIns,
    openstack::{self, FakeGuest, FakeOpenstack, FakeVm},
};
use runner_fleet_actors::{fleet::Fix, sweep::Cadence};
use tokio::{runtime::Handle, task::JoinHandle};
use wire::{LABEL, Outside, Running, pool_name, scope};

/// GitHub's minute.
const MINUTE: Duration = Duration::from_secs(60);
/// Of what the rule allows.
const POINTS_BOUND: f64 = 1.15;
const REFUSALS_BOUND: u64 = 5;
/// The shortest patience with a boot, a listing, a boot that finds out, and the others.
const UNBORN_BOUND: Duration = Duration::from_secs(150);
const FLAG_LATE: Duration = Duration::from_secs(45);
const MS: fn(u64) -> Duration = Duration::from_millis;

fn main() -> ExitCode {
    let io = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _already = rustls::crypto::ring::default_provider().install_default();
    let good = actix::System::new().block_on(async {
        let mut good = true;
        if wire::runs("points") {
            good &= points(io.handle()).await;
        }
        if wire::runs("creations") {
            good &= creations(io.handle()).await;
        }
        if wire::runs("unborn") {
            good &= unborn(io.handle()).await;
        }
        if wire::runs("mute") {
            good &= mute(io.handle()).await;
        }
        good
    });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Guests of which the first ones never do anything.
struct SomeDead {
    dead: AtomicU32,
    others: StandIns,
}

impl FakeGuest for SomeDead {
    fn booted(&self, vm: FakeVm) {
        let one_less = |left: u32| left.checked_sub(1);
        if self.dead.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            self.others.booted(vm);
        }
    }
}

/// A world in which the first VMs never register.
async fn outside(io: &Handle, dead: u32) -> Outside {
    io.spawn(async move {
        // One that tells of limits: what is told of none is not paced.
        let options = github::Options { latency: MS(20), ..Default::default() };
        let github = FakeGithub::start(options).await.unwrap();
        let others = StandIns::new(github.clone(), MS(300)..=MS(600), 1);
        let cloud = FakeOpenstack::start(openstack::Options {
            boot: MS(2000)..=MS(4000),
            api_latency: MS(20),
            guest: Some(Arc::new(SomeDead { dead: dead.into(), others })),
            ..openstack::Options::default()
        });
        Outside { github, cloud: cloud.await.unwrap(), asked: Arc::default() }
    })
    .await
    .unwrap()
}

/// Who keeps the runners.
enum Keeper {
    Ours(Running),
    Plain(JoinHandle<()>, Arc<AtomicU32>),
}

impl Keeper {
    /// The fleet where `ours`, or else the loop; nothing is wanted yet.
    async fn start(io: &Handle, outside: &Outside, ours: bool) -> Self {
        if !ours {
            let wanted = Arc::new(AtomicU32::new(0));
            return Self::Plain(wire::plain::keep(io, outside, Arc::clone(&wanted)).await, wanted);
        }
        let fleet = Running::start(io, outside, 0, 230, [Cadence::CLOUD, Cadence::FORGE]).await;
        let seen = || {
            let pool = fleet.model.pools.get(&pool_name());
            pool.is_some_and(|pool| pool.cloud_seen_at.is_some() && pool.forge_seen_at.is_some())
        };
        wire::until("the first listing", seen).await;
        Self::Ours(fleet)
    }

    async fn want(&self, runners: u32) {
        match self {
            Self::Ours(fleet) => {
                let fix = Fix { pool: pool_name(), runners: Some(runners) };
                fleet.fleet.send(fix).await.unwrap().unwrap();
            }
            Self::Plain(_, wanted) => wanted.store(runners, Ordering::Relaxed),
        }
    }

    async fn stop(self) {
        match self {
            Self::Ours(fleet) => fleet.stop().await,
            Self::Plain(looping, _) => looping.abort(),
        }
    }
}

/// How long it takes until so many are reached; `None` where it takes longer than `most`.
async fn reached(most: Duration, reached: impl Fn() -> bool) -> Option<Duration> {
    let began = Instant::now();
    while !reached() {
        if began.elapsed() > most {
            return None;
        }
        tokio::time::sleep(MS(10)).await;
    }
    Some(began.elapsed())
}

fn shown(took: Option<Duration>) -> String {
    took.map_or_else(|| "never".to_owned(), |took| format!("after {took:.1?}"))
}

/// Grows to so many under GitHub's `rule`. How long that took, and how often GitHub refused.
async fn grown(
    io: &Handle,
    ours: bool,
    runners: u32,
    rule: fn(&FakeGithub),
) -> (Option<Duration>, u64) {
    let outside = outside(io, 0).await;
    let keeper = Keeper::start(io, &outside, ours).await;
    rule(&outside.github);
    keeper.want(runners).await;
    let all = || outside.cloud.vms().len() >= runners as usize;
    let took = reached(MINUTE * 6, all).await;
    let refused = outside.github.stats().too_fast;
    keeper.stop().await;
    (took, refused)
}

async fn points(io: &Handle) -> bool {
    let rule = |github: &FakeGithub| github.faults().points_a_minute(Some(900));
    let (ours, plain) = (grown(io, true, 200, rule).await, grown(io, false, 200, rule).await);
    // 180 at once, and the others when those are a minute old.
    let ratio = ours.0.map_or(f64::INFINITY, |took| took.as_secs_f64() / MINUTE.as_secs_f64());
    println!(
        "points, 0 to 200 at 900 points a minute: {}, {ratio:.3} × what the rule allows (bound {POINTS_BOUND}), {} \
         refusals; a plain loop {}, {} refusals",
        shown(ours.0),
        ours.1,
        shown(plain.0),
        plain.1
    );
    ratio <= POINTS_BOUND
}

async fn creations(io: &Handle) -> bool {
    let rule = |github: &FakeGithub| github.faults().creations_a_minute(Some(30));
    let (ours, plain) = (grown(io, true, 50, rule).await, grown(io, false, 50, rule).await);
    println!(
        "creations, 0 to 50 at 30 a minute: {}, {} refusals (bound {REFUSALS_BOUND}); a plain loop {}, {} refusals",
        shown(ours.0),
        ours.1,
        shown(plain.0),
        plain.1
    );
    ours.0.is_some() && ours.1 <= REFUSALS_BOUND
}

async fn unborn(io: &Handle) -> bool {
    let mut took = Vec::new();
    for ours in [true, false] {
        let outside = outside(io, 10).await;
        let keeper = Keeper::start(io, &outside, ours).await;
        keeper.want(20).await;
        let all = || outside.github.stats().online >= 20;
        took.push(reached(UNBORN_BOUND * 2, all).await);
        keeper.stop().await;
    }
    println!(
        "unborn, 10 of 20 VMs never register: 20 online {} (bound {UNBORN_BOUND:?}); a plain loop {}",
        shown(took[0]),
        shown(took[1])
    );
    took[0].is_some_and(|took| took <= UNBORN_BOUND)
}

async fn mute(io: &Handle) -> bool {
    let mut told = Vec::new();
    for ours in [true, false] {
        let outside = outside(io, 0).await;
        outside.github.faults().busy_is_late(FLAG_LATE);
        let keeper = Keeper::start(io, &outside, ours).await;
        keeper.want(40).await;
        reached(MINUTE, || outside.github.stats().online >= 40).await.unwrap();
        // Quiet for longer than any proof by listings takes.
        tokio::time::sleep(MINUTE * 2).await;
        for _ in 0..10 {
            outside.github.queue_job(&scope(), &[LABEL.to_owned()], MINUTE * 2);
        }
        keeper.want(10).await;
        // And some that begin while others go.
        for _ in 0..10 {
            tokio::time::sleep(MS(3000)).await;
            outside.github.queue_job(&scope(), &[LABEL.to_owned()], MINUTE * 2);
        }
        let over = || {
            let stats = outside.github.stats();
            stats.completed + stats.lost >= 20
        };
        let took = reached(MINUTE * 5, over).await;
        told.push((outside.github.stats().lost, took, outside.cloud.vms().len()));
        keeper.stop().await;
    }
    println!(
        "mute, 40 runners become 10 under 20 jobs, the busy flag {FLAG_LATE:?} late: {} jobs lost (bound 0), all over {}, {} VMs then; \
         a plain loop {}, {}, {}",
        told[0].0,
        shown(told[0].1),
        told[0].2,
        told[1].0,
        shown(told[1].1),
        told[1].2
    );
    told[0].0 == 0 && told[0].1.is_some()
}
