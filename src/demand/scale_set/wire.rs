//! What GitHub's actions service sends, read leniently.
//!
//! The protocol is described nowhere and changes without notice, so every field may be missing, a
//! number may be a text, and an element that cannot be read costs itself. What is read here is only
//! what some decision needs. Field names are those that actions/scaleset and GARM have seen.

use serde_json::Value;

use runner_fleet_actors::{
    foreign::{Foreign, NAME_MAX, Words},
    port::{Secret, Time},
};

/// A UTF-8 byte order mark, which the actions service puts before some of its JSON.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The body as JSON; `None` where it is none. An empty body was seen when the service has trouble.
pub fn json(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body.strip_prefix(BOM).unwrap_or(body)).ok()
}

fn text(value: &Value, key: &str) -> Option<Foreign> {
    let text = value.get(key)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.into())
}

fn number(value: &Value, key: &str) -> Option<u64> {
    let value = value.get(key)?;
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn count(value: &Value, key: &str) -> Option<u32> {
    number(value, key).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// .NET's zero time stands for "not set".
fn time(value: &Value, key: &str) -> Option<Time> {
    let time = chrono::DateTime::parse_from_rfc3339(value.get(key)?.as_str()?).ok()?;
    let time = time.with_timezone(&chrono::Utc);
    (time.timestamp() > 0).then_some(time)
}

/// The elements of a `{"count":n,"value":[…]}`.
fn elements(body: &[u8]) -> Option<Vec<Value>> {
    match json(body)?.get_mut("value")?.take() {
        Value::Array(elements) => Some(elements),
        _ => None,
    }
}

/// What a refusal of the actions service means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Another session of the scale set is open.
    SessionConflict,
    /// The session is over.
    SessionExpired,
    /// The runner's name is taken.
    AgentExists,
    /// There is no such runner.
    AgentNotFound,
    /// The runner has a job.
    JobStillRunning,
    /// The token is not taken (any more).
    TokenExpired,
    /// Anything else; the status tells.
    Other,
}

/// The type and the words of an error body: `{"typeName": "GitHub.…Exception, GitHub…", "message"}`.
/// The one place where a type's name is looked at; everybody else matches on [`Refusal`].
pub fn refusal(body: &[u8]) -> (Refusal, Option<Words>) {
    const TYPES: [(&str, Refusal); 6] = [
        ("RunnerScaleSetSessionConflictException", Refusal::SessionConflict),
        ("RunnerScaleSetSessionExpiredException", Refusal::SessionExpired),
        ("AgentExistsException", Refusal::AgentExists),
        ("AgentNotFoundException", Refusal::AgentNotFound),
        ("JobStillRunningException", Refusal::JobStillRunning),
        ("TokenExpiredException", Refusal::TokenExpired),
    ];
    let Some(error) = json(body) else {
        // Some refusals are plain text; they never hold what was sent.
        let words = String::from_utf8_lossy(body.strip_prefix(BOM).unwrap_or(body));
        let words = Foreign::<NAME_MAX>::from(words.trim());
        return (Refusal::Other, (!words.is_empty()).then(|| words.as_str().into()));
    };
    let name = text(&error, "typeName").unwrap_or_default();
    let kind = TYPES.iter().find(|(part, _)| name.contains(part)).map(|(_, kind)| *kind);
    (kind.unwrap_or(Refusal::Other), text(&error, "message").map(|text| text.as_str().into()))
}

/// Where the actions service of a scope is, and the token for it.
pub fn connection(body: &[u8]) -> Option<(String, Secret)> {
    let body = json(body)?;
    let filled = |key: &str| {
        body.get(key).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned)
    };
    Some((filled("url")?, Secret::new(filled("token")?)))
}

/// The `token` of GitHub's REST answer.
pub fn registration_token(body: &[u8]) -> Option<Secret> {
    let token = json(body)?.get("token")?.as_str()?.to_owned();
    (!token.is_empty()).then(|| Secret::new(token))
}

/// When a JWT ends, read without verifying it: the issuer is the one who checks it.
pub fn expiry(token: &Secret) -> Option<Time> {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let claims = token.expose().split('.').nth(1)?;
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let exp = claims.get("exp")?;
    // RFC 7519 calls it a number, not an integer.
    #[allow(clippy::cast_possible_truncation, reason = "`as` saturates, and such a time is none")]
    let second = exp.as_i64().or_else(|| exp.as_f64().map(|float| float as i64))?;
    Time::from_timestamp(second, 0)
}

/// A scale set, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleSet {
    /// Its number.
    pub id: u64,
    /// Its labels; empty where they were not told.
    pub labels: Vec<Foreign>,
}

fn of_set(value: &Value) -> Option<ScaleSet> {
    let labels = value.get("labels").and_then(Value::as_array);
    let labels = labels.into_iter().flatten().filter_map(|label| text(label, "name"));
    Some(ScaleSet { id: number(value, "id").filter(|id| *id > 0)?, labels: labels.collect() })
}

/// One scale set.
pub fn scale_set(body: &[u8]) -> Option<ScaleSet> {
    of_set(&json(body)?)
}

/// A list of scale sets, as far as they can be read. `None` where none of them can: that must not pass
/// for "there is none".
pub fn scale_sets(body: &[u8]) -> Option<Vec<ScaleSet>> {
    let elements = elements(body)?;
    let read: Vec<_> = elements.iter().filter_map(of_set).collect();
    (elements.is_empty() || !read.is_empty()).then_some(read)
}

/// The numbers of a list: runner groups, or requests that were acquired.
pub fn ids(body: &[u8]) -> Option<Vec<u64>> {
    let id = |value: &Value| value.as_u64().or_else(|| number(value, "id"));
    Some(elements(body)?.iter().filter_map(id).collect())
}

/// How many jobs and runners a scale set has, as GitHub counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Jobs that match and that somebody must acquire first (GitHub Enterprise Server).
    pub available: u32,
    /// Jobs that were given to the scale set: waiting and running ones.
    pub assigned: u32,
    /// Those of them that run.
    pub running: u32,
}

fn of_statistics(value: &Value) -> Option<Statistics> {
    Some(Statistics {
        available: count(value, "totalAvailableJobs").unwrap_or(0),
        // Without this one nothing is known; zero would empty the pool.
        assigned: count(value, "totalAssignedJobs")?,
        running: count(value, "totalRunningJobs").unwrap_or(0),
    })
}

/// A session of a scale set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its number, a UUID. No secret: only the admin token can do anything with it.
    pub id: String,
    /// Where its messages are.
    pub queue_url: String,
    /// The token for them.
    pub token: Secret,
    /// The numbers of this moment.
    pub statistics: Option<Statistics>,
}

/// Whether a text can be one part of an address and nothing else; what it names is asked for, and deleted.
fn is_word(text: &str) -> bool {
    text.len() <= NAME_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// A session, as its making and its renewal answer.
pub fn session(body: &[u8]) -> Option<Session> {
    let body = json(body)?;
    let filled = |key: &str| {
        body.get(key).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned)
    };
    Some(Session {
        id: filled("sessionId").filter(|id| is_word(id))?,
        queue_url: filled("messageQueueUrl")?,
        token: Secret::new(filled("messageQueueAccessToken")?),
        statistics: body.get("statistics").and_then(of_statistics),
    })
}

/// What a job message says happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// The job waits for somebody who acquires it.
    Available,
    /// The job belongs to this scale set.
    Assigned,
    /// A runner has begun it.
    Started,
    /// It ended, or was taken back.
    Completed,
}

/// One job of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobMessage {
    /// What happened.
    pub happened: Happened,
    /// The number to acquire it by; 0 where GitHub has none.
    pub request: u64,
    /// The job's own id, a UUID. Not the `workflow_job` number of webhooks.
    pub job: Option<Foreign>,
    /// `owner/repo`.
    pub repository: Option<Foreign>,
    /// The job's name as GitHub shows it.
    pub name: Option<Foreign>,
    /// The file of its workflow.
    pub workflow: Option<Foreign>,
    /// The run's number.
    pub run_id: Option<u64>,
    /// What started the workflow.
    pub event: Option<Foreign>,
    /// The labels that it asks for.
    pub labels: Vec<Foreign>,
    /// The runner that has or had it.
    pub runner: Option<Foreign>,
    /// The number of that runner.
    pub runner_id: Option<u64>,
    /// How it ended, in GitHub's word for conclusions.
    pub conclusion: Option<Foreign>,
    /// When it was queued.
    pub queued_at: Option<Time>,
    /// When it was given to a runner.
    pub started_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
}

/// One message of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its number, which acknowledges it.
    pub id: u64,
    /// The numbers of the moment it was made.
    pub statistics: Option<Statistics>,
    /// The jobs it tells of.
    pub jobs: Vec<JobMessage>,
    /// Elements that could not be read, or that are of a kind nobody knows.
    pub unread: u32,
}

/// A message. `None` where it has not even a number, so that it could not be acknowledged.
pub fn message(body: &[u8]) -> Option<Message> {
    let body = json(body)?;
    let id = number(&body, "messageId")?;
    let statistics = body.get("statistics").and_then(of_statistics);
    let known = text(&body, "messageType").is_none_or(|kind| kind == "RunnerScaleSetJobMessages");
    // The jobs are a text that holds JSON; nothing and an empty list are both usual.
    let inner = body.get("body").and_then(Value::as_str).unwrap_or_default();
    let elements = match json(inner.as_bytes()) {
        Some(Value::Array(elements)) if known => elements,
        _ if known && inner.trim().is_empty() => Vec::new(),
        _ => return Some(Message { id, statistics, jobs: Vec::new(), unread: 1 }),
    };
    let jobs: Vec<JobMessage> = elements.iter().filter_map(job_message).collect();
    let unread = u32::try_from(elements.len() - jobs.len()).unwrap_or(u32::MAX);
    Some(Message { id, statistics, jobs, unread })
}

/// A job that waits to be acquired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its request's number.
    pub request: u64,
    /// `owner/repo`.
    pub repository: Option<Foreign>,
}

/// The jobs that wait to be acquired.
pub fn acquirable(body: &[u8]) -> Option<Vec<Waiting>> {
    let waiting = |job: &Value| {
        Some(Waiting { request: number(job, "runnerRequestId")?, repository: repository(job) })
    };
    Some(elements(body)?.iter().filter_map(waiting).collect())
}

/// The repository that a job tells, as `owner/repo`.
fn repository(job: &Value) -> Option<Foreign> {
    let (owner, repository) = (text(job, "ownerName")?, text(job, "repositoryName")?);
    Some(format!("{owner}/{repository}").into())
}

fn job_message(value: &Value) -> Option<JobMessage> {
    let happened = match value.get("messageType")?.as_str()? {
        "JobAvailable" => Happened::Available,
        "JobAssigned" => Happened::Assigned,
        "JobStarted" => Happened::Started,
        "JobCompleted" => Happened::Completed,
        _ => return None,
    };
    let labels = value.get("requestLabels").and_then(Value::as_array);
    let labels = labels.into_iter().flatten().filter_map(Value::as_str);
    let file = |reference: Foreign| {
        let path = reference.split('@').next().unwrap_or_default();
        path.rsplit('/').next().filter(|name| !name.is_empty()).map(Foreign::from)
    };
    Some(JobMessage {
        happened,
        request: number(value, "runnerRequestId").unwrap_or(0),
        job: text(value, "jobId"),
        repository: repository(value),
        name: text(value, "jobDisplayName"),
        workflow: text(value, "jobWorkflowRef").and_then(file),
        run_id: number(value, "workflowRunId").filter(|id| *id > 0),
        event: text(value, "eventName"),
        labels: labels.map(Foreign::from).collect(),
        runner: text(value, "runnerName"),
        runner_id: number(value, "runnerId").filter(|id| *id > 0),
        conclusion: text(value, "result").map(conclusion),
        queued_at: time(value, "queueTime"),
        started_at: time(value, "runnerAssignTime"),
        ended_at: time(value, "finishTime"),
    })
}

/// The actions service's word for a result as webhooks and REST say it.
fn conclusion(result: Foreign) -> Foreign {
    match result.to_ascii_lowercase().as_str() {
        "succeeded" => "success".into(),
        "failed" => "failure".into(),
        "canceled" => "cancelled".into(),
        other => other.into(),
    }
}

/// A runner as the actions service lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its number; `None` where it cannot be read.
    pub id: Option<u64>,
    /// Its name.
    pub name: String,
    /// The scale set that it is of, if any.
    pub scale_set: Option<u64>,
    /// Whether its runner application is connected; `None` where that was not told.
    pub online: Option<bool>,
    /// Whether it has a job, as far as GitHub says so.
    pub busy: Option<bool>,
}

/// A list of runners, and how many of its elements have no readable name.
pub fn agents(body: &[u8]) -> Option<(Vec<Agent>, usize)> {
    let elements = elements(body)?;
    let agents: Vec<Agent> = elements.iter().filter_map(agent).collect();
    let nameless = elements.len() - agents.len();
    Some((agents, nameless))
}

fn agent(value: &Value) -> Option<Agent> {
    Some(Agent {
        id: number(value, "id").filter(|id| *id > 0),
        name: value.get("name")?.as_str()?.to_owned(),
        scale_set: number(value, "runnerScaleSetId").filter(|id| *id > 0),
        online: value.get("status").and_then(Value::as_str).map(|status| status == "online"),
        busy: value.get("busy").and_then(Value::as_bool),
    })
}

/// The number and JIT config of a new runner.
pub fn jit_config(body: &[u8]) -> Option<(u64, Secret)> {
    let body = json(body)?;
    let id = number(body.get("runner")?, "id")?;
    let config = body.get("encodedJITConfig")?.as_str()?;
    (!config.is_empty()).then(|| (id, Secret::new(config)))
}

#[cfg(test)]
mod tests;
