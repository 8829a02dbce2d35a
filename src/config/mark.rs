//! What the places hold that a configuration names, as marks that can be compared without being read.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    guests::Certificate,
    secret::{Env, SecretSource},
};

/// The digest of what some places hold; what cannot be read is part of it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark([u8; 32]);

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark(..)")
    }
}

/// Makes a [`Mark`], one place after the other.
#[derive(Default)]
#[must_use]
pub struct Marker(Sha256);

impl Marker {
    fn part(mut self, part: &[u8]) -> Self {
        self.0.update(part.len().to_le_bytes());
        self.0.update(part);
        self
    }

    /// What a secret is now.
    pub fn secret(self, source: &SecretSource) -> Self {
        match source.read(&Env::of_process()) {
            Ok(secret) => self.part(b"is").part(secret.expose().as_bytes()),
            Err(error) => self.part(b"error").part(error.to_string().as_bytes()),
        }
    }

    /// What a file holds now.
    pub fn file(self, path: &Path) -> Self {
        match std::fs::read(path) {
            Ok(bytes) => self.part(b"is").part(&bytes),
            Err(error) => self.part(b"error").part(error.to_string().as_bytes()),
        }
    }

    /// What files hold now.
    pub fn files<'a>(self, paths: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        paths.into_iter().fold(self, |marker, path| marker.file(path))
    }

    /// What certificate and key are now, where there are any.
    pub fn certificate(self, of: Option<&Certificate>) -> Self {
        match of {
            Some(Certificate { certificate, key }) => self.file(certificate).file(key),
            None => self,
        }
    }

    /// Where something lies, for those who go on reading where they read before: a place that moved
    /// counts for them, also with the same text in it.
    pub fn place(self, of: &impl fmt::Debug) -> Self {
        self.part(format!("{of:?}").as_bytes())
    }

    /// All of it.
    #[must_use]
    pub fn done(self) -> Mark {
        Mark(self.0.finalize().into())
    }
}
