//! The way in: what every call goes through, Keystone, and the listings of Glance and Neutron.

use std::{collections::HashMap, sync::Arc, time::Instant};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State as Shared},
    http::{StatusCode, Uri},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{any, get, post},
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
        .merge(nova::routes(&cloud))
        .route("/plain/{*path}", any(redirect))
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
    Silent,
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
        if login && state.faults.hang_logins {
            return Gate::Silent;
        }
        if state.faults.limited > 0 {
            state.faults.limited -= 1;
            return Gate::Limited(state.faults.retry_after.as_secs());
        }
        let open = login || path.starts_with("/plain/");
        let lives =
            token.and_then(|t| state.tokens.get(t)).is_some_and(|end| Instant::now() < *end);
        if open || lives { Gate::Pass } else { Gate::NoToken }
    });
    match verdict {
        Gate::Pass => {}
        Gate::Silent => std::future::pending().await,
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
    let mut response = next.run(request).await;
    let (lost, ahead) = cloud.with(|state| {
        (state.rng.random_bool(state.faults.error_rate_after), state.faults.clock_ahead)
    });
    let date = (chrono::Utc::now() + ahead).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = date.parse() {
        response.headers_mut().insert(axum::http::header::DATE, date);
    }
    if lost { unavailable() } else { response }
}

async fn login(Shared(cloud): Here, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let user = &body["auth"]["identity"]["password"]["user"];
    let (refused, password) =
        cloud.with(|state| (state.faults.refuse_logins, state.faults.password.clone()));
    let right = user["name"] == USER && user["password"] == *password;
    let secret = &body["auth"]["identity"]["application_credential"]["secret"];
    if let Some((status, body)) = cloud.with(|state| state.faults.login_answer.clone()) {
        return (StatusCode::from_u16(status).unwrap_or_default(), body).into_response();
    }
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
    let (ahead, compute) =
        cloud.with(|state| (state.faults.clock_ahead, state.faults.compute_path.clone()));
    let now = chrono::Utc::now() + ahead;
    let time = |t: chrono::DateTime<chrono::Utc>| t.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let body = json!({ "token": {
        "methods": ["password"],
        "issued_at": time(now),
        "expires_at": time(now + life),
        "project": { "id": "demo", "name": "demo", "domain": { "id": "default", "name": "Default" } },
        "catalog": [
            endpoint("identity", "/identity"),
            endpoint("compute", &compute),
            endpoint("image", "/image"),
            endpoint("network", "/network"),
        ],
    }});
    (StatusCode::CREATED, [("x-subject-token", token)], Json(body)).into_response()
}

/// A load balancer's answer to what was moved, whatever the method.
async fn redirect(Shared(cloud): Here, Path(path): Path<String>, uri: Uri) -> Response {
    let (status, elsewhere) = cloud.with(|state| state.faults.moved.clone());
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let to = format!("{}/{path}{query}", elsewhere.unwrap_or_else(|| cloud.base.clone()));
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
    (status, [("location", to)], "<html>moved</html>").into_response()
}

fn thing(kind: &str, thing: &Thing) -> Value {
    let status = if kind == "images" { thing.status } else { "ACTIVE" };
    json!({ "id": thing.id, "name": thing.name, "status": status })
}

fn listed(
    kind: &str,
    things: &[Thing],
    query: &HashMap<String, String>,
    limit: usize,
) -> Result<Response, Refusal> {
    let fits = |t: &&Thing| {
        query.get("name").is_none_or(|name| *name == t.name)
            && query.get("id").is_none_or(|id| *id == t.id)
            && (kind != "images" || query.get("status").is_none_or(|status| *status == t.status))
    };
    let list: Vec<Value> = things.iter().filter(fits).map(|t| thing(kind, t)).collect();
    paged(kind, list, query, limit).map(|page| Json(page).into_response())
}

/// One page of a list, with the way on in the words of its service; the addresses in it are those that
/// a service behind a proxy gives of itself.
pub(super) fn paged(
    kind: &str,
    mut list: Vec<Value>,
    query: &HashMap<String, String>,
    limit: usize,
) -> Result<Value, Refusal> {
    if let Some(marker) = query.get("marker") {
        let Some(at) = list.iter().position(|one| one["id"] == **marker) else {
            return Err(refusal(400, "badRequest", format!("marker [{marker}] not found")));
        };
        list.drain(..=at);
    }
    let more = list.len() > limit;
    list.truncate(limit);
    let last = list.last().and_then(|one| one["id"].as_str()).map(str::to_owned);
    let mut page = json!({ kind: list });
    if let Some(last) = last.filter(|_| more) {
        if kind == "images" {
            page["next"] = json!(format!("/v2/images?marker={last}"));
        } else {
            let href = format!("http://internal:1/{kind}?marker={last}");
            page[format!("{kind}_links")] = json!([{ "rel": "next", "href": href }]);
        }
    }
    Ok(page)
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

async fn images(Shared(cloud): Here, Query(query): Params) -> Result<Response, Refusal> {
    let limit = cloud.options.page_limit;
    cloud.with(|state| listed("images", &state.images, &query, limit))
}

async fn image(Shared(cloud): Here, Path(id): Path<String>) -> Response {
    cloud.with(|state| shown("images", None, &state.images, &id))
}

async fn networks(Shared(cloud): Here, Query(query): Params) -> Result<Response, Refusal> {
    let limit = cloud.options.page_limit;
    cloud.with(|state| listed("networks", &state.networks, &query, limit))
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
