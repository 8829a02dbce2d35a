//! Records of what others wrote hold no plain text: whatever enters is a [`Foreign`], so that a new field,
//! or a new way to show one, cannot forget to make it harmless.
//!
//! [`Foreign`]: runner_fleet_actors::foreign::Foreign

use std::path::Path;

use runner_fleet_actors::{
    foreign::{WORDS_MAX, is_order},
    port::{ErrorClass, PortError, VmStatus},
};

/// Where texts from outside become records of the house: file and type.
const RECORDS: &[(&str, &str)] = &[
    ("actors/src/job.rs", "struct JobFacts"),
    ("actors/src/event.rs", "struct Job"),
    ("actors/src/event.rs", "struct JobEnd"),
    ("actors/src/port.rs", "enum VmStatus"),
    ("actors/src/port.rs", "struct VmTask"),
    ("src/demand/webhook/payload.rs", "struct Place"),
    ("src/demand/webhook/payload.rs", "struct WorkflowJob"),
    ("src/demand/webhook/payload.rs", "struct Unreadable"),
    ("src/demand/webhook/lenient.rs", "struct Labels"),
    ("src/demand/scale_set/wire.rs", "struct JobMessage"),
    ("src/demand/scale_set/wire.rs", "struct ScaleSet"),
    ("src/demand/queue/message.rs", "enum Message"),
    ("src/demand/planner/lines.rs", "enum Malformed"),
    ("src/demand/planner/lines.rs", "struct Pressures"),
];

/// The text of a type's definition.
fn definition<'a>(text: &'a str, name: &str) -> &'a str {
    let begins = |rest: &str| rest.starts_with([' ', '<', '(', ';']);
    let (at, _) = text
        .match_indices(name)
        .find(|(at, _)| begins(&text[at + name.len()..]))
        .unwrap_or_else(|| panic!("there is no {name} any more"));
    let rest = &text[at..];
    let end = if rest[name.len()..].starts_with('(') { rest.find(';') } else { rest.find("\n}") };
    &rest[..end.unwrap_or_else(|| panic!("{name} has no end"))]
}

#[test]
fn no_record_of_what_others_wrote_holds_a_plain_text() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut plain = Vec::new();
    for (file, name) in RECORDS {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let fields = definition(&text, name).lines().filter(|line| !line.trim().starts_with("//"));
        plain.extend(
            fields
                .filter(|line| line.contains("String"))
                .map(|line| format!("{file}: {name}: {}", line.trim())),
        );
    }
    assert!(plain.is_empty(), "these must be Foreign or Words:\n{}", plain.join("\n"));
}

#[test]
fn an_error_is_tame_and_short_however_it_is_made() {
    let evil = format!("\u{1b}[2J\u{7}\u{202e}\n{}", "x".repeat(4 << 20));
    let made = [
        PortError::certain(ErrorClass::Invalid, evil.clone()),
        PortError::doubtful(ErrorClass::Transient, evil.clone()),
        serde_json::from_value(serde_json::json!({
            "class": "auth", "what": evil.clone(), "certain": true
        }))
        .unwrap(),
    ];
    for error in made {
        let text = error.to_string();
        assert!(text.chars().count() <= WORDS_MAX && !text.chars().any(is_order));
    }
    let status = VmStatus::Error { class: ErrorClass::Quota, fault: evil.into() };
    let VmStatus::Error { fault, .. } = status else { panic!("an error") };
    assert!(fault.chars().count() <= WORDS_MAX && !fault.chars().any(is_order));
}
