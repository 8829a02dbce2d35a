//! What somebody beside a fleet asks of the LXD that it lives on: where guests reach this machine, and
//! what carries the fleet's mark.
//!
//! The mark alone counts here. The listing of the contract also looks at names and at launches that
//! are under way; whoever looks for what a fleet has left behind wants what it would overlook.

use std::net::IpAddr;

use runner_fleet_actors::port::{ErrorClass, PortError};
use serde_json::Value;

use super::{Lxd, api::Call, vm};

/// An instance with the fleet's mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marked {
    /// Its name.
    pub(crate) name: String,
    /// Whether LXD says that it runs.
    pub(crate) runs: bool,
}

impl Lxd {
    /// Everything that carries the fleet's mark, whatever else it is.
    ///
    /// # Errors
    /// Where LXD cannot be asked.
    pub(crate) async fn marked(&self) -> Result<Vec<Marked>, PortError> {
        let fleet = &self.inner.fleet;
        let tried = format!("looking for what carries {} = {fleet}", vm::FLEET);
        let call = Call::read(tried, ["instances"]).query("recursion", "1");
        let all = self.inner.api.get(call).await?;
        let all = all.as_array().into_iter().flatten();
        Ok(all.filter_map(|one| marked(one, fleet.as_str())).collect())
    }

    /// The address of this machine on the network that instances of a profile are on: where they
    /// reach it. IPv4 before IPv6.
    ///
    /// # Errors
    /// `Invalid` where the profile has no network, or this machine no address on it.
    pub(crate) async fn host_address(&self, profile: &str) -> Result<IpAddr, PortError> {
        let api = &self.inner.api;
        let invalid = |what: String| PortError::certain(ErrorClass::Invalid, what);
        let tried = format!("looking for the network of profile {profile:?}");
        let seen = api.get(Call::read(tried.as_str(), ["profiles", profile])).await?;
        let network = network_of(&seen).ok_or_else(|| {
            let place = api.place();
            invalid(format!(
                "{tried}: {place}: it has none; \"lxd init\" (Incus: \"incus admin init\") makes one"
            ))
        })?;
        let tried = format!("asking for this machine's address on network {network:?}");
        let path = ["networks", network.as_str(), "state"];
        let state = api.get(Call::read(tried.as_str(), path)).await?;
        own_address(&state).ok_or_else(|| invalid(format!("{tried}: {}: it has none", api.place())))
    }
}

fn marked(element: &Value, fleet: &str) -> Option<Marked> {
    let of = element.get("config")?.get(vm::FLEET)?.as_str()?;
    let text = |key: &str| element.get(key).and_then(Value::as_str);
    let name = text("name")?.to_owned();
    (of == fleet).then(|| Marked { name, runs: text("status") == Some("Running") })
}

/// The network of the first NIC: one of LXD's own, or a bridge of the host's.
fn network_of(profile: &Value) -> Option<String> {
    let devices = profile.get("devices")?.as_object()?;
    let nics = devices.values().filter(|d| d.get("type").and_then(Value::as_str) == Some("nic"));
    let name = |nic: &Value| Some(nic.get("network").or(nic.get("parent"))?.as_str()?.to_owned());
    nics.filter_map(name).next()
}

fn own_address(state: &Value) -> Option<IpAddr> {
    let addresses = state.get("addresses")?.as_array()?;
    addresses
        .iter()
        .filter(|entry| entry.get("scope").and_then(Value::as_str) == Some("global"))
        .filter_map(|entry| entry.get("address")?.as_str()?.parse::<IpAddr>().ok())
        .min_by_key(IpAddr::is_ipv6)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_mark_alone_counts_and_another_fleets_is_not_ours() {
        let one = |name: &str, of: &str| json!({"name": name, "status": "Running", "config": { vm::FLEET: of }});
        let misnamed = marked(&one("by-hand", "demo-1"), "demo-1");
        assert_eq!(misnamed, Some(Marked { name: "by-hand".into(), runs: true }));
        assert_eq!(marked(&one("demo-1--small--0123456789ab", "demo-12"), "demo-1"), None);
        assert_eq!(marked(&json!({"name": "demo-1--small--0123456789ab"}), "demo-1"), None);
    }

    #[test]
    fn the_network_is_the_first_nics_and_the_address_one_that_guests_reach() {
        let root = json!({"type": "disk", "path": "/", "pool": "default"});
        let managed =
            json!({"devices": {"root": root, "eth0": {"type": "nic", "network": "lxdbr0"}}});
        assert_eq!(network_of(&managed).as_deref(), Some("lxdbr0"));
        let bridged =
            json!({"devices": {"n": {"type": "nic", "nictype": "bridged", "parent": "br0"}}});
        assert_eq!(network_of(&bridged).as_deref(), Some("br0"));
        assert_eq!(network_of(&json!({"devices": {"root": root}})), None);

        let entry = |address: &str, scope: &str| json!({"address": address, "scope": scope});
        let state = json!({"addresses": [
            entry("fe80::1", "link"), entry("fd42::1", "global"), entry("10.77.0.1", "global"),
        ]});
        assert_eq!(own_address(&state), Some("10.77.0.1".parse().unwrap()));
        assert_eq!(own_address(&json!({"addresses": []})), None);
    }
}
