use serde_json::json;

use super::*;

#[test]
fn a_message_is_read_behind_a_byte_order_mark_and_an_odd_element_costs_itself() {
    let jobs = json!([
        {"messageType": "JobStarted", "runnerRequestId": 0, "jobId": "6b1c", "ownerName": "octo",
         "repositoryName": "app", "jobDisplayName": "build", "workflowRunId": 77,
         "jobWorkflowRef": "octo/app/.github/workflows/ci.yml@refs/heads/main",
         "requestLabels": ["large", 3], "runnerName": "ci--large--000000000001",
         "queueTime": "2026-11-21T10:00:00.123Z", "finishTime": "0001-01-01T00:00:00Z"},
        {"messageType": "JobDreamt"},
        null,
        {"messageType": "JobCompleted", "runnerRequestId": "12", "result": "canceled", "runnerName": ""},
    ]);
    let body = json!({"messageId": 5, "messageType": "RunnerScaleSetJobMessages",
        "body": jobs.to_string(), "statistics": {"totalAssignedJobs": 3, "totalRunningJobs": 1}});
    let read = message(&[BOM, body.to_string().as_bytes()].concat()).unwrap();
    assert_eq!((read.id, read.jobs.len(), read.unread), (5, 2, 2));
    let wanted = Statistics { available: 0, assigned: 3, running: 1 };
    assert_eq!(read.statistics, Some(wanted));
    let [started, completed] = read.jobs.as_slice() else { panic!("two jobs") };
    assert_eq!(started.repository.as_deref(), Some("octo/app"));
    assert_eq!(started.workflow.as_deref(), Some("ci.yml"));
    assert_eq!((started.ended_at, started.queued_at.is_some()), (None, true));
    assert_eq!(started.labels, ["large"]);
    assert_eq!((completed.request, completed.runner.as_deref()), (12, None));
    assert_eq!(completed.conclusion.as_deref(), Some("cancelled"));
}

#[test]
fn a_message_of_an_unknown_kind_can_still_be_acknowledged() {
    for body in [
        json!({"messageId": 9, "messageType": "Weather", "body": "[]"}),
        json!({"messageId": 9, "messageType": "RunnerScaleSetJobMessages", "body": "{"}),
    ] {
        let read = message(body.to_string().as_bytes()).unwrap();
        assert_eq!((read.id, read.unread, read.statistics), (9, 1, None));
    }
    for body in ["", "null", "{}", "[]"] {
        assert_eq!(message(body.as_bytes()), None, "{body:?} has no number");
    }
}

#[test]
fn statistics_without_the_number_that_counts_are_none() {
    assert_eq!(of_statistics(&json!({"totalRunningJobs": 4})), None);
    assert_eq!(of_statistics(&json!({"totalAssignedJobs": -1})), None);
    let huge = of_statistics(&json!({"totalAssignedJobs": 9_999_999_999_u64})).unwrap();
    assert_eq!(huge.assigned, u32::MAX);
}

#[test]
fn a_refusal_is_known_by_its_type_whatever_its_words() {
    let table = [
        ("GitHub.Services.RunnerScaleSetSessionConflictException, X", Refusal::SessionConflict),
        ("GitHub.X.RunnerScaleSetSessionExpiredException", Refusal::SessionExpired),
        ("GitHub.DistributedTask.WebApi.AgentExistsException, A", Refusal::AgentExists),
        ("AgentNotFoundException", Refusal::AgentNotFound),
        ("GitHub.X.JobStillRunningException", Refusal::JobStillRunning),
        ("VssUnauthorizedException", Refusal::Other),
    ];
    for (name, wanted) in table {
        let body = json!({"typeName": name, "message": "words"}).to_string();
        assert_eq!(refusal(body.as_bytes()), (wanted, Some("words".into())), "{name}");
    }
    assert_eq!(refusal(b"Bad gateway"), (Refusal::Other, Some("Bad gateway".into())));
    assert_eq!(refusal(b""), (Refusal::Other, None));
}

#[test]
fn the_end_of_a_token_is_read_from_it() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let jwt =
        |claims: &str| Secret::new(format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims)));
    assert_eq!(expiry(&jwt(r#"{"exp":1800000000}"#)).unwrap().timestamp(), 1_800_000_000);
    assert_eq!(expiry(&jwt(r#"{"exp":1.8e9}"#)).unwrap().timestamp(), 1_800_000_000);
    for odd in [jwt("{}"), jwt("no json"), Secret::new("opaque"), Secret::new("a.b.c")] {
        assert_eq!(expiry(&odd), None);
    }
}

#[test]
fn a_runner_that_cannot_be_read_does_not_pass_for_absent() {
    let body = json!({"count": 3, "value": [
        {"id": 4, "name": "a", "runnerScaleSetId": 2, "status": "online", "busy": true},
        {"id": null, "name": "b", "status": "offline"}, {"id": 6}]});
    let (agents, nameless) = agents(body.to_string().as_bytes()).unwrap();
    assert_eq!(nameless, 1);
    assert_eq!(
        (agents[0].online, agents[0].busy, agents[0].scale_set),
        (Some(true), Some(true), Some(2))
    );
    assert_eq!((agents[1].id, agents[1].online, agents[1].busy), (None, Some(false), None));
}

#[test]
fn a_session_whose_number_would_lead_elsewhere_is_none() {
    let of = |id: &str| {
        let body = json!({"sessionId": id, "messageQueueUrl": "https://x/", "messageQueueAccessToken": "t"});
        session(body.to_string().as_bytes()).map(|session| session.id)
    };
    assert_eq!(of("6b1c-22").as_deref(), Some("6b1c-22"));
    for odd in ["", "../../runners/1", "a/b", "a?b", "a%2e", "a b", "\u{1b}[2J", &"a".repeat(1000)]
    {
        assert_eq!(of(odd), None, "{odd:?}");
    }
}
