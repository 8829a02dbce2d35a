//! Jobs: what is known of each one, which pool it is for, and how news change it.
//!
//! News of a job come from several sources, late, twice and out of order. Two rules make that
//! harmless. *A word has a rank* (blocked, queued, running, done) and a later word beats an earlier
//! one for good: GitHub gives a re-run another id, so no job ever goes back. *Facts only fill gaps or
//! come from the higher word*: what is known is not lost to a source that knows less. The
//! alternative, to order news by their time stamps, trusts clocks of three machines.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    foreign::Foreign,
    name::{NameError, PoolName, RegistrationId},
    port::Time,
};

mod book;
mod identity;
mod serves;
pub mod speech;
pub mod why;

pub use book::Book;
pub use identity::Identity;
pub use serves::{Repositories, RepositoryPattern, Serves, concerns, matching};

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

/// Labels of a job that are kept: one more than a runner can have, so that whoever asks for more still
/// asks for too many.
const LABELS_MAX: usize = 101;

/// What is known of a job besides how far it is; everything may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobFacts {
    /// `owner/repo`.
    pub repository: Option<Foreign>,
    /// GitHub's number of the repository, which stays when it is renamed.
    pub repository_id: Option<u64>,
    /// GitHub's number of the repository's owner, which stays when the owner is renamed.
    pub owner_id: Option<u64>,
    /// Whether everybody may see the repository, where its source says so.
    pub public: Option<bool>,
    /// The enterprise that the repository's owner belongs to, by its slug, where its source says so.
    pub enterprise: Option<Foreign>,
    /// GitHub's number of the workflow run.
    pub run_id: Option<u64>,
    /// Which attempt of that run.
    pub attempt: Option<u32>,
    /// The job's name as GitHub shows it.
    pub name: Option<Foreign>,
    /// The workflow's name.
    pub workflow: Option<Foreign>,
    /// The event that triggered the run.
    pub event: Option<Foreign>,
    /// What the job asks of its runner (`runs-on`).
    pub labels: Vec<Foreign>,
    /// Name of the runner group: the one that it asks for, or the one of its runner.
    pub group: Option<Foreign>,
    /// The pool that it is for, where its source knows.
    pub pool: Option<PoolName>,
    /// Name of the runner that has it; not necessarily one of this fleet.
    pub runner: Option<Foreign>,
    /// The forge's number of that runner's registration: names are unique within a scope only.
    pub runner_id: Option<RegistrationId>,
    /// When it began to wait, by GitHub's clock.
    pub queued_at: Option<Time>,
    /// When it began to run.
    pub started_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// GitHub's conclusion (`success`, `failure`, `cancelled`, …).
    pub conclusion: Option<Foreign>,
}

impl JobFacts {
    /// These facts with no more labels than are of use.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.labels.truncate(LABELS_MAX);
        self
    }

    /// Whether these facts and `other` cannot be about one job: a job stays in its repository, and a
    /// repository that was renamed keeps its number.
    #[must_use]
    pub fn is_of_another_repository(&self, other: &Self) -> bool {
        let Some((own, others)) = self.repository.as_ref().zip(other.repository.as_ref()) else {
            return false;
        };
        let numbers = self.repository_id.zip(other.repository_id);
        !own.eq_ignore_ascii_case(others) && numbers.is_none_or(|(own, others)| own != others)
    }

    /// These facts, with gaps filled from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            repository: self.repository.or(other.repository),
            repository_id: self.repository_id.or(other.repository_id),
            owner_id: self.owner_id.or(other.owner_id),
            public: self.public.or(other.public),
            enterprise: self.enterprise.or(other.enterprise),
            run_id: self.run_id.or(other.run_id),
            attempt: self.attempt.or(other.attempt),
            name: self.name.or(other.name),
            workflow: self.workflow.or(other.workflow),
            event: self.event.or(other.event),
            labels: if self.labels.is_empty() { other.labels } else { self.labels },
            group: self.group.or(other.group),
            pool: self.pool.or(other.pool),
            runner_id: if self.runner.is_some() { self.runner_id } else { other.runner_id },
            runner: self.runner.or(other.runner),
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
    /// When this daemon first heard of it: on the timeline in the book, by the wall in the ledger and
    /// wherever it is shown. So are all times that this daemon noted.
    pub heard_at: Time,
    /// When this daemon last heard of it, also from a check.
    pub last_at: Time,
    /// How often its forge was asked about it since its last change.
    pub checks: u32,
}

impl JobRecord {
    /// The same with what this daemon noted moved by so much: to another clock. What others said is by
    /// theirs already.
    #[must_use]
    pub fn moved(mut self, by: chrono::TimeDelta) -> Self {
        let Way { assigned_at, launched_at, booted_at, .. } = &mut self.way;
        let noted = [assigned_at, launched_at, booted_at].into_iter().flatten();
        for at in noted.chain([&mut self.heard_at, &mut self.last_at]) {
            *at = at.checked_add_signed(by).unwrap_or(*at);
        }
        self
    }
}

#[cfg(test)]
mod tests;
