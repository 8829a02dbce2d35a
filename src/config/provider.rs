//! `[providers.NAME]`: the clouds that make VMs.

use std::{collections::BTreeMap, path::PathBuf};

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
}

/// `[providers.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// What kind of cloud.
    pub kind: ProviderKind,
    /// Calls that may be under way at once. Default 10.
    pub concurrency: u32,
    /// Calls a second in the long run. Default 10.
    pub rate: f64,
}

/// All providers by name; `None` where one has faults, so that a pool that names it has none.
pub(super) fn read_all(root: &Section<'_>) -> BTreeMap<String, Option<Provider>> {
    if !root.has("providers") {
        root.missing("providers", "at least one table [providers.NAME] with kind = \"openstack\"");
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

fn read(section: Section<'_>) -> Option<Provider> {
    if !section.has("kind") {
        section.missing("kind", "it is \"openstack\"");
    }
    let kind = section.word("kind", &[("openstack", ())]);
    let cloud = section.text("cloud").map(str::to_owned);
    // clouds.yaml holds passwords.
    let clouds_file = section.file("clouds_file", true);
    let concurrency = section.count("concurrency", 10, 1..=200);
    let rate = section.fraction("rate", 10.0, 0.1..=1000.0);
    section.finish();
    kind?;
    Some(Provider { kind: ProviderKind::OpenStack { cloud, clouds_file }, concurrency, rate })
}
