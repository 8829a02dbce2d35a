use runner_fleet_actors::port::{Secret, Shape, TokioClock};
use tokio::sync::watch;

use super::*;

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
    }
}

fn limited(limits: Limits) -> (Arc<Slow>, Arc<Limited<Slow>>) {
    let slow = Slow::new();
    let clock = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
    (slow.clone(), Arc::new(Limited::new(slow, limits, clock)))
}

fn launches(limited: &Arc<Limited<Slow>>, count: u64) -> Vec<tokio::task::JoinHandle<bool>> {
    (0..count)
        .map(|token| {
            let limited = limited.clone();
            tokio::spawn(async move { limited.launch(order(token)).await.is_ok() })
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn deletes_go_through_while_launches_wait_for_their_place() {
    let (slow, limited) = limited(Limits { concurrency: 4, ..Limits::default() });
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

#[tokio::test(start_paused = true)]
async fn a_call_that_gets_no_turn_is_told_so_after_a_while() {
    let (slow, limited) = limited(Limits { concurrency: 2, ..Limits::default() });
    let _held = launches(&limited, 1);
    slow.launching.subscribe().wait_for(|n| *n == 1).await.unwrap();
    let error = limited.launch(order(5)).await.unwrap_err();
    assert!(matches!(error.class, ErrorClass::RateLimited { .. }), "{error}");
    assert!(error.certain, "it was never asked for");
}

#[tokio::test(start_paused = true)]
async fn after_a_burst_calls_come_at_their_rate() {
    let limits = Limits { rate: 2.0, burst: 4, ..Limits::default() };
    let (_, limited) = limited(limits);
    let begun = tokio::time::Instant::now();
    for _ in 0..10 {
        limited.delete(&order(1).name, None).await.unwrap();
    }
    // Paused time: it passes only where somebody waits for it. Four at once, six at two a second.
    let took = begun.elapsed().as_secs_f64();
    assert!((2.9..3.2).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_frees_its_place() {
    let policy = breaker::Policy { failures: 1, ..breaker::Policy::default() };
    let (slow, limited) = limited(Limits { breaker: policy, ..Limits::default() });
    limited.list().await.unwrap_err();
    tokio::time::sleep(policy.first).await;
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
