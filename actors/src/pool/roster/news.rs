//! Which of a listing's observations may lead to something. The others only bear out what is known, and may wait.

use super::Roster;
use crate::{
    event::Phase,
    name::RunnerName,
    runner::{Observation, Sighting},
};

impl Roster {
    /// Whether an observation may change more about its runner than when it was last seen: its VM, or what the forge
    /// shows of it, is not as its state has it.
    #[must_use]
    pub fn is_news(&self, name: &RunnerName, seen: &Observation) -> bool {
        let Some(state) = self.members.get(name).map(|member| &member.state) else { return true };
        let status = state.known().and_then(|known| known.vm_status.as_ref());
        let vm_new = match &seen.vm {
            Sighting::Seen(vm) => status != Some(&vm.status),
            Sighting::Absent => true,
            Sighting::Unknown => false,
        };
        let busy = state.phase() == Phase::Busy;
        let forge_new = match &seen.registration {
            Sighting::Seen(one) => !one.online || one.busy != Some(busy),
            Sighting::Absent => true,
            Sighting::Unknown => false,
        };
        vm_new || forge_new || !matches!(state.phase(), Phase::Idle | Phase::Busy)
    }
}
