//! What looking back costs where the ledger holds 100,000 jobs. Ends with 1 where an answer takes
//! longer than 100 ms.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a test")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use runner_fleet::demand::ledger::{Entry, Ledger, Wanted};
use runner_fleet_actors::{
    job::{JobFacts, JobRecord, JobWord, Way},
    name::RegistrationId,
    port::Time,
};

const JOBS: u64 = 100_000;
const BOUND: Duration = Duration::from_millis(100);
/// Each question is asked so often; the slowest answer counts.
const TIMES: u32 = 20;

fn now() -> Time {
    Time::from_timestamp(1_800_000_000, 0).unwrap_or_default()
}

fn ago(seconds: u64) -> Time {
    now() - Duration::from_secs(seconds)
}

/// Thirty days of jobs in five pools; the newest still wait or run.
fn job(number: u64) -> Entry {
    let queued = number * (30 * 24 * 3600) / JOBS;
    // Most wait for seconds, some for minutes.
    let waited = number.wrapping_mul(0x9e37_79b9) % if number.is_multiple_of(9) { 900 } else { 40 };
    let word = match number {
        0..20 => JobWord::Queued,
        20..200 => JobWord::Running,
        _ => JobWord::Done,
    };
    let began = ago(queued) + Duration::from_secs(waited);
    let id = 29_000_000_000 + number;
    Entry::Job(Box::new(JobRecord {
        key: id.into(),
        word,
        facts: JobFacts {
            repository: Some(format!("octo-org/service-{}", number % 40).into()),
            run_id: Some(id / 3),
            attempt: Some(1),
            name: Some("build (ubuntu, x64, release)".into()),
            workflow: Some("Continuous integration".into()),
            event: Some("pull_request".into()),
            labels: ["self-hosted", "linux", "x64", "large"].map(Into::into).to_vec(),
            pool: None,
            runner: Some(format!("ci--pool-{}--{number:012x}", number % 5).into()),
            runner_id: Some(RegistrationId(id)),
            queued_at: Some(ago(queued)),
            started_at: (word >= JobWord::Running).then_some(began),
            ended_at: (word == JobWord::Done).then(|| began + Duration::from_secs(300)),
            conclusion: (word == JobWord::Done).then(|| "success".into()),
            ..JobFacts::default()
        },
        pool: format!("pool-{}", number % 5).parse().ok(),
        unserved: None,
        way: Way { launched_at: Some(ago(queued)), ..Way::default() },
        heard_at: ago(queued),
        last_at: began,
        checks: 0,
    }))
}

fn slowest(mut ask: impl FnMut() -> usize) -> (Duration, usize) {
    let mut slowest = Duration::ZERO;
    let mut found = 0;
    for _ in 0..TIMES {
        let begun = Instant::now();
        found = ask();
        slowest = slowest.max(begun.elapsed());
    }
    (slowest, found)
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ledger = runtime.block_on(Ledger::open(folder.path())).unwrap();
    let jobs: Vec<_> = (0..JOBS).map(job).collect();
    for batch in jobs.chunks(1000) {
        runtime.block_on(ledger.write(batch)).unwrap();
    }
    let pool = || Some("pool-3".parse().unwrap());
    let ever = ago(31 * 24 * 3600);
    let all = Wanted { pool: None, since: ever, slow: None, state: None, limit: 100 };
    let minute = Some(Duration::from_secs(60));
    let questions = [
        ("newest", all.clone()),
        ("newest of a pool", Wanted { pool: pool(), ..all.clone() }),
        ("newest thousand", Wanted { limit: 1000, ..all.clone() }),
        ("waiting now", Wanted { state: Some(JobWord::Queued), ..all.clone() }),
        ("over", Wanted { state: Some(JobWord::Done), ..all.clone() }),
        ("slowest", Wanted { slow: minute, ..all.clone() }),
        ("slowest of a pool", Wanted { slow: minute, pool: pool(), ..all.clone() }),
        (
            "slowest that are over",
            Wanted { slow: minute, state: Some(JobWord::Done), ..all.clone() },
        ),
    ];
    let mut broken = false;
    let mut tell = |what: &str, (slowest, found): (Duration, usize)| {
        let share = slowest.as_secs_f64() / BOUND.as_secs_f64();
        println!("{what:<24}{found:>6} found, slowest of {TIMES} {share:.2} x the bound");
        broken |= slowest > BOUND || found == 0;
    };
    for (what, wanted) in &questions {
        let ask = || runtime.block_on(ledger.history(wanted, now())).unwrap().len();
        tell(what, slowest(ask));
    }
    tell(
        "waits by pool and day",
        slowest(|| runtime.block_on(ledger.waits(None, ever)).unwrap().len()),
    );
    let key = 29_000_050_000.into();
    tell(
        "one job",
        slowest(|| runtime.block_on(ledger.jobs_of(std::slice::from_ref(&key))).unwrap().len()),
    );
    ExitCode::from(u8::from(broken))
}
