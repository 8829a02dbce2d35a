//! A pool's plan: which runners to create and which to drain, and why.
//!
//! - `max` bounds what is asked for, and counts every VM that may exist, the draining ones included.
//! - What may be on its way since before the start is waited for, for seconds: an order that is given
//!   twice makes a VM that nobody needs.
//! - A shrink takes who cannot have a job first, the youngest of them, then the oldest idle runners, and never a
//!   busy one; it waits while a listing is missing, partial or old.
//! - Supply is who can take a job: a runner that takes far longer to come online than others did ([`Boots`]) is
//!   replaced where there is room, and where there is none, the first of them makes it.
//! - Launches that fail hold the next ones back until what failed is there again ([`Failures`]); a few find
//!   that out before the others follow.
//! - A runner is made when its launch may go: what the doors of forge and cloud do not let through now waits
//!   for its turn without being made, refused and counted.
//! - Planning a planned world changes nothing.
//!
//! The plan leaves no choices to its shell and carries its reasons, so that "why are there N
//! runners?" has an answer.

use std::time::Duration;

use crate::{
    event::{DrainReason, Phase, Place},
    name::RunnerName,
    port::{Doors, Time},
    sight::moment,
};

pub mod actor;
mod boots;
mod doubted;
mod failures;
mod lag;
mod roster;

pub use boots::{Boots, SharedBoots};
pub use doubted::{DOUBTED_FOR, Doubted};
pub use failures::{Failures, Hold, SIGNS, Stance};
pub use lag::{Habit, Habits, LONGEST, SharedHabits};
pub use roster::{Member, Roster, Survey, Surveyed};

/// What a pool may do. From the configuration; can change while the pool runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// No more VMs than this, the draining ones included.
    pub max: u32,
    /// How many outdated idle runners are replaced at once.
    pub replace_at_once: u32,
    /// Digest of the shape that its runners should have.
    pub shape: Option<String>,
    /// Whether the pool left the configuration: nothing is created, everything idle goes.
    pub retiring: bool,
}

/// What a pool does next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// How many runners to create.
    pub create: u32,
    /// Which runners to drain, and why.
    pub drain: Vec<(RunnerName, DrainReason)>,
    /// Why, for a person. Empty where the pool is as it should be.
    pub because: Vec<String>,
    /// When to plan again even if nothing happens.
    pub again_at: Option<Time>,
}

impl Plan {
    /// Plan again at `at`, or before.
    fn wait_until(&mut self, at: Time) {
        self.again_at = Some(self.again_at.map_or(at, |before| before.min(at)));
    }
}

/// A listing older than this leaves its side in doubt: three times the slowest sweep, so that one
/// lost sweep stops no shrink and an outage does.
pub const LISTING_MAX_AGE: Duration = Duration::from_secs(240);

/// How long what a daemon ordered before it was killed is waited for before it is ordered again: an
/// order that had reached the cloud is in its listings by then as a rule, and one that had not costs
/// its runner this much.
pub const UNDER_WAY: Duration = Duration::from_secs(10);

/// Plans a pool toward `target` runners that are not draining, as far as the doors let launches through.
#[must_use]
pub fn plan(target: u32, roster: &Roster, policy: &Policy, doors: &Doors, now: Time) -> Plan {
    let mut plan = Plan { again_at: roster.late_at.filter(|at| now < *at), ..Plan::default() };
    let target = if policy.retiring { 0 } else { target.min(policy.max) };
    let live = roster.live();
    if live < target {
        grow(&mut plan, (target, live), roster, policy, doors, now);
    } else if live > target {
        let reason = if policy.retiring { DrainReason::PoolRemoved } else { DrainReason::Shrink };
        shrink(&mut plan, live - target, target, &reason, roster, now);
    }
    if !policy.retiring && live <= target {
        replace_outdated(&mut plan, roster, policy, now);
    }
    plan
}

fn grow(
    plan: &mut Plan,
    (target, live): (u32, u32),
    roster: &Roster,
    policy: &Policy,
    doors: &Doors,
    now: Time,
) {
    let missing = target - live;
    if roster.cloud_seen.is_none() {
        // Creating before the cloud was seen whole once would exceed max after a restart.
        plan.because.push(format!(
            "{missing} more wanted; waits for the first complete listing of the cloud"
        ));
        return;
    }
    let (found, until) = roster.under_way(now);
    let wanted = missing.saturating_sub(found);
    if let (Some(until), true) = (until, wanted < missing) {
        // With no whole listing of the forge, any number of orders may have been under way at the start.
        plan.because.push(format!(
            "{missing} more wanted; {} may be on their way, ordered before and not listed yet: waits for \
             them until {}",
            missing - wanted,
            moment(until, now),
        ));
        plan.wait_until(until);
        if wanted == 0 {
            return;
        }
    }
    let missing = wanted;
    let room = policy.max.saturating_sub(roster.vms());
    let mut create = missing.min(room);
    let late = roster.late_first(now);
    if let (true, Some((name, phase))) = (create < missing, late.first()) {
        plan.because.push(format!(
            "{} runners take far longer to come online than others did; {name}, the first of them, makes room",
            late.len()
        ));
        plan.drain.push((name.clone(), DrainReason::Overdue { phase: *phase }));
    }
    if create < missing {
        plan.because.push(format!(
            "{missing} more wanted; room for {create}: {} VMs of at most {}, {} of them draining",
            roster.vms(),
            policy.max,
            roster.vms().saturating_sub(live),
        ));
    }
    create = held(plan, create, roster, now);
    create = turns(plan, create, doors, now);
    if create > 0 {
        plan.because.push(format!("{create} created toward {target}, {live} there"));
    }
    plan.create = create;
}

/// How many of these launches may go, after launches that failed.
fn held(plan: &mut Plan, create: u32, roster: &Roster, now: Time) -> u32 {
    if create == 0 {
        return 0;
    }
    match roster.failures.stance(now) {
        Stance::Free => create,
        Stance::Held(place, hold) => {
            plan.because.push(format!(
                "{create} launches held by {place} since {}: {} failed in a row ({}); one tries at {}, ends {}",
                moment(hold.since, now),
                hold.waves,
                hold.error.class,
                moment(hold.until, now),
                hold.ends(place),
            ));
            plan.wait_until(hold.until);
            0
        }
        Stance::Refused(until) => {
            let until_text = moment(until, now);
            plan.because.push(format!("{create} launches wait for their turn until {until_text}"));
            plan.wait_until(until);
            0
        }
        // A few find out whether the trouble is over; a crowd would only repeat it.
        Stance::Probe(place, hold, at_once) => {
            let few = create.min(at_once.saturating_sub(roster.probes(hold)));
            if few < create {
                plan.because.push(format!(
                    "{} failed in a row by {place} ({}): {at_once} at once until one goes well",
                    hold.waves, hold.error.class,
                ));
            }
            few
        }
    }
}

/// How many of these launches the doors let through now; the others wait for their turn.
fn turns(plan: &mut Plan, create: u32, doors: &Doors, now: Time) -> u32 {
    let mut through = create;
    for (place, door) in [(Place::Forge, &doors.forge), (Place::Cloud, &doors.cloud)] {
        let waiting = create.saturating_sub(door.permits);
        if waiting == 0 {
            continue;
        }
        let until = door.next.map_or_else(String::new, |at| format!(" until {}", moment(at, now)));
        plan.because.push(format!("{waiting} launches wait for {place}{until}: {}", door.why));
        if let Some(next) = door.next {
            plan.wait_until(next);
        }
        through = through.min(door.permits);
    }
    through
}

/// Why nothing may be drained now, if so.
fn doubt(roster: &Roster, now: Time) -> Option<String> {
    for (side, seen, whole) in [
        ("cloud", roster.cloud_seen, roster.cloud_whole),
        ("forge", roster.forge_seen, roster.forge_whole),
    ] {
        match seen {
            None => return Some(format!("the {side} was never listed whole")),
            Some(_) if !whole => return Some(format!("the last listing of the {side} is partial")),
            Some(seen) if now > seen + LISTING_MAX_AGE => {
                return Some(format!("the {side} was last listed whole at {}", moment(seen, now)));
            }
            Some(_) => {}
        }
    }
    None
}

fn shrink(
    plan: &mut Plan,
    surplus: u32,
    target: u32,
    reason: &DrainReason,
    roster: &Roster,
    now: Time,
) {
    if let Some(doubt) = doubt(roster, now) {
        plan.because.push(format!("{surplus} too many; the shrink waits: {doubt}"));
        return;
    }
    let taken: Vec<_> = roster.least_missed_first(now).into_iter().take(surplus as usize).collect();
    let left = surplus as usize - taken.len();
    if !taken.is_empty() {
        plan.because
            .push(format!("{} drained toward {target}, who cannot have a job first", taken.len()));
    }
    if left > 0 {
        plan.because.push(format!("{left} too many, none of them idle: they end with their jobs"));
    }
    plan.drain.extend(taken.into_iter().map(|name| (name, reason.clone())));
}

fn replace_outdated(plan: &mut Plan, roster: &Roster, policy: &Policy, now: Time) {
    let Some(shape) = &policy.shape else { return };
    let outdated = roster.idle_outdated(shape, now);
    if outdated.is_empty() {
        return;
    }
    // Runners on their way in are replacements of earlier ones: the pace is bounded by both ends.
    let under_way = roster.count(Phase::Creating)
        + roster.count(Phase::Registering)
        + roster.count_outdated_draining()
        + plan.create;
    let pace = policy.replace_at_once.max(1).saturating_sub(under_way) as usize;
    if pace == 0 || roster.failures.any() {
        plan.because.push(format!("{} outdated, replaced step by step", outdated.len()));
        return;
    }
    if let Some(doubt) = doubt(roster, now) {
        plan.because.push(format!("{} outdated; their replacement waits: {doubt}", outdated.len()));
        return;
    }
    plan.because.push(format!(
        "{} of {} outdated replaced",
        pace.min(outdated.len()),
        outdated.len()
    ));
    plan.drain.extend(outdated.into_iter().take(pace).map(|name| (name, DrainReason::Outdated)));
}
