//! Where things are: the API's base and the paths under it.
//!
//! Pure text work, so that every URL shape that a person may write in the configuration is one line
//! in a table of tests. Octocrab's own routes are not used: they know no enterprise runners.

use http::Method;
use runner_fleet_actors::{
    name::{RegistrationId, RunnerName, Scope},
    port::{ErrorClass, PortError},
};
use serde::{Deserialize, Serialize};
use url::{Url, form_urlencoded};

use super::{budget::pace, freshness::Version};
use crate::demand::webhook::repair::Hook;

/// The API's base for what a person wrote as `[github] url`: the web address or the API's own.
///
/// - `https://github.com` has its API at `https://api.github.com`;
/// - a data residency host `https://NAME.ghe.com` has it at `https://api.NAME.ghe.com`;
/// - any other host is a GitHub Enterprise Server, with its API at `/api/v3` (GitHub docs,
///   "Getting started with the REST API" of each edition).
///
/// # Errors
/// `Invalid` where the text is no http or https address, or holds a password, query or fragment.
pub fn api_base(given: &str) -> Result<Url, PortError> {
    let refuse = |why: &str| {
        PortError::certain(
            ErrorClass::Invalid,
            format!(
                "github url is not usable: {why}; write https://github.com, \
                 https://NAME.ghe.com or https://HOST of a GitHub Enterprise Server"
            ),
        )
    };
    let mut url = Url::parse(given.trim()).map_err(|error| refuse(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it must begin with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it must not hold a user or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("it must not hold a query or fragment"));
    }
    let Some(host) = url.host_str().map(str::to_ascii_lowercase) else {
        return Err(refuse("it names no host"));
    };
    let own_api_host = match host.as_str() {
        "github.com" | "www.github.com" | "api.github.com" => Some("api.github.com".to_owned()),
        _ if host.starts_with("api.") && host.ends_with(".ghe.com") => Some(host.clone()),
        _ if host.ends_with(".ghe.com") => Some(format!("api.{host}")),
        _ => None,
    };
    match own_api_host {
        Some(api) => {
            url.set_host(Some(&api)).map_err(|error| refuse(&error.to_string()))?;
            url.set_path("");
        }
        None => {
            let path = url.path().trim_end_matches('/').to_owned();
            if path.ends_with("/api/v3") {
                url.set_path(&path);
            } else {
                url.set_path(&format!("{path}/api/v3"));
            }
        }
    }
    Ok(url)
}

/// `/repos/OWNER/REPO`, `/orgs/ORG` or `/enterprises/SLUG`.
pub fn root(scope: &Scope) -> String {
    match scope {
        Scope::Repository { owner, repo } => format!("/repos/{owner}/{repo}"),
        Scope::Organisation(org) => format!("/orgs/{org}"),
        Scope::Enterprise(slug) => format!("/enterprises/{slug}"),
    }
}

/// The scope itself, by its name or by its number; an enterprise has no such place. Numbers are asked for
/// where GitHub's redirects and links of pages lead to.
pub fn identity(scope: &Scope, id: Option<u64>) -> Option<String> {
    match (scope, id) {
        (Scope::Enterprise(_), _) => None,
        (_, None) => Some(root(scope)),
        (Scope::Repository { .. }, Some(id)) => Some(format!("/repositories/{id}")),
        (Scope::Organisation(_), Some(id)) => Some(format!("/organizations/{id}")),
    }
}

/// One page of a scope's runners.
pub fn runners(scope: &Scope, per_page: u32, page: u32) -> String {
    format!("{}/actions/runners?per_page={per_page}&page={page}", root(scope))
}

/// The runners of exactly that name. Names hold nothing that a query would have to escape.
pub fn runners_named(scope: &Scope, name: &RunnerName) -> String {
    format!("{}/actions/runners?name={name}&per_page=100", root(scope))
}

/// One runner.
pub fn runner(scope: &Scope, id: RegistrationId) -> String {
    format!("{}/actions/runners/{id}", root(scope))
}

/// Where runners are registered, below a scope.
const JIT_CONFIG: &str = "actions/runners/generate-jitconfig";

/// Registers a runner.
pub fn jit_config(scope: &Scope) -> String {
    format!("{}/{JIT_CONFIG}", root(scope))
}

/// Makes a token that registers runners and scale sets.
pub fn registration_token(scope: &Scope) -> String {
    format!("{}/actions/runners/registration-token", root(scope))
}

/// One page of a scope's runner groups.
pub fn groups(scope: &Scope, page: u32) -> String {
    format!("{}/actions/runner-groups?per_page=100&page={page}", root(scope))
}

/// The labels of one runner.
pub fn labels(scope: &Scope, id: RegistrationId) -> String {
    format!("{}/labels", runner(scope, id))
}

/// One runner as a member of a runner group.
pub fn in_group(scope: &Scope, group: u64, id: RegistrationId) -> String {
    format!("{}/actions/runner-groups/{group}/runners/{id}", root(scope))
}

/// The runner applications that are offered to a scope.
pub fn downloads(scope: &Scope) -> String {
    format!("{}/actions/runners/downloads", root(scope))
}

/// The schedule of one version of the runner application.
pub fn deprecation(scope: &Scope, version: Version) -> String {
    format!("{}/actions/runners/deprecations/{version}", root(scope))
}

/// One job of a workflow run.
pub fn job(repository: &Scope, id: u64) -> String {
    format!("{}/actions/jobs/{id}", root(repository))
}

fn hook_root(hook: &Hook) -> String {
    match hook.scope() {
        Some(scope) => format!("{}/hooks/{}", root(scope), hook.id()),
        None => "/app/hook".to_owned(),
    }
}

/// One page of a webhook's deliveries, the newest first.
pub fn deliveries(hook: &Hook, cursor: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("per_page", "100");
    if let Some(cursor) = cursor {
        query.append_pair("cursor", cursor);
    }
    format!("{}/deliveries?{}", hook_root(hook), query.finish())
}

/// Asks for a delivery once more.
pub fn redelivery(hook: &Hook, delivery: u64) -> String {
    format!("{}/deliveries/{delivery}/attempts", hook_root(hook))
}

/// Makes a token of an App's installation.
pub fn installation_token(installation: u64) -> String {
    format!("/app/installations/{installation}/access_tokens")
}

/// What GitHub counts calls of together: a method and a path without what it is about. Whether it counts
/// by scope as well is not told, so all scopes are one here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Endpoint(String);

impl Endpoint {
    /// Where a call to a path below the API's base goes.
    #[must_use]
    pub fn of(method: &Method, path: &str) -> Self {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        let of_scope = match parts.peek() {
            Some(&"repos") => 3,
            Some(&"orgs" | &"enterprises") => 2,
            _ => 0,
        };
        // Numbers of runners and versions; no word of a path has a digit.
        let numbered = |part: &str| part.bytes().any(|byte| byte.is_ascii_digit());
        let parts = parts.skip(of_scope).map(|part| if numbered(part) { "*" } else { part });
        Self(format!("{method} {}", parts.collect::<Vec<_>>().join("/")))
    }

    /// Where runners are registered.
    #[must_use]
    pub fn launch() -> Self {
        Self(format!("{} {JIT_CONFIG}", Method::POST))
    }

    /// Points that a call costs there.
    #[must_use]
    pub fn cost(&self) -> u32 {
        let reads = ["GET ", "HEAD "].iter().any(|method| self.0.starts_with(method));
        if reads { pace::READ } else { pace::WRITE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_together_whatever_scope_and_runner_they_are_about() {
        let scope = |text: &str| text.parse::<Scope>().unwrap();
        let repo = scope("octo-org/app2");
        for scope in [&repo, &scope("octo-org"), &scope("enterprises/octo")] {
            let launch = Endpoint::of(&Method::POST, &jit_config(scope));
            assert_eq!((&launch, launch.cost()), (&Endpoint::launch(), 5));
            let runner = Endpoint::of(&Method::DELETE, &runner(scope, RegistrationId(7)));
            assert_eq!(runner, Endpoint("DELETE actions/runners/*".to_owned()));
            let page = Endpoint::of(&Method::GET, &runners(scope, 100, 2));
            assert_eq!((page.cost(), page.0.as_str()), (1, "GET actions/runners"));
        }
        let scope = Endpoint::of(&Method::GET, &identity(&repo, Some(9)).unwrap());
        assert_eq!(scope.0, "GET repositories/*");
        let token = Endpoint::of(&Method::POST, &installation_token(7));
        assert_eq!(token.0, "POST app/installations/*/access_tokens");
    }

    #[test]
    fn every_way_to_write_the_address_leads_to_the_api() {
        let table = [
            ("https://github.com", "https://api.github.com/"),
            ("https://github.com/", "https://api.github.com/"),
            ("https://www.github.com", "https://api.github.com/"),
            ("https://api.github.com", "https://api.github.com/"),
            ("https://octo.ghe.com", "https://api.octo.ghe.com/"),
            ("https://api.octo.ghe.com/", "https://api.octo.ghe.com/"),
            ("https://git.example.net", "https://git.example.net/api/v3"),
            ("https://git.example.net/api/v3/", "https://git.example.net/api/v3"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/api/v3"),
        ];
        for (given, wanted) in table {
            assert_eq!(api_base(given).unwrap().as_str(), wanted, "for {given}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_one_is_refused_without_showing_its_password() {
        for given in ["github.com", "ftp://github.com", "https://u:hunter2@git.example.net", ""] {
            let error = api_base(given).unwrap_err();
            assert_eq!(error.class, ErrorClass::Invalid, "for {given}");
            assert!(!error.what.contains("hunter2"));
        }
    }
}
