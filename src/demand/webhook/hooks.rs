//! Which webhooks deliver here: what deliveries say of themselves, and what GitHub has confirmed.
//!
//! A delivery names its hook in a header, and headers are not signed: one captured body can be sent
//! under any number. So a hook that was only heard of is held in memory, few at a time and the newest
//! first, until GitHub shows its deliveries; only then is it kept, and looked through from then on. How
//! many GitHub is asked about is bounded too. A GitHub App has one webhook, whatever number it is told
//! under (GitHub docs, "Get a delivery for an app webhook").

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use runner_fleet_actors::{job::Serves, name::Scope};
use tokio::sync::Notify;

use super::repair::Hook;

/// Hooks that were only heard of; of more the one that was heard of first is forgotten.
const HEARD_MAX: usize = 32;
/// Hooks that are kept. GitHub allows 20 of one event in a repository or organisation (GitHub docs,
/// "Webhooks").
pub const KEPT_MAX: usize = 100;
/// Hooks that GitHub has refused to tell of and that are not asked about again while they are known; and
/// those of which that was said.
const REFUSED_MAX: usize = 256;

/// The hooks of a daemon. Shared by the door, which hears of them, and by whoever asks GitHub.
#[derive(Debug, Default)]
pub struct Hooks {
    known: Mutex<Known>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Known {
    heard: VecDeque<Hook>,
    confirmed: BTreeSet<Hook>,
    refused: VecDeque<Hook>,
    told: VecDeque<Hook>,
}

impl Hooks {
    /// A delivery says that it came through this hook.
    pub fn heard(&self, hook: Hook) {
        let mut known = self.known();
        if known.confirmed.contains(&hook) || known.refused.contains(&hook) {
            return;
        }
        known.heard.retain(|one| *one != hook);
        if known.heard.len() >= HEARD_MAX {
            known.heard.pop_front();
        }
        known.heard.push_back(hook);
        drop(known);
        self.bell.notify_one();
    }

    /// The hook that was heard of last, to be asked about. Waits until there is one.
    pub async fn next(&self) -> Hook {
        loop {
            let next = self.known().heard.pop_back();
            match next {
                Some(hook) => return hook,
                None => self.bell.notified().await,
            }
        }
    }

    /// GitHub shows the deliveries of this hook. Whether it is new and may be kept.
    pub fn confirmed(&self, hook: &Hook) -> bool {
        let mut known = self.known();
        known.heard.retain(|one| one != hook);
        known.told.retain(|one| one != hook);
        known.confirmed.len() < KEPT_MAX && known.confirmed.insert(hook.clone())
    }

    /// The disk did not take it: it is asked about when it is heard of again.
    pub fn unkept(&self, hook: &Hook) {
        self.known().confirmed.remove(hook);
    }

    /// GitHub knows no such hook, or does not tell of it.
    pub fn refused(&self, hook: Hook) {
        let mut known = self.known();
        known.confirmed.remove(&hook);
        known.heard.retain(|one| *one != hook);
        if known.refused.len() >= REFUSED_MAX {
            known.refused.pop_front();
        }
        known.refused.push_back(hook);
    }

    /// Whether nobody was told yet that GitHub does not tell of this hook; now somebody is.
    pub fn is_news(&self, hook: &Hook) -> bool {
        let mut known = self.known();
        if known.told.contains(hook) {
            return false;
        }
        if known.told.len() >= REFUSED_MAX {
            known.told.pop_front();
        }
        known.told.push_back(hook.clone());
        true
    }

    /// A new look: rights may have been given for what was refused, and what was confirmed may have lost
    /// its mark. Whoever looks confirms what is kept.
    pub fn forgive(&self) {
        let mut known = self.known();
        known.refused.clear();
        known.confirmed.clear();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a hook may tell of jobs for these pools.
#[must_use]
pub fn is_near(hook: &Hook, pools: &[Serves]) -> bool {
    let Some(of) = hook.scope().and_then(Scope::owner) else { return true };
    pools.iter().any(|pool| pool.may_have(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(id: u64) -> Hook {
        Hook::new(id, Some("octo-org".parse().unwrap()))
    }

    #[tokio::test]
    async fn of_many_numbers_that_one_body_is_sent_under_few_are_held() {
        let hooks = Hooks::default();
        (0..1500).for_each(|id| hooks.heard(hook(id)));
        let mut asked = Vec::new();
        for _ in 0..HEARD_MAX {
            let next = hooks.next().await;
            asked.push(next.id());
            hooks.refused(next);
        }
        assert_eq!(asked[..2], [1499, 1498], "the newest first");
        assert_eq!(hooks.known().heard.len(), 0);
        hooks.heard(hook(1499));
        assert_eq!(hooks.known().heard.len(), 0, "it was asked about");
    }

    #[test]
    fn what_is_confirmed_is_bounded_and_new_once() {
        let hooks = Hooks::default();
        let new = (0..1500).filter(|id| hooks.confirmed(&hook(*id))).count();
        assert_eq!(new, KEPT_MAX);
        assert!(!hooks.confirmed(&hook(0)));
        hooks.heard(hook(0));
        assert_eq!(hooks.known().heard.len(), 0, "it is known");
    }

    #[test]
    fn that_github_does_not_tell_of_a_hook_is_said_once_until_it_does() {
        let hooks = Hooks::default();
        assert!(hooks.is_news(&hook(1)));
        hooks.refused(hook(1));
        hooks.forgive();
        assert!(!hooks.is_news(&hook(1)) && hooks.is_news(&hook(2)), "once for each");
        let _new = hooks.confirmed(&hook(1));
        assert!(hooks.is_news(&hook(1)), "it has told meanwhile");
        (0..1500).for_each(|id| assert!(hooks.is_news(&hook(10_000 + id))));
        assert_eq!(hooks.known().told.len(), REFUSED_MAX);
    }

    #[test]
    fn a_hook_of_an_owner_without_a_pool_is_none_of_ours() {
        let pool =
            |scope: &str| Serves::new("large".parse().unwrap(), scope.parse().unwrap(), Vec::new());
        let near = |hook_of: Option<&str>, scopes: &[&str]| {
            let hook = Hook::new(1, hook_of.map(|scope| scope.parse().unwrap()));
            is_near(&hook, &scopes.iter().map(|scope| pool(scope)).collect::<Vec<_>>())
        };
        assert!(
            near(Some("octo-org"), &["octo-org/app"]) && near(Some("Octo-Org/x"), &["octo-org"])
        );
        assert!(near(None, &["octo-org"]) && near(Some("evil"), &["enterprises/octo"]));
        assert!(!near(Some("evil/repo"), &["octo-org", "octo-org/app"]));
    }
}
