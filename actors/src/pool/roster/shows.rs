//! From when on a listing of the forge may show something.
//!
//! Each of its pages costs a call of an hour's budget. Where guests report, they tell first what a listing would
//! show, and a runner that boots cannot be online sooner than any was before: until then there is nothing to see.
//! What is seen at the quiet pace all the same repairs what was lost on its way.

use std::time::Duration;

use super::{Member, Roster};
use crate::{
    port::Time,
    runner::{Limits, State, Step},
};

/// How long the registration of a runner that has ended is left to vanish by itself before it is looked for. Nobody
/// waits for it: its place is free.
const VANISHES: Duration = Duration::from_secs(10);

/// What a listing of the forge may show of a runner, as far as that is its own affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shown {
    /// That it is online, or whether there is one at all.
    Doubted,
    /// That it is online; whether its guest has reported.
    Online(bool),
    /// That it has a job or none, of one whose guest has not reported, whatever is expected of guests.
    Work,
    /// That its registration is gone.
    Gone,
}

/// What a listing may show of it, and since when that is awaited. A function of the runner alone, so that it is kept
/// as runners change.
pub(super) fn shown(member: &Member) -> Option<(Shown, Time)> {
    match &member.state {
        state @ (State::Creating { known, .. } | State::Registering { known, .. }) => {
            let doubted = state.in_doubt().is_some();
            let what = if doubted { Shown::Doubted } else { Shown::Online(known.reports) };
            Some((what, member.created_at))
        }
        State::Idle { since, known, .. } | State::Busy { since, known, .. } => {
            (!known.reports).then_some((Shown::Work, *since))
        }
        State::Draining { drain, known, .. } if !drain.registration_gone => {
            let asks = matches!(drain.step, Step::Ask | Step::Cordon) && !drain.vm_gone;
            let ends = matches!(drain.step, Step::Settle | Step::Delete) || drain.vm_gone;
            let what = if drain.suspect || drain.contradicted {
                Shown::Doubted
            } else if asks && !known.reports {
                Shown::Work
            } else if ends {
                Shown::Gone
            } else {
                return None;
            };
            Some((what, drain.step_since))
        }
        State::Draining { .. } | State::Deleted { .. } => None,
    }
}

impl Roster {
    /// Whether someone waits for a proof that a VM is not there, which only listings of all VMs give.
    #[must_use]
    pub fn absence_awaited(&self) -> bool {
        self.members.sums().unproven > 0
    }

    /// From when on the forge may show something that is awaited and that nobody else tells; `None`: nothing.
    #[must_use]
    pub fn forge_shows_from(&self, limits: &Limits, now: Time) -> Option<Time> {
        // A side that failed shows by a listing that it is back.
        let unseen = self.cloud_seen.is_none() || self.forge_seen.is_none();
        if unseen || !self.failures.shown().is_empty() {
            return Some(now);
        }
        let boots = self.boots.summary();
        let shortest = boots.as_ref().map_or(Duration::ZERO, |boots| boots.shortest);
        // Far later than others came online, and as late as that is noticed.
        let overdue = self.boots.patience();
        // A guest that is expected to report and has not by then may be mute.
        let usual = boots.as_ref().map_or(overdue, |boots| boots.p99);
        let report = limits.guests_report;
        let from = |(what, since): (Shown, Time)| match what {
            Shown::Doubted => Some(now),
            Shown::Online(true) => Some(since + overdue),
            Shown::Online(false) => Some(since + if report { usual } else { shortest }),
            Shown::Work => Some(now),
            Shown::Gone => Some(since + VANISHES),
        };
        self.members.shown().filter_map(from).min()
    }
}
