#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use http::Method;
use runner_fleet_actors::pool::{Habit, LONGEST};

use super::*;
use crate::github::{
    budget::pace::{Lesson, Limit, Proof},
    route::Endpoint,
};

fn folder() -> (tempfile::TempDir, StateFolder) {
    let place = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(place.path()).unwrap();
    (place, folder)
}

fn pool(name: &str) -> PoolName {
    name.parse().unwrap()
}

fn scope() -> Scope {
    "octo-org/app".parse().unwrap()
}

fn now() -> Time {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

fn boots(seconds: &[u64]) -> Boots {
    seconds.iter().map(|took| Duration::from_secs(*took)).collect()
}

fn lessons(most: u32) -> Lessons {
    let at = now();
    let limit = Some(Limit { most, taken: Some(30), refused: at, changed: at });
    let known = Lesson { limit, proof: Some(Proof { calls: 7, at }) };
    let seldom = Endpoint::of(&Method::DELETE, "/orgs/octo-org/actions/runners/7");
    let endpoints =
        BTreeMap::from([(Endpoint::launch(), known), (seldom, Lesson { proof: None, ..known })]);
    Lessons { of: "https://api.github.com/".to_owned(), endpoints }
}

/// What a scope with these habits believes at `at`, by a daemon that starts then.
fn started(folder: &StateFolder, at: Time) -> Option<Habits> {
    let learnt = Learnt::open(folder, [], at).unwrap();
    learnt.habits().get(&scope()).map(|habits| *habits)
}

#[test]
fn what_was_learnt_of_the_paces_outlives_the_daemon() {
    let (_place, folder) = folder();
    let first = Learnt::open(&folder, [], now()).unwrap();
    assert_eq!(first.lessons(), Lessons::default());
    first.keep(lessons(26));
    first.keep(lessons(27));
    assert_eq!(Learnt::open(&folder, [], now()).unwrap().lessons(), lessons(27));
}

#[test]
fn how_long_boots_took_outlives_the_daemon_for_pools_that_are_still_there() {
    let (_place, folder) = folder();
    let (small, large) = (pool("small"), pool("large"));
    let all = [(&small, "here"), (&large, "here")];
    let first = Learnt::open(&folder, all, now()).unwrap();
    assert!(first.boots().is_empty());
    first.boots().insert((small.clone(), "here".to_owned()), boots(&[20, 31]));
    first.boots().insert((large.clone(), "here".to_owned()), boots(&[45]));
    first.keep(Lessons::default());
    let second = Learnt::open(&folder, all, now()).unwrap();
    let of = |known: &Learnt, pool: &PoolName, provider: &str| {
        known.boots().get(&(pool.clone(), provider.to_owned())).map(|boots| boots.clone())
    };
    assert_eq!(of(&second, &small, "here"), Some(boots(&[20, 31])));
    // One pool is gone, and one has moved: another cloud boots at another pace.
    let third = Learnt::open(&folder, [(&small, "there")], now()).unwrap();
    assert!(third.boots().is_empty());
    third.keep(Lessons::default());
    assert!(Learnt::open(&folder, all, now()).unwrap().boots().is_empty());
}

#[test]
fn what_a_scope_has_shown_of_its_habits_outlives_the_daemon_for_thirty_days() {
    let (_place, folder) = folder();
    let first = Learnt::open(&folder, [], now()).unwrap();
    let late = Duration::from_secs(170);
    first.habits().entry(scope()).or_default().learn(Habit { late, leaked: true }, now());
    first.keep(Lessons::default());
    let days = |days| now() + chrono::TimeDelta::days(days);
    let kept = started(&folder, days(29)).unwrap();
    assert_eq!((kept.late, kept.leaked, kept.leaked_at), (late, 1, Some(now())));
    assert_eq!(started(&folder, days(31)), None);
}

#[test]
fn nothing_is_written_where_nothing_is_new() {
    let (place, folder) = folder();
    Learnt::open(&folder, [], now()).unwrap().keep(Lessons::default());
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_file_is_moved_aside_and_said_and_learning_begins_anew() {
    let damaged = [
        ("paces.json", r#"{"of": 7"#),
        ("boots.json", r#"{"small": "#),
        ("boots.json", r#"{"small": {"here": [-1]}}"#),
        ("boots.json", r#"{"no name!": {}}"#),
        ("habits.json", r#"{"no scope!": {}}"#),
        ("habits.json", r#"{"octo-org/app": {"late": -1}}"#),
    ];
    for (file, damaged) in damaged {
        let (_place, folder) = folder();
        std::fs::write(folder.file(file), damaged).unwrap();
        let learnt = Learnt::open(&folder, [(&pool("small"), "here")], now()).unwrap();
        assert!(learnt.boots().is_empty() && learnt.habits().is_empty());
        assert_eq!(learnt.lessons(), Lessons::default());
        let (_, note) = folder.troubles().notes().pop().unwrap();
        assert!(note.contains(&format!("{file}.damaged-")), "{note}");
        learnt.keep(lessons(26));
        assert_eq!(Learnt::open(&folder, [], now()).unwrap().lessons(), lessons(26));
    }
}

#[test]
fn numbers_that_somebody_else_wrote_are_bounded() {
    let (_place, folder) = folder();
    let many = vec!["18446744073709551615"; 300].join(",");
    std::fs::write(folder.file("boots.json"), format!(r#"{{"small": {{"here": [{many}]}}}}"#))
        .unwrap();
    let ages = r#"{"octo-org/app": {"late": {"secs": 18446744073709551615, "nanos": 0},
        "late_at": "9999-01-01T00:00:00Z", "leaked": 4294967295, "leaked_at": null}}"#;
    std::fs::write(folder.file("habits.json"), ages).unwrap();
    let learnt = Learnt::open(&folder, [(&pool("small"), "here")], now()).unwrap();
    let there = learnt.boots().get(&(pool("small"), "here".to_owned())).unwrap().clone();
    let summary = there.summary().unwrap();
    assert_eq!((summary.boots, summary.p99), (200, Duration::from_secs(24 * 60 * 60)));
    let habits = *learnt.habits().get(&scope()).unwrap();
    let believed = Habits { late: LONGEST, late_at: Some(now()), ..Habits::default() };
    assert_eq!(habits, believed, "and from now on they grow old");
}
