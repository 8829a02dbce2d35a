#![allow(clippy::unwrap_used, reason = "a test")]

use futures::FutureExt;
use runner_fleet_actors::{
    job::{Identity, JobFacts, JobWord},
    port::TokioClock,
};

use super::*;

struct Home {
    folder: tempfile::TempDir,
    clock: Arc<TokioClock>,
}

impl Home {
    fn new() -> Self {
        Self::by(TokioClock::starting_at(chrono::Utc::now()))
    }

    fn by(clock: TokioClock) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Arc::new(clock) }
    }

    /// A daemon's desk; dropping the task is its death.
    async fn desk(&self) -> (Arc<Desk>, tokio::task::JoinHandle<()>) {
        let ledger = Arc::new(Ledger::open(self.folder.path()).await.unwrap());
        let serves = vec![Serves::new(large(), "o".parse().unwrap(), vec!["large".to_owned()])];
        let (desk, serving) =
            Desk::open(ledger, serves, Arc::clone(&self.clock) as Arc<dyn Clock>).await;
        (desk, tokio::spawn(serving.run(CancellationToken::new())))
    }
}

fn large() -> PoolName {
    "large".parse().unwrap()
}

fn news(id: u64, word: JobWord) -> JobNews {
    let facts = JobFacts {
        repository: Some("o/r".into()),
        run_id: Some(1),
        labels: vec!["large".into()],
        ..JobFacts::default()
    };
    JobNews { key: id.into(), word, at: chrono::Utc::now(), facts }
}

fn now(desk: &Desk) -> (u32, u32, Sure) {
    let demand = desk.watch(&large()).borrow().unwrap();
    (demand.waiting, demand.running, demand.sure)
}

#[tokio::test]
async fn demand_outlives_a_daemon_that_is_killed_right_after_its_answer() {
    let home = Home::new();
    let (desk, serving) = home.desk().await;
    let burst: Vec<_> = (0..50).map(|id| news(id, JobWord::Queued)).collect();
    desk.hear(burst).await.unwrap();
    desk.hear(vec![news(3, JobWord::Running), news(4, JobWord::Done)]).await.unwrap();
    serving.abort();
    let (desk, _serving) = home.desk().await;
    assert_eq!(now(&desk), (48, 1, Sure::AtLeast), "what came meanwhile is not known yet");
    desk.now_sure(Sure::Exact);
    assert_eq!(now(&desk), (48, 1, Sure::Exact));
}

#[tokio::test]
async fn a_delivery_that_comes_again_after_a_restart_does_not_bring_its_job_back() {
    let home = Home::new();
    let (desk, serving) = home.desk().await;
    desk.hear(vec![news(1, JobWord::Done)]).await.unwrap();
    serving.abort();
    let (desk, _serving) = home.desk().await;
    desk.hear(vec![news(1, JobWord::Queued)]).await.unwrap();
    assert_eq!(now(&desk), (0, 0, Sure::AtLeast));
    assert_eq!(desk.job(&1.into()).await.unwrap().unwrap().word, JobWord::Done);
}

#[tokio::test]
async fn a_burst_of_many_senders_is_taken_whole_and_each_is_answered() {
    let home = Home::new();
    let (desk, _serving) = home.desk().await;
    let senders = (0..500).map(|id| {
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            let delivery = Entry::Delivery { id: format!("delivery-{id}"), at: chrono::Utc::now() };
            desk.hear_with(vec![news(id, JobWord::Queued)], vec![delivery]).await
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap().unwrap();
    }
    assert_eq!(now(&desk).0, 500);
    assert_eq!(desk.ledger().open_jobs().await.unwrap().len(), 500);
    assert!(desk.ledger().took("delivery-499").await.unwrap());
}

#[tokio::test]
async fn a_guests_word_takes_a_job_off_the_waiting_ones_at_once() {
    let home = Home::new();
    let (desk, _serving) = home.desk().await;
    desk.hear(vec![news(1, JobWord::Queued)]).await.unwrap();
    let mut demand = desk.watch(&large());
    desk.guest_started("ci--large--000000000001", &large(), Some(1));
    let taken = demand.wait_for(|d| d.is_some_and(|d| (d.waiting, d.running) == (0, 1)));
    tokio::time::timeout(Duration::from_secs(10), taken).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_desk_that_has_ended_says_so_instead_of_taking_news() {
    let home = Home::new();
    let (desk, serving) = home.desk().await;
    serving.abort();
    let _ended = serving.await;
    let error = desk.hear(vec![news(1, JobWord::Queued)]).await.unwrap_err().to_string();
    assert!(error.contains("stopping"), "{error}");
}

#[tokio::test]
async fn what_was_noted_under_a_wrong_clock_is_kept_and_shown_rightly_once_it_is_mended() {
    let right = chrono::Utc::now();
    let year = Duration::from_secs(365 * 86_400);
    for wrong in [right - year, right + year] {
        let wall = Arc::new(Mutex::new(wrong));
        let read = Arc::clone(&wall);
        let home = Home::by(TokioClock::with_wall(move || *read.lock().unwrap()));
        let (desk, serving) = home.desk().await;
        let told = |id| JobNews { at: home.clock.now(), ..news(id, JobWord::Queued) };
        desk.hear(vec![told(1)]).await.unwrap();
        *wall.lock().unwrap() = right;
        desk.hear(vec![told(2), JobNews { word: JobWord::Running, ..told(1) }]).await.unwrap();
        let near = |at: Time| (at - right).abs() < chrono::TimeDelta::seconds(60);
        for id in [1, 2] {
            let shown = desk.job(&id.into()).await.unwrap().unwrap();
            assert!(near(shown.heard_at) && near(shown.last_at), "{shown:?}");
            let kept = desk.ledger().jobs_of(&[id.into()]).await.unwrap().pop().unwrap();
            assert!(near(kept.heard_at) && near(kept.last_at), "{kept:?}");
        }
        // As old as it is, and no look-up waits for a year.
        let due = desk.book(|book| book.doubtful(home.clock.now()).1.unwrap());
        assert!(due - home.clock.now() < chrono::TimeDelta::hours(1), "{due}");
        serving.abort();
        let (desk, _serving) = home.desk().await;
        let again = desk.book(|book| book.get(&2.into()).unwrap().clone());
        assert!((again.heard_at - home.clock.now()).abs() < chrono::TimeDelta::seconds(60));
    }
}

#[tokio::test]
async fn jobs_that_wait_follow_their_scope_when_github_tells_what_it_is_called() {
    let home = Home::new();
    let (desk, _serving) = home.desk().await;
    let of = |id, name: &str, owner_id| {
        let told = news(id, JobWord::Queued);
        JobNews {
            facts: JobFacts { repository: Some(name.into()), owner_id, ..told.facts },
            ..told
        }
    };
    desk.hear(vec![of(1, "o/r", Some(7)), of(2, "o/r", Some(8))]).await.unwrap();
    assert_eq!(now(&desk).0, 2, "nobody has told whose name it is");
    let scope: Scope = "o".parse().unwrap();
    let told = |now: &str| {
        let now = now.parse().unwrap();
        BTreeMap::from([(scope.clone(), Identity { id: 7, now })])
    };
    desk.learn(&told("o"));
    assert_eq!(now(&desk).0, 1, "the other one is a namesake's");
    desk.hear(vec![of(3, "p/r", Some(7)), of(4, "p/r", Some(8))]).await.unwrap();
    assert_eq!(now(&desk).0, 2, "by its number it is ours");
    let doubted = tokio::time::timeout(Duration::from_secs(10), desk.renamed()).await.unwrap();
    assert_eq!(doubted, BTreeSet::from([scope.clone()]));
    desk.learn(&told("p"));
    desk.hear(vec![of(5, "p/r", Some(7))]).await.unwrap();
    assert_eq!(now(&desk).0, 3);
    assert_eq!(desk.renamed().now_or_never(), None, "nothing is in doubt any more");
    // A reload keeps what is known.
    let large = Serves::new(large(), scope, vec!["large".to_owned()]);
    desk.configure(vec![large]);
    assert_eq!(now(&desk).0, 3);
}
