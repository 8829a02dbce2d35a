//! Fixed targets that operators set, kept over a restart.
//!
//! They are the one thing that neither the cloud nor GitHub nor the configuration knows. A small
//! JSON file in the state folder, replaced as a whole: a half-written file cannot be.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use runner_fleet_actors::name::PoolName;

/// The fixed targets and the file that keeps them.
#[derive(Debug)]
pub(super) struct Targets {
    file: PathBuf,
    fixed: Mutex<BTreeMap<PoolName, u32>>,
}

impl Targets {
    /// Reads what an earlier daemon kept in `folder`. A file that cannot be read is an error: guessing
    /// "nothing was fixed" would grow a pool that an operator has emptied.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let file = folder.join("targets.json");
        let told = |error: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {error}; mend or remove the file", file.display()))
        };
        let fixed = match fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| told(&error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(told(&error)),
        };
        Ok(Self { file, fixed: Mutex::new(fixed) })
    }

    /// A pool's fixed target.
    pub(super) fn of(&self, pool: &PoolName) -> Option<u32> {
        self.fixed.lock().unwrap_or_else(PoisonError::into_inner).get(pool).copied()
    }

    /// Keeps a pool's fixed target, or forgets it. On an error nothing is changed.
    pub(super) fn keep(&self, pool: &PoolName, runners: Option<u32>) -> io::Result<()> {
        let mut fixed = self.fixed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = fixed.clone();
        match runners {
            Some(runners) => next.insert(pool.clone(), runners),
            None => next.remove(pool),
        };
        if next != *fixed {
            self.write(&next)?;
            *fixed = next;
        }
        Ok(())
    }

    fn write(&self, fixed: &BTreeMap<PoolName, u32>) -> io::Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let draft = self.file.with_extension("json.new");
        let mut out = fs::File::create(&draft)?;
        out.write_all(&serde_json::to_vec_pretty(fixed)?)?;
        out.sync_all()?;
        fs::rename(&draft, &self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_target_outlives_the_daemon_and_a_cleared_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (small, large): (PoolName, PoolName) =
            ("small".parse().unwrap(), "large".parse().unwrap());
        let first = Targets::open(folder.path()).unwrap();
        first.keep(&small, Some(0)).unwrap();
        first.keep(&large, Some(7)).unwrap();
        first.keep(&large, None).unwrap();
        let second = Targets::open(folder.path()).unwrap();
        assert_eq!((second.of(&small), second.of(&large)), (Some(0), None));
    }

    #[test]
    fn a_broken_file_is_named_and_not_taken_for_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("targets.json"), "{").unwrap();
        let error = Targets::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("targets.json") && error.contains("mend"), "{error}");
    }
}
