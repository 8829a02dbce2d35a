//! What a delivery says. Pure.
//!
//! Only what is needed is read, and everything may be missing or odd but the job's number: GitHub adds
//! fields, old servers lack some, and what cannot be read costs itself (`lenient.rs`), for
//! an end that is not heard is a runner that waits for it. Action *and* status decide, because GitHub
//! sends `queued` with the status `waiting` for a job that a deployment rule holds.

use std::borrow::Cow;

use runner_fleet_actors::{
    foreign::{Foreign, Words},
    job::{JobFacts, JobNews, JobWord},
    name::RegistrationId,
    port::Time,
};
use serde::Deserialize;

use super::lenient::{Labels, Scalar, object};

/// What a delivery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// News of a job.
    Job(Box<JobNews>),
    /// GitHub tries whether anybody is there.
    Ping,
    /// An event or action that says nothing about demand.
    Nothing,
}

/// Why a delivery cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(Words);

fn unreadable(why: impl Into<String>) -> Unreadable {
    Unreadable(why.into().into())
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    action: Scalar,
    #[serde(default, deserialize_with = "object")]
    workflow_job: Option<WorkflowJob>,
    #[serde(default, deserialize_with = "object")]
    repository: Option<Repository>,
    #[serde(default, deserialize_with = "object")]
    organization: Option<Account>,
    #[serde(default, deserialize_with = "object")]
    enterprise: Option<Enterprise>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Repository {
    id: Scalar,
    full_name: Scalar,
    private: Scalar,
    visibility: Scalar,
    #[serde(deserialize_with = "object")]
    owner: Option<Account>,
}

#[derive(Deserialize)]
struct Account {
    #[serde(default)]
    id: Scalar,
}

#[derive(Deserialize)]
struct Enterprise {
    #[serde(default)]
    slug: Scalar,
}

/// Where a job is, as its source says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// `owner/repo`.
    pub repository: Option<Foreign>,
    /// GitHub's number of the repository.
    pub repository_id: Option<u64>,
    /// GitHub's number of the repository's owner.
    pub owner_id: Option<u64>,
    /// Whether everybody may see the repository.
    pub public: Option<bool>,
    /// The enterprise, by its slug.
    pub enterprise: Option<Foreign>,
}

impl Place {
    /// A repository of which nothing but the name is known.
    #[must_use]
    pub fn named(repository: &str) -> Self {
        Self { repository: Some(repository.into()), ..Self::default() }
    }

    fn of(
        repository: Option<Repository>,
        organisation: Option<Account>,
        enterprise: Option<Enterprise>,
    ) -> Self {
        let Repository { id, full_name, private, visibility, owner } =
            repository.unwrap_or_default();
        let public = match visibility.as_str() {
            Some("public") => Some(true),
            // Internal is for the members of one enterprise.
            Some("private" | "internal") => Some(false),
            _ => private.flag().map(|private| !private),
        };
        Self {
            repository: full_name.text(),
            repository_id: id.number(),
            // Both are the same one; deliveries to a repository's own hook may lack the first.
            owner_id: organisation.or(owner).and_then(|account| account.id.number()),
            public,
            enterprise: enterprise.and_then(|enterprise| enterprise.slug.text()),
        }
    }
}

/// A `workflow_job`, as in deliveries and as GitHub's REST API answers ("Get a job for a workflow run").
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct WorkflowJob {
    id: Scalar,
    run_id: Scalar,
    run_attempt: Scalar,
    name: Scalar,
    workflow_name: Scalar,
    labels: Labels,
    status: Scalar,
    conclusion: Scalar,
    runner_id: Scalar,
    runner_name: Scalar,
    runner_group_name: Scalar,
    created_at: Scalar,
    started_at: Scalar,
    completed_at: Scalar,
}

impl WorkflowJob {
    /// GitHub's number of the job.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        self.id.number()
    }

    /// How far the job is; `None` for a status of the future.
    fn word(&self, action: Option<&str>) -> Option<JobWord> {
        let of = |text: &str| match text {
            // REST knows more words for a job that does not run yet.
            "waiting" | "pending" | "requested" => Some(JobWord::Blocked),
            "queued" => Some(JobWord::Queued),
            "in_progress" => Some(JobWord::Running),
            "completed" => Some(JobWord::Done),
            _ => None,
        };
        match (action.and_then(of), self.status.as_str().and_then(of)) {
            // `queued` of a job that a deployment rule holds.
            (Some(JobWord::Queued), Some(JobWord::Blocked)) => Some(JobWord::Blocked),
            (Some(action), Some(status)) => Some(action.max(status)),
            (action, status) => action.or(status),
        }
    }

    /// The news in it, as of `at`. `None` where it has no number, or its status is none that is known.
    #[must_use]
    pub fn news(self, action: Option<&str>, place: Place, at: Time) -> Option<JobNews> {
        let word = self.word(action)?;
        let key = self.id()?.into();
        let begun = word >= JobWord::Running;
        let Place { repository, repository_id, owner_id, public, enterprise } = place;
        // A queued job may name the runner of an earlier attempt.
        let runner = self.runner_name.text().filter(|_| begun);
        let started_at = self.started_at.time();
        let facts = JobFacts {
            repository,
            repository_id,
            owner_id,
            public,
            enterprise,
            run_id: self.run_id.number(),
            attempt: self.run_attempt.number().and_then(|attempt| attempt.try_into().ok()),
            name: self.name.text(),
            workflow: self.workflow_name.text(),
            event: None,
            labels: self.labels.0,
            group: self.runner_group_name.text(),
            pool: None,
            // GitHub writes 0 where there is none.
            runner_id: self.runner_id.number().filter(|id| begun && *id > 0).map(RegistrationId),
            runner,
            queued_at: self.created_at.time().or(if begun { None } else { started_at }),
            // Of a queued job this is the time of its queueing.
            started_at: started_at.filter(|_| begun),
            ended_at: self.completed_at.time(),
            conclusion: self.conclusion.text(),
        };
        Some(JobNews { key, word, at, facts })
    }
}

/// The JSON of a delivery: the body, or what a form holds as `payload`, which is GitHub's default content
/// type of a new webhook (GitHub docs, "Creating webhooks").
///
/// # Errors
/// It is a form without a payload.
pub fn json<'a>(content_type: Option<&str>, body: &'a [u8]) -> Result<Cow<'a, [u8]>, Unreadable> {
    let kind = content_type.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    let form = kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded");
    if !form || matches!(body.first(), Some(b'{')) {
        return Ok(Cow::Borrowed(body));
    }
    let mut fields = url::form_urlencoded::parse(body);
    let payload = fields.find(|(key, _)| key == "payload");
    let payload = payload.ok_or_else(|| {
        unreadable(
            "the body is a form without the field payload; set the webhook's content type on GitHub \
             to application/json",
        )
    })?;
    Ok(Cow::Owned(payload.1.into_owned().into_bytes()))
}

/// What the delivery of an event says.
///
/// # Errors
/// It is not what GitHub documents for the event.
pub fn read(event: &str, body: &[u8], at: Time) -> Result<Said, Unreadable> {
    match event {
        "ping" => return Ok(Said::Ping),
        "workflow_job" => {}
        _ => return Ok(Said::Nothing),
    }
    let payload: Payload = serde_json::from_slice(body)
        .map_err(|error| unreadable(format!("the body is no workflow_job event: {error}")))?;
    let job = payload.workflow_job.ok_or_else(|| {
        unreadable("the body has no workflow_job, which every workflow_job event has")
    })?;
    if job.id().is_none() {
        return Err(unreadable("its workflow_job has no number as its id"));
    }
    let place = Place::of(payload.repository, payload.organization, payload.enterprise);
    let news = job.news(payload.action.as_str(), place, at);
    Ok(news.map_or(Said::Nothing, |news| Said::Job(Box::new(news))))
}

#[cfg(test)]
#[path = "payload/tests.rs"]
mod tests;
