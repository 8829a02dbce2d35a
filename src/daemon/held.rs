//! What the places hold that a configuration names, as marks that can be compared: so that a reload
//! sees a rotated key, whose place has the same name as before.
//!
//! A configuration's text is not enough: the old App key went on signing after a reload that said "up
//! to date", because the path to it had not changed. Renewing everything at each reload is the
//! alternative; it would drop what is known of rate limits and of doubtful launches for nothing.

use std::collections::{BTreeMap, BTreeSet};

#[cfg(feature = "openstack")]
use crate::provider::openstack::cloud::{CloudConfig, CloudFaults};
use crate::{
    config::{Config, GithubAuth, LxdReach, Mark, Marker, Provider, ProviderKind, SecretSource},
    demand::source::Kind,
};

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

/// All that a configuration's places hold.
#[derive(Clone, PartialEq)]
pub(super) struct Held {
    pub(super) github: Mark,
    pub(super) guests: Mark,
    /// By the name of a source of demand; of those that have any places.
    pub(super) sources: BTreeMap<&'static str, Mark>,
    pub(super) providers: BTreeMap<String, OfProvider>,
}

impl Held {
    /// Reads every place, also those of these sources of demand.
    pub(super) fn read(config: &Config, sources: &[&'static dyn Kind]) -> Self {
        let github = match &config.github.auth {
            GithubAuth::Token(source) => source,
            GithubAuth::App { private_key, .. } => private_key,
        };
        let mut guests = Marker::default();
        if let Some(of_guests) = &config.guests {
            guests = guests.certificate(of_guests.tls.as_ref()).files(&of_guests.ca_file);
        }
        let sources = sources.iter().filter_map(|kind| Some((kind.name(), kind.held(config)?)));
        let providers = &config.providers;
        Self {
            github: Marker::default().secret(github).files(&config.github.ca_file).done(),
            guests: guests.done(),
            sources: sources.collect(),
            providers: providers.iter().map(|(k, v)| (k.clone(), OfProvider::read(v))).collect(),
        }
    }
}

impl Held {
    /// What the places of a daemon hold that has taken this over, and had taken over `was` before. A source
    /// that has left the configuration goes on with what it was made of, until it is there again.
    pub(super) fn after(mut self, was: Self) -> Self {
        for (name, mark) in was.sources {
            self.sources.entry(name).or_insert(mark);
        }
        self
    }
}

/// What a reload has to renew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) github: bool,
    pub(super) guests: bool,
    /// Sources of demand, by name.
    pub(super) sources: BTreeSet<&'static str>,
    /// Of the new configuration, by name.
    pub(super) providers: BTreeSet<String>,
}

/// What is another one, by the settings or by what their places hold. A place that moved counts where
/// whoever uses it keeps its name: the old place is read again after a refusal.
pub(super) fn changes(was: &Held, is: &Held, old: &Config, new: &Config) -> Changes {
    // Other paths of a certificate wait for a restart.
    let guests = |config: &Config| config.guests.as_ref().map(|guests| guests.tls.clone());
    let provider_differs = |name: &&String| {
        old.providers.get(*name) != new.providers.get(*name)
            || was.providers.get(*name) != is.providers.get(*name)
    };
    // What was not there before is not renewed.
    let source_differs =
        |(name, mark): &(&&str, &Mark)| was.sources.get(**name).is_some_and(|was| was != *mark);
    Changes {
        github: old.github != new.github || was.github != is.github,
        guests: old.guests.is_some()
            && new.guests.is_some()
            && guests(old) == guests(new)
            && was.guests != is.guests,
        sources: is.sources.iter().filter(source_differs).map(|(name, _)| *name).collect(),
        providers: new.providers.keys().filter(provider_differs).cloned().collect(),
    }
}

/// The keys whose secret comes from what a process is given at its start (its environment, systemd's
/// credentials): another value needs another process.
pub(super) fn given_at_the_start(config: &Config, of: &[&'static dyn Kind]) -> Vec<String> {
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
    sources.extend(of.iter().flat_map(|kind| kind.secrets(config)));
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
