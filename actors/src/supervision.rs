//! Restart intensity: how often a child may die before its parent gives up on it.
//!
//! `actix::Supervisor` neither sees a panic nor waits between restarts, so the house supervises by
//! itself: a drop guard in the child reports its end (`Died`), and the parent asks `decide`.

use std::time::Duration;

use crate::{
    backoff::{self, Curve},
    port::Time,
};

/// How many deaths within how long a child is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Deaths within `within` after which the parent gives up.
    pub deaths: usize,
    /// The window.
    pub within: Duration,
    /// Pause before a restart, growing with each death in the window.
    pub pause: Curve,
}

impl Default for Intensity {
    /// Five deaths in ten minutes. Fewer, and one bad answer from a cloud ends a daemon; many more,
    /// and a crash loop looks like a working fleet.
    fn default() -> Self {
        Self {
            deaths: 5,
            within: Duration::from_secs(600),
            pause: Curve { base: Duration::from_millis(200), cap: Duration::from_secs(30) },
        }
    }
}

/// What to do about a child that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Start it again at this time.
    At(Time),
    /// It dies too often: hand the matter up.
    Escalate,
}

/// Decides over a child whose deaths, the newest included, were at `deaths` (any order).
#[must_use]
pub fn decide(deaths: &[Time], now: Time, intensity: &Intensity) -> Restart {
    let recent = deaths
        .iter()
        .filter(|at| (now - **at).to_std().unwrap_or_default() <= intensity.within)
        .count();
    if recent >= intensity.deaths {
        return Restart::Escalate;
    }
    let attempt = u32::try_from(recent).unwrap_or(u32::MAX);
    Restart::At(now + backoff::delay(attempt, 0, intensity.pause))
}

/// Drops deaths that no longer matter, so that the list stays as short as the intensity.
pub fn forget_old(deaths: &mut Vec<Time>, now: Time, intensity: &Intensity) {
    deaths.retain(|at| (now - *at).to_std().unwrap_or_default() <= intensity.within);
}
