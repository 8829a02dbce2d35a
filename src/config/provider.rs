//! `[providers.NAME]`: the clouds that make VMs.

use std::{collections::BTreeMap, path::PathBuf};

use url::Url;

use super::read::Section;

/// What kind of cloud, and how it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderKind {
    /// An OpenStack cloud.
    OpenStack {
        /// Its name in clouds.yaml; `None` = `OS_CLOUD`, or the `OS_*` variables themselves.
        cloud: Option<String>,
        /// A clouds.yaml of its own instead of the usual places.
        clouds_file: Option<PathBuf>,
    },
    /// An LXD or Incus, alone or a cluster.
    Lxd(LxdAccess),
}

/// Where an LXD is, and as whom it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LxdAccess {
    /// The way to it.
    pub reach: LxdReach,
    /// The project that the fleet's VMs live in. Default `default`.
    pub project: String,
}

/// The way to an LXD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LxdReach {
    /// Its Unix socket on this machine; whoever may open it is trusted with everything.
    Socket(PathBuf),
    /// Over the network.
    Https {
        /// Its address, `https://HOST:8443`.
        url: Url,
        /// The client's certificate, which LXD trusts (PEM).
        client_certificate: PathBuf,
        /// Its key (PEM), a secret.
        client_key: PathBuf,
        /// The one certificate that is accepted of it (PEM); `None` = one that the system's
        /// authorities vouch for.
        server_certificate: Option<PathBuf>,
    },
}

/// `[providers.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// What kind of cloud.
    pub kind: ProviderKind,
    /// Calls that may be under way at once; `None`: as many as it is found to take.
    pub concurrency: Option<u32>,
    /// Calls a second in the long run; `None`: as many as come to be.
    pub rate: Option<f64>,
}

/// All providers by name; `None` where one has faults, so that a pool that names it has none.
pub(super) fn read_all(root: &Section<'_>) -> BTreeMap<String, Option<Provider>> {
    if !root.has("providers") {
        root.missing(
            "providers",
            "at least one table [providers.NAME] with kind = \"openstack\" or \"lxd\"",
        );
    }
    let providers = root.named("providers");
    providers
        .into_iter()
        .map(|(name, section)| {
            let legal = !name.is_empty()
                && name.len() <= 40
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            if !legal {
                section.fault_here(format_args!(
                    "the name {name:?} is not allowed: 1 to 40 letters, digits, - and _"
                ));
            }
            if name == "github" {
                section.fault_here(
                    "the name \"github\" is not allowed: status pages use it for GitHub",
                );
            }
            (name, read(section))
        })
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    OpenStack,
    Lxd,
}

/// Keys of one kind of provider only, with the kind.
const ONLY: [(Word, &[&str]); 2] = [
    (Word::OpenStack, &["cloud", "clouds_file"]),
    (
        Word::Lxd,
        &["socket", "url", "client_certificate", "client_key", "server_certificate", "project"],
    ),
];

fn read(section: Section<'_>) -> Option<Provider> {
    if !section.has("kind") {
        section.missing("kind", "it is \"openstack\" or \"lxd\"");
    }
    let word = section.kind(&[("openstack", Word::OpenStack), ("lxd", Word::Lxd)]);
    let kind = match word {
        Some(Word::OpenStack) => Some(openstack(&section)),
        Some(Word::Lxd) => Some(ProviderKind::Lxd(lxd(&section))),
        None => None,
    };
    for (of, keys) in ONLY {
        match (word, of) {
            (Some(Word::OpenStack), Word::Lxd) => section.foreign(keys, "LXD providers"),
            (Some(Word::Lxd), Word::OpenStack) => section.foreign(keys, "OpenStack providers"),
            // Without a kind nobody knows whose keys these are.
            (None, _) => keys.iter().for_each(|key| _ = section.has(key)),
            _ => {}
        }
    }
    let concurrency = section.number("concurrency", 1..=200);
    let concurrency = concurrency.and_then(|calls| u32::try_from(calls).ok());
    let rate = section.fraction("rate", 0.1..=1000.0);
    section.finish();
    Some(Provider { kind: kind?, concurrency, rate })
}

fn openstack(section: &Section<'_>) -> ProviderKind {
    let cloud = section.text("cloud").map(str::to_owned);
    // clouds.yaml holds passwords.
    let clouds_file = section.file("clouds_file", true);
    ProviderKind::OpenStack { cloud, clouds_file }
}

/// Where LXD and Incus put their sockets: the package's place differs with the packager.
const SOCKETS: &str = "\"/var/snap/lxd/common/lxd/unix.socket\" (LXD, snap), \
     \"/var/lib/lxd/unix.socket\" (LXD, Debian) or \"/var/lib/incus/unix.socket\" (Incus)";

fn lxd(section: &Section<'_>) -> LxdAccess {
    let remote = ["client_certificate", "client_key", "server_certificate"];
    let reach = match (section.has("socket"), section.has("url")) {
        (true, both) => {
            if both {
                section.fault("url", "socket is given as well; keep one of them");
            }
            for key in remote {
                if section.has(key) && !both {
                    section.fault(key, "is of use only with url; a socket needs no certificate");
                }
            }
            LxdReach::Socket(section.path("socket").unwrap_or_default())
        }
        (false, true) => https(section),
        (false, false) => {
            let what = format!("{SOCKETS}; or url, for an LXD on another machine");
            section.missing("socket", what);
            for key in remote {
                section.has(key);
            }
            LxdReach::Socket(PathBuf::new())
        }
    };
    let project = section.text("project").unwrap_or("default").to_owned();
    LxdAccess { reach, project }
}

fn https(section: &Section<'_>) -> LxdReach {
    let text = section.text("url").unwrap_or_default();
    let url = Url::parse(text).ok().filter(|url| {
        url.scheme() == "https"
            && url.has_host()
            && url.path() == "/"
            && url.query().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    if url.is_none() && !text.is_empty() {
        section.fault(
            "url",
            format_args!("{text:?} is not allowed: \"https://HOST:8443\" and nothing behind it"),
        );
    }
    let needed = |key: &'static str, secret, what: &str| {
        if !section.has(key) {
            section.missing(key, what);
        }
        section.file(key, secret).unwrap_or_default()
    };
    let client_certificate =
        needed("client_certificate", false, "the client's certificate (PEM), which LXD trusts");
    let client_key = needed("client_key", true, "the key of client_certificate (PEM)");
    let server_certificate = section.file("server_certificate", false);
    match url {
        Some(url) => LxdReach::Https { url, client_certificate, client_key, server_certificate },
        // Refused already; that it is an LXD still counts when its pools are read.
        None => LxdReach::Socket(PathBuf::new()),
    }
}
