//! What can be made to go wrong, each as real clouds do it.

use std::{sync::Arc, time::Duration};

use rand::Rng;
use serde_json::Value;

use super::cloud::Cloud;

/// The faults in force.
pub(super) struct FaultState {
    pub(super) outage: bool,
    pub(super) hang_logins: bool,
    pub(super) error_rate_before: f64,
    pub(super) error_rate_after: f64,
    pub(super) lost_creates: u32,
    pub(super) lost_appear_after: Option<Duration>,
    pub(super) failing_boots: u32,
    pub(super) boot_fault: String,
    pub(super) quota: u32,
    pub(super) refuse_logins: bool,
    pub(super) password: String,
    pub(super) limited: u32,
    pub(super) retry_after: Duration,
    pub(super) frozen: Option<Vec<Value>>,
    pub(super) fail_later_pages: bool,
    pub(super) hidden_rate: f64,
    pub(super) hang_deletes: bool,
    pub(super) keep_records: bool,
    pub(super) echo_user_data: bool,
    /// The compute endpoint's path in the catalog.
    pub(super) compute_path: String,
    /// How and whereto `/plain` is answered: a status and an address without a path.
    pub(super) moved: (u16, Option<String>),
    pub(super) drop_versions: bool,
    pub(super) clock_ahead: chrono::TimeDelta,
    pub(super) soft_deletes: bool,
    pub(super) forbid_force: bool,
    pub(super) break_force: bool,
    pub(super) conflicts: u32,
    pub(super) forbidden_network: Option<String>,
    pub(super) login_answer: Option<(u16, String)>,
    pub(super) changes: Option<Changes>,
    pub(super) hosts_behind: chrono::TimeDelta,
}

/// How questions for changes (`changes-since`) are answered wrongly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Changes {
    /// With all that is there, as by who does not know the question.
    All,
    /// With nothing.
    Nothing,
    /// Without that share (0 to 1) of them.
    Without(f64),
    /// With this status.
    Refused(u16),
}

impl FaultState {
    pub(super) fn new(quota: u32) -> Self {
        Self {
            outage: false,
            hang_logins: false,
            error_rate_before: 0.0,
            error_rate_after: 0.0,
            lost_creates: 0,
            lost_appear_after: None,
            failing_boots: 0,
            boot_fault: String::new(),
            quota,
            refuse_logins: false,
            password: super::PASSWORD.to_owned(),
            limited: 0,
            retry_after: Duration::ZERO,
            frozen: None,
            fail_later_pages: false,
            hidden_rate: 0.0,
            hang_deletes: false,
            keep_records: false,
            echo_user_data: false,
            compute_path: "/compute/v2.1".to_owned(),
            moved: (301, None),
            drop_versions: false,
            clock_ahead: chrono::TimeDelta::zero(),
            soft_deletes: false,
            forbid_force: false,
            break_force: false,
            conflicts: 0,
            forbidden_network: None,
            login_answer: None,
            changes: None,
            hosts_behind: chrono::TimeDelta::zero(),
        }
    }

    pub(super) fn next_boot_fault(&mut self) -> Option<String> {
        if self.failing_boots == 0 {
            return None;
        }
        self.failing_boots = self.failing_boots.saturating_sub(1);
        Some(self.boot_fault.clone())
    }

    /// Whether the next create loses its answer, and when its VM comes into sight.
    pub(super) fn next_lost_create(&mut self) -> Option<Option<Duration>> {
        if self.lost_creates == 0 {
            return None;
        }
        self.lost_creates -= 1;
        Some(self.lost_appear_after)
    }
}

/// The switchboard of a fake cloud's faults. They hold until they are changed again.
#[derive(Clone)]
pub struct Faults(pub(super) Arc<Cloud>);

impl Faults {
    fn set(&self, change: impl FnOnce(&mut FaultState)) {
        self.0.with(|state| change(&mut state.faults));
    }

    /// Every call is answered with 503.
    pub fn outage(&self, on: bool) {
        self.set(|f| f.outage = on);
    }

    /// Log-ins are never answered: those that come meanwhile hang on when this is over.
    pub fn hang_logins(&self, on: bool) {
        self.set(|f| f.hang_logins = on);
    }

    /// That share (0 to 1) of all calls fails with 503 without having done anything.
    pub fn error_rate_before(&self, share: f64) {
        self.set(|f| f.error_rate_before = share.clamp(0.0, 1.0));
    }

    /// That share (0 to 1) of all calls is carried out and then answered with 503.
    pub fn error_rate_after(&self, share: f64) {
        self.set(|f| f.error_rate_after = share.clamp(0.0, 1.0));
    }

    /// The next `count` creates are answered with 503 although the VM is made, at once or, with
    /// `appears_after`, that much later.
    pub fn lose_create_answers(&self, count: u32, appears_after: Option<Duration>) {
        self.set(|f| {
            f.lost_creates = count;
            f.lost_appear_after = appears_after;
        });
    }

    /// The next `count` boots end in ERROR with this fault text.
    pub fn fail_boots(&self, count: u32, fault: &str) {
        self.set(|f| {
            f.failing_boots = count;
            f.boot_fault = fault.to_owned();
        });
    }

    /// VMs that the project may have from now on.
    pub fn quota(&self, instances: u32) {
        self.set(|f| f.quota = instances);
    }

    /// All tokens handed out so far are refused with 401; new ones work.
    pub fn revoke_tokens(&self) {
        self.0.with(|state| state.tokens.clear());
    }

    /// Log-ins are refused with 401, as after a change of the password.
    pub fn refuse_logins(&self, on: bool) {
        self.set(|f| f.refuse_logins = on);
    }

    /// The user has another password from now on.
    pub fn replace_password(&self, password: &str) {
        self.set(|f| password.clone_into(&mut f.password));
    }

    /// The next `count` calls are answered with 429 and this `Retry-After`, in whole seconds.
    pub fn limit_rate(&self, count: u32, retry_after: Duration) {
        self.set(|f| {
            f.limited = count;
            f.retry_after = retry_after;
        });
    }

    /// Listings stay as they are now, whatever happens.
    pub fn freeze_listings(&self, on: bool) {
        self.0.with(|state| {
            let now = on.then(|| super::nova::all(state));
            state.faults.frozen = now;
        });
    }

    /// Every page of a listing but the first fails with 500.
    pub fn fail_later_pages(&self, on: bool) {
        self.set(|f| f.fail_later_pages = on);
    }

    /// That share (0 to 1) of all VMs is left out of each listing without a word, as when a cell of
    /// the cloud is down.
    pub fn hide_from_listings(&self, share: f64) {
        self.set(|f| f.hidden_rate = share.clamp(0.0, 1.0));
    }

    /// VMs that are deleted are so for their hosts alone, called DELETED and listed and counted like others, until
    /// this is switched off again (`nova/compute/manager.py`, `_delete_instance`).
    pub fn keep_records(&self, on: bool) {
        let kept: Vec<String> = self.0.with(|state| {
            state.faults.keep_records = on;
            let ended = state.vms.iter().filter(|vm| vm.status == "DELETED");
            if on { Vec::new() } else { ended.map(|vm| vm.id.clone()).collect() }
        });
        for id in kept {
            self.0.finish_delete(id);
        }
    }

    /// Deletes are taken on and not carried out, until this is switched off again.
    pub fn hang_deletes(&self, on: bool) {
        let hanging: Vec<String> = self.0.with(|state| {
            state.faults.hang_deletes = on;
            let deleting = state.vms.iter().filter(|vm| vm.task == Some("deleting"));
            if on { Vec::new() } else { deleting.map(|vm| vm.id.clone()).collect() }
        });
        for id in hanging {
            self.0.finish_delete(id);
        }
    }

    /// Creates are refused with 400 in a text that quotes the user data, as Nova's schema check does.
    pub fn echo_user_data(&self, on: bool) {
        self.set(|f| f.echo_user_data = on);
    }

    /// The compute endpoint that catalogs name from now on: `/compute` names no version, `/compute/v2/X`
    /// is the old API, and whatever begins with `/plain` is redirected.
    pub fn compute_path(&self, path: &str) {
        self.set(|f| f.compute_path = path.to_owned());
    }

    /// Calls to `/plain/…` are answered with this status and the same path without `/plain`, at this
    /// cloud or at another address (`http://HOST:PORT`).
    pub fn redirect(&self, status: u16, elsewhere: Option<&str>) {
        self.set(|f| f.moved = (status, elsewhere.map(str::to_owned)));
    }

    /// Something before Nova takes the header with the microversion out: everything is 2.1.
    pub fn drop_versions(&self, on: bool) {
        self.set(|f| f.drop_versions = on);
    }

    /// The cloud's clock is so far ahead, as the times of its tokens and of its answers show.
    pub fn clock_ahead(&self, by: chrono::TimeDelta) {
        self.set(|f| f.clock_ahead = by);
    }

    /// A deleted VM is hidden and keeps its quota (Nova's `reclaim_instance_interval`), unless its
    /// deletion is forced, which may be forbidden.
    pub fn soft_deletes(&self, on: bool, force_allowed: bool) {
        self.set(|f| {
            f.soft_deletes = on;
            f.forbid_force = !force_allowed;
        });
    }

    /// Deletions by force fail for ever, plain ones do not.
    pub fn break_force(&self) {
        self.set(|f| f.break_force = true);
    }

    /// The next `count` deletions are refused with 409 because of a task under way.
    pub fn conflict_deletes(&self, count: u32) {
        self.set(|f| f.conflicts = count);
    }

    /// This network is an external one, which the project may not attach VMs to.
    pub fn forbid_network(&self, name: &str) {
        self.set(|f| f.forbidden_network = Some(name.to_owned()));
    }

    /// Log-ins are answered with this status and body.
    pub fn answer_logins(&self, answer: Option<(u16, &str)>) {
        self.set(|f| f.login_answer = answer.map(|(status, body)| (status, body.to_owned())));
    }

    /// Questions for changes are answered in this way.
    pub fn answer_changes(&self, how: Option<Changes>) {
        self.set(|f| f.changes = how);
    }

    /// The clock of every other host is so far behind: what its VMs' changes are stamped with.
    pub fn hosts_behind(&self, by: chrono::TimeDelta) {
        self.set(|f| f.hosts_behind = by);
    }

    /// An image is switched off: Glance shows it as `deactivated`, and Nova makes no VM from it.
    pub fn deactivate_image(&self, name: &str) {
        self.0.with(|state| {
            for image in state.images.iter_mut().filter(|image| image.name == name) {
                image.status = "deactivated";
            }
        });
    }

    /// A VM is gone from one moment to the next, as after an evacuation that failed. Whether it was
    /// there.
    pub fn vanish(&self, name: &str) -> bool {
        self.0.with(|state| {
            let id = state.vms.iter().find(|vm| vm.name == name).map(|vm| vm.id.clone());
            id.is_some_and(|id| state.remove(&id).is_some())
        })
    }

    /// Some VM, chosen by chance, is gone from one moment to the next: its name.
    pub fn vanish_any(&self) -> Option<String> {
        self.0.with(|state| {
            if state.vms.is_empty() {
                return None;
            }
            let at = state.rng.random_range(0..state.vms.len());
            let (id, name) = (state.vms[at].id.clone(), state.vms[at].name.clone());
            state.remove(&id).map(|_| name)
        })
    }
}
