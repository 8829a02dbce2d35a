//! Nova's VMs, as one page of `GET /servers/detail` lists them.

use runner_fleet::provider::openstack::take;
use runner_fleet_actors::port::Listing;
use serde_json::{Value, json};

use super::{
    listings::{self, fleet},
    now,
};

/// One page.
pub fn check(body: &[u8]) {
    let Ok(page) = serde_json::from_slice::<Value>(body) else { return };
    let Some(Value::Array(servers)) = page.get("servers") else { return };
    let without_tags = json!({ "id": "1", "name": "ci--small--0123456789ab" });
    listings::check(servers, &without_tags, |some| {
        let (entries, faults) = (Vec::new(), Vec::new());
        let mut listing = Listing { entries, complete: true, as_of: now(), faults };
        take(some, &fleet(), &mut listing);
        listing
    });
}
