//! How quickly the fleet acts, over the wire: real actors and adapters against a GitHub and a cloud
//! on loopback, in this process.
//!
//! - *reaction*: from the fact "this runner is finished" reaching the daemon (a guest's report, or the
//!   answer of a listing) to the replacement's first call arriving at GitHub;
//! - *growth*: from 0 to 200 runners, next to a plain loop that asks for the same 200 with nothing
//!   in between, as often at a time: the fake cloud's own ideal;
//! - *idle*: the CPU time of a fleet of 100 idle runners, the outside's included.
//!
//! `cargo bench --bench reaction [-- reaction|growth|idle]`; ends with 1 where a bound is broken.

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
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use futures::{StreamExt, stream};
use runner_fleet_actors::{
    event::{GuestTimes, JobEnd, Phase},
    fleet::{Fix, Route},
    name::RunnerName,
    pool::actor::Order,
    port::{Clock, Forge, Provider, Time, TokioClock},
    runner::{Event, Report},
    sweep::Cadence,
};
use tokio::runtime::Handle;
use wire::{AT_ONCE, LABEL, Outside, Running, plain, pool_name, scope, until, usage};

const REACTION_BOUND: Duration = Duration::from_millis(50);
const GROWTH_BOUND: f64 = 1.1;
const IDLE_BOUND: f64 = 0.005;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn main() -> ExitCode {
    let io = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _already = rustls::crypto::ring::default_provider().install_default();
    let good = actix::System::new().block_on(async {
        let mut good = true;
        if wire::runs("reaction") {
            good &= reaction(io.handle()).await;
        }
        if wire::runs("growth") {
            good &= growth(io.handle()).await;
        }
        if wire::runs("idle") {
            good &= idle(io.handle()).await;
        }
        good
    });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A cloud and a GitHub that take no time, so that what is left is the fleet's.
async fn quick(io: &Handle) -> Outside {
    io.spawn(Outside::start(MS(0), [MS(5), MS(20)], [MS(0), MS(5)])).await.unwrap()
}

fn every(pause: Duration) -> Cadence {
    Cadence {
        changing: pause,
        working: pause,
        quiet: pause,
        away: pause,
        recent: pause,
        whole: pause * 10,
    }
}

const POOL: u32 = 50;
const REPLACEMENTS: usize = 300;

async fn reaction(io: &Handle) -> bool {
    let good = reported(io).await;
    good & listed(io, 1).await & listed(io, 20).await
}

async fn pool_of_fifty(io: &Handle) -> (Outside, Running) {
    let outside = quick(io).await;
    let cadences = [every(MS(50)), every(MS(50))];
    let fleet = Running::start(io, &outside, POOL, 400, cadences).await;
    all_idle(&fleet).await;
    (outside, fleet)
}

async fn all_idle(fleet: &Running) {
    let idle = || fleet.model.runners.iter().filter(|r| r.state == Phase::Idle).count();
    until("all idle", || idle() >= POOL as usize).await;
}

/// Guests report their end, one at a time.
async fn reported(io: &Handle) -> bool {
    let (outside, fleet) = pool_of_fifty(io).await;
    let mut took = Vec::new();
    while took.len() < REPLACEMENTS {
        let name = first_idle(&fleet);
        let before = outside.jit_calls().len();
        let fact = Utc::now();
        let event =
            Box::new(Event::Guest(Report::Stopped(JobEnd::default()), GuestTimes::default()));
        let order = Order::Tell(name, event);
        fleet.fleet.send(Route { pool: pool_name(), order }).await.unwrap().unwrap();
        until("a replacement", || outside.jit_calls().len() > before).await;
        took.push(since(fact, outside.jit_calls()[before]));
        all_idle(&fleet).await;
    }
    fleet.stop().await;
    verdict("a guest reports its end, one at a time", took)
}

/// Listings show that VMs are off, whose jobs ended `at_once`.
async fn listed(io: &Handle, at_once: usize) -> bool {
    let (outside, fleet) = pool_of_fifty(io).await;
    let mut took = Vec::new();
    while took.len() < REPLACEMENTS {
        let before = outside.jit_calls().len();
        let facts = fleet.stopped.lock().unwrap().news.len();
        for _ in 0..at_once {
            outside.github.queue_job(&scope(), &[LABEL.to_owned()], MS(5));
        }
        until("all replaced", || outside.jit_calls().len() >= before + at_once).await;
        // The n-th replacement answers the n-th fact: both are in the order of their arrival.
        let news = fleet.stopped.lock().unwrap().news[facts..].to_vec();
        let facts = news.iter().flat_map(|(at, count)| std::iter::repeat_n(*at, *count));
        let calls = outside.jit_calls();
        took.extend(facts.zip(&calls[before..]).map(|(fact, call)| since(fact, *call)));
        all_idle(&fleet).await;
    }
    fleet.stop().await;
    verdict(&format!("a listing shows the VM off, {at_once} jobs at once"), took)
}

fn first_idle(fleet: &Running) -> RunnerName {
    let found = fleet.model.runners.iter().find(|runner| runner.state == Phase::Idle);
    found.map(|runner| runner.name.clone()).unwrap()
}

fn since(fact: Time, call: Time) -> Duration {
    (call - fact).to_std().unwrap_or_default()
}

fn verdict(what: &str, mut took: Vec<Duration>) -> bool {
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize];
    println!(
        "reaction, {what}: p50 {:.2?}, p99 {:.2?}, max {:.2?} of {} (bound: p99 {REACTION_BOUND:?})",
        at(0.5),
        at(0.99),
        at(1.0),
        took.len()
    );
    at(0.99) <= REACTION_BOUND
}

const RUNNERS: u32 = 200;

/// Answers take 50 ms and VMs 2 to 4 s: a cloud ten times as quick as a good one.
async fn outside_for_growth(io: &Handle) -> Outside {
    io.spawn(Outside::start(MS(50), [MS(2000), MS(4000)], [MS(300), MS(600)])).await.unwrap()
}

async fn growth(io: &Handle) -> bool {
    let mut good = true;
    let ideal = ideal(io).await;
    let outside = outside_for_growth(io).await;
    let fleet =
        Running::start(io, &outside, 0, RUNNERS + 10, [Cadence::CLOUD, Cadence::FORGE]).await;
    let seen = || fleet.model.pools.get(&pool_name()).is_some_and(|p| p.cloud_seen_at.is_some());
    until("the first listing", seen).await;
    let began = Instant::now();
    let fix = Fix { pool: pool_name(), runners: Some(RUNNERS) };
    fleet.fleet.send(fix).await.unwrap().unwrap();
    let took = grown(&outside, began).await;
    fleet.stop().await;
    for (what, took, ideal) in [("ACTIVE", took.0, ideal.0), ("online", took.1, ideal.1)] {
        let ratio = took.as_secs_f64() / ideal.as_secs_f64();
        println!(
            "growth, 0 to {RUNNERS} {what}: fleet {took:.2?}, ideal {ideal:.2?}, ratio {ratio:.3} \
             (bound {GROWTH_BOUND})"
        );
        good &= ratio <= GROWTH_BOUND;
    }
    good
}

/// When all VMs are ACTIVE, and when all runners are online.
async fn grown(outside: &Outside, began: Instant) -> (Duration, Duration) {
    let active = || outside.cloud.vms().iter().filter(|vm| vm.status == "ACTIVE").count();
    let active = until("all active", || active() >= RUNNERS as usize).await;
    let online = until("all online", || outside.github.stats().online >= u64::from(RUNNERS)).await;
    (active - began, online - began)
}

/// The same calls with nothing in between.
async fn ideal(io: &Handle) -> (Duration, Duration) {
    let outside = outside_for_growth(io).await;
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Utc::now()));
    let forge = Arc::new(outside.forge(io, Arc::clone(&clock)));
    let provider = Arc::new(outside.provider(io, Arc::clone(&clock)).await);
    // What the fleet did in its first listing: logged in, and looked the names up.
    let (f, p) = (Arc::clone(&forge), Arc::clone(&provider));
    io.spawn(async move { (p.list().await.unwrap(), f.list(&scope()).await.unwrap()) })
        .await
        .unwrap();
    let began = Instant::now();
    let at_once = AT_ONCE as usize;
    let launches = stream::iter(0..u64::from(RUNNERS)).for_each_concurrent(at_once, |token| {
        let (forge, provider) = (Arc::clone(&forge), Arc::clone(&provider));
        let launch = io.spawn(async move {
            plain::launch(&*forge, &*provider, token, Utc::now()).await.unwrap();
        });
        async { launch.await.unwrap() }
    });
    let (_, took) = tokio::join!(launches, grown(&outside, began));
    took
}

async fn idle(io: &Handle) -> bool {
    let outside = quick(io).await;
    let fleet = Running::start(io, &outside, 100, 110, [Cadence::CLOUD, Cadence::FORGE]).await;
    let idle = || fleet.model.runners.iter().filter(|r| r.state == Phase::Idle).count();
    until("a hundred idle", || idle() == 100).await;
    // The sweeps that saw the last of them come online are over with this pause.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (began, before) = (Instant::now(), usage::cpu("self"));
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (took, spent) = (began.elapsed(), usage::cpu("self") - before);
    let share = spent.as_secs_f64() / took.as_secs_f64();
    println!(
        "idle, 100 runners: {spent:.2?} of CPU in {took:.1?}, {:.3} % of one core (bound {} %)",
        share * 100.0,
        IDLE_BOUND * 100.0
    );
    fleet.stop().await;
    share <= IDLE_BOUND
}
