//! Which hooks are looked through: those that GitHub has confirmed, as long as it shows what they deliver.

use std::{collections::BTreeMap, time::Duration};

use runner_fleet_actors::port::{ErrorClass, Time};

use super::{
    HOOKS, Hook, LOOKED, LookUps, Repair, is_refusal,
    looks::{FIRST_LOOK, OVERLAP},
};
use crate::demand::{
    ledger::{Entry, LedgerError},
    webhook::hooks,
};

/// How long a kept hook is looked through in vain before it is forgotten: GitHub's log of what it has
/// delivered is empty by then.
const SILENT: Duration = Duration::from_secs(4 * 24 * 3600);

impl Repair {
    /// The hooks that are kept. Those that GitHub has shown nothing of for long are forgotten, and so is
    /// what an older daemon kept without asking: those make themselves known again.
    pub(super) async fn kept(&self) -> Result<Vec<Hook>, LedgerError> {
        let now = self.clock.wall();
        let looked: BTreeMap<_, _> = self.desk.ledger().marks(LOOKED).await?.into_iter().collect();
        let marks = self.desk.ledger().marks(HOOKS).await?;
        // Only what has a mark is confirmed from here on: a ledger that was begun anew has none, and a hook
        // that counted as confirmed without one would never be heard of again.
        self.hooks.forgive();
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for (name, value) in marks {
            let number = name.strip_prefix(HOOKS).unwrap_or_default();
            let last =
                looked.get(&format!("{LOOKED}{number}")).and_then(|at| at.parse::<Time>().ok());
            let heard_lately = last.is_some_and(|last| last + SILENT > now);
            match serde_json::from_str::<Hook>(&value) {
                Ok(hook) if heard_lately && (hook.scope.is_some() || hook.id == 0) => {
                    let _new = self.hooks.confirmed(&hook);
                    kept.push(hook);
                }
                Ok(Hook { scope: None, .. }) => {
                    gone.push(number.to_owned());
                    self.hooks.heard(Hook { id: 0, scope: None });
                }
                Ok(hook) => {
                    gone.push(number.to_owned());
                    self.hooks.heard(hook);
                }
                Err(error) => {
                    tracing::warn!(%name, %error, "a webhook in the ledger cannot be read and is forgotten");
                    gone.push(number.to_owned());
                }
            }
        }
        let forget = |mark: &str, number: &String| Entry::Mark {
            name: format!("{mark}{number}"),
            value: None,
        };
        let entries: Vec<_> =
            gone.iter().flat_map(|one| [forget(HOOKS, one), forget(LOOKED, one)]).collect();
        self.desk.ledger().write(&entries).await?;
        kept.truncate(hooks::KEPT_MAX);
        Ok(kept)
    }

    /// Asks GitHub about hooks that were heard of, and keeps those that it shows.
    pub(super) async fn confirm(&self) {
        let mut purse = LookUps::of_hooks(self.clock.now());
        loop {
            let hook = self.hooks.next().await;
            if !self.desk.serves(|pools| hooks::is_near(&hook, pools)) {
                self.hooks.refused(hook);
                continue;
            }
            while purse.take(1, self.pace.turn, self.clock.now()) == 0 {
                tokio::time::sleep(self.pace.turn).await;
            }
            let shown = self.records.deliveries(&hook, None).await;
            match shown {
                Ok(_) if self.hooks.confirmed(&hook) => {
                    // The first look goes back as far as for a hook that was never looked through.
                    let looked = self.clock.wall() - FIRST_LOOK + OVERLAP;
                    let looked = Entry::Mark {
                        name: format!("{LOOKED}{}", hook.id),
                        value: Some(looked.to_rfc3339()),
                    };
                    let entries: Vec<_> = hook.mark().into_iter().chain([looked]).collect();
                    if let Err(error) = self.desk.ledger().write(&entries).await {
                        tracing::debug!(%hook, %error, "a webhook is kept when it is heard of again");
                        self.hooks.unkept(&hook);
                    }
                }
                Ok(_) => {}
                Err(error) if is_refusal(&error) || error.class == ErrorClass::NotFound => {
                    if self.hooks.is_news(&hook) {
                        tracing::warn!(%hook, %error, "github does not show what this webhook delivers; lost deliveries of it cannot be asked for again");
                    } else {
                        tracing::debug!(%hook, %error, "github still does not show what this webhook delivers");
                    }
                    self.hooks.refused(hook);
                }
                Err(error) => {
                    tracing::debug!(%hook, %error, "a webhook is asked about when it is heard of again");
                    tokio::time::sleep(self.pace.turn).await;
                }
            }
        }
    }
}
