//! What GitHub keeps of jobs and of its own deliveries, asked for where webhooks may have been lost.

use async_trait::async_trait;
use http::{Method, StatusCode, header};
use runner_fleet_actors::{
    job::{Identity, JobNews},
    name::Scope,
    port::{ErrorClass, PortError, Time},
};
use serde_json::Value;
use url::Url;

use super::{
    Github,
    budget::CallKind,
    client::{Call, Client},
    names::Question,
    reading::{Permission, lacking, said},
    route,
    transport::Answer,
};
use crate::demand::webhook::{
    payload::{Place, WorkflowJob},
    repair::Hook,
};

/// One attempt to deliver, as GitHub logs it (GitHub docs, "List deliveries for an organization
/// webhook").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// GitHub's number of the attempt.
    pub id: u64,
    /// The delivery's own id, the same for every attempt.
    pub guid: String,
    /// When it was tried.
    pub delivered_at: Time,
    /// What was answered; 0 where nothing was.
    pub status_code: i64,
    /// Its event, such as `workflow_job`.
    pub event: String,
}

impl Delivery {
    /// An element of the log; `None` where it lacks what tells it from others.
    fn read(element: &Value) -> Option<Self> {
        let text = |key: &str| element.get(key).and_then(Value::as_str);
        let at = chrono::DateTime::parse_from_rfc3339(text("delivered_at")?).ok()?;
        Some(Self {
            id: element.get("id")?.as_u64()?,
            guid: text("guid").filter(|guid| !guid.is_empty())?.to_owned(),
            delivered_at: at.to_utc(),
            // Of one whose answer cannot be read it is not known that it arrived.
            status_code: element.get("status_code").and_then(Value::as_i64).unwrap_or(0),
            event: text("event").unwrap_or_default().to_owned(),
        })
    }

    /// Whether it arrived.
    #[must_use]
    pub fn arrived(&self) -> bool {
        (200..300).contains(&self.status_code)
    }
}

/// One page of GitHub's log, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Its deliveries, as far as they could be read.
    pub deliveries: Vec<Delivery>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// Who keeps the records: GitHub, or whoever stands for it.
#[async_trait]
pub trait Records: Send + Sync {
    /// What a job is now; `None` where there is no such job (any more).
    ///
    /// # Errors
    /// As the forge's calls.
    async fn job(&self, repository: &str, id: u64) -> Result<Option<JobNews>, PortError>;

    /// One page of a hook's deliveries.
    ///
    /// # Errors
    /// As the forge's calls; `Invalid` for an App's hook without the App's credentials.
    async fn deliveries(&self, hook: &Hook, cursor: Option<&str>) -> Result<Page, PortError>;

    /// Asks for one delivery once more; it comes the usual way.
    ///
    /// # Errors
    /// As [`Records::deliveries`].
    async fn redeliver(&self, hook: &Hook, delivery: u64) -> Result<(), PortError>;

    /// Who a scope is; `None` where that is not known there, or not told.
    ///
    /// # Errors
    /// As the forge's calls.
    async fn identity(&self, question: &Question) -> Result<Option<Identity>, PortError>;
}

/// The scope in which a repository's calls are told.
fn scope_of(repository: &str) -> Result<Scope, PortError> {
    repository
        .parse()
        .map_err(|error| PortError::certain(ErrorClass::Invalid, format!("look up a job: {error}")))
}

/// What a job is now; see [`Records::job`].
pub(super) async fn job(
    client: &Client,
    repository: &str,
    id: u64,
) -> Result<Option<JobNews>, PortError> {
    let scope = scope_of(repository)?;
    let what = format!("look up job {id} of {repository}");
    let path = route::job(&scope, id);
    let mut call = Call::new(what, CallKind::List, &scope, Method::GET, path);
    call.permission = Permission::Jobs;
    let answer = client.call(&call).await?;
    match answer.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
        _ => return Err(call.failed(ErrorClass::Transient, &said(&answer))),
    }
    let job: WorkflowJob = serde_json::from_slice(&answer.body).map_err(|error| {
        call.failed(ErrorClass::Transient, &format!("GitHub's answer is no job: {error}"))
    })?;
    if job.id() != Some(id) {
        return Err(call.failed(ErrorClass::Transient, "GitHub's answer is about another job"));
    }
    let news = job.news(None, Place::named(repository), client.clock.now());
    news.map(Some)
        .ok_or_else(|| call.failed(ErrorClass::Transient, "the job's status is none that is known"))
}

/// A call about a hook: its own credentials, its own permission.
async fn about(
    client: &Client,
    hook: &Hook,
    what: String,
    method: Method,
    path: String,
) -> Result<Answer, PortError> {
    let scope = hook.scope().cloned().unwrap_or(Scope::Organisation("app".to_owned()));
    let mut call = Call::new(what, CallKind::List, &scope, method, path);
    call.permission = Permission::Hooks;
    let answer = match hook.scope() {
        Some(_) => client.call(&call).await?,
        None => client.call_as_app(&call).await?,
    };
    match answer.status {
        status if status.is_success() => Ok(answer),
        StatusCode::NOT_FOUND => {
            let hint = lacking(call.permission, &scope, &answer.headers);
            Err(call.failed(ErrorClass::Auth, &format!("{}; {hint}", said(&answer))))
        }
        StatusCode::BAD_REQUEST | StatusCode::GONE | StatusCode::UNPROCESSABLE_ENTITY => {
            Err(call.failed(ErrorClass::Invalid, &said(&answer)))
        }
        _ => Err(call.failed(ErrorClass::Transient, &said(&answer))),
    }
}

async fn deliveries(client: &Client, hook: &Hook, cursor: Option<&str>) -> Result<Page, PortError> {
    let what = format!("list the deliveries of {hook}");
    let path = route::deliveries(hook, cursor);
    let answer = about(client, hook, what.clone(), Method::GET, path).await?;
    let rows: Vec<Value> = serde_json::from_slice(&answer.body).map_err(|error| {
        let what = format!("{what}: GitHub's answer is no list: {error}");
        PortError::certain(ErrorClass::Transient, what)
    })?;
    let next = answer
        .headers
        .get(header::LINK)
        .and_then(|value| value.to_str().ok())
        .and_then(|links| next_cursor(links, &client.base));
    // One that cannot be read costs itself.
    let deliveries = rows.iter().filter_map(Delivery::read).collect();
    Ok(Page { deliveries, next })
}

/// The cursor of the link with `rel="next"` (RFC 8288).
fn next_cursor(links: &str, base: &Url) -> Option<String> {
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let address = next.split(['<', '>']).nth(1)?;
    let url = base.join(address).ok()?;
    url.query_pairs().find(|(key, _)| key == "cursor").map(|(_, value)| value.into_owned())
}

#[async_trait]
impl Records for Github {
    async fn job(&self, repository: &str, id: u64) -> Result<Option<JobNews>, PortError> {
        self.client.noted(job(&self.client, repository, id).await)
    }

    async fn deliveries(&self, hook: &Hook, cursor: Option<&str>) -> Result<Page, PortError> {
        self.client.noted(deliveries(&self.client, hook, cursor).await)
    }

    async fn redeliver(&self, hook: &Hook, delivery: u64) -> Result<(), PortError> {
        let what = format!("ask for delivery {delivery} of {hook} again");
        let path = route::redelivery(hook, delivery);
        let answer = about(&self.client, hook, what, Method::POST, path).await;
        self.client.noted(answer.map(|_| ()))
    }

    async fn identity(&self, question: &Question) -> Result<Option<Identity>, PortError> {
        Github::identity(self, question).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn an_odd_field_costs_a_delivery_at_most_itself() {
        let good = serde_json::json!({"id": 1, "guid": "g", "delivered_at": "2026-11-20T10:00:00Z",
                                      "status_code": 200, "event": "workflow_job"});
        assert!(Delivery::read(&good).unwrap().arrived());
        let odd = serde_json::json!([null, -1.5, "x", [], {}, true]);
        for (field, needed) in [
            ("id", true),
            ("guid", true),
            ("delivered_at", true),
            ("status_code", false),
            ("event", false),
            ("redelivery", false),
        ] {
            for value in odd.as_array().unwrap() {
                let mut element = good.clone();
                element[field] = value.clone();
                match Delivery::read(&element) {
                    Some(read) => assert!(field != "status_code" || !read.arrived(), "{element}"),
                    None => assert!(needed, "{element}"),
                }
            }
        }
        assert_eq!(Delivery::read(&Value::Null), None);
    }

    #[test]
    fn the_next_page_is_found_in_the_link_header() {
        let base = Url::parse("https://api.github.com/").unwrap();
        let links = "<https://api.github.com/app/hook/deliveries?per_page=100&cursor=v1_99>; \
                     rel=\"next\", <https://api.github.com/app/hook/deliveries?per_page=100>; rel=\"first\"";
        assert_eq!(next_cursor(links, &base).as_deref(), Some("v1_99"));
        assert_eq!(next_cursor("<https://x/?page=1>; rel=\"prev\"", &base), None);
        assert_eq!(next_cursor("", &base), None);
    }
}
