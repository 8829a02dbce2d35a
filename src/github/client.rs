//! The one way to call GitHub: budget, token, exchange, and what an answer means.
//!
//! Every call of the forge goes through [`Client::call`], so no rate limit goes unseen, no call is
//! made while GitHub asked for silence, and every refusal is told in the same words. It sends a
//! request once; only a refused token (401) and a redirect lead to one more try, because neither
//! can have taken effect.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Method, StatusCode, header};
use runner_fleet_actors::{
    name::Scope,
    port::{Clock, Door, ErrorClass, PortError, PortStatus, Secret, Time, grounds},
};
use serde_json::Value;
use url::Url;

use super::{
    Lessons,
    auth::{AppKey, Credentials, Minted, Token},
    budget::{Budget, CallKind, pace::Ending},
    names::Names,
    reading::{Permission, cause, lacking, said, seen},
    route,
    transport::{Answer, NoAnswer, Outgoing, Transport},
    turns::Turns,
    wire,
};
use crate::{
    calls::Calls,
    redirect::{self, Redirect},
};

/// One call, as the forge wants it.
#[derive(Debug)]
pub struct Call<'a> {
    /// What is tried on what, for a person: `register runner X in octo-org`.
    pub what: String,
    /// Decides who goes first when little is left.
    pub kind: CallKind,
    /// Where it happens, for the hint about permissions.
    pub scope: &'a Scope,
    /// Its method. A lost answer to a POST or PUT is doubtful.
    pub method: Method,
    /// Path and query below the API's base.
    pub path: String,
    /// For `If-None-Match`.
    pub etag: Option<String>,
    /// JSON body.
    pub body: Option<Value>,
    /// What it is about, for the hint about permissions.
    pub permission: Permission,
    /// Whether it changes something, so that it goes only while its grounds hold.
    pub changes: bool,
}

impl<'a> Call<'a> {
    /// A call without body or condition.
    pub fn new(
        what: String,
        kind: CallKind,
        scope: &'a Scope,
        method: Method,
        path: String,
    ) -> Self {
        let permission = Permission::Runners;
        let changes = !method.is_safe();
        Self { what, kind, scope, method, path, etag: None, body: None, permission, changes }
    }

    /// The same call where all that it makes is a token.
    pub fn for_a_token(self) -> Self {
        Self { changes: false, ..self }
    }

    /// A failure of this call that certainly left nothing behind.
    pub fn failed(&self, class: ErrorClass, came_back: &str) -> PortError {
        PortError::certain(class, format!("{}: {came_back}", self.what))
    }

    /// This call, held back here until then.
    pub(super) fn held_back(&self, until: Time, why: &str) -> PortError {
        PortError::held_back(until, format!("{}: {why}", self.what))
    }

    /// A failure of this call after which a POST or PUT may have taken effect all the same.
    pub fn lost(&self, came_back: &str) -> PortError {
        let what = format!("{}: {came_back}", self.what);
        let leaves = matches!(self.method, Method::POST | Method::PUT);
        PortError::certain(ErrorClass::Transient, what).leaving_nothing(!leaves)
    }
}

/// Talks to one GitHub with one set of credentials.
pub struct Client {
    transport: Transport,
    credentials: Credentials,
    /// The address of the API, for texts.
    pub base: Url,
    /// The one way to the time of day.
    pub clock: Arc<dyn Clock>,
    /// What scopes are called now.
    pub names: Arc<Names>,
    turns: Turns,
    calls: Calls,
    moves: redirect::Said,
    /// Permissions of the installation, as the last minted token told.
    permissions: Mutex<Option<Value>>,
}

/// A poisoned lock holds plain numbers; they are as good as before the panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whose rate limit an answer tells of. A call with an App's JWT counts for the App; its numbers
/// say nothing of the installation's limit, though both are called `core`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    ForUs,
    ForTheApp,
}

/// How a call that ended so counts for the pace.
fn ending(answer: &Result<Answer, PortError>) -> Ending {
    match answer {
        Ok(answer) if !answer.status.is_server_error() => Ending::Answered,
        Err(error) if error.local => Ending::NotSent,
        Err(error) if matches!(error.class, ErrorClass::RateLimited { .. }) => Ending::Refused,
        _ => Ending::Lost,
    }
}

impl Client {
    /// Puts the parts together; makes no call. A call may wait for `patience` for its turn.
    pub fn new(
        transport: Transport,
        credentials: Credentials,
        base: Url,
        clock: Arc<dyn Clock>,
        names: Arc<Names>,
        (patience, budget): (Duration, Budget),
    ) -> Self {
        Self {
            transport,
            credentials,
            base,
            turns: Turns::new(Arc::clone(&clock), budget, patience),
            clock,
            names,
            calls: Calls::default(),
            moves: redirect::Said::default(),
            permissions: Mutex::default(),
        }
    }

    /// Makes one call.
    ///
    /// # Errors
    /// `RateLimited` (also without a call), `Auth`, and `Transient` where there is no answer or a
    /// 5xx. Every other answer, 404, 409 and 422 among them, is for the caller to read.
    pub async fn call(&self, call: &Call<'_>) -> Result<Answer, PortError> {
        let mut way = self.turns.take(call, Some(call.kind)).await?;
        let token = self.token(call, None).await?;
        way.sent();
        let answer = self.with_token(call, &token).await;
        way.ended(ending(&answer));
        self.judge(call, answer?)
    }

    /// One call with a token, and another with a new one where GitHub refuses that.
    async fn with_token(&self, call: &Call<'_>, token: &Token) -> Result<Answer, PortError> {
        let mut answer = self.follow(call, &token.secret, Counts::ForUs).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            tracing::info!(call = %call.what, "github refused the token, renewing it");
            let fresh = self.token(call, Some(token.generation)).await?;
            answer = self.follow(call, &fresh.secret, Counts::ForUs).await?;
            if answer.status == StatusCode::UNAUTHORIZED {
                return Err(call.failed(
                    ErrorClass::Auth,
                    "GitHub refuses a token that was renewed just now (401); check the credentials",
                ));
            }
        }
        Ok(answer)
    }

    /// Makes one call as the App itself, not as its installation: its webhook is its own.
    ///
    /// # Errors
    /// As [`Client::call`]; `Invalid` where the credentials are no App's.
    pub async fn call_as_app(&self, call: &Call<'_>) -> Result<Answer, PortError> {
        let key = self.credentials.app().ok_or_else(|| {
            call.failed(ErrorClass::Invalid, "only a GitHub App may ask, and a token is configured")
        })?;
        let mut way = self.turns.take(call, None).await?;
        way.sent();
        // By the wall: GitHub compares it with its own clock.
        let answer = self.as_app(call, key, self.clock.wall()).await;
        way.ended(ending(&answer));
        self.judge(call, answer?)
    }

    /// One call with a JWT. Where GitHub refuses it, the key's place is read again, and a key that was
    /// replaced is tried once.
    async fn as_app(
        &self,
        call: &Call<'_>,
        key: Arc<AppKey>,
        now: Time,
    ) -> Result<Answer, PortError> {
        let answer = self.follow(call, &key.jwt(now)?, Counts::ForTheApp).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match self.credentials.app_after(&key) {
            Ok(Some(other)) => self.follow(call, &other.jwt(now)?, Counts::ForTheApp).await,
            Ok(None) => Ok(answer),
            Err(error) => {
                Err(call.failed(error.class, &format!("{}; {}", said(&answer), error.what)))
            }
        }
    }

    /// One call, followed where it has moved. GitHub answers so for what was renamed, and asks for the
    /// same method again (GitHub docs, "Follow redirects").
    async fn follow(
        &self,
        call: &Call<'_>,
        bearer: &Secret,
        counts: Counts,
    ) -> Result<Answer, PortError> {
        let mut target = self.names.path(call.scope, &call.path);
        for _ in 0..=redirect::HOPS {
            let answer = self.send(call, &target, bearer, counts).await?;
            let location = answer.headers.get(header::LOCATION).and_then(|v| v.to_str().ok());
            let from = self.address(&target);
            match redirect::judge(&from, &call.method, answer.status, location) {
                Redirect::Stay => return Ok(answer),
                // The API's own prefix is put before whatever lacks it.
                Redirect::Follow(to) if to.path().starts_with(self.base.path()) => {
                    self.moves.once(&call.scope.to_string(), &from, &to);
                    self.names.doubt(call.scope);
                    target = to.into();
                }
                Redirect::Follow(to) => {
                    let why =
                        redirect::elsewhere(&from, &to, "which is not below the API's address");
                    return Err(call.failed(ErrorClass::Invalid, &why));
                }
                Redirect::Refuse(why) => return Err(call.failed(ErrorClass::Invalid, &why)),
            }
        }
        let why = redirect::circle(&self.address(&call.path), &self.address(&target));
        Err(call.failed(ErrorClass::Invalid, &why))
    }

    /// Where a path below the API's base is, or what is an address already.
    fn address(&self, target: &str) -> Url {
        let below = || format!("{}{target}", self.base.as_str().trim_end_matches('/'));
        let address = Url::parse(target).or_else(|_| Url::parse(&below()));
        address.unwrap_or_else(|_| self.base.clone())
    }

    fn judge(&self, call: &Call<'_>, answer: Answer) -> Result<Answer, PortError> {
        let status = answer.status;
        if matches!(status, StatusCode::FORBIDDEN | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS) {
            let why = match cause(&answer) {
                Some(cause) => cause.to_string(),
                None => lacking(call.permission, call.scope, &answer.headers),
            };
            return Err(call.failed(ErrorClass::Auth, &format!("{}; {why}", said(&answer))));
        }
        if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            return Err(call.lost(&format!("{}; it is tried again later", said(&answer))));
        }
        Ok(answer)
    }

    async fn token(&self, call: &Call<'_>, refused: Option<u64>) -> Result<Token, PortError> {
        // By the wall: when a token ends is said by GitHub's clock.
        let now = self.clock.wall();
        let token = self.credentials.token(refused, now, |key| self.mint(call, key, now)).await;
        // What failed is the way to the call, never the call itself: it left nothing behind.
        token.map_err(|error| call.failed(error.class, &error.what))
    }

    async fn mint(
        &self,
        call: &Call<'_>,
        key: Arc<AppKey>,
        now: Time,
    ) -> Result<Minted, PortError> {
        let mint = Call::new(
            format!("make a token of {key}"),
            call.kind,
            call.scope,
            Method::POST,
            route::installation_token(key.installation),
        )
        .for_a_token();
        let answer = self.as_app(&mint, key, now).await?;
        let refused =
            |why: &str| mint.failed(ErrorClass::Auth, &format!("{}; {why}", said(&answer)));
        match answer.status {
            StatusCode::CREATED | StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => {
                return Err(refused(
                    "check that id and private key belong together and that this machine's clock \
                     is right",
                ));
            }
            StatusCode::NOT_FOUND => {
                return Err(refused("check installation_id: the App is not installed there"));
            }
            StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY => {
                return Err(match cause(&answer) {
                    Some(cause) => refused(&cause.to_string()),
                    None => refused("check whether the installation is suspended"),
                });
            }
            _ => return Err(mint.lost(&said(&answer))),
        }
        let Some((minted, permissions)) = wire::installation_token(&answer.body, now) else {
            return Err(mint.lost("GitHub's answer holds no token"));
        };
        *lock(&self.permissions) = permissions;
        tracing::info!(expires = %minted.expires, "github app token renewed");
        Ok(minted)
    }

    /// One exchange, counted and seen by the budget.
    async fn send(
        &self,
        call: &Call<'_>,
        path: &str,
        bearer: &Secret,
        counts: Counts,
    ) -> Result<Answer, PortError> {
        // The last that is done before the socket: turns, places and tokens were waited for.
        if call.changes {
            grounds::check(&call.what)?;
        }
        let _under_way = self.calls.begin();
        let outgoing = Outgoing {
            method: call.method.clone(),
            path,
            bearer: bearer.expose(),
            etag: call.etag.as_deref(),
            body: call.body.as_ref(),
        };
        let answer = self.transport.send(&outgoing).await;
        let host = self.base.host_str().unwrap_or_default();
        let answer = match answer {
            Ok(answer) => answer,
            Err(NoAnswer::NotSent(why)) => {
                let why = format!("{host} was not reached: {why}; check network, proxy and CA");
                return Err(call.failed(ErrorClass::Transient, &why));
            }
            Err(NoAnswer::Lost(why)) => {
                return Err(call.lost(&format!("{host} did not answer: {why}")));
            }
        };
        tracing::debug!(call = %call.what, status = answer.status.as_u16(), "github answered");
        let mut seen = seen(&answer, self.clock.wall());
        // GitHub names times of its clock; whoever waits for them does so on the timeline.
        seen.reset = seen.reset.map(|reset| self.clock.on_timeline(reset));
        seen.retry_at = seen.retry_at.map(|at| self.clock.on_timeline(at));
        if counts == Counts::ForTheApp {
            seen.limit = None;
        }
        let limited = self.turns.take_in(&seen);
        if let Some(until) = limited {
            tracing::warn!(call = %call.what, %until, "github's rate limit is used up");
            return Err(call.failed(
                ErrorClass::RateLimited { until },
                &format!("{}; nothing is asked before {until}", said(&answer)),
            ));
        }
        Ok(answer)
    }

    /// Counts a failure and keeps its text for the status page. A refusal because a runner is busy
    /// or because the budget is low is an answer, not a failure.
    pub fn noted<T>(&self, result: Result<T, PortError>) -> Result<T, PortError> {
        if let Err(error) = &result {
            if !matches!(error.class, ErrorClass::Busy) {
                self.calls.keep_error(error.what.clone(), self.clock.now());
            }
            if !matches!(error.class, ErrorClass::Busy | ErrorClass::RateLimited { .. }) {
                self.calls.count_failure();
            }
        }
        result
    }

    /// What there is to say of this client.
    pub fn status(&self) -> PortStatus {
        let now = self.clock.now();
        let budget = self.turns.budget();
        PortStatus {
            held_until: budget.held_until(now),
            remaining: budget.remaining(now),
            ..self.calls.status()
        }
    }

    /// Whether registrations would be asked for now.
    pub fn door(&self) -> Door {
        match self.turns.budget().permits(self.clock.now()) {
            (0, Some(next)) => Door::shut(next, "its limits leave no room"),
            (permits, next) => {
                let why = "its limits leave room for no more at once".to_owned();
                Door { permits, next, why, ..Door::open() }
            }
        }
    }

    /// What was learnt of how fast this GitHub may be asked.
    pub fn lessons(&self) -> Lessons {
        let ahead = self.clock.ahead();
        let lessons = self.turns.budget().lessons(self.clock.now());
        let endpoints =
            lessons.into_iter().map(|(at, lesson)| (at, lesson.shifted(ahead))).collect();
        Lessons { of: self.base.to_string(), endpoints }
    }

    /// The permissions of the App's installation, where the credentials are an App's and a token
    /// was made already.
    pub fn installation_permissions(&self) -> Option<Value> {
        if self.credentials.is_app() { lock(&self.permissions).clone() } else { None }
    }
}
