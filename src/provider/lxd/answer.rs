//! What came back, and what it means.
//!
//! LXD answers `{"type": "sync" | "async" | "error", …}`. A failure of a call has a status; a failure
//! of an operation that ran in the background has only a text (`err`), whatever its cause, and a
//! refusal by a project's limits is a plain 500. Those texts are looked at here and nowhere else, and
//! only for what nobody else can say; what is missing (image, profile, pool, network) is found out by
//! asking for it (`check.rs`), not by reading words.

use std::{sync::Arc, time::Duration};

use runner_fleet_actors::port::{ErrorClass, PortError, Time};
use serde_json::Value;

use crate::{pause, provider::text::tidy};

/// How long a proxy in front that asks for a pause and does not say how long is left alone.
const DEFAULT_PAUSE: Duration = Duration::from_secs(30);

/// What the call was for: decides what its failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Changes nothing.
    Read,
    /// Makes something, and a lost answer leaves the caller in doubt.
    Create,
    /// Repeating it is harmless, but a lost answer says nothing.
    Change,
}

/// A complete answer of any status.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Until when it wants no calls, by its `Retry-After`.
    pub(super) retry_at: Option<Time>,
    pub(super) body: Value,
    /// When it arrived.
    pub(super) at: Time,
    /// What to do should it say that this client may not.
    pub(super) if_refused: Arc<str>,
}

impl Answer {
    /// Whether it says that what was named is not there.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == 404
    }

    /// What a synchronous call returned.
    pub(super) fn metadata(&self) -> &Value {
        self.body.get("metadata").unwrap_or(&Value::Null)
    }

    /// The number of the operation that an asynchronous call began.
    pub(super) fn operation(&self) -> Option<&str> {
        let path = self.body.get("operation")?.as_str()?;
        let path = path.split('?').next().unwrap_or_default();
        path.rsplit('/').next().filter(|id| !id.is_empty())
    }

    /// The answer where it is a success.
    pub(super) fn success(
        self,
        tried: &str,
        purpose: Purpose,
        secrets: &[&str],
    ) -> Result<Self, PortError> {
        if (200..300).contains(&self.status) {
            Ok(self)
        } else {
            Err(self.failure(tried, purpose, secrets))
        }
    }

    fn failure(&self, tried: &str, purpose: Purpose, secrets: &[&str]) -> PortError {
        let text = self.body.get("error").and_then(Value::as_str).unwrap_or("no reason given");
        let text = tidy(text, secrets);
        let (class, certain) = self.class(&text, purpose);
        let advice = match class {
            ErrorClass::Auth => &*self.if_refused,
            ErrorClass::Quota => ": raise the project's limits, or lower the pools' `max`",
            _ => "",
        };
        let what = format!("{tried}: HTTP {}: {text}{advice}", self.status);
        PortError::certain(class, what).leaving_nothing(certain)
    }

    fn class(&self, text: &str, purpose: Purpose) -> (ErrorClass, bool) {
        let harmless = purpose == Purpose::Read;
        match self.status {
            400 | 405 | 406 | 415 => (ErrorClass::Invalid, true),
            // A project that forbids what an order names is no lack of trust.
            403 if fault_class(text) == ErrorClass::Invalid => (ErrorClass::Invalid, true),
            401 | 403 => (ErrorClass::Auth, true),
            404 => (ErrorClass::NotFound, true),
            409 | 412 | 423 => (ErrorClass::Busy, true),
            413 => (ErrorClass::Quota, true),
            429 => (self.pause(), true),
            503 if self.retry_at.is_some() => (self.pause(), harmless),
            507 => (ErrorClass::NoCapacity, true),
            // LXD refuses by 500 what has nothing to do with its own health; then it has not begun.
            500 => match fault_class(text) {
                ErrorClass::Transient => (ErrorClass::Transient, harmless),
                told => (told, true),
            },
            502.. => (ErrorClass::Transient, harmless),
            _ => (ErrorClass::Invalid, true),
        }
    }

    fn pause(&self) -> ErrorClass {
        ErrorClass::RateLimited { until: pause::or_after(self.retry_at, self.at, DEFAULT_PAUSE) }
    }
}

/// What the text of a failed operation, or of a 500, means for the pool.
pub(super) fn fault_class(fault: &str) -> ErrorClass {
    // Limits of a project (lxd/project: "Reached maximum number of instances", "… aggregate value").
    const QUOTA: [&str; 2] = ["reached maximum", "quota exceeded"];
    // ENOSPC, ENOMEM and what storage drivers and QEMU say of them.
    const NO_ROOM: [&str; 4] = [
        "no space left on device",
        "cannot allocate memory",
        "not enough space",
        "insufficient free",
    ];
    // LXD does something else with the instance: "Instance is busy running a \"stop\" operation". It
    // says so by no status, and what a guest's own power-off sets going is no operation to ask for.
    const BUSY: [&str; 1] = ["is busy running a"];
    // Refusals of the order itself: by LXD's validation of keys and devices; by a server that cannot
    // make virtual machines; by a project that limits or restricts (`limits.*`, `restricted.*`;
    // project/permissions.go of LXD and of Incus); by an image server that has no such image.
    const INVALID: [&str; 16] = [
        "invalid devices",
        "invalid device ",
        "invalid config",
        "invalid value",
        "is not supported on this server",
        "no root device could be found",
        // A limit of the project counts what the instance must then say.
        "either directly or via a profile",
        "failed parsing \"limits.",
        "failed parsing \"size",
        "not allowed in project",
        "isn't allowed in this project",
        "doesn't allow cluster member targeting",
        "is forbidden",
        "are forbidden",
        "couldn't be found for fingerprint",
        "no matching image",
    ];
    let text = fault.to_ascii_lowercase();
    let speaks = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if speaks(&QUOTA) {
        ErrorClass::Quota
    } else if speaks(&BUSY) {
        ErrorClass::Busy
    } else if speaks(&NO_ROOM) {
        ErrorClass::NoCapacity
    } else if speaks(&INVALID) {
        ErrorClass::Invalid
    } else {
        ErrorClass::Transient
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(status: u16, text: &str) -> (ErrorClass, bool) {
        let at = "2026-11-20T10:00:00Z".parse().unwrap();
        let (body, if_refused) = (json!({ "error": text }), "".into());
        let answer = Answer { status, retry_at: None, body, at, if_refused };
        let error = answer.failure("x", Purpose::Create, &["s3cr3t"]);
        assert!(!error.what.contains("s3cr3t"));
        (error.class, error.certain)
    }

    #[test]
    fn every_status_of_a_create_has_its_class() {
        assert_eq!(class(400, "bad s3cr3t"), (ErrorClass::Invalid, true));
        assert_eq!(class(403, "not authorized"), (ErrorClass::Auth, true));
        assert_eq!(class(404, "Image alias not found"), (ErrorClass::NotFound, true));
        assert_eq!(class(500, "database is locked"), (ErrorClass::Transient, false));
        assert_eq!(class(503, "LXD is shutting down"), (ErrorClass::Transient, false));
    }

    /// The texts are those that LXD 5.0.2 was seen to answer.
    #[test]
    fn limits_of_a_project_and_full_pools_are_told_from_ill_health() {
        let limit = "Reached maximum number of instances of type \"container\" in project \"x\"";
        assert_eq!(class(500, limit), (ErrorClass::Quota, true));
        let aggregate = "Failed checking if instance creation allowed: Reached maximum aggregate \
                         value \"100MiB\" for \"limits.memory\" in project \"x\"";
        assert_eq!(fault_class(aggregate), ErrorClass::Quota);
        let full = "Failed creating instance from image: … write …: no space left on device";
        assert_eq!(fault_class(full), ErrorClass::NoCapacity);
        let busy = "Failed to create instance delete operation: Instance is busy running a \"stop\" \
                    operation";
        assert_eq!(class(500, busy), (ErrorClass::Busy, true));
        let vms = "Failed creating instance record: Instance type \"virtual-machine\" is not \
                   supported on this server: vhost_vsock kernel module not loaded";
        assert_eq!(fault_class(vms), ErrorClass::Invalid);
        assert_eq!(fault_class("Failed to run: forkstart"), ErrorClass::Transient);
    }

    /// The refusals of project/permissions.go (LXD 5.21, Incus 6) that a launch can meet, each with the
    /// prefix that it has there.
    #[test]
    fn what_a_project_forbids_or_demands_is_the_orders_fault() {
        let checked = "Failed checking if instance creation allowed: ";
        let of = "container \"x\" of project \"ci\"";
        for told in [
            format!(
                "{checked}Instance \"x\" in project \"ci\" has no \"limits.memory\" config, either \
                 directly or via a profile"
            ),
            format!(
                "{checked}Instance \"x\" in project \"ci\" has no \"size\" config set on the root \
                 device either directly or via a profile"
            ),
            format!("{checked}Failed parsing \"limits.cpu\" for instance \"x\" in project \"ci\""),
            format!("{checked}Failed parsing \"size.state\" for instance \"x\" in project \"ci\""),
            format!(
                "{checked}Invalid value \"true\" for config \"security.nesting\" on {of}: Container \
                 nesting is forbidden"
            ),
            format!("{checked}Use of low-level config \"raw.lxc\" on {of} is forbidden"),
            format!("{checked}Invalid device \"eth0\" on {of}: Network devices are forbidden"),
            format!(
                "{checked}Invalid device \"eth0\" on {of}: Only managed network devices are allowed"
            ),
            format!("{checked}Invalid device \"eth0\" on {of}: Network not allowed in project"),
            format!("{checked}Invalid device \"d\" on {of}: Disk source path \"/x\" not allowed"),
            "Image server \"images.example.org\" isn't allowed in this project".to_owned(),
            "Setting \"volatile.x\" on container \"x\" in project \"ci\" is forbidden".to_owned(),
        ] {
            assert_eq!(class(500, &told), (ErrorClass::Invalid, true), "{told}");
        }
        let target = "This project doesn't allow cluster member targeting";
        assert_eq!(class(403, target), (ErrorClass::Invalid, true));
        for told in [
            "Reached maximum number of instances in project \"ci\"".to_owned(),
            "Reached maximum number of instances of type \"virtual-machine\" in project \"ci\""
                .into(),
            format!(
                "{checked}Reached maximum aggregate value \"8\" for \"limits.cpu\" in project \"ci\""
            ),
        ] {
            assert_eq!(class(500, &told), (ErrorClass::Quota, true), "{told}");
        }
        let own =
            "Failed checking if instance creation allowed: Fetch profiles from database: busy";
        assert_eq!(class(500, own), (ErrorClass::Transient, false), "LXD's own trouble");
        let alias = "Failed getting remote image info: Failed getting image: The requested image \
                     couldn't be found for fingerprint \"ubuntu/24.04\"";
        assert_eq!(fault_class(alias), ErrorClass::Invalid);
        let away = "Failed getting remote image info: Get \"https://x\": dial tcp: i/o timeout";
        assert_eq!(fault_class(away), ErrorClass::Transient);
    }

    #[test]
    fn an_operation_is_known_by_its_number() {
        let at = "2026-11-20T10:00:00Z".parse().unwrap();
        for path in ["/1.0/operations/9b18", "/1.0/operations/9b18?project=ci"] {
            let body = json!({ "type": "async", "operation": path });
            let answer = Answer { status: 202, retry_at: None, body, at, if_refused: "".into() };
            assert_eq!(answer.operation(), Some("9b18"));
        }
    }
}
