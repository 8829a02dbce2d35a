//! Whether a runner that ended had ever been of use.
//!
//! A VM that is off tells nothing of why. If its runner was online, its job came and went, as they do.
//! If it was never seen online, either everything happened between two listings, or its image is
//! broken and the next VM will end in the same way. The guest's own word decides where there is one:
//! an exit code, and whether it ever counted a job. Else the forge's does: it removes the registration
//! of a runner whose job is done, and keeps the one of a runner that never came.
//!
//! Taking every VM that was not seen online for a broken one would hold pools back whose jobs are
//! short; taking none for one boots a broken image over and over, as fast as the cloud can.

use super::{Drain, Known, Observation, Sighting};
use crate::{
    event::{DrainReason, JobEnd},
    port::{ErrorClass, PortError, Time},
};

/// What a person is told of a VM that ended before its runner was online.
const OFF_TOO_SOON: &str = "the VM powered off before its runner was ever online; its console log, \
                            or a VM of the same image started by hand, shows why";

/// The listener's exit code where GitHub takes its version no longer (actions/runner,
/// `Constants.Runner.ReturnCode.RunnerVersionDeprecated`).
const VERSION_DEPRECATED: i32 = 7;

/// What a guest's last word means whose runner application failed without ever having had a job.
pub(super) fn failed_to_serve(end: &JobEnd, known: &Known) -> Option<PortError> {
    let code = end.exit_code.filter(|code| *code != 0 && !served(known))?;
    Some(match code {
        VERSION_DEPRECATED => PortError::certain(
            ErrorClass::Invalid,
            format!(
                "GitHub refuses this version of the runner application (exit code {code}); the image, \
                 or the mirror that it is taken from, needs a newer one"
            ),
        ),
        _ => PortError::certain(
            ErrorClass::Transient,
            format!(
                "the runner application ended with exit code {code} before it had a job; the guest's \
                 log says why"
            ),
        ),
    })
}

/// Whether the guest has counted a job, also where the report of its begin was lost.
pub(super) fn served(known: &Known) -> bool {
    known.times.job_started.is_some()
}

impl Drain {
    /// The end of a VM by itself; suspect where its runner was never seen at work.
    pub(super) fn ended(reason: DrainReason, known: &Known, now: Time) -> Self {
        Self { suspect: !known.was_online && !served(known), ..Self::new(reason, now) }
    }

    /// The forge's word on a runner whose VM ended before it was seen online.
    pub(super) fn clear_up(&mut self, seen: &Observation, known: &mut Known, now: Time) {
        self.suspect &= self.job.is_none() && !known.was_online && !served(known);
        let newer = known.blind_until.is_none_or(|blind| seen.registration_as_of > blind);
        if !self.suspect || !newer {
            return;
        }
        match &seen.registration {
            Sighting::Seen(registration) if registration.busy != Some(true) => {
                let error = PortError::certain(ErrorClass::Transient, OFF_TOO_SOON);
                self.failed_to_boot(error, known, now);
            }
            Sighting::Seen(_) | Sighting::Absent => self.suspect = false,
            Sighting::Unknown => {}
        }
    }

    /// The guest's last word in a drain that began without it.
    pub(super) fn last_word(&mut self, end: JobEnd, known: &mut Known, now: Time) {
        self.guest_stopped = true;
        match failed_to_serve(&end, known).filter(|_| self.suspect) {
            Some(error) => self.failed_to_boot(error, known, now),
            None => {
                let told = self.job_end.get_or_insert_default();
                told.conclusion = told.conclusion.take().or(end.conclusion);
                told.exit_code = told.exit_code.or(end.exit_code);
            }
        }
    }

    fn failed_to_boot(&mut self, error: PortError, known: &mut Known, now: Time) {
        self.suspect = false;
        self.reason = DrainReason::BootFailed;
        known.last_error = Some(error);
        if self.vm_gone {
            // Its registration does not vanish by itself, so there is nothing to wait for.
            self.not_before = self.not_before.min(now);
        }
    }
}
