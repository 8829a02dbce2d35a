//! The world's clock and queue: what happens next, to whom.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{
    Counters, Faults, Mutant, Report, Violation,
    cloud::TrueVm,
    forge::{TrueJob, TrueRegistration},
    happening::Happening,
    learnt::Books,
    orders::Slot,
    outages::Outages,
    pauses::Pause,
    process::Process,
    recent::Told,
    sweep::Snapshots,
};
use crate::{
    demand::Sure,
    invariant,
    name::{FleetId, PoolName, RunnerName},
    pool::{Boots, Habits, Policy},
    port::Time,
    runner::Limits,
    scaler,
};

struct Due {
    at: Time,
    seq: u64,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// One pool, as the configuration describes it, and its queue of jobs.
pub(super) struct Pool {
    pub name: PoolName,
    pub policy: Policy,
    pub scaling: scaler::Policy,
    pub limits: Limits,
    /// The limits that the brain is given: the same, but for a mutant.
    pub believed: Limits,
    /// How long boots took, as the process before this one has kept it.
    pub boots: Boots,
    /// Whether its guests report and answer.
    pub reports: bool,
    pub waiting: u32,
    pub unknown_until: Option<Time>,
    /// What is known of it all the same; never `Exact`.
    pub known: Option<Sure>,
    pub shape: u32,
    /// When launches failed since one went well, within a minute.
    pub failing: Vec<Time>,
    /// When its last launch was decided.
    pub launched_at: Option<Time>,
    /// Whether its VMs are gone once their guests power off.
    pub vanishes: bool,
}

pub(super) struct World {
    pub now: Time,
    queue: BinaryHeap<Reverse<Due>>,
    seq: u64,
    pub rng: SmallRng,
    pub faults: Faults,
    pub mutant: Option<Mutant>,
    pub fleet: FleetId,
    pub pools: Vec<Pool>,
    pub vms: BTreeMap<RunnerName, TrueVm>,
    pub registrations: BTreeMap<RunnerName, TrueRegistration>,
    pub jobs: BTreeMap<u64, TrueJob>,
    pub next_id: u64,
    pub process: Option<Process>,
    pub epoch: u32,
    /// The process stands still, since then, and what waits for it.
    pub paused: Option<Pause>,
    pub snapshots: Snapshots,
    /// Whether the cloud tells what has changed, and what it has told.
    pub tells: bool,
    pub told: Told,
    pub outages: Outages,
    /// Whether nothing but outages is wrong with this world, and its calls are quick: then it is judged how
    /// soon they are over for the fleet.
    pub strict: bool,
    /// The newest order for each guest; the process's own, lost with it.
    pub hub: BTreeMap<RunnerName, Slot>,
    pub foreign: BTreeSet<RunnerName>,
    pub calm_since: Option<Time>,
    pub good_looks: u32,
    /// Pools that something happened to since they were planned.
    pub unplanned: BTreeSet<usize>,
    pub over: bool,
    /// Seconds of the longest job.
    pub longest_job: f64,
    /// Runners whose cordon was not granted once: how they go is nobody's fault.
    pub uncordonable: BTreeSet<RunnerName>,
    /// What the forge has shown of its habits, as the process before this one has kept it.
    pub habits: Habits,
    /// What was learnt, by the judge's own books.
    pub books: Books,
    /// Whether nothing excuses a guest that is left standing down.
    pub no_excuse: bool,
    seed: u64,
    pub began: Time,
    pub violations: Vec<Violation>,
    pub counters: Counters,
    trace: VecDeque<String>,
    trace_lines: usize,
}

/// How many violations a run collects before it ends: what follows the first is mostly its echo.
const ENOUGH: usize = 4;
/// No seed needs as many; a world that spins is ended with a violation.
const MOST_STEPS: u64 = 2_000_000;

impl World {
    pub fn new(
        seed: u64,
        hours: f64,
        faults: Faults,
        mutant: Option<Mutant>,
        trace_lines: usize,
    ) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x706f_6f6c);
        let pools =
            ["report", "mute"].into_iter().map(|text| pool(text, &mut rng, mutant)).collect();
        let mut world = Self::empty(seed, faults, mutant, pools, trace_lines);
        world.settle_foreigners();
        world.after(0.0, Happening::Start);
        for pool in 0..world.pools.len() {
            world.after(5.0, Happening::JobsArrive { pool });
        }
        world.after(hours * 3600.0, Happening::Calm);
        for what in [Happening::Mischief, Happening::OperatorActs] {
            world.after(60.0, what);
        }
        world.rarely(world.faults.crashes, Happening::Crash);
        world.rarely(world.faults.pauses, Happening::Pause);
        world.rarely(world.faults.shape_changes, Happening::ShapeChanges);
        world
    }

    /// A world in which nothing is there and nothing is going to happen.
    pub fn empty(
        seed: u64,
        faults: Faults,
        mutant: Option<Mutant>,
        pools: Vec<Pool>,
        trace_lines: usize,
    ) -> Self {
        let now = Time::from_timestamp(1_800_000_000, 0).unwrap_or_default();
        Self {
            now,
            queue: BinaryHeap::new(),
            seq: 0,
            rng: SmallRng::seed_from_u64(seed),
            faults,
            mutant,
            fleet: name_of("ci"),
            pools,
            vms: BTreeMap::new(),
            registrations: BTreeMap::new(),
            jobs: BTreeMap::new(),
            next_id: 1,
            process: None,
            epoch: 0,
            paused: None,
            snapshots: Snapshots::default(),
            tells: Self::tells_recent(seed),
            told: Told::default(),
            outages: Outages::default(),
            strict: faults.are_outages(),
            hub: BTreeMap::new(),
            foreign: BTreeSet::new(),
            calm_since: None,
            good_looks: 0,
            unplanned: BTreeSet::new(),
            over: false,
            longest_job: 2400.0,
            uncordonable: BTreeSet::new(),
            habits: Habits::default(),
            books: Books::default(),
            no_excuse: false,
            seed,
            began: now,
            violations: Vec::new(),
            counters: Counters { runs: 1, ..Counters::default() },
            trace: VecDeque::new(),
            trace_lines,
        }
    }

    /// A second fleet in the same project and scope, whose id begins like ours and whose pool has the
    /// name of one of ours.
    fn settle_foreigners(&mut self) {
        let fleet: FleetId = name_of("ci-big");
        for token in 1..=3 {
            let Some(pool) = self.pools.first().map(|pool| pool.name.clone()) else { return };
            let name = RunnerName::new(&fleet, &pool, token);
            self.foreign.insert(name.clone());
            self.place_foreigner(name);
        }
    }

    pub fn run(mut self) -> Report {
        while let Some(Reverse(due)) = self.queue.pop() {
            self.now = due.at;
            self.counters.steps += 1;
            if let Some(what) = self.unless_paused(due.what) {
                self.happen(what);
            }
            self.plan_all();
            if self.counters.steps > MOST_STEPS {
                self.violated(invariant::PROGRESS, "the world spins".to_owned());
                break;
            }
            if self.over || self.violations.len() >= ENOUGH {
                break;
            }
        }
        Report {
            seed: self.seed,
            violations: self.violations,
            counters: self.counters,
            trace: self.trace.into(),
        }
    }

    pub fn happen(&mut self, what: Happening) {
        match what {
            Happening::JobsArrive { pool } => self.jobs_arrive(pool),
            Happening::Mischief => self.mischief(),
            Happening::OperatorActs => self.operator_acts(),
            Happening::ShapeChanges => self.shape_changes(),
            Happening::Crash => self.crash(),
            Happening::Start => self.start_process(),
            Happening::Pause => self.pause(),
            Happening::Resume { pause } => self.resume(pause),
            Happening::Calm => self.calm(),
            Happening::Returned { since, all } => self.returned(since, all),
            Happening::Look => self.look(),
            Happening::Built(name) => self.built(&name),
            Happening::Appears { name, epoch, late } => self.make_vm(&name, epoch, late),
            Happening::Online(name) => self.online(&name),
            Happening::Message { name, job } => self.message(&name, job),
            Happening::Step { name, job } => self.step(&name, job),
            Happening::ForgeAcquires { name, job } => self.forge_acquires(&name, job),
            Happening::Acquired { name, job, granted } => self.acquired(&name, job, granted),
            Happening::Requeue { name, job } => self.requeue(&name, job),
            Happening::JobEnds { name, job } => self.job_ends(&name, job),
            Happening::JobTold { name, job } => self.job_told(&name, job),
            Happening::Unlistened(name) => self.unlistened(&name),
            Happening::PowerOff(name) => self.power_off(&name),
            Happening::Fetched { name, number } => self.fetched(&name, number),
            Happening::Ordered { name, number, word } => self.ordered(&name, number, word),
            Happening::LooksInside { name, number, until } => {
                self.looks_inside(&name, number, until);
            }
            Happening::LooksAgain { name, number, until } => {
                self.looks_again(&name, number, until);
            }
            Happening::Said { name, number, word } => self.said(&name, number, word),
            Happening::Withdraw { epoch, op, name } => self.withdraw(epoch, op, &name),
            Happening::Lapse { name, number } => self.lapse(&name, number),
            Happening::Erased(name) => self.erased(&name),
            Happening::Abandon { name, job } => self.abandon(&name, job),
            Happening::Perform { epoch, op, name, call, grounds } => {
                self.perform((epoch, op), &name, (call, grounds));
            }
            Happening::Answer { epoch, op, name, answer } => self.answer(epoch, op, &name, answer),
            Happening::TimeOut { epoch, op, name, effect } => {
                self.time_out(epoch, op, &name, effect);
            }
            Happening::Deliver { name, event } => self.deliver(&name, event),
            Happening::Changed { change } => self.changed(&change),
            Happening::Tick { epoch, name, armed } => self.tick(epoch, &name, armed),
            Happening::SweepBegins { epoch } => self.sweep_begins(epoch),
            Happening::SweepEnds { epoch, survey } => self.sweep_ends(epoch, &survey),
            Happening::Demand { epoch, pool } => self.demand(epoch, pool),
            Happening::Replan { epoch, pool } => self.replan(epoch, pool),
            Happening::Duel(next) => self.duel_moves(next),
        }
    }

    fn calm(&mut self) {
        self.note(|| "calm: no more faults, no more jobs".to_owned());
        self.faults = Faults::default();
        self.calm_since = Some(self.now);
        for pool in &mut self.pools {
            pool.scaling.fixed = None;
            pool.unknown_until = None;
            pool.waiting = 0;
        }
        self.after(60.0, Happening::Look);
    }

    fn shape_changes(&mut self) {
        if self.calm_since.is_some() {
            return;
        }
        let pool = self.rng.random_range(0..self.pools.len());
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.shape += 1;
            pool.policy.shape = Some(shape(pool.shape));
        }
        self.note(|| format!("pool {pool} has a new image"));
        self.reconfigure();
        self.rarely(self.faults.shape_changes, Happening::ShapeChanges);
    }

    /// Queues something for `at`.
    pub fn at(&mut self, at: Time, what: Happening) {
        self.seq += 1;
        let at = at.max(self.now);
        self.queue.push(Reverse(Due { at, seq: self.seq, what }));
    }

    /// Queues something in `seconds`.
    pub fn after(&mut self, seconds: f64, what: Happening) {
        let at = self.now + Duration::from_secs_f64(seconds);
        self.at(at, what);
    }

    /// Queues something between `least` and `most` seconds from now.
    pub fn between(&mut self, least: f64, most: f64, what: Happening) {
        let seconds = self.rng.random_range(least..=most);
        self.after(seconds, what);
    }

    /// Queues something that happens `rate` times an hour.
    pub fn rarely(&mut self, rate: f64, what: Happening) {
        if rate > 0.0 {
            let pause = -self.rng.random_range(f64::EPSILON..1.0_f64).ln() * 3600.0 / rate;
            self.after(pause, what);
        }
    }

    pub fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.rng.random_bool(p.min(1.0))
    }

    pub fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn violated(&mut self, invariant: &'static str, detail: String) {
        self.note(|| format!("VIOLATED {invariant}: {detail}"));
        self.violations.push(Violation { invariant, at: self.now, detail });
    }

    /// Whether a trace is kept.
    pub fn traces(&self) -> bool {
        self.trace_lines > 0
    }

    /// Writes a line of the trace, if there is one.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace_lines == 0 {
            return;
        }
        if self.trace.len() == self.trace_lines {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{} {}", self.now.format("%H:%M:%S%.3f"), line()));
    }
}

pub(super) fn shape(version: u32) -> String {
    format!("shape-{version}")
}

#[expect(clippy::expect_used, reason = "only called with literals, in the first line of every run")]
fn name_of<T>(text: &str) -> T
where
    T: std::str::FromStr,
    T::Err: std::fmt::Debug,
{
    text.parse().expect("a literal that is a name")
}

/// A pool of the simulated configuration. Limits are shorter than in life, so that each is met.
pub(super) fn pool(text: &str, rng: &mut SmallRng, mutant: Option<Mutant>) -> Pool {
    let minutes = |n: u64| Duration::from_secs(n * 60);
    let max = rng.random_range(3..=22);
    let min = rng.random_range(0..=max / 3);
    let reports = text == "report";
    let limits = Limits {
        launch: minutes(5),
        register: minutes(6),
        idle: minutes(rng.random_range(40..=120)),
        busy: minutes(75),
        ask: minutes(8),
        guests_report: reports,
        ..Limits::default()
    };
    Pool {
        name: name_of(text),
        policy: Policy {
            max,
            replace_at_once: rng.random_range(1..=3),
            shape: Some(shape(0)),
            retiring: false,
        },
        scaling: scaler::Policy {
            min,
            spare: rng.random_range(0..=max / 3 + 1),
            max,
            shrink_after: Duration::from_secs(rng.random_range(0..=300)),
            fixed: None,
        },
        believed: match mutant {
            Some(Mutant::TrustBusyFlag) => Limits {
                idle_proof: Duration::ZERO,
                watch: Duration::ZERO,
                idle_alone: Duration::ZERO,
                ..limits.clone()
            },
            Some(Mutant::NoCordon) => {
                let idle_alone = limits.idle_proof;
                Limits { cordons: false, idle_alone, ..limits.clone() }
            }
            Some(Mutant::NoWatch) => Limits { watch: Duration::ZERO, ..limits.clone() },
            Some(Mutant::DeafToGuests) => Limits { guests_report: false, ..limits.clone() },
            Some(Mutant::NoLag) => Limits { listing_lag: Duration::ZERO, ..limits.clone() },
            Some(Mutant::NoLastWords) => Limits { last_words: Duration::ZERO, ..limits.clone() },
            _ => limits.clone(),
        },
        limits,
        boots: Boots::default(),
        reports,
        waiting: 0,
        unknown_until: None,
        known: None,
        shape: 0,
        failing: Vec::new(),
        launched_at: None,
        vanishes: rng.random_bool(0.5),
    }
}
