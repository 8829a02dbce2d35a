//! What every call must keep to: a size, a time, and over TCP a token.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use runner_fleet_actors::port::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Control, api::Problem};

/// Largest body of a call: every request document fits a hundred times.
pub(super) const BODY_MAX: usize = 16 * 1024;

/// How long one call may take, its body's arrival included. Orders return when they are taken, so
/// only a stuck daemon or a stuck client needs as much.
const CALL_TIME: Duration = Duration::from_secs(30);

/// Answers a call that takes too long.
pub(super) async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(CALL_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!(
                "no answer within {} s; the order may have been taken, look before you repeat it",
                CALL_TIME.as_secs()
            );
            Problem::new(StatusCode::GATEWAY_TIMEOUT, detail).into_response()
        }
    }
}

/// A bearer token, kept as its digest so that a comparison takes the same time whatever comes; and who
/// knows whether it was replaced.
pub(super) struct Guard {
    first: [u8; 32],
    control: Arc<dyn Control>,
}

impl Guard {
    pub fn new(token: &Secret, control: Arc<dyn Control>) -> Arc<Self> {
        Arc::new(Self { first: Sha256::digest(token.expose()).into(), control })
    }

    fn admits(&self, request: &Request) -> bool {
        let given =
            request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, token)) = given else { return false };
        // Digests, because the comparison of unequal lengths would tell the token's length.
        let digest: [u8; 32] = Sha256::digest(token.trim()).into();
        match self.control.api_token() {
            Some(token) => token.admits(&digest, Instant::now()),
            None => bool::from(digest.ct_eq(&self.first)),
        }
    }
}

/// Lets a call pass that carries the token; `/healthz` needs none, so that a probe needs none.
pub(super) async fn with_token(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    if request.uri().path() == "/healthz" || guard.admits(&request) {
        return next.run(request).await;
    }
    let detail = "this address wants \"Authorization: Bearer TOKEN\" with the token of [api]";
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}
