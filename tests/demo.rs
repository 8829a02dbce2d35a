//! The demo is the first thing that a new user runs: it ends well, says so in both outputs, and its
//! summary counts what happened.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Output};

fn demo(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner-fleet"));
    command.arg("demo").args(arguments).output().unwrap()
}

#[test]
fn a_demo_with_every_fault_leaks_nothing_and_kills_nobody() {
    let ended = demo(&["--for", "8s", "--jobs", "30", "--seed", "11", "--output", "json"]);
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
