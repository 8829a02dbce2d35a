//! Which cloud, and who we are there: `clouds.yaml` and the `OS_*` variables as one typed value.
//!
//! The format is the one that every OpenStack tool reads (openstacksdk, "Configuring OpenStack SDK
//! Applications"), so that an operator brings the file that works for `openstack server list`.
//! Reading is split: [`Sources`] is what was found (texts and variables), [`CloudConfig::parse`] is
//! a pure function over it that reports every fault at once, each with its file and key.
//!
//! The alternative, the loader of the crate `osauth`, ignores `OS_CLIENT_CONFIG_FILE`, refuses
//! `v3password` and drops `user_domain_id` without a word; a file that works elsewhere must not
//! fail here for such reasons.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use runner_fleet_actors::port::Secret;
use url::Url;

mod entry;
mod sources;

pub use sources::Sources;

/// A domain, user or project: by name or by identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// Keystone's identifier.
    Id(String),
    /// A name, unique within its domain.
    Name(String),
}

/// A user or project together with the domain that makes its name unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// The user or project itself.
    pub what: Named,
    /// Its domain; Keystone ignores it where `what` is an identifier.
    pub domain: Named,
}

/// How to prove who we are to Keystone (Identity API v3, "Authentication and token management").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `password`, `v3password`.
    Password {
        /// Who.
        user: Owned,
        /// The password.
        password: Secret,
        /// The project to work in.
        project: Owned,
    },
    /// `v3applicationcredential` by id: the project is part of the credential.
    ApplicationCredentialId {
        /// The credential's identifier.
        id: String,
        /// Its secret.
        secret: Secret,
    },
    /// `v3applicationcredential` by name, which is unique for its user only.
    ApplicationCredentialName {
        /// The credential's name.
        name: String,
        /// Whose.
        user: Owned,
        /// Its secret.
        secret: Secret,
    },
    /// `v3token`, `token`: a token made elsewhere. It can be exchanged while it lives and not after.
    Token {
        /// The token.
        token: Secret,
        /// The project to work in.
        project: Owned,
    },
}

/// One cloud, parsed and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudConfig {
    /// Its name in `clouds.yaml`, or `envvars`.
    pub name: String,
    /// Keystone's address, with or without `/v3`.
    pub auth_url: Url,
    /// Who we are.
    pub credentials: Credentials,
    /// The region whose endpoints are used; `None` takes the catalog's first.
    pub region: Option<String>,
    /// Which of the catalog's interfaces is used.
    pub interface: osauth::InterfaceType,
    /// A file of certificate authorities in PEM, trusted on top of the system's.
    pub cacert: Option<PathBuf>,
}

/// Everything that is wrong with the description of a cloud, each line with its file and key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct CloudFaults(pub Vec<String>);

impl fmt::Display for CloudFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl CloudConfig {
    /// Finds and parses the description of a cloud, from this process's environment and files.
    ///
    /// `file` overrides the search for `clouds.yaml`, `cloud` overrides `OS_CLOUD`.
    ///
    /// # Errors
    /// All faults at once, each with its file and key.
    pub fn load(file: Option<&std::path::Path>, cloud: Option<&str>) -> Result<Self, CloudFaults> {
        Self::parse(&Sources::read(file, std::env::vars())?, cloud)
    }

    /// The pure part: picks one cloud out of what was found and checks it.
    ///
    /// The cloud is `cloud`, else `OS_CLOUD`, else what the variables say by themselves
    /// (`OS_AUTH_URL` is set), else the only cloud of the file.
    ///
    /// # Errors
    /// All faults at once, each with its file and key.
    pub fn parse(sources: &Sources, cloud: Option<&str>) -> Result<Self, CloudFaults> {
        let var = |key: &str| sources.env.get(key).filter(|v| !v.is_empty()).cloned();
        let wanted = cloud.map(str::to_owned).or_else(|| var("OS_CLOUD"));
        if wanted.is_none() && var("OS_AUTH_URL").is_some() {
            return entry::from_env(&sources.env);
        }
        let Some((path, text)) = &sources.clouds else {
            return Err(CloudFaults(vec![format!(
                "no clouds.yaml found (looked at {}) and OS_AUTH_URL is not set: name a file, \
                 set OS_CLIENT_CONFIG_FILE, or set the OS_* variables",
                if sources.searched.is_empty() {
                    "nothing".to_owned()
                } else {
                    sources.searched.join(", ")
                }
            )]));
        };
        let mut clouds = entry::clouds(path, text)?;
        if let Some((secure_path, secure_text)) = &sources.secure {
            for (name, extra) in entry::clouds(secure_path, secure_text)? {
                clouds.entry(name).and_modify(|own| entry::merge(own, &extra)).or_insert(extra);
            }
        }
        let name = pick(wanted, &clouds, &path.display().to_string())?;
        let found = clouds.remove(&name).unwrap_or(serde_yaml::Value::Null);
        entry::from_yaml(&name, &path.display().to_string(), &found, path.parent())
    }
}

fn pick(
    wanted: Option<String>,
    clouds: &BTreeMap<String, serde_yaml::Value>,
    file: &str,
) -> Result<String, CloudFaults> {
    let known = || {
        let names: Vec<&str> = clouds.keys().map(String::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    match wanted {
        Some(name) if clouds.contains_key(&name) => Ok(name),
        Some(name) => Err(CloudFaults(vec![format!(
            "{file}: there is no cloud {name:?} under `clouds`; there are: {}",
            known()
        )])),
        None if clouds.len() == 1 => Ok(known()),
        None => Err(CloudFaults(vec![format!(
            "{file}: which cloud? Name one or set OS_CLOUD; there are: {}",
            known()
        )])),
    }
}

#[cfg(test)]
mod tests;
