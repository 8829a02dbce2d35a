//! Nova: creates, listings, deletions, and what a provider asks beside them.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, Request, State as Shared},
    http::{HeaderMap, HeaderValue, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chrono::{DateTime, Utc};
use rand::Rng;
use serde_json::{Value, json};

use super::{
    cloud::{Cloud, Order, Server, State, new_id},
    faults::Changes,
    http::{Here, Refusal, empty, paged, refusal},
};

/// The newest microversion that is understood.
const NEWEST: (u32, u32) = (2, 96);
const USER_DATA_MAX: usize = 65_535;
const VERSION: &str = "openstack-api-version";

pub(super) fn routes(cloud: &Arc<Cloud>) -> Router<Arc<Cloud>> {
    Router::new()
        .route("/compute/v2.1/servers", get(list).post(create))
        .route("/compute/v2.1/servers/detail", get(list))
        .route("/compute/v2.1/servers/{id}", get(show).delete(delete))
        .route("/compute/v2.1/servers/{id}/action", post(act))
        .route("/compute/v2.1/flavors", get(flavors))
        .route("/compute/v2.1/limits", get(limits))
        .route("/compute/v2.1/os-keypairs", get(keypairs))
        .route("/compute/v2.1/os-availability-zone", get(zones))
        .route("/compute", get(versions))
        .route("/compute/{*path}", any(elsewhere))
        .layer(from_fn_with_state(cloud.clone(), name_version))
}

/// Every answer names the microversion that it is of.
async fn name_version(Shared(cloud): Here, request: Request, next: Next) -> Response {
    let versioned = request.uri().path().starts_with("/compute/v2.1/");
    let dropped = cloud.with(|state| state.faults.drop_versions);
    let asked = request.headers().get(VERSION).filter(|_| !dropped).cloned();
    let mut response = next.run(request).await;
    if versioned {
        let version = asked.unwrap_or(HeaderValue::from_static("compute 2.1"));
        response.headers_mut().insert(VERSION, version);
    }
    response
}

/// What Nova has below an endpoint without a version.
async fn versions() -> Response {
    let of = |id: &str, version: &str| json!({ "id": id, "version": version, "links": [] });
    let newest = format!("{}.{}", NEWEST.0, NEWEST.1);
    Json(json!({ "versions": [of("v2.0", ""), of("v2.1", &newest)] })).into_response()
}

/// Paths without a version are a question; unknown ones below v2.1 are not there.
async fn elsewhere(Path(path): Path<String>) -> Response {
    if path.starts_with("v2") {
        return refusal(404, "itemNotFound", "The resource could not be found.").into_response();
    }
    let choices = json!({ "choices": [{ "id": "v2.1", "status": "CURRENT", "links": [] }] });
    (StatusCode::MULTIPLE_CHOICES, Json(choices)).into_response()
}

fn bad(message: &str) -> Refusal {
    refusal(400, "badRequest", message)
}

/// The microversion of a call: 2.1 where it names none.
fn microversion(headers: &HeaderMap) -> Result<(u32, u32), Refusal> {
    let new = headers.get("openstack-api-version").and_then(|v| v.to_str().ok());
    let new = new.and_then(|text| text.strip_prefix("compute "));
    let old = headers.get("x-openstack-nova-api-version").and_then(|v| v.to_str().ok());
    let Some(text) = new.or(old) else { return Ok((2, 1)) };
    let parsed = text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parsed {
        Some(version) if (2, 1) <= version && version <= NEWEST => Ok(version),
        Some(_) => {
            let what = format!(
                "Version {text} is not supported by the API. Minimum is 2.1 and \
                                maximum is {}.{}.",
                NEWEST.0, NEWEST.1
            );
            Err(refusal(406, "computeFault", what))
        }
        None => Err(bad("API Version String is of invalid format.")),
    }
}

/// The microversion that is spoken, which may not be the one that was asked for.
fn spoken(cloud: &Cloud, headers: &HeaderMap) -> Result<(u32, u32), Refusal> {
    let dropped = cloud.with(|state| state.faults.drop_versions);
    if dropped { Ok((2, 1)) } else { microversion(headers) }
}

fn element(vm: &Server, version: (u32, u32)) -> Value {
    let addresses = if vm.status == "BUILD" || vm.status == "ERROR" {
        json!({})
    } else {
        json!({ "demo-net": [{ "addr": vm.address, "version": 4, "OS-EXT-IPS:type": "fixed" }] })
    };
    let mut server = json!({
        "id": vm.id,
        "name": vm.name,
        "status": if vm.hidden { "SOFT_DELETED" } else { vm.status },
        "OS-EXT-STS:task_state": vm.task,
        "OS-EXT-AZ:availability_zone": if vm.status == "BUILD" { "" } else { "nova" },
        "metadata": vm.metadata,
        "created": vm.created.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        // As Nova: the present time where nothing was changed yet.
        "updated": vm.updated.unwrap_or_else(Utc::now).format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "addresses": addresses,
        "tenant_id": "demo",
        "image": { "id": vm.image },
        "networks": vm.network,
        "config_drive": "",
    });
    if version >= (2, 26) {
        server["tags"] = json!(vm.tags);
    }
    if let Some(fault) = &vm.fault {
        server["fault"] = json!({ "code": 500, "message": fault });
    }
    if let (Some(Value::Object(odd)), Value::Object(fields)) = (&vm.distortion, &mut server) {
        fields.extend(odd.clone());
    }
    server
}

/// Every VM as a listing shows it, newest first.
pub(super) fn all(state: &State) -> Vec<Value> {
    shown(state).map(|vm| element(vm, NEWEST)).collect()
}

/// The VMs that changed at that time or later, deleted ones among them.
fn changed(state: &State, since: DateTime<Utc>) -> impl Iterator<Item = &Server> {
    let all = state.vms.iter().chain(&state.ended).rev();
    all.filter(move |vm| vm.updated.is_some_and(|at| at.timestamp() >= since.timestamp()))
}

/// The VMs that a project sees, newest first.
fn shown(state: &State) -> impl Iterator<Item = &Server> {
    state.vms.iter().rev().filter(|vm| !vm.hidden)
}

/// Nova takes the name as a regular expression; anchors and plain text is all that is understood here.
fn name_fits(wanted: &str, name: &str) -> bool {
    let start = wanted.strip_prefix('^');
    let text = start.unwrap_or(wanted);
    match (start.is_some(), text.strip_suffix('$')) {
        (true, Some(text)) => name == text,
        (true, None) => name.starts_with(text),
        (false, Some(text)) => name.ends_with(text),
        (false, None) => name.contains(text),
    }
}

async fn list(
    Shared(cloud): Here,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Refusal> {
    let version = spoken(&cloud, &headers)?;
    let base = cloud.base.clone();
    let page_limit = cloud.options.page_limit;
    cloud.with(|state| {
        if state.faults.fail_later_pages && query.contains_key("marker") {
            return Err(refusal(500, "computeFault", "Unexpected API Error."));
        }
        let since = match query.get("changes-since").map(|text| text.parse::<DateTime<Utc>>()) {
            Some(Err(_)) => return Err(bad("Invalid input for query parameters changes-since.")),
            Some(Ok(since)) => Some(since),
            None => None,
        };
        let how = state.faults.changes.filter(|_| since.is_some());
        if let Some(Changes::Refused(status)) = how {
            return Err(refusal(status, "badRequest", "Additional properties are not allowed."));
        }
        let since = since.filter(|_| how != Some(Changes::All));
        let mut elements: Vec<Value> = match (&state.faults.frozen, since) {
            (Some(frozen), _) => frozen.clone(),
            (None, Some(since)) => changed(state, since).map(|vm| element(vm, version)).collect(),
            (None, None) => shown(state).map(|vm| element(vm, version)).collect(),
        };
        match how {
            Some(Changes::Nothing) => elements.clear(),
            Some(Changes::Without(share)) => elements.retain(|_| !state.rng.random_bool(share)),
            _ => {}
        }
        // `metadata` is no search option of ordinary users: Nova drops it and shows everything.
        elements.retain(|server| {
            let name = server["name"].as_str().unwrap_or_default();
            let tags = server["tags"].as_array();
            // Where a distortion hides the tags, the database behind them still knows.
            let tagged =
                |tag: &str| tags.is_none_or(|tags| tags.iter().any(|t| t.as_str() == Some(tag)));
            query.get("name").is_none_or(|wanted| name_fits(wanted, name))
                && query.get("status").is_none_or(|status| server["status"] == **status)
                && (version < (2, 26)
                    || query.get("tags").is_none_or(|tags| tags.split(',').all(tagged)))
        });
        let hidden = state.faults.hidden_rate;
        elements.retain(|_| !state.rng.random_bool(hidden));
        page(elements, &query, page_limit, &base)
    })
}

fn page(
    mut elements: Vec<Value>,
    query: &HashMap<String, String>,
    page_limit: usize,
    base: &str,
) -> Result<Response, Refusal> {
    if let Some(marker) = query.get("marker") {
        let Some(at) = elements.iter().position(|s| s["id"] == **marker) else {
            return Err(bad(&format!("marker [{marker}] not found")));
        };
        elements.drain(..=at);
    }
    let asked = query.get("limit").map(|text| text.parse::<usize>());
    let limit = match asked {
        Some(Err(_)) => return Err(bad("Invalid input for query parameters limit.")),
        Some(Ok(0)) | None => page_limit,
        Some(Ok(limit)) => limit.min(page_limit),
    };
    elements.truncate(limit);
    let mut body = json!({ "servers": elements });
    if elements.len() == limit
        && let Some(last) = elements.last().and_then(|s| s["id"].as_str())
    {
        let mut again = url::form_urlencoded::Serializer::new(String::new());
        for (key, value) in query.iter().filter(|(key, _)| *key != "marker") {
            again.append_pair(key, value);
        }
        again.append_pair("marker", last);
        let href = format!("{base}/compute/v2.1/servers/detail?{}", again.finish());
        body["servers_links"] = json!([{ "rel": "next", "href": href }]);
    }
    Ok(Json(body).into_response())
}

async fn show(
    Shared(cloud): Here,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let version = spoken(&cloud, &headers)?;
    cloud.with(|state| match state.vm(&id) {
        Some(vm) if !vm.hidden => {
            Ok(Json(json!({ "server": element(vm, version) })).into_response())
        }
        Some(_) | None => Err(gone(&id)),
    })
}

fn gone(id: &str) -> Refusal {
    refusal(404, "itemNotFound", format!("Instance {id} could not be found."))
}

async fn create(Shared(cloud): Here, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let version = spoken(&cloud, &headers)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let taken = cloud.with(|state| {
        let order = checked(state, &body["server"], version)?;
        let used = state.vms.len();
        let quota = state.faults.quota;
        if used >= quota as usize {
            let what = format!(
                "Quota exceeded for instances: Requested 1, but already used {used} of {quota} \
                 instances"
            );
            return Err(refusal(403, "forbidden", what));
        }
        Ok((order, state.faults.next_lost_create()))
    });
    let (order, lost) = taken?;
    let id = new_id();
    cloud.create(order, id.clone(), lost.flatten());
    if lost.is_some() {
        return Err(refusal(503, "computeFault", "The server is currently unavailable."));
    }
    let reply = json!({ "server": { "id": id, "adminPass": "not-for-the-log", "links": [] } });
    Ok((StatusCode::ACCEPTED, Json(reply)).into_response())
}

fn checked(state: &State, server: &Value, version: (u32, u32)) -> Result<Order, Refusal> {
    let text = |key: &str| server[key].as_str().unwrap_or_default().to_owned();
    let encoded = text("user_data");
    if state.faults.echo_user_data || encoded.len() > USER_DATA_MAX {
        let what = format!(
            "Invalid input for field/attribute user_data. Value: {encoded}. '{encoded}' is too long"
        );
        return Err(bad(&what));
    }
    let Ok(user_data) = BASE64.decode(&encoded) else {
        return Err(bad("Invalid input for field/attribute user_data. is not a 'base64'"));
    };
    let name = text("name");
    if name.is_empty() || name.len() > 255 {
        return Err(bad("Invalid input for field/attribute name."));
    }
    if version < (2, 52) && !server["tags"].is_null() {
        return Err(bad("Additional properties are not allowed ('tags' was unexpected)"));
    }
    let tags: Vec<String> = serde_json::from_value(server["tags"].clone()).unwrap_or_default();
    if tags.len() > 50 || tags.iter().any(|t| t.len() > 60 || t.contains(['/', ','])) {
        return Err(bad("Invalid input for field/attribute tags."));
    }
    let metadata: std::collections::BTreeMap<String, String> =
        serde_json::from_value(server["metadata"].clone()).unwrap_or_default();
    if metadata.len() > 128 || metadata.values().any(|v| v.len() > 255) {
        return Err(bad("Invalid input for field/attribute metadata."));
    }
    let (image, flavor) = (text("imageRef"), text("flavorRef"));
    match state.images.iter().find(|i| i.id == image) {
        None => return Err(bad("Can not find requested image")),
        Some(found) if found.status != "active" => {
            return Err(bad(&format!("Image {image} is not active.")));
        }
        Some(_) => {}
    }
    if !state.flavors.iter().any(|f| f.id == flavor) {
        return Err(bad("Invalid flavorRef provided."));
    }
    let network = match &server["networks"] {
        Value::Null if version >= (2, 37) => {
            return Err(bad("Invalid input: 'networks' is a required property"));
        }
        Value::Array(list) => {
            let first = list.first().and_then(|n| n["uuid"].as_str());
            first.unwrap_or_default().to_owned()
        }
        _ if state.networks.len() == 1 => state.networks[0].id.clone(),
        _ => {
            let what = "Multiple possible networks found, use a Network ID to be more specific.";
            return Err(refusal(409, "conflictingRequest", what));
        }
    };
    let forbidden = state.faults.forbidden_network.as_ref();
    if forbidden
        .is_some_and(|name| state.networks.iter().any(|n| n.id == network && n.name == *name))
    {
        let what =
            format!("It is not allowed to create an interface on external network {network}");
        return Err(refusal(403, "forbidden", what));
    }
    if !state.networks.iter().any(|n| n.id == network) {
        return Err(bad(&format!("Network {network} could not be found.")));
    }
    for group in server["security_groups"].as_array().into_iter().flatten() {
        if group["name"] != "default" {
            return Err(bad(&format!("Security group {} not found.", group["name"])));
        }
    }
    if !server["key_name"].is_null() {
        return Err(bad("Invalid key_name provided."));
    }
    if server["availability_zone"].as_str().is_some_and(|zone| zone != "nova") {
        return Err(bad("The requested availability zone is not available"));
    }
    let user_data = String::from_utf8_lossy(&user_data).into_owned();
    Ok(Order { name, tags, metadata, image, flavor, network, user_data })
}

async fn delete(Shared(cloud): Here, Path(id): Path<String>) -> Result<Response, Refusal> {
    end(&cloud, id, false)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn act(
    Shared(cloud): Here,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Response, Refusal> {
    if body.get("forceDelete").is_none() {
        return Err(bad("There is no such action"));
    }
    if cloud.with(|state| state.faults.forbid_force) {
        let what = "Policy doesn't allow os_compute_api:os-deferred-delete:force to be performed.";
        return Err(refusal(403, "forbidden", what));
    }
    if cloud.with(|state| state.faults.break_force) {
        return Err(refusal(500, "computeFault", "Unexpected API Error."));
    }
    end(&cloud, id, true)?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// Ends a VM; by force, it leaves nothing behind.
fn end(cloud: &Arc<Cloud>, id: String, force: bool) -> Result<(), Refusal> {
    let begun = cloud.with(|state| {
        let hang = state.faults.hang_deletes;
        let soft = state.faults.soft_deletes && !force;
        let busy = state.faults.conflicts > 0;
        state.faults.conflicts = state.faults.conflicts.saturating_sub(1);
        let updated = Some(state.host_time(&id));
        let Some(vm) = state.vm(&id).filter(|vm| force || !vm.hidden) else {
            return Err(gone(&id));
        };
        if busy {
            let what =
                format!("Cannot 'delete' instance {id} while it is in task_state image_uploading");
            return Err(refusal(409, "conflictingRequest", what));
        }
        if vm.locked {
            return Err(refusal(409, "conflictingRequest", format!("Instance {id} is locked")));
        }
        if soft {
            vm.hidden = true;
            vm.updated = updated;
            return Ok(false);
        }
        let first = vm.task != Some("deleting");
        if first {
            vm.updated = updated;
        }
        vm.task = Some("deleting");
        Ok(first && !hang)
    });
    if begun? {
        cloud.finish_delete(id);
    }
    Ok(())
}

async fn flavors(
    Shared(cloud): Here,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Refusal> {
    let limit = cloud.options.page_limit;
    cloud.with(|state| {
        let list: Vec<Value> =
            state.flavors.iter().map(|f| json!({ "id": f.id, "name": f.name })).collect();
        let page = paged("flavors", list, &query, limit)?;
        Ok(Json(page).into_response())
    })
}

async fn limits(Shared(cloud): Here) -> Response {
    let (used, quota) = cloud.with(|state| (state.vms.len(), state.faults.quota));
    let absolute = json!({
        "maxTotalInstances": quota, "totalInstancesUsed": used,
        "maxTotalCores": -1, "totalCoresUsed": used,
        "maxTotalRAMSize": -1, "totalRAMUsed": used * 512,
    });
    Json(json!({ "limits": { "rate": [], "absolute": absolute } })).into_response()
}

async fn keypairs() -> Response {
    Json(json!({ "keypairs": [] })).into_response()
}

async fn zones() -> Response {
    let zone = json!({ "zoneName": "nova", "zoneState": { "available": true } });
    Json(json!({ "availabilityZoneInfo": [zone] })).into_response()
}
