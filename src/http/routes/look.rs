//! What only looks: answered from the read model alone.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use runner_fleet_actors::{
    event::{Phase, PoolSnapshot, ReadModel, RunnerSnapshot},
    name::{PoolName, RunnerName},
};
use serde::Deserialize;

use super::{
    super::{
        Control, Refusal,
        api::{ListingStatus, Pools, Problem, Runners, Status},
    },
    Daemon,
};

/// Copies, so that no lock of the read model outlives the copying.
fn all_pools(model: &ReadModel) -> Vec<PoolSnapshot> {
    let mut pools: Vec<_> = model.pools.iter().map(|entry| entry.value().clone()).collect();
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    pools
}

/// The pool of that name.
pub(super) fn find_pool(control: &dyn Control, name: &str) -> Result<PoolSnapshot, Refusal> {
    let found = name
        .parse::<PoolName>()
        .ok()
        .and_then(|name| control.model().pools.get(&name).map(|entry| entry.value().clone()));
    found.ok_or_else(|| {
        let names: Vec<_> =
            all_pools(control.model()).into_iter().map(|p| p.name.to_string()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Refusal::NotFound(format!("there is no pool {name:?}; there is {names}"))
    })
}

/// The runner of that name.
pub(super) fn find_runner(control: &dyn Control, name: &str) -> Result<RunnerSnapshot, Refusal> {
    let found = name
        .parse::<RunnerName>()
        .ok()
        .and_then(|name| control.model().runners.get(&name).map(|entry| entry.value().clone()));
    found.ok_or_else(|| {
        Refusal::NotFound(format!(
            "there is no runner {name:?} (any more); GET /v1/runners lists them"
        ))
    })
}

/// Whether the daemon answers at all.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the fleet can do its work: 200 or 503, with what is in the way.
pub(super) async fn readyz(State(control): State<Daemon>) -> Response {
    let readiness = control.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

pub(super) async fn status(State(control): State<Daemon>) -> Json<Status> {
    let fleet = control.fleet();
    // The wall clock may step back; an age is never negative.
    let uptime = (chrono::Utc::now() - fleet.started_at).num_seconds().max(0).unsigned_abs();
    let model = control.model();
    let ports = control.ports();
    let readiness = control.readiness();
    let sources = control.sources();
    let mut listings: Vec<_> = model
        .sights
        .iter()
        .map(|e| ListingStatus { side: e.key().clone(), sight: e.value().clone() })
        .collect();
    listings.sort_by(|a, b| a.side.cmp(&b.side));
    Json(Status { fleet, uptime, readiness, pools: all_pools(model), ports, listings, sources })
}

pub(super) async fn pools(State(control): State<Daemon>) -> Json<Pools> {
    Json(Pools { pools: all_pools(control.model()) })
}

pub(super) async fn pool(
    State(control): State<Daemon>,
    Path(name): Path<String>,
) -> Result<Json<PoolSnapshot>, Problem> {
    Ok(Json(find_pool(control.as_ref(), &name)?))
}

/// Which runners are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    pool: Option<String>,
    state: Option<String>,
}

pub(super) async fn runners(
    State(control): State<Daemon>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Runners>, Problem> {
    let Query(Wanted { pool, state }) = wanted.map_err(|rejection| {
        Refusal::Invalid(format!("{}; known are pool and state", rejection.body_text()))
    })?;
    let pool = pool.map(|name| find_pool(control.as_ref(), &name)).transpose()?;
    let state = state.map(|word| phase(&word)).transpose()?;
    let mut runners: Vec<_> = control
        .model()
        .runners
        .iter()
        .filter(|entry| pool.as_ref().is_none_or(|pool| pool.name == entry.pool))
        .filter(|entry| state.is_none_or(|state| state == entry.state))
        .map(|entry| entry.value().clone())
        .collect();
    runners.sort_by(|a, b| (&a.pool, &a.name).cmp(&(&b.pool, &b.name)));
    Ok(Json(Runners { runners }))
}

fn phase(word: &str) -> Result<Phase, Refusal> {
    Phase::ALL.into_iter().find(|phase| phase.as_str() == word).ok_or_else(|| {
        let words = Phase::ALL.map(Phase::as_str).join(", ");
        Refusal::Invalid(format!("{word:?} is no state; it is one of {words}"))
    })
}

pub(super) async fn runner(
    State(control): State<Daemon>,
    Path(name): Path<String>,
) -> Result<Json<RunnerSnapshot>, Problem> {
    Ok(Json(find_runner(control.as_ref(), &name)?))
}
