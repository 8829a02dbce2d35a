//! Refusals, from the order that is refused to the document on the wire.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::api::Problem;

/// Why an order is refused. Each text is for the person who gave it. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What is named does not exist: 404.
    #[error("{0}")]
    NotFound(String),
    /// The order makes no sense as it stands: 422.
    #[error("{0}")]
    Invalid(String),
    /// The state of things forbids it: 409.
    #[error("{0}")]
    Conflict(String),
    /// Not now: 503.
    #[error("{0}")]
    Unavailable(String),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, detail) = match refusal {
            Refusal::NotFound(text) => (StatusCode::NOT_FOUND, text),
            Refusal::Invalid(text) => (StatusCode::UNPROCESSABLE_ENTITY, text),
            Refusal::Conflict(text) => (StatusCode::CONFLICT, text),
            Refusal::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
        };
        Self::new(status, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&self)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}
