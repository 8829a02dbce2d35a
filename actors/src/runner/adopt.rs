//! Adoption: a state for a runner that this process did not create.
//!
//! Cloud and forge are the store: after a restart both are listed, and every name becomes a runner
//! again. What one listing cannot prove is left open: the state chosen here is always one in which
//! nothing is lost if the other side knew better, and the next listings move it on.

use super::{Drain, Known, LISTING_LAG, Observation, Sighting, State};
use crate::{
    event::{DrainReason, Job},
    port::{Registration, Time, Vm, VmStatus},
};

/// The state of a runner found as `vm` and `registration`; `None` is *not seen*, which may also mean
/// that the listing was not there.
///
/// Total; both `None` gives a drain that ends as soon as listings agree that nothing is there.
#[must_use]
pub fn adopt(vm: Option<Vm>, registration: Option<Registration>, now: Time) -> State {
    let created_at = vm.as_ref().and_then(|vm| vm.created_at).unwrap_or(now).min(now);
    let status = vm.as_ref().map(|vm| vm.status.clone());
    let mut known = Known { adopted: true, ..Known::default() };
    let is_cordoned = registration.as_ref().is_some_and(|one| one.cordoned == Some(true));
    let news = known.take_in(&mut Observation {
        vm: vm.map_or(Sighting::Unknown, Sighting::Seen),
        registration: registration.map_or(Sighting::Unknown, Sighting::Seen),
        vm_as_of: now,
        registration_as_of: now,
    });
    known.cordon.up = is_cordoned;
    let draining =
        |reason, known| State::Draining { since: now, drain: Drain::new(reason, now), known };
    match status {
        // Off: nothing runs in it. The first tick takes it to its deletion.
        Some(VmStatus::Stopped) => draining(DrainReason::Finished, known),
        Some(VmStatus::Deleting) => draining(DrainReason::Orphan, known),
        Some(VmStatus::Error { class, .. }) if !news.online && !news.busy => {
            draining(DrainReason::LaunchFailed { class }, known)
        }
        // No VM in sight: its registration goes once listings have proven that there is none.
        None => draining(DrainReason::Orphan, known),
        Some(_) if news.busy => State::Busy { since: now, job: Job::default(), known },
        Some(_) if news.online => State::Idle { since: now, known },
        Some(VmStatus::Building) => State::Creating { since: created_at, wish: None, known },
        // Its age counts, so that a guest that never registers is not given a new life by each restart.
        Some(_) => State::Registering { since: created_at, known },
    }
}

/// A state for a runner whose actor died: as it was last reported, with nothing in flight.
///
/// The answer to an effect that was in flight died with the actor, so it is treated as lost: a
/// launch waits for the listings, a drain acts again at once, and both are harmless by name.
#[must_use]
pub fn revive(mut state: State, now: Time) -> State {
    if let Some(known) = state.known_mut() {
        known.in_flight = None;
        // An order of the dead actor may still be on its way.
        known.blind(now + LISTING_LAG);
    }
    if let State::Draining { drain, .. } = &mut state {
        drain.due = now;
    }
    state
}
