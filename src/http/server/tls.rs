//! The certificate that strangers are shown: read at the start, and again at a reload, so that a renewed
//! one is shown without a restart. Connections that stand keep the one they began with.

use std::{
    fs::File,
    io::BufReader,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{ServerConfig, crypto::ring};
use tokio_rustls::TlsAcceptor;

use crate::{
    config::Certificate,
    provider::{Finding, Grade},
};

/// The certificate in use and where it lies.
#[derive(Debug)]
pub struct Tls {
    files: Certificate,
    now: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// What is wrong with which file, for the person who must act.
    pub fn read(files: Certificate) -> Result<Self, String> {
        let now = RwLock::new(Arc::new(load(&files)?));
        Ok(Self { files, now })
    }

    /// Reads both files again; what comes back puts the new certificate in the old one's place.
    ///
    /// # Errors
    /// As [`Tls::read`].
    pub fn renew(&self) -> Result<impl FnOnce() + Send, String> {
        let new = Arc::new(load(&self.files)?);
        Ok(move || *self.now.write().unwrap_or_else(PoisonError::into_inner) = new)
    }

    /// Whether certificate and key can be used, for `check`.
    pub(crate) fn check(files: Certificate) -> Finding {
        match Self::read(files) {
            Ok(_) => {
                Finding::new(Grade::Fine, "certificate", "certificate and key belong together")
            }
            Err(fault) => Finding::new(Grade::Fault, "certificate", fault),
        }
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn load(Certificate { certificate, key }: &Certificate) -> Result<ServerConfig, String> {
    let chain: Vec<_> = rustls_pemfile::certs(&mut open(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the guests' certificate {}: {error}", certificate.display()))?;
    if chain.is_empty() {
        return Err(format!(
            "the guests' certificate {}: there is no certificate in PEM in it",
            certificate.display()
        ));
    }
    let private = rustls_pemfile::private_key(&mut open(key)?)
        .map_err(|error| format!("the guests' key {}: {error}", key.display()))?
        .ok_or_else(|| {
            format!("the guests' key {}: there is no private key in PEM in it", key.display())
        })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| {
            format!(
                "the guests' certificate {} with the key {}: {error}",
                certificate.display(),
                key.display()
            )
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn open(path: &Path) -> Result<BufReader<File>, String> {
    let file =
        File::open(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    Ok(BufReader::new(file))
}
