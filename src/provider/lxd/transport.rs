//! The way to an LXD: a Unix socket, or TLS with a client's certificate.
//!
//! **Each call has a connection of its own.** LXD is asked a few times a second, a connection to its
//! socket costs a tenth of a millisecond, and what fails before the request is written has certainly
//! done nothing. A pool of kept connections would save that and lose the certainty: a request on a
//! connection that the other side has just closed may or may not have arrived.

use std::{
    borrow::Cow,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use runner_fleet_actors::port::{ErrorClass, PortError};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;
use url::Url;

use crate::{config::LxdReach, provider::text::tidy};

/// The port that LXD and Incus listen on unless told otherwise.
const PORT: u16 = 8443;

/// Bytes both ways.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// How a connection is made.
pub(super) struct Way {
    to: To,
    /// For the connection, the handshake included.
    patience: Duration,
}

enum To {
    Socket(PathBuf),
    Tls { host: String, port: u16, name: ServerName<'static>, tls: TlsConnector },
}

impl Way {
    /// Reads the certificates and connects to nobody.
    pub(super) fn new(reach: &LxdReach, patience: Duration) -> Result<Self, PortError> {
        let to = match reach {
            LxdReach::Socket(path) => To::Socket(path.clone()),
            LxdReach::Https { url, client_certificate, client_key, server_certificate } => {
                let (host, name) = name_of(url)?;
                let config = tls(client_certificate, client_key, server_certificate.as_deref())?;
                let tls = TlsConnector::from(Arc::new(config));
                To::Tls { host, port: url.port().unwrap_or(PORT), name, tls }
            }
        };
        Ok(Self { to, patience })
    }

    /// What stands in the `Host` header.
    pub(super) fn host(&self) -> Cow<'_, str> {
        match &self.to {
            To::Socket(_) => "lxd".into(),
            To::Tls { host, .. } => authority(host),
        }
    }

    /// A new connection.
    ///
    /// # Errors
    /// `Auth` where the socket may not be opened or the other side is not the one that was meant,
    /// `Transient` otherwise. Always certain: nothing was asked yet.
    pub(super) async fn connect(&self) -> Result<Box<dyn Wire>, PortError> {
        match tokio::time::timeout(self.patience, self.open()).await {
            Ok(opened) => opened,
            Err(_) => {
                let what =
                    format!("{}: no connection within {} s", self.place(), self.patience.as_secs());
                Err(PortError::certain(ErrorClass::Transient, what))
            }
        }
    }

    async fn open(&self) -> Result<Box<dyn Wire>, PortError> {
        match &self.to {
            To::Socket(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(closed_socket(path, &error)),
            },
            To::Tls { host, port, name, tls } => {
                let lost = |error: io::Error| self.no_tls(&error);
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(lost)?;
                stream.set_nodelay(true).map_err(lost)?;
                let stream = tls.connect(name.clone(), stream).await.map_err(lost)?;
                Ok(Box::new(stream))
            }
        }
    }

    /// Where it leads, for a person.
    pub(super) fn place(&self) -> String {
        match &self.to {
            To::Socket(path) => format!("LXD at {}", path.display()),
            To::Tls { port, .. } => format!("LXD at https://{}:{port}", self.host()),
        }
    }

    fn no_tls(&self, error: &io::Error) -> PortError {
        let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let place = self.place();
        match refused {
            Some(rustls::Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )) => {
                let what = format!(
                    "{place}: it shows another certificate than the configured \
                     server_certificate: where it was renewed, fetch it anew from that machine \
                     (LXD: server.crt or cluster.crt in its folder), else somebody is in between"
                );
                PortError::certain(ErrorClass::Auth, what)
            }
            Some(rustls::Error::InvalidCertificate(why)) => {
                let what = format!(
                    "{place}: its certificate is not vouched for ({why}): name it as server_certificate"
                );
                PortError::certain(ErrorClass::Auth, what)
            }
            _ => {
                let what = format!("{place}: cannot connect: {}", tidy(&error.to_string(), &[]));
                PortError::certain(ErrorClass::Transient, what)
            }
        }
    }
}

fn closed_socket(path: &Path, error: &io::Error) -> PortError {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let group = group_of(path).unwrap_or_else(|| "lxd or incus-admin".to_owned());
            let what = format!(
                "LXD at {shown}: this user may not open the socket: add it to the group {group} \
                 (in a systemd unit: SupplementaryGroups={group}) and start anew"
            );
            PortError::certain(ErrorClass::Auth, what)
        }
        io::ErrorKind::NotFound => {
            let what = format!(
                "LXD at {shown}: there is no such socket: is LXD installed and running here, and \
                 is this its path?"
            );
            PortError::certain(ErrorClass::Transient, what)
        }
        io::ErrorKind::ConnectionRefused => {
            let what = format!("LXD at {shown}: nobody listens: LXD does not run");
            PortError::certain(ErrorClass::Transient, what)
        }
        _ => {
            let what = format!("LXD at {shown}: cannot connect: {error}");
            PortError::certain(ErrorClass::Transient, what)
        }
    }
}

/// A host as addresses have it: an IPv6 address in brackets (RFC 3986, section 3.2.2).
fn authority(host: &str) -> Cow<'_, str> {
    if host.contains(':') { format!("[{host}]").into() } else { host.into() }
}

/// The name of the group that a file belongs to.
fn group_of(path: &Path) -> Option<String> {
    let gid = std::fs::metadata(path).ok()?.gid().to_string();
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(gid.as_str())).then(|| name.to_owned())
    })
}

fn name_of(url: &Url) -> Result<(String, ServerName<'static>), PortError> {
    let invalid =
        || PortError::certain(ErrorClass::Invalid, format!("LXD at {url}: no usable host name"));
    let host = match url.host().ok_or_else(invalid)? {
        url::Host::Domain(name) => name.to_owned(),
        url::Host::Ipv4(address) => address.to_string(),
        url::Host::Ipv6(address) => address.to_string(),
    };
    let name = ServerName::try_from(host.clone()).map_err(|_| invalid())?;
    Ok((host, name))
}

fn tls(certificate: &Path, key: &Path, server: Option<&Path>) -> Result<ClientConfig, PortError> {
    let invalid = |what: String| PortError::certain(ErrorClass::Invalid, what);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(format!("TLS cannot be set up: {error}")))?;
    let builder = match server {
        Some(path) => {
            let pinned = certificates(path).map_err(invalid)?.swap_remove(0);
            let verifier = Pinned::new(pinned, &provider);
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            builder.with_root_certificates(roots)
        }
    };
    let chain = certificates(certificate).map_err(invalid)?;
    let secret = private_key(key).map_err(invalid)?;
    builder.with_client_auth_cert(chain, secret).map_err(|error| {
        invalid(format!(
            "{} and {} are no pair that can be used: {error}",
            certificate.display(),
            key.display()
        ))
    })
}

/// The certificates of a PEM file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    let found: Result<Vec<_>, _> = rustls_pemfile::certs(&mut pem.as_slice()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{} holds no PEM certificate", path.display())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = std::fs::read(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    match rustls_pemfile::private_key(&mut pem.as_slice()) {
        Ok(Some(key)) => Ok(key),
        _ => Err(format!("{} holds no PEM private key", path.display())),
    }
}

/// Takes one certificate and no other. LXD signs its own, for names that it hardly knows, so that an
/// authority has no say and a name proves nothing; LXD's own client does the same.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(certificate: CertificateDer<'static>, provider: &CryptoProvider) -> Self {
        Self { certificate, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::authority;

    #[test]
    fn a_stream_of_events_can_be_asked_for_whatever_kind_of_host_it_is() {
        for host in ["lxd.example", "10.77.0.1", "fd42::1"] {
            let address = format!("ws://{}/1.0/events", authority(host));
            assert!(address.parse::<http::Uri>().is_ok(), "{address}");
        }
    }
}
