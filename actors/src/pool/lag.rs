//! What a scope has shown of the forge's habits: how late its busy flag is, and whether it gives jobs to runners
//! that it was told to give none. **Pure.**
//!
//! Both decide how a runner goes that nobody can ask: it is cordoned and watched for the longest lag that was
//! shown, and for no less than what is assumed of an unknown forge. From the first job on that came past a cordon,
//! cordons are worth nothing in that scope, and only runners that have been idle for longer than any lag go.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use crate::{
    name::Scope,
    port::Time,
    runner::{Limits, State},
    sight::moment,
};

/// A flag that is later is no late one but a wrong one (seen false for tens of minutes: actions/runner#4422),
/// and no watch is long enough for it.
pub const LONGEST: Duration = Duration::from_secs(10 * 60);

/// What one scope has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Habits {
    /// The longest lag of the busy flag that was shown.
    pub late: Duration,
    /// When it was last shown.
    #[serde(default)]
    pub late_at: Option<Time>,
    /// Jobs that came to a cordoned runner.
    pub leaked: u32,
    /// When the first of them was seen.
    pub leaked_at: Option<Time>,
}

/// What was shown longer ago is believed no more after a restart: forges are mended.
const BELIEVED: chrono::TimeDelta = chrono::TimeDelta::days(30);

/// What the scopes of a fleet have shown. It outlives the actors of runners and pools, and whoever owns the fleet
/// may keep it over a restart.
pub type SharedHabits = Arc<DashMap<Scope, Habits>>;

/// What one step of a runner has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Habit {
    /// How late the flag of its job was.
    pub late: Duration,
    /// Whether a job came to it behind its cordon.
    pub leaked: bool,
}

impl Habit {
    /// What the step from one state of a runner to the next has shown.
    #[must_use]
    pub fn between(before: &State, after: &State) -> Self {
        let late = |state: &State| state.known().and_then(|known| known.late.by);
        let leaked = |state: &State| state.known().is_some_and(|known| known.cordon.leaked);
        Self {
            late: late(after).filter(|_| late(before).is_none()).unwrap_or_default(),
            leaked: leaked(after) && !leaked(before),
        }
    }
}

impl Habits {
    /// Takes in what a runner has shown.
    pub fn learn(&mut self, shown: Habit, now: Time) {
        let late = shown.late.min(LONGEST);
        if !late.is_zero() && late >= self.late {
            (self.late, self.late_at) = (late, Some(now));
        }
        if shown.leaked {
            self.leaked = self.leaked.saturating_add(1);
            self.leaked_at.get_or_insert(now);
        }
    }

    /// What is still believed of it after a restart; whatever wrote it down, within bounds.
    #[must_use]
    pub fn believed(&self, now: Time) -> Self {
        let shown = |at: Option<Time>| at.map(|at| at.min(now)).filter(|at| now - *at < BELIEVED);
        let mut believed = Self::default();
        if let Some(at) = shown(self.late_at) {
            (believed.late, believed.late_at) = (self.late.min(LONGEST), Some(at));
        }
        if let Some(at) = shown(self.leaked_at) {
            (believed.leaked, believed.leaked_at) = (self.leaked, Some(at));
        }
        believed
    }

    /// These limits as far as what was shown allows.
    #[must_use]
    pub fn within(&self, limits: &Limits) -> Limits {
        Limits {
            cordons: limits.cordons && self.leaked == 0,
            watch: limits.watch.max(self.late),
            ..limits.clone()
        }
    }

    /// What of it a person should know; `None` where cordons are worth what they should be.
    #[must_use]
    pub fn said(&self, now: Time) -> Option<String> {
        let since = self.leaked_at.map(|at| moment(at, now))?;
        Some(format!(
            "{} jobs came to runners that were to get none, since {since}: who cannot be asked goes only once \
             idle for long",
            self.leaked
        ))
    }

    /// Whether they are the same limits.
    #[must_use]
    pub fn are_within(&self, limits: &Limits) -> bool {
        self.leaked == 0 && self.late <= limits.watch
    }
}
