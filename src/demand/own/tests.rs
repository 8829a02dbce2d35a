//! What is recorded of jobs that only their runners tell of.

use std::time::Duration;

use runner_fleet_actors::{
    event::{Counts, GuestTimes, Transition},
    job::{JobRecord, Serves},
    port::TokioClock,
};

use super::*;
use crate::demand::ledger::{Ledger, Wanted};

struct Daemon {
    own: Arc<OwnJobs>,
    ledger: Arc<Ledger>,
    keeping: Keeping,
    _desk: tokio_util::task::AbortOnDropHandle<()>,
}

fn large() -> PoolName {
    "large".parse().unwrap()
}

fn runner(token: u64) -> RunnerName {
    RunnerName::new(&"ci".parse().unwrap(), &large(), token)
}

fn at(seconds: u64) -> Time {
    Time::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn job() -> Job {
    Job { repository: Some("octo-org/app".into()), run_id: Some(7), ..Job::default() }
}

fn success() -> JobEnd {
    JobEnd { conclusion: Some("success".into()), exit_code: Some(0) }
}

impl Daemon {
    async fn start(folder: &tempfile::TempDir) -> Self {
        let ledger = Arc::new(Ledger::open(folder.path()).await.unwrap());
        let serves = vec![Serves::new(large(), "octo-org".parse().unwrap(), vec!["large".into()])];
        let clock = Arc::new(TokioClock::starting_at(at(0)));
        let (desk, serving) = Desk::open(Arc::clone(&ledger), serves, clock).await;
        let task = tokio::spawn(serving.run(CancellationToken::new()));
        let (own, keeping) = OwnJobs::new(desk);
        own.configure([large()]);
        let desk = tokio_util::task::AbortOnDropHandle::new(task);
        Self { own, ledger, keeping, _desk: desk }
    }

    fn moves(&self, token: u64, to: Phase, seconds: u64, job: Option<Job>, end: Option<JobEnd>) {
        let transition = Transition {
            runner: runner(token),
            pool: large(),
            from: None,
            to,
            created_at: at(0),
            after: Duration::ZERO,
            because: String::new(),
            reason: None,
            job_killed: false,
            job,
            job_end: end,
            times: GuestTimes::default(),
            found: false,
        };
        self.own.observe(&FleetEvent::Transition { at: at(seconds), transition });
    }

    fn guest(&self, token: u64, seconds: u64, job: Option<Job>, end: Option<JobEnd>) {
        let (pool, runner, times) = (large(), runner(token), GuestTimes::default());
        let at = at(seconds);
        self.own.observe(&FleetEvent::GuestTold { at, pool, runner, job, end, times });
    }

    fn listed(&self, seconds: u64) {
        self.own.observe(&FleetEvent::Reconciled {
            at: at(seconds),
            pool: large(),
            took: Duration::ZERO,
            counts: Counts::default(),
            crashed: 0,
            target: 0,
        });
    }

    /// Everything that was told so far is kept; what the ledger then holds, by key.
    async fn kept(self) -> Vec<JobRecord> {
        let Self { own, ledger, keeping, _desk } = self;
        // With the last one who could tell, the keeping ends.
        drop(own);
        keeping.run(CancellationToken::new()).await;
        let all = Wanted { pool: None, since: at(0), slow: None, state: None, limit: 100 };
        let mut jobs = ledger.history(&all, at(0)).await.unwrap();
        jobs.sort_by(|a, b| a.key.cmp(&b.key));
        jobs
    }
}

#[tokio::test]
async fn a_job_is_recorded_from_its_beginning_to_its_end_with_what_its_guest_said() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder).await;
    daemon.moves(1, Phase::Idle, 5, None, None);
    daemon.moves(1, Phase::Busy, 10, None, None);
    daemon.guest(1, 11, Some(job()), None);
    daemon.moves(1, Phase::Draining, 70, Some(job()), Some(success()));
    daemon.moves(1, Phase::Deleted, 80, Some(job()), Some(success()));
    daemon.moves(2, Phase::Busy, 20, Some(job()), None);
    let jobs = daemon.kept().await;
    let [one, two] = &jobs[..] else { panic!("{jobs:?}") };
    assert_eq!(one.key.as_str(), format!("runner:{}", runner(1)));
    assert_eq!((one.word, one.pool.clone()), (JobWord::Done, Some(large())));
    assert_eq!(one.facts.repository.as_deref(), Some("octo-org/app"));
    assert_eq!((one.facts.started_at, one.facts.ended_at), (Some(at(10)), Some(at(70))));
    assert_eq!(one.facts.conclusion.as_deref(), Some("success"));
    assert_eq!(one.facts.queued_at, None, "nobody knows how long it waited");
    assert_eq!(
        (two.word, two.facts.runner.clone()),
        (JobWord::Running, Some(runner(2).as_str().into()))
    );
}

#[tokio::test]
async fn what_was_told_before_the_stop_is_kept_for_as_many_jobs_as_there_were() {
    let folder = tempfile::tempdir().unwrap();
    let Daemon { own, ledger, keeping, _desk } = {
        let daemon = Daemon::start(&folder).await;
        (0..200).for_each(|token| daemon.moves(token, Phase::Busy, 10, Some(job()), None));
        daemon
    };
    let stop = CancellationToken::new();
    stop.cancel();
    keeping.run(stop).await;
    // Whoever could tell is still there: it is the stop that ends the keeping.
    drop(own);
    let all = Wanted { pool: None, since: at(0), slow: None, state: None, limit: 1000 };
    assert_eq!(ledger.history(&all, at(0)).await.unwrap().len(), 200);
}

#[tokio::test]
async fn a_job_that_came_and_went_between_two_listings_is_recorded_by_its_guests_last_word() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder).await;
    daemon.moves(1, Phase::Draining, 20, None, None);
    daemon.guest(1, 21, Some(job()), Some(success()));
    daemon.guest(2, 21, None, Some(JobEnd::default()));
    let jobs = daemon.kept().await;
    assert_eq!(jobs.len(), 1, "one that had no job leaves none");
    assert_eq!((jobs[0].word, jobs[0].facts.run_id), (JobWord::Done, Some(7)));
}

#[tokio::test]
async fn jobs_of_pools_whose_sources_name_them_are_left_to_those() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder).await;
    daemon.own.configure(["small".parse().unwrap()]);
    daemon.moves(1, Phase::Busy, 10, Some(job()), None);
    daemon.guest(1, 11, Some(job()), None);
    daemon.listed(12);
    assert_eq!(daemon.kept().await, []);
}

#[tokio::test]
async fn a_job_that_ended_while_no_daemon_was_there_does_not_seem_to_run_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let before = Daemon::start(&folder).await;
    before.moves(1, Phase::Busy, 10, Some(job()), None);
    before.moves(2, Phase::Busy, 10, Some(job()), None);
    assert_eq!(before.kept().await.len(), 2);

    let daemon = Daemon::start(&folder).await;
    daemon.listed(100);
    daemon.moves(2, Phase::Busy, 101, None, None);
    (1..SURVEYS).for_each(|_| daemon.listed(160));
    let jobs = daemon.kept().await;
    let [gone, there] = &jobs[..] else { panic!("{jobs:?}") };
    assert_eq!((gone.word, gone.facts.conclusion.clone()), (JobWord::Done, None));
    assert_eq!((there.word, there.facts.started_at), (JobWord::Running, Some(at(10))));
}
