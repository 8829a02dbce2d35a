//! The message queue of a session: one long poll at a time, and acknowledgements.

use std::time::Duration;

use http::{Method, StatusCode};
use runner_fleet_actors::port::{ErrorClass, PortError, Secret};
use url::Url;

use super::{
    address,
    admin::Admin,
    exchange::{Failed, Request},
    wire::{self, Message, Session},
};

/// GitHub holds a poll for about 50 seconds.
const POLL: Duration = Duration::from_secs(90);

/// Where a session's messages are, and the token for them.
pub struct Queue {
    url: Url,
    /// Also good for acquiring jobs.
    pub token: Secret,
}

impl Queue {
    /// The queue of a session.
    ///
    /// # Errors
    /// `Transient` where its address is none.
    pub fn of(session: &Session) -> Result<Self, PortError> {
        let url = Url::parse(&session.queue_url).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(|| {
            let what = "open a session: GitHub's answer holds no usable address of messages";
            PortError::certain(ErrorClass::Transient, what)
        })?;
        Ok(Self { url, token: session.token.clone() })
    }

    fn request(&self, what: String, method: Method, url: Url, within: Duration) -> Request<'_> {
        let (scheme, token) = ("Bearer", &self.token);
        Request { what, method, url, scheme, token, body: None, capacity: None, within }
    }

    /// Waits for the next message; `None` where nothing has changed. May be dropped: a message that
    /// was not acknowledged comes again.
    ///
    /// # Errors
    /// No answer, or one that is no message.
    pub async fn poll(
        &self,
        admin: &Admin,
        set: &str,
        last: u64,
        capacity: u32,
    ) -> Result<Option<Message>, Failed> {
        let github = admin.github();
        let what = format!("poll the messages of scale set {set:?} of {}", admin.scope());
        let url = address::next_message(&self.url, last);
        let request =
            Request { capacity: Some(capacity), ..self.request(what, Method::GET, url, POLL) };
        let answer = request.send(&github, github.client.clock.now()).await?;
        if matches!(answer.status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(None);
        }
        // An empty 200 was seen while the service had trouble.
        let message = wire::message(&answer.body);
        message.map(Some).ok_or_else(|| request.lost("GitHub's answer is no message"))
    }

    /// Acknowledges a message: it does not come again.
    ///
    /// # Errors
    /// No answer, or any other than 2xx.
    pub async fn acknowledge(&self, admin: &Admin, message: u64) -> Result<(), Failed> {
        let github = admin.github();
        let what = format!("acknowledge message {message} of {}", admin.scope());
        let url = address::message(&self.url, message);
        let request = self.request(what, Method::DELETE, url, github.timeouts.whole);
        request.send(&github, github.client.clock.now()).await.map(|_| ())
    }
}
