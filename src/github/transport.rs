//! One HTTP exchange with GitHub: sent once, bounded in time, never repeated in here.
//!
//! Octocrab is the transport's face (base address, headers, API version); below it stands one
//! reqwest client, because that knows what a company network asks for: proxies from the environment
//! (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, in either case), proxy passwords, a private CA next to
//! the system's. Octocrab's own client ignores proxies, and its retries would send a registration
//! four times. Its typed calls are not used either: one odd element costs them a whole page.
//!
//! Must be built inside the runtime that outlives every call: octocrab's queue lives on it.

use std::{
    error::Error as StdError,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use octocrab::{
    AuthState, OctoBody, Octocrab, OctocrabBuilder,
    service::middleware::{base_uri::BaseUriLayer, extra_headers::ExtraHeadersLayer},
};
use runner_fleet_actors::port::{ErrorClass, PortError};
use serde_json::Value;
use tower::Service;
use url::Url;

use super::Timeouts;

/// No answer of GitHub comes near this; a peer that sends more is not GitHub.
pub const BODY_MAX: usize = 16 * 1024 * 1024;

/// One answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body. May hold a token or JIT config: never logged.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// The request certainly never reached GitHub.
    NotSent(String),
    /// It may have reached GitHub and may have taken effect.
    Lost(String),
}

/// One request.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Its method.
    pub method: Method,
    /// Path and query below the API's base.
    pub path: &'a str,
    /// The token or JWT.
    pub bearer: &'a str,
    /// For `If-None-Match`.
    pub etag: Option<&'a str>,
    /// JSON body.
    pub body: Option<&'a Value>,
}

/// The HTTP client for one GitHub and what belongs to it: proxies, authorities, no redirects, no
/// repetitions.
///
/// # Errors
/// `Invalid` where the CA file cannot be used.
pub fn http_client(
    base: &Url,
    ca: Option<&Path>,
    timeouts: &Timeouts,
) -> Result<reqwest::Client, PortError> {
    let invalid = |what: String| PortError::certain(ErrorClass::Invalid, what);
    let mut client = reqwest::Client::builder()
        .connect_timeout(timeouts.connect)
        // A redirect is followed by the caller, which keeps the method and the host.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never());
    if let Some(path) = ca {
        client = trusting(client, path)?;
    }
    client.build().map_err(|error| {
        invalid(format!("the client for {base} cannot be built: {}", causes(&error)))
    })
}

/// The way to one GitHub.
#[derive(Debug)]
pub struct Transport {
    octocrab: Octocrab,
    whole: Duration,
}

impl Transport {
    /// Prepares the client; makes no call.
    ///
    /// # Errors
    /// `Invalid` where the base is no address for requests.
    pub fn new(base: &Url, client: reqwest::Client, whole: Duration) -> Result<Self, PortError> {
        let invalid = |what: String| PortError::certain(ErrorClass::Invalid, what);
        let uri = base.as_str().parse::<http::Uri>().map_err(|error| {
            invalid(format!("github url {base} is not usable: {error}; correct it"))
        })?;
        let headers = [
            (header::USER_AGENT, concat!("runner-fleet/", env!("CARGO_PKG_VERSION"))),
            (header::ACCEPT, "application/vnd.github+json"),
        ]
        .map(|(name, value): (HeaderName, _)| (name, HeaderValue::from_static(value)));
        let built = OctocrabBuilder::new_empty()
            .with_service(Wire(client))
            .with_layer(&BaseUriLayer::new(uri))
            .with_layer(&ExtraHeadersLayer::new(Arc::new(headers.to_vec())))
            // The token is this crate's to hold: octocrab caches it per clone and mints it twice.
            .with_auth(AuthState::None)
            .build();
        match built {
            Ok(octocrab) => Ok(Self { octocrab, whole }),
            Err(never) => match never {},
        }
    }

    /// Sends one request and reads its answer to the end.
    pub async fn send(&self, request: &Outgoing<'_>) -> Result<Answer, NoAnswer> {
        tokio::time::timeout(self.whole, self.exchange(request)).await.unwrap_or_else(|_| {
            Err(NoAnswer::Lost(format!("no whole answer within {} s", self.whole.as_secs_f32())))
        })
    }

    async fn exchange(&self, request: &Outgoing<'_>) -> Result<Answer, NoAnswer> {
        let unsent = |error: &dyn StdError| NoAnswer::NotSent(causes(error));
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", request.bearer))
            .map_err(|_| NoAnswer::NotSent("the token holds a character no header may".into()))?;
        bearer.set_sensitive(true);
        let mut builder = http::Request::builder()
            .method(request.method.clone())
            .uri(request.path)
            .header(header::AUTHORIZATION, bearer);
        if let Some(etag) = request.etag {
            builder = builder.header(header::IF_NONE_MATCH, etag);
        }
        let built = self.octocrab.build_request(builder, request.body);
        let response = self
            .octocrab
            .execute(built.map_err(|error| unsent(&error))?)
            .await
            .map_err(|error| no_answer(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, BODY_MAX)
            .collect()
            .await
            .map_err(|error| NoAnswer::Lost(causes(error.as_ref())))?;
        let body = body.to_bytes().to_vec();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

/// A client that trusts the authorities of a PEM file besides the system's.
///
/// # Errors
/// `Invalid` where the file cannot be used.
pub(crate) fn trusting(
    mut client: reqwest::ClientBuilder,
    path: &Path,
) -> Result<reqwest::ClientBuilder, PortError> {
    let unusable = |why: String| {
        let what = format!(
            "CA file {} is not usable: {why}; it must hold certificates in PEM form",
            path.display()
        );
        PortError::certain(ErrorClass::Invalid, what)
    };
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let certificates =
        reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(causes(&error)))?;
    if certificates.is_empty() {
        return Err(unusable("it holds no certificate".to_owned()));
    }
    for certificate in certificates {
        client = client.add_root_certificate(certificate);
    }
    Ok(client)
}

/// Whether a failed exchange may have reached GitHub.
fn no_answer(error: &octocrab::Error) -> NoAnswer {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(failed) = this.downcast_ref::<reqwest::Error>()
            && (failed.is_connect() || failed.is_builder())
        {
            return NoAnswer::NotSent(causes(failed));
        }
        cause = this.source();
    }
    NoAnswer::Lost(causes(error))
}

/// The causes below an error as one text, without repetition. The outermost text of an HTTP error
/// only repeats the address, so it is left out where there is anything below it.
pub(crate) fn causes(error: &dyn StdError) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    if parts.is_empty() { error.to_string() } else { parts.join(": ") }
}

/// Reqwest as the service under octocrab.
#[derive(Debug, Clone)]
struct Wire(reqwest::Client);

impl Service<http::Request<OctoBody>> for Wire {
    type Response = http::Response<reqwest::Body>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<OctoBody>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let request = reqwest::Request::try_from(http::Request::from_parts(parts, body))?;
            Ok(client.execute(request).await?.into())
        })
    }
}
