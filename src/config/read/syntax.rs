//! What of a text is not TOML.

use toml::de::Error;

use super::{super::fault::Fault, line_at};

/// Faults of the syntax that are told one by one. One slip is often several of them, and a file of another
/// kind has one on each of its lines.
const TOLD_MAX: usize = 20;

/// The first faults, and how many come after them.
pub(super) fn faults(errors: &[Error], line_starts: &[usize]) -> Vec<Fault> {
    // The error's own Display quotes the line, which may hold a secret.
    let mut found: Vec<(Option<usize>, &str)> = errors
        .iter()
        .map(|error| (error.span().map(|span| line_at(line_starts, span.start)), error.message()))
        .collect();
    found.sort_by_key(|(line, _)| *line);
    let fault = |line: Option<usize>, what: &str| {
        Fault::new(line, "", &format!("this is not TOML: {what}"))
    };
    let told = found
        .iter()
        .take(TOLD_MAX)
        .map(|(line, message)| fault(*line, &message.replace('\n', ", ")));
    let others = found.get(TOLD_MAX).map(|(line, _)| {
        fault(*line, &format!("further faults from here on: {}", found.len() - TOLD_MAX))
    });
    told.chain(others).collect()
}
