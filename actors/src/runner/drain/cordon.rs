//! The step between knowing that no job runs and deregistering, for runners that nobody can ask: cordon, watch.

use super::Drain;
use crate::{
    backoff,
    port::{ErrorClass, PortError, Time},
    runner::{Known, Limits},
};

/// So often a cordon is asked for in one drain; then only time can tell that the runner is idle.
const TRIES: u32 = 3;

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It may be deregistered.
    On,
    /// Its cordon is asked for.
    Ask,
    /// Nothing before then, or before a listing tells.
    Wait(Time),
    /// Nobody could tell for as long as a drain asks.
    GiveUp,
}

impl Drain {
    /// Whether what shows that no job runs still does, and there is somebody to be deregistered.
    pub(super) fn is_shown_quiet(&self, known: &Known, now: Time) -> bool {
        let gone = self.vm_gone || self.vm_dead(known) || self.registration_gone;
        !gone && (self.stands(now) || known.quiet.is_fresh(now))
    }

    /// How a runner goes on that is shown to be quiet.
    pub(super) fn beyond_quiet(&self, known: &Known, now: Time, limits: &Limits) -> Way {
        if self.stands(now) {
            return Way::On;
        }
        let grantable = limits.cordons && !self.uncordonable;
        let proven = match known.cordon.since {
            _ if !grantable => known.quiet.spans(limits.idle_alone),
            Some(since) => known.quiet.newer_than(since + limits.watch),
            None => false,
        };
        if proven {
            return Way::On;
        }
        let waits = now < self.not_before;
        let begun = known.cordon.since.map_or(self.step_since, |since| since.max(self.step_since));
        // A listing that is as late as listings are still counts.
        let give_up = begun + limits.ask + limits.watch + limits.listing_lag;
        if now >= give_up {
            Way::GiveUp
        } else if grantable && known.cordon.since.is_none() {
            if waits { Way::Wait(self.not_before.min(give_up)) } else { Way::Ask }
        } else {
            Way::Wait(give_up)
        }
    }

    /// Its cordon was asked for, and not granted. What the forge does not have, or does not grant, it will not
    /// have in a minute.
    pub(super) fn not_cordoned(&mut self, error: &PortError, seed: u64, now: Time) {
        let passes = matches!(error.class, ErrorClass::Transient | ErrorClass::RateLimited { .. });
        self.cordon_tries = self.cordon_tries.saturating_add(u32::from(!error.local));
        self.uncordonable |= !passes || self.cordon_tries >= TRIES;
        self.failed(error, backoff::EFFECT, seed, now);
    }
}
