//! GitHub's actions service as scale sets meet it: connections, scale sets, sessions, messages.
//!
//! It is the same GitHub: its jobs and runners are those of the REST side. Its habits are the real one's
//! as far as others have told of them (actions/scaleset, actions-runner-controller, GARM): answers begin
//! with a byte order mark, the service's address has a path and a query of its own, there is one session
//! a scale set, tokens end in the middle of a poll, and what was not acknowledged comes again.

mod answers;
mod tokens;

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Request, StatusCode, header},
    response::Response,
};
use http_body_util::BodyExt;
use rand::Rng;
use runner_fleet_actors::name::Scope;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Once, Shared,
    answers::{Query, Reply},
    world::NoLetter,
};

pub(super) use answers::registration_token;
pub(super) use tokens::Tokens;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// How the fake's scale sets behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetOptions {
    /// Jobs are offered and must be acquired, as at a GitHub Enterprise Server.
    pub must_be_acquired: bool,
    /// How long a poll waits for a message.
    pub poll: Duration,
    /// How long a session lives that nobody polls.
    pub session_lapses: Duration,
    /// How long tokens of the actions service live.
    pub token_life: Duration,
}

impl Default for SetOptions {
    fn default() -> Self {
        Self {
            must_be_acquired: false,
            poll: Duration::from_secs(50),
            session_lapses: Duration::from_secs(120),
            token_life: Duration::from_secs(3600),
        }
    }
}

/// A call of the actions service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetCall {
    /// Trades a registration token for the service's address and an admin token.
    Connect,
    /// Looks a runner group up.
    Group,
    /// Looks a scale set up.
    Find,
    /// Makes a scale set.
    Create,
    /// Registers a runner.
    JitConfig,
    /// Lists runners.
    Agents,
    /// Removes a runner.
    RemoveAgent,
    /// Opens a session.
    OpenSession,
    /// Renews a session's token.
    RenewSession,
    /// Deletes a session.
    DeleteSession,
    /// Lists jobs that may be acquired.
    Acquirable,
    /// Acquires jobs.
    Acquire,
    /// Waits for a message.
    Poll,
    /// Acknowledges a message.
    Acknowledge,
}

/// Faults and counts of the calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) once: HashMap<SetCall, VecDeque<Once>>,
    pub(super) made: HashMap<SetCall, u64>,
}

/// A call and whom it is about.
#[derive(Debug, Clone)]
struct Target {
    call: SetCall,
    /// Of the scale set or runner.
    id: u64,
    /// Number of the session or message.
    other: String,
}

impl Target {
    fn of(method: &str, path: &str) -> Option<Self> {
        let new = |call, id, other: &str| Some(Self { call, id, other: other.to_owned() });
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let parts = match parts.as_slice() {
            ["api", "v3", rest @ ..] => rest,
            all => all,
        };
        match (method, parts) {
            ("POST", ["actions", "runner-registration"]) => new(SetCall::Connect, 0, ""),
            ("GET", ["_queue", set]) => new(SetCall::Poll, set.parse().ok()?, ""),
            ("DELETE", ["_queue", set, message]) => {
                new(SetCall::Acknowledge, set.parse().ok()?, message)
            }
            (
                _,
                [
                    "_actions",
                    "tenant",
                    "_apis",
                    "distributedtask",
                    "pools",
                    "0",
                    "agents",
                    rest @ ..,
                ],
            ) => match (method, rest) {
                ("GET", []) => new(SetCall::Agents, 0, ""),
                ("DELETE", [id]) => new(SetCall::RemoveAgent, id.parse().ok()?, ""),
                _ => None,
            },
            ("GET", ["_actions", "tenant", "_apis", "runtime", "runnergroups"]) => {
                new(SetCall::Group, 0, "")
            }
            (_, ["_actions", "tenant", "_apis", "runtime", "runnerscalesets", rest @ ..]) => {
                let (call, set, other) = match (method, rest) {
                    ("GET", []) => (SetCall::Find, "0", ""),
                    ("POST", []) => (SetCall::Create, "0", ""),
                    ("POST", [set, "generatejitconfig"]) => (SetCall::JitConfig, *set, ""),
                    ("GET", [set, "acquirablejobs"]) => (SetCall::Acquirable, *set, ""),
                    ("POST", [set, "acquirejobs"]) => (SetCall::Acquire, *set, ""),
                    ("POST", [set, "sessions"]) => (SetCall::OpenSession, *set, ""),
                    ("PATCH", [set, "sessions", one]) => (SetCall::RenewSession, *set, *one),
                    ("DELETE", [set, "sessions", one]) => (SetCall::DeleteSession, *set, *one),
                    _ => return None,
                };
                new(call, set.parse().ok()?, other)
            }
            _ => None,
        }
    }
}

/// Whether a request is one of the actions service.
pub(super) fn is_for(request: &Request<Body>) -> bool {
    Target::of(request.method().as_str(), request.uri().path()).is_some()
}

/// Serves one request of the actions service.
pub(super) async fn serve(shared: &Arc<Shared>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Some(target) = Target::of(parts.method.as_str(), parts.uri.path()) else {
        return send(Reply::error(404, "Not Found"));
    };
    let Ok(body) = body.collect().await else { return send(Reply::error(400, "Bad Request")) };
    let body: Option<Value> = serde_json::from_slice(&body.to_bytes()).ok();
    let query = parts.uri.query().unwrap_or_default();
    let query: Query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let once = {
        let mut calls = shared.set_calls();
        *calls.made.entry(target.call).or_default() += 1;
        calls.once.get_mut(&target.call).and_then(VecDeque::pop_front)
    };
    let (latency, hang, outage) = {
        let faults = shared.faults();
        (faults.latency, faults.hang, faults.outage)
    };
    if hang || once == Some(Once::Hang) {
        return std::future::pending().await;
    }
    tokio::time::sleep(latency).await;
    let reply = match &once {
        Some(Once::Refuse(status)) => Reply::error(*status, "Server Error"),
        Some(Once::Say(status, text)) => Reply::new(*status, json!(text)),
        _ if outage => Reply::error(503, "Service Unavailable"),
        _ => pass(shared, &target, &parts.headers, &query, body.as_ref()).await,
    };
    match once {
        Some(Once::DoAndSay(status)) => send(Reply::error(status, "Server Error")),
        Some(Once::DoAndHangUp) => {
            let broken = io::Error::from(io::ErrorKind::ConnectionReset);
            let body = futures::stream::once(async move { Err::<Bytes, io::Error>(broken) });
            Response::new(Body::from_stream(body))
        }
        Some(Once::DoAndHang) => std::future::pending().await,
        _ => send(reply),
    }
}

async fn pass(
    shared: &Arc<Shared>,
    target: &Target,
    headers: &HeaderMap,
    query: &Query,
    body: Option<&Value>,
) -> Reply {
    let unlucky = |share: f64| share > 0.0 && shared.faults().rng.random_bool(share.min(1.0));
    let (before, after) = shared.faults().errors;
    if unlucky(before) {
        return Reply::error(502, "Server Error");
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let credentials = text(header::AUTHORIZATION.as_str()).unwrap_or_default();
    let (scheme, token) = credentials.split_once(' ').unwrap_or_default();
    let reply = match (target.call, scheme) {
        (SetCall::Connect, "RemoteAuth") => answers::connect(shared, token, body),
        (SetCall::Poll, "Bearer") => {
            let capacity = text("X-ScaleSetMaxCapacity").and_then(|text| text.parse().ok());
            poll(shared, target.id, token, capacity.unwrap_or(0)).await
        }
        (SetCall::Acknowledge | SetCall::Acquire, "Bearer") => {
            let known = shared.tokens().session_of(token).filter(|(set, _)| *set == target.id);
            match known {
                Some((_, session)) if shared.world().has_session(target.id, &session) => {
                    answers::of_session(shared, target, body)
                }
                _ => answers::unauthorized(),
            }
        }
        (_, "Bearer") => {
            let scope = shared.tokens().admin_of(token);
            match scope {
                Some(scope) if query.get("tenant").is_some_and(|tenant| tenant == "1") => {
                    answers::of_admin(shared, target, &scope, query, body)
                }
                Some(_) => Reply::error(404, "there is no such tenant"),
                None => answers::unauthorized(),
            }
        }
        _ => answers::unauthorized(),
    };
    if unlucky(after) { Reply::error(502, "Server Error") } else { reply }
}

/// A poll that waits; the session counts as alive as long as it does.
struct Waiting<'a> {
    shared: &'a Shared,
    set: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.world().poll_ends(self.set);
    }
}

async fn poll(shared: &Arc<Shared>, set: u64, token: &str, capacity: u32) -> Reply {
    let until = Instant::now() + shared.options.scale_sets.poll;
    let Some((_, session)) = shared.tokens().session_of(token).filter(|(of, _)| *of == set) else {
        return answers::unauthorized();
    };
    if !shared.world().has_session(set, &session) {
        return answers::unauthorized();
    }
    shared.world().poll_begins(set, capacity);
    let _waiting = Waiting { shared, set };
    loop {
        let weather = shared.weather.notified();
        let Some(bell) = shared.world().set_bell(set) else {
            return Reply::error(404, "Not Found");
        };
        let rung = bell.notified();
        tokio::pin!(rung);
        // From here on no ring is missed.
        rung.as_mut().enable();
        if shared.faults().hang {
            return std::future::pending().await;
        }
        if shared.faults().outage {
            return Reply::error(503, "Service Unavailable");
        }
        // A token can end in the middle of a poll.
        if shared.tokens().session_of(token).is_none() {
            return answers::unauthorized();
        }
        match shared.world().letter(set, &session) {
            Ok(letter) => return Reply::new(200, letter),
            Err(NoLetter::Over) => return answers::unauthorized(),
            Err(NoLetter::Empty) => {}
        }
        tokio::select! {
            () = rung => {}
            () = weather => {}
            () = tokio::time::sleep_until(until) => return Reply { status: 202, body: None, headers: Vec::new() },
        }
    }
}

fn send(reply: Reply) -> Response<Body> {
    let mut builder = Response::builder().status(reply.status);
    builder = builder.header("activityid", "00000000-0000-4000-8000-000000000000");
    let body = match reply.body {
        Some(body) => {
            builder = builder.header(header::CONTENT_TYPE, "application/json; charset=utf-8");
            Body::from([BOM, body.to_string().as_bytes()].concat())
        }
        None => Body::empty(),
    };
    builder.body(body).unwrap_or_else(|_| {
        let mut broken = Response::new(Body::empty());
        *broken.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        broken
    })
}

impl super::FakeGithub {
    /// Queues a job for the scale set of that name: its `runs-on` is the name.
    pub fn queue_job_for_scale_set(
        &self,
        scope: &Scope,
        name: &str,
        runs_for: Duration,
    ) -> super::JobId {
        self.queue_job(scope, &[name.to_owned()], runs_for)
    }

    /// The scale sets that there are now.
    #[must_use]
    pub fn scale_sets(&self) -> Vec<super::ScaleSetRecord> {
        self.shared.world().set_records()
    }

    /// How often a call of the actions service was made, refused ones included.
    #[must_use]
    pub fn set_calls(&self, call: SetCall) -> u64 {
        self.shared.set_calls().made.get(&call).copied().unwrap_or_default()
    }
}

impl super::Faults {
    /// Something goes wrong once, at the next call of that kind to the actions service. Several queue
    /// up.
    pub fn once_at_set(&self, call: SetCall, fault: Once) {
        self.shared().set_calls().once.entry(call).or_default().push_back(fault);
    }

    /// Every open session of a scale set is over, as after trouble at GitHub.
    pub fn drop_sessions(&self) {
        self.shared().world().end_sessions(|_| true);
    }

    /// Every token of a message queue ends now, also in the middle of a poll.
    pub fn end_queue_tokens(&self) {
        self.shared().tokens().end_queues();
        self.shared().world().ring_sets();
    }

    /// Every admin token of the actions service ends now.
    pub fn end_admin_tokens(&self) {
        self.shared().tokens().end_admins();
    }

    /// Every scale set is deleted, as after a week without use.
    pub fn delete_scale_sets(&self) {
        let mut world = self.shared().world();
        let all: Vec<u64> = world.set_records().iter().map(|set| set.id).collect();
        all.into_iter().for_each(|set| world.remove_set(set));
    }

    /// The last message that was acknowledged comes once more.
    pub fn repeat_last_messages(&self) {
        self.shared().world().repeat_letters();
    }
}
