//! The way into the actions service of a scope: a registration token from the REST API, and for it an
//! address and an admin token, which is good for about an hour.
//!
//! There is one connection for all scale sets of a scope, renewed by whoever needs it first; all others
//! take up what it got, also its failure. This is the only part of scale sets that spends the REST
//! API's rate limit: one call or two an hour.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use runner_fleet_actors::{
    backoff::{self, Curve},
    name::Scope,
    port::{Door, ErrorClass, PortError, Secret, Time, grounds},
    sight::moment,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::Url;

use super::{
    address,
    exchange::{Answer, Failed, Request},
    wire,
};
use crate::github::{
    Github,
    budget::CallKind,
    client::Call,
    reading::{needed, said},
    route,
};

/// A connection is renewed when it has less than this left.
const RENEW_EARLY: Duration = Duration::from_secs(120);
/// A registration token that was made just now may not be known everywhere yet.
const REGISTER_TRIES: u32 = 3;
const REGISTER: Curve = Curve { base: Duration::from_secs(1), cap: Duration::from_secs(4) };

/// The GitHub of the present configuration: a reload may replace it.
pub type Current = Arc<RwLock<Arc<Github>>>;

/// The actions service of one scope.
pub struct Admin {
    github: Current,
    scope: Scope,
    held: Mutex<Held>,
    /// Tries to get a connection, so that whoever waited for one shares its failure too.
    tries: AtomicU64,
    /// Somebody says that what failed is mended.
    mended: AtomicBool,
}

/// How soon launches ask again whether their scale set is known.
const UNKNOWN: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Held {
    connection: Option<Connection>,
    generation: u64,
    failure: Option<PortError>,
    /// Tries in a row that failed.
    failures: u32,
    /// Until when the failure is the answer, without a call.
    until: Option<Time>,
}

#[derive(Clone)]
struct Connection {
    url: Url,
    token: Secret,
    expires: Option<Time>,
    generation: u64,
}

/// One call of the actions service.
pub struct Ask<'a> {
    /// What is tried on what, for a person.
    pub what: String,
    /// Its method.
    pub method: Method,
    /// The path below the service's address.
    pub path: String,
    /// The query besides the service's own.
    pub query: &'a [(&'a str, &'a str)],
    /// JSON body.
    pub body: Option<Value>,
    /// A token of the caller's own instead of the admin's; nobody here can renew it.
    pub token: Option<&'a Secret>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Admin {
    /// Prepares the way; makes no call.
    pub fn new(github: Current, scope: Scope) -> Self {
        Self {
            github,
            scope,
            held: Mutex::default(),
            tries: AtomicU64::new(0),
            mended: AtomicBool::new(false),
        }
    }

    /// Somebody says that what failed is mended: the next call tries, also during a hold.
    pub fn end_hold(&self) {
        self.mended.store(true, Ordering::Release);
    }

    /// Whether registrations would be asked for now; `known`: their scale set is.
    pub fn door(&self, known: bool) -> Door {
        let now = self.github().client.clock.now();
        // Somebody connects just now: who comes after that is answered by it.
        let Ok(held) = self.held.try_lock() else { return Door::open() };
        match (&held.failure, held.until.filter(|until| now < *until)) {
            (Some(failure), Some(until)) if !self.mended.load(Ordering::Acquire) => {
                Door::shut(until, failure.what.clone())
            }
            _ if !known => Door::shut(now + UNKNOWN, "its scale set is not known yet"),
            _ => Door::open(),
        }
    }

    /// The scope.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The GitHub of the present configuration.
    pub fn github(&self) -> Arc<Github> {
        Arc::clone(&self.github.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a call with the admin token. One that is refused is renewed once.
    ///
    /// # Errors
    /// No answer, or any other than 2xx.
    pub async fn call(&self, ask: Ask<'_>) -> Result<Answer, Failed> {
        let github = self.github();
        let mut connection = self.connection(&github, None, &ask.what).await?;
        let mut again = true;
        loop {
            let request = Request {
                what: ask.what.clone(),
                method: ask.method.clone(),
                url: address::below(&connection.url, &ask.path, ask.query),
                scheme: "Bearer",
                token: ask.token.unwrap_or(&connection.token),
                body: ask.body.clone(),
                capacity: None,
                within: github.timeouts.whole,
            };
            if !ask.method.is_safe() {
                grounds::check(&ask.what)?;
            }
            let failed = match request.send(&github, github.client.clock.now()).await {
                Err(failed) if failed.token_refused() && ask.token.is_none() => failed,
                sent => return sent,
            };
            if !std::mem::take(&mut again) {
                let what = format!(
                    "{}; the token was renewed just now, check the credentials",
                    failed.error.what
                );
                return Err(PortError::certain(ErrorClass::Auth, what).into());
            }
            tracing::info!(call = %ask.what, "github's actions service refused the token, renewing it");
            let refused = Some(connection.generation);
            connection = self.connection(&github, refused, &ask.what).await?;
        }
    }

    async fn connection(
        &self,
        github: &Github,
        refused: Option<u64>,
        what: &str,
    ) -> Result<Connection, PortError> {
        let tries = self.tries.load(Ordering::Acquire);
        let mut held = self.held.lock().await;
        // When a token ends is said by GitHub's clock; a hold is measured here.
        let (wall, now) = (github.client.clock.wall(), github.client.clock.now());
        if let Some(connection) = &held.connection
            && refused != Some(connection.generation)
            && connection.expires.is_none_or(|end| wall + RENEW_EARLY < end)
        {
            return Ok(connection.clone());
        }
        // What failed is the way to the call, never the call itself: it left nothing behind.
        let on_the_way =
            |error: &PortError| PortError::certain(error.class, format!("{what}: {}", error.what));
        if self.tries.load(Ordering::Acquire) != tries
            && let Some(failure) = &held.failure
        {
            return Err(on_the_way(failure));
        }
        // Listener, listings and launches all come this way, each with a backoff of its own: what one of
        // them met holds for all.
        let mended = self.mended.swap(false, Ordering::AcqRel);
        if let (Some(failure), Some(until), false) = (&held.failure, held.until, mended)
            && now < until
        {
            let error = on_the_way(failure);
            let until = moment(until, now);
            let what = format!("{}; not tried before {until}", error.what);
            return Err(PortError::certain(error.class, what).here());
        }
        let got = self.connect(github, held.failures == 0).await;
        self.tries.fetch_add(1, Ordering::AcqRel);
        match got {
            Ok((url, token)) => {
                held.generation += 1;
                (held.failure, held.failures, held.until) = (None, 0, None);
                let expires = wire::expiry(&token);
                let generation = held.generation;
                let connection = Connection { url, token, expires, generation };
                held.connection = Some(connection.clone());
                tracing::info!(scope = %self.scope, ?expires, "connected to github's actions service");
                Ok(connection)
            }
            Err(error) => {
                held.failures = held.failures.saturating_add(1);
                let curve = backoff::launch_curve(error.class);
                let now = github.client.clock.now();
                held.until = Some(backoff::retry_at(error.class, held.failures, 0, curve, now));
                held.failure = Some(error.clone());
                Err(on_the_way(&error))
            }
        }
    }

    /// A connection. A refusal may be of a token that is too young; `patient`: then it is tried again.
    async fn connect(&self, github: &Github, patient: bool) -> Result<(Url, Secret), PortError> {
        let token = self.registration_token(github).await?;
        let base = &github.client.base;
        let identity = address::of_scope(base, &github.names().of(&self.scope))?;
        let mut url = base.clone();
        let path = format!("{}/actions/runner-registration", base.path().trim_end_matches('/'));
        url.set_path(&path);
        let request = Request {
            what: format!("connect to the actions service of {}", self.scope),
            method: Method::POST,
            url,
            scheme: "RemoteAuth",
            token: &token,
            body: Some(json!({"url": identity.as_str(), "runner_event": "register"})),
            capacity: None,
            within: github.timeouts.whole,
        };
        let mut attempt = 1;
        let answer = loop {
            match request.send(github, github.client.clock.now()).await {
                Ok(answer) => break answer,
                Err(failed)
                    if failed.error.class == ErrorClass::Auth
                        && patient
                        && attempt < REGISTER_TRIES =>
                {
                    tokio::time::sleep(backoff::delay(attempt, 0, REGISTER)).await;
                    attempt += 1;
                }
                // It makes nothing but a token.
                Err(failed) => {
                    return Err(PortError::certain(failed.error.class, failed.error.what));
                }
            }
        };
        let invalid = |why: &str| {
            PortError::certain(ErrorClass::Transient, format!("{}: {why}", request.what))
        };
        let (url, token) = wire::connection(&answer.body)
            .ok_or_else(|| invalid("GitHub's answer holds no address and token"))?;
        let url = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        Ok((url.ok_or_else(|| invalid("GitHub's answer holds no usable address"))?, token))
    }

    async fn registration_token(&self, github: &Github) -> Result<Secret, PortError> {
        let scope = &self.scope;
        let call = Call::new(
            format!("make a registration token of {scope}"),
            CallKind::Launch,
            scope,
            Method::POST,
            route::registration_token(scope),
        )
        .for_a_token();
        let answer = github.client.call(&call).await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK => wire::registration_token(&answer.body)
                .ok_or_else(|| call.lost("GitHub's answer holds no token")),
            StatusCode::NOT_FOUND => {
                github.names().doubt(scope);
                let hint = needed(scope, &answer.headers);
                let why = format!("{}; check that {scope} exists; {hint}", said(&answer));
                Err(call.failed(ErrorClass::Invalid, &why))
            }
            _ => Err(call.failed(ErrorClass::Invalid, &said(&answer))),
        }
    }
}
