//! What time does to orders, with times of nothing; everything else is shown over real sockets.

use std::sync::Arc;

use super::*;

fn name(token: u64) -> RunnerName {
    format!("ci--small--{token:012x}").parse().unwrap()
}

fn hub(change: impl FnOnce(&mut Patience)) -> Arc<Hub> {
    let mut patience = Patience::default();
    change(&mut patience);
    Arc::new(Hub::new(patience))
}

/// Polls until an order comes.
async fn fetch(hub: &Hub) -> Order {
    loop {
        if let Some(order) = hub.next(&name(1), 0, Duration::from_secs(50)).await {
            return order;
        }
    }
}

/// The guest is heard and its poll has ended; the order waits for its next one.
async fn asked(hub: &Arc<Hub>) -> tokio::task::JoinHandle<Result<StandDown, PortError>> {
    assert_eq!(hub.next(&name(1), 0, Duration::ZERO).await, None);
    let hub = Arc::clone(hub);
    tokio::spawn(async move { hub.stand_down(&name(1)).await })
}

#[tokio::test]
async fn an_order_without_an_answer_is_withdrawn_and_the_guest_is_told_to_go_on() {
    let hub = hub(|patience| patience.answer = Duration::ZERO);
    let error = asked(&hub).await.await.unwrap().unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Transient, false));
    let newest = fetch(&hub).await;
    assert_eq!(newest.order, OrderWord::GoOn, "whoever froze and was not heard goes on");
    for number in [newest.number - 1, newest.number] {
        let late = hub.answer(&name(1), number, StandDown::StandingDown);
        assert_eq!(late, Err(Withdrawn));
    }
}

#[tokio::test]
async fn a_guest_that_is_silent_is_not_waited_for() {
    let hub = hub(|patience| patience.away = Duration::ZERO);
    let error = hub.stand_down(&name(1)).await.unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Transient, true));
    let silent = asked(&hub).await.await.unwrap().unwrap_err();
    assert!(silent.what.contains("for 0 s"), "{silent}");
    assert_eq!(hub.next(&name(1), 0, Duration::ZERO).await, None, "and nothing was ordered");
}

#[tokio::test]
async fn a_guest_between_two_polls_is_waited_for() {
    let hub = hub(|_| {});
    let asked = asked(&hub).await;
    let order = fetch(&hub).await;
    assert_eq!(order.order, OrderWord::StandDown);
    hub.answer(&name(1), order.number, StandDown::Busy).unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), StandDown::Busy);
}

#[tokio::test]
async fn an_asker_that_goes_away_leaves_no_guest_frozen() {
    let hub = hub(|_| {});
    let asked = asked(&hub).await;
    let order = fetch(&hub).await;
    asked.abort();
    assert!(asked.await.is_err());
    let late = hub.answer(&name(1), order.number, StandDown::StandingDown);
    assert_eq!(late, Err(Withdrawn));
    assert_eq!(fetch(&hub).await.order, OrderWord::GoOn);
}

#[tokio::test]
async fn what_is_remembered_is_bounded_by_the_guests_that_are_heard() {
    let forgetful = hub(|patience| patience.forget = Duration::ZERO);
    let patient = hub(|_| {});
    for token in 0..5_000 {
        assert!(forgetful.admits(&name(token)) && patient.admits(&name(token)));
    }
    assert!(forgetful.remembered() <= FEW, "{}", forgetful.remembered());
    assert_eq!(patient.remembered(), 5_000);
}
