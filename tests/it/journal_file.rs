//! The journal's file: rotation, size, and disks that fail or hang.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use runner_fleet::journal::Journal;
use runner_fleet_actors::{
    event::FleetEvent,
    port::{Observer, Time},
};

const SOON: Duration = Duration::from_secs(20);
const NO_CAP: u64 = u64::MAX;

fn tell(journal: &Journal, runners: u32) {
    let because = format!("line {runners}");
    let pool = "large".parse().unwrap();
    journal.observe(&FleetEvent::Target { at: Time::default(), pool, runners, because });
}

fn numbers(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "whole lines");
    text.lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["runners"].as_u64().unwrap()
        })
        .collect()
}

#[test]
fn lines_are_appended_and_only_owner_and_group_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    for number in 0..2 {
        let journal = Journal::open(&path, NO_CAP).unwrap();
        tell(&journal, number);
        assert!(journal.flush(SOON));
    }
    assert_eq!(numbers(&path), [0, 1], "a restart goes on where it was");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !0o640, 0);
}

#[test]
fn a_line_that_a_kill_tore_does_not_spoil_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    fs::write(&path, "{\"timestamp\":1,\"even").unwrap();
    let journal = Journal::open(&path, NO_CAP).unwrap();
    tell(&journal, 1);
    tell(&journal, 2);
    assert!(journal.flush(SOON));
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[1..].iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn a_file_that_logrotate_moved_is_left_and_a_new_one_begun() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("journal"), folder.path().join("journal-old"));
    let journal = Journal::open(&path, NO_CAP).unwrap();
    tell(&journal, 1);
    assert!(journal.flush(SOON));
    fs::rename(&path, &moved).unwrap();
    tell(&journal, 2);
    assert!(journal.flush(SOON));
    assert_eq!((numbers(&moved), numbers(&path)), (vec![1], vec![2]));
}

#[test]
fn a_reopen_makes_the_file_again_with_the_next_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let journal = Journal::open(&path, NO_CAP).unwrap();
    tell(&journal, 1);
    assert!(journal.flush(SOON));
    fs::remove_file(&path).unwrap();
    journal.reopen();
    tell(&journal, 2);
    assert!(journal.flush(SOON));
    assert_eq!(numbers(&path), [2]);
}

#[test]
fn the_file_never_grows_beyond_its_size_and_one_old_one_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let cap = 1_000;
    let journal = Journal::open(&path, cap).unwrap();
    for number in 0..100 {
        tell(&journal, number);
        assert!(journal.flush(SOON));
        assert!(fs::metadata(&path).unwrap().len() <= cap);
    }
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["journal", "journal.1"]);
    let old = folder.path().join("journal.1");
    assert!(fs::metadata(&old).unwrap().len() <= cap);
    let kept = [numbers(&old), numbers(&path)].concat();
    let newest: Vec<u64> = (100 - kept.len() as u64..100).collect();
    assert!(kept.len() > 8, "{kept:?}");
    assert_eq!(kept, newest, "the newest lines, in order, none lost between the files");
}

#[test]
fn a_burst_larger_than_the_size_is_cut_into_files_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let cap = 200_000;
    let journal = Journal::open(&path, cap).unwrap();
    for number in 0..6_000 {
        tell(&journal, number);
    }
    assert!(journal.flush(SOON));
    for name in ["journal", "journal.1"] {
        assert!(fs::metadata(folder.path().join(name)).unwrap().len() <= cap, "{name}");
    }
    assert_eq!(numbers(&path).last(), Some(&5_999));
}

#[test]
fn lines_wait_for_a_folder_that_is_not_there_yet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later/journal");
    let journal = Journal::open(&path, NO_CAP).unwrap();
    tell(&journal, 1);
    assert!(!journal.flush(SOON), "it says so");
    fs::create_dir(path.parent().unwrap()).unwrap();
    tell(&journal, 2);
    assert!(journal.flush(SOON));
    assert_eq!(numbers(&path), [1, 2]);
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let journal = Journal::open(Path::new("/dev/full"), NO_CAP).unwrap();
    for number in 0..50_000 {
        tell(&journal, number);
    }
    assert!(!journal.flush(SOON));
    tell(&journal, 0);
}

/// A named pipe without a reader hangs whoever opens it: the worst disk there is.
#[test]
fn a_disk_that_hangs_never_blocks_the_fleet_and_lost_lines_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let journal = Journal::open(&path, NO_CAP).unwrap();
    let told = 40_000;
    for number in 0..told {
        tell(&journal, number);
    }
    assert!(!journal.flush(Duration::ZERO), "it hangs, and this thread does not");

    let (mut written, mut next) = (0, 0);
    let mut dropped = None;
    for line in BufReader::new(fs::File::open(&path).unwrap()).lines() {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["event"] == "journal_dropped" {
            dropped = line["lines"].as_u64();
        } else {
            let number = line["runners"].as_u64().unwrap();
            assert!(number >= next, "in order");
            next = number + 1;
            written += 1;
        }
        if dropped.map(|dropped| dropped + written) == Some(u64::from(told)) {
            break;
        }
    }
    assert!(written > 1_000, "the queue holds a busy while: {written}");
    assert!(dropped.unwrap() > 1_000, "and is bounded: {dropped:?}");
}
