//! A pool's runners, and sums over them that are kept as they change: each step of each runner is planned for, and a
//! pool of thousands that counted itself anew for each would do little else.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
};

use super::{
    Member,
    shows::{Shown, shown},
    supply::is_unborn,
};
use crate::{
    event::{Counts, DrainReason, Phase},
    name::RunnerName,
    port::Time,
    runner::State,
};

/// The runners by name. What changes one goes by [`Members::change`].
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    of: BTreeMap<RunnerName, Member>,
    sums: Sums,
    /// Who is on its way online, by when it was made.
    coming: BTreeSet<(Time, RunnerName)>,
    /// How many idle ones have each shape.
    shapes: BTreeMap<String, u32>,
    /// What the forge may show of whom, by since when that is awaited.
    shown: BTreeMap<Shown, BTreeSet<(Time, RunnerName)>>,
}

/// How many there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub counts: Counts,
    /// That may have a VM.
    pub vms: u32,
    /// That serve a job or will serve one.
    pub serve: u32,
    /// That are late.
    pub late: u32,
    /// That an earlier daemon may have ordered, and that no VM is listed of.
    pub ordered: u32,
    /// That wait for a proof that their VM is not there.
    pub unproven: u32,
}

impl Deref for Members {
    type Target = BTreeMap<RunnerName, Member>;

    fn deref(&self) -> &Self::Target {
        &self.of
    }
}

impl Members {
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// Who is on its way online, the oldest first.
    pub fn coming(&self) -> impl Iterator<Item = (Time, &RunnerName)> + Clone {
        self.coming.iter().map(|(created_at, name)| (*created_at, name))
    }

    /// The shapes that idle runners have.
    pub fn idle_shapes(&self) -> impl Iterator<Item = &str> {
        self.shapes.keys().map(String::as_str)
    }

    /// What the forge may show, each with since when the first is awaited.
    pub fn shown(&self) -> impl Iterator<Item = (Shown, Time)> {
        self.shown.iter().filter_map(|(shown, of)| Some((*shown, of.first()?.0)))
    }

    pub fn insert(&mut self, name: RunnerName, member: Member) {
        self.remove(&name);
        self.count(&name, &member, true);
        self.of.insert(name, member);
    }

    pub fn remove(&mut self, name: &RunnerName) -> Option<Member> {
        let member = self.of.remove(name)?;
        self.count(name, &member, false);
        Some(member)
    }

    /// Changes a runner, where there is one of that name.
    pub fn change(&mut self, name: &RunnerName, change: impl FnOnce(&mut Member)) {
        if let Some((name, mut member)) = self.of.remove_entry(name) {
            self.count(&name, &member, false);
            change(&mut member);
            self.count(&name, &member, true);
            self.of.insert(name, member);
        }
    }

    /// Takes a runner into the sums, or out of them.
    fn count(&mut self, name: &RunnerName, member: &Member, comes: bool) {
        let of = |sum: &mut u32, counts: bool| {
            let step = u32::from(counts);
            *sum = if comes { *sum + step } else { sum.saturating_sub(step) };
        };
        let Sums { counts, vms, serve, late, ordered, unproven } = &mut self.sums;
        let phase = member.state.phase();
        if let Some(count) = counts.of(phase) {
            of(count, true);
        }
        of(vms, member.state.holds_vm());
        of(serve, member.serves());
        of(late, member.late);
        of(ordered, is_ordered(&member.state));
        of(unproven, is_unproven(&member.state));
        if is_unborn(&member.state) && member.serves() {
            let coming = (member.created_at, name.clone());
            let _there =
                if comes { self.coming.insert(coming) } else { self.coming.remove(&coming) };
        }
        if let Some((what, since)) = shown(member) {
            let of = self.shown.entry(what).or_default();
            let one = (since, name.clone());
            let _there = if comes { of.insert(one) } else { of.remove(&one) };
        }
        let shape = member.state.known().and_then(|known| known.shape.as_ref());
        if let Some(shape) = shape.filter(|_| phase == Phase::Idle) {
            let many = self.shapes.entry(shape.clone()).or_default();
            of(many, true);
            if *many == 0 {
                self.shapes.remove(shape);
            }
        }
    }
}

/// Whether an earlier daemon may have ordered it, and no VM of it is listed.
pub(super) fn is_ordered(state: &State) -> bool {
    matches!(state, State::Draining { drain, known, .. }
        if drain.reason == DrainReason::Orphan && !drain.vm_gone && known.vm.is_none())
}

/// Whether its end, or a new beginning, waits for listings of all VMs that lack its own: no word of a change tells that
/// there never was one, or that one has gone unasked.
fn is_unproven(state: &State) -> bool {
    let Some(known) = state.known() else { return false };
    match state {
        State::Draining { drain, .. } if drain.vm_gone => false,
        State::Draining { .. } if known.vm.is_none() => true,
        _ => known.vm_absent.begun() || state.in_doubt().is_some(),
    }
}

#[cfg(test)]
mod tests;
