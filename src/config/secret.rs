//! Where secrets lie, and how they are read when they are needed.
//!
//! A configuration names the place and never the secret: the file is read by people, copied into
//! tickets and kept in version control. Each read goes to the place anew, so that a rotated token
//! works after a reload and nothing keeps a copy longer than it needs one.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use runner_fleet_actors::port::Secret;

use super::built::Lacking;

/// The variable by which systemd tells a unit where its `LoadCredential=` files are
/// (systemd.exec(5), "CREDENTIALS").
pub(super) const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// An environment: the process's own, or a test's. Its `Debug` shows no value.
#[derive(Clone, Default)]
pub struct Env {
    variables: BTreeMap<String, String>,
    lacking: Lacking,
}

impl Env {
    /// The variables of this process. What is not UTF-8 is left out.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable; an empty one counts as not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// As in a build without the client of that kind of queue or provider: a configuration that names
    /// it is refused.
    #[must_use]
    pub fn built_without(self, kind: &'static str) -> Self {
        Self { lacking: Lacking::only(kind), ..self }
    }

    /// Where no client is needed, because what it would speak to is in this process.
    #[must_use]
    pub fn built_with_everything(self) -> Self {
        Self { lacking: Lacking::nothing(), ..self }
    }

    /// Whether the client of that kind was left out.
    pub(super) fn lacks(&self, kind: &str) -> bool {
        self.lacking.has(kind)
    }
}

impl FromIterator<(String, String)> for Env {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self { variables: pairs.into_iter().collect(), lacking: Lacking::default() }
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Env({} variables)", self.variables.len())
    }
}

/// Where one secret lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file; white space at its end does not count.
    File(PathBuf),
    /// A variable of the environment.
    Env(String),
    /// A systemd credential: a file of that name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Credential(name) => write!(f, "systemd credential {name}"),
        }
    }
}

/// Why a secret cannot be had. Never holds any of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_text} cannot be used: {why}")]
pub struct SecretError {
    source_text: String,
    why: String,
}

impl SecretSource {
    /// Reads the secret now.
    ///
    /// # Errors
    /// The place does not exist, cannot be read, or holds nothing.
    pub fn read(&self, env: &Env) -> Result<Secret, SecretError> {
        let fail = |why: String| SecretError { source_text: self.to_string(), why };
        let text = match self {
            Self::Env(name) => env
                .get(name)
                .map(str::to_owned)
                .ok_or_else(|| fail("it is not set, or empty".to_owned()))?,
            Self::File(_) | Self::Credential(_) => {
                let path = self.path(env).ok_or_else(|| fail(no_directory()))?;
                std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?
            }
        };
        let text = text.trim_end();
        if text.is_empty() {
            return Err(fail("it is empty".to_owned()));
        }
        Ok(Secret::new(text))
    }

    /// The file behind the source, where there is one and it can be told.
    pub(super) fn path(&self, env: &Env) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Credential(name) => {
                env.get(CREDENTIALS_DIRECTORY).map(|dir| PathBuf::from(dir).join(name))
            }
            Self::Env(_) => None,
        }
    }
}

pub(super) fn no_directory() -> String {
    format!(
        "${CREDENTIALS_DIRECTORY} is not set: start by systemd, with LoadCredential= in the unit"
    )
}
