//! The real daemon and GitHub's webhooks: a fake GitHub posts what happens to its jobs, a fake cloud
//! runs their VMs.
//!
//! Run with `--nocapture` for the figures that it measures.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use runner_fleet::{
    demand::{
        desk::Desk,
        ledger::Ledger,
        webhook::repair::{self, Repair},
    },
    fake::github::{HookOptions, HookTarget, JobId, Mishap},
    github::{Auth, Github, GithubConfig, TokenSource, records::Records},
};
use runner_fleet_actors::{
    job::{JobFacts, JobNews, JobWord, Serves},
    port::{Clock, DemandSource, Secret, Time},
};
use tokio_util::sync::CancellationToken;

use crate::support::e2e::{Home, PATIENCE, eventually};
use crate::support::e2e_fakes::{
    HOOK_SECRET, Outside, TOKEN, nothing_secret_was_said, pool, webhooks,
};

const ORG: &str = "octo-org";
const HOOK: u64 = 41;

struct Story {
    home: Home,
    outside: Outside,
}

impl Story {
    async fn begin(pools: &str) -> Self {
        let outside = Outside::start_with(17, Duration::ZERO).await;
        let home = Home::new();
        outside.furnish(&home);
        let (hooks, url) = webhooks(&home);
        home.configure(&format!("{}\n{hooks}{pools}", outside.head("token_file = \"token\"")));
        outside.github.add_hook(HookOptions {
            url,
            secret: Some(Secret::new(HOOK_SECRET)),
            id: HOOK,
            target: HookTarget::Scope(ORG.parse().unwrap()),
        });
        Self { home, outside }
    }

    fn queue(&self, label: &str, runs_for: Duration) -> JobId {
        let labels = ["self-hosted".to_owned(), label.to_owned()];
        self.outside.github.queue_job(&ORG.parse().unwrap(), &labels, runs_for)
    }

    async fn completed(&self, jobs: u64) {
        eventually(PATIENCE, "every job was served", || async {
            (self.outside.github.stats().completed == jobs).then_some(())
        })
        .await;
    }

    /// Waits until the daemon knows that it has missed nothing.
    async fn sure(&self) {
        eventually(PATIENCE, "all demand is known", || async {
            (self.home.pool("hooked").await?["demand_unknown"] == false).then_some(())
        })
        .await;
    }

    async fn empty(&self) {
        eventually(PATIENCE, "no VM is left", || async {
            (self.outside.cloud.vms().is_empty()).then_some(())
        })
        .await;
    }
}

fn hooked(sizes: &str) -> String {
    let more = format!("demand = [\"webhook\"]\n{sizes}");
    pool("hooked", ORG, &more)
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() as f64 * share).ceil() as usize).clamp(1, values.len()) - 1]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_job_gets_its_vm_at_once_and_none_is_kept_when_there_is_no_job() {
    let story = Story::begin(&hooked("max = 20")).await;
    let daemon = story.home.start();
    story.sure().await;
    assert_eq!(story.outside.cloud.vms(), [], "no job, no VM");
    let mut known = BTreeSet::new();
    let mut late = Vec::new();
    const JOBS: u64 = 30;
    for _ in 0..JOBS {
        let job = story.queue("hooked", Duration::from_millis(400));
        let queued_at =
            story.outside.github.jobs().into_iter().find(|j| j.id == job).unwrap().queued_at;
        let vm = eventually(PATIENCE, "a VM is made for the job", || async {
            story.outside.cloud.vms().into_iter().find(|vm| !known.contains(&vm.name))
        })
        .await;
        known.insert(vm.name);
        late.push((vm.created - queued_at).num_microseconds().unwrap() as f64 / 1e3);
        eventually(PATIENCE, "the job has a runner", || async {
            let jobs = story.outside.github.stats();
            (jobs.queued == 0).then_some(())
        })
        .await;
    }
    eprintln!(
        "a job is queued -> the cloud has its VM's order, registration included: p50 {:.1} ms, \
         p99 {:.1} ms of {JOBS} (bound 20 ms)",
        percentile(&mut late, 0.5),
        percentile(&mut late, 0.99)
    );
    story.completed(JOBS).await;
    story.empty().await;
    assert_eq!(story.outside.cloud.stats().creates, JOBS, "one VM a job, no more");
    assert_eq!(story.outside.github.stats().lost, 0);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(60)).await.0.code(), Some(0));
    let mut secrets = story.outside.secrets();
    secrets.push(HOOK_SECRET.to_owned());
    nothing_secret_was_said(&story.home, &secrets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_in_the_middle_of_a_burst_loses_no_job_and_serves_none_twice() {
    let story = Story::begin(&hooked("max = 30")).await;
    // Half of the deliveries come twice, late or out of order besides.
    story.outside.github.faults().deliveries(&[
        (Mishap::Twice, 0.2),
        (Mishap::Late(Duration::from_millis(300)), 0.2),
        (Mishap::Unheard, 0.1),
    ]);
    let mut chance = SmallRng::seed_from_u64(5);
    let mut daemon = story.home.start();
    story.sure().await;
    let mut jobs = 0;
    for _ in 0..4 {
        for _ in 0..8 {
            story.queue("hooked", Duration::from_millis(chance.random_range(200..1500)));
            jobs += 1;
            tokio::time::sleep(Duration::from_millis(chance.random_range(0..60))).await;
        }
        daemon.kill().await;
        // While nobody is there, deliveries fail, and GitHub does not repeat them by itself.
        for _ in 0..2 {
            story.queue("hooked", Duration::from_millis(500));
            jobs += 1;
        }
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..500))).await;
        daemon = story.home.start();
    }
    story.completed(jobs).await;
    let done = story.outside.github.stats();
    assert_eq!((done.queued, done.running, done.lost), (0, 0, 0), "no job was lost");
    story.empty().await;
    let made = story.outside.cloud.stats().creates;
    eprintln!("{made} VMs for {jobs} jobs over 4 kills");
    // A create that a kill breaks off may be one for nobody.
    assert!(made <= jobs + 4, "{made} VMs for {jobs} jobs");
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(60)).await.0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_delivered_while_nobody_was_there_is_asked_for_again() {
    let story = Story::begin(&hooked("max = 10")).await;
    // Once, so that the daemon knows the hook.
    let daemon = story.home.start();
    story.home.ready().await;
    story.queue("hooked", Duration::from_millis(200));
    story.completed(1).await;
    daemon.kill().await;
    for _ in 0..5 {
        story.queue("hooked", Duration::from_millis(200));
    }
    eventually(PATIENCE, "the deliveries have failed", || async {
        let log = story.outside.github.deliveries(HOOK);
        (log.iter().filter(|delivery| !delivery.succeeded()).count() >= 5).then_some(())
    })
    .await;
    let daemon = story.home.start();
    story.completed(6).await;
    daemon.signal("TERM");
    daemon.exit(Duration::from_secs(60)).await;
}

/// A clock that can be put forward.
struct Shifted(std::sync::Mutex<Duration>);

impl Clock for Shifted {
    fn now(&self) -> Time {
        chrono::Utc::now() + *self.0.lock().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_end_was_never_told_and_one_that_is_gone_do_not_last() {
    let outside = Outside::start_with(3, Duration::ZERO).await;
    let state = tempfile::tempdir().unwrap();
    let clock = Arc::new(Shifted(std::sync::Mutex::default()));
    let ledger = Arc::new(Ledger::open(state.path()).await.unwrap());
    let serves = vec![Serves::new(
        "hooked".parse().unwrap(),
        ORG.parse().unwrap(),
        vec!["hooked".to_owned()],
    )];
    let (desk, serving) = Desk::open(ledger, serves, Arc::clone(&clock) as Arc<dyn Clock>).await;
    tokio::spawn(serving.run(CancellationToken::new()));
    let auth = Auth::Token(TokenSource::fixed(Secret::new(TOKEN)));
    let config = GithubConfig {
        url: outside.github.url(),
        ..GithubConfig::new(auth, "ci".parse().unwrap())
    };
    let github = Github::new(config, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let repair = Repair::new(
        Arc::clone(&desk),
        Arc::new(github) as Arc<dyn Records>,
        Arc::clone(&clock) as Arc<dyn Clock>,
        repair::Pace::default(),
    );
    let demand = |desk: &Desk| {
        let demand = desk.watch(&"hooked".parse().unwrap()).borrow().unwrap();
        (demand.waiting, demand.running)
    };
    let scope = ORG.parse().unwrap();
    let cancelled = outside.github.queue_job(&scope, &["hooked".to_owned()], Duration::ZERO);
    let waits = outside.github.queue_job(&scope, &["hooked".to_owned()], Duration::ZERO);
    let repository = outside.github.jobs()[0].repository.clone();
    let news = |id: u64, word| JobNews {
        key: id.into(),
        word,
        at: clock.now(),
        facts: JobFacts {
            repository: Some(repository.as_str().into()),
            labels: vec!["hooked".into()],
            ..JobFacts::default()
        },
    };
    desk.hear(vec![
        news(cancelled.0, JobWord::Queued),
        news(waits.0, JobWord::Queued),
        news(999_999, JobWord::Running),
    ])
    .await
    .unwrap();
    assert_eq!(demand(&desk), (2, 1));
    outside.github.cancel_job(cancelled);
    repair.look_up_doubtful().await;
    assert_eq!(demand(&desk), (2, 1), "nothing is asked as long as nothing is odd");
    *clock.0.lock().unwrap() = Duration::from_secs(3600);
    repair.look_up_doubtful().await;
    assert_eq!(demand(&desk), (1, 0), "what waits does, and nothing else");
    let gone = desk.job(&999_999.into()).await.unwrap().unwrap();
    assert_eq!((gone.word, gone.facts.conclusion.as_deref()), (JobWord::Done, Some("gone")));
}
