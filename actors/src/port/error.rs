//! Failures of the ports: a class for the brain, a text for the person who must act.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Time;
use crate::foreign::Words;

/// What a failure means for the next decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "class")]
pub enum ErrorClass {
    /// What was named does not exist. On a delete or deregistration this is success.
    NotFound,
    /// The other side refuses because it is in use (GitHub's 422 on a busy runner).
    Busy,
    /// A quota or limit of the account is used up; more of the same will fail until something goes.
    Quota,
    /// The cloud has no room for this shape at the moment ("No valid host was found").
    NoCapacity,
    /// Asked too often. Nothing more may be asked before `until`.
    RateLimited {
        /// When the other side takes calls again.
        until: Time,
    },
    /// Credentials missing, wrong, expired or without the permission.
    Auth,
    /// Time-out, connection failure, 5xx: the same call may succeed later, and may have taken effect.
    Transient,
    /// The other side understood and refuses for good: unknown image, malformed request.
    Invalid,
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found",
            Self::Busy => "busy",
            Self::Quota => "quota",
            Self::NoCapacity => "no capacity",
            Self::RateLimited { .. } => "rate limited",
            Self::Auth => "auth",
            Self::Transient => "transient",
            Self::Invalid => "invalid",
        })
    }
}

/// A failure of a port: its class for the brain, its text for the person who must act.
///
/// `what` says what was tried, on what, what came back and what to do. It never holds a secret. It mostly
/// quotes the other side, so it is tame and short as every [foreign text](crate::foreign), by its making.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
#[non_exhaustive]
pub struct PortError {
    /// Decides what happens next.
    #[serde(flatten)]
    pub class: ErrorClass,
    /// For a person: what was tried, on what, what came back, what to do.
    #[serde(deserialize_with = "tame")]
    pub what: String,
    /// Whether it is certain that the call left nothing behind. `false` after a time-out or a lost
    /// answer of a creating call.
    pub certain: bool,
    /// Whether it was refused here, by what the other side had said before or by a limit of our own, and
    /// nothing was asked: no failure, and no news of the other side.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
}

impl PortError {
    /// A failure that certainly left nothing behind.
    #[must_use]
    pub fn certain(class: ErrorClass, what: impl Into<String>) -> Self {
        Self { class, what: Words::from(what.into()).into(), certain: true, local: false }
    }

    /// Not asked: held back here until a time at which it is worth asking.
    #[must_use]
    pub fn held_back(until: Time, what: impl Into<String>) -> Self {
        Self::certain(ErrorClass::RateLimited { until }, what).here()
    }

    /// A failure after which the other side may have acted all the same.
    #[must_use]
    pub fn doubtful(class: ErrorClass, what: impl Into<String>) -> Self {
        Self { certain: false, ..Self::certain(class, what) }
    }

    /// The same, refused here without asking.
    #[must_use]
    pub fn here(self) -> Self {
        Self { local: true, ..self }
    }

    /// The same failure of another class.
    #[must_use]
    pub fn classed(self, class: ErrorClass) -> Self {
        Self { class, ..self }
    }

    /// There is more to say, such as what to do about it: tamed and bounded as the rest is.
    pub fn add(&mut self, more: &str) {
        self.what = Words::from(format!("{}{more}", self.what)).into();
    }

    /// The same failure, and whether it certainly left nothing behind.
    #[must_use]
    pub fn leaving_nothing(self, certain: bool) -> Self {
        Self { certain, ..self }
    }
}

fn tame<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Words::deserialize(deserializer).map(Into::into)
}
