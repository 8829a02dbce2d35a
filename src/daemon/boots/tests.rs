use std::time::Duration;

use super::*;

fn folder() -> (tempfile::TempDir, StateFolder) {
    let place = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(place.path()).unwrap();
    (place, folder)
}

fn pool(name: &str) -> PoolName {
    name.parse().unwrap()
}

fn boots(seconds: &[u64]) -> Boots {
    seconds.iter().map(|took| Duration::from_secs(*took)).collect()
}

#[test]
fn how_long_boots_took_outlives_the_daemon_for_pools_that_are_still_there() {
    let (_place, folder) = folder();
    let (small, large) = (pool("small"), pool("large"));
    let all = [(&small, "here"), (&large, "here")];
    let first = KeptBoots::open(&folder, all).unwrap();
    assert!(first.shared().is_empty());
    first.shared().insert((small.clone(), "here".to_owned()), boots(&[20, 31]));
    first.shared().insert((large.clone(), "here".to_owned()), boots(&[45]));
    first.keep();
    let second = KeptBoots::open(&folder, all).unwrap();
    let of = |known: &KeptBoots, pool: &PoolName, provider: &str| {
        known.shared().get(&(pool.clone(), provider.to_owned())).map(|boots| boots.clone())
    };
    assert_eq!(of(&second, &small, "here"), Some(boots(&[20, 31])));
    // One pool is gone, and one has moved: another cloud boots at another pace.
    let third = KeptBoots::open(&folder, [(&small, "there")]).unwrap();
    assert!(third.shared().is_empty());
    third.keep();
    assert!(KeptBoots::open(&folder, all).unwrap().shared().is_empty());
}

#[test]
fn nothing_is_written_where_nothing_is_new() {
    let (_place, folder) = folder();
    let known = KeptBoots::open(&folder, []).unwrap();
    known.keep();
    assert!(!folder.file(FILE).exists());
}

#[test]
fn a_damaged_file_is_moved_aside_and_said_and_learning_begins_anew() {
    for damaged in [r#"{"small": "#, r#"{"small": {"here": [-1]}}"#, r#"{"no name!": {}}"#] {
        let (_place, folder) = folder();
        std::fs::write(folder.file(FILE), damaged).unwrap();
        let known = KeptBoots::open(&folder, [(&pool("small"), "here")]).unwrap();
        assert!(known.shared().is_empty());
        let (_, note) = folder.troubles().notes().pop().unwrap();
        assert!(note.contains("boots.json.damaged-"), "{note}");
    }
}

#[test]
fn numbers_that_somebody_else_wrote_are_bounded() {
    let (_place, folder) = folder();
    let many = vec!["18446744073709551615"; 300].join(",");
    std::fs::write(folder.file(FILE), format!(r#"{{"small": {{"here": [{many}]}}}}"#)).unwrap();
    let known = KeptBoots::open(&folder, [(&pool("small"), "here")]).unwrap();
    let there = known.shared().get(&(pool("small"), "here".to_owned())).unwrap().clone();
    let summary = there.summary().unwrap();
    assert_eq!((summary.boots, summary.p99), (200, Duration::from_secs(24 * 60 * 60)));
}
