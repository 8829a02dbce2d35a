//! What the actions service answers when nothing is wrong.

use runner_fleet_actors::name::Scope;
use serde_json::{Value, json};

use super::{
    super::{
        Shared,
        answers::{Query, Reply},
        world::NotRemoved,
    },
    SetCall, Target,
};

/// An error in the actions service's form.
fn refused(status: u16, kind: &str, message: &str) -> Reply {
    let name = format!("GitHub.DistributedTask.WebApi.{kind}, GitHub.DistributedTask.WebApi");
    Reply::new(status, json!({"typeName": name, "typeKey": kind, "message": message}))
}

pub(super) fn unauthorized() -> Reply {
    refused(401, "TokenExpiredException", "the token is not valid")
}

fn gone(what: &str) -> Reply {
    refused(404, "RunnerAdminException", what)
}

fn empty(status: u16) -> Reply {
    Reply { status, body: None, headers: Vec::new() }
}

fn list(value: Vec<Value>) -> Reply {
    Reply::new(200, json!({"count": value.len(), "value": value}))
}

/// Makes a registration token: the REST side's part of a connection.
pub(crate) fn registration_token(shared: &Shared, scope: &Scope) -> Reply {
    let token = shared.tokens().registration(scope);
    let expires = chrono::Utc::now() + std::time::Duration::from_secs(3600);
    Reply::new(201, json!({"token": token, "expires_at": expires.to_rfc3339()}))
}

pub(super) fn connect(shared: &Shared, token: &str, body: Option<&Value>) -> Reply {
    let Some(scope) = shared.tokens().registers(token) else { return unauthorized() };
    let wanted = format!("{}/{scope}", shared.url);
    let given = body.and_then(|body| body.get("url")).and_then(Value::as_str);
    if given.map(|url| url.trim_end_matches('/')) != Some(wanted.as_str()) {
        return Reply::error(404, "Not Found");
    }
    let admin = shared.tokens().admin(&scope, shared.options.scale_sets.token_life);
    let url = format!("{}/_actions/tenant/?tenant=1", shared.url);
    Reply::new(200, json!({"url": url, "token": admin}))
}

pub(super) fn of_session(shared: &Shared, target: &Target, body: Option<&Value>) -> Reply {
    let mut world = shared.world();
    if target.call == SetCall::Acknowledge {
        let known = target.other.parse().is_ok_and(|id| world.acknowledge(target.id, id));
        return if known { empty(204) } else { gone("no such message") };
    }
    let requests: Vec<u64> = body
        .and_then(Value::as_array)
        .map(|ids| ids.iter().filter_map(Value::as_u64).collect())
        .unwrap_or_default();
    let got = world.take_offered(target.id, &requests);
    Reply::new(200, json!({"count": got.len(), "value": got}))
}

pub(super) fn of_admin(
    shared: &Shared,
    target: &Target,
    scope: &Scope,
    query: &Query,
    body: Option<&Value>,
) -> Reply {
    let text = |key: &str| body.and_then(|body| body.get(key)).and_then(Value::as_str);
    let id = target.id;
    match target.call {
        SetCall::Group => {
            let world = shared.world();
            let named = query.get("groupName");
            let groups = world.groups.iter().filter(|group| named.is_none_or(|n| *n == group.name));
            let shown = |group: &super::super::Group| json!({"id": group.id, "name": group.name, "isDefaultGroup": group.default});
            return list(groups.map(shown).collect());
        }
        SetCall::Find => {
            let world = shared.world();
            let group = query.get("runnerGroupId").and_then(|id| id.parse().ok()).unwrap_or(1);
            let name = query.get("name").map(String::as_str).unwrap_or_default();
            let found = world.find_set(scope, group, name);
            return list(found.map(|set| world.set_shown(set)).into_iter().collect());
        }
        SetCall::Create => return create(shared, scope, body),
        SetCall::Agents => return agents(shared, scope, query.get("agentName")),
        SetCall::RemoveAgent => {
            let lies = shared.faults().lies.clone();
            return match shared.world().deregister(scope, id, &lies) {
                Ok(()) => empty(204),
                Err(NotRemoved::Unknown) => {
                    refused(404, "AgentNotFoundException", "no such runner")
                }
                Err(NotRemoved::Busy) => {
                    refused(409, "JobStillRunningException", "the runner has a job")
                }
            };
        }
        _ => {}
    }
    if shared.world().set_in(scope, id).is_none() {
        return gone("no runner scale set of that identifier");
    }
    match target.call {
        SetCall::JitConfig => {
            let mut world = shared.world();
            let name = text("name").unwrap_or_default();
            let Some(runner) = world.register_in_set(id, name) else {
                return refused(409, "AgentExistsException", "a runner of that name exists");
            };
            let config = world.jit_config(runner);
            let runner = json!({"id": runner, "name": name, "runnerScaleSetId": id});
            Reply::new(200, json!({"runner": runner, "encodedJITConfig": config}))
        }
        SetCall::Acquirable => {
            let jobs = shared.world().offered(id);
            if jobs.is_empty() { empty(204) } else { list(jobs) }
        }
        SetCall::OpenSession => {
            let owner = text("ownerName").unwrap_or_default();
            let lapses = shared.options.scale_sets.session_lapses;
            let opened = shared.world().open_session(id, owner, lapses);
            match opened {
                Ok(session) => session_shown(shared, id, &session, owner),
                Err(other) => refused(
                    409,
                    "RunnerScaleSetSessionConflictException",
                    &format!(
                        "The actions runner scale set already has an active session for owner {other}."
                    ),
                ),
            }
        }
        SetCall::RenewSession if shared.world().has_session(id, &target.other) => {
            session_shown(shared, id, &target.other, "")
        }
        SetCall::RenewSession => gone("session ID that doesn't exist"),
        SetCall::DeleteSession if shared.world().close_session(id, &target.other) => empty(204),
        SetCall::DeleteSession => {
            refused(400, "RunnerScaleSetSessionExpiredException", "the session has expired")
        }
        _ => Reply::error(404, "Not Found"),
    }
}

fn create(shared: &Shared, scope: &Scope, body: Option<&Value>) -> Reply {
    let invalid = |why: &str| refused(400, "RunnerScaleSetInvalidException", why);
    let field = |key: &str| body.and_then(|body| body.get(key));
    let name = field("name").and_then(Value::as_str).unwrap_or_default();
    let group = field("runnerGroupId").and_then(Value::as_u64).unwrap_or_default();
    let labels: Vec<String> = field("labels")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|label| label.get("name")?.as_str().map(str::to_owned))
        .collect();
    let mut world = shared.world();
    if name.is_empty() || labels.is_empty() {
        return invalid("name and labels are required");
    }
    if !world.groups.iter().any(|known| known.id == group) {
        return invalid("no such runner group");
    }
    match world.add_set(scope, name, group, &labels) {
        Some(id) => Reply::new(200, world.set_shown(id)),
        None => invalid("a runner scale set of that name exists"),
    }
}

fn agents(shared: &Shared, scope: &Scope, named: Option<&String>) -> Reply {
    let lies = shared.faults().lies.clone();
    let world = shared.world();
    let runners = world.of(scope).filter(|one| named.is_none_or(|name| *name == one.name));
    let shown = runners.map(|one| {
        let mut shown = one.shown(&lies);
        shown["runnerScaleSetId"] = json!(one.set_of.unwrap_or(0));
        shown["enabled"] = json!(true);
        shown
    });
    list(shown.collect())
}

fn session_shown(shared: &Shared, set: u64, session: &str, owner: &str) -> Reply {
    let token = shared.tokens().queue(set, session, shared.options.scale_sets.token_life);
    let shown = shared.world().set_shown(set);
    Reply::new(
        200,
        json!({
            "sessionId": session,
            "ownerName": owner,
            "messageQueueUrl": format!("{}/_queue/{set}?session={session}", shared.url),
            "messageQueueAccessToken": token,
            "statistics": shown["statistics"],
            "runnerScaleSet": shown,
        }),
    )
}
