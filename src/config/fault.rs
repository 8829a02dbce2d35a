//! What is wrong with a configuration, for the person who must put it right.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use runner_fleet_actors::foreign::Words;
use serde::Serialize;

use super::hide::hidden;

/// One fault: where, and what is wrong and allowed. It never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The line in the file, from 1; `None` where the fault is not in one line.
    pub line: Option<usize>,
    /// The key, such as `pools[large].max`; empty for the file as a whole.
    pub key: String,
    /// The wrong value and what is allowed.
    pub what: String,
}

impl Fault {
    /// Fit for a person and for a terminal: without what looks like a secret, tame, and of some length.
    pub(crate) fn new(line: Option<usize>, key: &str, what: &str) -> Self {
        let shown = |text: &str| Words::from(hidden(text)).into();
        Self { line, key: shown(key), what: shown(what) }
    }

    /// The fault with its place, as compilers write it.
    #[must_use]
    pub fn at(&self, file: &Path) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let key = if self.key.is_empty() { String::new() } else { format!("{}: ", self.key) };
        format!("{}{line}: {key}{}", file.display(), self.what)
    }

    pub(super) fn whole_file(what: String) -> Self {
        Self::new(None, "", &what)
    }
}

/// All faults of one file, in the order of its lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// The file.
    pub file: PathBuf,
    /// Its faults.
    pub faults: Vec<Fault>,
}

impl Faults {
    pub(super) fn new(file: &Path, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.line);
        Self { file: file.to_path_buf(), faults }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.faults.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&fault.at(&self.file))?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
