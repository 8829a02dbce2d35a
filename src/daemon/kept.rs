//! Small JSON files in the state folder: read once, replaced as a whole, never in the way of a start.

use std::io;

use serde::Serialize;

use crate::{config::Config, state::StateFolder};

/// Says which files others are meant to reach that lie where nobody else may enter.
pub(super) fn say_what_nobody_reaches(folder: &StateFolder, config: &Config) {
    let meant = [
        ("fleet.journal", config.fleet.journal.as_deref(), "promtail and its like read it"),
        ("api.socket", Some(&*config.api.socket), "its group may order the fleet about"),
    ];
    for (key, path, who) in meant {
        if let Some(path) = path.filter(|path| path.starts_with(folder.path())) {
            tracing::warn!(
                %key, path = %path.display(), %who,
                "this lies in the state folder, which nobody but this user may enter; give it another folder"
            );
        }
    }
}

/// What a file's trouble is called.
pub(super) fn named(folder: &StateFolder, name: &str) -> String {
    folder.file(name).display().to_string()
}

/// What an earlier daemon kept; nothing where there is no file. One that `parse` cannot understand is
/// moved aside, and `costs` says what is lost by it.
///
/// # Errors
/// Where the file cannot be read or moved, for the person who must act.
pub(super) fn read<T: Default>(
    folder: &StateFolder,
    name: &str,
    costs: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, String> {
    let told = |error: io::Error| format!("{}: {error}", named(folder, name));
    let Some(bytes) = folder.read(name).map_err(told)? else { return Ok(T::default()) };
    let parsed = String::from_utf8(bytes).map_err(|error| error.to_string());
    match parsed.and_then(|text| parse(&text)) {
        Ok(kept) => Ok(kept),
        Err(why) => {
            folder.move_aside(name, &[], &why, costs).map_err(told)?;
            Ok(T::default())
        }
    }
}

/// Replaces a file. What the disk refuses is a trouble of the folder until it takes it.
///
/// # Errors
/// As the system says; the file holds what it held.
pub(super) fn write(folder: &StateFolder, name: &str, kept: &impl Serialize) -> io::Result<()> {
    let written = serde_json::to_vec_pretty(kept)
        .map_err(io::Error::from)
        .and_then(|bytes| folder.replace(name, &bytes));
    match &written {
        Ok(()) => folder.troubles().end(&named(folder, name)),
        Err(error) => folder.troubles().begin(
            &named(folder, name),
            format!("it cannot be written: {error}; it is tried again, make room or mend the disk"),
        ),
    }
    written
}

#[cfg(test)]
#[path = "kept/tests.rs"]
mod tests;
