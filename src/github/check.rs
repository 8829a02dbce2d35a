//! What can be said beforehand: do credentials, scope and group allow the fleet to work?
//!
//! Only reads. Whether a fine-grained token may write cannot be known without writing; a classic
//! token and an App tell their rights in every answer, and those are judged.

use http::{HeaderMap, Method, StatusCode};
use runner_fleet_actors::{
    name::Scope,
    port::{ErrorClass, PortError},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    budget::CallKind,
    client::{Call, Client},
    groups::Groups,
    reading::{needed, said},
    route,
};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// How many runners the scope has, the fleet's and others.
    pub runners: Option<u64>,
    /// The number of the runner group.
    pub group_id: u64,
    /// Whether GitHub said that the credentials may register runners; `None` where it tells only
    /// whoever tries.
    pub may_register: Option<bool>,
}

/// Whether the fleet can work in a scope.
pub async fn check(
    client: &Client,
    groups: &Groups,
    scope: &Scope,
    group: Option<&str>,
) -> Result<Access, PortError> {
    let call = Call::new(
        format!("check access to the runners of {scope}"),
        CallKind::Launch,
        scope,
        Method::GET,
        route::runners(scope, 1, 1),
    );
    let answer = client.call(&call).await?;
    let hint = needed(scope, &answer.headers);
    if answer.status != StatusCode::OK {
        let why = format!("{}; check that {scope} exists; {hint}", said(&answer));
        return Err(call.failed(ErrorClass::Invalid, &why));
    }
    let may_register = match client.installation_permissions() {
        Some(permissions) => app_may(scope, &permissions),
        None => classic_may(scope, &answer.headers),
    };
    if may_register == Some(false) {
        let why = format!("the credentials may read but not register runners; {hint}");
        return Err(call.failed(ErrorClass::Auth, &why));
    }
    #[derive(Deserialize)]
    struct Body {
        total_count: Option<u64>,
    }
    let runners = serde_json::from_slice::<Body>(&answer.body).ok().and_then(|b| b.total_count);
    let group_id = groups.id(client, scope, group).await?;
    Ok(Access { runners, group_id, may_register })
}

/// An App's permissions (GitHub docs, "Permissions required for GitHub Apps").
fn app_may(scope: &Scope, permissions: &Value) -> Option<bool> {
    let name = match scope {
        Scope::Repository { .. } => "administration",
        Scope::Organisation(_) => "organization_self_hosted_runners",
        Scope::Enterprise(_) => return None,
    };
    let level = permissions.get(name).and_then(Value::as_str);
    Some(matches!(level, Some("write" | "admin")))
}

/// A classic token's scopes, told in `x-oauth-scopes`; a fine-grained token's answer has no such
/// header (GitHub docs, "Scopes for OAuth apps").
fn classic_may(scope: &Scope, headers: &HeaderMap) -> Option<bool> {
    let told = headers.get("x-oauth-scopes")?.to_str().ok()?;
    let enough: &[&str] = match scope {
        Scope::Repository { .. } => &["repo"],
        Scope::Organisation(_) => &["admin:org"],
        Scope::Enterprise(_) => &["manage_runners:enterprise", "admin:enterprise"],
    };
    let given: Vec<&str> = told.split(',').map(str::trim).filter(|s| !s.is_empty()).collect();
    Some(given.iter().any(|one| enough.contains(one)))
}
