#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;

const FILES: [&str; 8] = [
    "lock",
    "demand.sqlite",
    "demand.sqlite-wal",
    "demand.sqlite-shm",
    "targets.json",
    "scopes.json",
    "guest-key",
    "targets.json.damaged-20261128T000000.000000Z",
];

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn whatever_was_open_to_others_is_narrowed_and_what_is_not_ours_is_left_alone() {
    for folder_mode in [0o700, 0o750, 0o755, 0o777, 0o1777, 0o500] {
        for file_mode in [0o600, 0o640, 0o644, 0o666, 0o777, 0o400] {
            let place = tempfile::tempdir().unwrap();
            let state = place.path().join("state");
            fs::create_dir(&state).unwrap();
            for name in FILES.iter().chain(&["journal.log", "somebody's"]) {
                fs::write(state.join(name), "held").unwrap();
                set_mode(&state.join(name), file_mode);
            }
            set_mode(&state, folder_mode);
            let folder = StateFolder::open(&state).unwrap();
            assert_eq!(mode(&state), 0o700, "{folder_mode:o}");
            for name in FILES {
                assert_eq!(mode(&state.join(name)), 0o600, "{name} {file_mode:o}");
                assert_eq!(folder.read(name).unwrap().unwrap(), b"held");
            }
            for name in ["journal.log", "somebody's"] {
                assert_eq!(mode(&state.join(name)), file_mode, "{name}");
            }
        }
    }
}

#[test]
fn what_is_made_is_its_owners_alone() {
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("not/yet/there");
    let folder = StateFolder::open(&state).unwrap();
    assert_eq!(mode(&state), 0o700);
    drop(folder.ensure("lock").unwrap());
    folder.replace("targets.json", b"{}").unwrap();
    for name in ["lock", "targets.json"] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
}

#[test]
fn no_link_is_followed_to_what_somebody_else_would_like_written() {
    for name in FILES {
        let place = tempfile::tempdir().unwrap();
        let (state, victim) = (place.path().join("state"), place.path().join("victim"));
        fs::create_dir(&state).unwrap();
        fs::write(&victim, "held").unwrap();
        set_mode(&victim, 0o644);
        std::os::unix::fs::symlink(&victim, state.join(name)).unwrap();
        let refused = StateFolder::open(&state).unwrap_err();
        assert!(refused.contains(name) && refused.contains("symbolic link"), "{refused}");
        assert_eq!((mode(&victim), fs::read(&victim).unwrap()), (0o644, b"held".to_vec()));
    }
    // One that is put there later.
    let place = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(&place.path().join("state")).unwrap();
    let victim = place.path().join("victim");
    fs::write(&victim, "held").unwrap();
    for name in ["lock", "targets.json", "targets.json.new"] {
        std::os::unix::fs::symlink(&victim, folder.file(name)).unwrap();
    }
    assert!(folder.ensure("lock").is_err() && folder.read("targets.json").is_err());
    folder.replace("targets.json", b"ours").unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"held");
    assert_eq!(folder.read("targets.json").unwrap().unwrap(), b"ours");
}

#[test]
fn a_folder_behind_a_link_is_one_as_systemd_makes_it_for_dynamic_users() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("private")).unwrap();
    std::os::unix::fs::symlink("private", place.path().join("state")).unwrap();
    StateFolder::open(&place.path().join("state")).unwrap();
    assert_eq!(mode(&place.path().join("private")), 0o700);
}

#[test]
fn what_belongs_to_somebody_else_is_refused_with_what_to_do() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped, because only root may give files away");
        return;
    }
    for name in ["."].iter().chain(&FILES) {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("state");
        fs::create_dir(&state).unwrap();
        let given = state.join(name);
        if *name != "." {
            fs::write(&given, "held").unwrap();
            set_mode(&given, 0o644);
        }
        std::os::unix::fs::chown(&given, Some(4711), None).unwrap();
        let before = mode(&given);
        let refused = StateFolder::open(&state).unwrap_err();
        assert!(refused.contains("user 4711") && refused.contains("chown 0"), "{refused}");
        assert_eq!(mode(&given), before);
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("file"), "").unwrap();
    for path in ["file", "file/state"] {
        let refused = StateFolder::open(&place.path().join(path)).unwrap_err();
        assert!(refused.contains(path) && refused.contains("state_dir"), "{refused}");
    }
}

#[test]
fn of_damaged_files_the_newest_are_kept_and_each_is_told_of() {
    let place = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(place.path()).unwrap();
    for round in 0..6 {
        folder.replace("demand.sqlite", format!("round {round}").as_bytes()).unwrap();
        folder.replace("demand.sqlite-wal", b"").unwrap();
        folder.move_aside("demand.sqlite", &["-wal", "-shm"], "it is", "nothing").unwrap();
    }
    let mut left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().path()).collect();
    left.sort();
    let texts: Vec<_> = left.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(texts, ["round 3", "", "round 4", "", "round 5", ""], "{left:?}");
    assert_eq!(folder.troubles().notes().len(), 6);
}

#[test]
fn a_trouble_lasts_from_its_first_word_to_its_end() {
    let troubles = Troubles::default();
    troubles.begin("the ledger", "full".to_owned());
    let since = troubles.of("the ledger").unwrap().since;
    troubles.begin("the ledger", "still full".to_owned());
    let now = troubles.of("the ledger").unwrap();
    assert_eq!((now.since, now.what.as_str()), (since, "still full"));
    assert!(troubles.reasons()[0].starts_with("the ledger: still full (since "));
    troubles.end("the ledger");
    assert_eq!(troubles.reasons(), [""; 0]);
}
