//! What the places hold that a configuration names, as marks that can be compared: so that a reload
//! sees a rotated key, whose place has the same name as before.
//!
//! A configuration's text is not enough: the old App key went on signing after a reload that said "up
//! to date", because the path to it had not changed. Renewing everything at each reload is the
//! alternative; it would drop what is known of rate limits and of doubtful launches for nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::config::{
    Certificate, Config, Env, GithubAuth, LxdReach, Provider, ProviderKind, SecretSource,
};
#[cfg(feature = "openstack")]
use crate::provider::openstack::cloud::{CloudConfig, CloudFaults};

/// The digest of what some places hold; what cannot be read is part of it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark([u8; 32]);

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark(..)")
    }
}

#[derive(Default)]
struct Marker(Sha256);

impl Marker {
    fn part(mut self, part: &[u8]) -> Self {
        self.0.update(part.len().to_le_bytes());
        self.0.update(part);
        self
    }

    fn secret(self, source: &SecretSource) -> Self {
        match source.read(&Env::of_process()) {
            Ok(secret) => self.part(b"is").part(secret.expose().as_bytes()),
            Err(error) => self.part(b"error").part(error.to_string().as_bytes()),
        }
    }

    fn file(self, path: &Path) -> Self {
        match std::fs::read(path) {
            Ok(bytes) => self.part(b"is").part(&bytes),
            Err(error) => self.part(b"error").part(error.to_string().as_bytes()),
        }
    }

    fn files<'a>(self, paths: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        paths.into_iter().fold(self, |marker, path| marker.file(path))
    }

    fn done(self) -> Mark {
        Mark(self.0.finalize().into())
    }
}

/// What a provider is reached with.
#[derive(Clone, PartialEq)]
pub(super) enum OfProvider {
    /// The description of a cloud, secrets included, and its authorities.
    #[cfg(feature = "openstack")]
    Cloud(Box<Result<CloudConfig, CloudFaults>>, Mark),
    /// Certificates and keys.
    Files(Mark),
}

impl OfProvider {
    pub(super) fn read(provider: &Provider) -> Self {
        let marker = Marker::default();
        match &provider.kind {
            #[cfg(feature = "openstack")]
            ProviderKind::OpenStack { cloud, clouds_file } => {
                let cloud = CloudConfig::load(clouds_file.as_deref(), cloud.as_deref());
                let mut marker = marker;
                if let Ok(cloud) = &cloud {
                    marker = marker.files(&cloud.cacert);
                    if let Some((certificate, key)) = &cloud.client {
                        marker = marker.file(certificate).files(key);
                    }
                }
                Self::Cloud(Box::new(cloud), marker.done())
            }
            #[cfg(not(feature = "openstack"))]
            ProviderKind::OpenStack { .. } => Self::Files(marker.done()),
            ProviderKind::Lxd(access) => Self::Files(match &access.reach {
                LxdReach::Socket(_) => marker.done(),
                LxdReach::Https { client_certificate, client_key, server_certificate, .. } => {
                    let pair = marker.file(client_certificate).file(client_key);
                    pair.files(server_certificate).done()
                }
            }),
        }
    }
}

/// The broker's address and authorities.
pub(super) fn of_queue(config: &Config) -> Mark {
    let marker = Marker::default();
    match &config.queue {
        Some(queue) => marker.secret(&queue.url).files(&queue.ca_file).done(),
        None => marker.done(),
    }
}

/// All that a configuration's places hold.
#[derive(Clone, PartialEq)]
pub(super) struct Held {
    pub(super) github: Mark,
    pub(super) webhooks: Mark,
    pub(super) guests: Mark,
    pub(super) planner: Mark,
    pub(super) queue: Mark,
    pub(super) providers: BTreeMap<String, OfProvider>,
}

impl Held {
    /// Reads every place.
    pub(super) fn read(config: &Config) -> Self {
        let certificate = |marker: Marker, tls: Option<&Certificate>| match tls {
            Some(Certificate { certificate, key }) => marker.file(certificate).file(key),
            None => marker,
        };
        let github = match &config.github.auth {
            GithubAuth::Token(source) => source,
            GithubAuth::App { private_key, .. } => private_key,
        };
        let mut webhooks = Marker::default();
        if let Some(hooks) = &config.webhooks {
            webhooks = certificate(webhooks.secret(&hooks.secret), hooks.tls.as_ref());
            if let Some(previous) = &hooks.previous_secret {
                webhooks = webhooks.secret(previous);
            }
        }
        let mut guests = Marker::default();
        if let Some(of_guests) = &config.guests {
            guests = certificate(guests, of_guests.tls.as_ref()).files(&of_guests.ca_file);
        }
        let mut planner = Marker::default();
        if let Some(access) = &config.planner {
            planner = planner.secret(&access.token).files(&access.ca_file);
        }
        let providers = &config.providers;
        Self {
            github: Marker::default().secret(github).files(&config.github.ca_file).done(),
            webhooks: webhooks.done(),
            guests: guests.done(),
            planner: planner.done(),
            queue: of_queue(config),
            providers: providers.iter().map(|(k, v)| (k.clone(), OfProvider::read(v))).collect(),
        }
    }
}

/// What a reload has to renew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) github: bool,
    pub(super) planner: bool,
    pub(super) guests: bool,
    pub(super) webhooks: bool,
    pub(super) queue: bool,
    /// Of the new configuration, by name.
    pub(super) providers: BTreeSet<String>,
}

/// What is another one, by the settings or by what their places hold. A place that moved counts where
/// whoever uses it keeps its name: the old place is read again after a refusal.
pub(super) fn changes(was: &Held, is: &Held, old: &Config, new: &Config) -> Changes {
    let both = |there: fn(&Config) -> bool| there(old) && there(new);
    // Other paths of a certificate wait for a restart.
    let guests = |config: &Config| config.guests.as_ref().map(|guests| guests.tls.clone());
    let provider_differs = |name: &&String| {
        old.providers.get(*name) != new.providers.get(*name)
            || was.providers.get(*name) != is.providers.get(*name)
    };
    Changes {
        github: old.github != new.github || was.github != is.github,
        planner: way_to_planner(old) != way_to_planner(new) || was.planner != is.planner,
        guests: both(|config| config.guests.is_some())
            && guests(old) == guests(new)
            && was.guests != is.guests,
        webhooks: both(|config| config.webhooks.is_some()) && was.webhooks != is.webhooks,
        queue: both(|config| config.queue.is_some()) && was.queue != is.queue,
        providers: new.providers.keys().filter(provider_differs).cloned().collect(),
    }
}

/// What may be renewed of it; another address waits for a restart.
fn way_to_planner(config: &Config) -> Option<(&SecretSource, Option<&PathBuf>)> {
    config.planner.as_ref().map(|planner| (&planner.token, planner.ca_file.as_ref()))
}

/// The keys whose secret comes from what a process is given at its start (its environment, systemd's
/// credentials): another value needs another process.
pub(super) fn given_at_the_start(config: &Config) -> Vec<String> {
    let mut sources = Vec::new();
    match &config.github.auth {
        GithubAuth::Token(source) => sources.push(("github.token", source)),
        GithubAuth::App { private_key, .. } => {
            sources.push(("github.app.private_key", private_key))
        }
    }
    if let Some(listen) = &config.api.listen {
        sources.push(("api.token", &listen.token));
    }
    if let Some(hooks) = &config.webhooks {
        sources.push(("webhooks.secret", &hooks.secret));
        sources.extend(hooks.previous_secret.iter().map(|one| ("webhooks.previous_secret", one)));
    }
    sources.extend(config.planner.iter().map(|planner| ("planner.token", &planner.token)));
    sources.extend(config.queue.iter().map(|queue| ("queue.url", &queue.url)));
    let suffix = |source: &SecretSource| match source {
        SecretSource::File(_) => None,
        SecretSource::Env(_) => Some("env"),
        SecretSource::Credential(_) => Some("credential"),
    };
    let key = |(key, source): (&str, &SecretSource)| Some(format!("{key}_{}", suffix(source)?));
    sources.into_iter().filter_map(key).collect()
}

#[cfg(test)]
mod tests;
