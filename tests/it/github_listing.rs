//! Listings tell the truth about themselves: odd elements, failing pages, ETags, stale views.

use crate::support::github::*;
use runner_fleet::fake::github::{FakeGithub, Once, Operation};
use runner_fleet_actors::{
    name::{RunnerName, Scope},
    port::{ErrorClass, Forge},
};
use serde_json::json;

fn populate(fake: &FakeGithub, scope: &Scope, runners: u64) {
    for token in 0..runners {
        fake.add_registration(scope, name(token).as_str(), &labels());
    }
}

#[tokio::test]
async fn only_this_fleets_runners_are_seen() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    populate(&fake, &org, 2);
    let others = ["my-laptop", "ci-big--small--0123456789ab", "ci--small--0123456789", "ci"];
    for other in others {
        fake.add_registration(&org, other, &labels());
    }
    populate(&fake, &scope("other-org"), 1);
    let listing = github.list(&org).await.unwrap();
    let seen: Vec<RunnerName> = listing.entries.into_iter().map(|one| one.name).collect();
    assert_eq!(seen, [name(0), name(1)]);
    assert!(listing.complete);
}

#[tokio::test]
async fn all_pages_are_read() {
    for runners in [0, 1, 99, 100, 101, 350] {
        let (fake, github) = pair().await;
        let org = scope("octo-org");
        populate(&fake, &org, runners);
        let listing = github.list(&org).await.unwrap();
        assert_eq!(listing.entries.len() as u64, runners);
        assert!(listing.complete, "{:?}", listing.faults);
        let pages = fake.stats().calls["actions/list-self-hosted-runners-for-org"];
        assert_eq!(pages, runners.div_ceil(100).max(1), "for {runners} runners");
    }
}

#[tokio::test]
async fn an_unchanged_listing_costs_nothing_and_a_changed_one_is_seen() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    populate(&fake, &org, 250);
    let first = github.list(&org).await.unwrap();
    let counted = fake.stats().counted;
    for _ in 0..10 {
        let again = github.list(&org).await.unwrap();
        assert_eq!(again.entries, first.entries);
        assert!(again.complete);
    }
    let stats = fake.stats();
    assert_eq!((stats.counted - counted, stats.unchanged), (0, 30));
    fake.add_registration(&org, name(999).as_str(), &labels());
    assert_eq!(github.list(&org).await.unwrap().entries.len(), 251);
}

#[tokio::test]
async fn a_shrunken_listing_forgets_its_old_pages() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    populate(&fake, &org, 150);
    let full = github.list(&org).await.unwrap();
    for one in &full.entries[10..] {
        github.deregister(&org, &one.name, Some(one.id)).await.unwrap();
    }
    let small = github.list(&org).await.unwrap();
    assert_eq!(small.entries, full.entries[..10]);
    assert!(small.complete, "{:?}", small.faults);
}

#[tokio::test]
async fn an_odd_element_of_somebody_else_harms_nothing() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    populate(&fake, &org, 3);
    fake.faults().odd_elements(vec![
        json!({"id": 9001, "name": "my-laptop", "status": "dreaming", "labels": null}),
        json!({"id": null, "name": "other--small--0123456789ab", "labels": [{"name": "x"}]}),
        json!({"id": 9002, "name": ""}),
    ]);
    let listing = github.list(&org).await.unwrap();
    assert_eq!(listing.entries.len(), 3);
    assert!(listing.complete, "{:?}", listing.faults);
}

#[tokio::test]
async fn an_element_that_may_be_ours_makes_the_listing_incomplete_and_costs_only_itself() {
    let ours = name(77);
    let odd = [
        json!(null),
        json!({}),
        json!("a text"),
        json!({"id": 9001, "name": null, "status": "online", "busy": false}),
        json!({"id": null, "name": ours.as_str(), "status": "online", "busy": false}),
        json!({"id": -1, "name": ours.as_str(), "status": "online", "busy": false}),
        json!({"id": 9001, "name": ours.as_str(), "status": "dreaming", "busy": false}),
        json!({"id": 9001, "name": ours.as_str(), "busy": false}),
    ];
    for element in odd {
        let (fake, github) = pair().await;
        let org = scope("octo-org");
        populate(&fake, &org, 150);
        fake.faults().odd_elements(vec![element.clone()]);
        let listing = github.list(&org).await.unwrap();
        assert_eq!(listing.entries.len(), 150, "with {element}");
        assert!(!listing.complete, "with {element}");
        assert_eq!(listing.faults.len(), 1, "with {element}: {:?}", listing.faults);
    }
}

#[tokio::test]
async fn an_odd_element_is_not_forgotten_when_its_page_comes_unchanged() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    fake.faults().odd_elements(vec![json!(null)]);
    assert!(!github.list(&org).await.unwrap().complete);
    assert!(!github.list(&org).await.unwrap().complete);
    assert_eq!(fake.stats().unchanged, 1);
}

#[tokio::test]
async fn a_missing_busy_flag_is_unknown_not_idle() {
    let (fake, github) = pair().await;
    let ours = name(1);
    fake.faults().odd_elements(vec![
        json!({"id": 9, "name": ours.as_str(), "status": "online", "labels": [{"name": "x"}]}),
    ]);
    let listing = github.list(&scope("octo-org")).await.unwrap();
    assert_eq!(listing.entries[0].busy, None);
    assert!(listing.complete);
}

#[tokio::test]
async fn a_failing_later_page_gives_what_was_read() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    populate(&fake, &org, 250);
    fake.faults().failing_page(Some(2));
    let listing = github.list(&org).await.unwrap();
    assert_eq!((listing.entries.len(), listing.complete), (100, false));
    assert!(listing.faults[0].contains("page 2"), "{:?}", listing.faults);
    fake.faults().failing_page(Some(1));
    assert_eq!(github.list(&org).await.unwrap_err().class, ErrorClass::Transient);
    fake.faults().failing_page(None);
    let listing = github.list(&org).await.unwrap();
    assert_eq!((listing.entries.len(), listing.complete), (250, true));
}

#[tokio::test]
async fn runners_that_go_while_the_pages_are_read_make_the_sweep_incomplete() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    populate(&fake, &org, 250);
    let first = github.list(&org).await.unwrap();
    // What the sweep meets: page 1 as it was, the later pages after two runners have gone, so two
    // others moved up onto page 1 behind the reader's back.
    let page_one = json!({"total_count": 250, "runners": (0..100u64).map(|token| json!({
        "id": token + 1, "name": name(token).as_str(), "status": "offline", "busy": false,
        "os": "unknown", "labels": []
    })).collect::<Vec<_>>()});
    for one in &first.entries[..2] {
        github.deregister(&org, &one.name, Some(one.id)).await.unwrap();
    }
    fake.faults().once(Operation::List, Once::Say(200, page_one.to_string()));
    let listing = github.list(&org).await.unwrap();
    assert!(!listing.complete);
    assert_eq!(listing.entries.len(), 248, "two were missed, two are gone already");
}

#[tokio::test]
async fn a_runner_that_is_seen_twice_is_one_runner() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    populate(&fake, &org, 1);
    let id = github.list(&org).await.unwrap().entries[0].id.0;
    fake.faults().odd_elements(vec![
        json!({"id": id, "name": name(0).as_str(), "status": "online", "busy": true}),
    ]);
    let listing = github.list(&org).await.unwrap();
    assert_eq!((listing.entries.len(), listing.complete), (1, false));
}

#[tokio::test]
async fn an_answer_that_is_no_listing_is_an_error() {
    for answer in ["{}", "[]", "\"<html>\"", "{\"runners\": null}"] {
        let (fake, github) = pair().await;
        fake.faults().once(Operation::List, Once::Say(200, answer.to_owned()));
        let error = github.list(&scope("octo-org")).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Transient, "for {answer}");
    }
}

#[tokio::test]
async fn stale_and_lossy_views_can_be_played() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    populate(&fake, &org, 5);
    fake.faults().listings_miss_one(true);
    let lossy = github.list(&org).await.unwrap();
    assert_eq!((lossy.entries.len(), lossy.complete), (4, true), "nothing tells it");
    fake.faults().listings_miss_one(false);
    fake.faults().listings_are_stale(true);
    assert_eq!(github.list(&org).await.unwrap().entries.len(), 5);
    github.deregister(&org, &name(0), None).await.unwrap();
    assert_eq!(github.list(&org).await.unwrap().entries.len(), 5);
    fake.faults().listings_are_stale(false);
    assert_eq!(github.list(&org).await.unwrap().entries.len(), 4);
}
