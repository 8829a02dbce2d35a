//! The files that a configuration names, checked when it is loaded.

use std::{
    fs::File,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::fault::Fault;

/// A file that must be there, and the key that says so.
#[derive(Debug)]
pub(super) struct FileUse {
    pub line: Option<usize>,
    pub key: String,
    pub path: PathBuf,
    /// Whether it holds a secret, which nobody but its owner and group may read.
    pub secret: bool,
    /// Whether it holds the right thing; what it is instead is said and not shown.
    pub holds: Option<Holds>,
}

/// Looks at what a place holds.
pub(super) type Holds = fn(&str) -> Result<(), String>;

impl FileUse {
    pub fn fault(&self) -> Option<Fault> {
        let what = check(&self.path, self.secret).and_then(|()| self.look()).err()?;
        Some(Fault::new(self.line, &self.key, &what))
    }

    fn look(&self) -> Result<(), String> {
        let Some(holds) = self.holds else { return Ok(()) };
        let name = self.path.display();
        let text = std::fs::read(&self.path).map_err(|e| format!("{name} cannot be read: {e}"))?;
        holds(&String::from_utf8_lossy(&text)).map_err(|why| format!("{name}: {why}"))
    }
}

/// Whether the last part of a path is no file's usual name but may be a password.
fn is_unlike_a_name(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let odd = |c: char| !(c.is_ascii_lowercase() || "-_.".contains(c));
    !name.contains('.') && name.contains(odd)
}

fn check(path: &Path, secret: bool) -> Result<(), String> {
    let name = path.display();
    let open = File::open(path).map_err(|error| match secret && is_unlike_a_name(path) {
        // It may be the secret itself.
        true => format!("the file that is named here cannot be read: {error}"),
        false => format!("{name} cannot be read: {error}"),
    })?;
    let meta = open.metadata().map_err(|error| format!("{name} cannot be read: {error}"))?;
    if meta.is_dir() {
        return Err(format!("{name} is a folder; a file is needed"));
    }
    let mode = meta.permissions().mode() & 0o777;
    if secret && mode & 0o007 != 0 {
        return Err(format!(
            "{name} holds a secret and everybody may use it (mode {mode:04o}); run: chmod 0640 {name}"
        ));
    }
    Ok(())
}
