//! A cloud's keys, checked one by one: every fault with its file, key and line, all at once.

use std::path::{Path, PathBuf};

use runner_fleet_actors::port::Secret;
use url::Url;

use super::{
    CloudConfig, CloudFaults, Credentials, Interface, Named, Owned, ServiceWords,
    entry::{Gathered, at},
    keys::{self, Taken},
    yaml::{Entry, Map, Node, What},
};

/// Where the keys come from, which is how they are called in a message.
pub(super) enum Origin<'a> {
    /// The variables of the process.
    Env,
    /// A file, and the cloud's name in it.
    File(&'a Path),
}

/// Reads one cloud. `home` is what `~` stands for.
pub(super) fn cloud(
    name: &str,
    origin: &Origin<'_>,
    found: &Gathered,
    home: Option<&str>,
) -> Result<CloudConfig, CloudFaults> {
    let warnings = found.warnings.clone();
    let mut reader = Reader { name, origin, home, map: &found.map, faults: Vec::new(), warnings };
    reader.known_keys();
    let auth_url = reader.auth_url(found.region.as_ref());
    let credentials = reader.credentials();
    let interfaces = reader.interfaces("interface").unwrap_or_else(|| vec![Interface::Public]);
    reader.identity_version();
    let services = keys::SERVICES.map(|service| reader.service(service));
    let cacert = reader.trust();
    let client = reader.client_certificate();
    let region = found.region.as_ref().and_then(Node::text).map(str::to_owned);
    match (auth_url, credentials, reader.faults) {
        (Some(auth_url), Some(credentials), faults) if faults.is_empty() => Ok(CloudConfig {
            name: name.to_owned(),
            auth_url,
            credentials,
            region,
            interfaces,
            services,
            cacert,
            client,
            warnings: reader.warnings,
        }),
        (_, _, faults) => Err(CloudFaults(faults)),
    }
}

struct Reader<'a> {
    name: &'a str,
    origin: &'a Origin<'a>,
    home: Option<&'a str>,
    map: &'a Map,
    faults: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    /// The key as the user would write it, with its file.
    fn show(&self, key: &str) -> String {
        match self.origin {
            Origin::Env => format!("OS_{}", key.rsplit('.').next().unwrap_or(key).to_uppercase()),
            Origin::File(path) => format!("{}: clouds.{}.{key}", path.display(), self.name),
        }
    }

    fn fault(&mut self, key: &str, what: &str) {
        let text = format!("{} {what}", self.show(key));
        self.faults.push(text);
    }

    fn fault_at(&mut self, entry: &Entry, key: &str, what: &str) {
        let line = entry.at.line.map(|line| format!(" (line {line})")).unwrap_or_default();
        let text = match self.origin {
            // A key of a profile or of secure.yaml stands elsewhere.
            Origin::File(_) => {
                format!("{}: clouds.{}.{key}{line} {what}", entry.at.file, self.name)
            }
            Origin::Env => format!("{} {what}", self.show(key)),
        };
        self.faults.push(text);
    }

    fn auth(&self) -> Option<&'a Map> {
        self.map.get("auth")?.value.map()
    }

    /// A key of the cloud itself, if it says anything.
    fn top(&self, key: &str) -> Option<&'a Entry> {
        self.map.get(key).filter(|entry| entry.value.what != What::Null)
    }

    /// A key of the log-in under its present or its old name, and whether it stands in `auth`.
    ///
    /// openstacksdk takes domains, projects and tokens from the cloud itself before it takes them from
    /// `auth` (`_fix_backwards_auth`), and all else the other way round (`_validate_auth`).
    fn login(&self, key: &str) -> Option<(&'a Entry, bool)> {
        let names = match key {
            "username" => ["username", "user_name"],
            "project_id" => ["project_id", "tenant_id"],
            "project_name" => ["project_name", "tenant_name"],
            "token" => ["token", "auth_token"],
            one => [one, one],
        };
        let found = |name: &str, in_auth: bool| {
            let map = if in_auth { self.auth()? } else { self.map };
            let entry = map.get(name).filter(|entry| entry.value.what != What::Null)?;
            Some((entry, in_auth))
        };
        if key.contains("domain") || key.starts_with("project") || key == "token" {
            names.iter().find_map(|name| found(name, false).or_else(|| found(name, true)))
        } else {
            let of = |in_auth: bool| names.iter().find_map(|name| found(name, in_auth));
            of(true).or_else(|| of(false))
        }
    }

    fn text(&mut self, entry: &'a Entry, key: &str) -> Option<String> {
        match &entry.value.what {
            What::Text(text) if !text.is_empty() => Some(text.clone()),
            What::Text(_) | What::Null => None,
            What::List(_) | What::Map(_) => {
                self.fault_at(entry, key, "must be one value, and is a list or a mapping");
                None
            }
        }
    }

    fn get(&mut self, key: &str) -> Option<String> {
        let (entry, in_auth) = self.login(key)?;
        let shown = if in_auth { format!("auth.{key}") } else { key.to_owned() };
        self.text(entry, &shown)
    }

    fn get_top(&mut self, key: &str) -> Option<String> {
        let entry = self.top(key)?;
        self.text(entry, key)
    }

    fn need(&mut self, key: &str) -> String {
        self.get(key).unwrap_or_else(|| {
            self.fault(&format!("auth.{key}"), "is missing");
            String::new()
        })
    }

    /// Names what has no effect, what is not supported, and what nobody knows.
    fn known_keys(&mut self) {
        if let Some(entry) = self.map.get("auth")
            && !matches!(entry.value.what, What::Map(_) | What::Null)
        {
            self.fault_at(entry, "auth", "must be a mapping");
        }
        if matches!(self.origin, Origin::Env) {
            // Variables of other tools begin with OS_ as well; what would mislead is still refused.
            for entry in &self.map.0 {
                if let Some(Taken::Refused(why)) = keys::of_cloud(&entry.key) {
                    self.fault_at(entry, &entry.key, &format!("is set: {why}"));
                }
            }
            return;
        }
        let own = self.map.0.iter().map(|entry| (entry, ""));
        let auth = self.auth().into_iter().flat_map(|auth| &auth.0).map(|entry| (entry, "auth."));
        for (entry, of) in own.chain(auth) {
            let taken = match of {
                "" => keys::of_cloud(&entry.key),
                _ => keys::of_auth(&entry.key),
            };
            let key = format!("{of}{}", entry.key);
            let whole = format!("clouds.{}.{key}", self.name);
            match taken {
                Some(Taken::Used | Taken::Idle) => {}
                Some(Taken::Without(why)) => {
                    self.warnings.push(at(&entry.at, &format!("{whole} has no effect: {why}")));
                }
                Some(Taken::Refused(why)) => self.fault_at(entry, &key, &format!("is set: {why}")),
                None => {
                    let near = keys::like(&entry.key);
                    let near = near.map(|near| format!(" (is {near} meant?)")).unwrap_or_default();
                    let what = format!("{whole} is a key that openstacksdk does not know{near}");
                    self.warnings.push(at(&entry.at, &what));
                }
            }
        }
    }

    /// Keystone's address; `{region_name}` and the like in it are the cloud's other keys.
    fn auth_url(&mut self, region: Option<&Node>) -> Option<Url> {
        let mut text = self.need("auth_url");
        if text.is_empty() {
            return None;
        }
        while let Some((start, rest)) = text.split_once('{') {
            let Some((key, end)) = rest.split_once('}') else { break };
            let value = match key {
                "region_name" => region.and_then(Node::text),
                key => self.map.get(key).and_then(|entry| entry.value.text()),
            };
            let Some(value) = value.filter(|value| !value.contains('{')) else {
                let what = format!("names {{{key}}}, and the cloud says nothing of that");
                self.fault("auth.auth_url", &what);
                return None;
            };
            text = format!("{start}{value}{end}");
        }
        match Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                if url.path().trim_end_matches('/').ends_with("/v2.0") {
                    self.fault("auth.auth_url", "names Identity v2.0, which is gone; use /v3");
                    return None;
                }
                Some(url)
            }
            _ => {
                self.fault("auth.auth_url", "must be an http or https address of Keystone");
                None
            }
        }
    }

    fn identity_version(&mut self) {
        if let Some(version) = self.get_top("identity_api_version")
            && !version.starts_with('3')
        {
            self.fault("identity_api_version", "is not 3; Identity v2.0 is gone from OpenStack");
        }
    }

    fn interfaces(&mut self, key: &str) -> Option<Vec<Interface>> {
        let old = key.replace("interface", "endpoint_type");
        let entry = self.top(key).or_else(|| self.top(&old))?;
        let key = entry.key.clone();
        let words: Vec<&str> = match &entry.value.what {
            What::Text(text) => text.split(',').map(str::trim).collect(),
            What::List(nodes) => nodes.iter().map(|node| node.text().unwrap_or("")).collect(),
            What::Null | What::Map(_) => Vec::new(),
        };
        let known: Option<Vec<Interface>> = words.into_iter().map(Interface::of_word).collect();
        match known.filter(|known| !known.is_empty()) {
            Some(known) => Some(known),
            None => {
                let what = "must be public, internal or admin, or a list of them, the best first";
                self.fault_at(entry, &key, what);
                None
            }
        }
    }

    /// What a cloud says of one service alone.
    fn service(&mut self, service: &str) -> ServiceWords {
        let key = |end: &str| format!("{service}_{end}");
        let given = ["endpoint_override", "endpoint"].map(key).into_iter();
        let given = given.filter_map(|key| Some((self.get_top(&key)?, key))).collect::<Vec<_>>();
        let endpoint = given.first().and_then(|(text, key)| match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
            _ => {
                self.fault(key, "must be an http or https address");
                None
            }
        });
        ServiceWords {
            endpoint,
            interfaces: self.interfaces(&key("interface")),
            region: self.get_top(&key("region_name")),
            kind: self.get_top(&key("service_type")),
            name: self.get_top(&key("service_name")),
        }
    }

    /// The file of authorities to trust. Certificate checks cannot be switched off.
    fn trust(&mut self) -> Option<PathBuf> {
        const WAY_OUT: &str = "switches certificate checks off, and then anybody on the way could \
             take the credentials: take it out, and name the authority that signed the cloud's \
             certificate with `cacert` (a PEM file)";
        let cacert = self.path("cacert");
        if let Some(word) = self.get_top("insecure")
            && truth(&word) != Some(false)
        {
            self.fault("insecure", WAY_OUT);
        }
        let Some(word) = self.get_top("verify") else { return cacert };
        match truth(&word) {
            Some(true) => {}
            Some(false) => self.fault("verify", WAY_OUT),
            // To requests, on which openstacksdk stands, a text is the file of authorities.
            None if word.contains(['/', '.']) => return cacert.or_else(|| self.path("verify")),
            None => {
                self.fault("verify", "must be true, or the path of a PEM file of authorities");
            }
        }
        cacert
    }

    fn client_certificate(&mut self) -> Option<(PathBuf, Option<PathBuf>)> {
        let cert = self.path("cert");
        let key = self.path("key");
        if key.is_some() && cert.is_none() {
            self.fault("cert", "is missing, and `key` is given");
        }
        cert.map(|cert| (cert, key))
    }

    /// A file that the cloud names: `~` is the home folder, and a relative path begins at the file
    /// that names it.
    fn path(&mut self, key: &str) -> Option<PathBuf> {
        let entry = self.top(key)?;
        let text = self.text(entry, key)?;
        if let Some(rest) = text.strip_prefix('~') {
            let Some(home) = self.home.filter(|_| rest.is_empty() || rest.starts_with('/')) else {
                self.fault_at(entry, key, "begins with ~, and no home folder is known for it");
                return None;
            };
            return Some(PathBuf::from(format!("{home}{rest}")));
        }
        let path = PathBuf::from(&text);
        let Origin::File(_) = self.origin else { return Some(path) };
        if path.is_absolute() {
            return Some(path);
        }
        let whole = Path::new(&*entry.at.file).parent().map_or(path.clone(), |f| f.join(&path));
        let what = format!(
            "clouds.{}.{key} is relative and is taken from this file's folder: {} (openstacksdk \
             takes the folder that it is run in)",
            self.name,
            whole.display()
        );
        let what = at(&entry.at, &what);
        if !self.warnings.contains(&what) {
            self.warnings.push(what);
        }
        Some(whole)
    }

    fn credentials(&mut self) -> Option<Credentials> {
        let given = self.get_top("auth_type").or_else(|| self.get_top("auth_plugin"));
        let kind = given.as_deref().unwrap_or_else(|| {
            if self.login("application_credential_secret").is_some() {
                "v3applicationcredential"
            } else if self.login("token").is_some() && self.login("password").is_none() {
                "token"
            } else {
                "password"
            }
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
                        "auth.application_credential_id",
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
                self.fault("auth.username", "is missing (or user_id)");
                Named::Name(String::new())
            }
        };
        Owned { what, domain }
    }

    fn project(&mut self) -> Owned {
        let domain = self.domain("project");
        let what = match (self.get("project_id"), self.get("project_name")) {
            (Some(id), _) => Named::Id(id),
            (None, Some(name)) => Named::Name(name),
            (None, None) => {
                self.fault("auth.project_name", "is missing (or project_id)");
                Named::Name(String::new())
            }
        };
        Owned { what, domain }
    }

    /// The domain of a user or project: its own, the common one, else Keystone's first domain, whose
    /// identifier is `default` (openstacksdk's default as well).
    fn domain(&mut self, of: &str) -> Named {
        let own = [format!("{of}_domain_"), "domain_".to_owned(), "default_domain_".to_owned()];
        for start in own {
            if let Some(id) = self.get(&format!("{start}id")) {
                return Named::Id(id);
            }
            if let Some(name) = self.get(&format!("{start}name")) {
                return Named::Name(name);
            }
        }
        Named::Id("default".to_owned())
    }
}

/// What YAML 1.1 takes for true and false, in whatever spelling and quotes.
fn truth(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "1" => Some(true),
        "false" | "no" | "off" | "n" | "0" | "none" => Some(false),
        _ => None,
    }
}
