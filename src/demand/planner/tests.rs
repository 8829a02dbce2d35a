//! What time does to ends that the planner has yet to hear of, and the address that is asked.

use runner_fleet_actors::{
    event::{GuestTimes, Phase, Transition},
    name::RunnerName,
};

use super::*;

/// Stands still until it is moved.
#[derive(Default)]
struct HandClock(Mutex<Time>);

impl Clock for HandClock {
    fn now(&self) -> Time {
        *self.0.lock().unwrap()
    }
}

fn planner() -> Arc<Planner> {
    planner_at(Arc::new(HandClock::default()))
}

fn planner_at(clock: Arc<HandClock>) -> Arc<Planner> {
    let access = PlannerAccess {
        url: "http://planner.example/ci/".parse().unwrap(),
        token: SecretSource::Env("NOT_READ".to_owned()),
        ca_file: None,
        units: 1,
        unit: 0,
    };
    Planner::new(&access, Env::default(), clock, Pace::default()).unwrap()
}

fn hears(planner: &Planner, pressure: u32) {
    let pressures = [("large".into(), pressure)].into();
    planner.board().hear(pressures, planner.clock.now());
}

fn sees(planner: &Planner, token: u64, to: Phase) {
    let pool: PoolName = "large".parse().unwrap();
    let transition = Transition {
        runner: RunnerName::new(&"ci".parse().unwrap(), &pool, token),
        pool,
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
        found: false,
    };
    planner.observe(&FleetEvent::Transition { at: planner.clock.now(), transition });
}

fn jobs(demand: &watch::Receiver<Option<Demand>>) -> Option<(u32, u32)> {
    demand.borrow().map(|demand| (demand.waiting, demand.running))
}

#[tokio::test]
async fn a_pressure_that_stays_after_an_end_is_believed_again_when_the_planner_must_have_heard() {
    let clock = Arc::new(HandClock::default());
    let planner = planner_at(Arc::clone(&clock));
    let mut large = planner.watch(&"large".parse().unwrap());
    sees(&planner, 1, Phase::Busy);
    hears(&planner, 1);
    sees(&planner, 1, Phase::Draining);
    *clock.0.lock().unwrap() += Duration::from_secs(14);
    planner.board().settle(clock.now());
    assert_eq!(jobs(&large), Some((0, 0)), "it is over, and nobody waits");
    *clock.0.lock().unwrap() += Duration::from_secs(1);
    tokio::select! {
        () = planner.settle_for_ever() => {}
        changed = large.wait_for(|demand| demand.is_some_and(|demand| demand.waiting == 1)) => {
            changed.unwrap();
        }
    }
    assert_eq!(jobs(&large), Some((1, 0)), "another job came in its place");
}

#[tokio::test]
async fn an_end_is_taken_off_once_however_the_planner_hears_of_it() {
    let planner = planner();
    let large = planner.watch(&"large".parse().unwrap());
    for token in 1..=3 {
        sees(&planner, token, Phase::Busy);
    }
    hears(&planner, 5);
    sees(&planner, 1, Phase::Draining);
    sees(&planner, 2, Phase::Draining);
    assert_eq!(jobs(&large), Some((2, 1)));
    hears(&planner, 4);
    assert_eq!(jobs(&large), Some((2, 1)), "it has heard of one");
    hears(&planner, 4);
    assert_eq!(jobs(&large), Some((2, 1)), "a heartbeat is no news");
    hears(&planner, 3);
    assert_eq!(jobs(&large), Some((2, 1)), "and of the other");
    hears(&planner, 2);
    assert_eq!(jobs(&large), Some((1, 1)), "somebody cancelled a job");
}

#[test]
fn the_stream_lies_below_the_address_of_the_planner() {
    let below = |base: &str| stream_of(&base.parse().unwrap()).to_string();
    let path = "api/v1/flavors/_/pressure?stream=true";
    for base in ["https://p.example", "https://p.example/", "https://p.example/ci/"] {
        assert_eq!(below(base), format!("{}/{path}", base.trim_end_matches('/')));
    }
}
