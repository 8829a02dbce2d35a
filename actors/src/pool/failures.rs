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
    /// Whether the last hold was ended by somebody's word and not by its time: one launch finds out
    /// whether that word is right.
    told: bool,
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
            self.told = false;
        }
        self.last = Some(error);
    }

    /// Somebody says that what failed is mended: the hold ends, and one launch finds out. A hold that
    /// the other side named the end of goes on. Whether there was a hold that ends.
    pub fn end_hold(&mut self, now: Time) -> bool {
        let named = self.last.as_ref().is_some_and(
            |error| matches!(error.class, ErrorClass::RateLimited { until } if now < until),
        );
        if named || self.held_until.is_none_or(|until| until <= now) {
            return false;
        }
        self.held_until = Some(now);
        self.told = true;
        true
    }

    /// Whether the trouble is such that one launch should find out whether it is over. A single
    /// hiccup is not: the next launches need not wait for a boot.
    #[must_use]
    pub fn needs_probe(&self) -> bool {
        let class = self.last.as_ref().map(|error| error.class);
        let hiccup = matches!(class, Some(ErrorClass::Transient | ErrorClass::RateLimited { .. }));
        self.told || self.in_a_row > 1 || (self.in_a_row == 1 && (!hiccup || self.boots))
    }

    /// Whether a runner in this state, whose launch was decided at `launched`, is such a probe: its
    /// outcome is still open.
    #[must_use]
    pub fn probed_by(&self, state: &State, launched: Time) -> bool {
        let newer = self.counted_at.is_none_or(|counted| launched >= counted);
        match state {
            State::Creating { .. } => true,
            State::Registering { .. } => self.boots && newer,
            // Its VM ended, and what that means is not said yet.
            State::Draining { drain, .. } => drain.suspect && newer,
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
            Failed { error: error.classed(*class), boot: false }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        chrono::DateTime::from_timestamp(1_718_000_000 + seconds, 0).unwrap()
    }

    fn held(class: ErrorClass) -> Failures {
        let name: RunnerName = "ci--bench--0123456789ab".parse().unwrap();
        let mut failures = Failures::default();
        for wave in 0..3 {
            let error = PortError::certain(class, "GitHub says 403");
            let now = at(wave * 1000);
            failures.count(&name, now, Failed { error, boot: false }, now);
        }
        failures
    }

    #[test]
    fn a_word_that_it_is_mended_ends_the_hold_and_one_launch_finds_out() {
        for class in [ErrorClass::Auth, ErrorClass::Invalid, ErrorClass::Transient] {
            let mut failures = held(class);
            let before = failures.held_until.unwrap();
            assert!(before > at(2001));
            assert!(failures.end_hold(at(2001)));
            assert!(failures.held_until <= Some(at(2001)) && failures.needs_probe(), "{class}");
            assert!(!failures.end_hold(at(2002)), "there is no hold any more");
            // The word was wrong: the next hold is as long as it would have been.
            let name: RunnerName = "ci--bench--0123456789ab".parse().unwrap();
            let error = PortError::certain(class, "GitHub says 403");
            failures.count(&name, at(2003), Failed { error, boot: false }, at(2003));
            assert_eq!(failures.in_a_row, 4);
            assert!(failures.held_until > Some(at(2003)));
        }
    }

    #[test]
    fn a_single_hiccup_that_is_told_mended_is_probed_too() {
        let name: RunnerName = "ci--bench--0123456789ab".parse().unwrap();
        let mut failures = Failures::default();
        let error = PortError::certain(ErrorClass::Transient, "502");
        failures.count(&name, at(0), Failed { error, boot: false }, at(0));
        assert!(!failures.needs_probe());
        assert!(failures.end_hold(at(1)) && failures.needs_probe());
    }

    #[test]
    fn a_hold_that_the_other_side_named_the_end_of_goes_on() {
        let mut failures = held(ErrorClass::RateLimited { until: at(9000) });
        assert!(!failures.end_hold(at(2001)));
        assert_eq!(failures.held_until, Some(at(9000)));
    }
}
