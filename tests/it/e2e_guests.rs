//! The real daemon and guests that report home to it: what it knows at once because they say so, what it
//! asks of them, and that everything works without them.

use std::time::Duration;

use serde_json::Value;

use crate::support::e2e::{Daemon, Home, PATIENCE, eventually};
use crate::support::e2e_fakes;
use crate::support::e2e_fakes::{Outside, nothing_secret_was_said};
use crate::support::journal;
use crate::support::journal::{judged, of};
use runner_fleet::home::GuestKey;

const SCOPE: &str = "octo-org";
const JOBS: usize = 12;
/// How long a drain of a silent guest asks before listings have proven it idle.
const ASK: f64 = 60.0;

/// A port that nobody listens on now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A fleet whose guests report. `called`: where they believe that their daemon is.
fn config(outside: &Outside, listen: u16, called: u16, ask: f64, sizes: &str) -> String {
    let pool = e2e_fakes::pool("small", SCOPE, sizes);
    let pool = pool.replace("ask = \"20s\"", &format!("ask = \"{ask}s\""));
    format!(
        "{}\n[guests]\nlisten = \"127.0.0.1:{listen}\"\nurl = \"http://127.0.0.1:{called}\"\n{pool}",
        outside.head("token_file = \"token\""),
    )
}

fn queue(outside: &Outside, jobs: usize, runs_for: Duration) {
    let scope = SCOPE.parse().unwrap();
    for _ in 0..jobs {
        outside.github.queue_job(&scope, &["small".to_owned()], runs_for);
    }
}

/// Lists cloud and GitHub at once, as an operator may who does not want to wait for the next turn.
async fn look(home: &Home) -> Option<()> {
    (home.cli(&["reconcile"]).await.code == 0).then_some(())
}

/// A daemon that has seen cloud and GitHub twice, and so knows what there is to do.
async fn started(home: &Home) -> Daemon {
    let daemon = home.start();
    home.ready().await;
    look(home).await;
    daemon
}

async fn completed(outside: &Outside, jobs: usize) {
    eventually(PATIENCE, &format!("{jobs} jobs are completed"), || async {
        (outside.github.stats().completed >= jobs as u64).then_some(())
    })
    .await;
}

fn no_job_was_lost(outside: &Outside) {
    let seen = outside.guests.seen();
    assert_eq!(seen.vm_taken, [""; 0], "VMs taken away in mid-job");
    assert_eq!(seen.registration_taken, [""; 0], "registrations taken away in mid-job");
    assert_eq!(outside.github.stats().lost, 0, "jobs lost");
}

/// Empties the pool, until the daemon knows it too.
async fn emptied(home: &Home, outside: &Outside) {
    home.cli(&["target", "small", "0"]).await.good();
    eventually(PATIENCE, "no VM, no registration and no runner is left", || async {
        look(home).await;
        let (cloud, github) = (outside.cloud.stats(), outside.github.stats());
        let gone = cloud.present == 0 && github.registrations == 0;
        (gone && home.runners().await.is_empty()).then_some(())
    })
    .await;
}

fn number(line: &Value, field: &str) -> f64 {
    line[field].as_f64().unwrap_or_else(|| panic!("{field} is missing: {line}"))
}

/// The drains in a journal: how long each took, in seconds.
fn drains(lines: &[Value]) -> Vec<f64> {
    let ended = of(lines, "transition").into_iter().filter(|line| line["to"] == "deleted");
    ended
        .filter(|line| line["reason"] == "shrink" || line["reason"] == "operator")
        .map(|line| number(line, "after"))
        .collect()
}

/// How long after its job was taken each runner was known to be busy, and how long after its end it was
/// on its way out.
fn tell_how_soon(outside: &Outside, lines: &[Value]) {
    let (busy, out) = (journal::entered(lines, "busy"), journal::entered(lines, "draining"));
    let seconds = |at: chrono::DateTime<chrono::Utc>| at.timestamp_micros() as f64 / 1e6;
    let jobs = outside.github.jobs();
    let worst = |known: &std::collections::BTreeMap<String, f64>, begun: &[Option<f64>]| {
        let late = jobs
            .iter()
            .zip(begun)
            .filter_map(|(job, begun)| Some(known.get(job.runner.as_deref()?)? - (*begun)?));
        late.fold(0.0, f64::max) * 1000.0
    };
    let taken: Vec<_> = jobs.iter().map(|job| job.acquired_at.map(seconds)).collect();
    let ended: Vec<_> = jobs.iter().map(|job| job.completed_at.map(seconds)).collect();
    eprintln!(
        "{:>6.1} ms  at most from a job taken to its runner known as busy",
        worst(&busy, &taken)
    );
    eprintln!(
        "{:>6.1} ms  at most from a job's end to its runner's place given away",
        worst(&out, &ended)
    );
}

/// GitHub's busy flag says "idle" all the time, and its DELETE takes a registration in mid-job: what is
/// known of jobs is known from the guests alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_that_report_are_believed_when_github_lies() {
    let outside = Outside::start(31).await;
    let home = Home::new();
    outside.furnish(&home);
    let port = free_port();
    home.configure(&config(&outside, port, port, ASK, "spare = 3\nmax = 8"));
    let daemon = started(&home).await;
    outside.github.faults().busy_lies(true);
    home.holds("small", "idle", 3).await;

    queue(&outside, JOBS, Duration::from_millis(700));
    eventually(PATIENCE, "a runner is known to be busy", || async {
        let (name, _) = home.runners().await.into_iter().find(|(_, state)| state == "busy")?;
        // It may be done by now; else it is not let go, whatever GitHub says of it.
        let answer = home.cli(&["drain", &name]).await;
        answer.err.contains("is busy").then_some(())
    })
    .await;
    // Shrinks in the middle of everything: idle ones go, no job does.
    while outside.github.stats().completed < JOBS as u64 {
        home.cli(&["flush", "small"]).await.good();
    }
    no_job_was_lost(&outside);
    home.holds("small", "idle", 3).await;
    let (name, _) = home.runners().await.into_iter().find(|(_, state)| state == "idle").unwrap();
    let shown = home.cli(&["runners", &name, "--output", "json"]).await.json();
    assert!(shown.to_string().contains("\"version\":\"2.330.0\""), "{shown}");
    emptied(&home, &outside).await;
    no_job_was_lost(&outside);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(25)).await.0.code(), Some(0));

    let lines = judged(&home.journal());
    let busy = of(&lines, "transition").into_iter().filter(|line| line["to"] == "busy");
    let because: Vec<_> = busy.map(|line| line["because"].as_str().unwrap()).collect();
    assert!(because.len() >= JOBS, "{because:?}");
    for why in because {
        assert!(["the guest has begun a job", "the guest has a job"].contains(&why), "{why}");
    }
    tell_how_soon(&outside, &lines);
    let (started, stopped) = (of(&lines, "runner_start"), of(&lines, "runner_stop"));
    assert_eq!((started.len(), stopped.len()), (JOBS, JOBS), "each job once");
    for line in started {
        let job = outside.github.jobs().remove(0);
        assert_eq!(line["repo"], job.repository, "{line}");
        assert_eq!(line["workflow"], job.workflow, "{line}");
        assert_eq!(line["github_event"], job.event, "{line}");
        assert!(number(line, "idle") >= 0.0);
    }
    for line in stopped {
        assert_eq!((&line["status"], &line["status_info"]["code"]), (&"normal".into(), &0.into()));
        assert_eq!(line["job_conclusion"], "success", "{line}");
        assert!(number(line, "job_duration") >= 0.7, "{line}");
    }
    let drains = drains(&lines);
    assert!(!drains.is_empty(), "idle runners were drained");
    assert!(drains.iter().all(|seconds| *seconds < ASK), "each guest was asked: {drains:?}");
    assert!(of(&lines, "invariant_broken").is_empty());

    let key = GuestKey::open(&home.path("state")).unwrap();
    let mut secrets = outside.secrets();
    let named = lines.iter().filter_map(|line| line["runner"].as_str());
    secrets.extend(named.map(|name| key.token(&name.parse().unwrap()).expose().to_owned()));
    nothing_secret_was_said(&home, &secrets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_by_listings_alone_when_guests_cannot_reach_the_daemon() {
    let outside = Outside::start(32).await;
    let home = Home::new();
    outside.furnish(&home);
    home.configure(&config(&outside, free_port(), free_port(), 2.0, "spare = 2\nmax = 6"));
    let daemon = started(&home).await;
    home.holds("small", "idle", 2).await;
    queue(&outside, JOBS, Duration::from_millis(700));
    eventually(PATIENCE, "every job is completed and its runner replaced", || async {
        look(&home).await?;
        let pool = home.pool("small").await?;
        let done = outside.github.stats().completed >= JOBS as u64;
        (done && pool["counts"]["idle"] == 2).then_some(())
    })
    .await;
    emptied(&home, &outside).await;
    no_job_was_lost(&outside);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(25)).await.0.code(), Some(0));
    let lines = judged(&home.journal());
    assert!(of(&lines, "runner_installed").len() >= JOBS);
    assert!(of(&lines, "invariant_broken").is_empty());
    let killed = of(&lines, "transition").into_iter().filter(|line| line["job_killed"] == true);
    assert_eq!(killed.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_was_killed_in_mid_job_hears_its_end_and_how_long_it_really_ran() {
    let outside = Outside::start(33).await;
    let home = Home::new();
    outside.furnish(&home);
    let port = free_port();
    home.configure(&config(&outside, port, port, ASK, "min = 1\nmax = 2"));
    let daemon = started(&home).await;
    home.holds("small", "idle", 1).await;
    let (name, _) = home.runners().await.remove(0);
    let runs_for = Duration::from_secs(6);
    queue(&outside, 1, runs_for);
    home.holds("small", "busy", 1).await;
    daemon.kill().await;

    let daemon = home.start();
    completed(&outside, 1).await;
    let stop = eventually(PATIENCE, "the journal tells the job's end", || async {
        let lines = judged(&home.journal());
        of(&lines, "runner_stop").first().map(|line| (*line).clone())
    })
    .await;
    assert!(number(&stop, "job_duration") >= runs_for.as_secs_f64(), "{stop}");
    let job = outside.github.jobs().remove(0);
    assert_eq!((&stop["repo"], &stop["workflow"]), (&job.repository.into(), &job.workflow.into()));
    assert_eq!((&stop["status"], &stop["job_conclusion"]), (&"normal".into(), &"success".into()));
    eventually(PATIENCE, "another runner has its place", || async {
        let runners = home.runners().await;
        (!runners.is_empty() && runners.iter().all(|(other, _)| *other != name)).then_some(())
    })
    .await;
    assert_eq!(of(&judged(&home.journal()), "runner_start").len(), 1, "told once, not again");
    no_job_was_lost(&outside);
    emptied(&home, &outside).await;
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(25)).await.0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_guest_setting_replaces_idle_runners_and_lets_the_busy_one_finish() {
    let outside = Outside::start(34).await;
    let home = Home::new();
    outside.furnish(&home);
    let port = free_port();
    let plain = config(&outside, port, port, ASK, "min = 3\nmax = 6");
    home.configure(&plain);
    let daemon = started(&home).await;
    home.holds("small", "idle", 3).await;
    queue(&outside, 1, Duration::from_secs(15));
    home.holds("small", "busy", 1).await;
    let before: Vec<String> = home.runners().await.into_iter().map(|(name, _)| name).collect();

    home.configure(&format!("{plain}\n[pools.guest.env]\nHTTP_PROXY = \"http://10.0.0.1:3128\"\n"));
    home.cli(&["reload"]).await.good();
    eventually(PATIENCE, "three idle runners, none of them from before", || async {
        look(&home).await?;
        let now = home.runners().await;
        let new = now.iter().filter(|(name, state)| state == "idle" && !before.contains(name));
        (new.count() == 3).then_some(())
    })
    .await;
    completed(&outside, 1).await;
    no_job_was_lost(&outside);
    let lines = judged(&home.journal());
    let reasons = of(&lines, "transition").into_iter().filter(|line| line["to"] == "draining");
    let outdated = reasons.filter(|line| line["reason"] == "outdated").count();
    assert_eq!(outdated, 2, "the third ended with its job");

    // The same again changes nothing.
    home.cli(&["reload"]).await.good();
    look(&home).await.unwrap();
    emptied(&home, &outside).await;
    let lines = judged(&home.journal());
    let again = of(&lines, "transition");
    let again = again.into_iter().filter(|line| line["reason"] == "outdated");
    assert_eq!(again.filter(|line| line["to"] == "draining").count(), outdated);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(25)).await.0.code(), Some(0));
}
