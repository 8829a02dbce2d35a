//! The cloud's state, and the lives of its VMs.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::Value;
use tokio::sync::watch;

use super::{FakeVm, Options, Stats, VmRecord, faults::FaultState};

/// Deleted VMs that are remembered.
const ENDED_MAX: usize = 5_000;

pub(super) struct Cloud {
    pub(super) options: Options,
    /// `http://ADDRESS`, for the catalog and the links.
    pub(super) base: String,
    state: Mutex<State>,
}

/// An image, flavor or network.
pub(super) struct Thing {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: &'static str,
}

pub(super) struct State {
    /// Oldest first.
    pub(super) vms: Vec<Server>,
    /// Deleted ones, which are shown to whoever asks for changes, the latest last.
    pub(super) ended: VecDeque<Server>,
    pub(super) images: Vec<Thing>,
    pub(super) flavors: Vec<Thing>,
    pub(super) networks: Vec<Thing>,
    pub(super) tokens: HashMap<String, Instant>,
    pub(super) faults: FaultState,
    pub(super) rng: SmallRng,
    stats: Stats,
}

pub(super) struct Server {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: &'static str,
    pub(super) task: Option<&'static str>,
    pub(super) tags: Vec<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) created: DateTime<Utc>,
    /// When its status or task last changed, by its host's clock; `None` before the first change.
    pub(super) updated: Option<DateTime<Utc>>,
    /// Deleted, hidden, and still counted.
    pub(super) hidden: bool,
    pub(super) image: String,
    pub(super) flavor: String,
    pub(super) network: String,
    pub(super) address: String,
    pub(super) fault: Option<String>,
    pub(super) user_data: String,
    pub(super) locked: bool,
    pub(super) distortion: Option<Value>,
    killed: watch::Sender<bool>,
}

/// What a create asks for, checked.
pub(super) struct Order {
    pub(super) name: String,
    pub(super) tags: Vec<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) image: String,
    pub(super) flavor: String,
    pub(super) network: String,
    pub(super) user_data: String,
}

pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl State {
    pub(super) fn vm(&mut self, id: &str) -> Option<&mut Server> {
        self.vms.iter_mut().find(|vm| vm.id == id)
    }

    /// What the clock of the host that this VM is on shows: every other host may be behind.
    pub(super) fn host_time(&self, id: &str) -> DateTime<Utc> {
        let behind = id.bytes().next().is_some_and(|first| first % 2 == 1);
        let by = if behind { self.faults.hosts_behind } else { TimeDelta::zero() };
        Utc::now() - by
    }

    pub(super) fn count(&mut self, call: String) {
        *self.stats.calls.entry(call).or_default() += 1;
    }

    fn add(&mut self, order: Order, id: String, status: &'static str) {
        let number = self.stats.creates;
        self.vms.push(Server {
            id,
            name: order.name,
            status,
            task: (status == "BUILD").then_some("spawning"),
            tags: order.tags,
            metadata: order.metadata,
            created: Utc::now(),
            // Whatever was put there was there before.
            updated: (status != "BUILD").then(|| Utc::now() - TimeDelta::hours(1)),
            hidden: false,
            image: order.image,
            flavor: order.flavor,
            network: order.network,
            address: format!("10.10.{}.{}", number / 250 % 250, number % 250 + 2),
            fault: None,
            user_data: order.user_data,
            locked: false,
            distortion: None,
            killed: watch::Sender::new(false),
        });
        self.stats.creates += 1;
        self.stats.peak = self.stats.peak.max(self.vms.len());
    }

    /// Takes a VM out without a trace; its guest learns of it.
    pub(super) fn remove(&mut self, id: &str) -> Option<Server> {
        let at = self.vms.iter().position(|vm| vm.id == id)?;
        let vm = self.vms.remove(at);
        vm.killed.send_replace(true);
        Some(vm)
    }

    /// A VM's host is rid of it, and nothing else yet.
    fn end_on_host(&mut self, id: &str) {
        let updated = Some(self.host_time(id));
        if let Some(vm) = self.vm(id) {
            (vm.status, vm.task, vm.updated) = ("DELETED", None, updated);
            vm.killed.send_replace(true);
        }
    }

    /// A deletion comes to its end. What is kept of the VM has neither tags nor metadata.
    fn delete(&mut self, id: &str) -> bool {
        let updated = Some(self.host_time(id));
        let Some(vm) = self.remove(id) else { return false };
        let (tags, metadata) = (Vec::new(), BTreeMap::new());
        self.ended.push_back(Server {
            status: "DELETED",
            task: None,
            updated,
            tags,
            metadata,
            ..vm
        });
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
        true
    }
}

impl Cloud {
    pub(super) fn new(options: Options, base: String) -> Self {
        let things = |names: &[String]| -> Vec<Thing> {
            let thing =
                |name: &String| Thing { id: new_id(), name: name.clone(), status: "active" };
            names.iter().map(thing).collect()
        };
        let mut flavors = things(&options.flavors);
        // Nova's flavor ids may be any text, and small clouds number them.
        for (number, flavor) in flavors.iter_mut().enumerate() {
            flavor.id = (number + 1).to_string();
        }
        let state = State {
            vms: Vec::new(),
            ended: VecDeque::new(),
            images: things(&options.images),
            flavors,
            networks: things(&options.networks),
            tokens: HashMap::new(),
            faults: FaultState::new(options.quota_instances),
            rng: SmallRng::seed_from_u64(options.seed),
            stats: Stats::default(),
        };
        Self { options, base, state: Mutex::new(state) }
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn chance(&self, range: &RangeInclusive<Duration>) -> Duration {
        self.with(|state| {
            if range.is_empty() { *range.start() } else { state.rng.random_range(range.clone()) }
        })
    }

    pub(super) fn stats(&self) -> Stats {
        self.with(|state| Stats { present: state.vms.len(), ..state.stats.clone() })
    }

    pub(super) fn records(&self) -> Vec<VmRecord> {
        let record = |vm: &Server| VmRecord {
            id: vm.id.clone(),
            name: vm.name.clone(),
            status: vm.status.to_owned(),
            task: vm.task.map(str::to_owned),
            tags: vm.tags.clone(),
            metadata: vm.metadata.clone(),
            created: vm.created,
        };
        self.with(|state| state.vms.iter().map(record).collect())
    }

    pub(super) fn plant(&self, name: &str, tags: &[&str]) -> String {
        let id = new_id();
        let order = Order {
            name: name.to_owned(),
            tags: tags.iter().map(|t| (*t).to_owned()).collect(),
            metadata: BTreeMap::new(),
            image: String::new(),
            flavor: String::new(),
            network: String::new(),
            user_data: String::new(),
        };
        self.with(|state| state.add(order, id.clone(), "ACTIVE"));
        id
    }

    /// Takes a create on: the VM is there at once, or after `delay`, and boots.
    pub(super) fn create(self: &Arc<Self>, order: Order, id: String, delay: Option<Duration>) {
        let Some(delay) = delay else {
            self.with(|state| state.add(order, id.clone(), "BUILD"));
            self.boot(id);
            return;
        };
        let cloud = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            cloud.with(|state| state.add(order, id.clone(), "BUILD"));
            cloud.boot(id);
        });
    }

    fn boot(self: &Arc<Self>, id: String) {
        let (cloud, wait) = (self.clone(), self.chance(&self.options.boot));
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(vm) = cloud.booted(&id)
                && let Some(guest) = &cloud.options.guest
            {
                guest.booted(vm);
            }
        });
    }

    /// The end of a boot: ACTIVE, or ERROR by fault or flavor. The VM may be gone by then.
    fn booted(self: &Arc<Self>, id: &str) -> Option<FakeVm> {
        self.with(|state| {
            let hopeless = {
                let vm = state.vms.iter().find(|vm| vm.id == id)?;
                let named = |f: &&Thing| f.id == vm.flavor;
                state.flavors.iter().find(named).is_some_and(|f| f.name == "no.such.host")
            };
            let fault = if hopeless {
                Some("No valid host was found. ".to_owned())
            } else {
                state.faults.next_boot_fault()
            };
            let updated = Some(state.host_time(id));
            let vm = state.vm(id)?;
            if vm.status != "BUILD" || vm.task == Some("deleting") {
                return None;
            }
            vm.task = None;
            vm.updated = updated;
            if fault.is_some() {
                vm.status = "ERROR";
                vm.fault = fault;
                return None;
            }
            vm.status = "ACTIVE";
            Some(FakeVm {
                name: vm.name.clone(),
                id: vm.id.clone(),
                user_data: vm.user_data.clone(),
                cloud: self.clone(),
                killed: vm.killed.subscribe(),
            })
        })
    }

    pub(super) fn power_off(&self, id: &str) {
        self.with(|state| {
            let updated = Some(state.host_time(id));
            if let Some(vm) = state.vm(id)
                && vm.status == "ACTIVE"
            {
                vm.status = "SHUTOFF";
                vm.updated = updated;
            }
        });
    }

    /// Begins the deletion of a VM whose task says so, unless deletes hang.
    pub(super) fn finish_delete(self: &Arc<Self>, id: String) {
        let (cloud, wait) = (self.clone(), self.chance(&self.options.delete));
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            cloud.with(|state| {
                if state.faults.hang_deletes {
                    return;
                }
                if state.faults.keep_records {
                    state.end_on_host(&id);
                } else if state.delete(&id) {
                    state.stats.deletes += 1;
                }
            });
        });
    }
}
