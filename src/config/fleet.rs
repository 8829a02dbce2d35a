//! `[fleet]`: identity, journal, logging, and how long a stop may take.

use std::{path::PathBuf, time::Duration};

use runner_fleet_actors::name::FleetId;

use super::{read::Section, secret::Env};

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Only what somebody must act on.
    Error,
    /// Also what somebody should know of.
    Warn,
    /// Also what the fleet does. The default.
    #[default]
    Info,
    /// Also why.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    pub(super) const WORDS: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// The level's word, as the configuration writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// What a log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people. The default.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[fleet]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// The fleet's identity: the ownership tag on everything that it makes. Two daemons must never
    /// share one.
    pub id: FleetId,
    /// Where the journal is written; `None` = nowhere.
    pub journal: Option<PathBuf>,
    /// Size in MiB at which the journal becomes `JOURNAL.1`. Default 100.
    pub journal_max_mib: u32,
    /// Folder for what the daemon keeps. Default `$STATE_DIRECTORY`, else `/var/lib/runner-fleet`.
    pub state_dir: PathBuf,
    /// How much is logged. Default info.
    pub log_level: LogLevel,
    /// What a log line looks like. Default text.
    pub log_format: LogFormat,
    /// How long a graceful stop may take. Default 30 seconds. Jobs run on in any case; this is for
    /// calls under way.
    pub stop_deadline: Duration,
    /// How old the last whole listing of a cloud, or of a scope at GitHub, may be before the fleet is
    /// not ready. Default 3 minutes: three of the slowest sweeps, so that one lost sweep is no alarm.
    pub listing_max_age: Duration,
}

pub(super) fn read(section: Option<Section<'_>>, env: &Env, root: &Section<'_>) -> Option<Fleet> {
    let Some(section) = section else {
        root.missing("fleet", "a table [fleet] with the fleet's id");
        return None;
    };
    let id = section.needed("id", "the name of this fleet, such as \"ci\"; it marks every VM");
    let journal = section.path("journal");
    let journal_max_mib = section.count("journal_max_mib", 100, 1..=100_000);
    let state_dir = section.path("state_dir").unwrap_or_else(|| {
        // systemd gives a list where a unit has several state directories (systemd.exec(5)).
        let given = env.get("STATE_DIRECTORY").and_then(|list| list.split(':').next());
        PathBuf::from(given.unwrap_or("/var/lib/runner-fleet"))
    });
    let log_level = section.word("log_level", &LogLevel::WORDS).unwrap_or_default();
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let log_format = section.word("log_format", &formats).unwrap_or_default();
    let stop_deadline = section.duration("stop_deadline", Duration::from_secs(30), 1, 3_600);
    let listing_max_age = section.duration("listing_max_age", Duration::from_secs(180), 10, 86_400);
    section.finish();
    Some(Fleet {
        id: id?,
        journal,
        journal_max_mib,
        state_dir,
        log_level,
        log_format,
        stop_deadline,
        listing_max_age,
    })
}
