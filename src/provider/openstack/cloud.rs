//! Which cloud, and who we are there: `clouds.yaml` and the `OS_*` variables as one typed value.
//!
//! The format is the one that every OpenStack tool reads (openstacksdk, "Configuring OpenStack SDK
//! Applications"), so that an operator brings the file that works for `openstack server list`.
//! Reading is split: [`Sources`] is what was found (texts and variables), [`CloudConfig::parse`] is
//! a pure function over it that reports every fault at once, each with its file and key.
//!
//! The alternative, the loader of the crate `osauth`, ignores `OS_CLIENT_CONFIG_FILE`, refuses
//! `v3password` and drops `user_domain_id` without a word; a file that works elsewhere must not
//! fail here for such reasons. Every key that openstacksdk reads is read here or named (`cloud/keys.rs`).

use std::{
    fmt,
    path::{Path, PathBuf},
};

use runner_fleet_actors::{foreign::Words, port::Secret};
use url::Url;

mod entry;
mod keys;
mod reader;
mod sources;
pub(super) mod trust;
mod yaml;

use reader::Origin;
pub use sources::Sources;
use yaml::{Map, What};

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

/// Which of a service's addresses is used (the catalog's `interface`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// For everybody.
    Public,
    /// For whoever is in the cloud's own network.
    Internal,
    /// For its operators.
    Admin,
}

impl Interface {
    fn of_word(word: &str) -> Option<Self> {
        match word.strip_suffix("URL").unwrap_or(word) {
            "public" => Some(Self::Public),
            "internal" => Some(Self::Internal),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }

    /// The catalog's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Admin => "admin",
        }
    }
}

/// What a cloud says of one service alone (`compute_endpoint_override`, `image_interface`, …).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceWords {
    /// Its address, in place of the catalog's.
    pub endpoint: Option<Url>,
    /// Its interfaces, in place of the cloud's.
    pub interfaces: Option<Vec<Interface>>,
    /// Its region, in place of the cloud's.
    pub region: Option<String>,
    /// Its type in the catalog, where it is not the service's own.
    pub kind: Option<String>,
    /// Its name in the catalog, where several services are of one type.
    pub name: Option<String>,
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
    /// Which of the catalog's interfaces is used: the first that a service has.
    pub interfaces: Vec<Interface>,
    /// What is said of compute, image and network alone, in this order.
    pub services: [ServiceWords; 3],
    /// A file of certificate authorities in PEM, trusted on top of the system's.
    pub cacert: Option<PathBuf>,
    /// The certificate to show to the cloud, in PEM, and its key where that is a file of its own.
    pub client: Option<(PathBuf, Option<PathBuf>)>,
    /// What is odd and hinders nothing: keys without effect or that nobody knows, each with its line.
    pub warnings: Vec<String>,
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
    /// Finds and parses the description of a cloud, from this process's environment and files, and
    /// looks whether the files that it names can be used.
    ///
    /// `file` overrides the search for `clouds.yaml`, `cloud` overrides `OS_CLOUD`.
    ///
    /// # Errors
    /// All faults at once, each with its file and key.
    pub fn load(file: Option<&Path>, cloud: Option<&str>) -> Result<Self, CloudFaults> {
        let config = Self::parse(&Sources::read(file, std::env::vars())?, cloud)?;
        let of_files = [trust::authorities(&config).err(), trust::identity(&config).err()];
        let faults: Vec<String> = of_files.into_iter().flatten().collect();
        if faults.is_empty() { Ok(config) } else { Err(CloudFaults(faults)) }
    }

    /// The pure part: picks one cloud out of what was found and checks it.
    ///
    /// The cloud is `cloud`, else `OS_CLOUD`, else what the variables say by themselves
    /// (`OS_AUTH_URL` is set), else the only cloud of the file.
    ///
    /// # Errors
    /// All faults at once, each with its file and key.
    pub fn parse(sources: &Sources, cloud: Option<&str>) -> Result<Self, CloudFaults> {
        // Keys and words of a file may have anything in them, and end on terminals.
        let tame =
            |told: Vec<String>| told.into_iter().map(|one| Words::from(one).into()).collect();
        match Self::picked(sources, cloud) {
            Ok(config) => Ok(Self { warnings: tame(config.warnings), ..config }),
            Err(faults) => Err(CloudFaults(tame(faults.0))),
        }
    }

    fn picked(sources: &Sources, cloud: Option<&str>) -> Result<Self, CloudFaults> {
        let var = |key: &str| sources.env.get(key).filter(|v| !v.is_empty()).cloned();
        let wanted = cloud.map(str::to_owned).or_else(|| var("OS_CLOUD"));
        let of_env = var("OS_CLOUD_NAME").unwrap_or_else(|| "envvars".to_owned());
        let home = var("HOME");
        let profiles = match &sources.profiles {
            Some((path, text)) => entry::section(path, text, "public-clouds")?,
            None => None,
        };
        let vendor_files = sources.profiles.as_ref().map_or_else(
            || "the folders of clouds.yaml".to_owned(),
            |(path, _)| path.display().to_string(),
        );
        let gather = |name: &str, map| {
            entry::gather(name, map, profiles.as_ref(), &vendor_files).map_err(CloudFaults)
        };
        if var("OS_AUTH_URL").is_some() && wanted.as_ref().is_none_or(|wanted| *wanted == of_env) {
            let found = gather(&of_env, entry::of_env(&sources.env))?;
            return reader::cloud(&of_env, &Origin::Env, &found, home.as_deref());
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
        let file = path.display().to_string();
        let Some(clouds) = entry::section(path, text, "clouds")? else {
            return Err(CloudFaults(vec![format!("{file}: has no mapping `clouds`")]));
        };
        let mut warnings = sources.warnings.clone();
        let mut whole = clouds.clone();
        if let Some((secure, text)) = &sources.secure {
            match entry::section(secure, text, "clouds")? {
                Some(extra) => whole.lay_over(&extra),
                None if text.lines().all(|l| l.trim().is_empty() || l.starts_with('#')) => {}
                None => {
                    let secure = secure.display();
                    warnings.push(format!("{secure}: has no mapping `clouds`: it says nothing"));
                }
            }
        }
        let name = pick(wanted, &clouds, &whole, &file)?;
        let own = whole.get(&name).map(|entry| entry.value.what.clone());
        let own = match own {
            Some(What::Map(own)) => own,
            None | Some(What::Null) => Map::default(),
            Some(What::Text(_) | What::List(_)) => {
                let what = format!("{file}: clouds.{name} must be a mapping");
                return Err(CloudFaults(vec![what]));
            }
        };
        let found = gather(&name, own)?;
        let mut config = reader::cloud(&name, &Origin::File(path), &found, home.as_deref())?;
        config.warnings.splice(0..0, warnings);
        Ok(config)
    }
}

/// The cloud that is meant: the wanted one, else the only one of `clouds.yaml` itself.
fn pick(
    wanted: Option<String>,
    clouds: &Map,
    whole: &Map,
    file: &str,
) -> Result<String, CloudFaults> {
    let mut names: Vec<&str> = clouds.0.iter().map(|entry| entry.key.as_str()).collect();
    names.sort_unstable();
    let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    match (wanted, names.as_slice()) {
        (Some(name), _) if whole.get(&name).is_some() => Ok(name),
        (Some(name), _) => Err(CloudFaults(vec![format!(
            "{file}: there is no cloud {name:?} under `clouds`; there are: {known}"
        )])),
        (None, [one]) => Ok((*one).to_owned()),
        (None, _) => Err(CloudFaults(vec![format!(
            "{file}: which cloud? Name one or set OS_CLOUD; there are: {known}"
        )])),
    }
}

#[cfg(test)]
mod tests;
