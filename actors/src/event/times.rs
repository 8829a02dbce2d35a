//! When what happened in a guest, by the guest's own clock.
//!
//! A guest counts from its own start on a clock that never steps, and each report repeats all that it
//! has counted so far. So a report that was lost costs nothing, a replay changes nothing, and a
//! difference of two of these times is a true duration, whatever the daemon's clock did and however
//! long a report was on its way. They cannot be compared with any other clock, and never are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The moments of a guest's life, each as the time since its clock began; `None` is not known (yet).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuestTimes {
    /// The VM was up.
    pub booted: Option<Duration>,
    /// The runner application listened for jobs.
    pub runner_started: Option<Duration>,
    /// The job began.
    pub job_started: Option<Duration>,
    /// The job ended.
    pub job_completed: Option<Duration>,
    /// The runner application ended.
    pub stopped: Option<Duration>,
}

impl GuestTimes {
    /// Adds what `told` knows beyond this. What is known already stays: nothing happens twice.
    pub fn merge(&mut self, told: Self) {
        self.booted = self.booted.or(told.booted);
        self.runner_started = self.runner_started.or(told.runner_started);
        self.job_started = self.job_started.or(told.job_started);
        self.job_completed = self.job_completed.or(told.job_completed);
        self.stopped = self.stopped.or(told.stopped);
    }

    /// How long the runner application took to listen, from the VM's being up.
    #[must_use]
    pub fn starting(&self) -> Option<Duration> {
        between(self.booted, self.runner_started)
    }

    /// How long the runner waited for its job.
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        between(self.runner_started, self.job_started)
    }

    /// How long the job ran: to its end, or to the runner application's where nobody saw the job's.
    #[must_use]
    pub fn job(&self) -> Option<Duration> {
        between(self.job_started, self.job_completed.or(self.stopped))
    }
}

/// From one moment to another; `None` where one is not known, or a guest tells them the wrong way round.
fn between(from: Option<Duration>, to: Option<Duration>) -> Option<Duration> {
    to?.checked_sub(from?)
}
