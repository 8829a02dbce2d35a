//! What Nova says of a VM, read leniently, and what it means in the house's words.
//!
//! Every field is optional and read by itself: clouds answer unknown statuses, null zones and
//! numbers where the documentation has texts, and a typed list fails as a whole over one of them.

use std::net::IpAddr;

use runner_fleet_actors::{
    foreign::{Foreign, NAME_MAX},
    name::{FleetId, PoolName, RunnerName, VmId},
    port::{LaunchOrder, Listing, Recent, Vm, VmStatus, VmTask},
};
use serde_json::{Value, json};

use super::{
    answer::{fault_class, tidy},
    since::Stamp,
};

const CREATED_AT: &str = "runner-fleet-created-at";
const POOL: &str = "runner-fleet-pool";
const SCOPE: &str = "runner-fleet-scope";
const SHAPE: &str = "runner-fleet-shape";

/// The tag that makes a VM the fleet's. Nova's tags may hold neither a slash nor a comma and have
/// at most 60 characters; a fleet id is shorter and has neither.
pub(super) fn fleet_tag(fleet: &FleetId) -> String {
    format!("runner-fleet:{fleet}")
}

/// Shown to people who look at the cloud; nothing is decided by it.
fn pool_tag(pool: &PoolName) -> String {
    format!("runner-fleet-pool:{pool}")
}

pub(super) fn tags(fleet: &FleetId, order: &LaunchOrder) -> Value {
    json!([fleet_tag(fleet), pool_tag(&order.pool)])
}

/// What a runner must still be known by after a restart. Values of Nova's metadata have at most 255
/// characters, which the longest scope stays below.
pub(super) fn metadata(order: &LaunchOrder) -> Value {
    json!({
        CREATED_AT: order.created_at.to_rfc3339(),
        POOL: order.pool.as_str(),
        SCOPE: order.scope.to_string(),
        SHAPE: order.shape.digest(),
    })
}

/// What a listing's element is to this fleet.
pub(super) enum Seen {
    /// One of the fleet's.
    Ours(Box<Vm>),
    /// Not the fleet's, whatever the filter of the listing should have done.
    Foreign,
    /// It carries the fleet's tag but not a runner's name: what to do about it. It hides no runner.
    Misnamed(String),
    /// It may be one of the fleet's and cannot be read: what is wrong with it.
    Unreadable(String),
}

/// Takes one page of Nova's VMs (`GET /servers/detail`) into a listing of a fleet's.
pub fn take(servers: &[Value], fleet: &FleetId, listing: &mut Listing<Vm>) {
    for element in servers {
        match read(element, fleet) {
            Seen::Ours(vm) => listing.entries.push(*vm),
            Seen::Foreign => {}
            Seen::Misnamed(why) => listing.faults.push(why),
            Seen::Unreadable(why) => {
                listing.complete = false;
                listing.faults.push(why);
            }
        }
    }
}

/// Takes one page of what has changed (`GET /servers/detail?changes-since=…`). Of a deleted VM Nova shows neither tags
/// nor metadata any more (`nova/db/main/api.py`, `instance_destroy`), so that it is told by name and identifier; whoever
/// asked for its deletion knows the latter. One that is called deleted and has its tags still is deleted for its host
/// alone: Nova counts and lists it until its records go (`nova/compute/manager.py`, `_delete_instance`), which may take
/// minutes. Returns the stamps of all that may be the fleet's.
pub(super) fn take_recent(servers: &[Value], fleet: &FleetId, recent: &mut Recent) -> Vec<Stamp> {
    let mut stamps = Vec::new();
    for element in servers {
        let (Some(stamp), Some(name)) = (stamp(element), own_name(element, fleet)) else {
            continue;
        };
        if stamp.deleted {
            recent.deleted.push((name, stamp.vm.clone()));
            stamps.push(stamp);
            continue;
        }
        match read(element, fleet) {
            Seen::Ours(vm) => {
                recent.changed.push(*vm);
                stamps.push(stamp);
            }
            Seen::Unreadable(why) => recent.faults.push(why),
            Seen::Foreign | Seen::Misnamed(_) => {}
        }
    }
    stamps
}

/// When Nova last changed the records of the fleet's VMs in one page of a listing.
pub(super) fn stamps(servers: &[Value], fleet: &FleetId) -> impl Iterator<Item = Stamp> {
    let ours = servers.iter().filter(|element| matches!(read(element, fleet), Seen::Ours(_)));
    ours.filter_map(stamp)
}

fn stamp(element: &Value) -> Option<Stamp> {
    let text = |key: &str| element.get(key).and_then(Value::as_str);
    let status = text("status")?;
    Some(Stamp {
        vm: text("id").and_then(VmId::told)?,
        updated: text("updated")?.parse().ok()?,
        settled: status != "BUILD",
        deleted: match status {
            "DELETED" => element.get("tags").and_then(Value::as_array).is_none_or(Vec::is_empty),
            status => status == "SOFT_DELETED",
        },
    })
}

/// The name, where it is a runner's of this fleet.
fn own_name(element: &Value, fleet: &FleetId) -> Option<RunnerName> {
    let name = element.get("name").and_then(Value::as_str)?;
    name.parse::<RunnerName>().ok().filter(|name| name.is_of(fleet))
}

/// Reads one element of `GET /servers/detail`.
pub(super) fn read(element: &Value, fleet: &FleetId) -> Seen {
    let text = |key: &str| element.get(key).and_then(Value::as_str);
    let id = text("id").unwrap_or("?");
    match element.get("tags").and_then(Value::as_array) {
        Some(tags) => {
            let own = fleet_tag(fleet);
            if !tags.iter().any(|t| t.as_str() == Some(&own)) {
                return Seen::Foreign;
            }
        }
        // The listing asked for the tag, so that the element may well be ours.
        None => return Seen::Unreadable(format!("VM {}: shows no tags", tidy(id, &[]))),
    }
    let (Some(vm), Some(name)) = (text("id").and_then(VmId::told), text("name")) else {
        return Seen::Unreadable(format!("VM {}: has no id or no name", tidy(id, &[])));
    };
    let name = match name.parse::<RunnerName>() {
        Ok(name) if name.is_of(fleet) => name,
        _ => {
            let (id, name) = (tidy(id, &[]), tidy(name, &[]));
            return Seen::Misnamed(format!(
                "VM {id} carries the tag {} but is called {name:?}, which is no runner's name of \
                 this fleet: it is left alone; take the tag off or delete it",
                fleet_tag(fleet)
            ));
        }
    };
    let metadata = |key: &str| element.get("metadata")?.get(key)?.as_str();
    Seen::Ours(Box::new(Vm {
        name,
        id: vm,
        status: status(element),
        created_at: metadata(CREATED_AT).or(text("created")).and_then(|t| t.parse().ok()),
        shape: metadata(SHAPE).map(|shape| Foreign::<NAME_MAX>::from(shape).into()),
        scope: metadata(SCOPE).and_then(|t| t.parse().ok()),
        address: address(element),
        task: task(element),
    }))
}

/// What Nova is doing with the VM. It has no time of a task; `updated` is when the record last changed,
/// which is when the task began where nothing moves any more (Compute API, "List Servers Detailed").
fn task(element: &Value) -> Option<VmTask> {
    let word = element.get("OS-EXT-STS:task_state").and_then(Value::as_str)?;
    let since = element.get("updated").and_then(Value::as_str).and_then(|t| t.parse().ok());
    Some(VmTask { word: tidy(word, &[]).into(), since })
}

/// Nova's word as the house's. Only SHUTOFF means that the guest has powered off: a PAUSED or
/// SUSPENDED VM still holds a job that goes on when somebody wakes it, so that it, like every other
/// word, proves nothing.
fn status(element: &Value) -> VmStatus {
    let word = element.get("status").and_then(Value::as_str).unwrap_or("none");
    let task = element.get("OS-EXT-STS:task_state").and_then(Value::as_str);
    if matches!(task, Some("deleting" | "soft-deleting")) {
        return VmStatus::Deleting;
    }
    match word {
        "BUILD" => VmStatus::Building,
        "ACTIVE" => VmStatus::Active,
        "SHUTOFF" => VmStatus::Stopped,
        "DELETED" | "SOFT_DELETED" => VmStatus::Deleting,
        "ERROR" => {
            let fault = element.get("fault").and_then(|f| f.get("message")).and_then(Value::as_str);
            let fault = tidy(fault.unwrap_or("the cloud gave no reason"), &[]);
            VmStatus::Error { class: fault_class(&fault), fault: fault.into() }
        }
        other => VmStatus::Unknown { word: tidy(other, &[]).into() },
    }
}

/// A floating address before a fixed one, and IPv4 before IPv6: what most likely can be reached.
fn address(element: &Value) -> Option<IpAddr> {
    let networks = element.get("addresses")?.as_object()?;
    networks
        .values()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|entry| {
            let address: IpAddr = entry.get("addr")?.as_str()?.parse().ok()?;
            let kind = entry.get("OS-EXT-IPS:type").and_then(Value::as_str);
            Some((kind != Some("floating"), address.is_ipv6(), address))
        })
        .min()
        .map(|(_, _, address)| address)
}

#[cfg(test)]
mod tests {
    use runner_fleet_actors::port::Time;

    use super::*;

    fn element(extra: &Value) -> Value {
        let mut vm = json!({
            "id": "1", "name": "ci--large--0123456789ab", "status": "ACTIVE",
            "tags": ["runner-fleet:ci"], "OS-EXT-AZ:availability_zone": null,
        });
        let fields = extra.as_object().unwrap().clone();
        vm.as_object_mut().unwrap().extend(fields);
        vm
    }

    fn vm(extra: &Value) -> Vm {
        match read(&element(extra), &"ci".parse().unwrap()) {
            Seen::Ours(vm) => *vm,
            Seen::Foreign => panic!("foreign"),
            Seen::Misnamed(why) | Seen::Unreadable(why) => panic!("{why}"),
        }
    }

    #[test]
    fn only_shutoff_means_that_the_guest_has_powered_off() {
        assert_eq!(vm(&json!({"status": "SHUTOFF"})).status, VmStatus::Stopped);
        for word in ["PAUSED", "SUSPENDED", "SHELVED", "RESCUE", "SURPRISE"] {
            let status = vm(&json!({"status": word})).status;
            assert_eq!(status, VmStatus::Unknown { word: word.into() });
        }
    }

    #[test]
    fn a_vm_being_deleted_still_says_active_and_is_read_by_its_task() {
        let status = vm(&json!({"OS-EXT-STS:task_state": "deleting"})).status;
        assert_eq!(status, VmStatus::Deleting);
    }

    #[test]
    fn a_vm_that_nova_calls_deleted_and_still_lists_is_not_told_as_gone() {
        let told = |extra: &Value| {
            let mut recent = Recent::nothing(Time::UNIX_EPOCH);
            let stamped = json!({"status": "DELETED", "updated": "2026-11-28T10:00:00Z"});
            let mut vm = element(&stamped);
            vm.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            take_recent(&[vm], &"ci".parse().unwrap(), &mut recent);
            (recent.changed.first().map(|vm| vm.status.clone()), recent.deleted.len())
        };
        assert_eq!(told(&json!({})), (Some(VmStatus::Deleting), 0), "its records are there");
        assert_eq!(told(&json!({"tags": []})), (None, 1));
        assert_eq!(told(&json!({"tags": [], "status": "SOFT_DELETED"})), (None, 1));
    }

    #[test]
    fn a_deletion_that_does_not_end_shows_novas_word_and_since_when() {
        let stuck = json!({"OS-EXT-STS:task_state": "deleting", "updated": "2026-11-28T10:00:00Z"});
        let task = vm(&stuck).task.unwrap();
        assert_eq!(task.word, "deleting");
        assert_eq!(task.since, "2026-11-28T10:00:00Z".parse().ok());
        assert_eq!(vm(&json!({"OS-EXT-STS:task_state": null})).task, None);
        let odd = vm(&json!({"OS-EXT-STS:task_state": "spawning", "updated": 7})).task.unwrap();
        assert_eq!((odd.word.as_str(), odd.since), ("spawning", None));
    }

    #[test]
    fn odd_fields_cost_only_themselves() {
        let odd = json!({
            "status": 7, "metadata": [], "addresses": {"n": [{"addr": "nowhere"}, 3]},
            "created": "yesterday", "fault": "none",
        });
        let vm = vm(&odd);
        assert_eq!(vm.status, VmStatus::Unknown { word: "none".into() });
        assert_eq!((vm.created_at, vm.shape, vm.address), (None, None, None));
    }

    #[test]
    fn a_floating_address_comes_first() {
        let addresses = json!({"n": [
            {"addr": "10.0.0.1", "OS-EXT-IPS:type": "fixed"},
            {"addr": "fd00::1", "OS-EXT-IPS:type": "fixed"},
            {"addr": "172.24.0.9", "OS-EXT-IPS:type": "floating"},
        ]});
        let vm = vm(&json!({"addresses": addresses}));
        assert_eq!(vm.address, Some("172.24.0.9".parse().unwrap()));
    }

    #[test]
    fn ownership_is_the_tag_and_a_name_that_is_not_ours_is_told_not_touched() {
        let fleet: FleetId = "ci".parse().unwrap();
        let foreign = element(&json!({"tags": ["runner-fleet:ci-big"]}));
        assert!(matches!(read(&foreign, &fleet), Seen::Foreign));
        let renamed = element(&json!({"name": "renamed by hand"}));
        match read(&renamed, &fleet) {
            Seen::Misnamed(why) => assert!(why.contains("renamed by hand"), "{why}"),
            _ => panic!("a VM of that name is not a runner"),
        }
        for odd in ["", "8a1f\u{1b}[2J", "8a1f\nready"] {
            let odd = element(&json!({"id": odd}));
            assert!(matches!(read(&odd, &fleet), Seen::Unreadable(_)), "no cloud's identifier");
        }
        let bare = element(&json!({"tags": null}));
        assert!(matches!(read(&bare, &fleet), Seen::Unreadable(_)));
    }
}
