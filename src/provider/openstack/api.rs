//! One call to one service: endpoint and token from the `osauth` session, one attempt, one bound.
//!
//! The session's own request builder is not used for sending, because its error forgets whether the
//! connection was ever made; after a create, that is the difference between "nothing happened" and
//! "a VM may exist". A 401 renews the token and repeats the call once: a refused call has certainly
//! done nothing.

use std::{error::Error as _, sync::Arc, time::Duration};

use osauth::{
    ApiVersion, Session,
    services::{ServiceType, VersionedService},
};
use reqwest::{
    Client, Method, StatusCode,
    header::{HeaderName, HeaderValue},
};
use runner_fleet_actors::port::{Clock, ErrorClass, PortError, PortStatus};
use serde_json::Value;

use super::{
    answer::{Answer, Purpose, tidy},
    cloud::CloudConfig,
    keystone::Keystone,
};
use crate::{calls::Calls, redirect};

/// The Compute microversion that every call asks for: 2.52, the first that takes tags when a VM is
/// made (Nova's "REST API Version History"), and so the one that most clouds can serve (Pike, 2017).
/// Nothing newer is needed, and newer ones only forbid: 2.92 has no key pair generation, 2.96 is
/// known to break listings of some clients.
const MICROVERSION: ApiVersion = ApiVersion(2, 52);

/// Longest answer that is read: a thousand VMs with all their details take about 3 MB.
const BODY_MAX: usize = 64 << 20;

/// How long calls may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection to be made.
    pub connect: Duration,
    /// For one HTTP call as a whole.
    pub call: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), call: Duration::from_secs(60) }
    }
}

/// The three services that are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Compute,
    Image,
    Network,
}

impl ServiceType for Service {
    fn catalog_type(&self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Image => "image",
            Self::Network => "network",
        }
    }

    fn version_discovery_supported(&self) -> bool {
        false
    }
}

impl VersionedService for Service {
    fn get_version_header(&self, version: ApiVersion) -> (HeaderName, HeaderValue) {
        let text = format!("{} {version}", self.catalog_type());
        let value =
            HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("compute 2.52"));
        (HeaderName::from_static("openstack-api-version"), value)
    }
}

/// What is asked. No `Debug`: the body of a create holds a secret.
pub(super) struct Call<'a> {
    /// What is tried, on what: the beginning of the message should it fail.
    pub(super) tried: String,
    pub(super) purpose: Purpose,
    pub(super) service: Service,
    pub(super) path: Vec<&'a str>,
    pub(super) query: Vec<(&'a str, String)>,
    pub(super) body: Option<Value>,
}

impl<'a> Call<'a> {
    pub(super) fn read(
        tried: impl Into<String>,
        service: Service,
        path: impl Into<Vec<&'a str>>,
    ) -> Self {
        let (tried, path) = (tried.into(), path.into());
        Self { tried, purpose: Purpose::Read, service, path, query: Vec::new(), body: None }
    }

    pub(super) fn query(mut self, key: &'a str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }
}

/// The way to one cloud.
pub(super) struct Api {
    session: Session,
    keystone: Keystone,
    clock: Arc<dyn Clock>,
    calls: Calls,
    moves: redirect::Said,
}

impl Api {
    /// Makes no call: the first one is made when something is asked.
    pub(super) async fn new(
        cloud: &CloudConfig,
        timeouts: Timeouts,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PortError> {
        let invalid = |what: String| PortError::certain(ErrorClass::Invalid, what);
        let client = client(cloud, timeouts).map_err(invalid)?;
        let keystone = Keystone::new(cloud.clone(), client.clone(), clock.clone());
        let session = Session::new_with_client(client, keystone.clone())
            .await
            .map_err(|e| invalid(e.to_string()))?
            .with_endpoint_filters(keystone.filters());
        let (calls, moves) = (Calls::default(), redirect::Said::default());
        Ok(Self { session, keystone, clock, calls, moves })
    }

    /// Makes the call and returns whatever was answered, also a failure.
    ///
    /// # Errors
    /// `Auth` where there is no token to be had, `Transient` where no answer came, doubtful for a
    /// create unless the connection was never made.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Answer, PortError> {
        let sent = self.attempt(call).await;
        let failed = match &sent {
            Err(error) => Some(error.what.clone()),
            // Not there and refused are answers; they say nothing about the cloud's health.
            Ok(answer) if answer.status.is_server_error() || answer.status.as_u16() == 429 => {
                Some(format!("{}: HTTP {}", call.tried, answer.status.as_u16()))
            }
            Ok(_) => None,
        };
        if let Some(what) = failed {
            self.calls.count_failure();
            self.calls.keep_error(what);
        }
        sent
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Answer, PortError> {
        let token = self.keystone.token(None).await?;
        let answer = self.once(call).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        self.keystone.token(Some(token.epoch)).await?;
        self.once(call).await
    }

    async fn once(&self, call: &Call<'_>) -> Result<Answer, PortError> {
        let _under_way = self.calls.begin();
        let url = self
            .session
            .get_endpoint(call.service, &call.path)
            .await
            .map_err(|e| self.setup(call, &e))?;
        let method = match call.purpose {
            Purpose::Read => Method::GET,
            Purpose::Create => Method::POST,
            Purpose::Delete => Method::DELETE,
        };
        let client = self.session.client();
        let mut request = client.inner().request(method, url).query(&call.query);
        if call.service == Service::Compute {
            let (name, value) = call.service.get_version_header(MICROVERSION);
            request = request.header(name, value);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let request = client
            .auth_type()
            .authenticate(client.inner(), request)
            .await
            .map_err(|e| self.setup(call, &e))?;
        let lost = |e: reqwest::Error| {
            let what = format!("{}: {}", call.tried, reason(&e));
            let certain = call.purpose == Purpose::Read || e.is_connect() || e.is_builder();
            PortError { class: ErrorClass::Transient, what, certain }
        };
        let request = request.build().map_err(lost)?;
        let arrived = redirect::send(client.inner(), request, &self.moves).await.map_err(lost)?;
        if let Some(moved) = arrived.refused {
            let what = format!("{}: {moved} in the cloud's catalog", call.tried);
            return Err(PortError::certain(ErrorClass::Invalid, what));
        }
        receive(arrived.response, self.clock.as_ref()).await.map_err(lost)
    }

    /// The failure of what comes before the call itself; the token was there a moment ago.
    fn setup(&self, call: &Call<'_>, error: &osauth::Error) -> PortError {
        let class = match error.kind() {
            osauth::ErrorKind::AuthenticationFailed => ErrorClass::Auth,
            osauth::ErrorKind::EndpointNotFound => ErrorClass::Invalid,
            _ => ErrorClass::Transient,
        };
        PortError::certain(class, format!("{}: {error}", call.tried))
    }

    /// The call's JSON.
    ///
    /// # Errors
    /// Those of [`Api::send`], and whatever the status means. Never `NotFound`: what is read here are
    /// collections, and where one is missing, the catalog's endpoint is wrong.
    pub(super) async fn json(&self, call: Call<'_>) -> Result<Value, PortError> {
        let answer = self.send(&call).await?.success(&call.tried, call.purpose);
        let answer = answer.map_err(|mut error| {
            if error.class == ErrorClass::NotFound {
                error.class = ErrorClass::Invalid;
                error.what.push_str(": check the endpoint in the cloud's catalog");
            }
            error
        })?;
        serde_json::from_slice(&answer.body).map_err(|e| {
            let what = format!("{}: the answer is not JSON: {e}", call.tried);
            PortError { class: ErrorClass::Transient, what, certain: call.purpose == Purpose::Read }
        })
    }

    pub(super) fn status(&self) -> PortStatus {
        self.calls.status()
    }
}

fn client(cloud: &CloudConfig, timeouts: Timeouts) -> Result<Client, String> {
    let mut builder = Client::builder()
        .connect_timeout(timeouts.connect)
        .timeout(timeouts.call)
        // Followed by `redirect`, which keeps the method and the place.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .user_agent(concat!("runner-fleet/", env!("CARGO_PKG_VERSION")));
    if on_loopback(&cloud.auth_url) {
        // A proxy for the outside cannot reach what runs on this machine (the demo, a test cloud).
        builder = builder.no_proxy();
    }
    if let Some(path) = &cloud.cacert {
        let fault =
            |why: String| format!("cacert of cloud {:?}: {}: {why}", cloud.name, path.display());
        let pem = std::fs::read(path).map_err(|e| fault(e.to_string()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|_| fault("is not a file of PEM certificates".to_owned()))?;
        if certificates.is_empty() {
            return Err(fault("holds no certificate".to_owned()));
        }
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|e| format!("HTTP client of cloud {:?}: {}", cloud.name, reason(&e)))
}

fn on_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
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
    format!("{kind}: {}", tidy(&text, &[]))
}

/// Reads an answer to its end, up to a bound.
pub(super) async fn receive(
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
