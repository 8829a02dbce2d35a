//! `[guests]`: where the guests report home and fetch their orders.
//!
//! The listener is not the API's: guests run the code of strangers, and what reaches them must not
//! reach the operator's orders. Without the section no guest reports, and listings tell everything.

use std::{net::SocketAddr, path::PathBuf};

use url::Url;

use super::{read::Section, warn};

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate and its chain, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// `[guests]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guests {
    /// Where the daemon listens for its guests.
    pub listen: SocketAddr,
    /// What guests call, as they see it. Default: what `listen` says.
    pub url: Url,
    /// TLS, where it is wanted.
    pub tls: Option<Certificate>,
    /// Certificates in PEM that guests trust besides their system's. Default: the certificate
    /// itself.
    pub ca_file: Option<PathBuf>,
}

/// The certificate and key of a listener, both or none.
pub(super) fn certificate(section: &Section<'_>) -> Option<Certificate> {
    let certificate = section.file("certificate_file", false);
    let key = section.file("key_file", true);
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Certificate { certificate, key }),
        (Some(_), None) if !section.has("key_file") => {
            section.fault("certificate_file", "needs key_file, its private key");
            None
        }
        (None, Some(_)) if !section.has("certificate_file") => {
            section.fault("key_file", "needs certificate_file, the certificate of that key");
            None
        }
        _ => None,
    }
}

pub(super) fn read(section: Option<Section<'_>>) -> Option<Guests> {
    let section = section?;
    let listen = section
        .needed_text("listen", "the address that guests reach, such as \"10.77.0.1:8090\"")
        .and_then(|text| address(text).map_err(|why| section.fault("listen", why)).ok());
    let tls = certificate(&section);
    let secure = section.has("certificate_file") || section.has("key_file");
    let url = match section.text("url") {
        Some(text) => web_address(text, secure).map_err(|why| section.fault("url", why)).ok(),
        None if section.has("url") => None,
        None => listen.and_then(|listen| {
            if listen.ip().is_unspecified() {
                section.missing(
                    "url",
                    "listen stands for every address of this machine; say which one the guests \
                     call, such as \"http://10.77.0.1:8090\"",
                );
                return None;
            }
            let scheme = if secure { "https" } else { "http" };
            Url::parse(&format!("{scheme}://{listen}")).ok()
        }),
    };
    let given_ca = section.file("ca_file", false);
    if let Some(url) = &url
        && section.has("ca_file")
        && url.scheme() != "https"
    {
        section.fault("ca_file", "is of use only with https");
    }
    if let Some(url) = url.as_ref().filter(|url| warn::is_plain(url)) {
        section.warn(
            if section.has("url") { "url" } else { "listen" },
            format_args!("{url}: {}", warn::PLAIN_GUESTS),
        );
    }
    let ca_file = given_ca.or_else(|| tls.as_ref().map(|tls| tls.certificate.clone()));
    section.finish();
    Some(Guests { listen: listen?, url: url?, tls, ca_file })
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let refuse = |why: &str| format!("{text:?} is not allowed: {why}");
    let address: SocketAddr =
        text.parse().map_err(|_| refuse("an address and a port, such as \"10.77.0.1:8090\""))?;
    if address.port() == 0 {
        return Err(refuse("others call this port, also after a restart: it must be a fixed one"));
    }
    Ok(address)
}

/// `secure`: whether the daemon's own listener speaks TLS. Without, `https` may be a proxy's before it.
fn web_address(text: &str, secure: bool) -> Result<Url, String> {
    let refuse = |why: &str| format!("{text:?} is not allowed: {why}");
    let url =
        Url::parse(text).map_err(|_| refuse("an address such as \"http://10.77.0.1:8090\""))?;
    if !url.username().is_empty() || url.password().is_some() {
        // Not shown: the address may hold a secret.
        return Err(
            "a user or password in the address is not allowed: guests have tokens".to_owned()
        );
    }
    match url.scheme() {
        "https" => {}
        "http" if secure => {
            return Err(refuse("certificate_file is given, so it must begin with https://"));
        }
        "http" => {}
        _ => return Err(refuse("it must begin with http:// or https://")),
    }
    if url.host().is_none() || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("only scheme, host, port and path"));
    }
    Ok(url)
}
