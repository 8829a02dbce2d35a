//! What a message in a queue says: pure, and strict about one thing only.
//!
//! Two senders are known. Canonical's webhook router puts
//! `{"labels": […], "status": "queued", "url": "https://api.github.com/repos/o/r/actions/jobs/1"}` into
//! the queue of a flavor, with kombu's `SimpleQueue`: as plain text, or, where somebody gave it a
//! dictionary, as JSON; a text of a text is read as well. Canonical's webhook gateway publishes what
//! GitHub sent, whole, and names the event in the header `X-GitHub-Event`.
//!
//! Strict is what is asked of GitHub in the fleet's name: the job's address must be one of the configured
//! GitHub's jobs, else whoever may write to the queue decides where the fleet's token is sent. The
//! address is taken apart and only its parts are used, never followed.

use std::fmt;

use runner_fleet_actors::{
    foreign::Foreign,
    job::{JobFacts, JobKey, JobNews, JobWord},
    port::{PortError, Time},
};
use serde_json::Value;
use url::Url;

use crate::{
    demand::webhook::payload::{self, Said},
    github::route,
};

/// The gateway's own limit of a webhook, and far above what the router writes.
const BODY_MAX: usize = 1024 * 1024;
/// GitHub's limits of labels (its REST description of `generate-jitconfig`).
const LABELS_MAX: usize = 100;
const LABEL_LENGTH_MAX: usize = 256;
/// A piece of a foreign text that is shown.
pub type Shown = Foreign<120>;

/// A message as its broker hands it out, unread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Raw {
    /// Its MIME type, as the sender says.
    pub content_type: Option<String>,
    /// Its character set, as the sender says.
    pub content_encoding: Option<String>,
    /// How it is packed (kombu's header `compression`).
    pub compression: Option<String>,
    /// The webhook's event (header `X-GitHub-Event`), from the gateway.
    pub event: Option<String>,
    /// Its body.
    pub body: Vec<u8>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The router's: this job waits in the queue of its pool.
    Asked(JobNews),
    /// The gateway's: news of any job of its organisation, this fleet's or not.
    Told(JobNews),
    /// An event that is not about a job.
    Other(Shown),
}

/// Why a message is not one of these. It will never be, so it goes to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Kombu can pack bodies; the router does not.
    #[error("it is packed with {0:?}; send it without compression")]
    Packed(Shown),
    /// Longer than any webhook.
    #[error("it has {0} bytes, more than any webhook ({BODY_MAX})")]
    TooLong(usize),
    /// Not UTF-8, or not JSON.
    #[error("it is not JSON{0}")]
    NotJson(AsWhat),
    /// What kombu's envelope needs is not there.
    #[error("kombu's envelope is not usable: {0}")]
    Envelope(&'static str),
    /// JSON, but neither sender's.
    #[error("it is neither the webhook router's message nor a workflow_job event: {0}")]
    Foreign(&'static str),
    /// The address of the job is another GitHub's, or none.
    #[error("its address {shown:?} is no job of {github}")]
    ForeignGithub {
        /// The address, shortened.
        shown: Shown,
        /// The configured GitHub's API.
        github: String,
    },
}

/// What a sender says that a body is, for texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsWhat(Option<Shown>);

impl fmt::Display for AsWhat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(what) => write!(f, " (its sender says {what:?})"),
            None => Ok(()),
        }
    }
}

fn shown(text: &str) -> Shown {
    text.into()
}

/// The one GitHub whose jobs are asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    base: Url,
}

impl Origin {
    /// The GitHub of `[github] url`; see [`route::api_base`].
    ///
    /// # Errors
    /// As [`route::api_base`].
    pub fn new(github: &str) -> Result<Self, PortError> {
        route::api_base(github).map(|base| Self { base })
    }

    /// `owner/repo` and number of the job behind an address.
    fn job(&self, address: &str) -> Result<(String, u64), Refusal> {
        let of = |url: Url| {
            let plain = url.query().is_none() && url.fragment().is_none();
            let nobody = url.username().is_empty() && url.password().is_none();
            if url.origin() != self.base.origin() || !plain || !nobody {
                return None;
            }
            let below = url.path().strip_prefix(self.base.path().trim_end_matches('/'))?;
            let ["", "repos", owner, repo, "actions", "jobs", id] =
                below.split('/').collect::<Vec<_>>()[..]
            else {
                return None;
            };
            let id = id.bytes().all(|b| b.is_ascii_digit()).then(|| id.parse().ok())??;
            let repository: runner_fleet_actors::name::Scope =
                format!("{owner}/{repo}").parse().ok()?;
            Some((repository.to_string(), id))
        };
        Url::parse(address).ok().and_then(of).ok_or_else(|| Refusal::ForeignGithub {
            shown: shown(address),
            github: self.base.to_string(),
        })
    }
}

/// Reads a message.
///
/// # Errors
/// Why it is none that anybody could act on.
pub fn read(raw: &Raw, github: &Origin, now: Time) -> Result<Message, Refusal> {
    if let Some(event) = raw.event.as_deref()
        && event != "workflow_job"
    {
        return Ok(Message::Other(shown(event)));
    }
    if let Some(packed) = &raw.compression {
        return Err(Refusal::Packed(shown(packed)));
    }
    if raw.body.len() > BODY_MAX {
        return Err(Refusal::TooLong(raw.body.len()));
    }
    let not_json = || {
        let says = [&raw.content_type, &raw.content_encoding];
        let says: Vec<_> = says.into_iter().flatten().map(|text| shown(text)).collect();
        Refusal::NotJson(AsWhat((!says.is_empty()).then(|| says.join(", ").into())))
    };
    let value: Value = serde_json::from_slice(&raw.body).map_err(|_| not_json())?;
    let value = match &value {
        Value::String(inner) => serde_json::from_str(inner).map_err(|_| not_json())?,
        _ => value,
    };
    if value.get("workflow_job").is_some() {
        event(&raw.body, &value, github, now)
    } else {
        asked(&value, github, now)
    }
}

/// The router's: a job waits.
fn asked(value: &Value, github: &Origin, now: Time) -> Result<Message, Refusal> {
    let address = value.get("url").and_then(Value::as_str);
    let address = address.ok_or(Refusal::Foreign("it has no url"))?;
    let (repository, id) = github.job(address)?;
    let labels = value.get("labels").and_then(Value::as_array);
    let labels = labels.ok_or(Refusal::Foreign("it has no labels"))?;
    let labels = labels_of(labels)?;
    // Its status is always "queued": the router forwards nothing else, and GitHub is asked in any case.
    let facts = JobFacts { repository: Some(repository.into()), labels, ..JobFacts::default() };
    Ok(Message::Asked(JobNews { key: JobKey::from(id), word: JobWord::Queued, at: now, facts }))
}

fn labels_of(labels: &[Value]) -> Result<Vec<Foreign>, Refusal> {
    let fits = |label: &&str| !label.is_empty() && label.len() <= LABEL_LENGTH_MAX;
    let texts: Option<Vec<_>> =
        labels.iter().map(|label| label.as_str().filter(fits).map(Foreign::from)).collect();
    texts
        .filter(|texts| texts.len() <= LABELS_MAX)
        .ok_or(Refusal::Foreign("its labels are no list of at most 100 texts"))
}

/// The gateway's: GitHub's own event.
fn event(body: &[u8], value: &Value, github: &Origin, now: Time) -> Result<Message, Refusal> {
    let address = value.pointer("/workflow_job/url").and_then(Value::as_str);
    let (repository, _) = github.job(address.ok_or(Refusal::Foreign("its job has no url"))?)?;
    let said = payload::read("workflow_job", body, now);
    match said.map_err(|_| Refusal::Foreign("its job cannot be read"))? {
        Said::Job(news) => {
            let facts = JobFacts { repository: Some(repository.into()), ..news.facts };
            Ok(Message::Told(JobNews { facts, ..*news }))
        }
        Said::Ping | Said::Nothing => Ok(Message::Other("workflow_job of another status".into())),
    }
}
