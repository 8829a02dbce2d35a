//! What a configuration's clouds need beside it (clouds.yaml, certificates), read before anything is
//! started: a fault there is one of the configuration, and no start will mend it.

use std::path::Path;

use crate::config::{Config, Faults};
#[cfg(feature = "openstack")]
use crate::{
    config::{Fault, ProviderKind},
    provider::openstack::cloud::CloudConfig,
};

/// Reads the clouds.yaml of every OpenStack provider: what is odd about them.
///
/// # Errors
/// Everything that is wrong with them, each fault with its provider, file and key.
#[cfg(feature = "openstack")]
pub fn read_clouds(config: &Config, path: &Path) -> Result<Vec<String>, Faults> {
    let mut warnings = Vec::new();
    let mut faults = Vec::new();
    for (name, provider) in &config.providers {
        let ProviderKind::OpenStack { cloud, clouds_file } = &provider.kind else { continue };
        match CloudConfig::load(clouds_file.as_deref(), cloud.as_deref()) {
            Ok(cloud) => warnings
                .extend(cloud.warnings.into_iter().map(|what| format!("providers.{name}: {what}"))),
            Err(found) => {
                let key = format!("providers.{name}");
                faults.extend(found.0.iter().map(|what| Fault::new(None, &key, what)));
            }
        }
    }
    if faults.is_empty() { Ok(warnings) } else { Err(Faults { file: path.to_path_buf(), faults }) }
}

/// There is nothing to read: a provider of that kind is refused by its key.
///
/// # Errors
/// None.
#[cfg(not(feature = "openstack"))]
pub fn read_clouds(_config: &Config, _path: &Path) -> Result<Vec<String>, Faults> {
    Ok(Vec::new())
}
