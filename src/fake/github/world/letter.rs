//! What a scale set's message says of a job.

use chrono::SecondsFormat;
use runner_fleet_actors::port::Time;
use serde_json::{Value, json};

use super::job::JobState;

/// What a job message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Available,
    Assigned,
    Started,
    Completed,
}

/// A job as a message tells of it.
pub(super) fn told(job: &JobState, word: Word) -> Value {
    let record = &job.record;
    let time = |time: Option<Time>| match time {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
        None => "0001-01-01T00:00:00Z".to_owned(),
    };
    let (owner, repository) = record.repository.split_once('/').unwrap_or_default();
    let mut message = json!({
        "messageType": match word {
            Word::Available => "JobAvailable",
            Word::Assigned => "JobAssigned",
            Word::Started => "JobStarted",
            Word::Completed => "JobCompleted",
        },
        "runnerRequestId": record.id.0,
        "jobId": format!("00000000-0000-4000-8000-{:012x}", record.id.0),
        "ownerName": owner,
        "repositoryName": repository,
        "jobDisplayName": "build",
        "jobWorkflowRef": format!("{}/.github/workflows/ci.yml@refs/heads/main", record.repository),
        "workflowRunId": record.run_id,
        "eventName": record.event,
        "requestLabels": job.labels,
        "queueTime": time(Some(record.queued_at)),
        "scaleSetAssignTime": time(record.assigned_at),
        "runnerAssignTime": time(record.acquired_at),
        "finishTime": time(record.completed_at),
    });
    if matches!(word, Word::Started | Word::Completed) {
        message["runnerId"] = json!(job.runner.unwrap_or_default());
        message["runnerName"] = json!(record.runner.clone().unwrap_or_default());
    }
    if word == Word::Completed {
        message["result"] = json!(match record.result.as_deref() {
            Some("success") => "succeeded",
            Some("failure") => "failed",
            _ => "canceled",
        });
    }
    message
}
