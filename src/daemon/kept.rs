//! Small JSON files in the state folder: read once, replaced as a whole, never in the way of a start.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};

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

/// What is in force, and the file that keeps it over a restart.
#[derive(Debug)]
pub(super) struct Kept<T> {
    folder: StateFolder,
    file: &'static str,
    held: Mutex<T>,
}

impl<T: Clone + Default + PartialEq + Serialize + DeserializeOwned> Kept<T> {
    /// What an earlier daemon kept; nothing where there is no file. One that cannot be understood is moved aside,
    /// and `costs` says what is lost by it.
    ///
    /// # Errors
    /// Where the file cannot be read or moved, for the person who must act.
    pub(super) fn open(
        folder: &StateFolder,
        file: &'static str,
        costs: &str,
    ) -> Result<Self, String> {
        let told = |error: io::Error| format!("{}: {error}", folder.file(file).display());
        let held = match folder.read(file).map_err(told)? {
            None => T::default(),
            Some(bytes) => match serde_json::from_slice(&bytes) {
                Ok(held) => held,
                Err(why) => {
                    folder.move_aside(file, &[], &why.to_string(), costs).map_err(told)?;
                    T::default()
                }
            },
        };
        Ok(Self { folder: folder.clone(), file, held: Mutex::new(held) })
    }

    /// What is in force.
    pub(super) fn get(&self) -> T {
        self.held().clone()
    }

    /// Puts something else in force, once it is written down.
    ///
    /// # Errors
    /// As the system says; then what was in force still is.
    pub(super) fn replace(&self, change: impl FnOnce(&mut T)) -> io::Result<()> {
        let mut held = self.held();
        let mut next = held.clone();
        change(&mut next);
        if next != *held {
            self.write(&next)?;
            *held = next;
        }
        Ok(())
    }

    /// Puts something else in force, and writes it down as soon as the disk takes it: now, or with a later call.
    pub(super) fn keep(&self, next: T) {
        let mut held = self.held();
        if next != *held || self.is_refused() {
            // Its trouble is begun and ended there.
            let _refused = self.write(&next);
            *held = next;
        }
    }

    /// Writes the file again where the disk refused it last.
    pub(super) fn write_again(&self) {
        if self.is_refused() {
            let _refused = self.write(&self.held());
        }
    }

    fn held(&self) -> MutexGuard<'_, T> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its trouble is called.
    fn name(&self) -> String {
        self.folder.file(self.file).display().to_string()
    }

    fn is_refused(&self) -> bool {
        self.folder.troubles().of(&self.name()).is_some()
    }

    /// Replaces the file. What the disk refuses is a trouble of the folder until it takes it.
    fn write(&self, kept: &T) -> io::Result<()> {
        let written = serde_json::to_vec_pretty(kept)
            .map_err(io::Error::from)
            .and_then(|bytes| self.folder.replace(self.file, &bytes));
        match &written {
            Ok(()) => self.folder.troubles().end(&self.name()),
            Err(error) => self.folder.troubles().begin(
                &self.name(),
                format!(
                    "it cannot be written: {error}; it is tried again, make room or mend the disk"
                ),
            ),
        }
        written
    }
}

#[cfg(test)]
#[path = "kept/tests.rs"]
mod tests;
