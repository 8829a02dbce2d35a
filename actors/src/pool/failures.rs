//! Launches that fail: what holds the next ones back, and what ends that.
//!
//! What failed is remembered by *where* it failed ([`Place`]), because that is what has to come back. Each
//! place has a hold of its own, and a launch needs all of them open.
//!
//! - A launch has not succeeded when the cloud takes the order, and not when the VM runs, but when its runner
//!   is online. What disproves a failure is what it failed at: an order that is taken, a VM that a host
//!   took, a runner that is online after VMs that ended before. Only a launch that was decided after the
//!   failure does so; one decided before shows no more than a sign.
//! - A *sign* of life from the place (its first listing after one that failed, a success of another pool, a
//!   VM that frees its place below a quota, an operator's word) ends the wait: one launch finds out at once.
//!   Signs come [`SIGNS`] apart at most, so that a side that flaps is not asked without end.
//! - A hold that the other side named the end of ends then, and by nothing else.
//! - After a hold one launch probes; where it goes well, the others follow. After a quota they follow in
//!   steps: room for one is not room for all.
//! - Launches that fail together count once, because they say one thing.
//! - What was refused *here*, without asking ([`PortError::local`]), has not failed: it waits, and counts
//!   nowhere.
//!
//! The alternative, one count and one pause a pool, let the failures of one side hold what another had long
//! been ready for, and any runner's progress lift a limit that GitHub had named the end of.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    backoff,
    event::{DrainReason, HoldSnapshot, Phase, Place},
    name::RunnerName,
    port::{ErrorClass, PortError, Stage, Time},
    runner::State,
};

/// How far apart two signs end waits.
pub const SIGNS: Duration = Duration::from_secs(10);
/// Launches that must go well, one step after the other, before a quota counts as gone: 1, 2, 4, 8 at once.
const STEPS: u32 = 4;
/// How long launches wait at least that were refused here, and at most.
const REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// What holds a pool's launches back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures {
    holds: BTreeMap<Place, Hold>,
    /// Until when launches wait that a port of this process refused without asking.
    refused_until: Option<Time>,
}

/// Launches that failed in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// When the first of them failed.
    pub since: Time,
    /// When a launch is tried next, unless a sign comes before.
    pub until: Time,
    /// How many waves of them; launches that fail together count once.
    pub waves: u32,
    /// The last one.
    pub error: PortError,
    /// Whether the last wave failed after the VM ran: then only a runner that is online ends it.
    boots: bool,
    /// When the last wave was counted; launches decided before belong to it.
    counted_at: Time,
    /// When the last sign came that it may be over.
    sign_at: Option<Time>,
    /// Launches that went well since the last wave.
    successes: u32,
}

/// What launches are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance<'a> {
    /// Go.
    Free,
    /// Wait until then, or for a sign.
    Held(Place, &'a Hold),
    /// Wait until then: a port of this process had refused them.
    Refused(Time),
    /// No more than so many may be under way, to find out whether the trouble is over.
    Probe(Place, &'a Hold, u32),
}

/// A launch that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failed {
    place: Place,
    error: PortError,
    boot: bool,
}

/// How far a launch has come, by what a failure can be disproved with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Proof {
    Nothing,
    /// The cloud has taken the order: credentials, quota and names are in order.
    Taken,
    /// The VM runs: a host took it.
    Runs,
    /// The runner was online, or served a job.
    Served,
}

impl Failures {
    /// Takes in that a runner, whose launch was decided at `launched`, went from one state to another.
    pub fn transitioned(
        &mut self,
        name: &RunnerName,
        launched: Time,
        before: &State,
        after: &State,
        now: Time,
    ) {
        match (failed(before), failed(after)) {
            (None, Some(failed)) => self.count(name, launched, failed, now),
            (_, None) => {
                self.proven(launched, proof(before), proof(after), now);
                if before.holds_vm() && !after.holds_vm() {
                    self.freed(now);
                }
            }
            (Some(_), Some(_)) => {}
        }
    }

    /// A runner whose launch was decided at `launched` is not online after `patience`, far longer than others.
    pub fn late(&mut self, name: &RunnerName, launched: Time, patience: Duration, now: Time) {
        let what = format!(
            "{name} is not online after {} s, far longer than others took; its VM's console log says how far \
             it came",
            patience.as_secs()
        );
        let error = PortError::doubtful(ErrorClass::Transient, what);
        self.count(name, launched, Failed { place: Place::Shape, error, boot: true }, now);
    }

    fn count(&mut self, name: &RunnerName, launched: Time, failed: Failed, now: Time) {
        let Failed { place, error, boot } = failed;
        if error.local {
            let until = match error.class {
                ErrorClass::RateLimited { until } => until,
                _ => now,
            };
            self.refused_until = Some(until.clamp(now + REFUSED.0, now + REFUSED.1));
            return;
        }
        if let Some(hold) = self.holds.get_mut(&place).filter(|hold| launched < hold.counted_at) {
            // Under way when the first of them failed.
            hold.error = error;
            return;
        }
        let before = self.holds.get(&place);
        let waves = before.filter(|hold| hold.successes == 0).map_or(0, |hold| hold.waves);
        let waves = waves.saturating_add(1);
        let seed = name.as_str().bytes().fold(0, |sum: u64, b| sum.wrapping_mul(31) + u64::from(b));
        let curve = if boot { backoff::BOOT } else { backoff::launch_curve(error.class) };
        let hold = Hold {
            since: before.map_or(now, |hold| hold.since),
            until: backoff::retry_at(error.class, waves, seed, curve, now),
            waves,
            boots: boot,
            counted_at: now,
            sign_at: before.and_then(|hold| hold.sign_at),
            successes: 0,
            error,
        };
        self.holds.insert(place, hold);
    }

    /// A launch has come further.
    fn proven(&mut self, launched: Time, before: Proof, after: Proof, now: Time) {
        let mut signs = Vec::new();
        self.holds.retain(|place, hold| {
            let needed = hold.needs();
            if before >= needed || after < needed {
                return true;
            }
            if launched < hold.counted_at {
                signs.push(*place);
                return true;
            }
            hold.successes = hold.successes.saturating_add(1);
            hold.until = hold.until.min(now);
            hold.successes < hold.steps()
        });
        for place in signs {
            self.sign(place, now);
        }
    }

    /// A VM has freed its place.
    fn freed(&mut self, now: Time) {
        let full = |hold: &Hold| hold.is_full();
        if self.holds.get(&Place::Shape).is_some_and(full) {
            self.sign(Place::Shape, now);
        }
    }

    /// There is life where launches failed. Whether one tries at once for it.
    pub fn sign(&mut self, place: Place, now: Time) -> bool {
        let Some(hold) = self.holds.get_mut(&place) else { return false };
        if hold.is_named(now) {
            return false;
        }
        if let Some(next) = hold.sign_at.map(|last| last + SIGNS).filter(|next| now < *next) {
            hold.until = hold.until.min(next);
            return false;
        }
        hold.heard(now);
        true
    }

    /// Somebody says that what failed is mended: the holds end, and one launch finds out. One that the other
    /// side named the end of goes on. Whether there was a hold that ends.
    pub fn end_hold(&mut self, now: Time) -> bool {
        let mut ended = false;
        for hold in self.holds.values_mut().filter(|hold| now < hold.until && !hold.is_named(now)) {
            hold.heard(now);
            ended = true;
        }
        ended
    }

    /// What launches are to do now.
    #[must_use]
    pub fn stance(&self, now: Time) -> Stance<'_> {
        let last = self.holds.iter().max_by_key(|(_, hold)| hold.until);
        if let Some((place, hold)) = last.filter(|(_, hold)| now < hold.until) {
            return Stance::Held(*place, hold);
        }
        if let Some(until) = self.refused_until.filter(|until| now < *until) {
            return Stance::Refused(until);
        }
        let least = self.holds.iter().min_by_key(|(_, hold)| hold.successes);
        least.map_or(Stance::Free, |(place, hold)| {
            Stance::Probe(*place, hold, 1 << hold.successes.min(STEPS))
        })
    }

    /// Whether launches have failed and none has gone well since.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.holds.is_empty()
    }

    /// The hold in one place.
    #[must_use]
    pub fn hold(&self, place: Place) -> Option<&Hold> {
        self.holds.get(&place)
    }

    /// The hold that launches wait for the longest.
    #[must_use]
    pub fn longest(&self) -> Option<&Hold> {
        self.holds.values().max_by_key(|hold| hold.until)
    }

    /// All holds, for those who look.
    #[must_use]
    pub fn shown(&self) -> Vec<HoldSnapshot> {
        let shown = self.holds.iter().map(|(place, hold)| HoldSnapshot {
            place: *place,
            since: hold.since,
            until: hold.until,
            failures: hold.waves,
            error: hold.error.clone(),
            ends: hold.ends(*place).to_owned(),
        });
        shown.collect()
    }
}

impl Hold {
    /// Whether a runner in this state, whose launch was decided at `launched`, may still tell whether the
    /// trouble is over.
    #[must_use]
    pub fn probed_by(&self, state: &State, launched: Time) -> bool {
        // One that was on its way before the last sign may hang where the trouble was.
        let newer = launched >= self.counted_at.max(self.sign_at.unwrap_or(self.counted_at));
        let open = match state {
            State::Creating { .. } | State::Registering { .. } => proof(state) < self.needs(),
            // Its VM ended, and what that means is not said yet.
            State::Draining { drain, .. } => drain.suspect,
            _ => false,
        };
        newer && open
    }

    fn heard(&mut self, now: Time) {
        self.sign_at = Some(now);
        self.until = self.until.min(now);
    }

    /// Whether the other side has said until when, and that is not over.
    fn is_named(&self, now: Time) -> bool {
        matches!(self.error.class, ErrorClass::RateLimited { until } if now < until)
    }

    /// Whether there was no room.
    fn is_full(&self) -> bool {
        matches!(self.error.class, ErrorClass::Quota | ErrorClass::NoCapacity)
    }

    fn needs(&self) -> Proof {
        match (self.boots, self.error.class) {
            (true, _) => Proof::Served,
            // A cloud without room takes the order, and says so later.
            (_, ErrorClass::NoCapacity) => Proof::Runs,
            _ => Proof::Taken,
        }
    }

    fn steps(&self) -> u32 {
        if self.is_full() { STEPS } else { 1 }
    }

    /// What ends it, for a person.
    #[must_use]
    pub fn ends(&self, place: Place) -> &'static str {
        match (place, self.error.class) {
            (_, ErrorClass::RateLimited { .. }) => "at the time that was named",
            (Place::Forge | Place::Cloud, _) => "as soon as it answers again",
            (Place::Shape, _) if self.is_full() => "as soon as a VM goes",
            _ => "when it is mended: `runner-fleet reconcile` says so at once",
        }
    }
}

fn proof(state: &State) -> Proof {
    let known = state.known();
    match state {
        State::Creating { known, .. } if known.vm.is_some() => Proof::Taken,
        State::Creating { .. } | State::Deleted { .. } => Proof::Nothing,
        State::Registering { .. } => Proof::Runs,
        State::Idle { .. } | State::Busy { .. } => Proof::Served,
        // Its job came and went unseen.
        State::Draining { drain, .. } => {
            let online = known.is_some_and(|known| known.was_online);
            let served = online || drain.job.is_some() || drain.job_end.is_some();
            if served { Proof::Served } else { Proof::Nothing }
        }
    }
}

/// What a runner's state says of its launch, if that failed.
fn failed(state: &State) -> Option<Failed> {
    let known = state.known()?;
    if let Some((stage, error)) = state.in_doubt() {
        return Some(Failed {
            place: place(Some(stage), error.class),
            error: error.clone(),
            boot: false,
        });
    }
    let told = known.last_error.clone();
    let or = |what: &str| PortError::doubtful(ErrorClass::Transient, what);
    let shape = |error, boot| Failed { place: Place::Shape, error, boot };
    Some(match state.reason()? {
        DrainReason::LaunchFailed { class } => {
            let error = told.unwrap_or_else(|| PortError::certain(*class, "the launch failed"));
            let error = error.classed(*class);
            Failed { place: place(known.failed_at, *class), error, boot: false }
        }
        DrainReason::HeldBack => {
            let error = told.unwrap_or_else(|| or("it was held back"));
            Failed { place: Place::Cloud, error: PortError { local: true, ..error }, boot: false }
        }
        DrainReason::Overdue { phase: Phase::Creating } => {
            shape(or("the VM did not run within the launch limit"), false)
        }
        DrainReason::Overdue { phase: Phase::Registering } if !known.was_online => {
            let what = "the runner was not online within the register limit; the VM's console log \
                        says how far it came";
            shape(or(what), true)
        }
        DrainReason::BootFailed => {
            shape(told.unwrap_or_else(|| or("the VM ended before its runner was online")), true)
        }
        _ => return None,
    })
}

/// Where a launch failed that stood at `stage`.
fn place(stage: Option<Stage>, class: ErrorClass) -> Place {
    match (stage, class) {
        (Some(Stage::Forge), ErrorClass::Transient | ErrorClass::RateLimited { .. }) => {
            Place::Forge
        }
        (Some(Stage::Forge), _) => Place::Scope,
        (
            Some(Stage::Cloud),
            ErrorClass::Transient | ErrorClass::RateLimited { .. } | ErrorClass::Auth,
        ) => Place::Cloud,
        // What a VM is made of, or a VM that came to nothing.
        (Some(Stage::Cloud) | None, _) => Place::Shape,
    }
}
