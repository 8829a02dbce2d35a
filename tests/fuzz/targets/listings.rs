//! What holds for the listing of any cloud.

use runner_fleet_actors::{
    foreign::{NAME_MAX, WORDS_MAX},
    name::FleetId,
    port::{Listing, Vm, VmStatus},
};
use serde_json::Value;

use super::assert_tame;

/// `bad`: an element that cannot be read.
pub fn check(elements: &[Value], bad: &Value, read: impl Fn(&[Value]) -> Listing<Vm>) {
    let whole = read(elements);
    assert_eq!(whole, read(elements), "one answer, one meaning");
    of_vms(&whole.entries);
    whole.faults.iter().for_each(|fault| assert_tame(fault, WORDS_MAX));
    assert!(whole.complete || !whole.faults.is_empty(), "what is missing is said");

    // An element is worth the same whatever stands beside it.
    let alone: Vec<_> = elements.iter().map(std::slice::from_ref).map(&read).collect();
    assert!(alone.iter().all(|one| one.entries.len() + one.faults.len() <= 1));
    assert!(alone.iter().flat_map(|one| &one.entries).eq(&whole.entries));
    assert!(alone.iter().flat_map(|one| &one.faults).eq(&whole.faults));
    assert_eq!(alone.iter().all(|one| one.complete), whole.complete);

    let middle = elements.len() / 2;
    let mixed = [&elements[..middle], std::slice::from_ref(bad), &elements[middle..]].concat();
    let mixed = read(&mixed);
    assert_eq!(mixed.entries, whole.entries, "one bad element costs itself");
    assert_eq!((mixed.complete, mixed.faults.len()), (false, whole.faults.len() + 1));
}

/// The fleet that the listings are of.
pub fn fleet() -> FleetId {
    "ci".parse().unwrap()
}

fn of_vms(vms: &[Vm]) {
    for vm in vms {
        assert!(vm.name.is_of(&fleet()));
        assert_tame(&vm.id.to_string(), NAME_MAX);
        vm.shape.iter().for_each(|shape| assert_tame(shape, NAME_MAX));
        vm.task.iter().for_each(|task| assert_tame(&task.word, WORDS_MAX));
        match &vm.status {
            VmStatus::Error { fault: text, .. } | VmStatus::Unknown { word: text } => {
                assert_tame(text, WORDS_MAX);
            }
            VmStatus::Building | VmStatus::Active | VmStatus::Stopped | VmStatus::Deleting => {}
        }
        // So clients of the API read it.
        let told = serde_json::to_value(vm).unwrap();
        assert_eq!(&serde_json::from_value::<Vm>(told).unwrap(), vm);
    }
}
