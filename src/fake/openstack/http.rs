//! The way in: what every call goes through, Keystone, and the listings of Glance and Neutron.

use std::{collections::HashMap, sync::Arc, time::Instant};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State as Shared},
    http::StatusCode,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rand::Rng;
use serde_json::{Value, json};

use super::{
    USER,
    cloud::{Cloud, Thing, new_id},
    nova,
};

pub(super) type Here = Shared<Arc<Cloud>>;

pub(super) fn router(cloud: Arc<Cloud>) -> Router {
    Router::new()
        .route("/identity/v3/auth/tokens", post(login))
        .route("/image/v2/images", get(images))
        .route("/image/v2/images/{id}", get(image))
        .route("/network/v2.0/networks", get(networks))
        .route("/network/v2.0/networks/{id}", get(network))
        .route("/network/v2.0/security-groups", get(security_groups))
        .merge(nova::routes())
        .layer(from_fn_with_state(cloud.clone(), gate))
        .with_state(cloud)
}

/// An error as OpenStack's services phrase it.
pub(super) struct Refusal {
    status: u16,
    word: &'static str,
    message: String,
}

pub(super) fn refusal(status: u16, word: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status, word, message: message.into() }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ self.word: { "code": self.status, "message": self.message } });
        let status = StatusCode::from_u16(self.status);
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(body)).into_response()
    }
}

const UNAUTHORIZED: &str = "The request you have made requires authentication.";

fn unavailable() -> Response {
    let html = "<html><body><h1>503 Service Unavailable</h1></body></html>";
    (StatusCode::SERVICE_UNAVAILABLE, html).into_response()
}

enum Gate {
    Pass,
    Unavailable,
    Limited(u64),
    NoToken,
}

async fn gate(Shared(cloud): Here, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<axum::extract::MatchedPath>();
    let path = route.map_or_else(|| request.uri().path().to_owned(), |r| r.as_str().to_owned());
    let call = format!("{} {path}", request.method());
    let login = path.ends_with("/auth/tokens");
    let token = request.headers().get("x-auth-token").and_then(|v| v.to_str().ok());
    if !cloud.options.api_latency.is_zero() {
        tokio::time::sleep(cloud.options.api_latency).await;
    }
    let verdict = cloud.with(|state| {
        state.count(call);
        if state.faults.outage || state.rng.random_bool(state.faults.error_rate_before) {
            return Gate::Unavailable;
        }
        if state.faults.limited > 0 {
            state.faults.limited -= 1;
            return Gate::Limited(state.faults.retry_after.as_secs());
        }
        let lives =
            token.and_then(|t| state.tokens.get(t)).is_some_and(|end| Instant::now() < *end);
        if login || lives { Gate::Pass } else { Gate::NoToken }
    });
    match verdict {
        Gate::Pass => {}
        Gate::Unavailable => return unavailable(),
        Gate::Limited(seconds) => {
            let mut response =
                refusal(429, "overLimit", "This request was rate-limited.").into_response();
            response.headers_mut().insert("retry-after", seconds.into());
            return response;
        }
        Gate::NoToken => {
            return refusal(401, "error", UNAUTHORIZED).into_response();
        }
    }
    let response = next.run(request).await;
    let lost = cloud.with(|state| state.rng.random_bool(state.faults.error_rate_after));
    if lost { unavailable() } else { response }
}

async fn login(Shared(cloud): Here, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let user = &body["auth"]["identity"]["password"]["user"];
    let (refused, password) =
        cloud.with(|state| (state.faults.refuse_logins, state.faults.password.clone()));
    let right = user["name"] == USER && user["password"] == *password;
    let secret = &body["auth"]["identity"]["application_credential"]["secret"];
    if refused || !(right || *secret == *password) {
        return refusal(401, "error", UNAUTHORIZED).into_response();
    }
    let token = new_id();
    let life = cloud.options.token_lifetime;
    cloud.with(|state| state.tokens.insert(token.clone(), Instant::now() + life));
    let endpoint = |kind: &str, path: &str| {
        let url = format!("{}{path}", cloud.base);
        let at = |interface: &str| {
            json!({ "interface": interface, "region": "RegionOne", "region_id": "RegionOne",
                    "id": new_id(), "url": url })
        };
        json!({ "type": kind, "name": kind, "id": new_id(),
                "endpoints": [at("public"), at("internal")] })
    };
    let now = chrono::Utc::now();
    let time = |t: chrono::DateTime<chrono::Utc>| t.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let body = json!({ "token": {
        "methods": ["password"],
        "issued_at": time(now),
        "expires_at": time(now + life),
        "project": { "id": "demo", "name": "demo", "domain": { "id": "default", "name": "Default" } },
        "catalog": [
            endpoint("identity", "/identity"),
            endpoint("compute", "/compute/v2.1"),
            endpoint("image", "/image"),
            endpoint("network", "/network"),
        ],
    }});
    (StatusCode::CREATED, [("x-subject-token", token)], Json(body)).into_response()
}

fn thing(kind: &str, thing: &Thing) -> Value {
    let status = if kind == "images" { "active" } else { "ACTIVE" };
    json!({ "id": thing.id, "name": thing.name, "status": status })
}

fn listed(kind: &str, things: &[Thing], query: &HashMap<String, String>) -> Response {
    let fits = |t: &&Thing| {
        query.get("name").is_none_or(|name| *name == t.name)
            && query.get("id").is_none_or(|id| *id == t.id)
    };
    let list: Vec<Value> = things.iter().filter(fits).map(|t| thing(kind, t)).collect();
    Json(json!({ kind: list })).into_response()
}

fn shown(kind: &str, wrapped: Option<&str>, things: &[Thing], id: &str) -> Response {
    match (things.iter().find(|t| t.id == id), wrapped) {
        (Some(found), Some(word)) => Json(json!({ word: thing(kind, found) })).into_response(),
        (Some(found), None) => Json(thing(kind, found)).into_response(),
        (None, _) => {
            let what = format!("{kind} {id} could not be found.");
            refusal(404, "NeutronError", what).into_response()
        }
    }
}

type Params = Query<HashMap<String, String>>;

async fn images(Shared(cloud): Here, Query(query): Params) -> Response {
    cloud.with(|state| listed("images", &state.images, &query))
}

async fn image(Shared(cloud): Here, Path(id): Path<String>) -> Response {
    cloud.with(|state| shown("images", None, &state.images, &id))
}

async fn networks(Shared(cloud): Here, Query(query): Params) -> Response {
    cloud.with(|state| listed("networks", &state.networks, &query))
}

async fn network(Shared(cloud): Here, Path(id): Path<String>) -> Response {
    cloud.with(|state| shown("networks", Some("network"), &state.networks, &id))
}

async fn security_groups() -> Response {
    let group = json!({ "id": "7b0d5f5e-0000-4000-8000-000000000001", "name": "default" });
    Json(json!({ "security_groups": [group] })).into_response()
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
