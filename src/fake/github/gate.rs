//! The way in: faults, credentials, rate limits, ETags, and the recorder.
//!
//! In GitHub's order: who is not known learns nothing, who asks too often is refused before anything
//! is done, and an unchanged answer costs nothing.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    sync::Arc,
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::State as Shown,
    http::{HeaderMap, Request, StatusCode, header},
    response::Response,
};
use chrono::Utc;
use http_body_util::BodyExt;
use rand::Rng;
use runner_fleet_actors::port::Time;
use serde_json::{Value, json};

use super::{
    Exchange, Once, Operation, Options, Shared,
    answers::{self, Query, Reply},
    operation::Target,
    points::Points,
    scale_set,
};

const HOUR: Duration = Duration::from_secs(3600);

/// The rate limits and what was counted.
pub(crate) struct Limits {
    limit: Option<u64>,
    used: u64,
    reset: Time,
    secondary: Option<(Time, bool)>,
    pub(crate) calls: BTreeMap<&'static str, u64>,
    pub(crate) counted: u64,
    pub(crate) unchanged: u64,
    pub(crate) points: Points,
}

impl Limits {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            limit: options.rate_limit,
            used: 0,
            reset: Utc::now() + HOUR,
            secondary: None,
            calls: BTreeMap::new(),
            counted: 0,
            unchanged: 0,
            points: Points::default(),
        }
    }

    fn turn(&mut self) {
        let now = Utc::now();
        if self.reset <= now {
            self.reset = now + HOUR;
            self.used = 0;
        }
    }

    fn remaining(&self) -> u64 {
        self.limit.unwrap_or_default().saturating_sub(self.used)
    }

    pub(crate) fn exhaust(&mut self, lasts: Duration) {
        self.used = *self.limit.get_or_insert(5000);
        self.reset = Utc::now() + lasts;
    }

    pub(crate) fn set_remaining(&mut self, remaining: u64) {
        self.used = self.limit.unwrap_or_default().saturating_sub(remaining);
    }

    pub(crate) fn secondary(&mut self, lasts: Duration, tells: bool) {
        self.secondary = Some((Utc::now() + lasts, tells));
    }

    /// A refusal for a rate limit, if there is one.
    fn refuse(&mut self, operation: Operation) -> Option<Reply> {
        self.turn();
        if let Some((until, tells)) = self.secondary {
            let left = (until - Utc::now()).num_milliseconds();
            if left > 0 {
                let mut reply = Reply::error(403, "You have exceeded a secondary rate limit.");
                if tells {
                    let seconds = u64::try_from(left).unwrap_or_default().div_ceil(1000);
                    reply.headers.push(("retry-after", seconds.to_string()));
                }
                return Some(reply);
            }
            self.secondary = None;
        }
        let empty = self.limit.is_some() && self.remaining() == 0;
        let refused = empty.then(|| Reply::error(403, "API rate limit exceeded for installation."));
        refused.or_else(|| self.points.refuse(operation))
    }

    fn count(&mut self) {
        self.used += 1;
        self.counted += 1;
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let Some(limit) = self.limit else { return Vec::new() };
        // GitHub's reset is in whole seconds; rounding up keeps it true.
        let reset = self.reset.timestamp() + i64::from(self.reset.timestamp_subsec_nanos() > 0);
        vec![
            ("x-ratelimit-limit", limit.to_string()),
            ("x-ratelimit-remaining", self.remaining().to_string()),
            ("x-ratelimit-used", self.used.min(limit).to_string()),
            ("x-ratelimit-reset", reset.to_string()),
            ("x-ratelimit-resource", "core".to_owned()),
        ]
    }

    pub(crate) fn shown(&self) -> Reply {
        let Some(limit) = self.limit else {
            return Reply::error(404, "Rate limiting is not enabled.");
        };
        let rate = json!({"limit": limit, "remaining": self.remaining(),
            "used": self.used.min(limit), "reset": self.reset.timestamp()});
        Reply::new(200, json!({"resources": {"core": rate, "search": rate}, "rate": rate}))
    }
}

/// Serves one request.
pub(crate) async fn serve(
    Shown(shared): Shown<Arc<Shared>>,
    request: Request<Body>,
) -> Response<Body> {
    if scale_set::is_for(&request) {
        return scale_set::serve(&shared, request).await;
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let path = shared.world().renames.named(path.strip_prefix("/api/v3").unwrap_or(path));
    let Some(target) = Target::of(parts.method.as_str(), &path) else {
        return send(Reply::error(404, "Not Found"));
    };
    let operation_id = target.operation_id();
    *shared.limits().calls.entry(operation_id).or_default() += 1;
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return send(Reply::error(400, "Problems parsing JSON")),
    };
    let request_body: Option<Value> = serde_json::from_slice(&body).ok();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let (latency, once, hang) = {
        let mut faults = shared.faults();
        let once = faults.once.get_mut(&target.operation).and_then(|queue| queue.pop_front());
        (faults.latency, once, faults.hang)
    };
    if hang || once == Some(Once::Hang) {
        return std::future::pending().await;
    }
    tokio::time::sleep(latency).await;
    let left = match &target.scope {
        Some(scope) => {
            let asked = match query.as_str() {
                "" => path.clone(),
                query => format!("{path}?{query}"),
            };
            let method = parts.method.as_str();
            shared.world().renames.answer(scope, method, &asked, &shared.near)
        }
        None => None,
    };
    let asked = Asked { headers: &parts.headers, query: &query, body: request_body.as_ref() };
    let mut reply = pass(&shared, &target, &asked, &once, left);
    reply.headers.extend(shared.limits().headers());
    if let Some(recorder) = &shared.options.recorder {
        recorder(&Exchange {
            operation_id,
            method: parts.method.to_string(),
            path,
            query,
            request: request_body,
            status: reply.status,
            response: reply.body.clone(),
        });
    }
    match once {
        Some(Once::DoAndSay(status)) => send(Reply::error(status, "Server Error")),
        Some(Once::DoAndHangUp) => hang_up(),
        Some(Once::DoAndHang) => std::future::pending().await,
        _ => send(reply),
    }
}

/// What a request says besides its target.
struct Asked<'a> {
    headers: &'a HeaderMap,
    query: &'a str,
    body: Option<&'a Value>,
}

/// `left`: what is said of a name that was left.
fn pass(
    shared: &Shared,
    target: &Target,
    asked: &Asked<'_>,
    once: &Option<Once>,
    left: Option<Reply>,
) -> Reply {
    let Asked { headers, query, body } = *asked;
    match once {
        Some(Once::Refuse(status)) => return Reply::error(*status, "Server Error"),
        Some(Once::Say(status, text)) => {
            let body = serde_json::from_str(text).unwrap_or(Value::String(text.clone()));
            return Reply::new(*status, body);
        }
        Some(Once::Redirect(to)) => {
            let mut reply = Reply::error(307, "Temporary Redirect");
            reply.headers.push(("location", to.clone()));
            return reply;
        }
        _ => {}
    }
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION).unwrap_or_default();
    let bearer = bearer.strip_prefix("Bearer ").unwrap_or_default();
    let (outage, errors) = {
        let faults = shared.faults();
        (faults.outage, faults.errors)
    };
    if outage {
        return Reply::error(503, "Service Unavailable");
    }
    let unlucky = |share: f64| share > 0.0 && shared.faults().rng.random_bool(share.min(1.0));
    if target.is_for_app() {
        let app = match answers::app_of(shared, bearer) {
            Ok(app) => app,
            Err(refused) => return refused,
        };
        if target.operation == Operation::InstallationToken {
            return answers::installation_token(shared, app, target.id);
        }
    } else if !is_known(shared, bearer) {
        return Reply::error(401, "Bad credentials");
    }
    if let Some(refused) = shared.limits().refuse(target.operation) {
        return refused;
    }
    if shared.faults().forbidden {
        let mut reply = Reply::error(403, "Resource not accessible by personal access token");
        let wanted = "organization_self_hosted_runners=write".to_owned();
        reply.headers.push(("x-accepted-github-permissions", wanted));
        return reply;
    }
    if unlucky(errors.0) {
        shared.limits().count();
        return Reply::error(502, "Server Error");
    }
    let query: Query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let mut reply = match left {
        Some(left) => left,
        None => answers::answer(shared, target, &query, body),
    };
    if let Some(scopes) = &shared.options.oauth_scopes {
        reply.headers.push(("x-oauth-scopes", scopes.clone()));
    }
    let etag = match (&reply.body, reply.status) {
        (Some(body), 200) => {
            let mut hasher = DefaultHasher::new();
            (body.to_string(), bearer).hash(&mut hasher);
            Some(format!("W/\"{:016x}\"", hasher.finish()))
        }
        _ => None,
    };
    if let Some(etag) = etag {
        if text(header::IF_NONE_MATCH) == Some(etag.as_str()) {
            shared.limits().unchanged += 1;
            return Reply { status: 304, body: None, headers: vec![("etag", etag)] };
        }
        reply.headers.push(("etag", etag));
    }
    if target.operation != Operation::RateLimit {
        shared.limits().count();
    }
    if unlucky(errors.1) {
        return Reply::error(502, "Server Error");
    }
    reply
}

fn is_known(shared: &Shared, bearer: &str) -> bool {
    let options = &shared.options;
    let faults = shared.faults();
    if bearer.is_empty() || faults.refused_tokens.contains(bearer) {
        return false;
    }
    let anyone = options.tokens.is_empty() && options.app.is_none();
    anyone
        || options.tokens.iter().any(|token| token == bearer)
        || faults.added_tokens.contains(bearer)
        || faults.installation_tokens.get(bearer).is_some_and(|expires| *expires > Utc::now())
}

fn send(reply: Reply) -> Response<Body> {
    let mut builder = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        builder = builder.header(name, value);
    }
    let body = match reply.body {
        Some(body) => {
            builder = builder.header(header::CONTENT_TYPE, "application/json; charset=utf-8");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    builder.body(body).unwrap_or_else(|_| {
        let mut broken = Response::new(Body::empty());
        *broken.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        broken
    })
}

/// An answer that breaks off: the connection ends before its body is there.
fn hang_up() -> Response<Body> {
    let broken = io::Error::from(io::ErrorKind::ConnectionReset);
    Response::new(Body::from_stream(futures::stream::once(async move {
        Err::<Bytes, io::Error>(broken)
    })))
}
