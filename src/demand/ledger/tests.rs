#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::os::unix::fs::PermissionsExt;

use rand::{Rng, SeedableRng};
use runner_fleet_actors::job::{JobFacts, JobWord, Way};

use super::*;

fn at(seconds: i64) -> Time {
    Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn job(id: u64, word: JobWord, seconds: i64) -> Entry {
    Entry::Job(Box::new(JobRecord {
        key: id.into(),
        word,
        facts: JobFacts { repository: Some("o/r".into()), ..JobFacts::default() },
        pool: Some("large".parse().unwrap()),
        unserved: None,
        way: Way::default(),
        heard_at: at(seconds),
        last_at: at(seconds),
        checks: 0,
    }))
}

#[tokio::test]
async fn what_was_written_is_there_after_the_daemon_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    ledger
        .write(&[
            job(1, JobWord::Queued, 0),
            job(2, JobWord::Done, 0),
            Entry::Delivery { id: "d-1".to_owned(), at: at(0) },
            Entry::Mark { name: "scale-set/large".to_owned(), value: Some("7".into()) },
        ])
        .await
        .unwrap();
    // Not closed: as a process that is killed.
    let again = Ledger::open(folder.path()).await.unwrap();
    let open = again.open_jobs().await.unwrap();
    assert_eq!(open.iter().map(|job| job.key.as_str()).collect::<Vec<_>>(), ["1"]);
    assert_eq!(again.jobs_of(&[2.into(), 3.into()]).await.unwrap().len(), 1);
    assert!(again.took("d-1").await.unwrap() && !again.took("d-2").await.unwrap());
    assert_eq!(again.mark("scale-set/large").await.unwrap().as_deref(), Some("7"));
    assert_eq!(again.marks("scale-set/").await.unwrap().len(), 1);
    assert_eq!(again.marks("scale_set/").await.unwrap(), []);
}

#[tokio::test]
async fn a_job_is_kept_once_with_its_newest_word() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    ledger.write(&[job(1, JobWord::Queued, 0)]).await.unwrap();
    ledger.write(&[job(1, JobWord::Done, 5)]).await.unwrap();
    assert_eq!(ledger.open_jobs().await.unwrap(), []);
    assert_eq!(ledger.jobs_of(&[1.into()]).await.unwrap()[0].word, JobWord::Done);
}

#[tokio::test]
async fn jobs_are_kept_for_thirty_days_and_deliveries_for_four() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    let day = 24 * 3600;
    ledger
        .write(&[
            job(1, JobWord::Done, 0),
            job(2, JobWord::Done, 2 * day),
            Entry::Delivery { id: "old".to_owned(), at: at(26 * day) },
            Entry::Delivery { id: "new".to_owned(), at: at(28 * day) },
        ])
        .await
        .unwrap();
    assert_eq!(ledger.forget(at(31 * day)).await.unwrap(), 2);
    assert_eq!(ledger.jobs_of(&[1.into(), 2.into()]).await.unwrap().len(), 1);
    assert!(ledger.took("new").await.unwrap() && !ledger.took("old").await.unwrap());
}

#[tokio::test]
async fn nobody_else_may_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    ledger.write(&[job(1, JobWord::Queued, 0)]).await.unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn a_ledger_of_a_newer_daemon_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    ledger.write(&[job(1, JobWord::Queued, 0)]).await.unwrap();
    let mut writing = ledger.disk.begin().await.unwrap();
    sqlx::query("PRAGMA user_version = 9").execute(&mut writing.connection).await.unwrap();
    writing.proven().await.unwrap();
    drop(ledger);
    let error = Ledger::open(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("version 9") && error.contains("newer"), "{error}");
    let there = std::fs::read_dir(folder.path()).unwrap();
    assert!(
        there.into_iter().all(|e| !e.unwrap().path().display().to_string().contains("damaged"))
    );
}

#[tokio::test]
async fn of_too_many_deliveries_the_oldest_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    let most = i64::from(DELIVERIES_MAX);
    for begin in (0..most + 20_000).step_by(10_000) {
        let one = |n| Entry::Delivery { id: format!("d-{n}"), at: at(n) };
        ledger.write(&(begin..begin + 10_000).map(one).collect::<Vec<_>>()).await.unwrap();
    }
    assert!(ledger.took(&format!("d-{}", most + 19_999)).await.unwrap());
    assert!(!ledger.took("d-0").await.unwrap() && !ledger.took("d-9999").await.unwrap());
    let left: i64 = sqlx::query("SELECT count(*) FROM deliveries")
        .fetch_one(&ledger.disk.readers().unwrap())
        .await
        .unwrap()
        .get(0);
    assert!(left <= most + i64::from(DELIVERIES_LOOK), "{left}");
}

#[tokio::test]
async fn a_write_that_is_given_up_in_the_middle_costs_no_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    for round in 0..3 {
        // Dropped in mid-transaction, as a caller does that does not wait any longer.
        drop(ledger.disk.begin().await.unwrap());
        ledger.write(&[job(round, JobWord::Queued, 0)]).await.unwrap();
        // As SQLite rolls back by itself on a full disk, beneath whoever counts transactions.
        let mut writing = ledger.disk.begin().await.unwrap();
        sqlx::raw_sql("ROLLBACK").execute(&mut writing.connection).await.unwrap();
        writing.proven().await.unwrap_err();
        assert!(ledger.is_in_trouble());
        while ledger.prove().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!ledger.is_in_trouble());
    }
    let again = Ledger::open(folder.path()).await.unwrap();
    assert_eq!(again.open_jobs().await.unwrap().len(), 3);
}

/// A ledger as a daemon leaves it, in one file.
async fn kept() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    let jobs: Vec<_> = (0..40).map(|id| job(id, JobWord::Queued, 0)).collect();
    ledger.write(&jobs).await.unwrap();
    let deliveries = (0..40).map(|n| Entry::Delivery { id: format!("delivery-{n}"), at: at(n) });
    ledger.write(&deliveries.collect::<Vec<_>>()).await.unwrap();
    // Into the file itself, from the log beside it.
    let mut writing = ledger.disk.begin().await.unwrap();
    sqlx::raw_sql("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(&mut writing.connection)
        .await
        .unwrap();
    std::fs::read(folder.path().join(FILE)).unwrap()
}

/// Starts with such a file, and works.
async fn starts_with(damaged: &[u8], what: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    std::fs::write(&file, damaged).unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let ledger = Ledger::open_in(&state).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    ledger.open_jobs().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    ledger.marks("").await.unwrap_or_else(|error| panic!("{what}: {error}"));
    ledger
        .write(&[job(7, JobWord::Running, 0), Entry::Delivery { id: "new".into(), at: at(0) }])
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let moved = !state.troubles().notes().is_empty();
    let beside = std::fs::read_dir(folder.path())
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_string_lossy().contains(".damaged-"));
    assert_eq!(moved, beside, "{what}: what is moved aside is said, and only that");
    moved
}

#[tokio::test]
async fn no_damage_of_the_file_keeps_a_daemon_from_starting() {
    let whole = kept().await;
    assert!(!starts_with(&whole, "whole").await);
    assert!(!starts_with(b"", "empty").await);
    assert!(starts_with(b"this is no database at all, not by any means", "a text").await);
    let mut chance = rand::rngs::SmallRng::seed_from_u64(11);
    let lengths = [1, 15, 16, 99, 100, 511, 512, 4095, 4096, 4097, 8192, whole.len() - 1];
    for length in lengths {
        let moved = starts_with(&whole[..length], &format!("{length} bytes")).await;
        assert!(moved || length > 4096, "{length} bytes are no ledger");
    }
    // Each byte of the header but the version of the tables, of which a newer daemon may be meant.
    let header = (0..100).filter(|byte| !(60..64).contains(byte)).map(|byte| byte * 8 + byte % 8);
    let anywhere = (0..60).map(|_| chance.random_range(800..whole.len() * 8)).collect::<Vec<_>>();
    for bit in header.chain(anywhere) {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        starts_with(&flipped, &format!("bit {bit}")).await;
    }
}

#[tokio::test]
async fn a_file_that_is_damaged_or_lost_beneath_a_daemon_is_begun_anew() {
    for remove in [
        vec![FILE],
        vec!["demand.sqlite-wal"],
        vec!["demand.sqlite-shm"],
        vec![FILE, "demand.sqlite-wal", "demand.sqlite-shm"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).await.unwrap();
        ledger.write(&[job(1, JobWord::Queued, 0)]).await.unwrap();
        for name in &remove {
            std::fs::remove_file(folder.path().join(name)).unwrap();
        }
        let refused = ledger.write(&[job(2, JobWord::Queued, 0)]).await.unwrap_err();
        assert!(refused.to_string().contains("moved or removed"), "{refused}");
        while ledger.write(&[job(3, JobWord::Queued, 0)]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let again = Ledger::open(folder.path()).await.unwrap();
        let open = again.open_jobs().await.unwrap();
        assert!(open.iter().any(|job| job.key.as_str() == "3"), "{remove:?}");
        let lost = remove.contains(&FILE);
        assert_eq!(open.iter().any(|job| job.key.as_str() == "1"), !lost, "{remove:?}");
        assert_eq!(ledger.begun_anew(), u64::from(lost), "{remove:?}: who remembers is told");
    }
}

#[tokio::test]
async fn who_reads_much_keeps_no_write_from_its_proof_and_is_no_trouble_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    let readers = ledger.disk.readers().unwrap();
    let mut busy = Vec::new();
    for _ in 0..readers.options().get_max_connections() {
        busy.push(readers.acquire().await.unwrap());
    }
    ledger.write(&[job(1, JobWord::Queued, 0)]).await.unwrap();
    for error in [sqlx::Error::PoolTimedOut, sqlx::Error::PoolClosed] {
        let _told = ledger.disk.unread(&error);
        assert!(!ledger.is_in_trouble(), "{error}");
    }
    let _told = ledger.disk.unread(&sqlx::Error::WorkerCrashed);
    assert!(ledger.is_in_trouble());
}
