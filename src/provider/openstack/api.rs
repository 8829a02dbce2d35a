//! One call to one service: endpoint and token by way of a session of the crate `openstack`, whose
//! authentication is [`Keystone`]; one attempt, one bound.
//!
//! The session's own request builder is not used for sending: it follows redirections anywhere, and its
//! error forgets whether the connection was ever made. Nor is its memory of endpoints: a catalog may
//! change while the daemon runs.
//!
//! After a create, "the connection was never made" and "no answer came" are different things: nothing
//! happened, or a VM may exist. A 401 renews the token and repeats the call once: a refused call has
//! certainly done nothing.

use std::{sync::Arc, time::Duration};

use openstack::{ErrorKind, session::Session};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use runner_fleet_actors::port::{Clock, ErrorClass, PortError, PortStatus, Time, grounds};
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::{
    answer::{Answer, Purpose},
    cloud::{CloudConfig, trust},
    keystone::Keystone,
    version::{self, Root},
    wire::{self, reason},
};
use crate::{calls::Calls, redirect};

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

impl Service {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Compute, Self::Image, Self::Network];

    /// Its type in a catalog.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Image => "image",
            Self::Network => "network",
        }
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

    /// The same call for the page that begins after `marker`.
    pub(super) fn from(&self, marker: Option<&str>) -> Self {
        let mut query = self.query.clone();
        query.extend(marker.map(|marker| ("marker", marker.to_owned())));
        let (tried, path, body) = (self.tried.clone(), self.path.clone(), self.body.clone());
        Self { tried, purpose: self.purpose, service: self.service, path, query, body }
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
    /// Where Nova's v2.1 is below the catalog's endpoint, once that was asked.
    compute: Mutex<Option<(Url, Url)>>,
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
        let session = Session::new_with_client(client, keystone.clone()).await;
        let session = session.map_err(|error| invalid(error.to_string()))?;
        let (calls, moves) = (Calls::default(), redirect::Said::default());
        Ok(Self { session, keystone, clock, calls, moves, compute: Mutex::default() })
    }

    pub(super) fn keystone(&self) -> &Keystone {
        &self.keystone
    }

    /// Makes the call and returns whatever was answered, also a failure.
    ///
    /// # Errors
    /// `Auth` where there is no token to be had, `Transient` where no answer came, doubtful for a
    /// create unless the connection was never made.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Answer, PortError> {
        let sent = self.attempt(call).await;
        let failed = match &sent {
            Err(error) if error.local => None,
            Err(error) => Some(error.what.clone()),
            // Not there and refused are answers; they say nothing about the cloud's health.
            Ok(answer) if answer.status.is_server_error() || answer.status.as_u16() == 429 => {
                Some(format!("{}: HTTP {}", call.tried, answer.status.as_u16()))
            }
            Ok(_) => None,
        };
        if let Some(what) = failed {
            self.calls.count_failure();
            self.calls.keep_error(what, self.clock.now());
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
        let mut url = self.base(call.service).await?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&call.path);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let method = match call.purpose {
            Purpose::Read => Method::GET,
            Purpose::Create | Purpose::Act => Method::POST,
            Purpose::Delete => Method::DELETE,
        };
        let mut request = self.request(&call.tried, method, url).await?;
        if call.service == Service::Compute {
            request = version::ask(request);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        // The last that is done before the socket.
        if call.purpose != Purpose::Read {
            grounds::check(&call.tried)?;
        }
        let (client, clock) = (self.session.client().inner(), self.clock.as_ref());
        let sent = wire::send(client, clock, &self.moves, request);
        let sent = sent.await;
        let answer = sent.map_err(|failure| failure.of(&call.tried, call.purpose))?;
        if call.service == Service::Compute && answer.status.is_success() {
            // A create is looked at after its listing: what is made under an older version has no
            // tag and is nobody's, so that none is made.
            if call.purpose == Purpose::Read {
                version::enough(&answer.headers).map_err(|why| {
                    PortError::certain(ErrorClass::Invalid, format!("{}: {why}", call.tried))
                })?;
            }
        }
        Ok(answer)
    }

    /// The beginning of a call, with the token on it.
    async fn request(
        &self,
        tried: &str,
        method: Method,
        url: Url,
    ) -> Result<RequestBuilder, PortError> {
        let client = self.session.client();
        let request = client.inner().request(method, url);
        let dressed = client.auth_type().authenticate(client.inner(), request).await;
        dressed.map_err(|error| setup(tried, &error))
    }

    /// The address that a service's paths begin at.
    async fn base(&self, service: Service) -> Result<Url, PortError> {
        let filters = self.session.endpoint_filters();
        let (client, kind) = (self.session.client(), service.kind());
        let tried = format!("looking for {kind} in OpenStack {:?}", self.keystone.cloud());
        let endpoint = client.auth_type().get_endpoint(client.inner(), kind, filters).await;
        // What went wrong says itself what was looked for.
        let endpoint = endpoint.map_err(|error| classed(&error, error.to_string()))?;
        if service != Service::Compute {
            return Ok(endpoint);
        }
        let invalid = |why: String| PortError::certain(ErrorClass::Invalid, why);
        match version::root(&endpoint) {
            Root::Here => Ok(endpoint),
            Root::Legacy(why) => Err(invalid(format!("{tried}: {why}"))),
            Root::Below => {
                let mut known = self.compute.lock().await;
                if let Some((of, base)) = &*known
                    && *of == endpoint
                {
                    return Ok(base.clone());
                }
                let request = self.request(&tried, Method::GET, endpoint.clone()).await?;
                let (inner, clock) = (client.inner(), self.clock.as_ref());
                let asked = wire::send(inner, clock, &self.moves, request);
                let answer = asked.await.map_err(|failure| failure.of(&tried, Purpose::Read))?;
                let base = version::below(&endpoint, &answer)
                    .map_err(|refused| refused.into_error(&answer, &tried))?;
                *known = Some((endpoint, base.clone()));
                Ok(base)
            }
        }
    }

    /// The call's JSON.
    ///
    /// # Errors
    /// Those of [`Api::send`], and whatever the status means. Never `NotFound`: what is read here are
    /// collections, and where one is missing, the catalog's endpoint is wrong.
    pub(super) async fn json(&self, call: Call<'_>) -> Result<Value, PortError> {
        self.dated(call).await.map(|(json, _)| json)
    }

    /// The call's JSON, and what time it is at the other side, where its answer says so.
    ///
    /// # Errors
    /// Those of [`Api::json`].
    pub(super) async fn dated(&self, call: Call<'_>) -> Result<(Value, Option<Time>), PortError> {
        let answer = self.send(&call).await?.success(&call.tried, call.purpose);
        let answer = answer.map_err(|mut error| {
            if error.class == ErrorClass::NotFound {
                error.class = ErrorClass::Invalid;
                error.add(": check the endpoint in the cloud's catalog");
            }
            error
        })?;
        let json = serde_json::from_slice(&answer.body).map_err(|e| {
            let what = format!("{}: the answer is not JSON: {e}", call.tried);
            PortError::certain(ErrorClass::Transient, what)
                .leaving_nothing(call.purpose == Purpose::Read)
        })?;
        Ok((json, answer.date()))
    }

    pub(super) fn status(&self) -> PortStatus {
        self.calls.status()
    }
}

/// The failure of what comes before the call itself; the token was there a moment ago.
fn setup(tried: &str, error: &openstack::Error) -> PortError {
    classed(error, format!("{tried}: {error}"))
}

fn classed(error: &openstack::Error, what: String) -> PortError {
    let class = match error.kind() {
        ErrorKind::AuthenticationFailed => ErrorClass::Auth,
        ErrorKind::EndpointNotFound => ErrorClass::Invalid,
        _ => ErrorClass::Transient,
    };
    PortError::certain(class, what)
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
    for certificate in trust::authorities(cloud)? {
        builder = builder.add_root_certificate(certificate);
    }
    if let Some(identity) = trust::identity(cloud)? {
        builder = builder.identity(identity);
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
