//! The demo is the first thing that a new user runs: it ends well, says so in both outputs, and its
//! summary counts what happened.

use std::process::{Command, Output};

fn demo(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner-fleet"));
    command.arg("demo").args(arguments).output().unwrap()
}

/// A demo with every fault, judged; its summary.
fn stormy(arguments: &[&str]) -> serde_json::Value {
    let common = ["--for", "8s", "--jobs", "30", "--seed", "11", "--output", "json"];
    let ended = demo(&[&common, arguments].concat());
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{}\n{stderr}", String::from_utf8_lossy(&ended.stdout));
    let summary: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    let number = |key: &str| summary[key].as_u64().unwrap();
    for never in ["leaked_vms", "leaked_registrations", "busy_runners_killed", "invariants_broken"]
    {
        assert_eq!(number(never), 0, "{never}");
    }
    assert_eq!(number("jobs_queued"), 30);
    assert_eq!(number("jobs_served") + number("jobs_lost_to_vanished_vms"), 30);
    assert!(number("launches") >= 30 && number("peak_vms") <= number("max_vms"));
    summary
}

#[test]
fn a_demo_with_every_fault_leaks_nothing_and_kills_nobody() {
    let summary = stormy(&[]);
    assert_eq!((&summary["demand"], summary["signals"].as_u64()), (&"static".into(), Some(0)));
}

#[test]
fn webhooks_that_are_lost_late_or_doubled_leave_no_job_unserved() {
    let summary = stormy(&["--demand", "webhook", "--speed", "120"]);
    // Queued, in progress, completed: three for each job, and every lost one is asked for again.
    assert!(summary["signals"].as_u64().unwrap() >= 60, "{summary:#}");
    assert!(summary["signals_amiss"].as_u64().unwrap() > 0, "{summary:#}");
}

#[test]
fn a_scale_set_that_loses_its_session_still_serves_every_job() {
    let summary = stormy(&["--demand", "scale-set", "--speed", "120"]);
    assert!(summary["signals"].as_u64().unwrap() > 0, "{summary:#}");
    assert!(summary["signals_amiss"].as_u64().unwrap() > 0, "its session was lost: {summary:#}");
}

#[test]
fn a_queue_whose_line_breaks_still_has_every_job_served() {
    let summary = stormy(&["--demand", "queue", "--speed", "120"]);
    let (came, again) = (&summary["signals"], &summary["signals_amiss"]);
    assert!(again.as_u64().unwrap() > 0, "what was held came again: {summary:#}");
    assert_eq!(came.as_u64().unwrap() - again.as_u64().unwrap(), 30, "{summary:#}");
}

#[test]
fn without_a_terminal_the_demo_tells_its_story_in_plain_lines() {
    let ended = demo(&["--for", "3s", "--jobs", "5", "--seed", "2", "--no-faults"]);
    let text = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{text}");
    assert!(!text.contains('\x1b'), "control characters where there is no terminal: {text}");
    for part in ["jobs served", "5 of 5", "GitHub calls a job", "nothing leaked, nothing killed"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}

#[test]
fn an_lxd_that_is_not_there_and_options_that_mean_nothing_are_told() {
    let nowhere = demo(&["--provider", "lxd", "--lxd-socket", "/nonexistent/unix.socket"]);
    let stderr = String::from_utf8_lossy(&nowhere.stderr);
    assert_eq!(nowhere.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("/nonexistent/unix.socket: there is no such socket"), "{stderr}");
    let useless = demo(&["--image", "deb12"]);
    let stderr = String::from_utf8_lossy(&useless.stderr);
    assert_eq!(useless.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--image is of use only with --provider lxd"), "{stderr}");
}
