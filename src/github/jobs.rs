//! One job, looked up: what GitHub's REST API says of it at this moment.
//!
//! News of a job get lost and come twice; this is the answer that settles it. It is read as leniently
//! as everything of GitHub's ([`super::wire`]): the number and the status must be there, the rest may.
//! A webhook's `workflow_job` object has the same shape and is read by the same function, so that the
//! two can never differ in what they make of a job.

use async_trait::async_trait;
use http::{Method, StatusCode};
use runner_fleet_actors::{
    job::{JobFacts, JobNews, JobWord},
    name::Scope,
    port::{ErrorClass, PortError, Time},
};
use serde_json::Value;

use super::{
    Github,
    budget::CallKind,
    client::{Call, Client},
    reading::said,
    route,
};

/// Somebody who can be asked about one job.
#[async_trait]
pub trait JobLookup: Send + Sync {
    /// What is known of a job at this moment; `None` where there is no such job, or none that the
    /// credentials may see: GitHub answers 404 to both.
    ///
    /// # Errors
    /// Where no answer came that says anything about the job.
    async fn look_up(&self, repository: &str, id: u64) -> Result<Option<JobNews>, PortError>;
}

#[async_trait]
impl JobLookup for Github {
    async fn look_up(&self, repository: &str, id: u64) -> Result<Option<JobNews>, PortError> {
        self.client.noted(look_up(&self.client, repository, id).await)
    }
}

async fn look_up(client: &Client, repository: &str, id: u64) -> Result<Option<JobNews>, PortError> {
    let what = format!("look up job {id} of {repository}");
    let scope: Scope = repository
        .parse()
        .map_err(|error| PortError::certain(ErrorClass::Invalid, format!("{what}: {error}")))?;
    let Some(path) = route::job(&scope, id) else {
        let why = format!("{what}: {repository:?} is no \"owner/repo\"");
        return Err(PortError::certain(ErrorClass::Invalid, why));
    };
    // It repairs, as a listing does, and goes first when little of the limit is left.
    let call = Call::new(what, CallKind::List, &scope, Method::GET, path);
    let answer = client.call(&call).await.map_err(|error| match error.class {
        ErrorClass::Auth => {
            let hint = "to read a job: \"Actions: read\" on the repository, or classic \"repo\"";
            PortError { what: format!("{}; {hint}", error.what), ..error }
        }
        _ => error,
    })?;
    match answer.status {
        StatusCode::OK => serde_json::from_slice(&answer.body)
            .ok()
            .and_then(|job| read(&job, Some(repository), client.clock.now()))
            .map(Some)
            .ok_or_else(|| call.failed(ErrorClass::Transient, "GitHub's answer is no job")),
        StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
        status if status.is_client_error() => Err(call.failed(ErrorClass::Invalid, &said(&answer))),
        _ => Err(call.failed(ErrorClass::Transient, &said(&answer))),
    }
}

/// A `workflow_job` as REST and webhooks give it. `None` where number or status cannot be read.
///
/// `queued`, `requested` and a status that is not known yet count as waiting for a runner; `waiting`
/// (for an approval) and `pending` (for its concurrency group) are held by GitHub itself, and no
/// runner could help (GitHub docs, "REST API endpoints for workflow jobs"; the status of the schema).
#[must_use]
pub fn read(job: &Value, repository: Option<&str>, now: Time) -> Option<JobNews> {
    let text = |key: &str| job.get(key).and_then(Value::as_str).map(str::to_owned);
    let full = |key: &str| text(key).filter(|text| !text.is_empty());
    let time = |key: &str| {
        let parsed = chrono::DateTime::parse_from_rfc3339(job.get(key)?.as_str()?).ok()?;
        Some(parsed.with_timezone(&chrono::Utc))
    };
    let id = job.get("id").and_then(Value::as_u64)?;
    let word = match job.get("status").and_then(Value::as_str)? {
        "completed" => JobWord::Done,
        "in_progress" => JobWord::Running,
        "waiting" | "pending" => JobWord::Blocked,
        _ => JobWord::Queued,
    };
    let runner = full("runner_name");
    let labels = job.get("labels").and_then(Value::as_array).into_iter().flatten();
    let facts = JobFacts {
        repository: repository.map(str::to_owned),
        run_id: job.get("run_id").and_then(Value::as_u64),
        attempt: job
            .get("run_attempt")
            .and_then(Value::as_u64)
            .and_then(|number| u32::try_from(number).ok()),
        name: full("name"),
        workflow: full("workflow_name"),
        event: None,
        labels: labels.filter_map(Value::as_str).map(str::to_owned).collect(),
        pool: None,
        queued_at: time("created_at"),
        // GitHub gives a job that waits, or never ran, a start as well: that of its queueing.
        started_at: time("started_at").filter(|_| word >= JobWord::Running && runner.is_some()),
        ended_at: time("completed_at").filter(|_| word == JobWord::Done),
        conclusion: full("conclusion"),
        runner,
    };
    Some(JobNews { key: id.into(), word, at: now, facts })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn now() -> Time {
        Time::from_timestamp(1_800_000_000, 0).unwrap()
    }

    #[test]
    fn a_job_that_waits_has_neither_started_nor_a_runner() {
        let job = json!({
            "id": 7, "run_id": 3, "run_attempt": 2, "status": "queued", "name": "build",
            "workflow_name": null, "labels": ["self-hosted", "large"], "runner_name": "",
            "created_at": "2026-11-20T10:00:00Z", "started_at": "2026-11-20T10:00:00Z",
        });
        let news = read(&job, Some("o/r"), now()).unwrap();
        assert_eq!((news.key.id(), news.word), (Some(7), JobWord::Queued));
        let facts = news.facts;
        assert_eq!((facts.run_id, facts.attempt), (Some(3), Some(2)));
        assert_eq!(facts.labels, ["self-hosted", "large"]);
        assert_eq!((facts.started_at, facts.runner, facts.workflow), (None, None, None));
        assert!(facts.queued_at.is_some());
    }

    #[test]
    fn what_a_runner_cannot_help_is_no_waiting_job() {
        for (status, word) in [
            ("queued", JobWord::Queued),
            ("requested", JobWord::Queued),
            ("waiting", JobWord::Blocked),
            ("pending", JobWord::Blocked),
            ("in_progress", JobWord::Running),
            ("completed", JobWord::Done),
        ] {
            let job = json!({"id": 1, "status": status});
            assert_eq!(read(&job, None, now()).unwrap().word, word, "{status}");
        }
        assert!(read(&json!({"status": "queued"}), None, now()).is_none());
        assert!(read(&json!({"id": 1}), None, now()).is_none());
    }
}
