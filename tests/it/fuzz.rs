//! The corpus of the fuzz targets, judged once more by the same functions, without a fuzzer.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use targets::{clouds, config, guests, lxd, nova, scale_sets, user_data, webhooks};

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| path.is_file()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds nothing", folder.display());
    files
}

/// Every file of the target's corpus, and of other folders that hold such inputs.
fn replay(target: &str, check: fn(&[u8]), others: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = root.join("tests/fuzz/corpus").join(target);
    let folders = [own].into_iter().chain(others.iter().map(|folder| root.join(folder)));
    let failed: Vec<String> = folders
        .flat_map(|folder| files(&folder))
        .filter(|file| {
            let input = fs::read(file).unwrap();
            catch_unwind(AssertUnwindSafe(|| check(&input))).is_err()
        })
        .map(|file| file.display().to_string())
        .collect();
    assert!(failed.is_empty(), "{target}: what must hold does not for\n{}", failed.join("\n"));
}

#[test]
fn webhook_bodies() {
    replay("webhooks", webhooks::check, &["tests/data/webhooks", "tests/data/webhooks/odd"]);
}

#[test]
fn messages_of_scale_sets() {
    replay("scale_sets", scale_sets::check, &[]);
}

#[test]
fn reports_of_guests() {
    replay("guests", guests::check, &[]);
}

#[test]
fn listings_of_lxd() {
    replay("lxd", lxd::check, &[]);
}

#[test]
fn listings_of_nova() {
    replay("nova", nova::check, &[]);
}

#[test]
fn clouds_yaml() {
    replay("clouds", clouds::check, &["tests/data/clouds-yaml"]);
}

#[test]
fn configurations() {
    replay("config", config::check, &["config"]);
}

#[test]
fn user_data_of_any_settings() {
    replay("user_data", user_data::check, &[]);
}
