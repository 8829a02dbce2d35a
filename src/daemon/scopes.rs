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
    time::Duration,
};

use runner_fleet_actors::{name::Scope, port::Time};
use serde::{Deserialize, Serialize};

use super::kept::Kept;
use crate::state::StateFolder;

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
pub(super) struct Scopes(Kept<BTreeMap<Scope, Used>>);

impl Scopes {
    /// Reads what an earlier daemon kept in `folder`. A file that cannot be understood is moved aside:
    /// what it told of is looked for in the scopes of the configuration only.
    ///
    /// # Errors
    /// Where the file cannot be read or moved.
    pub(super) fn open(folder: &StateFolder) -> Result<Self, String> {
        let costs = "registrations that were left in scopes without a pool are not looked for; GitHub \
                     removes them within a day";
        Kept::open(folder, "scopes.json", costs).map(Self)
    }

    /// Pools have these scopes from now on: written down before it returns, as far as the disk takes
    /// it. What it refuses is a trouble, and is written when it takes it again ([`Scopes::write_again`]):
    /// a fleet that stands still for it would cost more than a registration that is looked for only as
    /// long as this daemon lives. Answers with the other scopes in which something may be left.
    pub(super) fn keep<'a>(
        &self,
        configured: impl Iterator<Item = &'a Scope>,
        now: Time,
    ) -> BTreeSet<Scope> {
        let mut used: BTreeMap<Scope, Used> = self
            .0
            .get()
            .into_iter()
            .map(|(scope, used)| (scope, used.without_pool_since.unwrap_or(now)))
            .filter(|(_, since)| *since + FORGOTTEN > now)
            .map(|(scope, since)| (scope, Used { without_pool_since: Some(since) }))
            .collect();
        used.extend(configured.map(|scope| (scope.clone(), Used { without_pool_since: None })));
        self.0.keep(used.clone());
        used.retain(|_, used| used.without_pool_since.is_some());
        used.into_keys().collect()
    }

    /// Writes again what the disk refused.
    pub(super) fn write_again(&self) {
        self.0.write_again();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, StateFolder) {
        let place = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(place.path()).unwrap();
        (place, folder)
    }

    fn scopes(texts: &[&str]) -> BTreeSet<Scope> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_scope_without_a_pool_is_remembered_over_restarts_and_then_forgotten() {
        let (_place, folder) = folder();
        let begin: Time = "2026-11-01T00:00:00Z".parse().unwrap();
        let (both, one) = (scopes(&["octo-org", "octo-org/app"]), scopes(&["octo-org"]));
        // Every start reads what the one before has written.
        let keep = |configured: &BTreeSet<Scope>, hours: u32| {
            let now = begin + Duration::from_secs(3600) * hours;
            Scopes::open(&folder).unwrap().keep(configured.iter(), now)
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
        let (_place, folder) = folder();
        let now: Time = "2026-11-01T00:00:00Z".parse().unwrap();
        let known = Scopes::open(&folder).unwrap();
        let (both, one) = (scopes(&["octo-org", "enterprises/octo"]), scopes(&["octo-org"]));
        let _left = known.keep(both.iter(), now);
        assert_eq!(known.keep(one.iter(), now), scopes(&["enterprises/octo"]));
        assert_eq!(known.keep(both.iter(), now), scopes(&[]));
    }

    #[test]
    fn what_the_disk_refuses_is_a_trouble_until_it_takes_it() {
        let (place, folder) = folder();
        let known = Scopes::open(&folder).unwrap();
        let now: Time = "2026-11-01T00:00:00Z".parse().unwrap();
        // Where the draft should be lies something that cannot be removed as a file.
        let in_the_way = place.path().join("scopes.json.new");
        std::fs::create_dir(&in_the_way).unwrap();
        assert_eq!(known.keep(scopes(&["octo-org"]).iter(), now), scopes(&[]));
        let reasons = folder.troubles().reasons();
        assert!(reasons.len() == 1 && reasons[0].contains("scopes.json"), "{reasons:?}");
        std::fs::remove_dir(&in_the_way).unwrap();
        known.write_again();
        assert_eq!(folder.troubles().reasons(), [""; 0]);
        let again = Scopes::open(&folder).unwrap();
        assert_eq!(again.keep(std::iter::empty(), now), scopes(&["octo-org"]));
    }
}
