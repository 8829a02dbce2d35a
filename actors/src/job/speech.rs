//! Whether a webhook's word about a runner is about one of ours. **Pure.**
//!
//! A runner's name is unique in its scope only, and deliveries come from whoever installed a public
//! App. So a word counts if the job's repository lies in the scope of the runner's pool *and* the number
//! of the runner is the one that its registration got. The first is decided here; the second here as far
//! as the number is known, and again by the runner itself.
//!
//! Runners of a scale set are registered through another service, and whether webhooks name them by the
//! number of that service was not seen. So for such pools it is learned ([`Numbers`]): where the number
//! of runner after runner differs, though repository, name and labels agree, and none ever was the same,
//! they are two kinds of numbers, and prove nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{JobFacts, Serves};
use crate::name::{PoolName, RegistrationId, RunnerName};

/// So many runners of a pool must have been named by another number, and none by its own.
const ENOUGH: usize = 3;

/// What becomes of a word about a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It names a runner of no pool here.
    NotOurs,
    /// It comes from a repository outside of the pool's scope.
    OutOfScope,
    /// It does not say which registration it means, or means another one.
    OtherRunner,
    /// It is about this runner; with the number that the runner must agree with, where numbers can.
    Ours(Option<RegistrationId>),
}

/// What was learned of the numbers in webhooks, by pool. Bounded by the number of pools.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    pools: BTreeMap<PoolName, Seen>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    agreed: bool,
    /// Runners whose number differed; no more than [`ENOUGH`].
    differed: BTreeSet<RunnerName>,
}

impl Seen {
    fn two_kinds(&self) -> bool {
        !self.agreed && self.differed.len() >= ENOUGH
    }
}

impl Numbers {
    /// Judges a word about a runner. `known`: the number of its registration, where it is known.
    pub fn judge(
        &mut self,
        runner: &RunnerName,
        facts: &JobFacts,
        pools: &[Serves],
        known: Option<RegistrationId>,
    ) -> Word {
        let pool = runner.pool();
        let Some(serves) = pools.iter().find(|serves| serves.pool == pool) else {
            return Word::NotOurs;
        };
        if !serves.reaches(facts) {
            return Word::OutOfScope;
        }
        let said = facts.runner_id;
        if !serves.scale_set {
            return match (said, known) {
                (None, _) => Word::OtherRunner,
                (Some(said), Some(known)) if said != known => Word::OtherRunner,
                (said, _) => Word::Ours(said),
            };
        }
        self.pools.retain(|pool, _| pools.iter().any(|serves| serves.pool == *pool));
        let of_its_kind = serves.lacks(&facts.labels).is_none();
        self.compare(runner, of_its_kind, said, known)
    }

    /// Judges a word about a runner of a scale set by its number alone. `of_its_kind`: everything else
    /// says that it is this runner.
    pub fn compare(
        &mut self,
        runner: &RunnerName,
        of_its_kind: bool,
        said: Option<RegistrationId>,
        known: Option<RegistrationId>,
    ) -> Word {
        let seen = self.pools.entry(runner.pool()).or_default();
        match (said, known) {
            (Some(said), Some(known)) if said == known => {
                seen.agreed = true;
                seen.differed.clear();
                Word::Ours(Some(said))
            }
            (Some(said), None) if !seen.two_kinds() => Word::Ours(Some(said)),
            (said, known) => {
                let teaches = of_its_kind && said.is_some() && known.is_some();
                if teaches && !seen.agreed && !seen.two_kinds() {
                    seen.differed.insert(runner.clone());
                }
                if of_its_kind && seen.two_kinds() { Word::Ours(None) } else { Word::OtherRunner }
            }
        }
    }

    /// Pools whose runners webhooks name by numbers of another kind.
    pub fn of_two_kinds(&self) -> impl Iterator<Item = &PoolName> {
        self.pools.iter().filter(|(_, seen)| seen.two_kinds()).map(|(pool, _)| pool)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    fn runner(number: u64) -> RunnerName {
        format!("ci--large--{number:012x}").parse().unwrap()
    }

    fn pools(scope: &str, scale_set: bool) -> Vec<Serves> {
        let labels = vec!["large".to_owned()];
        let large = Serves::new("large".parse().unwrap(), scope.parse().unwrap(), labels);
        vec![Serves { scale_set, ..large }]
    }

    fn word(repository: Option<&str>, runner_id: Option<u64>) -> JobFacts {
        JobFacts {
            repository: repository.map(Into::into),
            labels: vec!["large".into()],
            runner_id: runner_id.map(RegistrationId),
            ..JobFacts::default()
        }
    }

    const OURS: Option<RegistrationId> = Some(RegistrationId(7));

    #[test]
    fn strangers_cannot_speak_of_our_runners_whatever_they_name() {
        for (scope, foreign) in [
            ("octo-org", "evil/repo"),
            ("octo-org/app", "octo-org/other"),
            ("octo-org/app", "octo-org-2/app"),
            ("enterprises/octo", "octo-org/app"),
        ] {
            let (mut numbers, pools) = (Numbers::default(), pools(scope, false));
            let told = word(Some(foreign), Some(7));
            assert_eq!(numbers.judge(&runner(1), &told, &pools, OURS), Word::OutOfScope, "{scope}");
            let nowhere = word(None, Some(7));
            assert_eq!(numbers.judge(&runner(1), &nowhere, &pools, OURS), Word::OutOfScope);
        }
        let other: RunnerName = "ci--other--000000000001".parse().unwrap();
        let told = word(Some("octo-org/app"), Some(7));
        let word = Numbers::default().judge(&other, &told, &pools("octo-org", false), OURS);
        assert_eq!(word, Word::NotOurs);
    }

    #[test]
    fn within_the_scope_the_number_of_the_registration_decides() {
        let (mut numbers, pools) = (Numbers::default(), pools("Octo-Org/App", false));
        let mut judge =
            |id, known| numbers.judge(&runner(1), &word(Some("octo-org/app"), id), &pools, known);
        assert_eq!(judge(Some(7), OURS), Word::Ours(OURS));
        assert_eq!(judge(Some(7), None), Word::Ours(OURS), "the runner itself compares");
        assert_eq!(judge(Some(8), OURS), Word::OtherRunner);
        assert_eq!(judge(None, OURS), Word::OtherRunner, "whose word it is nobody knows");
        for _ in 0..9 {
            assert_eq!(judge(Some(8), OURS), Word::OtherRunner, "repeating it proves nothing");
        }
    }

    #[test]
    fn an_enterprise_is_known_by_the_deliverys_own_word() {
        let (mut numbers, pools) = (Numbers::default(), pools("enterprises/octo", false));
        let told = JobFacts { enterprise: Some("Octo".into()), ..word(Some("any/app"), Some(7)) };
        assert_eq!(numbers.judge(&runner(1), &told, &pools, OURS), Word::Ours(OURS));
    }

    #[test]
    fn a_scale_set_whose_numbers_never_agree_is_believed_without_them_after_some_runners() {
        let (mut numbers, pools) = (Numbers::default(), pools("octo-org", true));
        let told = |id| word(Some("octo-org/app"), Some(id));
        for n in 1..=2 {
            for _ in 0..5 {
                let word = numbers.judge(&runner(n), &told(100 + n), &pools, OURS);
                assert_eq!(word, Word::OtherRunner, "one runner told of often is one runner");
            }
        }
        assert_eq!(numbers.of_two_kinds().count(), 0);
        assert_eq!(numbers.judge(&runner(3), &told(103), &pools, OURS), Word::Ours(None));
        assert_eq!(numbers.of_two_kinds().count(), 1);
        let foreign = word(Some("evil/repo"), Some(103));
        assert_eq!(numbers.judge(&runner(3), &foreign, &pools, OURS), Word::OutOfScope);
        let odd = JobFacts { labels: vec!["gpu".into()], ..told(104) };
        assert_eq!(numbers.judge(&runner(4), &odd, &pools, OURS), Word::OtherRunner);
    }

    #[test]
    fn one_number_that_agrees_makes_numbers_count_for_good() {
        let (mut numbers, pools) = (Numbers::default(), pools("octo-org", true));
        let told = |id| word(Some("octo-org/app"), Some(id));
        assert_eq!(numbers.judge(&runner(1), &told(7), &pools, OURS), Word::Ours(OURS));
        for n in 2..20 {
            let word = numbers.judge(&runner(n), &told(100 + n), &pools, OURS);
            assert_eq!(word, Word::OtherRunner);
        }
        let mut late = Numbers::default();
        for n in 1..=3 {
            late.judge(&runner(n), &told(100 + n), &pools, OURS);
        }
        late.judge(&runner(4), &told(7), &pools, OURS);
        assert_eq!(late.judge(&runner(5), &told(105), &pools, OURS), Word::OtherRunner);
    }
}
