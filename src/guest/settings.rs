//! What a pool says about the inside of its VMs.

use std::collections::BTreeMap;

/// What one pool's guests do. The default needs nothing but an image with the runner application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where the runner application comes from.
    pub application: Application,
    /// The unprivileged user that jobs run as; created if the image lacks it. `None`: the owner of
    /// the application in the image, and `runner` where that is root or nothing is in the image.
    pub user: Option<String>,
    /// Further groups of that user. One that the image lacks is said in the guest's log and passed
    /// over.
    pub groups: Vec<String>,
    /// Variables for the runner application and its jobs. They win over the image's `.env`.
    pub env: BTreeMap<String, String>,
    /// The daemon, as guests see it. `None`: no report is made and no order taken.
    pub home: Option<Home>,
    /// Whether the runner application's own updates are turned off (`DisableUpdate` in the JIT
    /// config). GitHub refuses an application that stays old: 30 days after each release.
    pub disable_update: bool,
    /// A shell command that root runs before anything else; where it fails the machine takes no job.
    pub before: Option<String>,
}

/// Where the runner application comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Application {
    /// It is in the image.
    Image {
        /// The folder that holds `bin/Runner.Listener`. `None`: `/home/*/actions-runner`,
        /// `/opt/actions-runner` or `/actions-runner`, whichever is there first.
        path: Option<String>,
    },
    /// An archive (`.tar.gz`) that somebody keeps nearby.
    Mirror {
        /// Where it is, `http` or `https`.
        url: String,
        /// Its SHA-256, 64 hexadecimal digits.
        sha256: String,
    },
    /// What GitHub's downloads list names at the time of the launch.
    Download {
        /// For what machine.
        architecture: Architecture,
    },
}

impl Default for Application {
    fn default() -> Self {
        Self::Image { path: None }
    }
}

/// The machine that a runner application is built for, in GitHub's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// x86-64.
    #[default]
    X64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// GitHub's word, as in its downloads list.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X64 => "x64",
            Self::Arm64 => "arm64",
        }
    }
}

/// One runner application for Linux, as GitHub's downloads list offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Its version, such as `2.336.0`.
    pub version: String,
    /// Where it is.
    pub url: String,
    /// The archive's name.
    pub filename: String,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
}

/// The daemon, as its guests reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Base URL; the guest protocol's paths come after it.
    pub url: String,
    /// Certificates, as PEM, that the daemon's own is checked with. `None`: the image's.
    pub ca_pem: Option<String>,
}
