//! The listing: what LXD shows, and what this process knows of launches under way.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, stream};
use runner_fleet_actors::{
    name::RunnerName,
    port::{ErrorClass, Listing, PortError, Vm, VmStatus},
};
use serde_json::Value;

use super::{Inner, api::Call, launch::Launch, vm};

/// Addresses that one listing asks for; the rest comes with the next. Each is a look into the guest,
/// nothing waits for it, and twenty at once would take from the start of twenty guests.
const ADDRESSES_AT_ONCE: usize = 4;
/// How long a listing waits for them: longer than an LXD takes that is busy with many starts, since what
/// is asked again costs it as much again.
const ADDRESS_WAIT: Duration = Duration::from_secs(10);

impl Inner {
    /// All VMs of the fleet.
    pub(super) async fn sweep(&self) -> Result<Listing<Vm>, PortError> {
        let as_of = self.now();
        self.api.server().await?;
        let tried = "listing the fleet's VMs";
        let call = Call::read(tried, ["instances"]).query("recursion", "1");
        let reply = self.api.get(call).await?;
        let Some(elements) = reply.as_array() else {
            let what = format!("{tried}: {}: the answer is no list", self.api.place());
            return Err(PortError::certain(ErrorClass::Transient, what));
        };
        let mut listing = vm::listing(elements, &self.fleet, as_of);
        self.add_launches(&mut listing);
        self.add_addresses(&mut listing.entries).await;
        Ok(listing)
    }

    fn add_launches(&self, listing: &mut Listing<Vm>) {
        self.forget_old_launches(listing.as_of);
        let mut shown = BTreeSet::new();
        for seen in &mut listing.entries {
            shown.insert(seen.name.clone());
            let Some(launch) = self.launches.get(&seen.name) else { continue };
            match launch.value() {
                Launch::UnderWay { unwanted: true, .. } => seen.status = VmStatus::Deleting,
                // Made and not yet started.
                Launch::UnderWay { .. } if seen.status != VmStatus::Active => {
                    seen.status = VmStatus::Building;
                }
                Launch::Failed { vm, .. } => seen.status = vm.status.clone(),
                Launch::UnderWay { .. } | Launch::Doubtful { .. } => {}
            }
        }
        for launch in self.launches.iter().filter(|launch| !shown.contains(launch.key())) {
            match launch.value() {
                // Its caller has been promised a VM that LXD does not show yet.
                Launch::UnderWay { vm, left: true, unwanted } => {
                    let mut vm = vm.as_ref().clone();
                    if *unwanted {
                        vm.status = VmStatus::Deleting;
                    }
                    listing.entries.push(vm);
                }
                Launch::Failed { vm, .. } => listing.entries.push(vm.as_ref().clone()),
                _ => {}
            }
        }
    }

    async fn add_addresses(&self, vms: &mut [Vm]) {
        let there: BTreeSet<&RunnerName> = vms.iter().map(|vm| &vm.name).collect();
        self.addresses.retain(|name, _| there.contains(name));
        let unknown: Vec<RunnerName> = vms
            .iter()
            .filter(|vm| vm.status == VmStatus::Active && !self.addresses.contains_key(&vm.name))
            .take(ADDRESSES_AT_ONCE)
            .map(|vm| vm.name.clone())
            .collect();
        stream::iter(unknown)
            .for_each_concurrent(ADDRESSES_AT_ONCE, async |name| {
                let tried = format!("asking for the address of VM {name}");
                let call = Call::read(tried, ["instances", name.as_str(), "state"]);
                // An address is good to know and nothing more: without it the listing is as whole, and
                // it waits for no guest that LXD asks in vain.
                let asked = tokio::time::timeout(ADDRESS_WAIT, self.api.get(call)).await;
                let state = asked.ok().and_then(Result::ok).unwrap_or(Value::Null);
                if let Some(address) = vm::address(&state) {
                    self.addresses.insert(name, address);
                }
            })
            .await;
        for vm in vms {
            vm.address = self.addresses.get(&vm.name).map(|address| *address);
        }
    }
}
