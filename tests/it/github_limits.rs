//! Rate limits: what is refused first, what never reaches the network, and how it ends by itself.

use std::{sync::Arc, time::Duration};

use crate::support::github::*;
use futures::future::join_all;
use runner_fleet::{
    fake::github::{FakeGithub, Once, Operation, Options},
    github::{Github, GithubConfig},
};
use runner_fleet_actors::port::{Clock, ErrorClass, Forge, PortError, Time};

async fn limited() -> (FakeGithub, Github, Arc<HandClock>) {
    let fake = start(Options { rate_limit: Some(1000), ..Options::default() }).await;
    let clock = HandClock::new();
    let github = Github::new(with_token(&fake), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    (fake, github, clock)
}

fn until(error: &PortError) -> Time {
    match error.class {
        ErrorClass::RateLimited { until } => until,
        other => panic!("{other:?}: {error}"),
    }
}

fn calls(fake: &FakeGithub) -> u64 {
    fake.stats().calls.values().sum()
}

#[tokio::test]
async fn when_little_is_left_listings_stop_first_and_launches_last() {
    let (fake, github, _) = limited().await;
    let repo = scope("octo-org/octo-repo");
    let registered = github.register(&order(&repo, 1)).await.unwrap();

    fake.faults().set_remaining(150);
    github.register(&order(&repo, 2)).await.unwrap();
    let before = calls(&fake);
    until(&github.list(&repo).await.unwrap_err());
    assert_eq!(calls(&fake), before, "a refused call is no call");
    github.deregister(&repo, &name(1), Some(registered.id)).await.unwrap();

    fake.faults().set_remaining(40);
    github.register(&order(&repo, 3)).await.unwrap();
    let before = calls(&fake);
    until(&github.list(&repo).await.unwrap_err());
    until(&github.deregister(&repo, &name(2), None).await.unwrap_err());
    assert_eq!(calls(&fake), before);

    fake.faults().set_remaining(1);
    github.register(&order(&repo, 4)).await.unwrap();
    let before = calls(&fake);
    let error = github.register(&order(&repo, 5)).await.unwrap_err();
    until(&error);
    assert!(error.certain, "nothing was asked, so nothing was left behind");
    assert_eq!(calls(&fake), before);
    assert_eq!(github.status().remaining, Some(0));
    assert!(github.status().held_until.is_some());
}

#[tokio::test]
async fn a_used_up_primary_limit_is_kept_until_its_reset_and_then_over_by_itself() {
    let (fake, github, clock) = limited().await;
    let org = scope("octo-org");
    fake.faults().primary_limit(Duration::from_secs(1800));
    let error = github.list(&org).await.unwrap_err();
    let reset = until(&error);
    let before = calls(&fake);
    for _ in 0..5 {
        assert_eq!(until(&github.register(&order(&org, 1)).await.unwrap_err()), reset);
        assert_eq!(until(&github.list(&org).await.unwrap_err()), reset);
    }
    assert_eq!(calls(&fake), before);
    assert_eq!(github.status().held_until, Some(reset));

    clock.set(reset);
    fake.faults().set_remaining(1000);
    github.list(&org).await.unwrap();
    assert_eq!(github.status().held_until, None);
}

#[tokio::test]
async fn a_secondary_limit_is_kept_for_as_long_as_github_says() {
    let (fake, github, clock) = limited().await;
    let org = scope("octo-org");
    fake.faults().secondary_limit(Duration::from_secs(120), true);
    let now = clock.now();
    let end = until(&github.list(&org).await.unwrap_err());
    assert_eq!(end, now + Duration::from_secs(120));
    let before = calls(&fake);
    until(&github.register(&order(&org, 1)).await.unwrap_err());
    assert_eq!(calls(&fake), before);
    fake.faults().secondary_limit(Duration::ZERO, true);
    clock.set(end);
    github.register(&order(&org, 1)).await.unwrap();
}

#[tokio::test]
async fn a_secondary_limit_without_a_time_is_kept_for_a_minute() {
    let (fake, github, clock) = limited().await;
    let org = scope("octo-org");
    let now = clock.now();
    fake.faults().secondary_limit(Duration::from_secs(120), false);
    let end = until(&github.list(&org).await.unwrap_err());
    assert_eq!(end, now + Duration::from_secs(60));
    clock.set(end);
    let end = until(&github.list(&org).await.unwrap_err());
    assert_eq!(end, now + Duration::from_secs(180), "twice as long the second time");
}

#[tokio::test]
async fn a_429_is_a_rate_limit_and_a_403_for_want_of_rights_is_none() {
    let (fake, github, _) = limited().await;
    let org = scope("octo-org");
    fake.faults().forbid(true);
    assert_eq!(github.list(&org).await.unwrap_err().class, ErrorClass::Auth);
    fake.faults().forbid(false);
    fake.faults().once(Operation::List, Once::Refuse(429));
    until(&github.list(&org).await.unwrap_err());
}

#[tokio::test]
async fn a_listing_that_meets_the_limit_in_its_middle_is_incomplete() {
    let (fake, github, _) = limited().await;
    let org = scope("octo-org");
    for token in 0..150 {
        fake.add_registration(&org, name(token).as_str(), &labels());
    }
    fake.faults().set_remaining(100);
    let listing = github.list(&org).await.unwrap();
    assert_eq!((listing.entries.len(), listing.complete), (100, false));
    assert!(listing.faults[0].contains("rate limit"), "{:?}", listing.faults);
}

#[tokio::test]
async fn a_github_without_limits_is_never_held_back() {
    let fake = start(Options { rate_limit: None, ..Options::default() }).await;
    let github = client(with_token(&fake));
    for _ in 0..50 {
        github.list(&scope("octo-org")).await.unwrap();
    }
    assert_eq!(github.status().remaining, None);
}

/// Registers these, all at once. Returns how many were, and from when on the rest is worth asking.
async fn register_all(github: &Github, tokens: std::ops::Range<u64>) -> (usize, Vec<Time>) {
    let org = scope("octo-org");
    let orders: Vec<_> = tokens.map(|token| order(&org, token)).collect();
    let answers = join_all(orders.iter().map(|order| github.register(order))).await;
    let later: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(later.iter().all(|error| error.certain), "{later:?}");
    (answers.len() - later.len(), later.into_iter().map(until).collect())
}

#[tokio::test]
async fn a_burst_of_launches_takes_githubs_points_and_then_knows_its_time() {
    let (fake, github, clock) = limited().await;
    fake.faults().points_a_minute(Some(900));
    github.list(&scope("octo-org")).await.unwrap();
    let minute = clock.now() + Duration::from_secs(60);
    let (made, later) = register_all(&github, 0..200).await;
    assert_eq!((made, later), (180, vec![minute; 20]));
    let door = github.door(&"linux".parse().unwrap());
    assert_eq!((door.permits, door.next), (0, Some(minute)));
    let error = github.register(&order(&scope("octo-org"), 200)).await.unwrap_err();
    assert!(error.what.contains("180 of these a minute"), "{error}");
    github.list(&scope("octo-org")).await.unwrap();
    clock.set(minute);
    fake.faults().points_a_minute(Some(900));
    assert_eq!(register_all(&github, 180..200).await, (20, vec![]));
    assert_eq!(fake.stats().too_fast, 0);
}

#[tokio::test]
async fn a_github_that_takes_fewer_is_found_out_by_few_refusals_and_remembered() {
    let (fake, github, clock) = limited().await;
    let faults = fake.faults();
    faults.creations_a_minute(Some(30));
    let (made, later) = register_all(&github, 0..50).await;
    assert_eq!((made, later.len()), (30, 20));
    let refused = fake.stats().too_fast;
    assert!((1..=5).contains(&refused), "{refused} were sent in vain");
    let hold = github.status().held_until.unwrap();
    assert_eq!(later.iter().max(), Some(&hold));

    // One goes first, and the others wait for its answer and not in vain.
    faults.creations_a_minute(Some(30));
    clock.set(hold);
    assert_eq!(register_all(&github, 100..120).await, (20, vec![]));
    assert_eq!(fake.stats().too_fast, refused);

    let config = GithubConfig { lessons: github.lessons(), ..with_token(&fake) };
    let next = Github::new(config, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    faults.creations_a_minute(Some(30));
    let (made, _) = register_all(&next, 200..250).await;
    assert!((20..=30).contains(&made), "{made} in the first minute of the next process");
    assert_eq!(fake.stats().too_fast, refused);
}

#[tokio::test]
async fn after_a_hold_one_call_finds_out_for_all() {
    let (fake, github, clock) = limited().await;
    fake.faults().secondary_limit(Duration::from_secs(600), true);
    let hold = until(&github.list(&scope("octo-org")).await.unwrap_err());
    clock.set(hold);
    let before = calls(&fake);
    let (made, later) = register_all(&github, 0..20).await;
    assert_eq!((made, later.len()), (0, 20));
    assert!(later.iter().all(|until| *until > hold), "{later:?}");
    assert_eq!(calls(&fake), before + 1);
}

#[tokio::test]
async fn a_github_without_limits_is_not_paced() {
    let fake = start(Options { rate_limit: None, ..Options::default() }).await;
    let github = client(with_token(&fake));
    for token in 0..100 {
        github.register(&order(&scope("octo-org"), token)).await.unwrap();
    }
}
