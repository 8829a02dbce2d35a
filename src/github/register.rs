//! Registrations: made once by name, removed by number or name.
//!
//! A JIT config is handed out once. Where its answer was lost, the registration stands and nobody
//! can use it; the next try of the same name meets 409, removes it and registers anew. So the name
//! is the idempotency key, and nothing has to be remembered about doubtful calls.

use http::{Method, StatusCode};
use runner_fleet_actors::{
    name::{RegistrationId, RunnerName, Scope},
    port::{ErrorClass, PortError, RegisterOrder, Registered},
};
use serde_json::json;

use super::{
    budget::CallKind,
    client::{Call, Client},
    groups::Groups,
    reading::{needed, said},
    route,
    transport::Answer,
    wire,
};

/// GitHub takes 1 to 100 labels (its REST description of `generate-jitconfig`).
const LABELS_MAX: usize = 100;

/// Registers a runner; see the port's contract.
pub async fn register(
    client: &Client,
    groups: &Groups,
    order: &RegisterOrder,
) -> Result<Registered, PortError> {
    let RegisterOrder { name, scope, group, labels } = order;
    let what = format!("register runner {name} in {scope}");
    if labels.is_empty() || labels.len() > LABELS_MAX {
        let why = format!("{what}: it has {} labels; give 1 to {LABELS_MAX}", labels.len());
        return Err(PortError::certain(ErrorClass::Invalid, why));
    }
    let group_id = groups.id(client, scope, group.as_deref()).await?;
    let mut call = Call::new(what, CallKind::Launch, scope, Method::POST, route::jit_config(scope));
    call.body = Some(json!({
        "name": name.as_str(),
        "runner_group_id": group_id,
        "labels": labels,
        "work_folder": "_work",
    }));
    let mut answer = client.call(&call).await?;
    if answer.status == StatusCode::CONFLICT {
        tracing::info!(runner = %name, %scope, "name is registered already, removing that first");
        remove_named(client, CallKind::Launch, scope, name).await?;
        answer = client.call(&call).await?;
    }
    match answer.status {
        StatusCode::CREATED | StatusCode::OK => wire::registered(&answer.body)
            .ok_or_else(|| call.lost("GitHub's answer holds no JIT config")),
        StatusCode::CONFLICT => Err(call.failed(
            ErrorClass::Transient,
            &format!("{}; the name is taken although it was removed", said(&answer)),
        )),
        status => {
            if matches!(status, StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY) {
                groups.forget(scope);
            }
            Err(refused(&call, &answer))
        }
    }
}

fn refused(call: &Call<'_>, answer: &Answer) -> PortError {
    let said = said(answer);
    if answer.status == StatusCode::NOT_FOUND {
        let hint = needed(call.scope, &answer.headers);
        let why = format!("{said}; check that {} and the runner group exist; {hint}", call.scope);
        return call.failed(ErrorClass::Invalid, &why);
    }
    // "Runner group 1 has reached max limit of 10000 runners": the status alone does not tell it
    // from a malformed request.
    if answer.status == StatusCode::UNPROCESSABLE_ENTITY && said.contains("max limit") {
        let why = format!("{said}; remove runners of {} that are offline", call.scope);
        return call.failed(ErrorClass::Quota, &why);
    }
    call.failed(ErrorClass::Invalid, &format!("{said}; check labels and runner group"))
}

/// Removes a registration; see the port's contract.
pub async fn deregister(
    client: &Client,
    scope: &Scope,
    name: &RunnerName,
    id: Option<RegistrationId>,
) -> Result<(), PortError> {
    match id {
        Some(id) => remove(client, CallKind::Deregister, scope, name, id).await,
        None => remove_named(client, CallKind::Deregister, scope, name).await,
    }
}

async fn remove_named(
    client: &Client,
    kind: CallKind,
    scope: &Scope,
    name: &RunnerName,
) -> Result<(), PortError> {
    let call = Call::new(
        format!("look up runner {name} in {scope}"),
        kind,
        scope,
        Method::GET,
        route::runners_named(scope, name),
    );
    let answer = client.call(&call).await?;
    match answer.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => {
            let hint = needed(scope, &answer.headers);
            let why = format!("{}; check that {scope} exists; {hint}", said(&answer));
            return Err(call.failed(ErrorClass::Invalid, &why));
        }
        _ => return Err(call.failed(ErrorClass::Invalid, &said(&answer))),
    }
    let Some(ids) = wire::ids_named(&answer.body, name) else {
        return Err(call.lost("GitHub's answer is no list of runners"));
    };
    for id in ids {
        remove(client, kind, scope, name, id).await?;
    }
    Ok(())
}

async fn remove(
    client: &Client,
    kind: CallKind,
    scope: &Scope,
    name: &RunnerName,
    id: RegistrationId,
) -> Result<(), PortError> {
    let call = Call::new(
        format!("deregister runner {name} ({id}) in {scope}"),
        kind,
        scope,
        Method::DELETE,
        route::runner(scope, id),
    );
    let answer = client.call(&call).await?;
    match answer.status {
        StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::NOT_FOUND => Ok(()),
        StatusCode::UNPROCESSABLE_ENTITY => Err(call.failed(ErrorClass::Busy, &said(&answer))),
        _ => Err(call.failed(ErrorClass::Invalid, &said(&answer))),
    }
}
