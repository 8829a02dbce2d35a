//! Since when Nova is asked for changes, and whether what it answers is borne out. **Pure.**
//!
//! `GET /servers/detail?changes-since=T` answers what changed at `T` or later, deleted VMs included (Compute API,
//! "List Servers Detailed"). Rules:
//!
//! - **The cloud's clock, never ours.** `T` is the newest stamp (`updated`) that Nova has shown, or the `Date` of its
//!   last answer where that is earlier, less an [overlap](OVERLAP): stamps come from the clocks of many hosts, are
//!   whole seconds, and take a moment until every reader sees them.
//! - **What it shows again bears it out.** By the overlap each honest answer repeats something that is known. One
//!   that lacks a VM that was shown with a stamp of `T` or later, or shows an older stamp of it, is not believed, and
//!   everything is listed instead; after [`DOUBTS`] such answers or failures in a row, or one with a VM that had not
//!   changed at all (the question is not heeded), nobody asks for [`OFF`].
//! - **Whole listings find what was missed.** Where one shows a change with a stamp from before the last `T`, the
//!   clocks differ by more than the overlap: it grows, up to [`LIMIT`], and beyond that nobody asks.
//!
//! A VM in BUILD is left out of that: while its record has no stamp yet, Nova shows the present time as one
//! (`nova/utils.py`, `isotime`) and answers without it. Nothing here proves absence: what an answer lacks was not
//! told.

use std::collections::HashMap;

use chrono::TimeDelta;
use runner_fleet_actors::{name::VmId, port::Time};

/// How far changes are asked for again.
pub(super) const OVERLAP: TimeDelta = TimeDelta::seconds(10);
/// How far clocks of one cloud may differ for it to be asked at all.
const LIMIT: TimeDelta = TimeDelta::minutes(5);
/// For how long a cloud is not asked whose answers are not borne out.
const OFF: TimeDelta = TimeDelta::minutes(10);
/// So many answers that are not borne out, or failures, in a row are enough.
const DOUBTS: u32 = 3;

/// When Nova last changed a VM's record, as one element of an answer shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) vm: VmId,
    pub(super) updated: Time,
    /// Whether it is past BUILD.
    pub(super) settled: bool,
    /// Whether the VM is deleted.
    pub(super) deleted: bool,
}

/// What is known of one cloud's changes.
#[derive(Debug, Default)]
pub(super) struct Since {
    /// The stamp with which each VM was last shown.
    shown: HashMap<VmId, Time>,
    /// The newest of all.
    newest: Option<Time>,
    /// The `Date` of the last answer that was believed.
    date: Option<Time>,
    /// `T` of the last question since everything was listed.
    asked: Option<Time>,
    /// What the overlap has grown by.
    skew: TimeDelta,
    doubts: u32,
    off_until: Option<Time>,
}

impl Since {
    /// `T` of a question at `now`; `None`: list.
    pub(super) fn question(&self, now: Time) -> Option<Time> {
        if self.off_until.is_some_and(|until| now < until) {
            return None;
        }
        let known = match (self.newest, self.date) {
            (Some(newest), Some(date)) if (newest - date).abs() <= LIMIT => newest.min(date),
            // Long ago, or two clocks of which one is wrong: what VMs are stamped with counts.
            (Some(newest), _) => newest,
            (None, date) => date?,
        };
        known.checked_sub_signed(OVERLAP + self.skew)
    }

    /// Everything was listed.
    pub(super) fn listed(&mut self, stamps: Vec<Stamp>, date: Option<Time>, now: Time) {
        let settled = stamps.into_iter().filter(|stamp| stamp.settled && !stamp.deleted);
        let present: HashMap<_, _> = settled.map(|stamp| (stamp.vm, stamp.updated)).collect();
        self.newest = self.newest.max(present.values().max().copied());
        if let (Some(asked), Some(newest)) = (self.asked.take(), self.newest) {
            let late = present.iter().filter(|(_, at)| **at < asked).filter_map(|(vm, at)| {
                let behind = newest - *at;
                match self.shown.get(vm) {
                    Some(shown) if shown < at => Some(behind),
                    // One that was hidden for long tells nothing of clocks.
                    None if behind <= LIMIT => Some(behind),
                    _ => None,
                }
            });
            self.skew = self.skew.max(late.max().unwrap_or_default());
            if self.skew > LIMIT {
                self.leave(now, "the clocks of its hosts differ by minutes");
            }
        }
        (self.shown, self.date) = (present, date);
    }

    /// Takes in an answer to the question of `asked`.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) fn told(
        &mut self,
        stamps: &[Stamp],
        date: Option<Time>,
        asked: Time,
        now: Time,
    ) -> Result<(), String> {
        if let Some(old) = stamps.iter().find(|s| s.updated < asked - TimeDelta::seconds(1)) {
            let why =
                format!("VM {} had not changed since {asked}: changes-since is not heeded", old.vm);
            self.leave(now, &why);
            return Err(why);
        }
        let told: HashMap<_, _> = stamps.iter().map(|stamp| (&stamp.vm, stamp.updated)).collect();
        let due = self.shown.iter().filter(|(_, at)| **at >= asked);
        let lacking = due.filter(|(vm, at)| told.get(vm).is_none_or(|told| told < at)).count();
        if lacking > 0 {
            let why = format!("it lacks {lacking} changes that were shown before");
            self.doubt(now, &why);
            return Err(why);
        }
        for stamp in stamps.iter().filter(|stamp| stamp.settled || stamp.deleted) {
            self.newest = self.newest.max(Some(stamp.updated));
            if stamp.deleted {
                self.shown.remove(&stamp.vm);
            } else {
                self.shown.insert(stamp.vm.clone(), stamp.updated);
            }
        }
        (self.date, self.asked, self.doubts) = (date, Some(asked), 0);
        Ok(())
    }

    /// A question could not be answered, or not to its end, or not with what can be believed.
    pub(super) fn doubt(&mut self, now: Time, why: &str) {
        self.doubts += 1;
        if self.doubts >= DOUBTS {
            self.leave(now, why);
        }
    }

    /// The cloud is not asked for a while; then from the beginning.
    pub(super) fn leave(&mut self, now: Time, why: &str) {
        tracing::warn!(
            why,
            minutes = OFF.num_minutes(),
            "what the cloud tells of changes is not to be relied on; everything is listed instead for a while"
        );
        *self = Self { off_until: Some(now + OFF), ..Self::default() };
    }
}

#[cfg(test)]
mod tests;
