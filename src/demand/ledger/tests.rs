#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::unix::fs::PermissionsExt;

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
async fn a_file_that_is_no_ledger_and_one_of_a_newer_daemon_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), "this is no database at all, not by any means")
        .unwrap();
    let error = Ledger::open(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains(FILE) && error.contains("mend or remove"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    sqlx::query("PRAGMA user_version = 9").execute(&mut *ledger.writer.lock().await).await.unwrap();
    let error = Ledger::open(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("version 9") && error.contains("newer"), "{error}");
}
