//! LXD's and Incus' instances, as `GET /1.0/instances?recursion=1` lists them.

use runner_fleet::provider::lxd::listing;
use serde_json::{Value, json};

use super::{
    listings::{self, fleet},
    now,
};

/// The list of instances.
pub fn check(body: &[u8]) {
    let Ok(Value::Array(instances)) = serde_json::from_slice(body) else { return };
    let nameless = json!({ "status": "Running" });
    listings::check(&instances, &nameless, |some| listing(some, &fleet(), now()));
}
