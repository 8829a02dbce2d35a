//! What kind of VM a pool wants: the one place where the port speaks a cloud's own words, because a
//! configuration does.

use serde::{Deserialize, Serialize};

/// What kind of VM a pool wants. Words are the configuration's; each provider resolves them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Image, by name or id.
    pub image: String,
    /// Flavor (size), by name or id.
    pub flavor: String,
    /// Network, by name or id.
    pub network: Option<String>,
    /// Security groups, by name or id.
    pub security_groups: Vec<String>,
    /// Name of an existing key pair.
    pub key: Option<String>,
    /// Availability zone.
    pub availability_zone: Option<String>,
    /// Whether user data also comes on a config drive.
    pub config_drive: bool,
    /// What only LXD and Incus know of; `None` for pools of other clouds. Last of all, see
    /// [`Shape::digest`].
    pub lxd: Option<LxdShape>,
}

/// The part of a [`Shape`] that LXD and Incus take: they have no flavors, a size is said in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LxdShape {
    /// Container or virtual machine.
    pub kind: LxdKind,
    /// CPUs at most (`limits.cpu`); `None` = what the profiles say, else all of the host's.
    pub cpu: Option<u32>,
    /// Bytes of memory at most (`limits.memory`); `None` as for `cpu`.
    pub memory: Option<u64>,
    /// Bytes of the root disk; `None` = what the profiles or the storage pool say.
    pub disk: Option<u64>,
    /// Storage pool of the root disk; `None` = the one that the profiles name.
    pub storage_pool: Option<String>,
    /// Whether that pool lies in the host's memory, so that a disk costs memory.
    pub disk_in_memory: bool,
    /// Profiles in their order, later ones over earlier ones; empty = `default`.
    pub profiles: Vec<String>,
    /// Whether containers may run in it (`security.nesting`): docker in a runner.
    pub nesting: bool,
    /// Where the image comes from; `None` = the LXD's own images.
    pub image_server: Option<ImageServer>,
    /// Cluster member, or `@GROUP`, that it is put on; `None` = the cluster chooses.
    pub target: Option<String>,
}

/// What LXD is asked to make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LxdKind {
    /// A system container: shares the host's kernel, starts in a fraction of a second.
    #[default]
    Container,
    /// A virtual machine with a kernel of its own.
    VirtualMachine,
}

/// A remote server of images.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageServer {
    /// Its address, `https://…`.
    pub url: String,
    /// How it is spoken to.
    pub protocol: ImageProtocol,
}

/// How an image server is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageProtocol {
    /// An index of files behind any web server, as cloud-images.ubuntu.com has it.
    #[default]
    Simplestreams,
    /// Another LXD that shows its public images.
    Lxd,
}

impl Shape {
    /// A short digest that changes whenever the shape does; kept on the VM, so that a runner of an
    /// old shape is known also after a restart. 16 hexadecimal digits (FNV-1a, not for security).
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        // A field that a shape does not use leaves its digest as it was before there was one: an
        // upgrade of the daemon must not replace every runner.
        let text = format!("{self:?}").replace(", lxd: None }", " }");
        for byte in text.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        format!("{hash:016x}")
    }
}
