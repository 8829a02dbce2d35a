//! What kind of VM a pool wants, in the words of its provider.
//!
//! A key of the other kind of provider is a fault that says so: silently left out, a `memory` that
//! OpenStack does not know would be found out when the first job dies of it.

use runner_fleet_actors::port::{ImageProtocol, ImageServer, LxdKind, LxdShape, Shape};
use url::Url;

use super::super::{provider::ProviderKind, read::Section};

const OPENSTACK_ONLY: [&str; 5] =
    ["flavor", "security_groups", "key", "availability_zone", "config_drive"];
const LXD_ONLY: [&str; 11] = [
    "type",
    "cpu",
    "memory",
    "disk",
    "storage_pool",
    "disk_in_memory",
    "profiles",
    "nesting",
    "image_server",
    "image_protocol",
    "target",
];

/// Less than this no distribution boots in.
const MEMORY_MIN: u64 = 16 << 20;
const DISK_MIN: u64 = 16 << 20;
/// Far above any machine; what lies above is a slip of the pen.
const MEMORY_MAX: u64 = 64 << 40;
const DISK_MAX: u64 = 1024 << 40;
const CPU_MAX: u32 = 4096;

pub(super) fn read(section: &Section<'_>, kind: Option<&ProviderKind>) -> Shape {
    let lxd = match kind {
        Some(ProviderKind::Lxd(_)) => true,
        Some(ProviderKind::OpenStack { .. }) => false,
        // The provider is refused already; what this pool was meant for is seen by its keys.
        None => LXD_ONLY.iter().any(|key| section.has_silently(key)),
    };
    let text = |key| section.text(key).map(str::to_owned);
    let image = section.needed_text("image", "the image's name or id").map(str::to_owned);
    let network = text("network");
    let shape = Shape { image: image.unwrap_or_default(), network, ..Shape::default() };
    if lxd {
        section.foreign(
            &OPENSTACK_ONLY,
            "pools on OpenStack (on LXD a size is said by cpu, memory and disk)",
        );
        return Shape { lxd: Some(lxd_shape(section)), ..shape };
    }
    section.foreign(&LXD_ONLY, "pools on LXD (on OpenStack a size is said by flavor)");
    let flavor = section.needed_text("flavor", "the flavor's name or id").map(str::to_owned);
    Shape {
        flavor: flavor.unwrap_or_default(),
        security_groups: section.texts("security_groups"),
        key: text("key"),
        availability_zone: text("availability_zone"),
        config_drive: section.flag("config_drive", false),
        ..shape
    }
}

fn lxd_shape(section: &Section<'_>) -> LxdShape {
    let text = |key| section.text(key).map(str::to_owned);
    let kinds = [("container", LxdKind::Container), ("virtual-machine", LxdKind::VirtualMachine)];
    let kind = section.word("type", &kinds).unwrap_or_default();
    let shape = LxdShape {
        kind,
        cpu: section
            .number("cpu", 1..=u64::from(CPU_MAX))
            .and_then(|number| u32::try_from(number).ok()),
        memory: section.size("memory", MEMORY_MIN..=MEMORY_MAX),
        disk: section.size("disk", DISK_MIN..=DISK_MAX),
        storage_pool: text("storage_pool"),
        disk_in_memory: section.flag("disk_in_memory", false),
        profiles: section.texts("profiles"),
        nesting: section.flag("nesting", false),
        image_server: image_server(section),
        target: text("target"),
    };
    if kind == LxdKind::VirtualMachine && shape.nesting {
        section.fault("nesting", "is for containers; a virtual machine nests by itself");
    }
    if shape.disk_in_memory {
        for (key, what) in [
            ("storage_pool", "with disk_in_memory: the storage pool that lies in memory"),
            ("disk", "with disk_in_memory: how much memory each disk may take"),
            ("memory", "with disk_in_memory: the host's memory is counted before each launch"),
        ] {
            if !section.has(key) {
                section.missing(key, what);
            }
        }
    }
    shape
}

fn image_server(section: &Section<'_>) -> Option<ImageServer> {
    let protocols = [("simplestreams", ImageProtocol::Simplestreams), ("lxd", ImageProtocol::Lxd)];
    let protocol = section.word("image_protocol", &protocols);
    let Some(text) = section.text("image_server") else {
        if section.has("image_protocol") {
            section.fault("image_protocol", "is of use only with image_server");
        }
        return None;
    };
    let is_https = Url::parse(text)
        .is_ok_and(|url| url.scheme() == "https" && url.has_host() && url.password().is_none());
    if !is_https {
        let example = "an address such as \"https://cloud-images.ubuntu.com/releases\"";
        section.fault("image_server", format_args!("{text:?} is not allowed: {example}"));
    }
    Some(ImageServer { url: text.to_owned(), protocol: protocol.unwrap_or_default() })
}
