#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;

use super::super::{scopes::Scopes, targets::Targets};
use super::*;

/// A file of each kind, as a daemon writes it.
fn written() -> [(&'static str, Vec<u8>); 2] {
    let place = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(place.path()).unwrap();
    let targets = Targets::open(&folder).unwrap();
    for (pool, runners) in [("small", 0), ("large", 12)] {
        targets.keep(&pool.parse().unwrap(), Some(runners)).unwrap();
    }
    let scopes = ["octo-org", "octo-org/app", "enterprises/octo"].map(|s| s.parse().unwrap());
    let _left = Scopes::open(&folder).unwrap().keep(scopes.iter(), chrono::Utc::now());
    ["targets.json", "scopes.json"].map(|name| (name, folder.read(name).unwrap().unwrap()))
}

#[test]
fn no_damage_of_these_files_keeps_a_daemon_from_starting() {
    let place = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(place.path()).unwrap();
    for (name, whole) in written() {
        let prefixes = (0..whole.len()).map(|length| whole[..length].to_vec());
        let flips = (0..whole.len() * 8).map(|bit| {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        });
        for damaged in prefixes.chain(flips) {
            fs::write(folder.file(name), &damaged).unwrap();
            let targets = Targets::open(&folder).unwrap();
            let scopes = Scopes::open(&folder).unwrap();
            targets.keep(&"small".parse().unwrap(), Some(3)).unwrap();
            let _left = scopes.keep(std::iter::empty(), chrono::Utc::now());
        }
    }
    let damaged = fs::read_dir(place.path()).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().contains(".damaged-")
    });
    assert!(damaged.count() <= 2 * crate::state::DAMAGED_KEPT);
    assert!(!folder.troubles().notes().is_empty(), "it is said");
}

#[test]
fn a_damaged_file_is_kept_beside_and_said_with_what_it_costs() {
    let place = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(place.path()).unwrap();
    fs::write(folder.file("targets.json"), "{").unwrap();
    Targets::open(&folder).unwrap();
    let (_, note) = folder.troubles().notes().pop().unwrap();
    assert!(
        note.contains("targets.json.damaged-") && note.contains("runner-fleet target"),
        "{note}"
    );
    assert!(!folder.file("targets.json").exists());
    assert_eq!(folder.troubles().reasons(), [""; 0], "all works");
}
