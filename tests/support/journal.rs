//! A journal, read and judged.

use std::collections::BTreeMap;

use serde_json::Value;

/// The lines of a journal, each of them valid against `tests/data/journal.schema.json`.
///
/// # Panics
/// Where a line is no JSON or not what the schema says.
pub fn judged(text: &str) -> Vec<Value> {
    let schema = serde_json::from_str(include_str!("../data/journal.schema.json")).unwrap();
    let judge = jsonschema::validator_for(&schema).unwrap();
    text.lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).expect("a line of the journal is JSON");
            if let Err(error) = judge.validate(&value) {
                panic!("{error}\nin {line}");
            }
            value
        })
        .collect()
}

/// The lines of one event.
pub fn of<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

/// When each runner went from one state into another, in seconds since 1970, by its name.
pub fn entered(lines: &[Value], state: &str) -> BTreeMap<String, f64> {
    of(lines, "transition")
        .into_iter()
        .filter(|line| line["to"] == state)
        .map(|line| {
            (line["runner"].as_str().unwrap().to_owned(), line["timestamp"].as_f64().unwrap())
        })
        .collect()
}
