//! One entry of `clouds.yaml`, or the `OS_*` variables that say the same, checked key by key.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use osauth::InterfaceType;
use runner_fleet_actors::port::Secret;
use serde_yaml::Value;
use url::Url;

use super::{CloudConfig, CloudFaults, Credentials, Named, Owned};

/// The clouds of one file, still untyped: `secure.yaml` is laid over them first.
pub(super) fn clouds(path: &Path, text: &str) -> Result<BTreeMap<String, Value>, CloudFaults> {
    let file = path.display();
    let fault = |what: String| CloudFaults(vec![format!("{file}: {what}")]);
    // serde_yaml's message shows places and types, never a value of a mapping entry.
    let root: Value = serde_yaml::from_str(text).map_err(|e| match e.location() {
        Some(at) => fault(format!("is not YAML (line {}, column {})", at.line(), at.column())),
        None => fault("is not YAML".to_owned()),
    })?;
    let Some(clouds) = root.get("clouds").and_then(Value::as_mapping) else {
        return Err(fault("has no mapping `clouds`".to_owned()));
    };
    Ok(clouds
        .iter()
        .filter_map(|(name, entry)| Some((name.as_str()?.to_owned(), entry.clone())))
        .collect())
}

/// Lays `extra` over `own`, mapping by mapping.
pub(super) fn merge(own: &mut Value, extra: &Value) {
    match (own, extra) {
        (Value::Mapping(own), Value::Mapping(extra)) => {
            for (key, value) in extra {
                match own.get_mut(key) {
                    Some(present) => merge(present, value),
                    None => {
                        own.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (own, extra) => *own = extra.clone(),
    }
}

/// A cloud from the variables alone (what an `openrc` file sets).
pub(super) fn from_env(env: &BTreeMap<String, String>) -> Result<CloudConfig, CloudFaults> {
    let lookup = |key: &str| {
        let name = match key {
            "auth_type" => "OS_AUTH_TYPE".to_owned(),
            "verify" => {
                let insecure = env.get("OS_INSECURE").map(|v| v.to_ascii_lowercase());
                let off = matches!(insecure.as_deref(), Some("1" | "true" | "yes"));
                return off.then(|| "false".to_owned());
            }
            "interface" => {
                let old = env.get("OS_ENDPOINT_TYPE").cloned();
                return env.get("OS_INTERFACE").cloned().or(old).filter(|v| !v.is_empty());
            }
            other => format!("OS_{}", other.to_ascii_uppercase()),
        };
        env.get(&name).filter(|v| !v.is_empty()).cloned()
    };
    let show = |key: &str| match key {
        "verify" => "OS_INSECURE".to_owned(),
        other => format!("OS_{}", other.to_ascii_uppercase()),
    };
    Reader { lookup: &lookup, show: &show, faults: Vec::new() }.cloud("envvars", None)
}

/// A cloud from its entry in `clouds.yaml`.
pub(super) fn from_yaml(
    name: &str,
    file: &str,
    entry: &Value,
    folder: Option<&Path>,
) -> Result<CloudConfig, CloudFaults> {
    if entry.get("profile").is_some_and(|p| !p.is_null())
        && entry.get("auth").and_then(|a| a.get("auth_url")).is_none()
    {
        return Err(CloudFaults(vec![format!(
            "{file}: clouds.{name}.profile: vendor profiles are not read; write the profile's \
             auth_url into clouds.{name}.auth"
        )]));
    }
    let top = ["auth_type", "region_name", "interface", "cacert", "verify"];
    let scalar = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    };
    let lookup = |key: &str| {
        if key == "interface" {
            let old = entry.get("endpoint_type");
            return entry.get(key).or(old).and_then(scalar);
        }
        if top.contains(&key) {
            return entry.get(key).and_then(scalar);
        }
        entry.get("auth").and_then(|auth| auth.get(key)).and_then(scalar)
    };
    let show = |key: &str| {
        let auth = if top.contains(&key) { "" } else { "auth." };
        format!("{file}: clouds.{name}.{auth}{key}")
    };
    Reader { lookup: &lookup, show: &show, faults: Vec::new() }.cloud(name, folder)
}

/// Reads keys and gathers what is wrong with them, so that all faults are shown at once.
struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// The key as the user wrote it, with its file.
    show: &'a dyn Fn(&str) -> String,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn get(&self, key: &str) -> Option<String> {
        (self.lookup)(key)
    }

    fn fault(&mut self, key: &str, what: &str) {
        self.faults.push(format!("{} {what}", (self.show)(key)));
    }

    fn need(&mut self, key: &str) -> String {
        self.get(key).unwrap_or_else(|| {
            self.fault(key, "is missing");
            String::new()
        })
    }

    fn cloud(mut self, name: &str, folder: Option<&Path>) -> Result<CloudConfig, CloudFaults> {
        let auth_url = self.auth_url();
        let credentials = self.credentials();
        let interface = match self.get("interface") {
            None => InterfaceType::Public,
            Some(word) => word.parse().unwrap_or_else(|_| {
                self.fault("interface", "must be public, internal or admin");
                InterfaceType::Public
            }),
        };
        if self.get("verify").is_some_and(|v| v.eq_ignore_ascii_case("false")) {
            self.fault(
                "verify",
                "switches certificate checks off, and then anybody on the way could take the \
                 credentials: name the authority with `cacert` instead",
            );
        }
        let cacert = self.get("cacert").map(|path| match folder {
            Some(folder) => folder.join(path),
            None => PathBuf::from(path),
        });
        match (auth_url, credentials, self.faults) {
            (Some(auth_url), Some(credentials), faults) if faults.is_empty() => Ok(CloudConfig {
                name: name.to_owned(),
                auth_url,
                credentials,
                region: (self.lookup)("region_name"),
                interface,
                cacert,
            }),
            (_, _, faults) => Err(CloudFaults(faults)),
        }
    }

    fn auth_url(&mut self) -> Option<Url> {
        let text = self.need("auth_url");
        if text.is_empty() {
            return None;
        }
        match Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                if url.path().trim_end_matches('/').ends_with("/v2.0") {
                    self.fault("auth_url", "names Identity v2.0, which is gone; use /v3");
                    return None;
                }
                Some(url)
            }
            _ => {
                self.fault("auth_url", "must be an http or https address of Keystone");
                None
            }
        }
    }

    fn credentials(&mut self) -> Option<Credentials> {
        let given = self.get("auth_type");
        let kind =
            given.as_deref().unwrap_or(if self.get("application_credential_secret").is_some() {
                "v3applicationcredential"
            } else if self.get("token").is_some() && self.get("password").is_none() {
                "token"
            } else {
                "password"
            });
        match kind {
            "password" | "v3password" => Some(Credentials::Password {
                user: self.user(),
                password: Secret::new(self.need("password")),
                project: self.project(),
            }),
            "v3applicationcredential" => {
                let secret = Secret::new(self.need("application_credential_secret"));
                if let Some(id) = self.get("application_credential_id") {
                    return Some(Credentials::ApplicationCredentialId { id, secret });
                }
                let Some(name) = self.get("application_credential_name") else {
                    self.fault(
                        "application_credential_id",
                        "is missing (or application_credential_name with a user)",
                    );
                    return None;
                };
                Some(Credentials::ApplicationCredentialName { name, user: self.user(), secret })
            }
            "token" | "v3token" => Some(Credentials::Token {
                token: Secret::new(self.need("token")),
                project: self.project(),
            }),
            other => {
                let what = format!(
                    "is {other:?}; supported are password, v3password, v3applicationcredential, \
                     token and v3token"
                );
                self.fault("auth_type", &what);
                None
            }
        }
    }

    fn user(&mut self) -> Owned {
        let domain = self.domain("user");
        let what = match (self.get("user_id"), self.get("username")) {
            (Some(id), _) => Named::Id(id),
            (None, Some(name)) => Named::Name(name),
            (None, None) => {
                self.fault("username", "is missing (or user_id)");
                Named::Name(String::new())
            }
        };
        Owned { what, domain }
    }

    fn project(&mut self) -> Owned {
        let domain = self.domain("project");
        let id = self.get("project_id").or_else(|| self.get("tenant_id"));
        let name = self.get("project_name").or_else(|| self.get("tenant_name"));
        let what = match (id, name) {
            (Some(id), _) => Named::Id(id),
            (None, Some(name)) => Named::Name(name),
            (None, None) => {
                self.fault("project_name", "is missing (or project_id)");
                Named::Name(String::new())
            }
        };
        Owned { what, domain }
    }

    /// The domain of a user or project: its own, the common one, else Keystone's first domain, whose
    /// identifier is `default` (openstacksdk's default as well).
    fn domain(&self, of: &str) -> Named {
        let own_id = self.get(&format!("{of}_domain_id"));
        let own_name = self.get(&format!("{of}_domain_name"));
        own_id
            .map(Named::Id)
            .or(own_name.map(Named::Name))
            .or_else(|| self.get("domain_id").map(Named::Id))
            .or_else(|| self.get("domain_name").map(Named::Name))
            .unwrap_or_else(|| Named::Id("default".to_owned()))
    }
}
