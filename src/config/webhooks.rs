//! `[webhooks]`: where GitHub's deliveries arrive, and under which secret.
//!
//! A listener of its own: GitHub must reach it, and whoever reaches it must not reach the operator's
//! orders.

use std::net::SocketAddr;

use super::{
    guests::{Certificate, address, certificate},
    read::{SecretKeys, Section},
    secret::SecretSource,
    warn,
};

const SECRET: SecretKeys =
    SecretKeys { file: "secret_file", env: "secret_env", credential: "secret_credential" };
const PREVIOUS: SecretKeys = SecretKeys {
    file: "previous_secret_file",
    env: "previous_secret_env",
    credential: "previous_secret_credential",
};

/// `[webhooks]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhooks {
    /// Where the daemon listens; the path is `/webhooks/github`.
    pub listen: SocketAddr,
    /// The secret that GitHub signs with.
    pub secret: SecretSource,
    /// The secret before it, for as long as GitHub may still sign with it.
    pub previous_secret: Option<SecretSource>,
    /// TLS, where no proxy in front of the daemon speaks it.
    pub tls: Option<Certificate>,
}

pub(super) fn read(section: Option<Section<'_>>) -> Option<Webhooks> {
    let section = section?;
    let listen = section
        .needed_text(
            "listen",
            "the address that GitHub's deliveries reach, such as \"0.0.0.0:8443\"",
        )
        .and_then(|text| address(text).map_err(|why| section.fault("listen", why)).ok());
    let tls = certificate(&section);
    if listen.is_some_and(|listen| !listen.ip().is_loopback()) && tls.is_none() {
        section.warn("listen", warn::PLAIN_WEBHOOKS);
    }
    let given = SECRET.all().into_iter().any(|key| section.has(key));
    let secret = section.secret(SECRET);
    if !given {
        section.missing(
            "secret_file",
            "the file with the secret that the webhook on GitHub has (or secret_env, secret_credential)",
        );
    }
    let previous_secret = section.secret(PREVIOUS);
    section.finish();
    Some(Webhooks { listen: listen?, secret: secret?, previous_secret, tls })
}
