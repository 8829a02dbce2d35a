//! The scopes in which registrations of this fleet may be left over.
//!
//! A registration is made before its VM. A daemon that is killed between the two leaves a
//! registration that no VM tells of, and a scope is listed only for a pool that has it: where that
//! pool leaves the configuration before the next start, nobody would ever look there again. So every
//! scope is written down before the first registration can be made in it, and the next start lists
//! what was written as well, until a listing shows that nothing of ours is left.
//!
//! A scope that no pool has any more is forgotten after [`FORGOTTEN`]: GitHub itself removes a
//! single-use runner that has not connected for a day (GitHub docs, "Communicating with self-hosted
//! runners"). So a scope that was deleted at GitHub, or that the credentials no longer reach, is
//! not asked for, for ever and in vain.
//!
//! A small JSON file in the state folder, replaced as a whole. The alternative, a note for every
//! registration under way, is a write to the disk for every launch.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use runner_fleet_actors::{name::Scope, port::Time};
use serde::{Deserialize, Serialize};

/// After this time without a pool, nothing of ours can be left in a scope.
const FORGOTTEN: Duration = Duration::from_secs(2 * 24 * 3600);

/// What is known of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Used {
    /// When it was first found without a pool; `None` while it has one.
    without_pool_since: Option<Time>,
}

/// The scopes and the file that keeps them.
#[derive(Debug)]
pub(super) struct Scopes {
    file: PathBuf,
    used: Mutex<BTreeMap<Scope, Used>>,
}

impl Scopes {
    /// Reads what an earlier daemon kept in `folder`. A file that cannot be read is an error:
    /// registrations that it tells of would stay.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let file = folder.join("scopes.json");
        let told = |error: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {error}; mend or remove the file", file.display()))
        };
        let used = match fs::read_to_string(&file) {
            Ok(text) => {
                let read: BTreeMap<String, Used> =
                    serde_json::from_str(&text).map_err(|error| told(&error))?;
                let parsed = read.into_iter().map(|(scope, used)| Ok((scope.parse()?, used)));
                let parsed: Result<_, <Scope as std::str::FromStr>::Err> = parsed.collect();
                parsed.map_err(|error| told(&error))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(told(&error)),
        };
        Ok(Self { file, used: Mutex::new(used) })
    }

    /// Pools have these scopes from now on: written down before it returns. Answers with the other
    /// scopes in which something may be left. On an error nothing is changed.
    pub(super) fn keep<'a>(
        &self,
        configured: impl Iterator<Item = &'a Scope>,
        now: Time,
    ) -> io::Result<BTreeSet<Scope>> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next: BTreeMap<Scope, Used> = used
            .iter()
            .map(|(scope, used)| (scope.clone(), used.without_pool_since.unwrap_or(now)))
            .filter(|(_, since)| *since + FORGOTTEN > now)
            .map(|(scope, since)| (scope, Used { without_pool_since: Some(since) }))
            .collect();
        next.extend(configured.map(|scope| (scope.clone(), Used { without_pool_since: None })));
        if next != *used {
            self.write(&next).map_err(|error| {
                io::Error::other(format!("{} cannot be written: {error}", self.file.display()))
            })?;
            *used = next;
        }
        let left = used.iter().filter(|(_, used)| used.without_pool_since.is_some());
        Ok(left.map(|(scope, _)| scope.clone()).collect())
    }

    fn write(&self, used: &BTreeMap<Scope, Used>) -> io::Result<()> {
        let named: BTreeMap<String, Used> =
            used.iter().map(|(scope, used)| (scope.to_string(), *used)).collect();
        let draft = self.file.with_extension("json.new");
        let mut out = fs::File::create(&draft)?;
        out.write_all(&serde_json::to_vec_pretty(&named)?)?;
        out.sync_all()?;
        fs::rename(&draft, &self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(texts: &[&str]) -> BTreeSet<Scope> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_scope_without_a_pool_is_remembered_over_restarts_and_then_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let begin: Time = "2026-11-01T00:00:00Z".parse().unwrap();
        let (both, one) = (scopes(&["octo-org", "octo-org/app"]), scopes(&["octo-org"]));
        // Every start reads what the one before has written.
        let keep = |configured: &BTreeSet<Scope>, hours: u32| {
            let now = begin + Duration::from_secs(3600) * hours;
            Scopes::open(folder.path()).unwrap().keep(configured.iter(), now).unwrap()
        };
        assert_eq!(keep(&both, 0), scopes(&[]));
        // It was used for weeks; what counts is since when it is without a pool.
        assert_eq!(keep(&one, 1000), scopes(&["octo-org/app"]));
        assert_eq!(keep(&one, 1047), scopes(&["octo-org/app"]));
        assert_eq!(keep(&one, 1048), scopes(&[]));
        assert_eq!(keep(&both, 1049), scopes(&[]));
        assert_eq!(keep(&one, 1050), scopes(&["octo-org/app"]), "it was used anew");
    }

    #[test]
    fn a_scope_that_comes_back_is_no_longer_without_a_pool() {
        let folder = tempfile::tempdir().unwrap();
        let now: Time = "2026-11-01T00:00:00Z".parse().unwrap();
        let known = Scopes::open(folder.path()).unwrap();
        let (both, one) = (scopes(&["octo-org", "enterprises/octo"]), scopes(&["octo-org"]));
        known.keep(both.iter(), now).unwrap();
        assert_eq!(known.keep(one.iter(), now).unwrap(), scopes(&["enterprises/octo"]));
        assert_eq!(known.keep(both.iter(), now).unwrap(), scopes(&[]));
    }

    #[test]
    fn a_broken_file_is_named_and_not_taken_for_an_empty_one() {
        for text in ["{", r#"{"not a scope": {"without_pool_since": null}}"#] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("scopes.json"), text).unwrap();
            let error = Scopes::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains("scopes.json") && error.contains("mend"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let known = Scopes::open(&folder.path().join("gone")).unwrap();
        let now: Time = "2026-11-01T00:00:00Z".parse().unwrap();
        let error = known.keep(scopes(&["octo-org"]).iter(), now).unwrap_err().to_string();
        assert!(error.contains("scopes.json"), "{error}");
        assert_eq!(known.used.lock().unwrap().len(), 0);
    }
}
