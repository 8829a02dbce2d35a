//! One HTTP call and its answer.
//!
//! Every call to a cloud carries a token, a password or a VM's user data: where it may follow a
//! redirection is said in [`redirect`].

use std::error::Error as _;

use reqwest::{Client, RequestBuilder};
use runner_fleet_actors::port::{Clock, ErrorClass, PortError};

use super::answer::{Answer, Purpose, tidy};
use crate::redirect;

/// Longest answer that is read: a thousand VMs with all their details take about 3 MB.
const BODY_MAX: usize = 64 << 20;
/// Why there is no answer.
pub(super) enum Failure {
    /// The call did not get through, or its answer did not.
    Lost(reqwest::Error),
    /// The answer says that what was asked for is elsewhere, where the call may not go: the words.
    Moved(String),
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Lost(error)
    }
}

impl Failure {
    /// As what a port answers.
    pub(super) fn of(self, tried: &str, purpose: Purpose) -> PortError {
        match self {
            Self::Lost(error) => {
                let what = format!("{tried}: {}", reason(&error));
                let certain = purpose == Purpose::Read || error.is_connect() || error.is_builder();
                PortError::certain(ErrorClass::Transient, what).leaving_nothing(certain)
            }
            Self::Moved(why) => PortError::certain(
                ErrorClass::Invalid,
                format!(
                    "{tried}: {why} (auth_url in clouds.yaml; compute_endpoint_override and the like \
                     where the catalog names it)"
                ),
            ),
        }
    }
}

/// Sends one call.
pub(super) async fn send(
    client: &Client,
    clock: &dyn Clock,
    moves: &redirect::Said,
    request: RequestBuilder,
) -> Result<Answer, Failure> {
    let request = request.build()?;
    let arrived = redirect::send(client, request, moves).await?;
    match arrived.refused {
        Some(why) => Err(Failure::Moved(why)),
        None => Ok(receive(arrived.response, clock).await?),
    }
}

/// Reads an answer to its end, up to a bound.
async fn receive(
    mut response: reqwest::Response,
    clock: &dyn Clock,
) -> Result<Answer, reqwest::Error> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > BODY_MAX {
            body.truncate(BODY_MAX);
            break;
        }
    }
    Ok(Answer { status, headers, body, at: clock.now() })
}

/// The innermost reason of a transport failure, which is the one that a person can act on
/// ("connection refused", "certificate expired"), without the address and its query.
pub(super) fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause = error.source();
    let mut text = "the call failed".to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    let kind = if error.is_connect() { "cannot connect" } else { "connection lost" };
    let untrusted = ["UnknownIssuer", "unknown issuer", "SelfSigned"];
    let advice = if untrusted.iter().any(|word| text.contains(word)) {
        ": name the authority that signed the certificate with `cacert` in clouds.yaml"
    } else {
        ""
    };
    format!("{kind}: {}{advice}", tidy(&text, &[]))
}
