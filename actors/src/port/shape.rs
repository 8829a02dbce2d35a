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
    /// What only LXD and Incus know of; `None` for pools of other clouds. Last of all but `guest`,
    /// see [`Shape::digest`].
    pub lxd: Option<LxdShape>,
    /// What the pool says of the inside of its VMs, as [`short_digest`] of it; `None` = not known.
    /// No cloud is told of it but as a part of [`Shape::digest`].
    pub guest: Option<String>,
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
    /// old shape is known also after a restart. 16 hexadecimal digits, and where something is said of
    /// the guest a dot and its own digest: the two are compared apart, see [`is_outdated`].
    #[must_use]
    pub fn digest(&self) -> String {
        // A field that a shape does not use leaves its digest as it was before there was one: an
        // upgrade of the daemon must not replace every runner.
        let text = format!("{:?}", Self { guest: None, ..self.clone() });
        let vm =
            short_digest(&text.replace(", guest: None }", " }").replace(", lxd: None }", " }"));
        match &self.guest {
            Some(guest) => format!("{vm}.{guest}"),
            None => vm,
        }
    }
}

/// Whether a VM of the digest `own` is not what `wanted` is the digest of. What a VM does not say of
/// its guest is not held against it: it was made by a version that did not say it either.
#[must_use]
pub fn is_outdated(own: &str, wanted: &str) -> bool {
    let parts = |digest: &str| match digest.split_once('.') {
        Some((vm, guest)) => (vm.to_owned(), Some(guest.to_owned())),
        None => (digest.to_owned(), None),
    };
    let ((vm, guest), (wanted_vm, wanted_guest)) = (parts(own), parts(wanted));
    vm != wanted_vm || guest.zip(wanted_guest).is_some_and(|(own, wanted)| own != wanted)
}

/// 16 hexadecimal digits that change with the text (FNV-1a, not for security). The same for ever:
/// what is kept on VMs is compared with what later versions say.
#[must_use]
pub fn short_digest(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the first versions have left them on VMs.
    #[test]
    fn an_upgrade_does_not_change_what_a_shape_is_known_by() {
        let text = "Shape { image: \"noble\", flavor: \"m1.small\", network: None, \
                    security_groups: [], key: None, availability_zone: None, config_drive: false }";
        let shape = Shape { image: "noble".into(), flavor: "m1.small".into(), ..Shape::default() };
        assert_eq!(shape.digest(), short_digest(text));
        let of_lxd = Shape { lxd: Some(LxdShape::default()), ..shape };
        assert!(!of_lxd.digest().contains('.') && of_lxd.digest() != short_digest(text));
    }

    #[test]
    fn a_vm_is_outdated_by_its_own_shape_and_by_its_guest_where_it_says_one() {
        for (own, wanted, outdated) in [
            ("a", "a", false),
            ("a", "b", true),
            ("a.1", "a.1", false),
            ("a.1", "a.2", true),
            ("a.1", "b.1", true),
            // Made before VMs said anything of their guests, or wanted by one that does not.
            ("a", "a.2", false),
            ("a", "b.2", true),
            ("a.1", "a", false),
        ] {
            assert_eq!(is_outdated(own, wanted), outdated, "{own} where {wanted} is wanted");
        }
    }
}
