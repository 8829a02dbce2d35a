//! One daemon a state folder.
//!
//! Two daemons of one fleet would each keep the target: twice the runners, each shrinking what the
//! other grew. The socket alone does not keep them apart: two that start in the same instant both
//! find nobody answering there. A lock of the file system does, and the kernel lets go of it when
//! its process ends, however it ends. A file with a process number, the alternative, outlives a kill
//! and then keeps the next start from running.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::Path,
};

/// Held as long as the daemon lives.
#[derive(Debug)]
pub(super) struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock of `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// Another daemon holds it, or the folder or the file cannot be had; for the person who must act.
    pub(super) fn take(folder: &Path) -> Result<Self, String> {
        let path = folder.join("lock");
        let told = |error: io::Error| {
            format!(
                "{} cannot be had: {error}; fleet.state_dir must be a folder that this user may write to",
                path.display()
            )
        };
        fs::create_dir_all(folder).map_err(told)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(told)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "another daemon{} runs with the state folder {}; stop it, or give this one \
                     another fleet.id and fleet.state_dir",
                    holder(&path),
                    folder.display()
                ));
            }
            Err(TryLockError::Error(error)) => return Err(told(error)),
        }
        // Only for the message above: the lock is the lock, whatever the file says.
        let noted = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = noted {
            tracing::warn!(path = %path.display(), %error, "the lock does not say whose it is");
        }
        Ok(Self { _file: file })
    }
}

/// Which process holds the lock, as far as it has said.
fn holder(path: &Path) -> String {
    fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .map_or(String::new(), |process| format!(" (process {process})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder_at_a_time_and_the_next_is_told_who() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("not/yet/there");
        let first = StateLock::take(&state).unwrap();
        let refused = StateLock::take(&state).unwrap_err();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        StateLock::take(&state).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let refused = StateLock::take(&folder.path().join("file/state")).unwrap_err();
        assert!(refused.contains("file/state/lock") && refused.contains("state_dir"), "{refused}");
    }
}
