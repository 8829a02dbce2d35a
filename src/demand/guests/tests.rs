//! Jobs that guests tell of, and guests that are not heard.

use std::time::Duration;

use runner_fleet_actors::{
    demand::{Sure, combine},
    event::{GuestTimes, Job, Transition},
    port::TokioClock,
    scaler::{Policy, Target, target},
};

use super::*;

const SPARE: Policy =
    Policy { min: 0, spare: 2, max: 10, shrink_after: Duration::ZERO, fixed: None };

struct Pool {
    reports: Arc<GuestReports>,
    demand: watch::Receiver<Option<Demand>>,
    /// What the pool itself counts.
    busy: u32,
    target: Target,
}

fn large() -> PoolName {
    "large".parse().unwrap()
}

fn runner(token: u64) -> RunnerName {
    RunnerName::new(&"ci".parse().unwrap(), &large(), token)
}

impl Pool {
    fn new() -> Self {
        let clock = Arc::new(TokioClock::starting_at(Time::UNIX_EPOCH));
        let reports = GuestReports::new(clock);
        let demand = reports.watch(&large());
        Self { reports, demand, busy: 0, target: Target::initial(&SPARE) }
    }

    fn moves(&self, token: u64, to: Phase, told: bool) {
        let job_started = told.then_some(Duration::from_secs(9));
        let times = GuestTimes { job_started, ..GuestTimes::default() };
        let transition = Transition {
            found: false,
            runner: runner(token),
            pool: large(),
            from: None,
            to,
            created_at: Time::UNIX_EPOCH,
            after: Duration::ZERO,
            because: String::new(),
            reason: None,
            job_killed: false,
            job: None,
            job_end: None,
            times,
        };
        self.reports.observe(&FleetEvent::Transition { at: Time::UNIX_EPOCH, transition });
    }

    /// A job begins, and its guest says so, or only a listing shows it.
    fn begins(&mut self, token: u64, told: bool) {
        self.busy += 1;
        self.moves(token, Phase::Busy, told);
    }

    fn ends(&mut self, token: u64) {
        self.busy -= 1;
        self.moves(token, Phase::Draining, true);
    }

    fn tells_at_last(&self, token: u64) {
        let times = GuestTimes::default();
        let (at, job) = (Time::UNIX_EPOCH, Some(Job::default()));
        let (pool, runner) = (large(), runner(token));
        let told = FleetEvent::GuestTold { at, pool, runner, job, end: None, times };
        self.reports.observe(&told);
    }

    /// The target that follows, as the scaler finds it.
    fn target(&mut self) -> u32 {
        let own = Demand::exact(0, self.busy, Time::UNIX_EPOCH);
        let demand = combine(&[Some(own), *self.demand.borrow_and_update()]);
        self.target = target(demand, &self.target, &SPARE, Time::UNIX_EPOCH);
        self.target.runners
    }
}

#[test]
fn where_only_guests_tell_of_jobs_spare_does_the_growing() {
    let mut pool = Pool::new();
    assert_eq!(pool.target(), 2, "spare alone: a new pool is not held back");
    pool.begins(1, true);
    pool.begins(2, true);
    assert_eq!(pool.target(), 4, "each job that begins brings one runner more");
    pool.ends(1);
    assert_eq!(pool.target(), 3);
    pool.ends(2);
    assert_eq!(pool.target(), 2);
}

#[test]
fn a_busy_runner_whose_guest_is_not_heard_keeps_the_pool_from_shrinking() {
    let mut pool = Pool::new();
    pool.begins(1, true);
    pool.begins(2, false);
    let known = pool.demand.borrow().unwrap();
    assert_eq!((known.sure, known.running), (Sure::AtLeast, 1));
    assert_eq!(pool.reports.status().silent, [runner(2)]);
    assert_eq!(pool.target(), 4, "what listings show counts as well");
    pool.ends(1);
    assert_eq!(pool.target(), 3, "nobody is made for a job that is done");
    assert_eq!(pool.target.over(4), 4, "other reports may be lost too: nobody is drained");
    pool.begins(3, true);
    pool.begins(4, true);
    assert_eq!(pool.target(), 5, "it may grow");
    pool.ends(2);
    assert_eq!(pool.target(), 4, "the silent one is gone");
    assert_eq!(pool.target.over(5), 4);
}

#[test]
fn a_guest_that_is_heard_late_is_believed() {
    let mut pool = Pool::new();
    pool.begins(1, true);
    pool.begins(2, false);
    assert_eq!(pool.target(), 4);
    pool.tells_at_last(2);
    let status = pool.reports.status();
    assert_eq!((status.words, status.silent.len()), (1, 0));
    pool.ends(1);
    assert_eq!(pool.target(), 3);
    pool.tells_at_last(9);
    assert_eq!(pool.target(), 3, "a word of a runner that is not busy makes none");
}
