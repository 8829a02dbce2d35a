//! What a delivery says. Pure.
//!
//! Only what is needed is read, and everything may be missing but the job's id: GitHub adds fields, and
//! old servers lack some. Action *and* status decide, because GitHub sends `queued` with the status
//! `waiting` for a job that a deployment rule holds.

use runner_fleet_actors::{
    job::{JobFacts, JobNews, JobWord},
    name::RegistrationId,
    port::Time,
};
use serde::Deserialize;

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
pub struct Unreadable(String);

#[derive(Deserialize)]
struct Payload {
    action: Option<String>,
    workflow_job: Option<WorkflowJob>,
    repository: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    full_name: Option<String>,
}

/// A `workflow_job`, as in deliveries and as GitHub's REST API answers ("Get a job for a workflow run").
#[derive(Debug, Clone, Deserialize)]
pub struct WorkflowJob {
    id: u64,
    run_id: Option<u64>,
    run_attempt: Option<u32>,
    name: Option<String>,
    workflow_name: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    status: Option<String>,
    conclusion: Option<String>,
    runner_id: Option<u64>,
    runner_name: Option<String>,
    created_at: Option<Time>,
    started_at: Option<Time>,
    completed_at: Option<Time>,
}

impl WorkflowJob {
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
        match (action.and_then(of), self.status.as_deref().and_then(of)) {
            // `queued` of a job that a deployment rule holds.
            (Some(JobWord::Queued), Some(JobWord::Blocked)) => Some(JobWord::Blocked),
            (Some(action), Some(status)) => Some(action.max(status)),
            (action, status) => action.or(status),
        }
    }

    /// The news in it, as of `at`. `None` where its status is none that is known.
    #[must_use]
    pub fn news(
        self,
        action: Option<&str>,
        repository: Option<String>,
        at: Time,
    ) -> Option<JobNews> {
        let word = self.word(action)?;
        let begun = word >= JobWord::Running;
        let facts = JobFacts {
            repository,
            run_id: self.run_id,
            attempt: self.run_attempt,
            name: self.name,
            workflow: self.workflow_name,
            event: None,
            labels: self.labels,
            pool: None,
            // A queued job may name the runner of an earlier attempt.
            runner: self.runner_name.filter(|name| begun && !name.is_empty()),
            runner_id: self.runner_id.filter(|id| begun && *id > 0).map(RegistrationId),
            queued_at: self.created_at.or(if begun { None } else { self.started_at }),
            // Of a queued job this is the time of its queueing.
            started_at: self.started_at.filter(|_| begun),
            ended_at: self.completed_at,
            conclusion: self.conclusion,
        };
        Some(JobNews { key: self.id.into(), word, at, facts })
    }
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
        .map_err(|error| Unreadable(format!("the body is no workflow_job event: {error}")))?;
    let job = payload.workflow_job.ok_or_else(|| {
        Unreadable("the body has no workflow_job, which every workflow_job event has".to_owned())
    })?;
    let repository = payload.repository.and_then(|named| named.full_name);
    let news = job.news(payload.action.as_deref(), repository, at);
    Ok(news.map_or(Said::Nothing, |news| Said::Job(Box::new(news))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

    use proptest::prelude::*;

    use super::*;

    fn example(name: &str) -> Vec<u8> {
        let path = format!("{}/tests/data/webhooks/{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).unwrap()
    }

    fn job(name: &str) -> JobNews {
        match read("workflow_job", &example(name), Time::default()).unwrap() {
            Said::Job(news) => *news,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_real_payload_is_taken() {
        let folder = format!("{}/tests/data/webhooks", env!("CARGO_MANIFEST_DIR"));
        let mut taken = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let event = name.split('.').rev().find(|part| ["ping", "workflow_job"].contains(part));
            let event = event.or_else(|| name.contains("workflow_job.").then_some("workflow_job"));
            let Some(event) = event else { continue };
            if name.contains("schema") {
                continue;
            }
            let said = read(event, &std::fs::read(&path).unwrap(), Time::default()).unwrap();
            assert_ne!(said, Said::Nothing, "{name}");
            taken += 1;
        }
        assert!(taken >= 15, "{taken} payloads");
    }

    #[test]
    fn a_queued_job_that_a_deployment_rule_holds_is_blocked() {
        assert_eq!(job("api.github.com.workflow_job.queued.2").word, JobWord::Blocked);
        assert_eq!(job("api.github.com.workflow_job.waiting.1").word, JobWord::Blocked);
        assert_eq!(job("api.github.com.workflow_job.queued.1").word, JobWord::Queued);
    }

    #[test]
    fn a_queued_job_has_no_runner_whatever_its_last_attempt_had() {
        let queued = job("api.github.com.workflow_job.queued.1");
        assert_eq!((queued.facts.runner, queued.facts.started_at), (None, None));
        assert!(queued.facts.queued_at.is_some());
        let running = job("api.github.com.workflow_job.in_progress.1");
        assert_eq!(running.facts.runner.as_deref(), Some("my runner"));
        assert_eq!(running.facts.labels, ["gpu", "db-app", "dc-03"]);
        let done = job("api.github.com.workflow_job.completed.1");
        assert_eq!(done.facts.conclusion.as_deref(), Some("failure"));
        assert_eq!(done.facts.repository.as_deref(), Some("Codertocat/Hello-World"));
    }

    #[test]
    fn other_events_say_nothing_and_a_body_that_is_none_is_told_so() {
        assert_eq!(read("push", b"{}", Time::default()), Ok(Said::Nothing));
        assert_eq!(read("ping", b"anything", Time::default()), Ok(Said::Ping));
        let error = read("workflow_job", b"{\"action\": 3}", Time::default()).unwrap_err();
        assert!(error.to_string().contains("no workflow_job event"), "{error}");
        let error = read("workflow_job", b"{}", Time::default()).unwrap_err();
        assert!(error.to_string().contains("has no workflow_job"), "{error}");
    }

    proptest! {
        #[test]
        fn no_body_is_a_crash(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _read = read("workflow_job", &body, Time::default());
        }
    }
}
