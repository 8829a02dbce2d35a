//! What is about to change something outside is sent while its grounds hold, and not later, whatever it had
//! waited for; what only looks goes.

use std::{sync::Arc, time::Duration};

use runner_fleet::{
    fake::github::Options,
    home::{Hub, Patience},
    provider::limited::{Limited, Limits},
};
use runner_fleet_actors::{
    name::RegistrationId,
    port::{Clock, Forge, Grounds, Guests, PortError, Provider, Standing, TokioClock},
    runner::STANDS,
};

use crate::support::{github, provider::world};

/// Grounds that hold for another hour, or ended just now.
fn grounds(hold: bool) -> Standing {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::of_system());
    let since = clock.now();
    let until = if hold { since + Duration::from_secs(3600) } else { since };
    Standing::new(Grounds { since, until }, clock)
}

fn not_sent<T: std::fmt::Debug>(refused: Result<T, PortError>) {
    let error = refused.unwrap_err();
    assert!(error.local && error.certain, "{error:?}");
    assert!(error.what.contains("not sent, because what it was decided on held until"), "{error}");
}

#[tokio::test]
async fn github_is_asked_to_change_nothing_on_grounds_that_have_ended() {
    let (fake, forge) = github::pair().await;
    let org = github::scope("octo-org");
    let name = github::name(1);
    let id = RegistrationId(fake.add_registration(&org, name.as_str(), &github::labels()));
    not_sent(grounds(false).under(forge.deregister(&org, &name, Some(id))).await);
    not_sent(grounds(false).under(forge.register(&github::order(&org, 2))).await);
    assert_eq!(fake.stats().registrations, 1, "nothing was made or removed");
    let found = grounds(false).under(forge.look_up(&org, &name, Some(id), None)).await.unwrap();
    assert_eq!(found.registration.map(|one| one.id), Some(id), "a look goes");
    assert_eq!(forge.status().failures, 0, "what was not asked has not failed");
    grounds(true).under(forge.deregister(&org, &name, Some(id))).await.unwrap();
    assert_eq!(fake.stats().registrations, 0);
}

#[tokio::test]
async fn what_was_decided_holds_no_longer_than_the_wait_for_a_token_that_github_refused() {
    let fake = github::start(Options { app: Some(github::app()), ..Options::default() }).await;
    let forge = github::client(github::with_app(&fake));
    let org = github::scope("octo-org");
    let name = github::name(1);
    let id = RegistrationId(fake.add_registration(&org, name.as_str(), &github::labels()));
    forge.list(&org).await.unwrap();
    fake.faults().revoke_installation_tokens();
    fake.faults().latency(Duration::from_millis(300));
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::of_system());
    let since = clock.now();
    // Sent, refused, and by the time that there is another token too late.
    let grounds = Grounds { since, until: since + Duration::from_millis(200) };
    not_sent(Standing::new(grounds, clock).under(forge.deregister(&org, &name, Some(id))).await);
    assert_eq!(fake.stats().registrations, 1);
}

#[tokio::test]
async fn a_cloud_is_asked_to_change_nothing_on_grounds_that_have_ended() {
    let world = world::World::new().await;
    let limited = Limited::new(Arc::clone(&world.provider), Limits::default(), world.clock.clone());
    not_sent(grounds(false).under(limited.launch(world::order(1))).await);
    assert_eq!(world.cloud.stats().creates, 0);
    assert!(!limited.door().shut, "what was not asked tells nothing of the cloud");
    limited.launch(world::order(1)).await.unwrap();
    let name = world::name(1);
    not_sent(grounds(false).under(limited.delete(&name, None)).await);
    let changes = |call: &String| call.starts_with("DELETE") || call.ends_with("/action");
    let asked = || world.cloud.stats().calls.keys().any(changes);
    assert!(!asked());
    grounds(true).under(limited.delete(&name, None)).await.unwrap();
    assert!(asked());
}

#[tokio::test]
async fn a_guest_is_not_asked_to_stand_down_by_who_has_given_that_up() {
    let hub = Arc::new(Hub::new(Patience::default()));
    let name = github::name(1);
    let polls = tokio::spawn({
        let (hub, name) = (Arc::clone(&hub), name.clone());
        async move { hub.next(&name, 0, Duration::from_secs(60)).await }
    });
    while !hub.hears(&name) {
        tokio::task::yield_now().await;
    }
    not_sent(grounds(false).under(hub.stand_down(&name)).await);
    assert!(!polls.is_finished(), "it was given no order");
    polls.abort();
}

#[test]
fn a_guest_stands_down_for_longer_than_its_word_is_believed() {
    let program = include_str!("../../src/guest/program/standdown.py");
    let limit = program.lines().find_map(|line| line.strip_prefix("FROZEN_LIMIT = ")).unwrap();
    let frozen = Duration::from_secs_f64(limit.parse().unwrap());
    assert!(STANDS + Duration::from_secs(60) <= frozen, "it goes on by itself after {frozen:?}");
}
