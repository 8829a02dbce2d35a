//! Tables as they stand in a terminal of 80 columns, and in a pipe.

use std::collections::BTreeMap;

use chrono::{TimeDelta, TimeZone, Utc};
use runner_fleet_actors::{
    event::{BootSnapshot, Counts, HoldSnapshot, Phase, Place},
    name::RunnerName,
    pool::{Habit, Habits},
    port::{ErrorClass, PortError, PortStatus},
};

use super::*;
use crate::http::api::{FleetInfo, Readiness, Reload, SourceStatus};

fn now() -> Time {
    Utc.timestamp_opt(1_718_000_000, 0).unwrap()
}

fn ago(seconds: i64) -> Time {
    now() - TimeDelta::seconds(seconds)
}

fn pool() -> PoolSnapshot {
    PoolSnapshot {
        name: "large".parse().unwrap(),
        scope: "org".parse().unwrap(),
        provider: "east".into(),
        min: 0,
        spare: 2,
        max: 1000,
        target: 120,
        target_because: "118 busy and 2 spare".into(),
        target_override: None,
        demand_unknown: false,
        counts: Counts { creating: 2, registering: 1, idle: 4, busy: 118, draining: 3 },
        because: vec!["3 launches held".into()],
        holds: vec![HoldSnapshot {
            place: Place::Shape,
            since: ago(200),
            until: ago(-90),
            failures: 4,
            error: PortError::certain(
                ErrorClass::Quota,
                "launch on east: quota of 480 cores is used up; raise it or lower max",
            ),
            ends: "as soon as a VM goes".into(),
        }],
        boots: None,
        late: 0,
        habits: Habits::default(),
        cloud_seen_at: None,
        forge_seen_at: None,
        forge_shows_from: None,
        absence_awaited: false,
        retiring: false,
    }
}

fn runner_named(name: &str) -> RunnerSnapshot {
    let name: RunnerName = name.parse().unwrap();
    RunnerSnapshot {
        pool: name.pool(),
        name,
        state: Phase::Draining,
        since: ago(192),
        created_at: ago(4_000),
        why: "the pool has 3 more runners than its target of 120".into(),
        last_error: Some("deregister: 422".into()),
        vm_id: None,
        registration_id: None,
        job: None,
        step: Some("deregister".into()),
        step_since: Some(ago(192)),
        tries: 1,
        task: None,
        deadline: None,
        shape: None,
        version: None,
    }
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap()
}

#[test]
fn everything_fits_80_columns() {
    let port = PortStatus {
        calls: 123_456,
        held_until: Some(ago(-30)),
        remaining: Some(4_999),
        last_error: Some("GET https://compute.example.com/v2.1/servers/detail: 503".into()),
        ..PortStatus::default()
    };
    let fleet = FleetInfo {
        id: "ci".parse().unwrap(),
        version: "0.1.0".into(),
        started_at: ago(11_520),
        last_reload: Some(Reload { at: ago(60), ok: true, what: "pool large changed".into() }),
        notes: Vec::new(),
    };
    let status = Status {
        fleet,
        uptime: 11_520,
        readiness: Readiness { ready: true, ..Readiness::default() },
        pools: vec![pool()],
        ports: BTreeMap::from([("east".into(), port.clone()), ("github".into(), port)]),
        listings: Vec::new(),
        sources: vec![SourceStatus {
            source: "webhooks".into(),
            connected_since: None,
            last_word_at: Some(ago(12)),
            signals: 4711,
            last_error: Some("a delivery with a wrong signature was refused".into()),
            failing_since: Some(ago(86_400)),
            details: serde_json::Value::Null,
        }],
    };
    let text = status_at(&status, now(), Some(80));
    assert!(widest(&text) <= 80, "{text}");
    assert!(text.starts_with("fleet ci  version 0.1.0  up 3h12m  ready\n"), "{text}");
    assert!(
        text.contains("webhooks") && text.contains("4711") && text.contains("12s ago"),
        "{text}"
    );
    let runners = [runner_named("ci--large--0123456789ab")];
    let text = runners_at(&runners, now(), Some(80));
    assert!(widest(&text) <= 80, "{text}");
    assert!(text.contains("ci--large--0123456789ab"), "a name is never broken:\n{text}");
    assert!(text.contains("3m12s"), "{text}");
}

#[test]
fn the_longest_name_is_never_broken_whatever_the_width() {
    let name = format!("{}--{}--0123456789ab", "f".repeat(16), "p".repeat(30));
    let text = runners_at(&[runner_named(&name)], now(), Some(80));
    assert!(text.contains(&name), "{text}");
}

#[test]
fn in_a_pipe_each_entry_is_one_line_with_everything_on_it() {
    let text = pools_at(&[pool()], now(), None);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let words: Vec<_> = lines[1].split_whitespace().take(7).collect();
    assert_eq!(words, ["large", "120", "3", "4", "118", "3", "1000"]);
    for part in [
        "118 busy and 2 spare",
        "no launches because of its kind of VM since 06:10:00Z (4 in a row: ",
        "480 cores",
        "one tries at 06:14:50Z, or as soon as a VM goes",
    ] {
        assert!(lines[1].contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn runners_that_take_far_longer_than_others_are_told_with_what_is_usual() {
    let seconds = std::time::Duration::from_secs;
    let (shortest, median, p99) = (seconds(20), seconds(31), seconds(70));
    let boots = Some(BootSnapshot { boots: 12, shortest, median, p99 });
    let pool = PoolSnapshot { late: 2, boots, ..pool() };
    let text = pools_at(&[pool], now(), None);
    let told =
        "2 take far longer to come online than others did (half of them 31 s, 99 of 100 70 s)";
    assert!(text.contains(told), "{text}");
}

#[test]
fn jobs_that_came_past_cordons_are_told_with_what_that_means() {
    let mut pool = pool();
    pool.habits.learn(Habit { leaked: true, ..Habit::default() }, ago(60));
    let text = pools_at(&[pool], now(), None);
    let told = "1 jobs came to runners that were to get none, since 06:12:20Z: who cannot be asked";
    assert!(text.contains(told), "{text}");
}

#[test]
fn a_hold_whose_time_is_over_says_that_one_finds_out() {
    let mut pool = pool();
    pool.holds[0].until = ago(1);
    let text = pools_at(&[pool], now(), None);
    assert!(text.contains("one finds out now whether it is over"), "{text}");
}

fn status() -> Status {
    let fleet = FleetInfo {
        id: "ci".parse().unwrap(),
        version: "0.1.0".into(),
        started_at: ago(600),
        last_reload: None,
        notes: Vec::new(),
    };
    let ports = ["east", "github"].map(|name| (name.to_owned(), PortStatus::default()));
    Status {
        fleet,
        uptime: 600,
        readiness: Readiness { ready: true, ..Readiness::default() },
        pools: Vec::new(),
        ports: BTreeMap::from(ports),
        listings: Vec::new(),
        sources: Vec::new(),
    }
}

#[test]
fn each_cloud_and_scope_has_a_row_from_the_start_and_says_what_fails_until_it_does_not() {
    let scope = Side::Scope("acme/widgets".parse().unwrap());
    let row = |status: &Status, begins: &str| {
        let text = status_at(status, now(), None);
        text.lines().find(|line| line.starts_with(begins)).unwrap().to_owned()
    };
    let mut status = status();
    let mut sight = Sight::new(ago(300));
    status.listings = vec![ListingStatus { side: scope.clone(), sight: sight.clone() }];
    assert!(row(&status, "github acme/widgets").ends_with("not listed yet since 06:08:20Z"));
    let refused = PortError::certain(ErrorClass::Auth, "GitHub says 401, \"Bad credentials\"");
    sight.failed(&refused, now() + TimeDelta::days(2), ago(200));
    status.listings = vec![ListingStatus { side: scope.clone(), sight: sight.clone() }];
    let line = row(&status, "github acme/widgets");
    for part in ["fails since 06:10:00Z", "held until 2024-06-12 06:13:20Z", "Bad credentials"] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    sight.listed(true, ago(5), &[]);
    status.listings = vec![ListingStatus { side: scope, sight }];
    assert!(row(&status, "github acme/widgets").ends_with("listed 5s ago"));
}

#[test]
fn what_should_be_looked_at_is_told_beside_a_fleet_that_is_ready() {
    let mut status = status();
    status.readiness.attention = vec!["pool large: VM 8a1f is being deleted".into()];
    let text = status_at(&status, now(), None);
    assert!(text.starts_with("fleet ci  version 0.1.0  up 10m  ready, with trouble\n"), "{text}");
    assert!(text.contains("\n  look at pool large: VM 8a1f is being deleted\n"), "{text}");
}

#[test]
fn an_error_of_yesterday_is_history() {
    let error = "no route to host".to_owned();
    let shown = last_error(Some(&error), Some(ago(90)), now());
    assert_eq!(shown.as_deref(), Some("last error 1m30s ago: no route to host"));
    assert_eq!(last_error(Some(&error), Some(ago(3601)), now()), None);
}

#[test]
fn a_hold_beyond_today_is_shown_with_its_date() {
    let mut pool = pool();
    pool.holds[0].until = now() + TimeDelta::days(40);
    let text = pools_at(&[pool], now(), None);
    assert!(text.contains("one tries at 2024-07-20 06:13:20Z"), "{text}");
}
