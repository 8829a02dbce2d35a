//! Cordons: GitHub is told to give a runner no more jobs, while its registration stands.
//!
//! A job goes to a runner that has all labels that it asks for and is in a group that its repository may use. So
//! either the custom labels are taken off, or, where the configuration names a group that no repository may use
//! and the scope has groups, the runner is moved there. Either is one call.
//!
//! In place of the labels one [`MARK`] is put, by the call that sets them (`PUT …/labels` removes all custom labels
//! that are not named): what GitHub lists then shows the cordon to a later process and to people, where a runner
//! without labels (`DELETE …/labels`) could be anything. Labels that GitHub itself applied are read-only and
//! stay: a job that asks for no others can still come, and where none of the pool's labels went there is no
//! cordon.

use http::{Method, StatusCode};
use runner_fleet_actors::{
    name::{RegistrationId, RunnerName, Scope},
    port::{ErrorClass, PortError, RegisterOrder},
};
use serde_json::json;

use super::{
    budget::CallKind,
    client::{Call, Client},
    groups::Groups,
    reading::{needed, said},
    route,
    transport::Answer,
    wire::{self, Label},
};

/// The one custom label of a cordoned runner.
pub const MARK: &str = "runner-fleet-cordoned";

/// By what cordons are put up and taken off.
#[derive(Clone, Copy)]
pub(super) struct Keeper<'a> {
    pub(super) client: &'a Client,
    pub(super) groups: &'a Groups,
    /// The group that no repository may use, where the configuration names one.
    pub(super) closed: Option<&'a str>,
}

/// Keeps jobs off a runner; see the port's contract.
pub(super) async fn cordon(
    keeper: Keeper<'_>,
    order: &RegisterOrder,
    id: RegistrationId,
) -> Result<(), PortError> {
    let Keeper { client, closed, .. } = keeper;
    let RegisterOrder { name, scope, .. } = order;
    let kind = CallKind::Deregister;
    if let Some(group) = closed.filter(|_| has_groups(scope)) {
        let what = format!("move runner {name} ({id}) in {scope} to group {group:?}");
        return move_to(keeper, (kind, what), order, id, Some(group)).await;
    }
    let what = format!("take the labels off runner {name} ({id}) in {scope}");
    let call = set(what, kind, scope, id, &[MARK.to_owned()]);
    let left = labels(client, &call, name).await?;
    // Of a pool that left the configuration the labels are not known.
    let stays = |label: &String| left.iter().any(|one| one.is(label));
    if !order.labels.is_empty() && order.labels.iter().all(stays) {
        return Err(call.failed(ErrorClass::Invalid, "none of its labels went: all are read-only"));
    }
    Ok(())
}

/// Gives a runner jobs again; see the port's contract. One of a pool that left the configuration, whose labels are
/// not known any more, is on its way out anyway.
pub(super) async fn uncordon(
    keeper: Keeper<'_>,
    order: &RegisterOrder,
    id: RegistrationId,
) -> Result<(), PortError> {
    let Keeper { client, closed, .. } = keeper;
    let RegisterOrder { name, scope, group, .. } = order;
    if order.labels.is_empty() {
        return Ok(());
    }
    // A runner that takes jobs again is as good as a new one.
    let kind = CallKind::Launch;
    if closed.is_some() && has_groups(scope) {
        let what = format!("move runner {name} ({id}) in {scope} back to its group");
        move_to(keeper, (kind, what), order, id, group.as_deref()).await?;
    }
    let what = format!("look up the labels of runner {name} ({id}) in {scope}");
    let call = Call::new(what, kind, scope, Method::GET, route::labels(scope, id));
    let there = labels(client, &call, name).await?;
    if !there.iter().any(|label| label.is(MARK)) {
        return Ok(());
    }
    // Those that GitHub applied are there still, and are not ours to set.
    let stays = |label: &&String| there.iter().any(|one| one.read_only && one.is(label));
    let ours: Vec<_> = order.labels.iter().filter(|label| !stays(label)).cloned().collect();
    let what = format!("put the labels of runner {name} ({id}) in {scope} back");
    labels(client, &set(what, kind, scope, id, &ours), name).await.map(drop)
}

/// Whether runners of that scope are in groups.
pub(super) fn has_groups(scope: &Scope) -> bool {
    !matches!(scope, Scope::Repository { .. })
}

fn set<'a>(
    what: String,
    kind: CallKind,
    scope: &'a Scope,
    id: RegistrationId,
    labels: &[String],
) -> Call<'a> {
    let mut call = Call::new(what, kind, scope, Method::PUT, route::labels(scope, id));
    call.body = Some(json!({ "labels": labels }));
    call
}

/// Makes a call that answers with the labels of a runner.
async fn labels(
    client: &Client,
    call: &Call<'_>,
    name: &RunnerName,
) -> Result<Vec<Label>, PortError> {
    let answer = client.call(call).await?;
    if answer.status != StatusCode::OK {
        return Err(refused(call, &answer, &format!("runner {name} is gone, or this GitHub")));
    }
    wire::labels(&answer.body).ok_or_else(|| call.lost("GitHub's answer is no list of labels"))
}

async fn move_to(
    Keeper { client, groups, .. }: Keeper<'_>,
    (kind, what): (CallKind, String),
    order: &RegisterOrder,
    id: RegistrationId,
    group: Option<&str>,
) -> Result<(), PortError> {
    let scope = &order.scope;
    let group = groups.id(client, scope, group).await?;
    let call = Call::new(what, kind, scope, Method::PUT, route::in_group(scope, group, id));
    let answer = client.call(&call).await?;
    if answer.status == StatusCode::NO_CONTENT {
        return Ok(());
    }
    if answer.status == StatusCode::NOT_FOUND {
        groups.forget(scope);
    }
    Err(refused(&call, &answer, "runner or group is gone, or this GitHub"))
}

fn refused(call: &Call<'_>, answer: &Answer, gone: &str) -> PortError {
    let said = said(answer);
    let why = match answer.status {
        StatusCode::NOT_FOUND => {
            let hint = needed(call.scope, &answer.headers);
            format!("{said}; {gone} does not have that call; {hint}")
        }
        _ => said,
    };
    call.failed(ErrorClass::Invalid, &why)
}
