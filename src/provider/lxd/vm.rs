//! What LXD says of an instance, read leniently, and what it means in the house's words.
//!
//! Every field is optional and read by itself. Ownership is the key [`FLEET`] in the instance's own
//! configuration, never a name and never a profile's key: a profile is shared.

use std::net::IpAddr;

use chrono::TimeDelta;
use runner_fleet_actors::{
    foreign::{Foreign, NAME_MAX},
    name::{FleetId, RunnerName, VmId},
    port::{ErrorClass, LaunchOrder, Listing, Time, Vm, VmStatus},
};
use serde_json::{Map, Value};

use crate::provider::text::tidy;

/// The key that makes an instance the fleet's.
pub(super) const FLEET: &str = "user.runner-fleet.fleet";
const POOL: &str = "user.runner-fleet.pool";
const SCOPE: &str = "user.runner-fleet.scope";
const SHAPE: &str = "user.runner-fleet.shape";
const CREATED_AT: &str = "user.runner-fleet.created-at";

/// How old an instance may be that is there and was never started, before it counts as given up:
/// between its creation and its start, LXD is at work, and another process may have asked.
const UNSTARTED: TimeDelta = TimeDelta::seconds(90);

/// What a runner must still be known by after a restart.
pub(super) fn marks(fleet: &FleetId, order: &LaunchOrder) -> Map<String, Value> {
    [
        (FLEET, fleet.to_string()),
        (POOL, order.pool.to_string()),
        (SCOPE, order.scope.to_string()),
        (SHAPE, order.shape.digest()),
        (CREATED_AT, order.created_at.to_rfc3339()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.into()))
    .collect()
}

/// An instance of this fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) vm: Vm,
    /// Whether it was ever started. One that was not is no runner that has ended, but a launch that
    /// is under way or broke off.
    pub(super) started: bool,
    /// Whether it runs, so that it must be stopped before it can be deleted.
    pub(super) runs: bool,
    /// Whether LXD cannot tell how it is: mostly a virtual machine that does not answer any more.
    pub(super) hung: bool,
}

impl Own {
    /// Whether it is stopped, rather than deleted, in that turn of its removal. LXD ends the process of
    /// a machine that hangs only when that is stopped by force; deleted, it would run on unseen, or
    /// hold its disk for ever. Where it refuses to stop it, there is nothing to stop.
    pub(super) fn is_stopped_in(&self, turn: u32) -> bool {
        self.runs || (self.hung && turn == 0)
    }
}

/// What an instance is to this fleet.
pub(super) enum Seen {
    /// One of the fleet's.
    Ours(Box<Own>),
    /// Not the fleet's.
    Foreign,
    /// It carries the fleet's key but not a runner's name: what to do about it. It hides no runner.
    Misnamed(String),
    /// It may be one of the fleet's and cannot be read: what is wrong with it.
    Unreadable(String),
}

/// What the instances that LXD lists, with their configuration, are to a fleet.
#[must_use]
pub fn listing(instances: &[Value], fleet: &FleetId, as_of: Time) -> Listing<Vm> {
    let mut listing = Listing { entries: Vec::new(), complete: true, as_of, faults: Vec::new() };
    for element in instances {
        match read(element, fleet, as_of) {
            Seen::Ours(own) => listing.entries.push(own.vm),
            Seen::Foreign => {}
            Seen::Misnamed(why) => listing.faults.push(why),
            Seen::Unreadable(why) => {
                listing.complete = false;
                listing.faults.push(why);
            }
        }
    }
    listing
}

/// Reads one instance.
pub(super) fn read(element: &Value, fleet: &FleetId, now: Time) -> Seen {
    let text = |key: &str| element.get(key).and_then(Value::as_str);
    let Some(name) = text("name") else {
        return Seen::Unreadable("an instance without a name".to_owned());
    };
    let runner = name.parse::<RunnerName>().ok().filter(|name| name.is_of(fleet));
    let config = element.get("config").and_then(Value::as_object);
    let own = |key: &str| config?.get(key)?.as_str();
    match (own(FLEET), runner) {
        (Some(of), Some(name)) if of == fleet.as_str() => Seen::Ours(Box::new(Own {
            vm: Vm {
                id: VmId(name.as_str().to_owned()),
                status: status(element, now),
                created_at: own(CREATED_AT).or(text("created_at")).and_then(|t| t.parse().ok()),
                shape: own(SHAPE).map(|shape| Foreign::<NAME_MAX>::from(shape).into()),
                scope: own(SCOPE).and_then(|t| t.parse().ok()),
                address: None,
                task: None,
                name,
            },
            started: was_started(element),
            runs: !matches!(text("status"), Some("Stopped" | "Error")),
            hung: text("status") == Some("Error"),
        })),
        (Some(of), None) if of == fleet.as_str() => Seen::Misnamed(format!(
            "instance {:?} carries {FLEET} = {fleet} but its name is no runner's of this fleet: it \
             is left alone; unset that key or delete it",
            tidy(name, &[])
        )),
        // A cluster lists what is on a member that does not answer by its name alone.
        (None, Some(name)) if config.is_none_or(Map::is_empty) => {
            let at = tidy(text("location").unwrap_or("?"), &[]);
            Seen::Unreadable(format!("instance {name}: its cluster member {at} does not answer"))
        }
        _ => Seen::Foreign,
    }
}

fn was_started(element: &Value) -> bool {
    let last = element.get("last_used_at").and_then(Value::as_str);
    let last = last.and_then(|text| text.parse::<Time>().ok());
    // Never is written as 1970, or as the year 1.
    last.is_none_or(|last| last > Time::UNIX_EPOCH)
}

/// LXD's word as the house's. Only Stopped means that the guest has powered off, and only where it
/// ever ran. A frozen one still holds a job that goes on when somebody thaws it, and one that is
/// stopping holds it until it has stopped, so that these, like every other word, prove nothing.
fn status(element: &Value, now: Time) -> VmStatus {
    let word = element.get("status").and_then(Value::as_str).unwrap_or("none");
    match word {
        // Ready is said by the guest itself, over /dev/lxd.
        "Running" | "Ready" | "Started" | "Thawed" => VmStatus::Active,
        "Starting" => VmStatus::Building,
        "Stopped" if was_started(element) => VmStatus::Stopped,
        "Stopped" => {
            let made = element.get("created_at").and_then(Value::as_str);
            let made = made.and_then(|text| text.parse::<Time>().ok());
            // The two clocks may differ, either way.
            if made.is_some_and(|made| (now - made).abs() < UNSTARTED) {
                return VmStatus::Building;
            }
            let fault = "created and never started: whoever launched it broke off".into();
            VmStatus::Error { class: ErrorClass::Transient, fault }
        }
        "Error" => {
            let fault = "LXD cannot say more of it than Error: see its log there".into();
            VmStatus::Error { class: ErrorClass::Transient, fault }
        }
        other => VmStatus::Unknown { word: tidy(other, &[]).into() },
    }
}

/// An address of an instance's state that others can reach, IPv4 before IPv6.
pub(super) fn address(state: &Value) -> Option<IpAddr> {
    let devices = state.get("network")?.as_object()?;
    let of = |device: &Value| device.get("addresses")?.as_array().cloned();
    devices
        .iter()
        .filter(|(name, _)| *name != "lo")
        .filter_map(|(_, device)| of(device))
        .flatten()
        .filter(|entry| entry.get("scope").and_then(Value::as_str) == Some("global"))
        .filter_map(|entry| entry.get("address")?.as_str()?.parse::<IpAddr>().ok())
        .min_by_key(IpAddr::is_ipv6)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Time {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    fn seen(extra: &Value) -> Seen {
        let mut element = json!({
            "name": "ci--large--0123456789ab", "status": "Running",
            "created_at": "2026-11-20T09:00:00.5Z", "last_used_at": "2026-11-20T09:00:01Z",
            "config": { FLEET: "ci" },
        });
        element.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        read(&element, &"ci".parse().unwrap(), now())
    }

    fn status(extra: &Value) -> VmStatus {
        match seen(extra) {
            Seen::Ours(own) => own.vm.status,
            _ => panic!("not ours"),
        }
    }

    #[test]
    fn only_stopped_means_that_the_guest_has_powered_off() {
        assert_eq!(status(&json!({"status": "Stopped"})), VmStatus::Stopped);
        for word in ["Frozen", "Stopping", "Aborting", "Surprise"] {
            assert_eq!(status(&json!({"status": word})), VmStatus::Unknown { word: word.into() });
        }
        for word in ["Running", "Ready"] {
            assert_eq!(status(&json!({"status": word})), VmStatus::Active);
        }
    }

    #[test]
    fn what_was_never_started_has_not_ended() {
        for never in ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"] {
            let young = json!({
                "status": "Stopped", "last_used_at": never, "created_at": "2026-11-20T09:59:50Z",
            });
            assert_eq!(status(&young), VmStatus::Building);
            let old = json!({"status": "Stopped", "last_used_at": never});
            assert!(matches!(status(&old), VmStatus::Error { .. }));
        }
    }

    #[test]
    fn ownership_is_the_key_and_a_name_that_is_not_ours_is_told_not_touched() {
        let other = json!({"config": { FLEET: "ci-big" }});
        assert!(matches!(seen(&other), Seen::Foreign));
        let none = json!({"config": { "image.os": "Debian" }});
        assert!(matches!(seen(&none), Seen::Foreign), "a name alone claims nothing");
        match seen(&json!({"name": "by-hand"})) {
            Seen::Misnamed(why) => assert!(why.contains("by-hand"), "{why}"),
            _ => panic!("that is no runner's name"),
        }
    }

    #[test]
    fn a_member_that_does_not_answer_hides_its_instances_and_says_so() {
        let bare = json!({"status": "Error", "config": {}, "location": "node-3"});
        match seen(&bare) {
            Seen::Unreadable(why) => assert!(why.contains("node-3"), "{why}"),
            _ => panic!("it may be ours"),
        }
        match seen(&json!({"config": {}, "location": "\u{1b}[2J".repeat(1000)})) {
            Seen::Unreadable(why) => assert!(!why.contains('\u{1b}') && why.len() < 3000, "{why}"),
            _ => panic!("it may be ours"),
        }
    }

    #[test]
    fn odd_fields_cost_only_themselves() {
        let odd = json!({"status": 7, "created_at": "yesterday", "last_used_at": []});
        assert_eq!(status(&odd), VmStatus::Unknown { word: "none".into() });
    }

    #[test]
    fn an_address_is_one_that_others_reach() {
        let entry = |address: &str, scope: &str| json!({"address": address, "scope": scope});
        let state = json!({"network": {
            "lo": {"addresses": [entry("127.0.0.1", "global")]},
            "docker0": {"addresses": []},
            "eth0": {"addresses": [
                entry("fe80::1", "link"), entry("fd42::1", "global"), entry("10.77.0.9", "global"),
            ]},
        }});
        assert_eq!(address(&state), Some("10.77.0.9".parse().unwrap()));
        assert_eq!(address(&json!({"network": null})), None);
    }
}
