#![allow(clippy::unwrap_used, reason = "a test")]

use runner_fleet_actors::job::{JobFacts, Way};

use super::{super::Entry, *};

/// Noon, so that a few hours more or less are the same day.
fn at(seconds: i64) -> Time {
    "2027-01-15T12:00:00Z".parse::<Time>().unwrap() + chrono::TimeDelta::seconds(seconds)
}

const DAY: i64 = 24 * 3600;

/// A job that was queued then, and began after `waited` seconds if it did.
fn job(id: u64, pool: &str, queued: i64, waited: Option<i64>, word: JobWord) -> Entry {
    Entry::Job(Box::new(JobRecord {
        key: id.into(),
        word,
        facts: JobFacts {
            queued_at: Some(at(queued)),
            started_at: waited.map(|waited| at(queued + waited)),
            ..JobFacts::default()
        },
        pool: pool.parse().ok(),
        unserved: None,
        way: Way::default(),
        heard_at: at(queued),
        last_at: at(queued),
        checks: 0,
    }))
}

async fn ledger(jobs: &[Entry]) -> (tempfile::TempDir, Ledger) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    ledger.write(jobs).await.unwrap();
    (folder, ledger)
}

fn everything() -> Wanted {
    Wanted { pool: None, since: at(-7 * DAY), slow: None, state: None, limit: 100 }
}

async fn keys(ledger: &Ledger, wanted: &Wanted) -> Vec<u64> {
    let jobs = ledger.history(wanted, at(0)).await.unwrap();
    jobs.iter().map(|job| job.key.id().unwrap()).collect()
}

async fn some_jobs() -> (tempfile::TempDir, Ledger) {
    ledger(&[
        job(1, "large", -8 * DAY, Some(5), JobWord::Done),
        job(2, "large", -600, Some(300), JobWord::Done),
        job(3, "small", -500, Some(10), JobWord::Running),
        job(4, "large", -400, None, JobWord::Queued),
        job(5, "", -300, None, JobWord::Queued),
        job(6, "small", -200, None, JobWord::Done),
        job(7, "large", -100, None, JobWord::Queued),
    ])
    .await
}

#[tokio::test]
async fn jobs_are_found_by_pool_time_and_state_the_newest_first() {
    let (_folder, ledger) = some_jobs().await;
    let all = everything();
    assert_eq!(keys(&ledger, &all).await, [7, 6, 5, 4, 3, 2]);
    assert_eq!(keys(&ledger, &Wanted { limit: 2, ..all.clone() }).await, [7, 6]);
    let large = Wanted { pool: Some("large".parse().unwrap()), ..all.clone() };
    assert_eq!(keys(&ledger, &large).await, [7, 4, 2]);
    let ever = Wanted { since: at(-30 * DAY), ..large.clone() };
    assert_eq!(keys(&ledger, &ever).await, [7, 4, 2, 1]);
    for (state, found) in [
        (JobWord::Queued, vec![7, 5, 4]),
        (JobWord::Running, vec![3]),
        (JobWord::Done, vec![6, 2]),
        (JobWord::Blocked, vec![]),
    ] {
        let wanted = Wanted { state: Some(state), ..all.clone() };
        assert_eq!(keys(&ledger, &wanted).await, found, "{state:?}");
    }
    let waiting = Wanted { state: Some(JobWord::Queued), ..large };
    assert_eq!(keys(&ledger, &waiting).await, [7, 4]);
}

#[tokio::test]
async fn slow_jobs_are_those_that_waited_long_or_wait_long_already_the_slowest_first() {
    let (_folder, ledger) = some_jobs().await;
    let slow = Wanted { slow: Some(Duration::from_secs(100)), ..everything() };
    assert_eq!(keys(&ledger, &slow).await, [4, 2, 5, 7], "one that never began did not wait");
    let large = Wanted { pool: Some("large".parse().unwrap()), ..slow.clone() };
    assert_eq!(keys(&ledger, &large).await, [4, 2, 7]);
    assert_eq!(keys(&ledger, &Wanted { limit: 1, ..large }).await, [4]);
    let waiting = Wanted { state: Some(JobWord::Queued), ..slow.clone() };
    assert_eq!(keys(&ledger, &waiting).await, [4, 5, 7]);
    let over = Wanted { state: Some(JobWord::Done), ..slow };
    assert_eq!(keys(&ledger, &over).await, [2]);
}

#[tokio::test]
async fn waits_are_summed_up_by_pool_and_day() {
    let jobs: Vec<_> = (1..=20)
        .map(|n| job(n, "large", -600, Some(i64::try_from(n).unwrap()), JobWord::Done))
        .chain([
            job(30, "large", -DAY, Some(7), JobWord::Running),
            job(31, "small", -600, Some(4), JobWord::Done),
            job(32, "small", -600, None, JobWord::Queued),
            job(33, "", -600, Some(4), JobWord::Done),
        ])
        .collect();
    let (_folder, ledger) = ledger(&jobs).await;
    let shown = |days: Vec<DayOfWaits>| -> Vec<_> {
        days.into_iter()
            .map(|day| {
                let waits = (day.p50, day.p95, day.longest);
                (day.pool.to_string(), day.day.to_string(), day.jobs, waits)
            })
            .collect()
    };
    let row = |pool: &str, day: &str, jobs, waits| (pool.to_owned(), day.to_owned(), jobs, waits);
    let large = row("large", "2027-01-15", 20, (10.0, 19.0, 20.0));
    let small = row("small", "2027-01-15", 1, (4.0, 4.0, 4.0));
    let before = row("large", "2027-01-14", 1, (7.0, 7.0, 7.0));
    let all = ledger.waits(None, at(-7 * DAY)).await.unwrap();
    assert_eq!(shown(all), [large.clone(), small, before.clone()]);
    let one = ledger.waits(Some(&"large".parse().unwrap()), at(-DAY + 3600)).await.unwrap();
    assert_eq!(shown(one), [large, before], "a day counts whole");
}
