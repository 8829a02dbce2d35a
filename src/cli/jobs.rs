//! Jobs on the command line: what is asked of the API, and how its answers look to a person.

use std::time::Duration;

use runner_fleet_actors::{
    job::{JobRecord, JobWord, why::Reason},
    port::Time,
    sight::moment,
};

use super::{
    JobsArgs,
    show::age,
    table::{table, terminal_width},
};
use crate::{
    config::format_duration,
    http::api::{DayOfWaits, WhyWaiting},
};

/// The call for the jobs themselves.
pub(super) fn path(args: &JobsArgs) -> String {
    let limit = args.limit.to_string();
    let query = [
        ("pool", args.pool.as_deref()),
        ("since", Some(args.since.as_str())),
        ("slow", args.slow.as_deref()),
        ("state", args.state.as_deref()),
        ("limit", Some(limit.as_str())),
    ];
    format!("/v1/jobs?{}", encode(query))
}

/// The call for how long they waited.
pub(super) fn waits_path(args: &JobsArgs) -> String {
    let query = [("pool", args.pool.as_deref()), ("since", Some(args.since.as_str()))];
    format!("/v1/waits?{}", encode(query))
}

fn encode<'a>(query: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (key, value) in query {
        if let Some(value) = value {
            text.append_pair(key, value);
        }
    }
    text.finish()
}

/// What a job is known by: the end of its address at GitHub (`…/actions/runs/RUN/job/JOB`), which is
/// what people have at hand, or the text itself.
pub(super) fn key(text: &str) -> &str {
    match text.rsplit_once("/job/") {
        Some((_, rest)) => rest.split(['?', '#', '/']).next().unwrap_or(rest),
        None => text,
    }
}

pub(super) fn jobs(jobs: &[JobRecord], now: Time) -> String {
    jobs_at(jobs, now, terminal_width())
}

fn jobs_at(jobs: &[JobRecord], now: Time, width: Option<u16>) -> String {
    if jobs.is_empty() {
        return "no such job".to_owned();
    }
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows = jobs.iter().map(|job| {
        let facts = &job.facts;
        vec![
            job.key.to_string(),
            or_none(facts.repository.clone().map(Into::into)),
            or_none(job.pool.as_ref().map(ToString::to_string)),
            or_none(facts.runner.clone().map(Into::into)),
            day_and_time(queued(job), now),
            or_none(waited(job, now).map(format_duration)),
            or_none(ran(job, now).map(format_duration)),
            result(job),
        ]
    });
    let header = ["JOB", "REPOSITORY", "POOL", "RUNNER", "QUEUED", "WAITED", "RAN", "RESULT"];
    table(&header, rows, width)
}

fn queued(job: &JobRecord) -> Time {
    job.facts.queued_at.unwrap_or(job.heard_at)
}

/// How long it waited, or waits already; `None` for one that never began and is over, and for one that
/// was first heard of when it ran.
fn waited(job: &JobRecord, now: Time) -> Option<Duration> {
    let (from, until) = match job.word {
        JobWord::Blocked | JobWord::Queued => (queued(job), now),
        JobWord::Running | JobWord::Done => (job.facts.queued_at?, job.facts.started_at?),
    };
    // Clocks of two machines: what would be negative is nothing.
    Some((until - from).to_std().unwrap_or_default())
}

/// How long it ran, or runs already.
fn ran(job: &JobRecord, now: Time) -> Option<Duration> {
    let until = match job.word {
        JobWord::Blocked | JobWord::Queued => return None,
        JobWord::Running => now,
        JobWord::Done => job.facts.ended_at?,
    };
    Some((until - job.facts.started_at?).to_std().unwrap_or_default())
}

fn result(job: &JobRecord) -> String {
    let mut parts = vec![match job.word {
        JobWord::Done => job.facts.conclusion.as_deref().unwrap_or("done").to_owned(),
        word => word.as_str().to_owned(),
    }];
    // Why nobody serves it matters while it waits; what it waited for, also afterwards.
    parts.extend(job.unserved.clone().filter(|_| job.word == JobWord::Queued));
    parts.extend(job.way.delayed.clone());
    parts.join("; ")
}

/// The time, with its day unless it is today.
fn day_and_time(at: Time, now: Time) -> String {
    if at.date_naive() == now.date_naive() {
        moment(at, now)
    } else {
        at.format("%m-%d %H:%M:%SZ").to_string()
    }
}

pub(super) fn waits(days: &[DayOfWaits]) -> String {
    if days.is_empty() {
        return "no job has begun in that time".to_owned();
    }
    let short = |seconds: f64| {
        // A negative or endless wait is not written by this program.
        format_duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    };
    let rows = days.iter().map(|day| {
        vec![
            day.day.to_string(),
            day.pool.to_string(),
            day.jobs.to_string(),
            short(day.p50),
            short(day.p95),
            short(day.longest),
        ]
    });
    table(&["DAY", "POOL", "JOBS", "P50", "P95", "LONGEST"], rows, terminal_width())
}

pub(super) fn why_waiting(why: &WhyWaiting, now: Time) -> String {
    let WhyWaiting { job, reasons } = why;
    let facts = &job.facts;
    let mut lines = vec![format!("job {}: {}", job.key, job.word.as_str())];
    let known = [
        ("repository", facts.repository.clone().map(Into::into)),
        ("workflow", facts.workflow.clone().map(Into::into)),
        ("name", facts.name.clone().map(Into::into)),
        ("labels", (!facts.labels.is_empty()).then(|| facts.labels.join(", "))),
        ("group", facts.group.clone().map(Into::into)),
        ("pool", job.pool.as_ref().map(ToString::to_string)),
        ("queued", Some(format!("{} ({} ago)", stamp(queued(job)), age(queued(job), now)))),
        ("runner", facts.runner.clone().map(Into::into)),
        ("was delayed", job.way.delayed.clone()),
    ];
    let known = known.into_iter().filter_map(|(key, value)| Some((key, value?)));
    lines.extend(known.map(|(key, value)| format!("{key:<14}{value}")));
    lines.push(String::new());
    lines.extend(reasons.iter().map(|reason| format!("- {}", with_times(reason, now))));
    lines.join("\n")
}

fn stamp(at: Time) -> String {
    at.format("%F %TZ").to_string()
}

fn with_times(reason: &Reason, now: Time) -> String {
    let since = reason.since.map(|at| format!(" (for {})", age(at, now))).unwrap_or_default();
    let until = reason.until.map(|at| format!(" (until {})", moment(at, now))).unwrap_or_default();
    format!("{}{since}{until}", reason.text)
}

#[cfg(test)]
mod tests;
