use runner_fleet_actors::port::{Door, Secret, Shape};
use tokio::sync::watch;

use super::*;

/// A clock that stands still until the test moves it.
struct Hands(Mutex<Time>);

impl Clock for Hands {
    fn now(&self) -> Time {
        *self.0.lock().unwrap()
    }
}

/// A cloud that holds every launch until it is let go, and answers everything else at once.
struct Slow {
    go: watch::Sender<bool>,
    launching: watch::Sender<usize>,
}

impl Slow {
    fn new() -> Arc<Self> {
        Arc::new(Self { go: watch::Sender::new(false), launching: watch::Sender::new(0) })
    }
}

#[async_trait]
impl Provider for Slow {
    async fn launch(&self, order: LaunchOrder) -> Result<VmId, PortError> {
        self.launching.send_modify(|n| *n += 1);
        self.go.subscribe().wait_for(|go| *go).await.unwrap();
        self.launching.send_modify(|n| *n -= 1);
        Ok(VmId(order.name.to_string()))
    }

    async fn delete(&self, _: &RunnerName, _: Option<&VmId>) -> Result<Deletion, PortError> {
        Ok(Deletion::Gone)
    }

    async fn list(&self) -> Result<Listing<Vm>, PortError> {
        Err(PortError::certain(ErrorClass::Transient, "down"))
    }

    fn status(&self) -> PortStatus {
        PortStatus::default()
    }
}

fn order(token: u64) -> LaunchOrder {
    let pool: runner_fleet_actors::name::PoolName = "p".parse().unwrap();
    LaunchOrder {
        name: RunnerName::new(&"ci".parse().unwrap(), &pool, token),
        pool,
        scope: "org".parse().unwrap(),
        shape: Shape::default(),
        user_data: Secret::new(""),
        created_at: chrono::Utc::now(),
        fresh: false,
    }
}

fn limited(limits: Limits) -> (Arc<Slow>, Arc<Limited<Slow>>, Arc<Hands>) {
    let slow = Slow::new();
    let clock = Arc::new(Hands(Mutex::new(chrono::Utc::now())));
    (slow.clone(), Arc::new(Limited::new(slow, limits, clock.clone())), clock)
}

fn launches(limited: &Arc<Limited<Slow>>, count: u64) -> Vec<tokio::task::JoinHandle<bool>> {
    (0..count)
        .map(|token| {
            let limited = limited.clone();
            tokio::spawn(async move { limited.launch(order(token)).await.is_ok() })
        })
        .collect()
}

#[tokio::test]
async fn deletes_go_through_while_launches_wait_for_their_place() {
    let (slow, limited, _) = limited(Limits { concurrency: 4, ..Limits::default() });
    let waiting = launches(&limited, 10);
    slow.launching.subscribe().wait_for(|n| *n == 3).await.unwrap();
    let deletion = limited.delete(&order(99).name, None).await;
    assert_eq!(deletion, Ok(Deletion::Gone));
    assert_eq!(*slow.launching.borrow(), 3, "a fourth place is kept for deletes and listings");
    slow.go.send_replace(true);
    for launch in waiting {
        assert!(launch.await.unwrap());
    }
}

#[tokio::test]
async fn a_call_that_gets_no_turn_is_told_so_after_a_while() {
    let patience = Duration::from_millis(20);
    let limits = Limits { concurrency: 2, patience, ..Limits::default() };
    let (slow, limited, _) = limited(limits);
    let _held = launches(&limited, 1);
    slow.launching.subscribe().wait_for(|n| *n == 1).await.unwrap();
    let error = limited.launch(order(5)).await.unwrap_err();
    assert!(matches!(error.class, ErrorClass::RateLimited { .. }), "{error}");
    assert!(error.certain, "it was never asked for");
}

#[test]
fn after_a_burst_calls_come_at_their_rate_and_launches_leave_some_of_it() {
    let start: Time = chrono::Utc::now();
    let limits = Limits { rate: Some(2.0), burst: 4, ..Limits::default() };
    let mut bucket = Bucket { level: 4.0, at: start };
    assert_eq!(bucket.take(start, &limits, 1.0), Ok(()));
    for _ in 0..2 {
        assert_eq!(bucket.take(start, &limits, 1.0), Ok(()));
    }
    assert_eq!(bucket.take(start, &limits, 1.0), Err(Duration::from_millis(500)));
    assert_eq!(bucket.take(start, &limits, 0.0), Ok(()), "the last one is for a delete");
    assert_eq!(bucket.take(start, &limits, 0.0), Err(Duration::from_millis(500)));
    let later = start + Duration::from_millis(500);
    assert_eq!(bucket.take(later, &limits, 0.0), Ok(()));
    let idle = start + Duration::from_secs(3600);
    let burst = (0..10).filter(|_| bucket.take(idle, &limits, 0.0).is_ok()).count();
    assert_eq!(burst, 4, "a quiet hour saves up one burst and no more");
    assert!(bucket.take(start, &limits, 0.0).is_err(), "a clock that goes back gives nothing");
}

#[tokio::test]
async fn a_probe_that_is_dropped_frees_its_place() {
    let policy = breaker::Policy { failures: 1, ..breaker::Policy::default() };
    let (slow, limited, clock) = limited(Limits { breaker: policy, ..Limits::default() });
    limited.list().await.unwrap_err();
    *clock.0.lock().unwrap() += policy.pause;
    let probe = tokio::spawn({
        let limited = limited.clone();
        async move { limited.launch(order(1)).await }
    });
    slow.launching.subscribe().wait_for(|n| *n == 1).await.unwrap();
    let beside = limited.delete(&order(1).name, None).await.unwrap_err();
    assert!(matches!(beside.class, ErrorClass::RateLimited { .. }), "{beside}");
    probe.abort();
    assert!(probe.await.unwrap_err().is_cancelled());
    assert_eq!(limited.delete(&order(1).name, None).await, Ok(Deletion::Gone));
}

#[tokio::test]
async fn the_error_that_calls_are_held_back_for_is_as_old_as_it_is() {
    let policy = breaker::Policy { failures: 1, ..breaker::Policy::default() };
    let (_, limited, clock) = limited(Limits { breaker: policy, ..Limits::default() });
    let met = clock.now();
    limited.list().await.unwrap_err();
    *clock.0.lock().unwrap() += policy.pause / 2;
    let status = limited.status();
    assert_eq!(status.held_until, Some(met + policy.pause));
    assert_eq!(status.last_error_at, Some(met));
}

fn door(limited: &Limited<Slow>) -> (u32, Option<Time>) {
    let Door { permits, next, .. } = limited.door();
    (permits, next)
}

#[tokio::test]
async fn whoever_plans_is_told_how_many_launches_may_go() {
    let policy = breaker::Policy { failures: 1, ..breaker::Policy::default() };
    let limits = Limits { concurrency: 4, breaker: policy, ..Limits::default() };
    let (slow, limited, clock) = limited(limits);
    assert_eq!(door(&limited), (3, None));
    let _held = launches(&limited, 3);
    slow.launching.subscribe().wait_for(|n| *n == 3).await.unwrap();
    let soon = clock.now() + Duration::from_secs(1);
    assert_eq!(door(&limited), (0, Some(soon)));
    limited.list().await.unwrap_err();
    assert_eq!(door(&limited), (0, Some(clock.now() + policy.pause)));
    *clock.0.lock().unwrap() += policy.pause;
    assert_eq!(door(&limited), (1, None), "one finds out");
}
