//! Jobs as they stand in a terminal and in a pipe, and what is asked for them.

use chrono::{TimeDelta, TimeZone, Utc};
use clap::Parser;
use runner_fleet_actors::job::{JobFacts, Way, why::Because};

use super::*;
use crate::cli::{Args, Command};

fn now() -> Time {
    Utc.timestamp_opt(1_718_000_000, 0).unwrap()
}

fn ago(seconds: i64) -> Time {
    now() - TimeDelta::seconds(seconds)
}

fn job(word: JobWord) -> JobRecord {
    JobRecord {
        key: 29_679_449_526.into(),
        word,
        facts: JobFacts {
            repository: Some("octo-org/app".into()),
            name: Some("build".into()),
            labels: vec!["self-hosted".into(), "large".into()],
            queued_at: Some(ago(600)),
            ..JobFacts::default()
        },
        pool: Some("large".parse().unwrap()),
        unserved: None,
        way: Way::default(),
        heard_at: ago(599),
        last_at: ago(599),
        checks: 0,
    }
}

fn done() -> JobRecord {
    let mut job = job(JobWord::Done);
    job.facts.runner = Some("ci--large--0123456789ab".into());
    job.facts.started_at = Some(ago(480));
    job.facts.ended_at = Some(ago(180));
    job.facts.conclusion = Some("failure".into());
    job.way.delayed = Some("launches held".into());
    job
}

fn asked(line: &str) -> String {
    let args = Args::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{e}"));
    match args.command {
        Command::Jobs(args) if args.summary => waits_path(&args),
        Command::Jobs(args) => path(&args),
        _ => panic!("another command"),
    }
}

#[test]
fn each_job_is_one_line_with_how_long_it_waited_and_ran() {
    let text = jobs_at(&[done(), job(JobWord::Queued)], now(), None);
    let lines: Vec<_> = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    let done = ["29679449526", "octo-org/app", "large", "ci--large--0123456789ab"];
    assert_eq!(lines[1][..4], done);
    assert_eq!(lines[1][4..], ["06:03:20Z", "2m", "5m", "failure;", "launches", "held"]);
    assert_eq!(lines[2][3..], ["-", "06:03:20Z", "10m", "-", "queued"], "it waits already");
}

#[test]
fn what_is_not_known_is_a_dash_and_what_is_over_without_a_start_did_not_wait() {
    let mut job = job(JobWord::Done);
    job.facts.repository = None;
    job.pool = None;
    job.facts.queued_at = Some(ago(2 * 24 * 3600));
    let text = jobs_at(&[job], now(), None);
    let line: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(line[1..], ["-", "-", "-", "06-08", "06:13:20Z", "-", "-", "done"], "{text}");
}

#[test]
fn a_job_that_nobody_serves_says_why_in_the_list() {
    let mut job = job(JobWord::Queued);
    job.pool = None;
    job.unserved = Some("no pool has all of its labels (gpu)".into());
    assert!(jobs_at(&[job], now(), None).contains("queued; no pool has all of its labels (gpu)"));
    assert_eq!(jobs_at(&[], now(), None), "no such job");
}

#[test]
fn clocks_that_differ_make_no_negative_wait() {
    let mut job = done();
    job.facts.started_at = Some(ago(601));
    assert_eq!(waited(&job, now()), Some(Duration::ZERO));
}

#[test]
fn the_command_line_asks_for_what_it_says() {
    assert_eq!(asked("runner-fleet jobs"), "/v1/jobs?since=7d&limit=100");
    assert_eq!(asked("runner-fleet jobs --slow"), "/v1/jobs?since=7d&slow=1m&limit=100");
    assert_eq!(
        asked("runner-fleet jobs --slow 10m --pool a&b --since 30d --state done --limit 5"),
        "/v1/jobs?pool=a%26b&since=30d&slow=10m&state=done&limit=5"
    );
    assert_eq!(asked("runner-fleet jobs --summary --pool large"), "/v1/waits?pool=large&since=7d");
    let both = ["runner-fleet", "jobs", "--summary", "--slow"];
    assert!(Args::try_parse_from(both).is_err());
}

#[test]
fn a_job_is_known_by_its_number_or_by_its_address_at_github() {
    for text in [
        "29679449526",
        "https://github.com/o/r/actions/runs/30433642/job/29679449526",
        "https://github.com/o/r/actions/runs/30433642/job/29679449526?pr=3#step:2:1",
    ] {
        assert_eq!(key(text), "29679449526");
    }
    assert_eq!(key("scale-set:abc"), "scale-set:abc");
}

#[test]
fn what_a_job_waits_for_is_told_with_since_when() {
    let reason = |text: &str, since, until| Reason {
        because: Because::AtMax,
        text: text.into(),
        since,
        until,
    };
    let reasons = vec![
        reason("pool large is at its max of 3", Some(ago(120)), None),
        reason("launches are held", None, Some(ago(-90))),
    ];
    let text = why_waiting(&WhyWaiting { job: job(JobWord::Queued), reasons }, now());
    for part in [
        "job 29679449526: queued",
        "labels        self-hosted, large",
        "queued        2024-06-10 06:03:20Z (10m ago)",
        "- pool large is at its max of 3 (for 2m)",
        "- launches are held (until 06:14:50Z)",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn waits_are_a_table_by_day_and_pool() {
    let day = DayOfWaits {
        pool: "large".parse().unwrap(),
        day: now().date_naive(),
        jobs: 1234,
        p50: 9.9,
        p95: 83.0,
        longest: 4000.0,
    };
    let text = waits(&[day]);
    let line: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(line, ["2024-06-10", "large", "1234", "9s", "1m23s", "1h6m"], "{text}");
    assert_eq!(waits(&[]), "no job has begun in that time");
}
