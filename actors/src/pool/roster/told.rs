//! What a cloud tells between two listings, as news for the runners that it is about.

use super::{Roster, runs};
use crate::{
    name::RunnerName,
    port::{Change, Recent, Vm},
    runner::{Event, Observation, Sighting},
};

impl Roster {
    /// Turns what a cloud told of one VM into news for its runner; `None` where there is no such
    /// runner, or its VM is not known yet.
    #[must_use]
    pub fn changed(&self, change: &Change) -> Option<Observation> {
        let known = self.members.get(&change.name)?.state.known()?;
        let vm = Vm {
            name: change.name.clone(),
            id: known.vm.clone()?,
            status: change.status.clone(),
            created_at: None,
            shape: None,
            scope: None,
            address: None,
            task: None,
        };
        Some(Observation {
            vm: Sighting::Seen(vm),
            registration: Sighting::Unknown,
            vm_as_of: change.as_of,
            registration_as_of: change.as_of,
        })
    }

    /// Turns what a cloud says has changed into news for the runners that it names. Of all others it says nothing:
    /// nobody is absent by it, nobody is found by it, and the cloud is not seen by it.
    pub fn recent(&mut self, recent: &Recent) -> Vec<(RunnerName, Event)> {
        if self.woke.is_some_and(|woke| recent.as_of <= woke) {
            return Vec::new();
        }
        let as_of = recent.as_of;
        let (vm_as_of, registration_as_of) = (as_of, as_of);
        let members = &self.members;
        let mut news = Vec::new();
        for vm in recent.changed.iter().filter(|vm| members.contains_key(&vm.name)) {
            if runs(vm) {
                self.running.insert(vm.name.clone());
            } else {
                self.running.remove(&vm.name);
            }
            let (name, vm) = (vm.name.clone(), Sighting::Seen(vm.clone()));
            let registration = Sighting::Unknown;
            let seen = Observation { vm, registration, vm_as_of, registration_as_of };
            news.push((name, Event::Observed(seen)));
        }
        let deleted = recent.deleted.iter().filter(|(name, _)| members.contains_key(name));
        news.extend(
            deleted.map(|(name, vm)| (name.clone(), Event::VmEnded { vm: vm.clone(), as_of })),
        );
        news
    }
}
