//! One exchange with the actions service or a message queue, and what its answer means.
//!
//! Sent once and bounded in time; whoever asks decides about the next try. Octocrab is of no use here:
//! the addresses are absolute, the tokens are others, and a poll lasts a minute.

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use runner_fleet_actors::port::{ErrorClass, PortError, Secret, Time};
use serde_json::Value;
use url::Url;

use super::{
    listener::Failure,
    wire::{self, Refusal},
};
use crate::{
    github::{
        Github,
        refusal::{self, Cause},
        transport::{BODY_MAX, causes},
    },
    pause::{self, Told},
    redirect,
};

/// How long a limit keeps silence that names no time.
const LIMITED_FOR: Duration = Duration::from_secs(60);

/// A request.
pub struct Request<'a> {
    /// What is tried on what, for a person.
    pub what: String,
    /// Its method.
    pub method: Method,
    /// Where.
    pub url: Url,
    /// The kind of token.
    pub scheme: &'static str,
    /// The token.
    pub token: &'a Secret,
    /// JSON body.
    pub body: Option<Value>,
    /// The most runners that there may be, where the queue wants to know.
    pub capacity: Option<u32>,
    /// Until the answer is read to its end.
    pub within: Duration,
}

/// An answer that is none of refusal.
#[derive(Debug)]
pub struct Answer {
    /// Its status, 2xx.
    pub status: StatusCode,
    /// Its body. May hold a token or JIT config: never logged.
    pub body: Vec<u8>,
}

/// What came back.
enum Came {
    Answer(StatusCode, HeaderMap, Vec<u8>),
    /// It is elsewhere now; for a person.
    Moved(String),
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What GitHub meant by it.
    pub refusal: Refusal,
    /// Its status, where there was an answer.
    pub status: Option<StatusCode>,
    /// For the brain and for a person.
    pub error: PortError,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl From<Failed> for PortError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

impl From<PortError> for Failed {
    fn from(error: PortError) -> Self {
        Self { refusal: Refusal::Other, status: None, error }
    }
}

impl Failed {
    /// What it means to a listener.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match (self.refusal, self.status) {
            (Refusal::SessionConflict, _) => Failure::Conflict,
            (Refusal::SessionExpired | Refusal::AgentNotFound, _)
            | (_, Some(StatusCode::NOT_FOUND | StatusCode::GONE)) => Failure::Gone,
            (Refusal::TokenExpired, _) | (_, Some(StatusCode::UNAUTHORIZED)) => Failure::Refused,
            _ => Failure::Other(self.error.class),
        }
    }

    /// Whether the token was refused.
    #[must_use]
    pub fn token_refused(&self) -> bool {
        self.failure() == Failure::Refused
    }
}

impl Request<'_> {
    /// A failure of this request after which it may have taken effect, if it is of that kind.
    pub fn lost(&self, came_back: &str) -> Failed {
        let certain = self.method != Method::POST;
        let what = format!("{}: {came_back}", self.what);
        PortError::certain(ErrorClass::Transient, what).leaving_nothing(certain).into()
    }

    /// Sends it once.
    ///
    /// # Errors
    /// No answer, or any other than 2xx.
    pub async fn send(&self, github: &Github, now: Time) -> Result<Answer, Failed> {
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let sent = tokio::time::timeout(self.within, self.exchange(github)).await;
        let (status, headers, body) = match sent {
            Ok(Ok(Came::Answer(status, headers, body))) => (status, headers, body),
            Ok(Ok(Came::Moved(why))) => {
                let what = format!("{}: {why}", self.what);
                return Err(PortError::certain(ErrorClass::Invalid, what).into());
            }
            Ok(Err(error)) if error.is_connect() || error.is_builder() => {
                let why = causes(&error.without_url());
                let what = format!(
                    "{}: {host} was not reached: {why}; check network, proxy and CA",
                    self.what
                );
                return Err(PortError::certain(ErrorClass::Transient, what).into());
            }
            Ok(Err(error)) => {
                let why = causes(&error.without_url());
                return Err(self.lost(&format!("{host} did not answer: {why}")));
            }
            Err(_) => {
                let within = self.within.as_secs_f32();
                return Err(self.lost(&format!("{host} gave no whole answer within {within} s")));
            }
        };
        tracing::debug!(call = %self.what, status = status.as_u16(), "github's actions service answered");
        if status.is_success() {
            return Ok(Answer { status, body });
        }
        Err(self.refused(status, &headers, &body, now))
    }

    async fn exchange(&self, github: &Github) -> Result<Came, reqwest::Error> {
        let mut request = github
            .http
            .request(self.method.clone(), self.url.clone())
            .header(header::USER_AGENT, concat!("runner-fleet/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json; api-version=6.0-preview")
            .header(header::CONTENT_TYPE, "application/json");
        let token = HeaderValue::try_from(format!("{} {}", self.scheme, self.token.expose()));
        if let Ok(mut token) = token {
            token.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, token);
        }
        if let Some(capacity) = self.capacity {
            request = request.header("X-ScaleSetMaxCapacity", capacity);
        }
        if let Some(body) = &self.body {
            request = request.body(body.to_string());
        }
        let arrived = redirect::send(&github.http, request.build()?, &github.moves).await?;
        if let Some(why) = arrived.refused {
            return Ok(Came::Moved(why));
        }
        let mut response = arrived.response;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > BODY_MAX {
                break;
            }
        }
        Ok(Came::Answer(status, headers, body))
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], now: Time) -> Failed {
        let (refusal, words) = wire::refusal(body);
        let number = status.as_u16();
        let mut said = match &words {
            Some(words) => format!("GitHub says {number}, {words:?}"),
            None => format!("GitHub says {number}"),
        };
        // GitHub's support asks for these.
        for name in ["activityid", "x-github-request-id"] {
            if let Some(id) = headers.get(name).and_then(|value| value.to_str().ok()) {
                said = format!("{said} ({name} {id})");
            }
        }
        let told = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let told = told.and_then(|text| pause::until(Told::RetryAfter(text), now));
        let pause = |least: Duration| pause::or_after(told, now, least);
        let cause = match status {
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
                refusal::cause(headers, words.as_deref().unwrap_or_default())
            }
            _ => None,
        };
        let class = match (refusal, status) {
            (Refusal::JobStillRunning, _) => ErrorClass::Busy,
            (Refusal::AgentNotFound, _) | (_, StatusCode::NOT_FOUND | StatusCode::GONE) => {
                ErrorClass::NotFound
            }
            // A minute at least, whatever it names: who comes back at once is banned.
            _ if cause == Some(Cause::SecondaryLimit) => {
                let minute = pause::after(now, LIMITED_FOR);
                ErrorClass::RateLimited { until: pause(LIMITED_FOR).max(minute) }
            }
            _ if cause == Some(Cause::PrimaryLimit) => {
                ErrorClass::RateLimited { until: pause(LIMITED_FOR) }
            }
            (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => ErrorClass::Auth,
            (_, StatusCode::TOO_MANY_REQUESTS) => {
                ErrorClass::RateLimited { until: pause(LIMITED_FOR) }
            }
            (_, StatusCode::SERVICE_UNAVAILABLE) if told.is_some() => {
                ErrorClass::RateLimited { until: pause(LIMITED_FOR) }
            }
            (_, StatusCode::REQUEST_TIMEOUT) => ErrorClass::Transient,
            _ if status.is_server_error() => ErrorClass::Transient,
            _ => ErrorClass::Invalid,
        };
        if let Some(cause) = cause {
            said = format!("{said}; {cause}");
        }
        let certain = class != ErrorClass::Transient || self.method != Method::POST;
        let what = format!("{}: {said}", self.what);
        let error = PortError::certain(class, what).leaving_nothing(certain);
        Failed { refusal, status: Some(status), error }
    }
}

#[cfg(test)]
mod tests;
