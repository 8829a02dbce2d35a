//! The calls of the actions service that scale sets need, one function each.
//!
//! Paths, bodies and answers are those of actions/scaleset and GARM. Left out are the calls that
//! nothing here would do with: changing a scale set (its labels are fixed at its creation), deleting
//! one (GitHub does, a week after its last use), asking for a single runner (a listing shows it).

use http::{Method, StatusCode};
use runner_fleet_actors::{
    name::RunnerName,
    port::{ErrorClass, PortError, Secret},
};
use serde_json::{Value, json};

use super::{
    admin::{Admin, Ask},
    exchange::Failed,
    wire::{self, Agent, ScaleSet, Session, Waiting},
};

const SETS: &str = "_apis/runtime/runnerscalesets";
const GROUPS: &str = "_apis/runtime/runnergroups";
const AGENTS: &str = "_apis/distributedtask/pools/0/agents";

/// The group of runners for which none is named, and of a repository's.
const FIRST_GROUP: u64 = 1;

fn unreadable(what: &str) -> Failed {
    let what = format!("{what}: GitHub's answer cannot be read");
    PortError::doubtful(ErrorClass::Transient, what).into()
}

fn ask(what: String, method: Method, path: String) -> Ask<'static> {
    Ask { what, method, path, query: &[], body: None, token: None }
}

/// The number of a runner group.
pub async fn group(admin: &Admin, name: Option<&str>) -> Result<u64, Failed> {
    let Some(name) = name.filter(|name| !name.eq_ignore_ascii_case("default")) else {
        return Ok(FIRST_GROUP);
    };
    let what = format!("look up runner group {name:?} of {}", admin.scope());
    let query = [("groupName", name)];
    let path = format!("{GROUPS}/");
    let answer = admin.call(Ask { query: &query, ..ask(what.clone(), Method::GET, path) }).await?;
    match wire::ids(&answer.body).ok_or_else(|| unreadable(&what))?.as_slice() {
        [id] => Ok(*id),
        found => {
            let what = format!("{what}: there are {}; correct the name", found.len());
            Err(PortError::certain(ErrorClass::Invalid, what).into())
        }
    }
}

/// The scale set of that name in a group, if there is one.
pub async fn find(admin: &Admin, group: u64, name: &str) -> Result<Option<ScaleSet>, Failed> {
    let what = format!("look up scale set {name:?} of {}", admin.scope());
    let group = group.to_string();
    let query = [("runnerGroupId", group.as_str()), ("name", name)];
    let answer = admin
        .call(Ask { query: &query, ..ask(what.clone(), Method::GET, SETS.to_owned()) })
        .await?;
    let mut found = wire::scale_sets(&answer.body).ok_or_else(|| unreadable(&what))?;
    match found.len() {
        0 | 1 => Ok(found.pop()),
        several => {
            let what = format!("{what}: there are {several} of that name; remove all but one");
            Err(PortError::certain(ErrorClass::Invalid, what).into())
        }
    }
}

/// Makes a scale set.
pub async fn create(
    admin: &Admin,
    group: u64,
    name: &str,
    labels: &[String],
) -> Result<ScaleSet, Failed> {
    let what = format!("make scale set {name:?} of {}", admin.scope());
    let labels: Vec<Value> =
        labels.iter().map(|label| json!({"name": label, "type": "System"})).collect();
    let body = json!({
        "name": name,
        "runnerGroupId": group,
        "labels": labels,
        "RunnerSetting": {"disableUpdate": true, "ephemeral": true},
    });
    let create = ask(what.clone(), Method::POST, SETS.to_owned());
    let answer = admin.call(Ask { body: Some(body), ..create }).await?;
    wire::scale_set(&answer.body).ok_or_else(|| unreadable(&what))
}

/// Opens the session of a scale set. `owner` is for people who look.
pub async fn open_session(admin: &Admin, set: u64, owner: &str) -> Result<Session, Failed> {
    let what = format!("open a session of scale set {set} of {}", admin.scope());
    let open = ask(what.clone(), Method::POST, format!("{SETS}/{set}/sessions"));
    let answer = admin.call(Ask { body: Some(json!({"ownerName": owner})), ..open }).await?;
    wire::session(&answer.body).ok_or_else(|| unreadable(&what))
}

/// Renews the token of a session.
pub async fn renew_session(admin: &Admin, set: u64, session: &str) -> Result<Session, Failed> {
    let what = format!("renew the session of scale set {set} of {}", admin.scope());
    let path = format!("{SETS}/{set}/sessions/{session}");
    let answer = admin.call(ask(what.clone(), Method::PATCH, path)).await?;
    wire::session(&answer.body).ok_or_else(|| unreadable(&what))
}

/// Deletes a session.
pub async fn delete_session(admin: &Admin, set: u64, session: &str) -> Result<(), Failed> {
    let what = format!("delete a session of scale set {set} of {}", admin.scope());
    let path = format!("{SETS}/{set}/sessions/{session}");
    admin.call(ask(what, Method::DELETE, path)).await.map(|_| ())
}

/// The jobs that wait to be acquired (GitHub Enterprise Server).
pub async fn acquirable(admin: &Admin, set: u64) -> Result<Vec<Waiting>, Failed> {
    let what = format!("list jobs for scale set {set} of {}", admin.scope());
    let path = format!("{SETS}/{set}/acquirablejobs");
    let answer = admin.call(ask(what.clone(), Method::GET, path)).await?;
    if answer.status == StatusCode::NO_CONTENT {
        return Ok(Vec::new());
    }
    wire::acquirable(&answer.body).ok_or_else(|| unreadable(&what))
}

/// Acquires jobs; which of them GitHub gives: another scale set may have been quicker. The token is the
/// queue's.
pub async fn acquire(
    admin: &Admin,
    set: u64,
    requests: &[u64],
    token: &Secret,
) -> Result<Vec<u64>, Failed> {
    let what = format!("acquire jobs for scale set {set} of {}", admin.scope());
    let acquire = ask(what, Method::POST, format!("{SETS}/{set}/acquirejobs"));
    let ask = Ask { body: Some(json!(requests)), token: Some(token), ..acquire };
    let answer = admin.call(ask).await?;
    // Room for one job too many is kept rather than taken twice.
    Ok(wire::ids(&answer.body).unwrap_or_else(|| requests.to_vec()))
}

/// Registers a runner of a scale set.
pub async fn jit_config(
    admin: &Admin,
    set: u64,
    name: &RunnerName,
) -> Result<(u64, Secret), Failed> {
    let what = format!("register runner {name} in scale set {set} of {}", admin.scope());
    let path = format!("{SETS}/{set}/generatejitconfig");
    let body = json!({"name": name.as_str(), "workFolder": "_work"});
    let make = ask(what.clone(), Method::POST, path);
    let answer = admin.call(Ask { body: Some(body), ..make }).await?;
    wire::jit_config(&answer.body).ok_or_else(|| unreadable(&what))
}

/// All runners of the scope, or those of one name; and how many of them have no readable name.
pub async fn agents(
    admin: &Admin,
    named: Option<&RunnerName>,
) -> Result<(Vec<Agent>, usize), Failed> {
    let what = match named {
        Some(name) => format!("look up runner {name} of {}", admin.scope()),
        None => format!("list runners of the scale sets of {}", admin.scope()),
    };
    let query = named.map(|name| ("agentName", name.as_str()));
    let list = ask(what.clone(), Method::GET, AGENTS.to_owned());
    let answer = admin.call(Ask { query: query.as_slice(), ..list }).await?;
    wire::agents(&answer.body).ok_or_else(|| unreadable(&what))
}

/// Removes a runner.
pub async fn remove_agent(admin: &Admin, name: &RunnerName, id: u64) -> Result<(), Failed> {
    let what = format!("deregister runner {name} ({id}) of {}", admin.scope());
    admin.call(ask(what, Method::DELETE, format!("{AGENTS}/{id}"))).await.map(|_| ())
}
