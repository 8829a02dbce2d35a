//! The files of certificates that a cloud names.

use reqwest::{Certificate, Identity};

use super::CloudConfig;

/// The authorities of `cacert`, to be trusted on top of the system's.
///
/// # Errors
/// Which file of which cloud is wrong, and how.
pub(in crate::provider::openstack) fn authorities(
    cloud: &CloudConfig,
) -> Result<Vec<Certificate>, String> {
    let Some(path) = &cloud.cacert else { return Ok(Vec::new()) };
    let fault = |why: &str| format!("cacert of cloud {:?}: {}: {why}", cloud.name, path.display());
    let pem = std::fs::read(path).map_err(|e| fault(&e.to_string()))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(found) if found.is_empty() => Err(fault("holds no certificate")),
        Ok(found) => Ok(found),
        Err(_) => Err(fault("is not a file of PEM certificates")),
    }
}

/// The certificate that is shown to the cloud (`cert`, `key`).
///
/// # Errors
/// Which file of which cloud is wrong, and how.
pub(in crate::provider::openstack) fn identity(
    cloud: &CloudConfig,
) -> Result<Option<Identity>, String> {
    let Some((cert, key)) = &cloud.client else { return Ok(None) };
    let mut pem = Vec::new();
    for (word, path) in [("cert", Some(cert)), ("key", key.as_ref())] {
        let Some(path) = path else { continue };
        let read = std::fs::read(path)
            .map_err(|e| format!("{word} of cloud {:?}: {}: {e}", cloud.name, path.display()))?;
        pem.extend(read);
        pem.push(b'\n');
    }
    Identity::from_pem(&pem).map(Some).map_err(|_| {
        format!(
            "cert of cloud {:?}: {} holds no certificate with its key in PEM (`key` names the \
             key's file where it is another)",
            cloud.name,
            cert.display()
        )
    })
}
