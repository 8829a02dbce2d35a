//! Launches as they are shown: how long they take, which are held back, where those failed, and what ends that.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    port::{PortError, Time},
    sight::moment,
};

/// Where launches fail: what has to come back before the next one can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The forge as a whole: it is away, or limits us.
    Forge,
    /// What the forge says of the pool's scope, group or labels.
    Scope,
    /// The cloud as a whole: it is away, limits us, or refuses who we are.
    Cloud,
    /// This kind of VM: its image, size, quota, room, or what happens when it boots.
    Shape,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forge => "the forge",
            Self::Scope => "its scope at the forge",
            Self::Cloud => "the cloud",
            Self::Shape => "its kind of VM",
        })
    }
}

/// How long the boots of a pool take, from the decision to launch until the runner is online.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootSnapshot {
    /// How many are known.
    pub boots: u32,
    /// The shortest.
    pub shortest: Duration,
    /// The median.
    pub median: Duration,
    /// The 99th percentile.
    pub p99: Duration,
}

/// Launches that are held back because some failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldSnapshot {
    /// Where they failed.
    pub place: Place,
    /// When the first of them did.
    pub since: Time,
    /// When one is tried next, unless it ends before.
    pub until: Time,
    /// How many failed in a row.
    pub failures: u32,
    /// The last failure.
    pub error: PortError,
    /// What ends it, for a person.
    pub ends: String,
}

impl HoldSnapshot {
    /// It in a sentence: where, since when, how often, what, when one is tried next, and what ends it.
    #[must_use]
    pub fn said(&self, now: Time) -> String {
        let Self { place, since, until, failures, error, ends } = self;
        let next = match now < *until {
            true => format!("one tries at {}, or {ends}", moment(*until, now)),
            false => "one finds out now whether it is over".to_owned(),
        };
        let since = moment(*since, now);
        format!(
            "no launches because of {place} since {since} ({failures} in a row: {error}); {next}"
        )
    }
}
