//! Jobs: which there were, how long they waited, and why one still does. Answered from the ledger and
//! the read model; nothing is decided from it.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use runner_fleet_actors::{
    event::PoolSnapshot,
    job::{
        JobKey, JobRecord, JobWord,
        why::{Around, why},
    },
    name::PoolName,
    port::Time,
    sight::Side,
};
use serde::Deserialize;

use super::{
    super::{
        Control, Refusal,
        api::{Jobs, Problem, Waits, WhyWaiting},
    },
    Daemon,
    look::find_pool,
};
use crate::{
    config::parse_duration,
    demand::{
        desk::Desk,
        ledger::{LedgerError, Wanted},
    },
};

/// How far is looked back unless told otherwise.
const SINCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Jobs in one answer unless told otherwise, and at most.
const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 1000;

/// Which jobs are asked for, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pool: Option<String>,
    since: Option<String>,
    slow: Option<String>,
    state: Option<String>,
    limit: Option<String>,
}

/// Which waits are asked for, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedWaits {
    pool: Option<String>,
    since: Option<String>,
}

pub(super) async fn jobs(
    State(control): State<Daemon>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Jobs>, Problem> {
    let Query(asked) = asked.map_err(|rejection| {
        let known = "known are pool, since, slow, state and limit";
        Refusal::Invalid(format!("{}; {known}", rejection.body_text()))
    })?;
    let now = chrono::Utc::now();
    let wanted = Wanted {
        pool: asked.pool.as_deref().map(pool_name).transpose()?,
        since: since(asked.since.as_deref(), now)?,
        slow: asked.slow.map(|text| duration("slow", &text)).transpose()?,
        state: asked.state.map(|word| word.parse::<JobWord>()).transpose().map_err(invalid)?,
        limit: asked.limit.map_or(Ok(LIMIT), |text| limit(&text))?,
    };
    let jobs = desk(control.as_ref())?.ledger().history(&wanted, now).await.map_err(unread)?;
    if let (true, Some(pool)) = (jobs.is_empty(), &wanted.pool) {
        // Jobs of a pool that left the configuration are still shown; of a slip there are none.
        find_pool(control.as_ref(), pool.as_str())?;
    }
    Ok(Json(Jobs { jobs }))
}

pub(super) async fn waits(
    State(control): State<Daemon>,
    asked: Result<Query<AskedWaits>, QueryRejection>,
) -> Result<Json<Waits>, Problem> {
    let Query(asked) = asked.map_err(|rejection| {
        Refusal::Invalid(format!("{}; known are pool and since", rejection.body_text()))
    })?;
    let pool = asked.pool.as_deref().map(pool_name).transpose()?;
    let since = since(asked.since.as_deref(), chrono::Utc::now())?;
    let ledger = desk(control.as_ref())?.ledger();
    let days = ledger.waits(pool.as_ref(), since).await.map_err(unread)?;
    if let (true, Some(pool)) = (days.is_empty(), &pool) {
        find_pool(control.as_ref(), pool.as_str())?;
    }
    Ok(Json(Waits { days }))
}

pub(super) async fn job(
    State(control): State<Daemon>,
    Path(key): Path<String>,
) -> Result<Json<JobRecord>, Problem> {
    Ok(Json(find_job(control.as_ref(), &key).await?))
}

pub(super) async fn why_waiting(
    State(control): State<Daemon>,
    Path(key): Path<String>,
) -> Result<Json<WhyWaiting>, Problem> {
    let job = find_job(control.as_ref(), &key).await?;
    let model = control.model();
    // Copies, so that no lock of the read model outlives the copying.
    let pool = job.pool.as_ref().and_then(|name| Some(model.pools.get(name)?.clone()));
    let ports = control.ports();
    let sight = |side: Side| Some(model.sights.get(&side)?.clone());
    let of_pool = |side: fn(&PoolSnapshot) -> Side| pool.as_ref().and_then(|p| sight(side(p)));
    let cloud_seen = of_pool(|pool| Side::Provider(pool.provider.clone()));
    let scope_seen = of_pool(|pool| Side::Scope(pool.scope.clone()));
    let now = chrono::Utc::now();
    let stuck: Vec<_> = model
        .stuck(now)
        .into_iter()
        .filter_map(|(of, stuck)| (Some(&of) == job.pool.as_ref()).then_some(stuck))
        .collect();
    let around = Around {
        pool: pool.as_ref(),
        provider: pool.as_ref().and_then(|pool| ports.get(&pool.provider)),
        forge: ports.get("github"),
        cloud_seen: cloud_seen.as_ref(),
        scope_seen: scope_seen.as_ref(),
        stuck: &stuck,
    };
    let reasons = why(&job, around, now);
    Ok(Json(WhyWaiting { job, reasons }))
}

async fn find_job(control: &dyn Control, key: &str) -> Result<JobRecord, Refusal> {
    let none = || {
        Refusal::NotFound(format!(
            "there is no job {key:?}: nobody has told of it, or it was longer ago than jobs are \
             kept; GET /v1/jobs lists them"
        ))
    };
    let key: JobKey = key.parse().map_err(|_| none())?;
    desk(control)?.job(&key).await.map_err(unread)?.ok_or_else(none)
}

fn desk(control: &dyn Control) -> Result<&Desk, Refusal> {
    control.desk().ok_or_else(|| {
        Refusal::Unavailable("no jobs are kept here: the daemon runs without a ledger".to_owned())
    })
}

fn unread(error: LedgerError) -> Refusal {
    Refusal::Unavailable(format!("jobs cannot be looked up: {error}"))
}

fn invalid(error: impl ToString) -> Refusal {
    Refusal::Invalid(error.to_string())
}

fn pool_name(text: &str) -> Result<PoolName, Refusal> {
    text.parse().map_err(invalid)
}

fn since(text: Option<&str>, now: Time) -> Result<Time, Refusal> {
    let back = text.map_or(Ok(SINCE), |text| duration("since", text))?;
    chrono::TimeDelta::from_std(back)
        .ok()
        .and_then(|back| now.checked_sub_signed(back))
        .ok_or_else(|| Refusal::Invalid(format!("since = {text:?} is longer than time itself")))
}

fn duration(key: &str, text: &str) -> Result<Duration, Refusal> {
    parse_duration(text)
        .map_err(|error| Refusal::Invalid(format!("{key} = {text:?} is not allowed: {error}")))
}

fn limit(text: &str) -> Result<u32, Refusal> {
    text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
        Refusal::Invalid(format!(
            "limit = {text:?} is not allowed: a whole number from 1 to {LIMIT_MAX}"
        ))
    })
}
