//! A small configuration that is right, and ways to make it wrong.

use std::path::Path;

use runner_fleet::config::{Config, Env, Faults};

pub fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub fn parse(text: &str) -> Result<Config, Faults> {
    Config::parse(text, Path::new("/etc/fleet.toml"), &env(&[("CREDENTIALS_DIRECTORY", "/creds")]))
}

pub const GOOD: &str = r#"[fleet]
id = "ci"
[github]
token_file = "token"
[providers.cloud]
kind = "openstack"
cloud = "mycloud"
[[pools]]
name = "small"
scope = "org/repo"
labels = ["small"]
provider = "cloud"
image = "noble"
flavor = "m1"
max = 5
"#;

pub fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the good configuration");
    GOOD.replacen(from, to, 1)
}

/// The faults as lines.
pub fn refused(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(config) => panic!("taken: {config:?}"),
        Err(faults) => faults.to_string().lines().map(str::to_owned).collect(),
    }
}

#[track_caller]
pub fn assert_refused(text: &str, expected: &[&str]) {
    let faults = refused(text);
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.contains(expected), "{fault}\ndoes not say\n{expected}");
    }
}
