//! One daemon a state folder.
//!
//! Two daemons of one fleet would each keep the target: twice the runners, each shrinking what the
//! other grew. The socket alone does not keep them apart: two that start in the same instant both
//! find nobody answering there. A lock of the file system does, and the kernel lets go of it when
//! its process ends, however it ends. A file with a process number, the alternative, outlives a kill
//! and then keeps the next start from running.

use std::{
    fs::{File, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::Path,
};

use crate::state::StateFolder;

const FILE: &str = "lock";

/// Held as long as the daemon lives.
#[derive(Debug)]
pub(super) struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock of the folder.
    ///
    /// # Errors
    /// Another process holds it, or the file cannot be had; for the person who must act.
    pub(super) fn take(folder: &StateFolder) -> Result<Self, String> {
        let path = folder.file(FILE);
        let told = |error: io::Error| {
            format!(
                "{} cannot be had: {error}; fleet.state_dir must be a folder that this user may write to",
                path.display()
            )
        };
        let mut file = folder.ensure(FILE).map_err(told)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "another daemon{} runs with the state folder {}; stop it, or give this one \
                     another fleet.id and fleet.state_dir",
                    holder(&mut file),
                    folder.path().display()
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

/// Which process holds the lock: as the kernel says, else as the file does. Somebody else may hold it
/// from a time at which the file was open to all.
fn holder(file: &mut File) -> String {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let inode = file.metadata().map(|found| found.ino()).unwrap_or_default();
    let holder = holder_of(&locks, inode).or_else(|| {
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    });
    let Some(process) = holder else { return String::new() };
    let about = Path::new("/proc").join(process.to_string());
    let program = std::fs::read_to_string(about.join("comm")).unwrap_or_default();
    match std::fs::metadata(&about) {
        Ok(found) => format!(" (process {process}, {:?} of user {})", program.trim(), found.uid()),
        Err(_) => format!(" (process {process})"),
    }
}

/// The process that holds a lock of flock(2) on a file with that number, by the text of `/proc/locks`
/// (proc_locks(5)).
fn holder_of(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        // Lines with an arrow are of those who wait.
        let [_, "FLOCK", _, _, process, file, ..] = line.split_whitespace().collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let of = file.rsplit(':').next()?.parse::<u64>().ok()?;
        (of == inode).then(|| process.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder_at_a_time_and_the_next_is_told_who() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(&folder.path().join("not/yet/there")).unwrap();
        let first = StateLock::take(&state).unwrap();
        let refused = StateLock::take(&state).unwrap_err();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        StateLock::take(&state).unwrap();
    }

    #[test]
    fn who_holds_a_lock_is_read_from_the_kernel() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 08:01:4242 0 EOF\n\
                     2: FLOCK  ADVISORY  READ  31337 00:2a:4242 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 00:2a:4242 0 EOF\n";
        assert_eq!(holder_of(locks, 4242), Some(31337));
        assert_eq!(holder_of(locks, 4243), None);
        assert_eq!(holder_of("nonsense\n\n: :", 4242), None);
    }
}
