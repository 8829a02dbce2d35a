//! Launches that fail, one after the other, and how long they hold a pool back.
//!
//! A launch has not succeeded when the cloud takes the order, and not when the VM runs, but when its
//! runner is online. An image whose runner never starts would otherwise cost a boot after the other,
//! as fast as the cloud boots. So there are two kinds of failure: the *order* fails (credentials,
//! quota, no host), which the next order that is taken disproves; or the *boot* fails (the VM ends, or
//! its limit passes, before its runner was ever online), which only a runner that comes online
//! disproves. Either way launches that fail together count once, because they say one thing.

use crate::{
    backoff,
    event::{DrainReason, Phase},
    name::RunnerName,
    port::{ErrorClass, PortError, Time},
    runner::State,
};

/// Launches that failed in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures {
    /// How many waves of them; launches that fail together count once.
    pub in_a_row: u32,
    /// Until when no launch is tried.
    pub held_until: Option<Time>,
    /// The last one.
    pub last: Option<PortError>,
    /// Whether the last wave failed after the VM ran: then only a runner that is online ends it.
    pub boots: bool,
    /// When the last wave was counted; launches decided before belong to it.
    counted_at: Option<Time>,
}

/// A launch that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failed {
    error: PortError,
    boot: bool,
}

impl Failures {
    /// Takes in that a runner, whose launch was decided at `launched`, went from one state to another.
    pub fn transitioned(
        &mut self,
        name: &RunnerName,
        launched: Time,
        before: &State,
        after: &State,
        now: Time,
    ) {
        match (failed(before), failed(after)) {
            (None, Some(failed)) => self.count(name, launched, failed, now),
            _ if self.disproved(before, after) => *self = Self::default(),
            _ => {}
        }
    }

    /// Whether a step of a runner shows that the trouble is over.
    fn disproved(&self, before: &State, after: &State) -> bool {
        match (before.phase(), after) {
            (Phase::Creating | Phase::Registering, State::Idle { .. } | State::Busy { .. }) => true,
            // Its job came and went unseen.
            (Phase::Creating | Phase::Registering, State::Draining { drain, .. }) => {
                drain.job.is_some() || drain.job_end.is_some()
            }
            (Phase::Creating, State::Registering { .. }) => !self.boots,
            // The order was taken: credentials, quota and names are in order again. Only a cloud
            // without room says so later.
            (Phase::Creating, State::Creating { known, .. }) => {
                let class = self.last.as_ref().map(|error| error.class);
                known.vm.is_some() && !self.boots && class != Some(ErrorClass::NoCapacity)
            }
            _ => false,
        }
    }

    fn count(&mut self, name: &RunnerName, launched: Time, failed: Failed, now: Time) {
        let Failed { error, boot } = failed;
        // Launches under way when the first of them failed belong to the same wave.
        let held = self.held_until.is_some_and(|until| now < until);
        let known = self.counted_at.is_some_and(|counted| launched < counted);
        if !held && !known {
            self.in_a_row = self.in_a_row.saturating_add(1);
            let seed =
                name.as_str().bytes().fold(0, |sum: u64, b| sum.wrapping_mul(31) + u64::from(b));
            let curve = if boot { backoff::BOOT } else { backoff::launch_curve(error.class) };
            let until = backoff::retry_at(error.class, self.in_a_row, seed, curve, now);
            self.held_until = Some(until);
            self.counted_at = Some(now);
            self.boots = boot;
        }
        self.last = Some(error);
    }

    /// Whether the trouble is such that one launch should find out whether it is over. A single
    /// hiccup is not: the next launches need not wait for a boot.
    #[must_use]
    pub fn needs_probe(&self) -> bool {
        let class = self.last.as_ref().map(|error| error.class);
        let hiccup = matches!(class, Some(ErrorClass::Transient | ErrorClass::RateLimited { .. }));
        self.in_a_row > 1 || (self.in_a_row == 1 && (!hiccup || self.boots))
    }

    /// Whether a runner in this state, whose launch was decided at `launched`, is such a probe: its
    /// outcome is still open.
    #[must_use]
    pub fn probed_by(&self, state: &State, launched: Time) -> bool {
        match state.phase() {
            Phase::Creating => true,
            Phase::Registering => {
                self.boots && self.counted_at.is_none_or(|counted| launched >= counted)
            }
            _ => false,
        }
    }
}

/// What a runner's state says of its launch, if that failed.
fn failed(state: &State) -> Option<Failed> {
    let known = state.known()?;
    let told = known.last_error.clone();
    let or = |what: &str| PortError::doubtful(ErrorClass::Transient, what);
    Some(match state.reason()? {
        DrainReason::LaunchFailed { class } => {
            let error = told.unwrap_or_else(|| PortError::certain(*class, "the launch failed"));
            Failed { error: PortError { class: *class, ..error }, boot: false }
        }
        DrainReason::Overdue { phase: Phase::Creating } => {
            Failed { error: or("the VM did not run within the launch limit"), boot: false }
        }
        DrainReason::Overdue { phase: Phase::Registering } if !known.was_online => {
            let what = "the runner was not online within the register limit; the VM's console log \
                        says how far it came";
            Failed { error: or(what), boot: true }
        }
        DrainReason::BootFailed => Failed {
            error: told.unwrap_or_else(|| or("the VM ended before its runner was online")),
            boot: true,
        },
        _ => return None,
    })
}
