//! A VM that does not do what it was asked to: told before any limit passes, and as long as it lasts.
//!
//! A deletion that a cloud takes on and never carries out fails with no error, and a VM that is being
//! built for ever looks like one that is about to be there. Both take a place of their pool.

use std::time::Duration;

use super::{Phase, ReadModel, RunnerSnapshot};
use crate::{name::PoolName, port::Time, runner::Step, sight::moment};

/// A cloud deletes a VM in seconds; one that has not after this long has to be looked at.
pub const SLOW_DELETION: Duration = Duration::from_secs(60);
/// Half of the default limit of a launch.
pub const SLOW_LAUNCH: Duration = Duration::from_secs(300);
/// The longest pause between two warnings about one VM.
const WARN_AGAIN: Duration = Duration::from_secs(3600);

/// What a VM does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Since when it was to do it.
    pub since: Time,
    /// Whether it is to go, so that a place is taken for nothing.
    pub deletion: bool,
    /// What, for a person.
    pub what: String,
}

impl RunnerSnapshot {
    /// Whether its VM does not go, or does not come, for longer than that takes.
    #[must_use]
    pub fn stuck(&self, now: Time) -> Option<Stuck> {
        let says = self.task.as_ref().map_or_else(String::new, |task| {
            let since = task.since.map(|at| format!(" since {}", moment(at, now)));
            format!("; the cloud says {:?}{}", task.word.as_str(), since.unwrap_or_default())
        });
        let error = self.last_error.as_ref().map(|error| format!("; last error: {error}"));
        let error = error.unwrap_or_default();
        let vm = self.vm_id.as_ref().map_or("not known yet".to_owned(), |id| format!("VM {id}"));
        let deletion = self.step.as_deref() == Some(Step::Delete.as_str());
        match (self.state, self.step_since) {
            (Phase::Draining, Some(since)) if deletion && now >= since + SLOW_DELETION => {
                let what = format!(
                    "{} ({vm}) is being deleted since {} and does not go; asked {} times{says}{error}",
                    self.name,
                    moment(since, now),
                    self.tries.max(1),
                );
                Some(Stuck { since, deletion, what })
            }
            (Phase::Creating, _) if now >= self.since + SLOW_LAUNCH => {
                let what = format!(
                    "{} ({vm}) is being made since {} and does not boot{says}{error}",
                    self.name,
                    moment(self.since, now),
                );
                Some(Stuck { since: self.since, deletion: false, what })
            }
            _ => None,
        }
    }
}

impl Stuck {
    /// Whether it is time to tell of it: at once, and then ever more rarely.
    #[must_use]
    pub fn is_due(&self, told: Option<Time>, now: Time) -> bool {
        told.is_none_or(|told| now >= warn_again(self.since, told))
    }
}

/// Whether a runner that is in `state` since `since` may be stuck at all: cheaper than its snapshot.
#[must_use]
pub fn may_be_stuck(state: Phase, since: Time, now: Time) -> bool {
    match state {
        Phase::Creating => now >= since + SLOW_LAUNCH,
        Phase::Draining => now >= since + SLOW_DELETION,
        _ => false,
    }
}

impl ReadModel {
    /// VMs that do not go or do not boot, with their pools, the oldest trouble first.
    #[must_use]
    pub fn stuck(&self, now: Time) -> Vec<(PoolName, Stuck)> {
        let of = |runner: &RunnerSnapshot| Some((runner.pool.clone(), runner.stuck(now)?));
        let mut stuck: Vec<_> = self.runners.iter().filter_map(|runner| of(&runner)).collect();
        stuck.sort_by(|(_, a), (_, b)| (a.since, &a.what).cmp(&(b.since, &b.what)));
        stuck
    }
}

/// When to warn again of what lasts since `since` and was told at `told`: after as long as it had
/// lasted then, so that the pauses double, up to an hour.
fn warn_again(since: Time, told: Time) -> Time {
    let lasted = (told - since).to_std().unwrap_or_default();
    told + lasted.clamp(SLOW_DELETION, WARN_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        name::{RunnerName, VmId},
        port::VmTask,
    };

    fn at(seconds: i64) -> Time {
        chrono::DateTime::from_timestamp(1_718_000_000 + seconds, 0).unwrap()
    }

    fn runner(state: Phase, step: Option<&str>) -> RunnerSnapshot {
        let name: RunnerName = "ci--bench--0123456789ab".parse().unwrap();
        RunnerSnapshot {
            pool: name.pool(),
            name,
            state,
            since: at(0),
            created_at: at(0),
            why: String::new(),
            last_error: None,
            vm_id: Some(VmId("8a1f".into())),
            registration_id: None,
            job: None,
            step: step.map(str::to_owned),
            step_since: step.map(|_| at(0)),
            tries: 5,
            task: Some(VmTask { word: "deleting".into(), since: Some(at(-9)) }),
            deadline: None,
            shape: None,
            version: None,
        }
    }

    #[test]
    fn a_deletion_that_is_taken_on_and_never_done_is_told_with_the_clouds_words() {
        let runner = runner(Phase::Draining, Some("delete"));
        assert_eq!(runner.stuck(at(59)), None);
        let stuck = runner.stuck(at(60)).unwrap();
        assert!(stuck.deletion);
        assert_eq!(
            stuck.what,
            "ci--bench--0123456789ab (VM 8a1f) is being deleted since 06:13:20Z and does not go; \
             asked 5 times; the cloud says \"deleting\" since 06:13:11Z"
        );
    }

    #[test]
    fn a_vm_that_does_not_boot_is_told_and_one_that_waits_in_another_step_is_not() {
        assert_eq!(runner(Phase::Creating, None).stuck(at(299)), None);
        let stuck = runner(Phase::Creating, None).stuck(at(300)).unwrap();
        assert!(!stuck.deletion && stuck.what.contains("does not boot"), "{}", stuck.what);
        for step in ["ask", "deregister", "settle"] {
            assert_eq!(runner(Phase::Draining, Some(step)).stuck(at(9000)), None, "{step}");
        }
        assert_eq!(runner(Phase::Busy, None).stuck(at(9000)), None);
    }

    #[test]
    fn warnings_come_once_and_then_ever_more_rarely() {
        let runner = runner(Phase::Draining, Some("delete"));
        let mut told = Vec::new();
        for minute in 0..185 {
            let now = at(minute * 60);
            let stuck = runner.stuck(now);
            if stuck.is_some_and(|stuck| stuck.is_due(told.last().copied(), now)) {
                told.push(now);
            }
        }
        let minutes: Vec<_> = told.iter().map(|t| (*t - at(0)).num_minutes()).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 64, 124, 184]);
    }

    #[test]
    fn whoever_is_stuck_may_be() {
        for state in Phase::ALL {
            let runner = runner(state, Some("delete"));
            for second in 0..1000 {
                let may_be = may_be_stuck(state, runner.since, at(second));
                assert_eq!(runner.stuck(at(second)).is_some(), may_be, "{state} for {second} s");
            }
        }
    }
}
