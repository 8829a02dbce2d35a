//! Kombu's messages as they lie in MongoDB: pure.
//!
//! Kombu has no broker there. It keeps one document a message in the collection `messages`,
//! `{queue, priority, payload}`, whose `payload` is a JSON text: `{body, content-type,
//! content-encoding, headers, properties}`, with the body in base64 where
//! `properties.body_encoding` says so (kombu 5.7, `transport/mongodb.py`, `transport/virtual/base.py`).

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::message::{Raw, Refusal};

/// The database of an address that names none.
pub const DATABASE: &str = "kombu_default";
/// Where the messages lie.
pub const MESSAGES: &str = "messages";
/// Where those go that nobody can act on. Kombu knows no dead letters; this is the fleet's own.
pub const REJECTED: &str = "messages.rejected";

/// Opens kombu's envelope.
///
/// # Errors
/// Where it is not kombu's.
pub fn open(payload: &str) -> Result<Raw, Refusal> {
    let envelope: Value =
        serde_json::from_str(payload).map_err(|_| Refusal::Envelope("its payload is not JSON"))?;
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let body = text(&envelope, "body").ok_or(Refusal::Envelope("it has no body"))?;
    let encoding = envelope.get("properties").and_then(|of| text(of, "body_encoding"));
    let body = match encoding.as_deref() {
        Some("base64") => {
            STANDARD.decode(body).map_err(|_| Refusal::Envelope("its body is not base64"))?
        }
        None | Some("") => body.into_bytes(),
        Some(_) => return Err(Refusal::Envelope("its body_encoding is neither base64 nor none")),
    };
    let header = |name: &str| envelope.get("headers").and_then(|headers| text(headers, name));
    Ok(Raw {
        content_type: text(&envelope, "content-type"),
        content_encoding: text(&envelope, "content-encoding"),
        compression: header("compression"),
        event: header("X-GitHub-Event"),
        body,
    })
}
