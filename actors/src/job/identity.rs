//! Who a scope is, whatever it is called: its number at GitHub, and the name that it has now. **Pure.**
//!
//! Repositories and organisations are renamed and transferred; their numbers stay. A number is believed
//! only where GitHub's own API told it over this fleet's credentials. A webhook's never is: whoever has a
//! public App installed has signed deliveries with any name and number of his own, and a name that our
//! repository has left can be taken by anybody. Following the redirects of the old name, without a
//! number, is the alternative: it ends, or leads to a stranger, on the day on which the name is taken.

use serde::{Deserialize, Serialize};

use crate::name::Scope;

/// What GitHub's API says of a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// GitHub's number of the repository or organisation: it stays where a name does not.
    pub id: u64,
    /// Its name now.
    pub now: Scope,
}

impl Identity {
    /// Whether it is no longer called as the configuration has it.
    #[must_use]
    pub fn has_left(&self, configured: &Scope) -> bool {
        !self.now.is_same(configured)
    }
}
