//! From a launch order to what LXD is asked to make.

use http::Method;
use runner_fleet_actors::{
    name::FleetId,
    port::{ErrorClass, ImageProtocol, LaunchOrder, LxdKind, LxdShape, PortError, Shape},
};
use serde_json::{Map, Value, json};

use super::{
    answer::Purpose,
    api::{Api, Call, Server},
    vm,
};

/// What the shape's words come to, where the profiles must be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Devices of the instance's own, over those of its profiles.
    pub(super) devices: Map<String, Value>,
}

/// The LXD part of a shape.
///
/// # Errors
/// `Invalid` where a pool of another kind of cloud was given this provider.
pub(super) fn part_of(shape: &Shape) -> Result<&LxdShape, PortError> {
    shape.lxd.as_ref().ok_or_else(|| {
        let what = "the pool's shape says nothing for LXD: its provider is an LXD, so that it \
                    needs LXD's keys";
        PortError::certain(ErrorClass::Invalid, what)
    })
}

/// The profiles that an instance gets.
pub(super) fn profiles(lxd: &LxdShape) -> Vec<String> {
    if lxd.profiles.is_empty() { vec!["default".to_owned()] } else { lxd.profiles.clone() }
}

/// Whether the word is (the beginning of) an image's fingerprint, a SHA-256. Twelve digits are what
/// LXD's own tools show; a shorter word, or any other, is an alias.
pub(super) fn is_fingerprint(word: &str) -> bool {
    (12..=64).contains(&word.len())
        && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Makes the devices. LXD lets an instance's device replace its profile's as a whole, so that a root
/// disk of another size must repeat its pool: it is looked up, as is the name of the device, or
/// there would be two root disks.
///
/// # Errors
/// `Invalid` where no profile has what is to be changed; those of the calls.
pub(super) async fn resolve(
    api: &Api,
    shape: &Shape,
    lxd: &LxdShape,
) -> Result<Resolved, PortError> {
    let mut resolved = Resolved::default();
    let own_disk = lxd.disk.is_some() || lxd.storage_pool.is_some();
    if !own_disk && shape.network.is_none() {
        return Ok(resolved);
    }
    let mut devices = Map::new();
    for profile in profiles(lxd) {
        let call =
            Call::read(format!("reading profile {profile:?}"), ["profiles", profile.as_str()]);
        // A profile that is not there is the create's own failure.
        let found = api.find(call).await?.unwrap_or_default();
        let own = found.get("devices").and_then(Value::as_object).cloned();
        devices.extend(own.unwrap_or_default());
    }
    if own_disk {
        let (name, disk) = root_disk(&devices, lxd)?;
        resolved.devices.insert(name, disk);
    }
    if let Some(network) = &shape.network {
        let call =
            Call::read(format!("reading network {network:?}"), ["networks", network.as_str()]);
        let found = api.find(call).await?.unwrap_or_default();
        let managed = found.get("managed").and_then(Value::as_bool).unwrap_or(true);
        let (name, nic) = nic(&devices, network, managed);
        resolved.devices.insert(name, nic);
    }
    Ok(resolved)
}

fn is(device: &Value, key: &str, value: &str) -> bool {
    device.get(key).and_then(Value::as_str) == Some(value)
}

fn root_disk(devices: &Map<String, Value>, lxd: &LxdShape) -> Result<(String, Value), PortError> {
    let root = devices.iter().find(|(_, d)| is(d, "type", "disk") && is(d, "path", "/"));
    let (name, mut disk) = match root {
        Some((name, disk)) => (name.clone(), disk.clone()),
        None => ("root".to_owned(), json!({ "type": "disk", "path": "/" })),
    };
    if let Some(pool) = &lxd.storage_pool {
        disk["pool"] = pool.as_str().into();
    }
    if let Some(bytes) = lxd.disk {
        disk["size"] = bytes.to_string().into();
    }
    if disk.get("pool").is_none() {
        let what = format!(
            "no profile of {} has a root disk whose storage pool could be used: name a storage_pool",
            profiles(lxd).join(", ")
        );
        return Err(PortError::certain(ErrorClass::Invalid, what));
    }
    Ok((name, disk))
}

fn nic(devices: &Map<String, Value>, network: &str, managed: bool) -> (String, Value) {
    let present = devices.iter().find(|(_, device)| is(device, "type", "nic"));
    let (device, name) = match present {
        Some((device, nic)) => {
            let name = nic.get("name").and_then(Value::as_str).unwrap_or("eth0");
            (device.clone(), name.to_owned())
        }
        None => ("eth0".to_owned(), "eth0".to_owned()),
    };
    let nic = if managed {
        json!({ "type": "nic", "name": name, "network": network })
    } else {
        // A bridge of the host's own, of which LXD knows no more than the name.
        json!({ "type": "nic", "name": name, "nictype": "bridged", "parent": network })
    };
    (device, nic)
}

/// The call that asks for the instance.
pub(super) fn create<'a>(
    fleet: &FleetId,
    order: &LaunchOrder,
    lxd: &'a LxdShape,
    resolved: Resolved,
    server: &Server,
) -> Call<'a> {
    let mut config = vm::marks(fleet, order);
    let mut set = |key: &str, value: String| config.insert(key.to_owned(), value.into());
    // Older servers know the user data by its older key only, and newer ones prefer the newer key.
    let user_data =
        if server.has("cloud_init") { "cloud-init.user-data" } else { "user.user-data" };
    set(user_data, order.user_data.expose().to_owned());
    if let Some(cpu) = lxd.cpu {
        set("limits.cpu", cpu.to_string());
    }
    if let Some(bytes) = lxd.memory {
        set("limits.memory", format!("{bytes}B"));
    }
    if lxd.nesting {
        set("security.nesting", "true".to_owned());
    }
    let body = json!({
        "name": order.name.as_str(),
        "type": match lxd.kind {
            LxdKind::Container => "container",
            LxdKind::VirtualMachine => "virtual-machine",
        },
        // Gone by itself as soon as it has stopped.
        "ephemeral": true,
        "profiles": profiles(lxd),
        "config": config,
        "devices": resolved.devices,
        "source": source(&order.shape.image, lxd),
        // Left out of account by servers that know nothing of it; they are told to start it later.
        "start": server.has(CREATE_START),
    });
    let tried = format!("creating VM {}", order.name);
    let mut call = Call {
        purpose: Purpose::Create,
        ..Call::change(tried, Method::POST, ["instances"], Some(body))
    };
    if let Some(target) = &lxd.target {
        call = call.query("target", target.as_str());
    }
    call
}

/// The API extension by which creation and start are one operation (LXD 5.21, Incus 6).
pub(super) const CREATE_START: &str = "instance_create_start";

fn source(image: &str, lxd: &LxdShape) -> Value {
    let key = if is_fingerprint(image) { "fingerprint" } else { "alias" };
    let mut source = json!({ "type": "image", key: image });
    if let Some(server) = &lxd.image_server {
        source["mode"] = "pull".into();
        source["server"] = server.url.as_str().into();
        source["protocol"] = match server.protocol {
            ImageProtocol::Simplestreams => "simplestreams",
            ImageProtocol::Lxd => "lxd",
        }
        .into();
    }
    source
}

#[cfg(test)]
mod tests {
    use runner_fleet_actors::port::{ImageServer, Secret};

    use super::*;

    fn body(lxd: LxdShape, image: &str, extensions: &[&str]) -> Value {
        let shape = Shape { image: image.into(), lxd: Some(lxd.clone()), ..Shape::default() };
        let order = LaunchOrder {
            name: "ci--large--0123456789ab".parse().unwrap(),
            pool: "large".parse().unwrap(),
            scope: "org".parse().unwrap(),
            shape,
            user_data: Secret::new("#!/bin/sh\n"),
            created_at: "2026-11-20T10:00:00Z".parse().unwrap(),
            fresh: false,
        };
        let server = Server {
            extensions: extensions.iter().map(|e| (*e).to_owned()).collect(),
            ..Server::default()
        };
        let fleet = "ci".parse().unwrap();
        create(&fleet, &order, &lxd, Resolved::default(), &server).body.unwrap()
    }

    #[test]
    fn an_order_is_ephemeral_and_carries_its_marks() {
        let lxd =
            LxdShape { cpu: Some(2), memory: Some(4 << 30), nesting: true, ..LxdShape::default() };
        let body = body(lxd, "noble", &["cloud_init"]);
        assert_eq!(body["ephemeral"], true);
        assert_eq!(body["profiles"], json!(["default"]));
        assert_eq!(body["source"], json!({"type": "image", "alias": "noble"}));
        let config = &body["config"];
        assert_eq!(config["user.runner-fleet.fleet"], "ci");
        assert_eq!(config["user.runner-fleet.scope"], "org");
        assert_eq!(config["limits.cpu"], "2");
        assert_eq!(config["limits.memory"], "4294967296B");
        assert_eq!(config["security.nesting"], "true");
        assert_eq!(config["cloud-init.user-data"], "#!/bin/sh\n");
        assert_eq!(body["start"], false);
    }

    #[test]
    fn a_virtual_machine_is_ordered_as_one_and_a_container_as_one() {
        let kind = |kind| body(LxdShape { kind, ..LxdShape::default() }, "noble", &[]);
        let vm = kind(LxdKind::VirtualMachine);
        assert_eq!(vm["type"], "virtual-machine");
        assert_eq!(vm["ephemeral"], true);
        assert_eq!(vm["config"]["user.user-data"], "#!/bin/sh\n");
        assert_eq!(kind(LxdKind::Container)["type"], "container");
    }

    #[test]
    fn images_come_by_alias_by_fingerprint_and_from_elsewhere() {
        let fingerprint = "84af6360784d";
        let local = body(LxdShape::default(), fingerprint, &[CREATE_START]);
        assert_eq!(local["source"], json!({"type": "image", "fingerprint": fingerprint}));
        assert_eq!(local["start"], true);
        let url = "https://cloud-images.ubuntu.com/releases".to_owned();
        let image_server = Some(ImageServer { url, protocol: ImageProtocol::Simplestreams });
        let remote = body(LxdShape { image_server, ..LxdShape::default() }, "24.04", &[]);
        assert_eq!(remote["source"]["protocol"], "simplestreams");
        assert_eq!(remote["source"]["alias"], "24.04");
    }

    #[test]
    fn a_root_disk_of_another_size_keeps_its_name_and_its_pool() {
        let profile = json!({
            "disk0": {"type": "disk", "path": "/", "pool": "fast"},
            "data": {"type": "disk", "path": "/data", "source": "/data"},
        });
        let devices = profile.as_object().unwrap().clone();
        let lxd = LxdShape { disk: Some(10 << 30), ..LxdShape::default() };
        let (name, disk) = root_disk(&devices, &lxd).unwrap();
        assert_eq!(name, "disk0");
        assert_eq!((&disk["pool"], &disk["size"]), (&json!("fast"), &json!("10737418240")));
        let error = root_disk(&Map::new(), &lxd).unwrap_err();
        assert!(error.what.contains("name a storage_pool"), "{error}");
    }

    #[test]
    fn a_network_takes_the_place_of_the_profiles() {
        let profile = json!({"net": {"type": "nic", "name": "enp5s0", "network": "lxdbr0"}});
        let devices = profile.as_object().unwrap();
        let (device, managed) = nic(devices, "runners", true);
        assert_eq!(device, "net");
        assert_eq!(managed, json!({"type": "nic", "name": "enp5s0", "network": "runners"}));
        let (_, bridge) = nic(devices, "br0", false);
        assert_eq!((&bridge["nictype"], &bridge["parent"]), (&json!("bridged"), &json!("br0")));
    }
}
