//! Who can take a job, who is nobody to count on, and who is missed least.

use super::{ASKED_FOR, Member, Roster};
use crate::{
    event::{DrainReason, Phase},
    name::RunnerName,
    port::{Time, is_outdated},
    runner::State,
};

impl Roster {
    /// Notices who takes far longer to come online than others did: that is a launch that failed, until he is
    /// online. The plan looks again when the next one may be.
    pub fn notice(&mut self, now: Time) {
        let patience = self.boots.patience();
        // Where the forge is not seen, nobody is seen online.
        let is_due = |due: Time| now >= due && self.forge_seen.is_some_and(|seen| seen >= due);
        let coming = self.members.coming().map(|(made, name)| (made, made + patience, name));
        let late = coming.clone().take_while(|(_, due, _)| is_due(*due));
        let late: Vec<_> = late.map(|(made, _, name)| (made, name.clone())).collect();
        let next = coming.map(|(_, due, _)| due).nth(late.len());
        self.late_at = next.filter(|next| now < *next);
        for (made, name) in late {
            self.members.change(&name, |member| member.late = true);
            self.failures.late(&name, made, patience, now);
        }
    }

    /// Runners that serve or will serve a job, as far as anybody can say.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.members.sums().serve
    }

    /// Runners that take far longer to come online than others did, and were not asked to drain a moment ago,
    /// those that were made first before the others. None while one of them goes.
    #[must_use]
    pub fn late_first(&self, now: Time) -> Vec<(RunnerName, Phase)> {
        if self.count_late() == 0 {
            return Vec::new();
        }
        // One after the other: where none comes online, a VM for each would be booted in vain over and over.
        let goes = |member: &Member| {
            let overdue = matches!(member.state.reason(), Some(DrainReason::Overdue { .. }));
            overdue && member.state.holds_vm()
        };
        if self.members.values().any(goes) {
            return Vec::new();
        }
        let mut late: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.late && member.may_be_asked(now))
            .map(|(name, member)| (member.created_at, name.clone(), member.state.phase()))
            .collect();
        late.sort();
        late.into_iter().map(|(_, name, phase)| (name, phase)).collect()
    }

    /// How many are late.
    #[must_use]
    pub fn count_late(&self) -> u32 {
        self.members.sums().late
    }

    fn drainable(&self, now: Time) -> impl Iterator<Item = (&RunnerName, &Member)> {
        self.members.iter().filter(move |(_, member)| {
            member.state.phase() == Phase::Idle && member.may_be_asked(now)
        })
    }

    /// Whom a shrink takes, in this order: who cannot have a job, those that are not launched yet before those
    /// that boot, the youngest first; then the idle ones, the oldest first. Nobody who was asked a moment ago.
    #[must_use]
    pub fn least_missed_first(&self, now: Time) -> Vec<RunnerName> {
        let mut unborn: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| is_unborn(&member.state) && member.serves())
            .filter(|(_, member)| member.may_be_asked(now))
            .map(|(name, member)| {
                let launched = member.state.known().is_some_and(|known| known.vm.is_some());
                (launched, std::cmp::Reverse(member.created_at), name)
            })
            .collect();
        unborn.sort();
        let unborn = unborn.into_iter().map(|(_, _, name)| name.clone());
        unborn.chain(self.idle_oldest_first(now)).collect()
    }

    /// Idle runners that were not asked to drain a moment ago, the oldest first.
    #[must_use]
    pub fn idle_oldest_first(&self, now: Time) -> Vec<RunnerName> {
        let mut idle: Vec<_> =
            self.drainable(now).map(|(name, member)| (member.created_at, name)).collect();
        idle.sort();
        idle.into_iter().map(|(_, name)| name.clone()).collect()
    }

    /// Idle runners of another shape than `shape`, the oldest first. One whose shape is not known is
    /// not outdated: a VM that cannot say what it is must not be replaced for ever.
    #[must_use]
    pub fn idle_outdated(&self, shape: &str, now: Time) -> Vec<RunnerName> {
        if !self.members.idle_shapes().any(|own| is_outdated(own, shape)) {
            return Vec::new();
        }
        let mut idle: Vec<_> = self
            .drainable(now)
            .filter(|(_, member)| member.is_outdated(shape))
            .map(|(name, member)| (member.created_at, name))
            .collect();
        idle.sort();
        idle.into_iter().map(|(_, name)| name.clone()).collect()
    }

    /// Runners being replaced because they are outdated.
    #[must_use]
    pub fn count_outdated_draining(&self) -> u32 {
        let n = self
            .members
            .values()
            .filter(|member| {
                member.state.phase() == Phase::Draining
                    && member.state.reason() == Some(&DrainReason::Outdated)
            })
            .count();
        u32::try_from(n).unwrap_or(u32::MAX)
    }
}

/// Whether its runner was never online: it can have no job.
pub(super) fn is_unborn(state: &State) -> bool {
    let waits = matches!(state, State::Creating { .. } | State::Registering { .. });
    waits && state.known().is_some_and(|known| !known.was_online)
}

impl Member {
    /// Whether it is online by that state and was not before. Of one that was found online nobody saw when it came.
    pub(super) fn comes_online(&self, state: &State) -> bool {
        let online = matches!(state.phase(), Phase::Idle | Phase::Busy);
        online && is_unborn(&self.state) && !self.state.is_found()
    }

    /// Whether it serves a job or will serve one, as far as anybody can say: not where it takes far too long to
    /// come online, where its launch failed in doubt, or where it goes once that is answered.
    pub(super) fn serves(&self) -> bool {
        let leaves = matches!(&self.state, State::Creating { wish: Some(_), .. });
        let lives = self.state.phase() < Phase::Draining;
        lives && !self.late && !leaves && self.state.in_doubt().is_none()
    }

    /// Whether it was not asked to drain a moment ago.
    fn may_be_asked(&self, now: Time) -> bool {
        self.asked_at.is_none_or(|asked| now - asked >= ASKED_FOR)
    }

    fn is_outdated(&self, shape: &str) -> bool {
        let own = self.state.known().and_then(|known| known.shape.as_deref());
        own.is_some_and(|own| is_outdated(own, shape))
    }
}
