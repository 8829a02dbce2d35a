//! What a check of a cloud found, before anything is launched.

use std::fmt;

use runner_fleet_actors::port::{ErrorClass, PortError};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Fine,
    /// It works, but not for long or not for all.
    Warning,
    /// No launch can succeed with it.
    Fault,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fine => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// What was looked at: `credentials`, `image debian-12`, `quota`, ….
    pub about: String,
    /// What was seen and, where it is not fine, what to do.
    pub what: String,
}

impl Finding {
    pub(crate) fn new(grade: Grade, about: impl Into<String>, what: impl Into<String>) -> Self {
        Self { grade, about: about.into(), what: what.into() }
    }

    /// A fault where the cloud says no for good, a warning where it could not be asked.
    pub(super) fn of(about: impl Into<String>, error: PortError) -> Self {
        let sure = matches!(error.class, ErrorClass::Invalid | ErrorClass::NotFound);
        let grade = if sure { Grade::Fault } else { Grade::Warning };
        Self::new(grade, about, error.what)
    }
}
