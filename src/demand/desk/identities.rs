//! Who the scopes of the pools are: told to the desk by whoever asks GitHub, and doubted by what the desk
//! hears.

use std::collections::{BTreeMap, BTreeSet};

use runner_fleet_actors::{
    job::{Identity, Serves},
    name::Scope,
};

use super::Desk;

impl Desk {
    /// GitHub's API has told who these scopes are. Jobs that wait are matched anew.
    pub fn learn(&self, identities: &BTreeMap<Scope, Identity>) {
        let mut state = self.state();
        for serves in &mut state.serves {
            serves.identity = identities.get(&serves.scope).cloned();
        }
        self.rematch(&mut state);
    }

    /// Puts into `pools` who their scopes are.
    pub fn identify(&self, pools: &mut [Serves]) {
        let state = self.state();
        for pool in pools {
            let known = state.serves.iter().find(|serves| serves.scope == pool.scope);
            pool.identity = known.and_then(|serves| serves.identity.clone());
        }
    }

    /// The scopes that news call otherwise than GitHub's API last did. Waits until there is one.
    pub async fn renamed(&self) -> BTreeSet<Scope> {
        loop {
            let renamed = std::mem::take(&mut self.state().renamed);
            if !renamed.is_empty() {
                return renamed;
            }
            self.renamed.notified().await;
        }
    }
}
