//! Jobs that are kept, and the desk that knows them.

use std::{path::Path, sync::Arc};

use chrono::{TimeDelta, Utc};
use runner_fleet::demand::{
    desk::Desk,
    ledger::{Entry, Ledger},
};
use runner_fleet_actors::{
    job::{JobFacts, JobRecord, JobWord, Serves, Way},
    port::{Time, TokioClock},
};

/// The runner of those that have begun.
pub const RUNNER: &str = "ci--large--00000000000b";

pub fn ago(seconds: i64) -> Time {
    Utc::now() - TimeDelta::seconds(seconds)
}

/// A job for pool `large` that was queued so many seconds ago, and began 30 seconds later if it did.
pub fn job(id: u64, word: JobWord, queued: i64) -> JobRecord {
    let began = word >= JobWord::Running;
    JobRecord {
        key: id.into(),
        word,
        facts: JobFacts {
            repository: Some("octo-org/app".into()),
            labels: vec!["self-hosted".into(), "large".into()],
            queued_at: Some(ago(queued)),
            started_at: began.then(|| ago(queued - 30)),
            runner: began.then(|| RUNNER.into()),
            ..JobFacts::default()
        },
        pool: Some("large".parse().unwrap()),
        unserved: None,
        way: Way::default(),
        heard_at: ago(queued),
        last_at: ago(queued),
        checks: 0,
    }
}

/// A desk over a ledger in `folder` that holds these jobs. Nothing is laid on it, so nobody serves it.
pub async fn desk(folder: &Path, jobs: Vec<JobRecord>) -> Arc<Desk> {
    let ledger = Arc::new(Ledger::open(folder).await.unwrap());
    let entries: Vec<_> = jobs.into_iter().map(|job| Entry::Job(Box::new(job))).collect();
    ledger.write(&entries).await.unwrap();
    let serves = vec![Serves::new(
        "large".parse().unwrap(),
        "octo-org".parse().unwrap(),
        vec!["self-hosted".into(), "large".into()],
    )];
    let clock = Arc::new(TokioClock::starting_at(Utc::now()));
    Desk::open(ledger, serves, clock).await.0
}
