//! The paths of the API, and what each does.

mod jobs;
mod look;
mod order;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware::{from_fn, from_fn_with_state},
    routing::{get, post, put},
};
use http::{Method, StatusCode};
use runner_fleet_actors::port::Secret;

use super::{
    Control,
    api::Problem,
    limits::{BODY_MAX, Guard, in_time, with_token},
};

/// Every call knows the daemon by this.
type Daemon = Arc<dyn Control>;

/// The whole API over `control`. With `token` every call but `/healthz` must carry it.
pub fn router(control: Arc<dyn Control>, token: Option<&Secret>) -> Router {
    let guard = token.map(|token| Guard::new(token, Arc::clone(&control)));
    let router = Router::new()
        .route("/healthz", get(look::healthz))
        .route("/readyz", get(look::readyz))
        .route("/v1/status", get(look::status))
        .route("/v1/pools", get(look::pools))
        .route("/v1/pools/{name}", get(look::pool))
        .route("/v1/pools/{name}/target", put(order::set_target).delete(order::clear_target))
        .route("/v1/pools/{name}/flush", post(order::flush))
        .route("/v1/runners", get(look::runners))
        .route("/v1/runners/{name}", get(look::runner).delete(order::delete))
        .route("/v1/runners/{name}/drain", post(order::drain))
        .route("/v1/jobs", get(jobs::jobs))
        .route("/v1/jobs/{key}", get(jobs::job))
        .route("/v1/jobs/{key}/why", get(jobs::why_waiting))
        .route("/v1/waits", get(jobs::waits))
        .route("/v1/reconcile", post(order::reconcile))
        .route("/v1/reload", post(order::reload))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(control)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn(in_time));
    match guard {
        Some(guard) => router.layer(from_fn_with_state(guard, with_token)),
        None => router,
    }
}

async fn no_such_path(request: Request) -> Problem {
    let detail = format!("there is no {}; everything lives under /v1", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, detail)
}

async fn no_such_method(method: Method, request: Request) -> Problem {
    let detail = format!("{method} is not possible on {}", request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
