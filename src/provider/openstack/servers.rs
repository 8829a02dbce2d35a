//! Nova's calls on VMs, one function each: create, list, look up, delete.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use runner_fleet_actors::{
    name::{FleetId, RunnerName, VmId},
    port::{ErrorClass, LaunchOrder, Listing, PortError, Recent, Time, Vm, VmStatus},
};
use serde_json::{Value, json};

use super::{
    answer::{Answer, Purpose},
    api::{Api, Call, Service},
    pages::{self, PAGES_MAX},
    refs::Resolved,
    since::Stamp,
    vm::{self, Seen},
};

/// Nova's limit on user data, in characters of base64 (Compute API, "Create server").
const USER_DATA_MAX: usize = 65_535;
const SERVERS: &str = "servers";

/// User data as Nova wants it.
///
/// # Errors
/// `Invalid` when it is longer than Nova takes.
pub(super) fn user_data(order: &LaunchOrder) -> Result<String, PortError> {
    let encoded = BASE64.encode(order.user_data.expose());
    if encoded.len() > USER_DATA_MAX {
        let what = format!(
            "creating VM {}: its user data has {} characters in base64 and Nova takes \
             {USER_DATA_MAX}: shorten what the pool adds to it",
            order.name,
            encoded.len()
        );
        return Err(PortError::certain(ErrorClass::Invalid, what));
    }
    Ok(encoded)
}

/// Asks for the VM; the answer may be a failure.
pub(super) fn create<'a>(
    fleet: &FleetId,
    order: &LaunchOrder,
    resolved: &Resolved,
    user_data: &str,
) -> Call<'a> {
    let shape = &order.shape;
    let networks = match &resolved.network {
        Some(id) => json!([{ "uuid": id }]),
        // From 2.37 on Nova wants to be told; it finds the project's only network, or makes one.
        None => json!("auto"),
    };
    let mut server = json!({
        "name": order.name.as_str(),
        "imageRef": resolved.image,
        "flavorRef": resolved.flavor,
        "networks": networks,
        "user_data": user_data,
        "config_drive": shape.config_drive,
        "metadata": vm::metadata(order),
        "tags": vm::tags(fleet, order),
    });
    if !shape.security_groups.is_empty() {
        server["security_groups"] =
            shape.security_groups.iter().map(|group| json!({ "name": group })).collect();
    }
    if let Some(key) = &shape.key {
        server["key_name"] = key.as_str().into();
    }
    if let Some(zone) = &shape.availability_zone {
        server["availability_zone"] = zone.as_str().into();
    }
    Call {
        tried: format!("creating VM {}", order.name),
        purpose: Purpose::Create,
        service: Service::Compute,
        path: vec!["servers"],
        query: Vec::new(),
        body: Some(json!({ "server": server })),
    }
}

/// The identifier in the answer to a create.
pub(super) fn created(answer: &Answer) -> Option<VmId> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    let id = body.get("server")?.get("id")?.as_str()?;
    VmId::told(id)
}

/// All VMs of the fleet. The tag is the filter because it is one that Nova honours for everybody: a
/// filter by metadata is silently ignored for ordinary users, who then get the whole project.
pub(super) async fn list(
    api: &Api,
    fleet: &FleetId,
    page_size: u32,
    as_of: Time,
) -> Result<(Listing<Vm>, Stamps), PortError> {
    let mut listing = Listing { entries: Vec::new(), complete: true, as_of, faults: Vec::new() };
    let mut stamps = Stamps::default();
    let mut marker: Option<String> = None;
    let call = Call::read("listing the fleet's VMs", Service::Compute, ["servers", "detail"])
        .query("tags", vm::fleet_tag(fleet))
        .query("limit", page_size.to_string());
    for page in 0..PAGES_MAX {
        let reply = match pages::read(api, call.from(marker.as_deref()), SERVERS).await {
            Ok(reply) => reply,
            Err(error) if page == 0 => return Err(error),
            Err(error) => {
                listing.complete = false;
                listing.faults.push(format!("page {}: {}", page + 1, error.what));
                return Ok((listing, stamps));
            }
        };
        vm::take(reply.elements(), fleet, &mut listing);
        stamps.add(vm::stamps(reply.elements(), fleet), reply.date());
        let next = reply.next_marker();
        if next.is_none() || next == marker {
            return Ok((listing, stamps));
        }
        marker = next;
    }
    listing.complete = false;
    listing.faults.push(format!("the listing did not end within {PAGES_MAX} pages"));
    Ok((listing, stamps))
}

/// When Nova last changed the records of what it showed, and what time it was there at the first page.
#[derive(Default)]
pub(super) struct Stamps {
    pub(super) all: Vec<Stamp>,
    pub(super) date: Option<Time>,
}

impl Stamps {
    fn add(&mut self, stamps: impl IntoIterator<Item = Stamp>, date: Option<Time>) {
        self.all.extend(stamps);
        self.date = self.date.or(date);
    }
}

/// The fleet's VMs that changed at `since` or later, deleted ones included. By name, because the tags of a deleted VM
/// are gone; the VMs that are there must carry the fleet's tag all the same.
pub(super) async fn recent(
    api: &Api,
    fleet: &FleetId,
    page_size: u32,
    (since, as_of): (Time, Time),
) -> Result<(Recent, Stamps), PortError> {
    let mut recent = Recent::nothing(as_of);
    let mut stamps = Stamps::default();
    let mut marker: Option<String> = None;
    let tried = "asking what has changed of the fleet's VMs";
    let call = Call::read(tried, Service::Compute, ["servers", "detail"])
        .query("changes-since", since.format("%Y-%m-%dT%H:%M:%SZ").to_string())
        .query("name", format!("^{fleet}--"))
        .query("limit", page_size.to_string());
    for _ in 0..PAGES_MAX {
        let reply = pages::read(api, call.from(marker.as_deref()), SERVERS).await?;
        let page = vm::take_recent(reply.elements(), fleet, &mut recent);
        stamps.add(page, reply.date());
        let next = reply.next_marker();
        if next.is_none() || next == marker {
            return Ok((recent, stamps));
        }
        marker = next;
    }
    let what = format!("{tried}: the answer did not end within {PAGES_MAX} pages");
    Err(PortError::certain(ErrorClass::Transient, what))
}

/// The fleet's VMs of one name; normally none or one. The best to keep comes first: not in error,
/// not on its way out.
pub(super) async fn of_name(
    api: &Api,
    fleet: &FleetId,
    name: &RunnerName,
) -> Result<Vec<Vm>, PortError> {
    let tried = format!("looking for VM {name}");
    // Nova takes the name as a regular expression; a runner's name has no character that means more.
    let call = Call::read(tried, Service::Compute, ["servers", "detail"])
        .query("name", format!("^{name}$"))
        .query("tags", vm::fleet_tag(fleet));
    let page = pages::read(api, call, SERVERS).await?;
    let mut found: Vec<Vm> = page
        .elements()
        .iter()
        .filter_map(|element| match vm::read(element, fleet) {
            Seen::Ours(vm) if vm.name == *name => Some(*vm),
            _ => None,
        })
        .collect();
    found.sort_by_key(|vm| match vm.status {
        VmStatus::Deleting => 2,
        VmStatus::Error { .. } => 1,
        _ => 0,
    });
    Ok(found)
}

/// Whether the VM of this identifier is the fleet's and has this name; `None` when it is gone.
pub(super) async fn is_ours(
    api: &Api,
    fleet: &FleetId,
    name: &RunnerName,
    id: &VmId,
) -> Result<Option<bool>, PortError> {
    let call = Call::read(
        format!("looking at VM {id} before its deletion as {name}"),
        Service::Compute,
        ["servers", id.0.as_str()],
    );
    let answer = api.send(&call).await?;
    if answer.status.as_u16() == 404 {
        return Ok(None);
    }
    let answer = answer.success(&call.tried, Purpose::Read)?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let element = body.get("server").unwrap_or(&Value::Null);
    Ok(Some(matches!(vm::read(element, fleet), Seen::Ours(vm) if vm.name == *name)))
}

/// What a cloud has said of deletions that leave nothing behind.
///
/// A cloud with `reclaim_instance_interval` keeps a deleted VM for a while, out of sight, and it keeps
/// its quota; a fleet of short lives soon has none left. `forceDelete` ends a VM at once, there as
/// everywhere, and project members may use it by Nova's defaults (`os-deferred-delete:force`).
#[derive(Default)]
pub(super) struct Force {
    refused: Mutex<Option<String>>,
    /// VMs of which it has failed once.
    failed: Mutex<BTreeSet<VmId>>,
}

/// Of how many VMs is remembered that `forceDelete` failed.
const FAILED_MAX: usize = 1024;

impl Force {
    fn refused(&self) -> MutexGuard<'_, Option<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has failed of this VM before. A lock, a task and a cloud in trouble pass as a rule, and what
    /// is deleted plainly because of them may keep its quota; but there are clouds where the plain call alone
    /// goes through (Nova refused `forceDelete` in every task state once), and a VM must not stay for ever.
    fn fails_again(&self, id: &VmId) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() >= FAILED_MAX {
            failed.clear();
        }
        !failed.insert(id.clone())
    }

    fn works(&self, id: &VmId) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// What to add to a complaint about quota, where deletions may be what eats it.
    pub(super) fn advice(&self) -> Option<String> {
        let refused = self.refused().clone()?;
        Some(format!(
            "; if the quota is used by VMs that nobody sees: the cloud may keep deleted ones for a \
             while (reclaim_instance_interval), and a deletion at once is refused to this user \
             ({refused}): have the cloud allow os_compute_api:os-deferred-delete:force"
        ))
    }
}

/// Asks for a VM's end: `true` when it was taken on, `false` when it is gone already.
pub(super) async fn delete(
    api: &Api,
    force: &Force,
    name: &RunnerName,
    id: &VmId,
) -> Result<bool, PortError> {
    let tried = format!("deleting VM {name} ({id})");
    let mut call = Call {
        tried,
        purpose: Purpose::Act,
        service: Service::Compute,
        path: vec![SERVERS, id.0.as_str(), "action"],
        query: Vec::new(),
        body: Some(json!({ "forceDelete": null })),
    };
    if force.refused().is_none() {
        let answer = api.send(&call).await?;
        match answer.status.as_u16() {
            // What the user may not stays so until the next start.
            status @ (403 | 405 | 501) => {
                *force.refused() = Some(format!("HTTP {status}"));
            }
            // A VM that is gone, or a cloud without this action: the plain call tells.
            400 | 404 => {}
            // In every other way it may be refused again and again.
            409 | 500..=599 if force.fails_again(id) => {}
            _ => {
                let done = answer.success(&call.tried, Purpose::Act);
                return done.map(|_| force.works(id)).map(|()| true).map_err(advised);
            }
        }
    }
    (call.purpose, call.body) = (Purpose::Delete, None);
    call.path.truncate(2);
    let answer = api.send(&call).await?;
    if answer.status.as_u16() == 404 {
        return Ok(false);
    }
    answer.success(&call.tried, Purpose::Delete).map(|_| true).map_err(advised)
}

/// The failure of a deletion, with what a person can do about a VM that cannot go now.
fn advised(mut error: PortError) -> PortError {
    if error.class == ErrorClass::Busy {
        error.add(": unlock it (openstack server unlock) or wait for its task");
    }
    error
}
