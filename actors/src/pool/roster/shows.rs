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

impl Roster {
    /// From when on the forge may show something that is awaited and that nobody else tells; `None`: nothing.
    #[must_use]
    pub fn forge_shows_from(&self, limits: &Limits, now: Time) -> Option<Time> {
        // A side that failed shows by a listing that it is back.
        let unseen = self.cloud_seen.is_none() || self.forge_seen.is_none();
        if unseen || !self.failures.shown().is_empty() {
            return Some(now);
        }
        let shortest = self.boots.summary().map_or(Duration::ZERO, |boots| boots.shortest);
        // Far later than others came online, and as late as that is noticed.
        let overdue = self.boots.patience();
        let from = |member: &Member| match &member.state {
            State::Creating { known, .. } | State::Registering { known, .. } => {
                let reports = limits.guests_report || known.reports;
                let online = if reports { overdue } else { shortest };
                let doubted = member.state.in_doubt().is_some();
                Some(if doubted { now } else { member.created_at + online })
            }
            State::Idle { known, .. } | State::Busy { known, .. } => {
                (!limits.guests_report && !known.reports).then_some(now)
            }
            State::Draining { drain, known, .. } => {
                let asks = matches!(drain.step, Step::Ask | Step::Cordon) && !known.answers(limits);
                let awaited = asks || drain.suspect || drain.contradicted;
                let ends = matches!(drain.step, Step::Settle | Step::Delete) || drain.vm_gone;
                let from =
                    if awaited { Some(now) } else { ends.then(|| drain.step_since + VANISHES) };
                from.filter(|_| !drain.registration_gone)
            }
            State::Deleted { .. } => None,
        };
        self.members.values().filter_map(from).min()
    }
}
