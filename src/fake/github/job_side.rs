//! The jobs' side over HTTP: what a runner application in a real guest calls.
//!
//! It is not GitHub's own protocol (that one is not described anywhere, and changes), but it has the
//! moments of it that cost jobs: a job is assigned before it is acquired and told again until then,
//! a registration can go in mid-job, a listener can be frozen over all of it.
//!
//! | call | answers |
//! | --- | --- |
//! | `POST /_jobs/connect {"jit_config"}` | 200 `{"session"}`, 400 no JIT config, 404 its registration is gone, 409 connected already |
//! | `GET /_jobs/message?session=&wait=` | 200 `{"job","runs_for","repository","workflow","run_id","event"}`, 204 none within `wait` seconds, 410 the registration is gone |
//! | `POST /_jobs/acquire {"session","job"}` | 200, 409 not yours any more |
//! | `POST /_jobs/renew {"session","job"}` | 200, 410 cancelled |
//! | `POST /_jobs/complete {"session","job","result"}` | 204, also where the job was lost before |
//! | `POST /_jobs/disconnect {"session"}` | 204 |
//!
//! Any call can be answered with 503 in an outage, or not at all; it counts as heard all the same.

use std::{str::FromStr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Json, Response},
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Shared,
    world::{Caller, JobId, JobRecord},
};

/// The longest poll, as GitHub's.
const WAIT_MAX: Duration = Duration::from_secs(50);

type Known = State<Arc<Shared>>;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_jobs/connect", post(connect))
        .route("/_jobs/message", get(message))
        .route("/_jobs/acquire", post(acquire))
        .route("/_jobs/renew", post(renew))
        .route("/_jobs/complete", post(complete))
        .route("/_jobs/disconnect", post(disconnect))
}

/// `REGISTRATION-SESSION`.
impl FromStr for Caller {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let numbers = || {
            let (registration, session) = text.split_once('-')?;
            let (registration, session) = (registration.parse().ok()?, session.parse().ok()?);
            Some(Self { registration, session })
        };
        numbers().ok_or(Refusal(StatusCode::BAD_REQUEST, "that is no session"))
    }
}

/// An answer that is not what was asked for.
pub(crate) struct Refusal(StatusCode, &'static str);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"message": self.1}))).into_response()
    }
}

/// A body is JSON whatever its headers say: a shell script's `curl -d` sends another type.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    let read = serde_json::from_slice(body);
    read.map_err(|_| Refusal(StatusCode::BAD_REQUEST, "the body is not what this call takes"))
}

/// One call of a session: it is heard from its begin to its end, also when it breaks off.
struct Heard {
    shared: Arc<Shared>,
    caller: Caller,
}

impl Heard {
    fn new(shared: &Arc<Shared>, session: &str) -> Result<Self, Refusal> {
        let caller = session.parse()?;
        shared.world().call_begins(caller);
        Ok(Self { shared: Arc::clone(shared), caller })
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.shared.world().call_ends(self.caller);
    }
}

/// Lets a call through that GitHub answers at all.
async fn reach(shared: &Shared) -> Result<(), Refusal> {
    let (latency, outage, hang) = {
        let faults = shared.faults();
        (faults.latency, faults.outage, faults.hang)
    };
    if hang {
        return std::future::pending().await;
    }
    tokio::time::sleep(latency).await;
    if outage {
        Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"))
    } else {
        Ok(())
    }
}

async fn connect(State(shared): Known, body: Bytes) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        jit_config: String,
    }
    let Body { jit_config } = read(&body)?;
    reach(&shared).await?;
    let mut world = shared.world();
    let found = world.of_config(&jit_config);
    let found = found.map_err(|()| Refusal(StatusCode::BAD_REQUEST, "that is no JIT config"))?;
    let gone = Refusal(StatusCode::NOT_FOUND, "the registration of this JIT config is gone");
    let connected = Refusal(StatusCode::CONFLICT, "a runner of it is connected already");
    let (caller, _) = world.connect(found.ok_or(gone)?, false).ok_or(connected)?;
    let session = format!("{}-{}", caller.registration, caller.session);
    Ok(Json(json!({ "session": session })).into_response())
}

#[derive(Deserialize)]
struct Ask {
    session: String,
    #[serde(default)]
    wait: f64,
}

async fn message(State(shared): Known, Query(ask): Query<Ask>) -> Result<Response, Refusal> {
    let heard = Heard::new(&shared, &ask.session)?;
    let wait = Duration::try_from_secs_f64(ask.wait).unwrap_or(WAIT_MAX).min(WAIT_MAX);
    let until = Instant::now() + wait;
    loop {
        let weather = shared.weather.notified();
        reach(&shared).await?;
        let gone = || Refusal(StatusCode::GONE, "the registration is gone");
        let bell = shared.world().listens(heard.caller).ok_or_else(gone)?;
        let rung = bell.notified();
        let job = shared.world().job_of(heard.caller).ok_or_else(gone)?;
        if let Some(job) = job.filter(|job| job.acquired_at.is_none()) {
            return Ok(Json(told(&job)).into_response());
        }
        tokio::select! {
            () = rung => {}
            () = weather => {}
            () = tokio::time::sleep_until(until) => {
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
        }
    }
}

fn told(job: &JobRecord) -> serde_json::Value {
    json!({
        "job": job.id.0,
        "runs_for": job.runs_for.as_secs_f64(),
        "repository": job.repository,
        "workflow": job.workflow,
        "run_id": job.run_id,
        "event": job.event,
    })
}

#[derive(Deserialize)]
struct About {
    session: String,
    job: u64,
    #[serde(default)]
    result: Option<String>,
}

async fn acquire(State(shared): Known, body: Bytes) -> Result<Response, Refusal> {
    let about: About = read(&body)?;
    let heard = Heard::new(&shared, &about.session)?;
    reach(&shared).await?;
    if shared.world().acquire(heard.caller, JobId(about.job)) {
        return Ok(Json(json!({})).into_response());
    }
    Err(Refusal(StatusCode::CONFLICT, "the job is not yours any more"))
}

async fn renew(State(shared): Known, body: Bytes) -> Result<Response, Refusal> {
    let about: About = read(&body)?;
    let heard = Heard::new(&shared, &about.session)?;
    reach(&shared).await?;
    if shared.world().renew(heard.caller, JobId(about.job)) {
        return Ok(Json(json!({})).into_response());
    }
    Err(Refusal(StatusCode::GONE, "the job was cancelled"))
}

async fn complete(State(shared): Known, body: Bytes) -> Result<Response, Refusal> {
    let about: About = read(&body)?;
    let Some(result) = about.result.filter(|result| !result.is_empty()) else {
        return Err(Refusal(StatusCode::BAD_REQUEST, "the result is missing"));
    };
    let heard = Heard::new(&shared, &about.session)?;
    reach(&shared).await?;
    shared.world().complete(heard.caller, JobId(about.job), &result);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn disconnect(State(shared): Known, body: Bytes) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        session: String,
    }
    let Body { session } = read(&body)?;
    let heard = Heard::new(&shared, &session)?;
    reach(&shared).await?;
    shared.world().disconnect(heard.caller);
    Ok(StatusCode::NO_CONTENT.into_response())
}
