//! Who we are: tokens and the service catalog of Keystone (Identity API v3).
//!
//! An [`AuthType`] of our own for the crate `osauth`. The crate's renew by the clock only: a token
//! that Keystone revoked (a restart of its cache, a changed password, an operator) stays in use
//! until it would have expired, and its `refresh` is a no-op meanwhile. Here
//!
//! - a token is renewed before it expires, and once more when a service answers 401 to it;
//! - renewal is single flight: however many calls find the token dead, one asks Keystone, and
//!   those that waited share its token or its failure (forty wrong log-ins in a second lock an
//!   account);
//! - the catalog's endpoint is used as it stands, with the API's version appended where it lacks
//!   one. Version discovery would follow the links that a service behind a proxy gives of itself,
//!   which are often wrong, and costs a call a service.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use chrono::TimeDelta;
use osauth::{AuthType, EndpointFilters, ErrorKind};
use reqwest::{Client, RequestBuilder};
use runner_fleet_actors::port::{Clock, ErrorClass, PortError, Secret, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, RwLock};
use url::Url;

use super::{
    answer::{Answer, Purpose},
    cloud::{CloudConfig, Credentials, Named, Owned},
};
use crate::redirect;

/// A token is renewed when less than this is left of it, or a tenth of its life where that is less.
const EARLY: TimeDelta = TimeDelta::minutes(5);

/// A live token and what came with it.
pub(super) struct Token {
    text: Secret,
    renew_at: Time,
    catalog: Vec<CatalogEntry>,
    /// Which renewal made it: a call that saw 401 names the token it used by this.
    pub(super) epoch: u64,
}

#[derive(Deserialize)]
struct CatalogEntry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    interface: String,
    /// The same as `region_id` since Identity 3.2; kept by Keystone for old clients.
    region: Option<String>,
    region_id: Option<String>,
    url: String,
}

impl Endpoint {
    fn region(&self) -> &str {
        self.region_id.as_deref().or(self.region.as_deref()).unwrap_or_default()
    }
}

#[derive(Default)]
struct Renewals {
    /// How many were tried.
    tried: u64,
    /// How the last one failed, if it did: shared with those that waited for it.
    failed: Option<PortError>,
}

/// Tokens for one cloud. Cloned handles share everything.
#[derive(Clone)]
pub(super) struct Keystone(Arc<Inner>);

struct Inner {
    cloud: CloudConfig,
    client: Client,
    clock: Arc<dyn Clock>,
    token: RwLock<Option<Arc<Token>>>,
    renewals: Mutex<Renewals>,
    moves: redirect::Said,
}

impl fmt::Debug for Keystone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keystone").field("auth_url", &self.0.cloud.auth_url.as_str()).finish()
    }
}

impl Keystone {
    pub(super) fn new(cloud: CloudConfig, client: Client, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            cloud,
            client,
            clock,
            token: RwLock::default(),
            renewals: Mutex::default(),
            moves: redirect::Said::default(),
        }))
    }

    /// A token that lives and is not the one of `dead`, the epoch that a service just refused.
    pub(super) async fn token(&self, dead: Option<u64>) -> Result<Arc<Token>, PortError> {
        let seen = self.0.renewals.try_lock().map(|r| r.tried).ok();
        if let Some(token) = self.usable(dead).await {
            return Ok(token);
        }
        let mut renewals = self.0.renewals.lock().await;
        if let Some(token) = self.usable(dead).await {
            return Ok(token);
        }
        // Somebody was refused while this call waited: the answer is the same for both.
        if seen != Some(renewals.tried)
            && let Some(failed) = &renewals.failed
        {
            return Err(failed.clone());
        }
        renewals.tried += 1;
        // Should this future be dropped half-way, nobody may take an older failure for this one.
        renewals.failed = None;
        let asked = self.ask(renewals.tried).await;
        renewals.failed = asked.as_ref().err().cloned();
        let token = Arc::new(asked?);
        tracing::debug!(cloud = %self.0.cloud.name, epoch = token.epoch, "token renewed");
        *self.0.token.write().await = Some(token.clone());
        Ok(token)
    }

    async fn usable(&self, dead: Option<u64>) -> Option<Arc<Token>> {
        let token = self.0.token.read().await.clone()?;
        (dead != Some(token.epoch) && self.0.clock.now() < token.renew_at).then_some(token)
    }

    async fn ask(&self, epoch: u64) -> Result<Token, PortError> {
        let cloud = &self.0.cloud;
        let url = tokens_url(&cloud.auth_url);
        let tried = format!("logging in to OpenStack {:?} at {url}", cloud.name);
        let lost = |e: reqwest::Error| {
            let why = super::api::reason(&e);
            PortError::certain(ErrorClass::Transient, format!("{tried}: {why}"))
        };
        let request = self.0.client.post(url).json(&login(&cloud.credentials)).build();
        let sent = redirect::send(&self.0.client, request.map_err(lost)?, &self.0.moves).await;
        let arrived = sent.map_err(lost)?;
        if let Some(moved) = arrived.refused {
            let what = format!("{tried}: {moved} (auth_url)");
            return Err(PortError::certain(ErrorClass::Invalid, what));
        }
        let received = super::api::receive(arrived.response, self.0.clock.as_ref()).await;
        let answer = received.map_err(lost)?;
        if !answer.status.is_success() {
            return Err(self.refused(&answer, &tried));
        }
        let text = answer.headers.get("x-subject-token").and_then(|v| v.to_str().ok());
        let body = serde_json::from_slice::<TokenReply>(&answer.body).ok();
        let (Some(text), Some(body)) = (text, body) else {
            return Err(PortError::certain(
                ErrorClass::Transient,
                format!("{tried}: the answer is not one of Keystone v3: check auth_url"),
            ));
        };
        let life = body.token.expires_at - answer.at;
        Ok(Token {
            text: Secret::new(text),
            renew_at: body.token.expires_at - EARLY.min(life / 10),
            catalog: body.token.catalog,
            epoch,
        })
    }

    fn refused(&self, answer: &Answer, tried: &str) -> PortError {
        let secrets = match &self.0.cloud.credentials {
            Credentials::Password { password: secret, .. }
            | Credentials::ApplicationCredentialId { secret, .. }
            | Credentials::ApplicationCredentialName { secret, .. }
            | Credentials::Token { token: secret, .. } => [secret.expose()],
        };
        let mut failure = answer.failure(tried, Purpose::Read, &secrets);
        match failure.class {
            ErrorClass::NotFound => {
                failure.class = ErrorClass::Invalid;
                failure.what.push_str(": check auth_url");
            }
            ErrorClass::Auth if matches!(self.0.cloud.credentials, Credentials::Token { .. }) => {
                failure.what.push_str(
                    "; a token cannot outlive itself: use a password or an application credential",
                );
            }
            _ => {}
        }
        failure
    }

    /// Where a service is, by the catalog of the present token.
    pub(super) fn endpoint(&self, token: &Token, service: &str) -> Result<Url, PortError> {
        let filters = self.filters();
        find(&token.catalog, service, &filters).map_err(|why| {
            PortError::certain(
                ErrorClass::Invalid,
                format!("looking for {service} in OpenStack {:?}: {why}", self.0.cloud.name),
            )
        })
    }

    pub(super) fn filters(&self) -> EndpointFilters {
        let mut filters = EndpointFilters::default().with_interfaces(self.0.cloud.interface);
        filters.region.clone_from(&self.0.cloud.region);
        filters
    }
}

#[async_trait]
impl AuthType for Keystone {
    async fn authenticate(
        &self,
        _client: &Client,
        request: RequestBuilder,
    ) -> Result<RequestBuilder, osauth::Error> {
        let token = self.token(None).await.map_err(foreign)?;
        let mut value = reqwest::header::HeaderValue::from_str(token.text.expose())
            .map_err(|e| osauth::Error::new(ErrorKind::InvalidResponse, e.to_string()))?;
        value.set_sensitive(true);
        Ok(request.header("x-auth-token", value))
    }

    async fn get_endpoint(
        &self,
        _client: &Client,
        service_type: &str,
        _filters: &EndpointFilters,
    ) -> Result<Url, osauth::Error> {
        let token = self.token(None).await.map_err(foreign)?;
        self.endpoint(&token, service_type).map_err(foreign)
    }

    /// Does nothing: tokens are made when they are needed, so that a dead cloud does not stop the
    /// start of the daemon, and renewed by their epoch.
    async fn refresh(&self, _client: &Client) -> Result<(), osauth::Error> {
        Ok(())
    }
}

fn foreign(error: PortError) -> osauth::Error {
    let kind = match error.class {
        ErrorClass::Auth => ErrorKind::AuthenticationFailed,
        ErrorClass::Invalid | ErrorClass::NotFound => ErrorKind::EndpointNotFound,
        _ => ErrorKind::InternalServerError,
    };
    osauth::Error::new(kind, error.what)
}

#[derive(Deserialize)]
struct TokenReply {
    token: TokenBody,
}

#[derive(Deserialize)]
struct TokenBody {
    expires_at: Time,
    #[serde(default)]
    catalog: Vec<CatalogEntry>,
}

fn tokens_url(auth_url: &Url) -> Url {
    let mut url = auth_url.clone();
    let base = url.path().trim_end_matches('/').to_owned();
    let base = base.strip_suffix("/auth/tokens").unwrap_or(&base);
    let base = base.strip_suffix("/v3").unwrap_or(base);
    url.set_path(&format!("{base}/v3/auth/tokens"));
    url
}

fn login(credentials: &Credentials) -> Value {
    let domain = |d: &Named| match d {
        Named::Id(id) => json!({ "id": id }),
        Named::Name(name) => json!({ "name": name }),
    };
    let owned = |o: &Owned| match &o.what {
        Named::Id(id) => json!({ "id": id }),
        Named::Name(name) => json!({ "name": name, "domain": domain(&o.domain) }),
    };
    let (identity, scope) = match credentials {
        Credentials::Password { user, password, project } => {
            let mut user = owned(user);
            user["password"] = password.expose().into();
            (json!({ "methods": ["password"], "password": { "user": user } }), Some(project))
        }
        Credentials::ApplicationCredentialId { id, secret } => {
            let given = json!({ "id": id, "secret": secret.expose() });
            let methods = ["application_credential"];
            (json!({ "methods": methods, "application_credential": given }), None)
        }
        Credentials::ApplicationCredentialName { name, user, secret } => {
            let given = json!({ "name": name, "user": owned(user), "secret": secret.expose() });
            let methods = ["application_credential"];
            (json!({ "methods": methods, "application_credential": given }), None)
        }
        Credentials::Token { token, project } => {
            let given = json!({ "id": token.expose() });
            (json!({ "methods": ["token"], "token": given }), Some(project))
        }
    };
    let mut auth = json!({ "identity": identity });
    if let Some(project) = scope {
        auth["scope"] = json!({ "project": owned(project) });
    }
    json!({ "auth": auth })
}

fn find(catalog: &[CatalogEntry], service: &str, filters: &EndpointFilters) -> Result<Url, String> {
    let of_service = || catalog.iter().filter(|e| e.kind == service).flat_map(|e| &e.endpoints);
    let found = of_service().find(|e| {
        let interface = filters.interfaces.iter().any(|i| i == &e.interface);
        interface && filters.region.as_ref().is_none_or(|wanted| wanted == e.region())
    });
    let Some(found) = found else {
        let mut there: Vec<String> =
            of_service().map(|e| format!("{} in {:?}", e.interface, e.region())).collect();
        there.sort();
        there.dedup();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        return Err(format!(
            "the catalog has no such endpoint for interface {:?} and region {:?}; it has: {there}",
            filters.interfaces, filters.region
        ));
    };
    let mut url = Url::parse(&found.url)
        .map_err(|e| format!("the catalog's endpoint {:?} is no address: {e}", found.url))?;
    let version = match service {
        "image" => "v2",
        "network" => "v2.0",
        _ => return Ok(url),
    };
    let path = url.path().trim_end_matches('/').to_owned();
    let last = path.rsplit('/').next().unwrap_or_default();
    let versioned =
        last.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if !versioned {
        url.set_path(&format!("{path}/{version}"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_in_address_takes_every_usual_spelling() {
        for text in ["http://k:5000", "http://k:5000/", "http://k:5000/v3", "http://k:5000/v3/"] {
            let url = tokens_url(&text.parse().unwrap());
            assert_eq!(url.as_str(), "http://k:5000/v3/auth/tokens", "{text}");
        }
        let url = tokens_url(&"http://k/identity".parse().unwrap());
        assert_eq!(url.as_str(), "http://k/identity/v3/auth/tokens");
    }

    #[test]
    fn an_endpoint_is_chosen_by_region_and_interface_and_gets_its_version() {
        let catalog: Vec<CatalogEntry> = serde_json::from_value(json!([
            { "type": "network", "endpoints": [
                { "interface": "public", "region": "A", "url": "http://a:9696" },
                { "interface": "public", "region_id": "B", "url": "http://b:9696/v2.0/" },
            ]},
        ]))
        .unwrap();
        let in_region = |region: &str| {
            find(&catalog, "network", &EndpointFilters::default().with_region(region))
        };
        assert_eq!(in_region("A").unwrap().as_str(), "http://a:9696/v2.0");
        assert_eq!(in_region("B").unwrap().as_str(), "http://b:9696/v2.0/");
        let missing = in_region("C").unwrap_err();
        assert!(missing.contains("public in \"A\", public in \"B\""), "{missing}");
    }

    #[test]
    fn a_user_by_name_is_sent_with_its_domain_and_one_by_id_without() {
        let by = |what: Named| {
            let user = Owned { what, domain: Named::Id("d".into()) };
            let project = Owned { what: Named::Id("p".into()), domain: Named::Id("d".into()) };
            let body = login(&Credentials::Password { user, password: Secret::new("s"), project });
            body["auth"]["identity"]["password"]["user"].clone()
        };
        let name = by(Named::Name("u".into()));
        assert_eq!(name, json!({ "name": "u", "domain": { "id": "d" }, "password": "s" }));
        assert_eq!(by(Named::Id("u".into())), json!({ "id": "u", "password": "s" }));
    }
}
