//! What a cloud says that has changed of late.
//!
//! A listing of everything costs the cloud the more the more there is, and while things change it is asked for
//! every few seconds. What changed is a small answer. But it is **no listing**: a VM that it lacks has not changed, or
//! was not told of, and neither proves anything. So it is a type of its own, and nowhere is one made of the other;
//! whole listings go on, less often, as the repair and the only proof of absence.

use super::{Time, Vm, VmStatus};
use crate::name::{RunnerName, VmId};

/// Some of a fleet's VMs, as a cloud told that they have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    /// VMs as they are.
    pub changed: Vec<Vm>,
    /// VMs of which the cloud says by their identifier that they are deleted. That is a word of its own and no
    /// absence; it ends what was asked to be deleted, and is looked into where nobody asked.
    pub deleted: Vec<(RunnerName, VmId)>,
    /// When it was asked for: it cannot know of anything that happened later.
    pub as_of: Time,
    /// What could not be read, for a person.
    pub faults: Vec<String>,
}

impl Recent {
    /// Nothing, as of then.
    #[must_use]
    pub fn nothing(as_of: Time) -> Self {
        Self { changed: Vec::new(), deleted: Vec::new(), as_of, faults: Vec::new() }
    }

    /// Whether nothing is told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.deleted.is_empty()
    }
}

/// A VM has another condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name, which is the runner's.
    pub name: RunnerName,
    /// Its condition. A VM that went away because its guest powered off is `Stopped`.
    pub status: VmStatus,
    /// When this was so, by the daemon's clock: listings that began earlier are older news.
    pub as_of: Time,
}
