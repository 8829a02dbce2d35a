//! What changes something: checked here as far as the words go, decided behind `Control`.

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
};
use http::StatusCode;
use runner_fleet_actors::event::{Phase, RunnerSnapshot};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    super::{
        Refusal,
        api::{FlushRequest, Flushed, Problem, Taken, TargetOverride},
    },
    Daemon,
    look::{find_pool, find_runner},
};

type Body = Result<Bytes, BytesRejection>;

/// An order that is carried out after the answer: 202.
type Accepted = (StatusCode, Json<Taken>);

fn accepted(message: String) -> Accepted {
    (StatusCode::ACCEPTED, Json(Taken { message }))
}

/// The document in a body. The content type is not asked for: `curl -d` sends a wrong one.
fn document<T: DeserializeOwned>(body: Body, example: &str) -> Result<T, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    serde_json::from_slice(&body).map_err(|error| {
        let detail = format!("the body is not what is wanted here: {error}; such as {example}");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })
}

pub(super) async fn set_target(
    State(control): State<Daemon>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<TargetOverride>, Problem> {
    let pool = find_pool(control.as_ref(), &name)?;
    let target: TargetOverride = document(body, "{\"runners\": 5}")?;
    control.set_target(&pool.name, Some(target.runners)).await?;
    Ok(Json(target))
}

pub(super) async fn clear_target(
    State(control): State<Daemon>,
    Path(name): Path<String>,
) -> Result<Json<Taken>, Problem> {
    let pool = find_pool(control.as_ref(), &name)?;
    control.set_target(&pool.name, None).await?;
    Ok(Json(Taken { message: format!("pool {name} follows its demand again") }))
}

pub(super) async fn flush(
    State(control): State<Daemon>,
    Path(name): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Flushed>), Problem> {
    let pool = find_pool(control.as_ref(), &name)?.name;
    let request = match body {
        Ok(bytes) if bytes.is_empty() => FlushRequest::default(),
        body => document(body, "{\"busy\": false}")?,
    };
    if request.busy && !request.force {
        return Err(Refusal::Conflict(
            "flushing busy runners kills their jobs; without \"busy\" the idle ones are drained \
             and the busy ones go when their jobs end; if killing the jobs is meant, say so \
             ({\"busy\": true, \"force\": true}, --busy --force)"
                .to_owned(),
        )
        .into());
    }
    let drained = control.flush(&pool).await?;
    let mut killed = 0;
    if request.busy {
        let with_job = |entry: &RunnerSnapshot| entry.pool == pool && entry.state == Phase::Busy;
        let names: Vec<_> = control
            .model()
            .runners
            .iter()
            .filter(|entry| with_job(entry.value()))
            .map(|entry| entry.key().clone())
            .collect();
        for name in names {
            match control.delete(&name, true).await {
                Ok(()) => killed += 1,
                // It ended by itself between the look and the order.
                Err(Refusal::NotFound(_)) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }
    Ok((StatusCode::ACCEPTED, Json(Flushed { pool, drained, killed })))
}

pub(super) async fn drain(
    State(control): State<Daemon>,
    Path(name): Path<String>,
) -> Result<Accepted, Problem> {
    let runner = find_runner(control.as_ref(), &name)?;
    control.drain(&runner.name).await?;
    Ok(accepted(format!("runner {name} is drained; a job that it has by now is finished first")))
}

/// How a deletion is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manner {
    #[serde(default)]
    force: bool,
}

pub(super) async fn delete(
    State(control): State<Daemon>,
    Path(name): Path<String>,
    manner: Result<Query<Manner>, QueryRejection>,
) -> Result<Accepted, Problem> {
    let Query(Manner { force }) = manner.map_err(|rejection| {
        Refusal::Invalid(format!("{}; known is force=true", rejection.body_text()))
    })?;
    let runner = find_runner(control.as_ref(), &name)?;
    if !force {
        return Err(Refusal::Conflict(format!(
            "deleting runner {name} ({}) would kill its job if it has one; drain it instead \
             (POST /v1/runners/{name}/drain, runner-fleet drain {name}), or say that it is meant \
             (?force=true, --force)",
            runner.state
        ))
        .into());
    }
    control.delete(&runner.name, true).await?;
    Ok(accepted(format!("runner {name} is deleted, whatever it does")))
}

pub(super) async fn reconcile(State(control): State<Daemon>) -> Result<Accepted, Problem> {
    control.reconcile().await?;
    Ok(accepted(
        "clouds and GitHub are listed now; holds after failures end, and one call finds out"
            .to_owned(),
    ))
}

pub(super) async fn reload(State(control): State<Daemon>) -> Result<Json<Taken>, Problem> {
    Ok(Json(Taken { message: control.reload().await? }))
}
