//! What an answer says beyond its body: GitHub's words, the permission that is missing, the limits.

use http::{HeaderMap, StatusCode};
use runner_fleet_actors::{name::Scope, port::Time};

use super::{
    budget::{Limit, Seen},
    refusal::{self, Cause},
    transport::Answer,
    wire,
};
use crate::pause::{self, Told};

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

/// Why GitHub refused and what to do, where its words or headers tell more than that it did.
pub fn cause(answer: &Answer) -> Option<Cause> {
    refusal::cause(&answer.headers, &wire::message(&answer.body).unwrap_or_default())
}

/// What the answer, which came at `now`, tells of the rate limits.
pub fn seen(answer: &Answer, now: Time) -> Seen {
    let text = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let number = |name: &str| text(name).and_then(|value| value.trim().parse::<u64>().ok());
    let refused = matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS);
    let says = match refused.then(|| cause(answer)).flatten() {
        Some(Cause::SecondaryLimit) => Some(Limit::Secondary),
        Some(Cause::PrimaryLimit) => Some(Limit::Some),
        _ => (answer.status == StatusCode::TOO_MANY_REQUESTS).then_some(Limit::Some),
    };
    Seen {
        resource: text("x-ratelimit-resource").map(str::to_owned),
        limit: number("x-ratelimit-limit"),
        remaining: number("x-ratelimit-remaining"),
        reset: text("x-ratelimit-reset").and_then(|text| pause::until(Told::Reset(text), now)),
        retry_at: text("retry-after").and_then(|text| pause::until(Told::RetryAfter(text), now)),
        refused,
        says,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::github::budget::{Budget, CallKind, allow};

    fn answer(status: u16, headers: &[(&'static str, &str)], message: &str) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            if let Ok(value) = http::HeaderValue::from_str(value) {
                map.insert(*name, value);
            }
        }
        let body = serde_json::json!({ "message": message }).to_string().into_bytes();
        Answer { status: StatusCode::from_u16(status).unwrap(), headers: map, body }
    }

    fn now() -> Time {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_limit_in_any_words_holds_for_a_minute_at_least_and_longer_each_time() {
        let words = [
            "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
            "You have triggered an abuse detection mechanism. Please wait a few minutes before you try \
             again.",
        ];
        for message in words {
            for retry_after in ["0", "-5", "1", "garbage", "Fri, 20 Nov 2026 09:00:00 GMT"] {
                let limited = answer(403, &[("retry-after", retry_after)], message);
                let (mut budget, mut at) = (Budget::default(), now());
                for minutes in [1, 2, 4, 8] {
                    let until = budget.take_in(&seen(&limited, at), at).unwrap();
                    assert_eq!((until - at).num_minutes(), minutes, "{retry_after}: {message}");
                    at = until;
                }
            }
        }
    }

    #[test]
    fn a_missing_right_is_still_no_limit() {
        for message in ["Resource not accessible by integration", "Repository was archived"] {
            let refused = answer(403, &[("x-ratelimit-remaining", "7")], message);
            assert_eq!(Budget::default().take_in(&seen(&refused, now()), now()), None);
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics_or_holds_the_fleet_for_longer_than_an_hour(
            status in prop_oneof![Just(200), Just(403), Just(429), Just(503)],
            numbers in prop::collection::vec("-?[0-9]{0,24}", 4),
            words in prop_oneof![Just(""), Just("secondary rate limit"), Just("rate limit")],
            times in 1..40_usize,
        ) {
            let headers = [
                ("x-ratelimit-limit", numbers[0].as_str()),
                ("x-ratelimit-remaining", numbers[1].as_str()),
                ("x-ratelimit-reset", numbers[2].as_str()),
                ("retry-after", numbers[3].as_str()),
            ];
            let answer = answer(status, &headers, words);
            let mut budget = Budget::default();
            for _ in 0..times {
                budget.take_in(&seen(&answer, now()), now());
            }
            let hour = now() + Duration::from_secs(3600);
            for kind in [CallKind::List, CallKind::Deregister, CallKind::Launch] {
                prop_assert_eq!(allow(kind, &budget, hour), Ok(()));
            }
        }
    }
}
