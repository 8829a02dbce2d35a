//! Stand-down in real containers: the real guest program, a listener that takes jobs at the worst
//! moments, and hundreds of orders. Nobody loses a job and nobody stays frozen.

use std::{sync::Arc, time::Duration};

use crate::support::guest_settings::{user_data, world};
use crate::support::guest_world::{JobState, World};
use crate::support::lxd_guests::{Container, Lxd, fresh};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use runner_fleet::guest::Settings;
use serde_json::json;

/// Machines at once, and how many after one another.
const MACHINES: u64 = 10;
const LIVES: u64 = 2;
/// Orders of one life at most; a life ends with its job.
const ORDERS: u32 = 25;
const BOOT: Duration = Duration::from_secs(300);
/// The guest's own limit for a doubt is 20 s, its limit for giving an answer as long again.
const ANSWER: Duration = Duration::from_secs(45);
/// How long the stand-in stays at each of its three worst moments, in milliseconds.
const MOMENTS: [u64; 3] = [150, 100, 150];

#[derive(Debug, Default)]
struct Tally {
    orders: u32,
    standing_down: u32,
    busy: u32,
    silent: u32,
    withdrawn: u32,
    ended: u32,
}

struct Trials {
    lxd: Lxd,
    world: World,
    settings: Settings,
}

impl Trials {
    /// One machine from its boot to its power-off, with orders at random moments round its jobs.
    async fn life(self: Arc<Self>, name: String, seed: u64) -> Tally {
        let mut chance = SmallRng::seed_from_u64(seed);
        let mut tally = Tally::default();
        let container = self.lxd.launch(&name, &user_data(&self.settings, &name));
        self.world
            .until(BOOT, "the runner listens and its guest polls", |known| {
                known.online.contains_key(&name) && known.polls.contains_key(&name)
            })
            .await;
        for turn in 0..ORDERS {
            tally.orders += 1;
            let last = turn + 1 == ORDERS;
            // Where the job is when the order is given: on its way at a random moment; before or
            // after it by a hair; or on its way, and taken by another runner before it is acquired.
            let kind = chance.random_range(0..100);
            let total: u64 = MOMENTS.iter().sum();
            let job = match kind {
                ..12 => {
                    let job = self.world.queue(&name, 0.3);
                    let head_start = Duration::from_millis(chance.random_range(0..total + 100));
                    tokio::time::sleep(head_start).await;
                    tokio::spawn(async move { job })
                }
                12..40 => {
                    let (world, name) = (self.world.clone(), name.clone());
                    let wait = Duration::from_millis(chance.random_range(0..40));
                    tokio::spawn(async move {
                        tokio::time::sleep(wait).await;
                        world.queue(&name, 0.3)
                    })
                }
                _ => {
                    let job = self.world.queue(&name, 0.3);
                    let before = chance.random_range(0..MOMENTS[0]);
                    let until = chance.random_range(0..MOMENTS[0]);
                    tokio::time::sleep(Duration::from_millis(before.min(until))).await;
                    let world = self.world.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(until.saturating_sub(before)))
                            .await;
                        world.take_back(job);
                        job
                    })
                }
            };
            let number = self.world.order(&name, "stand-down");
            if kind < 40 && chance.random_bool(0.03) {
                // The daemon takes the order back before it has the answer.
                self.world.order(&name, "go-on");
                tally.withdrawn += 1;
                self.done(&container, job.await.unwrap()).await;
                return tally;
            }
            let answer = self.world.answer(number, ANSWER).await;
            let job = job.await.unwrap();
            match answer.as_deref() {
                Some("standing-down") => {
                    tally.standing_down += 1;
                    // Time enough for a listener that is not frozen to take the job.
                    tokio::time::sleep(Duration::from_millis(total + 200)).await;
                    let state = self.world.known().jobs[&job].state;
                    assert_eq!(state, JobState::Assigned, "{name}: a job of one that stands down");
                    if last || chance.random_bool(0.03) {
                        self.world.deregister(&name);
                        self.world.order(&name, "end");
                        tally.ended += 1;
                        self.gone(&container).await;
                        let state = self.world.known().jobs[&job].state;
                        assert_eq!(state, JobState::Assigned, "{name}: it goes to another runner");
                        return tally;
                    }
                    // GitHub gives the job to another runner; this one goes on.
                    if kind >= 40 || chance.random_bool(0.9) {
                        self.world.take_back(job);
                        self.world.order(&name, "go-on");
                    } else {
                        self.world.order(&name, "go-on");
                        self.done(&container, job).await;
                        return tally;
                    }
                }
                Some("busy") => {
                    tally.busy += 1;
                    let state = self.world.known().jobs[&job].state;
                    assert_ne!(state, JobState::Assigned, "{name}: busy with a job it has not got");
                    self.done(&container, job).await;
                    return tally;
                }
                _ => {
                    println!("{name}: no answer to order {number}");
                    tally.silent += 1;
                    self.done(&container, job).await;
                    return tally;
                }
            }
        }
        tally
    }

    /// The job is run to its end, and the machine goes.
    async fn done(&self, container: &Container<'_>, job: u64) {
        let name = container.name;
        self.world
            .until(BOOT, "the job ends", |known| known.jobs[&job].state == JobState::Completed)
            .await;
        self.gone(container).await;
        let stopped = self.world.report(name, "stopped").expect("the guest's last word");
        assert_eq!(stopped["result"], "success", "{name}: {stopped}");
    }

    async fn gone(&self, container: &Container<'_>) {
        let gone = tokio::task::block_in_place(|| container.gone_within(BOOT));
        assert!(gone, "{}: frozen or stuck", container.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 12)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn hundreds_of_stand_downs_at_the_worst_moments_lose_no_job_and_leave_nobody_frozen() {
    let lxd = Lxd::found();
    let seed: u64 = match std::env::var("RUNNER_FLEET_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => uuid::Uuid::new_v4().as_u64_pair().0,
    };
    println!("RUNNER_FLEET_TEST_SEED={seed}");
    let [before_acquire, acquire, before_worker] =
        MOMENTS.map(|moment| format!("{}", moment as f64 / 1000.0));
    let wish = json!({
        "STAND_IN_BEFORE_ACQUIRE": before_acquire,
        "STAND_IN_ACQUIRE": acquire,
        "STAND_IN_BEFORE_WORKER": before_worker,
    });
    let (world, settings) = world(&lxd, wish).await;
    let trials = Arc::new(Trials { lxd, world, settings });
    let machines = (0..MACHINES).map(|machine| {
        let trials = Arc::clone(&trials);
        tokio::spawn(async move {
            let mut tallies = Vec::new();
            for life in 0..LIVES {
                let seed = seed.wrapping_add(machine * LIVES + life);
                tallies.push(Arc::clone(&trials).life(fresh("down"), seed).await);
            }
            tallies
        })
    });
    let machines: Vec<_> = machines.collect();
    let mut sum = Tally::default();
    for machine in machines {
        for tally in machine.await.unwrap() {
            sum.orders += tally.orders;
            sum.standing_down += tally.standing_down;
            sum.busy += tally.busy;
            sum.silent += tally.silent;
            sum.withdrawn += tally.withdrawn;
            sum.ended += tally.ended;
        }
    }
    println!("{sum:?}");
    let known = trials.world.known();
    let lost = known.jobs.values().filter(|job| job.state == JobState::Acquired).count();
    let killed = known.jobs.values().filter(|job| job.state == JobState::Cancelled).count();
    assert_eq!((lost, killed), (0, 0), "of {} jobs", known.jobs.len());
    assert!(sum.standing_down > 0 && sum.busy > 0, "both answers came: {sum:?}");
}
