//! What a process was told of one runner, by the judge's own books.

use crate::{
    port::Time,
    runner::{Answer, Event, Observation, Report, Sighting},
};

/// What this process was told about one runner, kept apart from the brain's own books.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Evidence {
    /// The guest or the forge said that a job runs, and nobody that it ended.
    pub told_busy: bool,
    /// The unbroken run of forge listings that did not say busy.
    quiet_since: Option<Time>,
    quiet_until: Option<Time>,
    heard: Option<Time>,
    /// When its launch was answered, and when the cloud said that its VM is gone.
    pub launched: Option<Time>,
    pub gone: Option<Time>,
    /// How often its guest has said that its job has begun.
    pub starts: u32,
    /// Whether the newest listing of the forge did not have it.
    missed: bool,
    /// When what it was told of each side began: the newest listing that has or lacks it, or the asking of a
    /// guest that answered.
    pub cloud_looked: Option<Time>,
    pub forge_looked: Option<Time>,
    pub guest_looked: Option<Time>,
    /// Since when this process has it.
    pub since: Option<Time>,
    /// When its guest was last asked to stand down.
    pub asked: Option<Time>,
    /// When the present drain began, and whether the guest has answered in it.
    drain_since: Option<Time>,
    answered: bool,
}

impl Evidence {
    /// Nothing yet, of a runner that this process has from now on.
    pub fn beginning(now: Time) -> Self {
        Self { since: Some(now), ..Self::default() }
    }

    /// Takes in what the process was told.
    pub fn take_in(&mut self, event: &Event) {
        match event {
            Event::Observed(seen) => self.listing(seen),
            Event::Guest(Report::JobStarted(_), _) => {
                self.told_busy = true;
                self.starts += 1;
            }
            Event::Guest(Report::JobCompleted(_) | Report::Stopped(_), _) => self.told_busy = false,
            // Somebody else's, or nobody's.
            Event::JobStarted { registration, .. } | Event::JobCompleted { registration, .. }
                if registration.is_none_or(|number| number.0 == u64::MAX) => {}
            Event::JobStarted { .. } => self.told_busy = true,
            Event::JobCompleted { .. } => self.told_busy = false,
            Event::Answered(Answer::StoodDown(Ok(word))) => {
                self.answered = true;
                self.guest_looked = self.asked;
                self.told_busy = *word == crate::port::StandDown::Busy;
            }
            _ => {}
        }
    }

    fn listing(&mut self, seen: &Observation) {
        if seen.vm != Sighting::Unknown {
            self.cloud_looked = self.cloud_looked.max(Some(seen.vm_as_of));
        }
        if seen.registration != Sighting::Unknown {
            self.forge_looked = self.forge_looked.max(Some(seen.registration_as_of));
        }
        if self.heard.is_some_and(|heard| seen.registration_as_of <= heard) {
            return;
        }
        let busy = match &seen.registration {
            Sighting::Seen(registration) => registration.busy,
            Sighting::Absent => self.missed.then_some(false),
            Sighting::Unknown => return,
        };
        self.missed = seen.registration == Sighting::Absent;
        self.heard = Some(seen.registration_as_of);
        match busy {
            Some(true) => {
                self.told_busy = true;
                self.quiet_since = None;
                self.quiet_until = None;
            }
            Some(false) => {
                self.quiet_since.get_or_insert(seen.registration_as_of);
                self.quiet_until = Some(seen.registration_as_of);
            }
            None => {}
        }
    }

    /// The listing in which it was found did not say busy.
    pub fn adopted_quiet(&mut self, now: Time) {
        self.heard = Some(now);
        self.quiet_since = Some(now);
        self.quiet_until = Some(now);
    }

    pub fn drain_began(&mut self, now: Time) {
        self.drain_since = Some(now);
        self.answered = false;
    }

    /// Whether a drain has asked in vain for `ask`.
    pub fn asked_in_vain(&self, now: Time, ask: std::time::Duration) -> bool {
        !self.answered && self.drain_since.is_some_and(|since| now >= since + ask)
    }

    /// Whether a listing that began after the drain has shown it quiet.
    pub fn looked_since(&self) -> bool {
        self.quiet_until > self.drain_since
    }

    pub fn proven_quiet(&self, proof: std::time::Duration) -> bool {
        match (self.quiet_since, self.quiet_until) {
            (Some(since), Some(until)) => until >= since + proof,
            _ => false,
        }
    }
}
