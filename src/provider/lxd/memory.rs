//! Disks in memory cost memory: counted before a launch, so that the last one does not take it from
//! the jobs of all the others.
//!
//! A storage pool lies in memory where it was put there (a pool of driver `dir` on a tmpfs, say);
//! LXD does not know that it does, and no API mounts one, so that the configuration says it
//! (`disk_in_memory`). Then, before each launch into it, the host's memory is counted: what is free,
//! less what every instance on the host may still take of what it was promised.
//!
//! - An instance may still take its `limits.memory` less what it uses, and the whole size of its disk
//!   in such a pool: what a tmpfs holds, the host counts as cache, and so as free.
//! - An instance without a limit promises nothing; it counts as what it uses.
//! - A launch of this process counts as soon as it was let through, whether LXD shows it yet or not.
//!
//! It is an estimate from the careful side, not a reservation: another program may take the memory
//! in the next moment, and LXD itself promises more than there is to whoever asks.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use runner_fleet_actors::{
    name::RunnerName,
    port::{ErrorClass, LxdShape, PortError, Time},
};
use serde_json::Value;
use tokio::sync::Mutex;

use super::{Inner, api::Call};
use crate::config::parse_size;

/// For how long a count holds: a crowd of launches must not ask for every guest's state each.
const FRESH: TimeDelta = TimeDelta::seconds(2);

/// What was counted, and what was let through since.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    counted: Option<Count>,
    /// Launches let through that have not ended, with what each may take.
    pending: BTreeMap<RunnerName, u64>,
}

/// The host's memory at a time, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Count {
    at: Time,
    total: u64,
    used: u64,
    /// What instances may still take.
    promised: u64,
    /// Those instances.
    instances: BTreeSet<String>,
}

impl Count {
    fn room(&self, pending: &BTreeMap<RunnerName, u64>) -> u64 {
        let unseen = pending.iter().filter(|(name, _)| !self.instances.contains(name.as_str()));
        let unseen: u64 = unseen.map(|(_, bytes)| *bytes).sum();
        self.total.saturating_sub(self.used).saturating_sub(self.promised).saturating_sub(unseen)
    }
}

impl Inner {
    /// Lets a launch through if its memory and its disk fit into the host's memory. What does not
    /// have its disk in memory always passes.
    ///
    /// # Errors
    /// `NoCapacity` with the numbers; `Invalid` where nobody can count; those of the calls.
    pub(super) async fn let_through(
        &self,
        name: &RunnerName,
        lxd: &LxdShape,
    ) -> Result<(), PortError> {
        if !lxd.disk_in_memory {
            return Ok(());
        }
        let invalid = |what: &str| {
            let what = format!("creating VM {name}: {what}");
            PortError::certain(ErrorClass::Invalid, what)
        };
        let (Some(memory), Some(disk), Some(pool)) = (lxd.memory, lxd.disk, &lxd.storage_pool)
        else {
            return Err(invalid("a disk in memory needs memory, disk and storage_pool"));
        };
        let clustered = self.api.server().await?.clustered;
        let target = lxd.target.as_deref().filter(|_| clustered);
        if clustered && target.is_none_or(|target| target.starts_with('@')) {
            return Err(invalid(
                "a disk in memory needs a cluster member as target: only of one can the memory be \
                 counted",
            ));
        }
        let mut entries = self.memory.0.lock().await;
        let now = self.now();
        let count = match entries.counted.take() {
            Some(count) if now - count.at < FRESH => count,
            _ => self.count(pool, target, now).await?,
        };
        let (room, wanted) = (count.room(&entries.pending), memory.saturating_add(disk));
        let passes = wanted <= room;
        if passes {
            entries.pending.insert(name.clone(), wanted);
        }
        let (total, used, promised) = (mib(count.total), mib(count.used), mib(count.promised));
        let others = count.instances.len();
        entries.counted = Some(count);
        if passes {
            return Ok(());
        }
        let what = format!(
            "creating VM {name}: no room for {} of memory and {} of disk in memory: the host has \
             {total}, of which {used} are used and {promised} promised to its {others} instances \
             beyond that; {} are left: lower the pools' `max`, `memory` or `disk`",
            mib(memory),
            mib(disk),
            mib(room)
        );
        Err(PortError::certain(ErrorClass::NoCapacity, what))
    }

    /// A launch has ended, either way: from now on LXD shows what there is.
    pub(super) async fn has_ended(&self, name: &RunnerName) {
        let mut entries = self.memory.0.lock().await;
        if entries.pending.remove(name).is_some() {
            entries.counted = None;
        }
    }

    async fn count(&self, pool: &str, target: Option<&str>, at: Time) -> Result<Count, PortError> {
        let tried = "counting the host's memory";
        let mut call = Call::read(tried, ["resources"]);
        if let Some(target) = target {
            call = call.query("target", target);
        }
        let host = self.api.get(call).await?;
        let number =
            |key: &str| host.get("memory").and_then(|m| m.get(key)).and_then(Value::as_u64);
        let (Some(total), Some(used)) = (number("total"), number("used")) else {
            let what = format!("{tried}: LXD does not say how much there is");
            return Err(PortError::certain(ErrorClass::Transient, what));
        };
        // All projects: the host's memory is one. Whoever may see only some counts only those.
        let mut call = Call::read(tried, ["instances"]).query("recursion", "2");
        if self.api.server().await?.has("instance_all_projects") {
            call = call.everywhere();
        }
        let list = self.api.get(call).await?;
        let mut count = Count { at, total, used, promised: 0, instances: BTreeSet::new() };
        for instance in list.as_array().into_iter().flatten() {
            let text = |key: &str| instance.get(key).and_then(Value::as_str);
            if target.is_some() && text("location") != target {
                continue;
            }
            count.instances.extend(text("name").map(str::to_owned));
            count.promised = count.promised.saturating_add(open_promise(instance, pool, total));
        }
        Ok(count)
    }
}

/// What an instance may still take of the host's memory.
fn open_promise(instance: &Value, pool: &str, total: u64) -> u64 {
    let config = |key: &str| instance.get("expanded_config")?.get(key)?.as_str();
    let limit = config("limits.memory").and_then(|text| bytes_of(text, total)).unwrap_or(0);
    let usage = instance.get("state").and_then(|s| s.get("memory")).and_then(|m| m.get("usage"));
    let usage = usage.and_then(Value::as_u64).unwrap_or(0);
    let devices = instance.get("expanded_devices").and_then(Value::as_object);
    let disks = devices.into_iter().flatten().filter_map(|(_, device)| {
        let text = |key: &str| device.get(key).and_then(Value::as_str);
        let in_pool = text("type") == Some("disk") && text("pool") == Some(pool);
        if in_pool { bytes_of(text("size")?, 0) } else { None }
    });
    disks.fold(limit.saturating_sub(usage), u64::saturating_add)
}

/// A limit as LXD writes it: bytes, a size with a unit, or a share of all.
fn bytes_of(text: &str, total: u64) -> Option<u64> {
    if let Some(share) = text.strip_suffix('%') {
        let share: u64 = share.trim().parse().ok()?;
        return Some((total / 100).saturating_mul(share));
    }
    parse_size(text).ok().or_else(|| text.strip_suffix('B').unwrap_or(text).trim().parse().ok())
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn instance(limit: &str, usage: u64, pool: &str, size: &str) -> Value {
        json!({
            "name": "x",
            "expanded_config": { "limits.memory": limit },
            "expanded_devices": { "root": { "type": "disk", "pool": pool, "size": size } },
            "state": { "memory": { "usage": usage } },
        })
    }

    #[test]
    fn an_instance_may_still_take_the_rest_of_its_limit_and_its_whole_disk_in_memory() {
        let open = |i: &Value| open_promise(i, "memory", 16 * GIB);
        assert_eq!(open(&instance("4GiB", GIB, "default", "10GiB")), 3 * GIB);
        assert_eq!(open(&instance("4GiB", GIB, "memory", "10GiB")), 13 * GIB);
        assert_eq!(open(&instance("50%", 0, "default", "")), 16 * GIB / 100 * 50);
        assert_eq!(open(&instance("1073741824B", 0, "memory", "1073741824")), 2 * GIB);
        assert_eq!(open(&json!({"name": "bare"})), 0);
        let huge = instance("18446744073709551615%", 0, "memory", "18446744073709551615");
        assert_eq!(open(&huge), u64::MAX, "the most there is");
        assert_eq!(open(&instance("1GiB", 2 * GIB, "", "")), 0, "more than it may");
    }

    #[test]
    fn a_launch_counts_from_when_it_was_let_through_and_only_once() {
        let name = |token: &str| format!("ci--large--{token}").parse::<RunnerName>().unwrap();
        let seen = name("000000000001");
        let count = Count {
            at: Time::UNIX_EPOCH,
            total: 16 * GIB,
            used: 2 * GIB,
            promised: 4 * GIB,
            instances: [seen.to_string()].into(),
        };
        let mut pending = BTreeMap::from([(seen, 4 * GIB)]);
        assert_eq!(count.room(&pending), 10 * GIB, "it is among the promises already");
        pending.insert(name("000000000002"), 4 * GIB);
        assert_eq!(count.room(&pending), 6 * GIB);
        pending.insert(name("000000000003"), 40 * GIB);
        assert_eq!(count.room(&pending), 0);
    }
}
