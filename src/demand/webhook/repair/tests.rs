#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Mutex;

use async_trait::async_trait;
use runner_fleet_actors::{
    job::{Identity, Serves},
    port::TokioClock,
};

use super::*;
use crate::{
    demand::ledger::Ledger,
    github::{names::Question, records::Page},
};

/// A GitHub that fails for what it is told to.
#[derive(Default)]
struct Failing {
    logged: Vec<Delivery>,
    bad: BTreeMap<u64, ErrorClass>,
    asked: Mutex<Vec<u64>>,
}

impl Failing {
    fn ask(&self, id: u64) -> Result<(), PortError> {
        self.asked.lock().unwrap().push(id);
        let class = self.bad.get(&id).or_else(|| self.bad.get(&0));
        class.map_or(Ok(()), |class| Err(PortError::certain(*class, "told to fail")))
    }

    fn asked(&self) -> Vec<u64> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Records for Failing {
    async fn job(&self, _: &str, id: u64) -> Result<Option<JobNews>, PortError> {
        self.ask(id).map(|()| None)
    }

    async fn deliveries(&self, _: &Hook, _: Option<&str>) -> Result<Page, PortError> {
        Ok(Page { deliveries: self.logged.clone(), next: None })
    }

    async fn redeliver(&self, _: &Hook, delivery: u64) -> Result<(), PortError> {
        self.ask(delivery)
    }

    async fn identity(&self, _: &Question) -> Result<Option<Identity>, PortError> {
        Ok(None)
    }
}

struct Scene {
    repair: Repair,
    github: Arc<Failing>,
    _folder: tempfile::TempDir,
    _serving: tokio_util::sync::DropGuard,
}

impl Scene {
    async fn of(github: Failing) -> Self {
        let (folder, github) = (tempfile::tempdir().unwrap(), Arc::new(github));
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
        let ledger = Arc::new(Ledger::open(folder.path()).await.unwrap());
        let serves = vec![Serves::new(
            "large".parse().unwrap(),
            "o".parse().unwrap(),
            vec!["large".to_owned()],
        )];
        let (desk, serving) = Desk::open(ledger, serves, Arc::clone(&clock)).await;
        let stop = CancellationToken::new();
        tokio::spawn(serving.run(stop.clone()));
        let records = Arc::clone(&github) as Arc<dyn Records>;
        let repair = Repair::new(desk, records, clock, Pace::default());
        Self { repair, github, _folder: folder, _serving: stop.drop_guard() }
    }

    async fn waiting(&self, id: u64) {
        self.told(JobWord::Queued, id..=id).await;
    }

    /// Jobs that have run for so long that each must be looked up.
    async fn running(&self, ids: std::ops::RangeInclusive<u64>) {
        self.told(JobWord::Running, ids).await;
    }

    async fn told(&self, word: JobWord, ids: std::ops::RangeInclusive<u64>) {
        let at = chrono::Utc::now() - chrono::Duration::hours(5);
        let facts = JobFacts {
            repository: Some("o/r".into()),
            labels: vec!["large".into()],
            ..JobFacts::default()
        };
        let news = |id: u64| JobNews { key: id.into(), word, at, facts: facts.clone() };
        self.repair.desk.hear(ids.map(news).collect()).await.unwrap();
    }

    /// Whoever confirms hooks is at work until the ledger has this one; since when it is looked through.
    async fn keeps(&self, hook: &Hook) -> Time {
        let looked = format!("{LOOKED}{}", hook.id);
        let kept = async {
            loop {
                if let Some(at) = self.repair.desk.ledger().mark(&looked).await.unwrap() {
                    return at.parse::<Time>().unwrap();
                }
                tokio::task::yield_now().await;
            }
        };
        let at = async {
            tokio::select! {
                at = kept => Some(at),
                () = self.repair.confirm() => None,
            }
        };
        tokio::time::timeout(Duration::from_secs(20), at).await.unwrap().unwrap()
    }

    /// What the desk was told so far is in the book.
    async fn heard(&self) {
        self.repair.desk.hear(Vec::new()).await.unwrap();
    }
}

fn lost_deliveries(ids: std::ops::RangeInclusive<u64>) -> Vec<Delivery> {
    let delivery = |id: u64| Delivery {
        id,
        guid: format!("delivery-{id}"),
        delivered_at: chrono::Utc::now() - chrono::Duration::minutes(60 - id.cast_signed()),
        status_code: 502,
        event: "workflow_job".to_owned(),
    };
    ids.map(delivery).collect()
}

fn hook() -> Hook {
    Hook::new(1, Some("o".parse().unwrap()))
}

#[tokio::test]
async fn a_job_that_github_gives_no_answer_for_keeps_no_other_from_being_looked_up() {
    let bad = BTreeMap::from([(1, ErrorClass::Transient)]);
    let scene = Scene::of(Failing { bad, ..Failing::default() }).await;
    scene.running(1..=3).await;
    scene.repair.look_up_doubtful().await;
    assert_eq!(scene.github.asked().len(), 3);
    scene.heard().await;
    let word = |id: u64| scene.repair.desk.book(|book| book.get(&id.into()).map(|job| job.word));
    assert_eq!(word(1), Some(JobWord::Running), "nothing is known of it");
    assert_eq!((word(2), word(3)), (Some(JobWord::Done), Some(JobWord::Done)));
    scene.repair.look_up_doubtful().await;
    assert_eq!(scene.github.asked(), Vec::<u64>::new(), "it is asked about again, but not at once");
}

#[tokio::test]
async fn a_github_that_answers_nothing_is_not_asked_about_every_job() {
    for (class, asked) in
        [(ErrorClass::Transient, 3), (ErrorClass::RateLimited { until: chrono::Utc::now() }, 1)]
    {
        let bad = BTreeMap::from([(0, class)]);
        let scene = Scene::of(Failing { bad, ..Failing::default() }).await;
        scene.running(1..=9).await;
        scene.repair.look_up_doubtful().await;
        assert_eq!(scene.github.asked().len(), asked, "{class}");
    }
}

#[tokio::test]
async fn a_delivery_that_github_refuses_keeps_no_other_from_being_asked_for() {
    for class in [ErrorClass::Invalid, ErrorClass::Auth] {
        let bad = BTreeMap::from([(1, class), (3, class)]);
        let logged = lost_deliveries(1..=4);
        let scene = Scene::of(Failing { logged, bad, ..Failing::default() }).await;
        let mut tries = Tries::new();
        let asked = scene.repair.look_at(&hook(), &mut tries).await.unwrap();
        assert_eq!(asked, Ok(2), "the look was whole");
        assert_eq!(scene.github.asked(), [1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn a_hook_whose_deliveries_may_not_be_asked_for_is_told_and_not_asked_for_all() {
    let bad = BTreeMap::from([(0, ErrorClass::Auth)]);
    let logged = lost_deliveries(1..=9);
    let scene = Scene::of(Failing { logged, bad, ..Failing::default() }).await;
    let asked = scene.repair.look_at(&hook(), &mut Tries::new()).await.unwrap();
    assert_eq!(asked.unwrap_err().class, ErrorClass::Auth);
    assert_eq!(scene.github.asked().len(), 3);
}

#[tokio::test]
async fn a_delivery_that_could_not_be_asked_for_is_asked_for_by_the_next_look() {
    let bad = BTreeMap::from([(2, ErrorClass::Transient)]);
    let logged = lost_deliveries(1..=3);
    let scene = Scene::of(Failing { logged, bad, ..Failing::default() }).await;
    let mut tries = Tries::new();
    for _ in 0..5 {
        let asked = scene.repair.look_at(&hook(), &mut tries).await.unwrap();
        assert_eq!(asked.unwrap_err().class, ErrorClass::Transient, "it is not whole");
        let asked = scene.github.asked();
        assert!(asked.contains(&2), "{asked:?}");
    }
    let tried = |guid: &str| tries.get(guid).copied();
    assert_eq!(
        tried("delivery-1"),
        Some(Tried { asked: 3, failed: 0 }),
        "given up: it never arrives"
    );
    assert_eq!(tried("delivery-2"), Some(Tried { asked: 0, failed: 5 }));
}

#[tokio::test]
async fn deliveries_that_fail_again_and_again_let_the_others_pass() {
    let class = ErrorClass::Transient;
    let bad = BTreeMap::from([(1, class), (2, class), (3, class)]);
    let logged = lost_deliveries(1..=5);
    let scene = Scene::of(Failing { logged, bad, ..Failing::default() }).await;
    let mut tries = Tries::new();
    for asked in [&[1, 2, 3][..], &[4, 5, 1, 2, 3]] {
        let look = scene.repair.look_at(&hook(), &mut tries).await.unwrap();
        assert_eq!(look.unwrap_err().class, class);
        assert_eq!(scene.github.asked(), asked);
    }
}

#[tokio::test]
async fn a_job_that_waits_is_over_only_when_a_github_that_knows_its_repository_says_so_twice() {
    for (known, ended) in [(false, [false, false]), (true, [false, true])] {
        let scene = Scene::of(Failing::default()).await;
        scene.waiting(1).await;
        if known {
            scene.repair.readable.lock().unwrap().insert("o/r".to_owned());
        }
        for (look, ended) in ended.into_iter().enumerate() {
            let job = scene.repair.desk.job(&1.into()).await.unwrap().unwrap();
            scene.repair.look_up(&job).await.unwrap();
            scene.heard().await;
            let job = scene.repair.desk.job(&1.into()).await.unwrap().unwrap();
            assert_eq!(job.word == JobWord::Done, ended, "look {look}, known: {known}");
        }
    }
}

#[tokio::test]
async fn a_hook_that_the_ledger_has_lost_or_forgotten_is_kept_again_when_it_delivers() {
    let mark = |of: &str, value: Option<String>| Entry::Mark { name: format!("{of}1"), value };
    let long_ago = (chrono::Utc::now() - chrono::Duration::days(5)).to_rfc3339();
    for lost in [vec![mark(HOOKS, None), mark(LOOKED, None)], vec![mark(LOOKED, Some(long_ago))]] {
        let scene = Scene::of(Failing::default()).await;
        scene.repair.hooks.heard(hook());
        let _confirmed = scene.keeps(&hook()).await;
        assert_eq!(scene.repair.kept().await.unwrap(), [hook()]);
        // As a ledger that is begun anew beneath the daemon loses it.
        scene.repair.desk.ledger().write(&lost).await.unwrap();
        assert!(scene.repair.look(&mut Tries::new(), &mut BTreeSet::new()).await.unwrap());
        assert_eq!(scene.repair.kept().await.unwrap(), []);
        scene.repair.hooks.heard(hook());
        let looked = scene.keeps(&hook()).await;
        assert_eq!(scene.repair.kept().await.unwrap(), [hook()]);
        let near = chrono::Utc::now() - chrono::Duration::hours(23);
        assert!(looked < near, "what was lost meanwhile is looked for: {looked}");
    }
}
