//! What is known of a runner from outside: the newest word of each listing and of its guest.
//!
//! Two rules live here. *One missing entry in one listing proves nothing*: absence is proven by at
//! least two complete listings that span the proof time, and where nothing but absence tells of a
//! runner's end, it is asked for by its number before its VM goes. *The forge's busy
//! flag is no proof of idleness*: a runner counts as quiet only over an unbroken run of listings that
//! spans the proof time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Cordon, Doubt, Effect, Hearsay, Late, Limits, Told};
use crate::{
    event::{GuestTimes, JobEnd},
    name::{RegistrationId, VmId},
    port::{PortError, Registration, Stage, Time, Vm, VmStatus, VmTask},
};

/// What one side's listing says about one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting<T> {
    /// It is there.
    Seen(T),
    /// A complete listing does not have it.
    Absent,
    /// No listing, or an incomplete one without it: nothing is known.
    Unknown,
}

/// What the listings of one sweep say about one runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The cloud's side.
    pub vm: Sighting<Vm>,
    /// The forge's side.
    pub registration: Sighting<Registration>,
    /// When the sweep of the cloud began.
    pub vm_as_of: Time,
    /// When the sweep of the forge began.
    pub registration_as_of: Time,
}

/// An unbroken run of listings that agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    first: Option<Time>,
    last: Option<Time>,
    times: u32,
}

impl Run {
    fn extend(&mut self, as_of: Time) {
        if self.last.is_some_and(|last| as_of <= last) {
            return;
        }
        self.first.get_or_insert(as_of);
        self.last = Some(as_of);
        self.times = self.times.saturating_add(1);
    }

    pub(super) fn break_off(&mut self) {
        *self = Self::default();
    }

    /// Whether the run has at least two listings and spans `proof`.
    #[must_use]
    pub fn spans(&self, proof: Duration) -> bool {
        match (self.first, self.last) {
            (Some(first), Some(last)) => self.times >= 2 && last >= first + proof,
            _ => false,
        }
    }

    /// Whether its newest listing began after `time`.
    #[must_use]
    pub fn newer_than(&self, time: Time) -> bool {
        self.last.is_some_and(|last| last > time)
    }

    /// Whether at least two listings belong to it: enough for what was asked for and is expected.
    #[must_use]
    pub fn repeated(&self) -> bool {
        self.times >= 2
    }

    /// When its newest listing began.
    pub(super) fn newest(&self) -> Option<Time> {
        self.last
    }

    /// Whether at least one listing belongs to it.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.times > 0
    }
}

/// Everything known about one runner from outside. Only `State::next` changes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Whether this process found it rather than made it.
    #[serde(default)]
    pub adopted: bool,
    /// The cloud's identifier, once known.
    pub vm: Option<VmId>,
    /// The forge's number, once known.
    pub registration: Option<RegistrationId>,
    /// Digest of the shape of its VM, once known.
    pub shape: Option<String>,
    /// When its launch was decided, if its VM says so: its age, also after a restart.
    pub created_at: Option<Time>,
    /// The newest condition of its VM in a listing.
    pub vm_status: Option<VmStatus>,
    /// What the cloud is doing with it, as that listing said.
    #[serde(default)]
    pub vm_task: Option<VmTask>,
    /// Listings in a row without its VM.
    pub vm_absent: Run,
    /// When the newest listing of the cloud began that was taken in.
    pub vm_heard: Option<Time>,
    /// When the newest listing of the forge began that was taken in.
    pub registration_heard: Option<Time>,
    /// Whether the registration was ever online.
    pub was_online: bool,
    /// Listings in a row without its registration.
    pub registration_absent: Run,
    /// Listings in a row in which the forge said that it is not busy, or repeatedly had it not.
    pub quiet: Run,
    /// Listings that began earlier cannot know of it, so their silence counts for nothing.
    pub blind_until: Option<Time>,
    /// Listings in a row in which its listener was not connected.
    pub offline: Run,
    /// When this process last went on after it had stood still: listings that began earlier are no news.
    #[serde(default)]
    pub woke: Option<Time>,
    /// Whether its guest has ever reported home.
    pub reports: bool,
    /// What its guest has counted, as far as it has said.
    pub times: GuestTimes,
    /// How far its guest has told of its job.
    pub told: Told,
    /// Whether the forge has said that its job has begun.
    pub forge_told: bool,
    /// What is to be settled by a look-up, and how often that was tried.
    pub doubt: Option<Doubt>,
    /// The forge's word that its job is over, where its guest contradicts it or nothing bears it out.
    pub contested: Option<JobEnd>,
    /// The word that alone says that it has a job, and that nothing shows to be about it.
    pub hearsay: Option<Hearsay>,
    /// Whether the forge was told to give it no job.
    #[serde(default)]
    pub cordon: Cordon,
    /// How late the forge's busy flag was about its job.
    #[serde(default)]
    pub late: Late,
    /// The version of its runner application, if its guest has said.
    pub version: Option<String>,
    /// The effect whose answer is due: the gate that keeps it at one.
    pub in_flight: Option<super::Flight>,
    /// The last error met on its way.
    pub last_error: Option<PortError>,
    /// Which side its launch failed at.
    #[serde(default)]
    pub failed_at: Option<Stage>,
}

/// What an observation changes at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    /// The forge says that it runs a job.
    pub busy: bool,
    /// The forge says that its listener is connected.
    pub online: bool,
}

impl Known {
    /// What was listed up to now tells nothing of what comes: absence is to be proven anew.
    pub(super) fn blind(&mut self, now: Time) {
        self.blind_until = self.blind_until.max(Some(now));
        self.vm_absent.break_off();
        self.registration_absent.break_off();
    }

    /// Takes in one observation. A side whose listing is not newer than one taken in before, or than the last
    /// gap, is no news, and becomes `Unknown` in `seen`: listings can arrive in another order than they began.
    pub fn take_in(&mut self, seen: &mut Observation) -> News {
        if self.slept_through(seen.vm_as_of) {
            seen.vm = Sighting::Unknown;
        }
        if self.slept_through(seen.registration_as_of) {
            seen.registration = Sighting::Unknown;
        }
        if seen.vm != Sighting::Unknown {
            if self.vm_heard >= Some(seen.vm_as_of) {
                seen.vm = Sighting::Unknown;
            } else {
                self.vm_heard = Some(seen.vm_as_of);
            }
        }
        if seen.registration != Sighting::Unknown {
            if self.registration_heard >= Some(seen.registration_as_of) {
                seen.registration = Sighting::Unknown;
            } else {
                self.registration_heard = Some(seen.registration_as_of);
            }
        }
        // Nothing is absent before its launch was answered.
        let launching = self.in_flight.is_some_and(|flight| flight.effect == Effect::Launch);
        let counts = |as_of| !launching && self.blind_until.is_none_or(|blind| as_of > blind);
        let vm_counts = counts(seen.vm_as_of);
        let registration_counts = counts(seen.registration_as_of);
        match &seen.vm {
            Sighting::Seen(vm) => {
                self.vm = Some(vm.id.clone());
                self.created_at = self.created_at.or(vm.created_at);
                if vm.shape.is_some() {
                    self.shape.clone_from(&vm.shape);
                }
                if !matches!(vm.status, VmStatus::Unknown { .. }) {
                    self.vm_status = Some(vm.status.clone());
                }
                self.vm_task.clone_from(&vm.task);
                self.vm_absent.break_off();
            }
            Sighting::Absent if vm_counts => self.vm_absent.extend(seen.vm_as_of),
            Sighting::Absent | Sighting::Unknown => {}
        }
        let mut news = News::default();
        match &seen.registration {
            Sighting::Seen(registration) => {
                self.number_is(registration.id);
                self.registration_absent.break_off();
                news.online = registration.online;
                if registration.online && !self.was_online {
                    // Before it listened it could have no job: that was no proof of anything.
                    self.quiet.break_off();
                }
                self.was_online |= registration.online;
                if registration.online {
                    self.offline.break_off();
                } else {
                    self.offline.extend(seen.registration_as_of);
                }
                match registration.busy {
                    Some(true) => {
                        news.busy = true;
                        self.hearsay = None;
                        self.quiet.break_off();
                    }
                    Some(false) => self.quiet.extend(seen.registration_as_of),
                    None => {}
                }
            }
            Sighting::Absent if registration_counts => {
                self.registration_absent.extend(seen.registration_as_of);
                // One listing may lack an entry; a registration that is gone runs no job.
                if self.registration_absent.repeated() {
                    self.quiet.extend(seen.registration_as_of);
                }
            }
            Sighting::Absent | Sighting::Unknown => {}
        }
        news
    }

    /// Whether the cloud said in so many words that the VM does not run.
    #[must_use]
    pub fn vm_stopped(&self) -> bool {
        matches!(self.vm_status, Some(VmStatus::Stopped)) && !self.vm_absent.begun()
    }

    /// Whether its guest is expected to answer. One that never came online and never reported may
    /// never have started; asking it would only prolong its end.
    #[must_use]
    pub fn answers(&self, limits: &Limits) -> bool {
        self.reports || (limits.guests_report && self.was_online)
    }

    /// Whether neither side has it any more, each in at least two listings: a runner whose job is done,
    /// on a cloud that removes the VM of a guest that powered off. Two sides that agree need no longer
    /// run of listings before it is asked for by its number, and that answer decides.
    #[must_use]
    pub fn all_gone(&self) -> bool {
        self.vm_absent.repeated() && self.registration_absent.repeated()
    }

    /// Whether the VM is proven to be gone.
    #[must_use]
    pub fn vm_gone(&self, proof: Duration) -> bool {
        self.vm_absent.spans(proof)
    }
}
