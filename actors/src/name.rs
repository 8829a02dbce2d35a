//! Names, parsed once at the edge and trusted afterwards.
//!
//! A runner's name is chosen before any call is made and is at once the VM's name, the forge's
//! name and the key that makes a repeated call harmless (rule 1 of this crate's README). It reads
//! `FLEET--POOL--TOKEN`. Neither fleet nor pool may hold a double dash, nor begin or end with a
//! dash, so a name can be split in one way only and no fleet can mistake another's runners for its
//! own. The alternative, a bare prefix, makes the fleet `ci` claim the runners of a fleet `ci-big`.
//!
//! Limits: 63 characters in all, letters, digits and dashes, which is what a DNS label (RFC 1123),
//! Nova's host name, LXD's instance name and GitHub's 64-character runner name agree on.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::foreign::{Foreign, NAME_MAX};

/// Why a text is not a name. The message says what was given and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} is not usable: {rule}")]
pub struct NameError {
    what: &'static str,
    given: String,
    rule: String,
}

impl NameError {
    pub(crate) fn new(what: &'static str, given: &str, rule: String) -> Self {
        Self { what, given: given.to_owned(), rule }
    }
}

const FLEET_MAX: usize = 16;
const POOL_MAX: usize = 30;
const TOKEN_LEN: usize = 12;

fn part(what: &'static str, text: &str, max: usize) -> Result<String, NameError> {
    let refuse = |rule: String| NameError { what, given: text.to_owned(), rule };
    if text.is_empty() || text.len() > max {
        return Err(refuse(format!("it must have 1 to {max} characters")));
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(refuse("only a-z, 0-9 and single dashes are allowed".to_owned()));
    }
    if text.starts_with('-') || text.ends_with('-') || text.contains("--") {
        return Err(refuse("a dash may stand only between two letters or digits".to_owned()));
    }
    Ok(text.to_owned())
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The text of the name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                part($what, text, $max).map(|t| Self(t.into()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_name!(
    /// The fleet's identity: the ownership tag on every VM it makes. At most 16 characters.
    FleetId,
    "fleet id",
    FLEET_MAX
);
text_name!(
    /// A pool's name, unique in its fleet. At most 30 characters.
    PoolName,
    "pool name",
    POOL_MAX
);

/// `FLEET--POOL--TOKEN`: VM name, forge name and idempotency key of one runner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunnerName(std::sync::Arc<str>);

impl RunnerName {
    /// A name for a new runner. `token` is 48 random bits; the shell draws them, the brain does not.
    #[must_use]
    pub fn new(fleet: &FleetId, pool: &PoolName, token: u64) -> Self {
        let token = token & 0xffff_ffff_ffff;
        Self(format!("{fleet}--{pool}--{token:0width$x}", width = TOKEN_LEN).into())
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The fleet that the name belongs to.
    #[must_use]
    pub fn fleet(&self) -> &str {
        self.0.split("--").next().unwrap_or_default()
    }

    /// The pool that the name belongs to.
    #[must_use]
    pub fn pool(&self) -> PoolName {
        PoolName(self.0.split("--").nth(1).unwrap_or_default().into())
    }

    /// Whether the name belongs to `fleet`.
    #[must_use]
    pub fn is_of(&self, fleet: &FleetId) -> bool {
        self.fleet() == fleet.as_str()
    }
}

impl FromStr for RunnerName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |rule: &str| NameError {
            what: "runner name",
            given: text.to_owned(),
            rule: rule.to_owned(),
        };
        let mut parts = text.split("--");
        let (Some(fleet), Some(pool), Some(token), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse("it must read FLEET--POOL--TOKEN"));
        };
        part("fleet id", fleet, FLEET_MAX)?;
        part("pool name", pool, POOL_MAX)?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if token.len() != TOKEN_LEN || !token.bytes().all(hex) {
            return Err(refuse("its token must be 12 hexadecimal digits"));
        }
        Ok(Self(text.into()))
    }
}
impl TryFrom<String> for RunnerName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}
impl From<RunnerName> for String {
    fn from(name: RunnerName) -> String {
        name.0.as_ref().to_owned()
    }
}
impl fmt::Display for RunnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The cloud's own identifier of a VM (a UUID in Nova).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VmId(pub String);

impl VmId {
    /// An identifier as a cloud tells it. It goes back into calls as it came, so it cannot be tamed as
    /// other foreign texts are; what no cloud's identifier is like is none.
    #[must_use]
    pub fn told(text: &str) -> Option<Self> {
        let tame: Foreign = text.into();
        (!text.is_empty() && tame == text).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It goes back into calls as it came, and is shown as any foreign text.
        fmt::Display::fmt(&Foreign::<NAME_MAX>::from(self.0.as_str()), f)
    }
}

/// The forge's own number of a registration (GitHub's `runner.id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RegistrationId(pub u64);

impl fmt::Display for RegistrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where runners are registered: a repository, an organisation or an enterprise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// `owner/repo`
    Repository {
        /// Login of the repository's owner.
        owner: String,
        /// The repository's name.
        repo: String,
    },
    /// `org`
    Organisation(String),
    /// `enterprises/slug`
    Enterprise(String),
}

impl Scope {
    /// Whether both are one name: case counts for nothing in GitHub's.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.to_string().eq_ignore_ascii_case(&other.to_string())
    }

    /// The login of the repository's owner, or of the organisation. Which organisations an enterprise has
    /// is not in its name.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        match self {
            Self::Repository { owner, .. } | Self::Organisation(owner) => Some(owner),
            Self::Enterprise(_) => None,
        }
    }
}

impl FromStr for Scope {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |s: &str| {
            !s.is_empty()
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                && s != "."
                && s != ".."
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            ["enterprises", slug] if word(slug) => Ok(Self::Enterprise((*slug).to_owned())),
            [owner, repo] if word(owner) && word(repo) => {
                Ok(Self::Repository { owner: (*owner).to_owned(), repo: (*repo).to_owned() })
            }
            [org] if word(org) => Ok(Self::Organisation((*org).to_owned())),
            _ => Err(NameError {
                what: "scope",
                given: text.to_owned(),
                rule: "it must read \"owner/repo\", \"org\" or \"enterprises/slug\"".to_owned(),
            }),
        }
    }
}
impl TryFrom<String> for Scope {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}
impl From<Scope> for String {
    fn from(scope: Scope) -> String {
        scope.to_string()
    }
}
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository { owner, repo } => write!(f, "{owner}/{repo}"),
            Self::Organisation(org) => f.write_str(org),
            Self::Enterprise(slug) => write!(f, "enterprises/{slug}"),
        }
    }
}
