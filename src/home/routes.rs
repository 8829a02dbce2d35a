//! The paths that guests call.
//!
//! The token is looked at before anything else of a call is read. What a guest can do better another
//! time is a 404 (its runner is not known yet), a 429 or a 5xx, and it tries again; every other refusal
//! is for good. A word of a runner that is gone for good is a 404 as well, because a listing may be late:
//! it reaches nobody, and leaves nothing behind. While it is not known yet who lives, it is a 503.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, RequestPartsExt, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Extension, FromRequestParts, Path, Query, Request, State,
        rejection::{BytesRejection, QueryRejection},
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderValue, Method, StatusCode, header, request::Parts};
use runner_fleet_actors::name::RunnerName;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{Deaf, Ears, GuestKey, Hub, Standing, key::looks_like_one, wire};
use crate::http::{
    api::Problem,
    server::{MayWait, later},
};

/// Largest body of a call: a report with its log excerpt, four times.
pub const BODY_MAX: usize = 16 * 1024;
/// How long a poll may wait: below the minute after which proxies and NAT tables forget connections.
const WAIT_MAX: u64 = 50;

/// What the guests' calls need.
pub struct Home {
    /// Makes the tokens.
    pub key: GuestKey,
    /// Holds the orders.
    pub hub: Arc<Hub>,
    /// Is told what guests say.
    pub ears: Arc<dyn Ears>,
    /// When it comes, polls end at once and nobody is listened to any more.
    pub stop: CancellationToken,
}

type Shared = Arc<Home>;

/// Everything that guests may call, and nothing else. A call may take `patience`, its body's arrival
/// included; a poll has its own time.
pub fn router(home: Arc<Home>, patience: Duration) -> Router {
    let calls = Router::new()
        .route("/v1/guest/{runner}/reports", post(report))
        .route("/v1/guest/{runner}/answers", post(answer))
        .layer(from_fn_with_state(patience, in_time));
    Router::new()
        .route("/v1/guest/{runner}/orders", get(orders))
        .merge(calls)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(home)
        .layer(DefaultBodyLimit::max(BODY_MAX))
}

/// The guest that calls: its token is its runner's.
struct Caller {
    runner: RunnerName,
    token: String,
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, home: &Shared) -> Result<Self, Problem> {
        let given = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .filter(|token| looks_like_one(token))
            .map(str::to_owned)
            .ok_or_else(|| {
                let detail = "a guest's call needs \"Authorization: Bearer TOKEN\" with the token \
                              from its user data";
                Problem::new(StatusCode::UNAUTHORIZED, detail)
            })?;
        let name: Path<String> = parts.extract().await.map_err(|_| not_yours())?;
        let runner: RunnerName = name.parse().map_err(|_| not_yours())?;
        if !home.key.admits(&runner, &token) {
            return Err(not_yours());
        }
        match home.ears.standing(&runner) {
            Standing::Alive => {}
            Standing::Gone => return Err(Deaf::Unknown.into()),
            Standing::Unlisted => return Err(Deaf::Unlisted.into()),
        }
        if !home.hub.admits(&runner) {
            let detail = "too many calls of this guest within a minute; try again later";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail));
        }
        Ok(Self { runner, token })
    }
}

fn not_yours() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "this token is not that runner's; a guest speaks for itself only",
    )
}

impl From<Deaf> for Problem {
    fn from(deaf: Deaf) -> Self {
        let status = match deaf {
            Deaf::Unknown => StatusCode::NOT_FOUND,
            Deaf::Away | Deaf::Unlisted => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, deaf.to_string())
    }
}

fn document<T>(
    body: Result<Bytes, BytesRejection>,
    read: impl FnOnce(&[u8]) -> Result<T, serde_json::Error>,
) -> Result<T, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    read(&body).map_err(|error| {
        let status = match error.classify() {
            serde_json::error::Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, format!("the body is not what is wanted here: {error}"))
    })
}

async fn report(
    State(home): State<Shared>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let mut told = document(body, |body| wire::Told::read(body, &caller.token))?;
    let log = told.log.take();
    home.ears.tell(&caller.runner, told).await?;
    // A replay of the last report brings the same lines.
    if let Some(log) = log
        && home.hub.first_log(&caller.runner)
    {
        home.ears.log(&caller.runner, log);
    }
    Ok(StatusCode::NO_CONTENT)
}

/// What a poll waits for.
#[derive(Debug, Deserialize)]
struct Poll {
    /// The number of the newest order that the guest knows.
    #[serde(default)]
    after: u64,
    /// Seconds.
    #[serde(default)]
    wait: u64,
}

async fn orders(
    State(home): State<Shared>,
    caller: Caller,
    may_wait: Option<Extension<MayWait>>,
    poll: Result<Query<Poll>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Poll { after, wait }) = poll.map_err(|rejection| {
        let detail = format!("{}; known are after and wait, whole numbers", rejection.body_text());
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })?;
    let wait = Duration::from_secs(wait.min(WAIT_MAX));
    let runner = caller.runner;
    let order = async move {
        tokio::select! {
            order = home.hub.next(&runner, after, wait) => match order {
                Some(order) => Json(order).into_response(),
                None => StatusCode::NO_CONTENT.into_response(),
            },
            () = home.stop.cancelled() => Problem::from(Deaf::Away).into_response(),
        }
    };
    Ok(later(may_wait, order).await)
}

async fn answer(
    State(home): State<Shared>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let wire::Answer { number, answer } = document(body, |body| serde_json::from_slice(body))?;
    home.hub
        .answer(&caller.runner, number, answer.into())
        .map_err(|withdrawn| Problem::new(StatusCode::CONFLICT, withdrawn.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Answers a call that takes too long.
async fn in_time(State(patience): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(patience, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("not done within {} s; try again", patience.as_secs());
            let mut late = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
            // Half of a body may still be on its way.
            late.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            late
        }
    }
}

async fn no_such_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "here guests report home; there is nothing else")
}

async fn no_such_method(method: Method) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible here"))
}
