//! What is refused before its body is read: a delivery that is signed by nobody.
//!
//! Whether a signature is good only the whole body shows. But what has none can be refused at its head,
//! and so costs no memory; whoever wants to cost some must at least look like GitHub, and then has the
//! listener's bounds.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::StatusCode;

use super::{door::Door, signature};
use crate::http::{
    api::Problem,
    server::{Explained, let_go},
};

/// Lets a delivery pass that has a signature.
pub(super) async fn refuse(
    State(door): State<Arc<Door>>,
    request: Request,
    next: Next,
) -> Response {
    let header = request.headers().get("x-hub-signature-256");
    let given = header.is_some_and(|header| !header.is_empty());
    if header.and_then(|header| header.to_str().ok()).is_some_and(signature::is_one) {
        return next.run(request).await;
    }
    door.unsigned(given);
    let_go(request).await;
    let detail = if given {
        "the delivery's X-Hub-Signature-256 is none: it is sha256= and 64 hexadecimal digits"
    } else {
        "the delivery has no X-Hub-Signature-256: give the webhook on GitHub the secret that this \
         daemon has"
    };
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    response.extensions_mut().insert(Explained);
    response
}
