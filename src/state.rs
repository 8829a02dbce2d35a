//! The state folder: what the daemon keeps on disk, and nobody else's business.
//!
//! One place decides how files come to be there. The folder has mode 0700 and each file 0600, whoever
//! starts the daemon and with which umask: what others could open they could lock, and a lock on a
//! readable file is enough to keep every start from running (flock(2) asks for no right to write).
//! Found wider, they are narrowed and that is said; found with another owner, or with a symbolic link
//! where a file should be, they are refused: narrowing what is somebody else's proves nothing. The
//! folder itself may be reached by a link, as systemd's `DynamicUser=` has it.
//!
//! Files are replaced as a whole, by a draft beside them. What cannot be read any more is moved aside
//! as `NAME.damaged-TIME`, so that it can be looked at, and costs no start. What the disk refuses is a
//! [trouble](Troubles) until it takes it again.
//!
//! The journal is not of this folder: promtail and its like read it as users of their own, so it keeps
//! the mode 0640 wherever it is written.

mod trouble;

use std::{
    fs, io,
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::trouble::{Trouble, Troubles};

/// Mode of the folder.
pub const FOLDER_MODE: u32 = 0o700;
/// Mode of every file in it.
pub const FILE_MODE: u32 = 0o600;
/// Damaged files of one name that are kept; the oldest go first.
pub const DAMAGED_KEPT: usize = 3;

/// The file that the daemon locks. What has neither this name nor one of [`BEGINNINGS`] is not touched.
const LOCK: &str = "lock";
/// Names that the daemon gives to the other files in the folder. To each belong others: drafts, SQLite's
/// files beside the ledger, what was damaged.
const BEGINNINGS: [&str; 7] = [
    "demand.sqlite",
    "targets.json",
    "scopes.json",
    "paces.json",
    "boots.json",
    "habits.json",
    "guest-key",
];

/// The state folder, checked. Cheap to share.
#[derive(Debug, Clone)]
pub struct StateFolder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    troubles: Troubles,
}

impl StateFolder {
    /// Makes the folder where it is missing, and sees to it that it and the files in it are this
    /// user's alone.
    ///
    /// # Errors
    /// The folder cannot be had, or something in it is not this user's; for the person who must act,
    /// with everything that is wrong.
    pub fn open(path: &Path) -> Result<Self, String> {
        let told = |error: io::Error| {
            format!(
                "the state folder {} cannot be had: {error}; fleet.state_dir must be a folder that \
                 this user may write to",
                path.display()
            )
        };
        fs::create_dir_all(path.parent().unwrap_or(path)).map_err(told)?;
        match fs::DirBuilder::new().mode(FOLDER_MODE).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(told(error)),
            _ => {}
        }
        let found = fs::metadata(path).map_err(told)?;
        if !found.is_dir() {
            return Err(told(io::ErrorKind::NotADirectory.into()));
        }
        let mut faults = Vec::new();
        match not_ours(path, &found) {
            Some(fault) => faults.push(fault),
            None => {
                narrow(path, &found, FOLDER_MODE).map_err(told)?;
                for entry in fs::read_dir(path).map_err(told)? {
                    let entry = entry.map_err(told)?;
                    let name = entry.file_name();
                    if is_ours(&name.to_string_lossy()) {
                        faults.extend(check(&entry.path()));
                    }
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        let inner = Inner { path: path.to_owned(), troubles: Troubles::default() };
        Ok(Self(Arc::new(inner)))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Where a file of that name is.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path.join(name)
    }

    /// What is wrong with what is kept here.
    #[must_use]
    pub fn troubles(&self) -> &Troubles {
        &self.0.troubles
    }

    /// Makes an empty file where there is none, or opens the one that is there. Never follows a link,
    /// whatever the umask.
    ///
    /// # Errors
    /// As the system says.
    pub fn ensure(&self, name: &str) -> io::Result<fs::File> {
        let file = options().create(true).truncate(false).open(self.file(name))?;
        own(&file)?;
        Ok(file)
    }

    /// What a file holds; `None` where there is none.
    ///
    /// # Errors
    /// As the system says.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let opened =
            fs::OpenOptions::new().read(true).custom_flags(no_follow()).open(self.file(name));
        let mut bytes = Vec::new();
        match opened {
            Ok(mut file) => file.read_to_end(&mut bytes).map(|_| Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts `bytes` in the place of what a file held: afterwards it holds one or the other, also after
    /// a cut of the power.
    ///
    /// # Errors
    /// As the system says. The file holds what it held; no draft is left.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let draft = self.file(&format!("{name}.new"));
        remove(&draft)?;
        let written = || {
            let mut file = options().create_new(true).open(&draft)?;
            own(&file)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&draft, self.file(name))?;
            // The name is in the folder's own blocks.
            fs::File::open(self.path())?.sync_all()
        };
        written().inspect_err(|_| {
            // On a full disk the draft holds the room that the next try needs.
            if let Err(error) = remove(&draft) {
                tracing::debug!(path = %draft.display(), %error, "a draft is left; the next one takes its place");
            }
        })
    }

    /// Moves a damaged file out of the way, and with it the files beside it that have its name with one of
    /// the endings `beside`; says so in the log and in the status. Of each name the newest
    /// [`DAMAGED_KEPT`] are kept.
    ///
    /// # Errors
    /// As the system says; then some of them may lie where they lay.
    pub fn move_aside(
        &self,
        name: &str,
        beside: &[&str],
        why: &str,
        costs: &str,
    ) -> io::Result<PathBuf> {
        let now = chrono::Utc::now().format("%Y%m%dT%H%M%S%.6fZ");
        let aside = format!("{name}.damaged-{now}");
        fs::rename(self.file(name), self.file(&aside))?;
        for ending in beside {
            let moved = fs::rename(
                self.file(&format!("{name}{ending}")),
                self.file(&format!("{aside}{ending}")),
            );
            match moved {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let (from, to) = (self.file(name), self.file(&aside));
        tracing::error!(
            file = %from.display(), %why, moved_to = %to.display(), %costs,
            "a damaged file in the state folder is moved aside"
        );
        self.troubles().note(format!(
            "{} was damaged ({why}) and is now {}; {costs}",
            from.display(),
            to.display()
        ));
        self.forget_damaged(name);
        Ok(to)
    }

    fn forget_damaged(&self, name: &str) {
        let beginning = format!("{name}.damaged-");
        let Ok(entries) = fs::read_dir(self.path()) else { return };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let stamp = |name: &str| {
            let after = name.strip_prefix(&beginning)?;
            Some(after.split('-').next().unwrap_or(after).to_owned())
        };
        let damaged: Vec<_> = names.filter_map(|name| Some((stamp(&name)?, name))).collect();
        let mut stamps: Vec<_> = damaged.iter().map(|(stamp, _)| stamp).collect();
        stamps.sort_unstable();
        stamps.dedup();
        let keep = stamps.len().saturating_sub(DAMAGED_KEPT);
        let gone = stamps.get(..keep).unwrap_or_default();
        for (_, name) in damaged.iter().filter(|(stamp, _)| gone.contains(&stamp)) {
            if let Err(error) = remove(&self.file(name)) {
                tracing::warn!(%name, %error, "an old damaged file cannot be removed");
            }
        }
    }
}

fn no_follow() -> i32 {
    (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC).bits().cast_signed()
}

fn options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE).custom_flags(no_follow());
    options
}

/// A file that the umask has made narrower than its owner needs, or that was there before.
fn own(file: &fs::File) -> io::Result<()> {
    if file.metadata()?.permissions().mode() & 0o777 == FILE_MODE {
        return Ok(());
    }
    file.set_permissions(fs::Permissions::from_mode(FILE_MODE))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn is_ours(name: &str) -> bool {
    let belongs = |beginning: &&str| {
        name.strip_prefix(*beginning)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
    };
    name == LOCK || BEGINNINGS.iter().any(belongs)
}

/// Whose it is, where it is not ours.
fn not_ours(path: &Path, found: &fs::Metadata) -> Option<String> {
    let us = rustix::process::geteuid().as_raw();
    (found.uid() != us).then(|| {
        format!(
            "{} belongs to user {}, and this daemon runs as user {us}: whoever owns it may change \
             what is kept there; run: chown {us} {}, or give this daemon another fleet.state_dir",
            path.display(),
            found.uid(),
            path.display()
        )
    })
}

/// Narrows a file of ours, or says why it cannot be used.
fn check(path: &Path) -> Option<String> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        // Gone since the folder was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(format!("{} cannot be looked at: {error}", path.display())),
    };
    if !found.is_file() {
        let what = if found.is_symlink() { "a symbolic link" } else { "no file" };
        return Some(format!(
            "{} is {what}; the daemon writes to files of its own there and follows no link: move it \
             away",
            path.display()
        ));
    }
    not_ours(path, &found).or_else(|| {
        let narrowed = narrow(path, &found, FILE_MODE);
        narrowed.err().map(|error| format!("{}: {error}; run: chmod 0600 on it", path.display()))
    })
}

fn narrow(path: &Path, found: &fs::Metadata, wanted: u32) -> io::Result<()> {
    let mode = found.permissions().mode() & 0o777;
    if mode == wanted {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(wanted))?;
    if mode & !wanted != 0 {
        tracing::warn!(
            path = %path.display(), was = %format_args!("{mode:04o}"), is = %format_args!("{wanted:04o}"),
            "what the daemon keeps was open to others and is narrowed"
        );
    }
    Ok(())
}

#[cfg(test)]
#[path = "state/tests.rs"]
mod tests;
