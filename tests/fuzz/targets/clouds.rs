//! `clouds.yaml`: a file that works for OpenStack's own tools, and holds their passwords.

use std::path::PathBuf;

use runner_fleet::provider::openstack::cloud::{CloudConfig, Credentials, Named, Owned, Sources};
use runner_fleet_actors::foreign::WORDS_MAX;
use saphyr_parser::{Event, Parser};

use super::assert_tame;

/// What stands for a secret in the corpus.
const SECRET: &str = "C4n4ryC4n4ry";
/// The keys whose values are nobody's to see.
const SECRET_KEYS: [&str; 4] = ["password", "token", "auth_token", "application_credential_secret"];

/// The text of one `clouds.yaml`.
pub fn check(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    let file = Some((PathBuf::from("clouds.yaml"), text.to_owned()));
    let sources = Sources { clouds: file, ..Sources::default() };
    let outcome = CloudConfig::parse(&sources, None);
    assert_eq!(outcome, CloudConfig::parse(&sources, None), "one text, one meaning");
    let told = match &outcome {
        Ok(config) => {
            of_config(config, text);
            &config.warnings
        }
        Err(faults) => {
            assert!(!faults.0.is_empty(), "refused for no reason");
            &faults.0
        }
    };
    let hidden = text.contains(SECRET) && is_secret(text);
    for one in told {
        assert!(one.starts_with("clouds.yaml: "), "names no file: {one}");
        assert_tame(one, WORDS_MAX);
        assert!(!hidden || !one.contains(SECRET), "{one}");
    }
}

fn of_config(config: &CloudConfig, text: &str) {
    assert!(matches!(config.auth_url.scheme(), "http" | "https") && config.auth_url.has_host());
    assert!(!config.interfaces.is_empty());
    let mut words = Vec::new();
    let mut owned = |owned: &Owned| {
        let (Named::Id(word) | Named::Name(word)) = &owned.what;
        words.push(word.clone());
    };
    match &config.credentials {
        Credentials::Password { user, password, project } => {
            owned(user);
            owned(project);
            words.push(password.expose().to_owned());
        }
        Credentials::ApplicationCredentialId { id, secret } => {
            words.extend([id.clone(), secret.expose().to_owned()]);
        }
        Credentials::ApplicationCredentialName { name, user, secret } => {
            owned(user);
            words.extend([name.clone(), secret.expose().to_owned()]);
        }
        Credentials::Token { token, project } => {
            owned(project);
            words.push(token.expose().to_owned());
        }
    }
    let (written, _) = scalars(text);
    for word in words {
        assert!(!word.is_empty());
        assert!(written.iter().any(|(_, text)| *text == word), "{word:?} is not as it was written");
    }
}

/// Whether the secret stands only where secrets do; then nothing may show it. What is no YAML shows
/// nothing at all.
fn is_secret(text: &str) -> bool {
    let (written, whole) = scalars(text);
    let secret = |(key, text): &&(String, String)| {
        text == SECRET && SECRET_KEYS.contains(&key.replace('-', "_").as_str())
    };
    let placed = written.iter().filter(secret).count();
    // An alias takes it elsewhere.
    !whole || (text.matches(SECRET).count() == placed && !text.contains('*'))
}

/// What a reader of YAML is within, and what comes next there.
enum Open {
    Key(String),
    Value(String),
    List,
}

/// Every scalar that is a value, with its key, and every other one without; and whether it is YAML.
fn scalars(text: &str) -> (Vec<(String, String)>, bool) {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut parser = Parser::new_from_str(text.trim_start_matches('\u{feff}'));
    while let Some(event) = parser.next_event() {
        let Ok((event, _)) = event else { return (found, false) };
        match event {
            Event::Scalar(text, ..) => {
                let text = text.into_owned();
                let key = match open.last_mut() {
                    Some(Open::Key(key)) => {
                        key.clone_from(&text);
                        String::new()
                    }
                    Some(Open::Value(key)) => std::mem::take(key),
                    Some(Open::List) | None => String::new(),
                };
                found.push((key, text));
            }
            Event::MappingStart(..) => {
                open.push(Open::Key(String::new()));
                continue;
            }
            Event::SequenceStart(..) => {
                open.push(Open::List);
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
            }
            Event::Alias(_) => {}
            Event::StreamEnd => return (found, true),
            _ => continue,
        }
        match open.last_mut() {
            Some(Open::Key(key)) => {
                let key = std::mem::take(key);
                open.pop();
                open.push(Open::Value(key));
            }
            Some(Open::Value(_)) => {
                open.pop();
                open.push(Open::Key(String::new()));
            }
            Some(Open::List) | None => {}
        }
    }
    (found, false)
}
