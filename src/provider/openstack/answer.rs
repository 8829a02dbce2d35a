//! What came back over HTTP, and what it means.
//!
//! The one place where statuses and the clouds' own words become [`ErrorClass`]es. Nova gives no
//! machine-readable code beside the status, so that a quota and a missing permission, both 403, and
//! the fault of a VM in ERROR can be told apart by their text only; those texts are looked at here
//! and nowhere else.

use std::time::Duration;

use reqwest::{StatusCode, header::HeaderMap};
use runner_fleet_actors::port::{ErrorClass, PortError, Time};
use serde_json::Value;

use crate::pause::{self, Told};
pub(super) use crate::provider::text::tidy;

/// How long a limiter without `Retry-After` is left alone.
const DEFAULT_PAUSE: Duration = Duration::from_secs(30);

/// A complete answer of any status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// When it arrived.
    pub(super) at: Time,
}

/// What the call was for: decides what its failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Changes nothing.
    Read,
    /// Makes a VM: a lost answer leaves the caller in doubt.
    Create,
    /// Removes one: repeating it is harmless, but a lost answer says nothing.
    Delete,
    /// Another POST on a VM, which repeating does no harm to.
    Act,
}

impl Answer {
    /// What time it is at the other side (RFC 9110, "Date").
    pub(super) fn date(&self) -> Option<Time> {
        let date = self.headers.get(reqwest::header::DATE)?.to_str().ok()?;
        chrono::DateTime::parse_from_rfc2822(date).ok().map(|date| date.to_utc())
    }

    /// The answer where it is a success.
    pub(super) fn success(self, tried: &str, purpose: Purpose) -> Result<Self, PortError> {
        if self.status.is_success() { Ok(self) } else { Err(self.failure(tried, purpose, &[])) }
    }

    /// The failure that this answer is. `secrets` are texts that a cloud may echo back in its
    /// complaint (Nova's schema errors quote the value) and that must not get any further.
    pub(super) fn failure(&self, tried: &str, purpose: Purpose, secrets: &[&str]) -> PortError {
        let text = self.text(secrets);
        let (class, certain) = self.class(&text, purpose);
        let advice = match class {
            ErrorClass::Quota => ": ask for more quota, or lower the pools' `max`",
            ErrorClass::Auth => ": check the credentials and the roles of the user in the project",
            ErrorClass::Transient => ": nothing to do unless it lasts",
            ErrorClass::Invalid if self.status.as_u16() == 403 => {
                ": this project may not use what the pool names (network, zone, flavor, image)"
            }
            _ if text.contains("'tags' was unexpected") => {
                ": the call arrived as one of an older Compute API: something between here and Nova \
                 takes the header OpenStack-API-Version out, or the endpoint is an old one"
            }
            _ => "",
        };
        let what = format!("{tried}: HTTP {}: {text}{advice}", self.status.as_u16());
        PortError::certain(class, what).leaving_nothing(certain)
    }

    fn class(&self, text: &str, purpose: Purpose) -> (ErrorClass, bool) {
        let harmless = purpose == Purpose::Read;
        match (self.status.as_u16(), self.retry_at()) {
            (429, until) => {
                let until = pause::or_after(until, self.at, DEFAULT_PAUSE);
                (ErrorClass::RateLimited { until }, true)
            }
            (413, Some(until)) => (ErrorClass::RateLimited { until }, true),
            (503, Some(until)) => (ErrorClass::RateLimited { until }, harmless),
            (413, None) => (ErrorClass::Quota, true),
            (401, _) => (ErrorClass::Auth, true),
            (403, _) if speaks_of_quota(text) => (ErrorClass::Quota, true),
            (403, _) if purpose == Purpose::Create && !forbids_all(text) => {
                (ErrorClass::Invalid, true)
            }
            (403, _) => (ErrorClass::Auth, true),
            (404, _) => (ErrorClass::NotFound, true),
            // On a create Nova answers 409 for what the order says (several networks and none
            // named, a port in use); on a delete for a VM that is locked or in a task.
            (409, _) if purpose == Purpose::Create => (ErrorClass::Invalid, true),
            (409, _) => (ErrorClass::Busy, true),
            (408 | 500.., _) => (ErrorClass::Transient, harmless),
            _ => (ErrorClass::Invalid, true),
        }
    }

    /// `Retry-After`, at most an hour from now.
    fn retry_at(&self) -> Option<Time> {
        let text = self.headers.get("retry-after")?.to_str().ok()?;
        pause::until(Told::RetryAfter(text), self.at)
    }

    /// The other side's own words: `{"forbidden": {"message": …}}` (Nova),
    /// `{"NeutronError": {"message": …}}`, `{"error": {"message": …}}` (Keystone), else the body.
    fn text(&self, secrets: &[&str]) -> String {
        let message = serde_json::from_slice::<Value>(&self.body).ok().and_then(|json| {
            let inner = json.as_object()?.values().find_map(|v| v.get("message"));
            inner.or(json.get("message")).and_then(Value::as_str).map(str::to_owned)
        });
        let text = message.unwrap_or_else(|| String::from_utf8_lossy(&self.body).into_owned());
        if text.trim().is_empty() {
            return self.status.canonical_reason().unwrap_or("no text").to_owned();
        }
        tidy(&text, secrets)
    }
}

/// Whether a refusal to make a VM is of the user's rights, and not of something that one order names
/// (an external network, `ZONE:HOST`): Nova's policies of the latter are named more closely.
fn forbids_all(text: &str) -> bool {
    let Some((_, policy)) = text.split_once("Policy doesn't allow ") else { return false };
    let policy = policy.split_whitespace().next().unwrap_or_default();
    !policy.starts_with("os_compute_api:servers:create:")
}

fn speaks_of_quota(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("quota") || text.contains("exceeded") || text.contains("maximum number")
}

/// What the fault of a VM in ERROR means for its pool.
pub(super) fn fault_class(fault: &str) -> ErrorClass {
    let text = fault.to_ascii_lowercase();
    // Nova's NoValidHost, MaxRetriesExceeded (whose "exceeded" is of no quota) and
    // ComputeResourcesUnavailable.
    let no_room = [
        "no valid host",
        "exhausted all hosts",
        "insufficient compute resources",
        "scheduling attempts",
        "maximum number of retries",
    ];
    if no_room.iter().any(|words| text.contains(words)) {
        ErrorClass::NoCapacity
    } else if speaks_of_quota(&text) {
        ErrorClass::Quota
    } else if text.contains("could not be found") || text.contains("is unacceptable") {
        ErrorClass::Invalid
    } else {
        ErrorClass::Transient
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>, body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert("retry-after", value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let at = "2026-11-20T10:00:00Z".parse().unwrap();
        Answer { status, headers, body: body.as_bytes().to_vec(), at }
    }

    fn class(status: u16, retry_after: Option<&str>, body: &str) -> (ErrorClass, bool) {
        let error = answer(status, retry_after, body).failure("x", Purpose::Create, &[]);
        (error.class, error.certain)
    }

    #[test]
    fn every_status_of_a_create_has_its_class() {
        let quota = r#"{"forbidden": {"code": 403, "message": "Quota exceeded for instances"}}"#;
        let policy = r#"{"forbidden": {"code": 403, "message": "Policy doesn't allow os_compute_api:servers:create:x to be performed."}}"#;
        assert_eq!(class(403, None, quota), (ErrorClass::Quota, true));
        assert_eq!(class(403, None, policy), (ErrorClass::Invalid, true));
        let network = "It is not allowed to create an interface on external network 1";
        assert_eq!(class(403, None, network), (ErrorClass::Invalid, true), "the pool's network");
        let all = "Policy doesn't allow os_compute_api:servers:create to be performed.";
        assert_eq!(class(403, None, all), (ErrorClass::Auth, true));
        let host =
            "Policy doesn't allow os_compute_api:servers:create:forced_host to be performed.";
        assert_eq!(class(403, None, host), (ErrorClass::Invalid, true));
        assert_eq!(class(413, None, ""), (ErrorClass::Quota, true));
        assert_eq!(class(401, None, ""), (ErrorClass::Auth, true));
        assert_eq!(class(400, None, ""), (ErrorClass::Invalid, true));
        assert_eq!(class(409, None, ""), (ErrorClass::Invalid, true));
        assert_eq!(class(500, None, ""), (ErrorClass::Transient, false));
        assert_eq!(class(504, None, "<html>"), (ErrorClass::Transient, false));
    }

    #[test]
    fn retry_after_is_believed_as_seconds_and_as_a_date_but_not_for_days() {
        let until = |text: &str| match class(429, Some(text), "").0 {
            ErrorClass::RateLimited { until } => until.to_rfc3339(),
            other => panic!("{other:?}"),
        };
        assert_eq!(until("7"), "2026-11-20T10:00:07+00:00");
        assert_eq!(until("Fri, 20 Nov 2026 10:01:00 GMT"), "2026-11-20T10:01:00+00:00");
        assert_eq!(until("864000"), "2026-11-20T11:00:00+00:00");
        for odd in ["soon", "-1", "0", ""] {
            assert_eq!(until(odd), "2026-11-20T10:00:30+00:00", "{odd:?}");
        }
        assert_eq!(until("18446744073709551615"), "2026-11-20T11:00:00+00:00");
        assert!(!class(503, Some("7"), "").1, "a 503 may hide a VM that was made");
    }

    #[test]
    fn an_echoed_secret_goes_no_further() {
        let body =
            r#"{"badRequest": {"message": "user_data. Value: c2VjcmV0. 'c2VjcmV0' is bad"}}"#;
        let error = answer(400, None, body).failure("create", Purpose::Create, &["c2VjcmV0"]);
        assert!(!error.what.contains("c2VjcmV0"), "{error}");
        assert!(error.what.contains("Value: (hidden)"), "{error}");
    }

    #[test]
    fn faults_of_vms_become_classes() {
        assert_eq!(fault_class("No valid host was found. "), ErrorClass::NoCapacity);
        let retries = "Exceeded maximum number of retries. Exhausted all hosts available";
        assert_eq!(fault_class(retries), ErrorClass::NoCapacity);
        let retries = "Exceeded maximum number of retries. Exceeded max scheduling attempts 3 for \
                       instance 1. Last exception: Binding failed for port 2";
        assert_eq!(fault_class(retries), ErrorClass::NoCapacity);
        assert_eq!(fault_class("Quota exceeded for cores"), ErrorClass::Quota);
        assert_eq!(fault_class("Maximum number of ports exceeded"), ErrorClass::Quota);
        assert_eq!(fault_class("Image 1 could not be found."), ErrorClass::Invalid);
        assert_eq!(fault_class("libvirt went away"), ErrorClass::Transient);
    }
}
