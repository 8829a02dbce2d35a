//! Who we are: tokens and the service catalog of Keystone (Identity API v3).
//!
//! An [`AuthType`] of our own for the sessions of the crate `openstack`. The crate's own renew by the
//! clock only: a token that Keystone revoked stays in use until it would have expired, and its `refresh`
//! is a no-op meanwhile. Here
//!
//! - A token is renewed before it expires, by the length of its life and this machine's clock: a cloud
//!   whose clock is hours off gives tokens that look expired and work. It is renewed once more when a
//!   service answers 401 to it (Keystone revoked it: a restart of its cache, a changed password).
//! - Renewal is single flight: however many calls find the token dead, one asks Keystone, and
//!   those that waited share its token or its failure (forty wrong log-ins in a second lock an
//!   account).
//! - The catalog's endpoint is used as it stands, with the API's version appended where it lacks
//!   one. Version discovery would follow the links that a service behind a proxy gives of itself,
//!   which are often wrong, and costs a call a service; only Nova is asked, where its endpoint names no
//!   version.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::TimeDelta;
use futures::future::{Either, select};
use openstack::{EndpointFilters, ErrorKind, auth::AuthType};
use reqwest::{Client, RequestBuilder, header::HeaderValue};
use runner_fleet_actors::port::{Clock, ErrorClass, PortError, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, RwLock};
use url::Url;

use super::{
    answer::{Answer, Purpose, tidy},
    api::Service,
    catalog::{CatalogEntry, Wanted, readable, versioned},
    cloud::{CloudConfig, Credentials, Named, Owned, ServiceWords},
    wire,
};
use crate::redirect;

/// A token is renewed when less than this is left of it, or a tenth of its life where that is less.
const EARLY: TimeDelta = TimeDelta::minutes(5);
/// After so long without an answer another log-in is tried beside the one that may hang.
const HANGS: Duration = Duration::from_secs(3);
/// How long Keystone is left alone that refuses a log-in for something else than the log-in.
const PAUSE: TimeDelta = TimeDelta::seconds(30);
/// What a token is taken to live where Keystone's times make no sense: it is used until it is refused,
/// or so long.
const UNKNOWN_LIFE: TimeDelta = TimeDelta::hours(1);
/// Clocks further apart than this are told of.
const APART: TimeDelta = TimeDelta::minutes(1);

/// A live token and what came with it.
pub(super) struct Token {
    text: HeaderValue,
    renew_at: Time,
    catalog: Vec<CatalogEntry>,
    /// Which renewal made it: a call that saw 401 names the token it used by this.
    pub(super) epoch: u64,
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
    /// Seconds that the cloud's clock is ahead of this machine's, by the last log-in.
    ahead: AtomicI64,
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
            ahead: AtomicI64::new(0),
        }))
    }

    /// The cloud's name.
    pub(super) fn cloud(&self) -> &str {
        &self.0.cloud.name
    }

    /// How far the cloud's clock and this machine's are apart, in words, where that is worth a word.
    pub(super) fn clocks(&self) -> Option<String> {
        let ahead = TimeDelta::seconds(self.0.ahead.load(Ordering::Relaxed));
        (ahead.abs() > APART).then(|| {
            let (minutes, side) = (
                ahead.abs().num_minutes(),
                if ahead > TimeDelta::zero() { "ahead of" } else { "behind" },
            );
            format!(
                "the cloud's clock is {minutes} min {side} this machine's: its times of VMs are off by \
                 as much; set the wrong one right (NTP; a time zone taken for UTC?)"
            )
        })
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
        let asked = self.ask_twice(renewals.tried).await;
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

    /// Asks, and where no answer comes for a while asks anew beside it: everybody waits for this one call,
    /// and a connection that hangs hangs on when Keystone is back.
    async fn ask_twice(&self, epoch: u64) -> Result<Token, PortError> {
        let mut first = pin!(self.ask(epoch));
        if let Ok(answer) = tokio::time::timeout(HANGS, &mut first).await {
            return answer;
        }
        loop {
            // The first has all its time, should Keystone only be slow.
            let beside = pin!(self.ask(epoch));
            let either = select(&mut first, beside);
            if let Ok(answered) = tokio::time::timeout(HANGS, either).await {
                let (Either::Left((answer, _)) | Either::Right((answer, _))) = answered;
                return answer;
            }
        }
    }

    async fn ask(&self, epoch: u64) -> Result<Token, PortError> {
        let cloud = &self.0.cloud;
        let url = tokens_url(&cloud.auth_url);
        let tried = format!("logging in to OpenStack {:?} at {url}", cloud.name);
        let body = login(&cloud.credentials);
        let request = self.0.client.post(url).json(&body);
        let (clock, moves) = (self.0.clock.as_ref(), &self.0.moves);
        let sent = wire::send(&self.0.client, clock, moves, request).await;
        let answer = sent.map_err(|failure| failure.of(&tried, Purpose::Read))?;
        if !answer.status.is_success() {
            return Err(self.refused(&answer, &tried));
        }
        let text = answer.headers.get("x-subject-token").cloned();
        let body = serde_json::from_slice::<TokenReply>(&answer.body).ok();
        let (Some(mut text), Some(body)) = (text, body) else {
            return Err(PortError::certain(
                ErrorClass::Transient,
                format!("{tried}: the answer is not one of Keystone v3: check auth_url"),
            ));
        };
        text.set_sensitive(true);
        self.compare(&body.token, answer.at);
        Ok(Token {
            text,
            renew_at: renew_at(&body.token, answer.at),
            catalog: body.token.catalog,
            epoch,
        })
    }

    /// Notes how far the clocks are apart, and says so when that changes.
    fn compare(&self, token: &TokenBody, now: Time) {
        let Some(issued) = token.issued_at else { return };
        let ahead = (issued - now).num_seconds();
        let before = self.0.ahead.swap(ahead, Ordering::Relaxed);
        if (ahead - before).abs() > APART.num_seconds()
            && let Some(what) = self.clocks()
        {
            tracing::warn!(cloud = %self.0.cloud.name, ahead, "clocks are apart: {what}");
        }
    }

    fn refused(&self, answer: &Answer, tried: &str) -> PortError {
        let secrets = match &self.0.cloud.credentials {
            Credentials::Password { password: secret, .. }
            | Credentials::ApplicationCredentialId { secret, .. }
            | Credentials::ApplicationCredentialName { secret, .. }
            | Credentials::Token { token: secret, .. } => [secret.expose()],
        };
        let mut failure = answer.failure(tried, Purpose::Read, &secrets);
        match (answer.status.as_u16(), failure.class) {
            (300, _) => {
                let what = format!(
                    "{tried}: HTTP 300: Keystone is not at this address but below it: write its \
                     whole address, with /v3, into auth_url"
                );
                failure = PortError::certain(failure.class, what).leaving_nothing(failure.certain);
            }
            (_, ErrorClass::NotFound) => {
                failure.class = ErrorClass::Invalid;
                failure.add(": check auth_url");
            }
            // There is no quota of log-ins: something before Keystone limits them.
            (_, ErrorClass::Quota) => {
                failure.class = ErrorClass::RateLimited { until: answer.at + PAUSE };
            }
            (_, ErrorClass::Auth)
                if matches!(self.0.cloud.credentials, Credentials::Token { .. }) =>
            {
                failure.add(
                    "; a token cannot outlive itself: use a password or an application credential",
                );
            }
            _ => {}
        }
        failure
    }

    /// Where a service is, by the cloud's own words, else by the catalog of this token.
    pub(super) fn endpoint(&self, token: &Token, service: Service) -> Result<Url, PortError> {
        let words = &self.0.cloud.services[service as usize];
        let url = match &words.endpoint {
            Some(url) => Ok(url.clone()),
            None => self.wanted(words, service).find(&token.catalog),
        };
        url.map(|url| versioned(url, service)).map_err(|why| {
            let (service, cloud) = (service.kind(), &self.0.cloud.name);
            PortError::certain(
                ErrorClass::Invalid,
                format!("looking for {service} in OpenStack {cloud:?}: {why}"),
            )
        })
    }

    /// The regions that the catalog offers where none was chosen, if that is a choice.
    pub(super) fn unchosen(&self, token: &Token) -> Option<Vec<String>> {
        let words = &self.0.cloud.services[Service::Compute as usize];
        let wanted = self.wanted(words, Service::Compute);
        if wanted.region.is_some() || words.endpoint.is_some() {
            return None;
        }
        let regions = wanted.regions(&token.catalog);
        (regions.len() > 1).then(|| regions.iter().map(|region| tidy(region, &[])).collect())
    }

    fn wanted<'a>(&'a self, words: &'a ServiceWords, service: Service) -> Wanted<'a> {
        let cloud = &self.0.cloud;
        Wanted {
            kind: words.kind.as_deref().unwrap_or(service.kind()),
            name: words.name.as_deref(),
            region: words.region.as_deref().or(cloud.region.as_deref()),
            interfaces: words.interfaces.as_deref().unwrap_or(&cloud.interfaces),
        }
    }
}

#[async_trait]
impl AuthType for Keystone {
    async fn authenticate(
        &self,
        _client: &Client,
        request: RequestBuilder,
    ) -> Result<RequestBuilder, openstack::Error> {
        let token = self.token(None).await.map_err(foreign)?;
        Ok(request.header("x-auth-token", token.text.clone()))
    }

    async fn get_endpoint(
        &self,
        _client: &Client,
        service_type: &str,
        _filters: &EndpointFilters,
    ) -> Result<Url, openstack::Error> {
        let service = Service::ALL.into_iter().find(|service| service.kind() == service_type);
        let Some(service) = service else {
            let what = format!("nothing is asked of a service of type {service_type:?} here");
            return Err(openstack::Error::new(ErrorKind::EndpointNotFound, what));
        };
        let token = self.token(None).await.map_err(foreign)?;
        self.endpoint(&token, service).map_err(foreign)
    }

    /// Does nothing: tokens are made when they are needed, so that a dead cloud does not stop the
    /// start of the daemon, and renewed by their epoch.
    async fn refresh(&self, _client: &Client) -> Result<(), openstack::Error> {
        Ok(())
    }
}

fn foreign(error: PortError) -> openstack::Error {
    let kind = match error.class {
        ErrorClass::Auth => ErrorKind::AuthenticationFailed,
        ErrorClass::Invalid | ErrorClass::NotFound => ErrorKind::EndpointNotFound,
        _ => ErrorKind::InternalServerError,
    };
    openstack::Error::new(kind, error.what)
}

/// How long a token is used: its life less the time to renew it in. Both of its times are the cloud's,
/// so that a clock that is off here or there changes nothing.
fn usable(token: &TokenBody, now: Time) -> TimeDelta {
    let life = token.expires_at - token.issued_at.unwrap_or(now);
    let life = if life > TimeDelta::zero() { life } else { UNKNOWN_LIFE };
    life - EARLY.min(life / 10)
}

/// When a token is renewed that has come now. A life that ends beyond all times ends never.
fn renew_at(token: &TokenBody, now: Time) -> Time {
    now.checked_add_signed(usable(token, now)).unwrap_or(Time::MAX_UTC)
}

#[derive(Deserialize)]
struct TokenReply {
    token: TokenBody,
}

#[derive(Deserialize)]
struct TokenBody {
    expires_at: Time,
    #[serde(default)]
    issued_at: Option<Time>,
    #[serde(default, deserialize_with = "readable")]
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

#[cfg(test)]
mod tests {
    use runner_fleet_actors::port::Secret;

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
    fn a_token_is_used_for_its_life_whatever_the_clouds_clock_says() {
        let now: Time = "2026-11-28T12:00:00Z".parse().unwrap();
        let token = |issued: Option<&str>, expires: &str| TokenBody {
            expires_at: expires.parse().unwrap(),
            issued_at: issued.map(|t| t.parse().unwrap()),
            catalog: Vec::new(),
        };
        let hour = TimeDelta::minutes(55);
        let behind = token(Some("2026-11-28T10:00:00Z"), "2026-11-28T11:00:00Z");
        assert_eq!(usable(&behind, now), hour, "two hours behind");
        assert_eq!(usable(&token(None, "2026-11-28T13:00:00Z"), now), hour);
        assert_eq!(usable(&token(None, "2026-11-28T11:00:00Z"), now), hour, "used until refused");
        let short = token(Some("2026-11-28T12:00:00Z"), "2026-11-28T12:00:10Z");
        assert_eq!(usable(&short, now), TimeDelta::seconds(9));
        assert_eq!(renew_at(&short, now), now + TimeDelta::seconds(9));
        let eternal = token(Some("1970-01-01T00:00:00Z"), "+262142-01-01T00:00:00Z");
        assert_eq!(renew_at(&eternal, now), Time::MAX_UTC);
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
