//! Jobs: what is known of each one, which pool it is for, and how news change it.
//!
//! News of a job come from several sources, late, twice and out of order. Two rules make that
//! harmless. *A word has a rank* (blocked, queued, running, done) and a later word beats an earlier
//! one for good: GitHub gives a re-run another id, so no job ever goes back. *Facts only fill gaps or
//! come from the higher word*: what is known is not lost to a source that knows less. The
//! alternative, to order news by their time stamps, trusts clocks of three machines.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    name::{NameError, PoolName, RegistrationId, Scope},
    port::Time,
};

mod book;
pub mod why;

pub use book::Book;

/// What one job is known by: GitHub's id of the `workflow_job`, or a scale set's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobKey(String);

const KEY_MAX: usize = 200;

impl JobKey {
    /// The text of the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// GitHub's id of the `workflow_job`, where that is what the job is known by.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

impl From<u64> for JobKey {
    fn from(id: u64) -> Self {
        Self(id.to_string())
    }
}

impl FromStr for JobKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = (1..=KEY_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".:_-".contains(&b));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            let rule = format!("it must have 1 to {KEY_MAX} letters, digits, '.', ':', '_' or '-'");
            Err(NameError::new("job", text, rule))
        }
    }
}

impl TryFrom<String> for JobKey {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<JobKey> for String {
    fn from(key: JobKey) -> Self {
        key.0
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a job is. The order is the rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobWord {
    /// A deployment protection rule holds it: nobody may run it yet, so it is no demand.
    Blocked,
    /// It waits for a runner.
    Queued,
    /// A runner has it.
    Running,
    /// It is over, whatever came of it.
    Done,
}

impl JobWord {
    /// The word as the API and the ledger spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
        }
    }
}

impl FromStr for JobWord {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        [Self::Blocked, Self::Queued, Self::Running, Self::Done]
            .into_iter()
            .find(|word| word.as_str() == text)
            .ok_or_else(|| {
                NameError::new("state", text, "it must be blocked, queued, running or done".into())
            })
    }
}

/// Longest text of a job that is kept, in characters; GitHub's own limits lie below.
const TEXT_MAX: usize = 300;
/// Labels of a job that are kept: a runner has 100 at most.
const LABELS_MAX: usize = 100;

/// Whether a character of a foreign text orders a terminal about instead of being shown: control
/// characters, and the marks that turn the direction of what follows (Unicode Standard Annex 9).
#[must_use]
pub fn is_order(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

fn tame(given: &str) -> String {
    given.chars().filter(|c| !is_order(*c)).take(TEXT_MAX).collect()
}

/// What is known of a job besides how far it is; everything may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobFacts {
    /// `owner/repo`.
    pub repository: Option<String>,
    /// GitHub's number of the workflow run.
    pub run_id: Option<u64>,
    /// Which attempt of that run.
    pub attempt: Option<u32>,
    /// The job's name as GitHub shows it.
    pub name: Option<String>,
    /// The workflow's name.
    pub workflow: Option<String>,
    /// The event that triggered the run.
    pub event: Option<String>,
    /// What the job asks of its runner (`runs-on`).
    pub labels: Vec<String>,
    /// The pool that it is for, where its source knows.
    pub pool: Option<PoolName>,
    /// Name of the runner that has it; not necessarily one of this fleet.
    pub runner: Option<String>,
    /// The forge's number of that runner's registration: names are unique within a scope only.
    pub runner_id: Option<RegistrationId>,
    /// When it began to wait, by GitHub's clock.
    pub queued_at: Option<Time>,
    /// When it began to run.
    pub started_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// GitHub's conclusion (`success`, `failure`, `cancelled`, …).
    pub conclusion: Option<String>,
}

impl JobFacts {
    /// These facts as they may be kept and shown: whoever may write a workflow writes names and labels,
    /// and a terminal must not obey them, nor a page be filled by one.
    #[must_use]
    pub fn tame(mut self) -> Self {
        for text in [
            &mut self.repository,
            &mut self.name,
            &mut self.workflow,
            &mut self.event,
            &mut self.runner,
            &mut self.conclusion,
        ] {
            *text = text.take().map(|text| tame(&text));
        }
        self.labels.truncate(LABELS_MAX);
        for label in &mut self.labels {
            *label = tame(label);
        }
        self
    }

    /// These facts, with gaps filled from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            repository: self.repository.or(other.repository),
            run_id: self.run_id.or(other.run_id),
            attempt: self.attempt.or(other.attempt),
            name: self.name.or(other.name),
            workflow: self.workflow.or(other.workflow),
            event: self.event.or(other.event),
            labels: if self.labels.is_empty() { other.labels } else { self.labels },
            pool: self.pool.or(other.pool),
            runner: self.runner.or(other.runner),
            runner_id: self.runner_id.or(other.runner_id),
            queued_at: self.queued_at.or(other.queued_at),
            started_at: self.started_at.or(other.started_at),
            ended_at: self.ended_at.or(other.ended_at),
            conclusion: self.conclusion.or(other.conclusion),
        }
    }
}

/// One source's word on one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobNews {
    /// Which job.
    pub key: JobKey,
    /// How far it is.
    pub word: JobWord,
    /// When the news reached this daemon.
    pub at: Time,
    /// What else the source knows.
    pub facts: JobFacts,
}

/// What happened on a job's way to its runner, as far as this fleet saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Way {
    /// When its forge chose a runner for it.
    pub assigned_at: Option<Time>,
    /// When that runner's launch was decided; before the job was queued, if the runner was idle.
    pub launched_at: Option<Time>,
    /// When its VM had booted.
    pub booted_at: Option<Time>,
    /// What it waited for, in the pool's own words.
    pub delayed: Option<String>,
}

/// Everything known of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Which job.
    pub key: JobKey,
    /// How far it is.
    pub word: JobWord,
    /// What is known of it.
    pub facts: JobFacts,
    /// The pool that should serve it.
    pub pool: Option<PoolName>,
    /// Why no pool serves it, for a person.
    pub unserved: Option<String>,
    /// What happened on its way to its runner.
    #[serde(default)]
    pub way: Way,
    /// When this daemon first heard of it.
    pub heard_at: Time,
    /// When this daemon last heard of it, also from a check.
    pub last_at: Time,
    /// How often its forge was asked about it since its last change.
    pub checks: u32,
}

/// What a pool serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serves {
    /// The pool.
    pub pool: PoolName,
    /// Jobs of which repositories its runners can get.
    pub scope: Scope,
    /// Labels of its runners.
    pub labels: Vec<String>,
    /// Of several pools that could serve a job, the one with the highest gets it.
    pub priority: u32,
}

/// Every self-hosted runner counts as one that has it (GitHub docs, "Using self-hosted runners in a
/// workflow").
const IMPLIED: &str = "self-hosted";

impl Serves {
    fn reaches(&self, repository: Option<&str>) -> bool {
        let Some((of_owner, of_repo)) = repository.and_then(|name| name.split_once('/')) else {
            return true;
        };
        match &self.scope {
            Scope::Repository { owner, repo } => {
                owner.eq_ignore_ascii_case(of_owner) && repo.eq_ignore_ascii_case(of_repo)
            }
            Scope::Organisation(org) => org.eq_ignore_ascii_case(of_owner),
            // Which organisations belong to an enterprise is not in the payload.
            Scope::Enterprise(_) => true,
        }
    }

    fn lacks<'a>(&self, wanted: &'a [String]) -> Option<&'a str> {
        wanted.iter().map(String::as_str).find(|label| {
            let had = self.labels.iter().any(|own| own.to_lowercase() == label.to_lowercase());
            !had && !label.eq_ignore_ascii_case(IMPLIED)
        })
    }
}

/// The pool for a job: of those whose runners GitHub could give it to (a runner must have every label
/// of the job; case counts for nothing), the highest priority; then the fewest labels, because a
/// runner that can do more may be wanted for it; then the order of the configuration.
///
/// # Errors
/// Why there is none, for a person.
pub fn matching<'a>(facts: &JobFacts, pools: &'a [Serves]) -> Result<&'a PoolName, String> {
    if let Some(known) = &facts.pool {
        let there = pools.iter().find(|serves| serves.pool == *known);
        return there.map(|serves| &serves.pool).ok_or_else(|| {
            format!("its source names pool {known}, which is not in the configuration")
        });
    }
    if facts.labels.is_empty() {
        return Err("it asks for no label (runs-on names a group only, or nothing)".to_owned());
    }
    let repository = facts.repository.as_deref();
    let near: Vec<_> = pools.iter().filter(|serves| serves.reaches(repository)).collect();
    let fits = near.iter().filter(|serves| serves.lacks(&facts.labels).is_none());
    let best = fits.min_by_key(|serves| {
        let distinct: BTreeSet<_> = serves.labels.iter().map(|l| l.to_lowercase()).collect();
        (std::cmp::Reverse(serves.priority), distinct.len())
    });
    if let Some(best) = best {
        return Ok(&best.pool);
    }
    let asked = facts.labels.join(", ");
    if near.is_empty() {
        let of = repository.unwrap_or("its repository");
        return Err(format!("no pool's scope has {of}"));
    }
    let lacks: Vec<_> = near
        .iter()
        .filter_map(|serves| {
            Some(format!("{} lacks {:?}", serves.pool, serves.lacks(&facts.labels)?))
        })
        .take(3)
        .collect();
    Err(format!("no pool has all of its labels ({asked}): {}", lacks.join(", ")))
}

/// Whether a job may be this fleet's: a pool serves it, or it asks for a self-hosted runner. A hook of
/// an organisation tells of every job, also of those on GitHub's own machines.
#[must_use]
pub fn concerns(facts: &JobFacts, pools: &[Serves]) -> bool {
    facts.labels.iter().any(|label| label.eq_ignore_ascii_case(IMPLIED))
        || matching(facts, pools).is_ok()
}

#[cfg(test)]
mod tests;
