//! Doubt: where only lists, or a word that somebody contradicts, speak for the end of a runner whose VM
//! lives. The runner and its job are then asked for by their numbers, and that answer decides.
//!
//! A list is one witness. It has lacked a working runner for minutes, and all of them at once; whatever
//! ends a runner on its word alone kills a job and calls it finished. A look-up by number is a second one,
//! and costs a call or two. It is made where an end is about to be believed, not with every listing, and
//! ever less often while it settles nothing. The alternative, more listings of the same kind, proves only
//! that the list is wrong for longer.
//!
//! A forge that answers no look-up ends nobody: a runner at work has its own limit, one without work is
//! drained the careful way once it was asked about in vain for as long as a drain asks.

use serde::{Deserialize, Serialize};

use super::{Effect, Known, Limits, State};
use crate::{
    backoff,
    port::{Finding, PortError, Time},
};

/// Something that a look-up is to settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Since when.
    pub since: Time,
    /// When a look-up was last answered; at first, when the doubt began.
    pub heard: Time,
    /// Look-ups that were made for it.
    pub asked: u32,
    /// No further one is made before.
    pub not_before: Time,
}

/// What a look-up says of a runner that is doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has a job.
    AtWork,
    /// It is there, and nothing shows that it has a job.
    There,
    /// It is gone, or its job is over.
    Gone,
}

/// Reads a finding. A registration that is gone runs no job, unless the forge says of the job itself that
/// it runs; where the cloud lacks the VM, a runner that is connected shows that there is one, whatever its busy
/// flag says: that is late and lies, and who is gone is soon not connected any more.
pub(super) fn verdict(finding: &Finding, vm_lost: bool) -> Verdict {
    let busy = finding.registration.as_ref().is_some_and(|one| one.busy == Some(true));
    let online = finding.registration.as_ref().is_some_and(|one| one.online);
    let works = busy || finding.at_work == Some(true);
    if works && (online || !vm_lost) {
        Verdict::AtWork
    } else if vm_lost && !online || finding.registration.is_none() || finding.at_work == Some(false)
    {
        Verdict::Gone
    } else {
        Verdict::There
    }
}

impl Known {
    /// Whether lists alone say that the VM of a busy runner is lost.
    pub(super) fn vm_lost(&self, limits: &Limits) -> bool {
        self.all_gone() || self.vm_gone(limits.idle_proof)
    }

    /// Whether lists have lacked its registration for long enough to ask about it. A guest that reports
    /// gets longer, because its own word is the better one.
    fn unlisted(&self, works: bool, limits: &Limits) -> bool {
        let reports = works && self.answers(limits);
        self.registration_absent.spans(if reports { limits.ask } else { limits.idle_proof })
    }

    /// Whether something speaks for the end of a busy runner that a look-up is to settle.
    pub(super) fn busy_is_doubtful(&self, limits: &Limits) -> bool {
        self.contested.is_some() || self.vm_lost(limits) || self.unlisted(true, limits)
    }

    /// A look-up bears a busy runner out. A word of its end that is older than what the forge's answers
    /// may lag behind was not about this job.
    pub(super) fn borne_out(&mut self, finding: &Finding, now: Time, limits: &Limits) {
        let works = verdict(finding, false) == Verdict::AtWork;
        if works {
            self.hearsay = None;
        }
        if works && self.doubt.is_some_and(|doubt| now >= doubt.since + limits.listing_lag) {
            self.contested = None;
        }
    }

    /// Whether no look-up was answered for as long as a drain asks.
    pub(super) fn asked_in_vain(&self, now: Time, limits: &Limits) -> bool {
        self.doubt.is_some_and(|doubt| now >= doubt.heard + limits.ask)
    }

    /// A look-up was answered.
    pub(super) fn look_up_answered(&mut self, now: Time) {
        if let Some(doubt) = &mut self.doubt {
            doubt.heard = now;
        }
    }

    /// A look-up failed: the next one waits for as long as the forge says.
    pub(super) fn look_up_failed(&mut self, error: &PortError, now: Time) {
        let seed = self.seed();
        if let Some(doubt) = &mut self.doubt {
            let at = backoff::retry_at(error.class, doubt.asked, seed, backoff::LOOK_UP, now);
            doubt.not_before = doubt.not_before.max(at);
        }
    }

    /// Opens a doubt or closes it, and asks where it is time to.
    pub(super) fn look_into(
        &mut self,
        doubtful: bool,
        now: Time,
        limits: &Limits,
    ) -> Option<Effect> {
        if !doubtful {
            self.doubt = None;
            return None;
        }
        let seed = self.seed();
        let doubt =
            self.doubt.get_or_insert(Doubt { since: now, heard: now, asked: 0, not_before: now });
        if self.in_flight.is_some() || now < doubt.not_before {
            return None;
        }
        doubt.asked = doubt.asked.saturating_add(1);
        doubt.not_before = now + backoff::delay(doubt.asked, seed, backoff::LOOK_UP);
        self.fly(Effect::LookUp, now, limits);
        Some(Effect::LookUp)
    }

    /// What spreads its retries.
    pub(super) fn seed(&self) -> u64 {
        self.registration.map_or(0, |id| id.0)
    }
}

impl State {
    /// Whether something about this runner is to be settled by a look-up. A drain asks in its own steps.
    pub(super) fn is_doubtful(&self, limits: &Limits) -> bool {
        match self {
            Self::Busy { known, .. } => known.busy_is_doubtful(limits),
            Self::Registering { known, .. } | Self::Idle { known, .. } => {
                known.all_gone() || known.unlisted(false, limits)
            }
            Self::Creating { known, .. } => known.unlisted(false, limits),
            Self::Draining { .. } | Self::Deleted { .. } => false,
        }
    }

    /// When the next look-up is due, where one is. A drain has that in its own steps.
    pub(super) fn look_up_due(&self) -> Option<Time> {
        match self {
            Self::Draining { .. } | Self::Deleted { .. } => None,
            _ => {
                let known = self.known().filter(|known| known.in_flight.is_none())?;
                known.doubt.map(|doubt| doubt.not_before)
            }
        }
    }
}
