//! What is wrong with a configuration, for the person who must put it right.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

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
    pub(super) fn whole_file(what: String) -> Self {
        Self { line: None, key: String::new(), what }
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
            write!(f, "{}", self.file.display())?;
            if let Some(line) = fault.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
            if !fault.key.is_empty() {
                write!(f, "{}: ", fault.key)?;
            }
            f.write_str(&fault.what)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
