//! The planner's source against a planner that answers as Canonical's does.

use std::{path::Path, sync::Arc, time::Duration};

use crate::support::planner::{Planner as Fake, TOKEN};
use axum::http::StatusCode;
use runner_fleet::{
    config::{Env, PlannerAccess, SecretSource},
    demand::planner::{Pace, Planner},
};
use runner_fleet_actors::{
    backoff::Curve,
    demand::Demand,
    event::{FleetEvent, GuestTimes, Phase, Transition},
    name::{PoolName, RunnerName},
    port::{Clock, DemandSource, ErrorClass, Observer, Time, TokioClock},
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

fn curve(millis: u64) -> Curve {
    Curve { base: Duration::from_millis(millis), cap: Duration::from_millis(millis) }
}

/// Quick tries, and no silence that is too long.
fn pace() -> Pace {
    Pace { patience: PATIENCE, silence: NEVER, steady: NEVER, again: curve(10), refused: curve(10) }
}

fn pool(name: &str) -> PoolName {
    name.parse().unwrap()
}

fn runner(pool: &str, token: u64) -> RunnerName {
    RunnerName::new(&"ci".parse().unwrap(), &self::pool(pool), token)
}

/// A fleet's end of the stream.
struct Fleet {
    planner: Arc<Planner>,
    folder: tempfile::TempDir,
    clock: Arc<TokioClock>,
    _stop: DropGuard,
}

impl Fleet {
    fn of(fake: &Fake, unit: u32, units: u32, pace: Pace) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        let access = PlannerAccess {
            url: format!("http://{}", fake.address).parse().unwrap(),
            token: SecretSource::File(token),
            ca_file: None,
            units,
            unit,
        };
        let clock = Arc::new(TokioClock::starting_at(Time::UNIX_EPOCH));
        let shared = Arc::clone(&clock) as Arc<dyn Clock>;
        let planner = Planner::new(&access, Env::default(), shared, pace).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&planner).run(stop.clone()));
        Self { planner, folder, clock, _stop: stop.drop_guard() }
    }

    fn alone(fake: &Fake) -> Self {
        Self::of(fake, 0, 1, pace())
    }

    fn token_file(&self) -> std::path::PathBuf {
        self.folder.path().join("token")
    }

    fn watch(&self, name: &str) -> Watched {
        Watched(self.planner.watch(&pool(name)))
    }

    /// A runner of the fleet changes its state.
    fn runner(&self, name: &str, token: u64, to: Phase) {
        let transition = Transition {
            found: false,
            runner: runner(name, token),
            pool: pool(name),
            from: None,
            to,
            created_at: Time::UNIX_EPOCH,
            after: Duration::ZERO,
            because: String::new(),
            reason: None,
            job_killed: false,
            job: None,
            job_end: None,
            times: GuestTimes::default(),
        };
        self.planner.observe(&FleetEvent::Transition { at: self.clock.now(), transition });
    }
}

struct Watched(watch::Receiver<Option<Demand>>);

impl Watched {
    /// Waiting and running jobs, as of now.
    fn now(&self) -> Option<(u32, u32)> {
        self.0.borrow().map(|demand| (demand.waiting, demand.running))
    }

    #[track_caller]
    fn becomes(&mut self, wanted: Option<(u32, u32)>) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let reached =
                self.0.wait_for(|demand| demand.map(|d| (d.waiting, d.running)) == wanted);
            let reached = tokio::time::timeout(PATIENCE, reached).await.is_ok();
            assert!(reached, "{caller}: {:?} never became {wanted:?}", self.now());
        }
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_pool_has_what_the_planner_asks_for_at_once_and_at_each_change() {
    let fake = Fake::start(&[("large", 7), ("small", 0)]).await;
    let fleet = Fleet::alone(&fake);
    let (mut large, mut small) = (fleet.watch("large"), fleet.watch("small"));
    large.becomes(Some((7, 0))).await;
    small.becomes(Some((0, 0))).await;
    fake.set("large", 9);
    large.becomes(Some((9, 0))).await;
    assert_eq!(fake.asked(), [("_?stream=true".to_owned(), StatusCode::OK)], "one for all pools");
    let status = fleet.planner.status();
    assert!(status.connected_since.is_some() && status.last_word_at.is_some());
    assert_eq!((status.pressures["large"], status.failures), (9, 0));
}

#[tokio::test]
async fn before_the_first_word_demand_is_unknown() {
    let fake = Fake::start(&[("large", 7)]).await;
    fake.mute(true);
    let fleet = Fleet::alone(&fake);
    let mut large = fleet.watch("large");
    eventually("a stream is open", || fake.opened() == 1).await;
    assert_eq!(large.now(), None);
    fake.set("large", 8);
    large.becomes(Some((8, 0))).await;
}

#[tokio::test]
async fn jobs_that_run_are_not_also_waiting() {
    let fake = Fake::start(&[("large", 5)]).await;
    let fleet = Fleet::alone(&fake);
    let mut large = fleet.watch("large");
    large.becomes(Some((5, 0))).await;
    fleet.runner("large", 1, Phase::Busy);
    fleet.runner("large", 2, Phase::Busy);
    fleet.runner("other", 3, Phase::Busy);
    assert_eq!(large.now(), Some((3, 2)));
    fleet.runner("large", 2, Phase::Busy);
    assert_eq!(large.now(), Some((3, 2)), "told twice, counted once");
    fleet.runner("large", 2, Phase::Idle);
    assert_eq!(large.now(), Some((4, 1)), "it had none after all");
    fake.set("large", 0);
    large.becomes(Some((0, 1))).await;
}

#[tokio::test]
async fn a_job_that_is_over_gets_no_new_runner_while_the_planner_has_yet_to_hear_of_it() {
    let fake = Fake::start(&[("large", 2)]).await;
    let fleet = Fleet::alone(&fake);
    let mut large = fleet.watch("large");
    fleet.runner("large", 1, Phase::Busy);
    fleet.runner("large", 2, Phase::Busy);
    large.becomes(Some((0, 2))).await;
    fleet.runner("large", 1, Phase::Draining);
    assert_eq!(large.now(), Some((0, 1)), "one is left, and nobody waits");
    fleet.runner("large", 1, Phase::Deleted);
    assert_eq!(large.now(), Some((0, 1)), "it ended once");
    fake.set("large", 1);
    eventually("the pressure fell", || fleet.planner.status().pressures["large"] == 1).await;
    assert_eq!(large.now(), Some((0, 1)));
    fake.set("large", 2);
    large.becomes(Some((1, 1))).await;
}

#[tokio::test]
async fn a_flavor_that_the_planner_does_not_know_is_unknown_and_not_without_jobs() {
    let fake = Fake::start(&[("large", 3)]).await;
    let fleet = Fleet::alone(&fake);
    let (mut large, small) = (fleet.watch("large"), fleet.watch("small"));
    large.becomes(Some((3, 0))).await;
    assert_eq!(small.now(), None);
    assert_eq!(fleet.planner.status().without_flavor[&pool("small")], "small");
    fleet.planner.follow(&pool("small"), "large");
    assert_eq!(small.now(), Some((3, 0)), "a pool may follow a flavor of another name");
    fake.set("other", 1);
    fake.forget("large");
    large.becomes(None).await;
}

#[tokio::test]
async fn a_planner_without_any_flavor_is_asked_again_until_it_has_one() {
    let fake = Fake::start(&[]).await;
    let fleet = Fleet::alone(&fake);
    let mut large = fleet.watch("large");
    eventually("it was told so", || {
        fleet.planner.status().last_error.is_some_and(|error| error.contains("no flavor"))
    })
    .await;
    assert_eq!(large.now(), None);
    fake.set("large", 1);
    large.becomes(Some((1, 0))).await;
}

#[tokio::test]
async fn a_stream_that_ends_makes_demand_unknown_until_the_next_one_speaks() {
    let fake = Fake::start(&[("large", 3)]).await;
    let fleet = Fleet::alone(&fake);
    let mut large = fleet.watch("large");
    large.becomes(Some((3, 0))).await;
    fake.fail(Some(StatusCode::INTERNAL_SERVER_ERROR));
    fake.end_streams();
    large.becomes(None).await;
    assert_eq!(fleet.planner.status().connected_since, None);
    eventually("it is tried again", || fleet.planner.status().failures >= 3).await;
    assert_eq!(large.now(), None);
    fake.set_unheard("large", 4);
    fake.fail(None);
    large.becomes(Some((4, 0))).await;
}

#[tokio::test]
async fn a_planner_that_goes_away_and_comes_back_is_found_again() {
    let fake = Fake::start(&[("large", 3)]).await;
    let address = fake.address;
    let fleet = Fleet::alone(&fake);
    let mut large = fleet.watch("large");
    large.becomes(Some((3, 0))).await;
    fake.end_streams();
    drop(fake);
    large.becomes(None).await;
    let fake = eventually_bound(address).await;
    large.becomes(Some((6, 0))).await;
    drop(fake);
}

async fn eventually_bound(address: std::net::SocketAddr) -> Fake {
    eventually("the port is free", || std::net::TcpListener::bind(address).is_ok()).await;
    Fake::start_at(address, &[("large", 6)]).await
}

#[tokio::test]
async fn a_silent_stream_is_opened_anew_and_demand_stands_meanwhile() {
    let fake = Fake::start(&[("large", 3)]).await;
    let pace = Pace { silence: Duration::from_millis(150), ..pace() };
    let fleet = Fleet::of(&fake, 0, 1, pace);
    let mut large = fleet.watch("large");
    large.becomes(Some((3, 0))).await;
    large.0.mark_unchanged();
    fake.set_unheard("large", 4);
    tokio::time::timeout(
        PATIENCE,
        large.0.wait_for(|demand| demand.is_none_or(|d| d.waiting == 4)),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(large.now(), Some((4, 0)), "what went unheard is found, and nothing was unknown");
    assert_eq!(fleet.planner.status().failures, 0, "silence is no failure");
}

#[tokio::test]
async fn a_planner_that_is_there_and_says_nothing_any_more_is_unknown() {
    let fake = Fake::start(&[("large", 3)]).await;
    let short = Duration::from_millis(150);
    let fleet = Fleet::of(&fake, 0, 1, Pace { silence: short, patience: short, ..pace() });
    let mut large = fleet.watch("large");
    large.becomes(Some((3, 0))).await;
    fake.mute(true);
    large.becomes(None).await;
    fake.mute(false);
    large.becomes(Some((3, 0))).await;
}

#[tokio::test]
async fn a_heartbeat_keeps_a_stream_open() {
    let fake = Fake::start(&[("large", 3)]).await;
    let fleet = Fleet::alone(&fake);
    let mut large = fleet.watch("large");
    large.becomes(Some((3, 0))).await;
    for told in 2..6 {
        fake.heartbeat();
        eventually("it is heard", || fleet.planner.status().lines == told).await;
    }
    assert_eq!((large.now(), fake.opened()), (Some((3, 0)), 1));
}

#[tokio::test]
async fn a_malformed_line_costs_itself() {
    let fake = Fake::start(&[("large", 3)]).await;
    let fleet = Fleet::alone(&fake);
    let mut large = fleet.watch("large");
    large.becomes(Some((3, 0))).await;
    fake.say(b"<html>\n[1]\n{\"large\":\n\n{\"large\": 4, \"odd\": -1, \"small\": \"x\"}\n");
    large.becomes(Some((4, 0))).await;
    let status = fleet.planner.status();
    assert_eq!((status.malformed, status.failures, fake.opened()), (3, 0, 1));
    assert_eq!(status.unreadable, ["odd", "small"]);
}

#[tokio::test]
async fn a_line_that_never_ends_is_dropped_and_the_next_one_counts() {
    let fake = Fake::start(&[("large", 3)]).await;
    let fleet = Fleet::alone(&fake);
    let mut large = fleet.watch("large");
    large.becomes(Some((3, 0))).await;
    for _ in 0..20 {
        fake.say(&[b'x'; 100_000]);
    }
    fake.say(b"\n{\"large\": 5}\n");
    large.becomes(Some((5, 0))).await;
    assert_eq!(fleet.planner.status().malformed, 1);
}

#[tokio::test]
async fn lines_are_put_together_however_they_are_cut() {
    let fake = Fake::start(&[("large", 3)]).await;
    let fleet = Fleet::alone(&fake);
    let mut large = fleet.watch("large");
    large.becomes(Some((3, 0))).await;
    for piece in ["{\"lar", "ge\"", ": 1", "2}\n{\"large\": 1", "3}", "\n"] {
        fake.say(piece.as_bytes());
        tokio::task::yield_now().await;
    }
    large.becomes(Some((13, 0))).await;
    assert_eq!(fleet.planner.status().malformed, 0);
}

#[tokio::test]
async fn a_refused_token_is_read_again_and_told_without_itself() {
    let fake = Fake::start(&[("large", 3)]).await;
    fake.rotate("another_one");
    let fleet = Fleet::alone(&fake);
    let mut large = fleet.watch("large");
    eventually("it was refused", || {
        fake.asked().last().is_some_and(|(_, status)| *status == StatusCode::UNAUTHORIZED)
            && fleet.planner.status().last_error.is_some()
    })
    .await;
    let error = fleet.planner.status().last_error.unwrap();
    assert!(error.contains("401") && error.contains("token"), "{error}");
    assert!(!error.contains(TOKEN), "{error}");
    assert_eq!(large.now(), None);
    std::fs::write(fleet.token_file(), "another_one").unwrap();
    large.becomes(Some((3, 0))).await;
}

#[tokio::test]
async fn without_its_token_file_the_planner_is_not_asked_and_the_file_is_named() {
    let fake = Fake::start(&[("large", 3)]).await;
    let fleet = Fleet::alone(&fake);
    let mut large = fleet.watch("large");
    large.becomes(Some((3, 0))).await;
    std::fs::remove_file(fleet.token_file()).unwrap();
    fake.end_streams();
    large.becomes(None).await;
    eventually("the file is named", || {
        let error = fleet.planner.status().last_error.unwrap();
        error.contains(&*fleet.token_file().to_string_lossy())
    })
    .await;
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn the_pressures_can_be_asked_for_once_and_a_refusal_says_what_to_do() {
    let fake = Fake::start(&[("large", 3), ("small", 0)]).await;
    let fleet = Fleet::alone(&fake);
    let told = [("large", 3), ("small", 0)].map(|(name, n)| (name.into(), n));
    assert_eq!(fleet.planner.ask().await.unwrap(), told.into());
    fake.rotate("another");
    let refused = fleet.planner.ask().await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Auth);
    assert!(refused.what.contains("401") && !refused.what.contains(TOKEN), "{refused}");
    let hasty = Pace { patience: Duration::from_millis(50), ..pace() };
    let mute = Fake::start(&[("large", 3)]).await;
    mute.mute(true);
    let silent = Fleet::of(&mute, 0, 1, hasty).planner.ask().await.unwrap_err();
    assert!(silent.what.contains("tells no pressure"), "{silent}");
}

#[tokio::test]
async fn the_units_of_an_application_have_what_is_asked_for_together_and_no_more() {
    let fake = Fake::start(&[("large", 8)]).await;
    let fleets: Vec<_> = (0..3).map(|unit| Fleet::of(&fake, unit, 3, pace())).collect();
    let mut pools: Vec<_> = fleets.iter().map(|fleet| fleet.watch("large")).collect();
    for (pool, share) in pools.iter_mut().zip([3, 3, 2]) {
        pool.becomes(Some((share, 0))).await;
    }
    fake.set("large", 1);
    for (pool, share) in pools.iter_mut().zip([1, 0, 0]) {
        pool.becomes(Some((share, 0))).await;
    }
}

#[tokio::test]
async fn a_ca_file_that_is_none_is_refused_before_anybody_is_asked() {
    let access = PlannerAccess {
        url: "https://127.0.0.1:9".parse().unwrap(),
        token: SecretSource::Env("NOT_READ".to_owned()),
        ca_file: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")),
        units: 1,
        unit: 0,
    };
    let clock = Arc::new(TokioClock::starting_at(Time::UNIX_EPOCH));
    let error = Planner::new(&access, Env::default(), clock, Pace::default()).unwrap_err();
    assert!(error.what.contains("Cargo.toml") && error.what.contains("PEM"), "{error}");
}
