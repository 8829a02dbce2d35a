#![allow(clippy::unwrap_used, reason = "a test")]

use runner_fleet_actors::{demand::Sure, port::TokioClock};

use super::*;

struct Source(watch::Sender<Option<Demand>>);

impl DemandSource for Source {
    fn watch(&self, _: &PoolName) -> watch::Receiver<Option<Demand>> {
        self.0.subscribe()
    }
}

fn mix() -> (Mix, PoolName) {
    let clock = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
    (Mix::new(clock, Handle::current()), "large".parse().unwrap())
}

async fn says(demand: &mut watch::Receiver<Option<Demand>>, wanted: Option<(u32, Sure)>) {
    let is = |said: &Option<Demand>| said.map(|said| (said.waiting, said.sure)) == wanted;
    tokio::time::timeout(std::time::Duration::from_secs(10), demand.wait_for(is))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_pool_without_sources_has_no_demand_but_its_own_runners() {
    let (mix, pool) = mix();
    let mut demand = mix.watch(&pool);
    assert_eq!(*demand.borrow(), None, "nothing was said yet");
    mix.follow(&pool, &[]);
    says(&mut demand, Some((0, Sure::Exact))).await;
}

#[tokio::test]
async fn a_source_that_ends_is_silent_and_one_that_comes_with_a_reload_is_heard() {
    let (mix, pool) = mix();
    let one = Arc::new(Source(watch::Sender::new(None)));
    let other = Arc::new(Source(watch::Sender::new(None)));
    mix.follow(&pool, &[Arc::clone(&one) as _, Arc::clone(&other) as _]);
    let mut demand = mix.watch(&pool);
    says(&mut demand, None).await;
    let now = chrono::Utc::now();
    one.0.send_replace(Some(Demand::exact(2, 0, now)));
    says(&mut demand, Some((2, Sure::AtLeast))).await;
    other.0.send_replace(Some(Demand::exact(5, 0, now)));
    says(&mut demand, Some((5, Sure::Exact))).await;
    drop(other);
    says(&mut demand, Some((2, Sure::AtLeast))).await;
}

#[tokio::test]
async fn sources_change_under_a_scaler_that_holds_on_to_its_channel() {
    let (mix, pool) = mix();
    let one = Arc::new(Source(watch::Sender::new(Some(Demand::exact(2, 0, chrono::Utc::now())))));
    mix.follow(&pool, &[Arc::clone(&one) as _]);
    let mut demand = mix.watch(&pool);
    says(&mut demand, Some((2, Sure::Exact))).await;
    mix.follow(&pool, &[]);
    says(&mut demand, Some((0, Sure::Exact))).await;
    one.0.send_replace(Some(Demand::exact(9, 0, chrono::Utc::now())));
    mix.follow(&pool, &[Arc::clone(&one) as _]);
    says(&mut demand, Some((9, Sure::Exact))).await;
}
