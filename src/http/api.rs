//! The documents of the HTTP API, shared by the daemon, the command line and tests.
//!
//! Runners and pools go out as the read model has them ([`RunnerSnapshot`], [`PoolSnapshot`]): a
//! second set of types would only be a second place for mistakes. Requests refuse fields that they
//! do not know, because `{"runner": 5}` must not mean "no runners given". Answers may grow: a reader
//! ignores what it does not know.

use std::collections::BTreeMap;

use runner_fleet_actors::{
    event::{PoolSnapshot, RunnerSnapshot},
    foreign::Words,
    job::{JobRecord, why::Reason},
    name::{FleetId, PoolName},
    port::{PortStatus, Time},
    sight::{Side, Sight},
};
use serde::{Deserialize, Serialize};

pub use crate::demand::ledger::DayOfWaits;

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetInfo {
    /// The fleet's identity.
    pub id: FleetId,
    /// The daemon's version.
    pub version: String,
    /// When the daemon started.
    pub started_at: Time,
    /// How the last reload of the configuration went; `None` before the first.
    pub last_reload: Option<Reload>,
    /// What happened that somebody should know of though all works, such as a damaged file that was
    /// moved aside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// Something that somebody should know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When it was seen.
    pub at: Time,
    /// What it was, what it costs, what to do.
    pub what: String,
}

/// How a reload of the configuration went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// When.
    pub at: Time,
    /// Whether the new configuration is in force.
    pub ok: bool,
    /// What changed, or every fault.
    pub what: String,
}

/// Whether the fleet can do its work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether every pool can be kept at its target.
    pub ready: bool,
    /// What is in the way; empty when ready.
    pub reasons: Vec<String>,
    /// What is not in the way, or not yet, and should be looked at all the same.
    #[serde(default)]
    pub attention: Vec<String>,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Who answers.
    #[serde(flatten)]
    pub fleet: FleetInfo,
    /// Seconds since the daemon started.
    pub uptime: u64,
    /// Whether the fleet can do its work, and what is in the way.
    #[serde(flatten)]
    pub readiness: Readiness,
    /// Every pool, by name.
    pub pools: Vec<PoolSnapshot>,
    /// Providers by name, and the forge as `github`.
    pub ports: BTreeMap<String, PortStatus>,
    /// How well each cloud and each scope at GitHub is seen.
    #[serde(default)]
    pub listings: Vec<ListingStatus>,
    /// Who tells of demand, as far as more is configured than the pools' own busy runners.
    #[serde(default)]
    pub sources: Vec<SourceStatus>,
}

/// How well one cloud, or one scope at GitHub, is seen: there from the moment that it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingStatus {
    /// Which: `side` is `provider` or `scope`, `name` its name.
    #[serde(flatten)]
    pub side: Side,
    /// When it was last listed, and what fails since when and until when.
    #[serde(flatten)]
    pub sight: Sight,
}

/// One source of demand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// `webhooks`, `scale-set linux`, `queue large`, `planner`, `guests`.
    pub source: String,
    /// Since when it is heard without a break; `None` where that has no meaning, or it is not heard.
    pub connected_since: Option<Time>,
    /// When it was last heard.
    pub last_word_at: Option<Time>,
    /// Deliveries, messages, lines or reports since the start.
    pub signals: u64,
    /// What failed last.
    pub last_error: Option<String>,
    /// Since when it fails without a good word between; `None` while it works.
    #[serde(default)]
    pub failing_since: Option<Time>,
    /// All that it says of itself; what is in it depends on the source.
    pub details: serde_json::Value,
}

/// `GET /v1/pools`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pools {
    /// Every pool, by name.
    pub pools: Vec<PoolSnapshot>,
}

/// `GET /v1/runners`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Runners {
    /// The runners asked for, by pool and name.
    pub runners: Vec<RunnerSnapshot>,
}

/// `GET /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jobs {
    /// The jobs asked for: the newest first, or with `slow` the slowest.
    pub jobs: Vec<JobRecord>,
}

/// `GET /v1/waits`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    /// How long jobs waited, the newest day first.
    pub days: Vec<DayOfWaits>,
}

/// `GET /v1/jobs/{key}/why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyWaiting {
    /// The job.
    pub job: JobRecord,
    /// What it waits for, the nearest to the job first; never empty.
    pub reasons: Vec<Reason>,
}

/// `PUT /v1/pools/{name}/target`: the body, and the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetOverride {
    /// The pool's fixed target.
    pub runners: u32,
}

/// `POST /v1/pools/{name}/flush`: the body, which may be left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlushRequest {
    /// Also runners with a job. That kills the jobs, so `force` must say so too.
    #[serde(default)]
    pub busy: bool,
    /// That killing jobs is meant.
    #[serde(default)]
    pub force: bool,
}

/// The answer to a flush.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    /// The pool.
    pub pool: PoolName,
    /// Idle runners that are drained.
    pub drained: u32,
    /// Runners that are deleted with their jobs.
    pub killed: u32,
}

/// The answer to an order that has nothing to show: what happens now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// What happens now, for a person.
    pub message: String,
}

/// A refusal (RFC 9457, `application/problem+json`). Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `about:blank`: the status says what kind of problem it is (RFC 9457, 4.2.1).
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was asked, why it is refused and what to do.
    pub detail: Words,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

impl Problem {
    /// A problem of a status.
    #[must_use]
    pub fn new(status: http::StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: about_blank(),
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: status.as_u16(),
            detail: detail.into().into(),
        }
    }
}
