//! Texts of the other side, made fit for a message.

use runner_fleet_actors::foreign::Words;

/// Longest text of the other side that is passed on, in characters.
const TEXT_MAX: usize = 400;

/// One line of bounded length without the given secrets.
pub(super) fn tidy(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|s| !s.is_empty()) {
        text = text.replace(secret, "(hidden)");
    }
    let text = String::from(Words::from(text));
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What there is instead of what was wanted: at most eight names, sorted.
pub(super) fn candidates(mut there: Vec<String>) -> String {
    there.sort();
    there.dedup();
    there.truncate(8);
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    format!("there is none; there are: {there}")
}
