//! The configuration's text.

use std::path::Path;

use runner_fleet::config::{Config, Env, Fault};
use runner_fleet_actors::foreign::WORDS_MAX;

use super::{assert_tame, is_judged};

/// What a token holds that was pasted where a place belongs, and the password of an address.
const SECRET: &str = "C4n4ryC4n4ryC4n4ry";

/// A file of TOML.
pub fn check(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    let env = env();
    let read = || Config::parse(text, Path::new("/etc/runner-fleet/config.toml"), &env);
    let outcome = read();
    let lines = 1 + text.matches('\n').count();
    match &outcome {
        Ok(config) => {
            assert!(config.warnings.is_sorted_by_key(|warning| warning.line));
            config.warnings.iter().for_each(|warning| of_fault(warning, lines));
            of_config(config);
        }
        Err(faults) => {
            assert!(!faults.faults.is_empty(), "refused for no reason");
            assert!(faults.faults.is_sorted_by_key(|fault| fault.line));
            faults.faults.iter().for_each(|fault| of_fault(fault, lines));
            let forms = [format!("ghp_{SECRET}"), format!("\"https://u:{SECRET}@")];
            let pasted: usize = forms.iter().map(|form| text.matches(form).count()).sum();
            let shown = faults.to_string().contains(SECRET);
            assert!(!shown || pasted != text.matches(SECRET).count(), "{faults}");
        }
    }
    if is_judged(text.as_bytes(), 16) {
        assert_eq!(outcome, read(), "one text, one meaning");
    }
}

fn env() -> Env {
    let set = [("GITHUB_TOKEN", "a token"), ("CREDENTIALS_DIRECTORY", "/run/credentials/x")];
    set.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect()
}

/// A fault says where and what.
fn of_fault(fault: &Fault, lines: usize) {
    assert!(fault.line.is_none_or(|line| (1..=lines).contains(&line)), "{fault:?} of {lines}");
    assert!(!fault.what.is_empty());
    assert_tame(&fault.what, WORDS_MAX);
    assert_tame(&fault.key, WORDS_MAX);
}

/// What was taken is within the bounds that the keys' documentation names.
fn of_config(config: &Config) {
    for (position, pool) in config.pools.iter().enumerate() {
        assert!(pool.min <= pool.max && pool.spare <= pool.max, "{pool:?}");
        assert!(config.providers.contains_key(&pool.provider));
        assert!(config.pools[..position].iter().all(|other| other.name != pool.name));
        for (name, value) in &pool.guest.env {
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
            assert!(!value.contains(['\n', '\r', '\0']), "{value:?}");
        }
    }
}
