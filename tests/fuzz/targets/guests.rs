//! What guests report: machines on which strangers' code ran.

use std::time::Duration;

use runner_fleet::home::{Answer, Told};
use runner_fleet_actors::{
    event::{GuestTimes, Job, JobEnd},
    foreign::{NAME_MAX, is_order},
    port::StandDown,
    runner::Report,
};

use super::assert_tame;

/// Shorter than a real one, so that chance can make one.
const TOKEN: &str = "T0k3n";
const LOG_MAX: usize = 4096;
const WORD_MAX: usize = 32;
const LIFE_MAX: Duration = Duration::from_secs(100 * 24 * 3600);

/// The body of a report, or of an answer to an order.
pub fn check(body: &[u8]) {
    if let Ok(answer) = serde_json::from_slice::<Answer>(body) {
        assert!(matches!(answer.answer.into(), StandDown::StandingDown | StandDown::Busy));
    }
    let Ok(told) = Told::read(body, TOKEN) else { return };
    assert_eq!(Told::read(body, TOKEN).ok().as_ref(), Some(&told));
    match told.reports.as_slice() {
        [Report::Booted | Report::RunnerStarted] => {}
        [Report::JobStarted(job)] => of_job(job),
        [Report::Stopped(end)] => of_end(end),
        // The beginning comes with the end.
        [Report::JobStarted(job), Report::JobCompleted(end) | Report::Stopped(end)] => {
            of_job(job);
            of_end(end);
        }
        other => panic!("{other:?}"),
    }
    of_times(told.times);
    if let Some(version) = &told.version {
        assert!(!version.is_empty() && version.len() <= WORD_MAX && version.is_ascii());
        assert_tame(version, WORD_MAX);
    }
    if let Some(log) = &told.log {
        assert!(!log.is_empty() && log.len() <= LOG_MAX);
        assert!(log.chars().all(|c| matches!(c, '\n' | '\t') || !is_order(c)), "{log:?}");
        assert!(!log.contains(TOKEN), "{log:?}");
    }
}

fn of_job(job: &Job) {
    for text in [&job.repository, &job.workflow, &job.event].into_iter().flatten() {
        assert!(!text.trim().is_empty());
        assert_tame(text, NAME_MAX);
    }
    assert_eq!(job.id, None, "a guest is not told its job's number");
}

fn of_end(end: &JobEnd) {
    if let Some(conclusion) = &end.conclusion {
        assert!(conclusion.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{conclusion:?}");
        assert_tame(conclusion, WORD_MAX);
    }
}

/// In the order of a life, and none longer than any.
fn of_times(times: GuestTimes) {
    let GuestTimes { booted, runner_started, job_started, job_completed, stopped } = times;
    let told = [booted, runner_started, job_started, job_completed, stopped];
    let told: Vec<Duration> = told.into_iter().flatten().collect();
    assert!(told.is_sorted() && told.iter().all(|time| *time <= LIFE_MAX), "{times:?}");
    let mut known = times;
    known.merge(times);
    assert_eq!(known, times, "a replay changes nothing");
}
