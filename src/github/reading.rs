//! What an answer says beyond its body: GitHub's words, the permission that is missing, the limits.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use runner_fleet_actors::{name::Scope, port::Time};

use super::{budget::Seen, transport::Answer, wire};

/// GitHub's own words, shortened: status and message. The message of an error never holds what was
/// sent, so it is safe to show.
pub fn said(answer: &Answer) -> String {
    let status = answer.status.as_u16();
    match wire::message(&answer.body) {
        Some(message) => format!("GitHub says {status}, {message:?}"),
        None => format!("GitHub says {status}"),
    }
}

/// What a call is about, and so which permission it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Registrations.
    Runners,
    /// Jobs of workflow runs.
    Jobs,
    /// Webhooks and their deliveries.
    Hooks,
}

/// Which permission a call about `permission` in a scope needs, per kind of credentials (GitHub docs,
/// the pages of the REST API's endpoints).
pub fn lacking(permission: Permission, scope: &Scope, headers: &HeaderMap) -> String {
    let (fine, classic) = match (permission, scope) {
        (Permission::Runners, _) => return needed(scope, headers),
        (Permission::Jobs, _) => ("\"Actions: read\" on the repository", "repo"),
        (Permission::Hooks, Scope::Organisation(_)) => {
            ("\"Webhooks: write\" on the organisation", "admin:org_hook")
        }
        (Permission::Hooks, _) => ("\"Webhooks: write\" on the repository", "admin:repo_hook"),
    };
    let accepted = accepted(headers);
    format!(
        "{scope} needs: App or fine-grained token {fine}; classic token scope {classic:?}{accepted}"
    )
}

fn accepted(headers: &HeaderMap) -> String {
    headers
        .get("x-accepted-github-permissions")
        .and_then(|value| value.to_str().ok())
        .map(|value| format!(" (GitHub asks for {value})"))
        .unwrap_or_default()
}

/// Which permission a scope needs, per kind of credentials (GitHub docs, "REST API endpoints for
/// self-hosted runners").
pub fn needed(scope: &Scope, headers: &HeaderMap) -> String {
    let (fine, classic) = match scope {
        Scope::Repository { .. } => ("\"Administration: write\" on the repository", "repo"),
        Scope::Organisation(_) => {
            ("\"Self-hosted runners: write\" on the organisation", "admin:org")
        }
        Scope::Enterprise(_) => ("(not possible for an enterprise)", "manage_runners:enterprise"),
    };
    let accepted = accepted(headers);
    format!(
        "{scope} needs: App or fine-grained token {fine}; classic token scope {classic:?}{accepted}"
    )
}

/// What the answer tells of the rate limits.
pub fn seen(answer: &Answer) -> Seen {
    let text = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let number = |name: &str| text(name).and_then(|value| value.trim().parse::<u64>().ok());
    let refused = matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS);
    let message = if refused { wire::message(&answer.body) } else { None };
    let says = message.is_some_and(|text| text.to_ascii_lowercase().contains("rate limit"));
    Seen {
        resource: text("x-ratelimit-resource").map(str::to_owned),
        limit: number("x-ratelimit-limit"),
        remaining: number("x-ratelimit-remaining"),
        reset: number("x-ratelimit-reset")
            .and_then(|second| i64::try_from(second).ok())
            .and_then(|second| Time::from_timestamp(second, 0)),
        retry_after: number("retry-after").map(Duration::from_secs),
        refused,
        says_limit: says || answer.status == StatusCode::TOO_MANY_REQUESTS,
    }
}
