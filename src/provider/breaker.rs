//! When to stop asking a cloud that does not work. Pure: a history and a time in, a decision out.
//!
//! The breaker opens after some failures in a row, and then lets one call through every second to see.
//! What it is for is to keep a crowd of runners, each with a call of its own, from a cloud that is on its
//! knees; one call a second is no load for anybody, and pauses that grow only keep people waiting for
//! a cloud that is back. A call that hangs is no answer: another one is let through beside it after a while.
//! Calls that were under way when it opened fail together and count no further: fifty calls that meet one
//! outage are one outage. The pauses have no jitter: one breaker stands before one cloud, and there is no
//! crowd to scatter.

use std::time::Duration;

use runner_fleet_actors::port::{ErrorClass, PortError, Time};

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open it; at least one.
    pub failures: u32,
    /// How far apart the calls are that are let through then.
    pub pause: Duration,
    /// The longest pause after calls that were refused for who we are, which doubles with each: people
    /// mend that, and a wrong password given often locks an account.
    pub longest: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { failures: 5, pause: Duration::from_secs(1), longest: Duration::from_secs(60) }
    }
}

/// What has happened of late.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Failures since the last sign of life.
    pub failures: u32,
    /// When the last of them was.
    pub last: Option<Time>,
    /// Whether the last of them was a refusal for who we are.
    pub refused: bool,
    /// Since when a call is under way that shall show if it works again.
    pub probing: Option<Time>,
}

/// What to do with the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Let it through.
    Closed,
    /// Let this one through, and none beside it, until it has come back.
    Probe,
    /// Answer it here. Ask again at that time.
    Open {
        /// The end of the pause.
        until: Time,
    },
}

/// How long the cloud is left alone after what has happened.
#[must_use]
pub fn pause(history: &History, policy: &Policy) -> Option<Duration> {
    let over = history.failures.checked_sub(policy.failures.max(1))?;
    if !history.refused {
        return Some(policy.pause);
    }
    let factor = 1_u32.checked_shl(over).unwrap_or(u32::MAX);
    Some(policy.pause.saturating_mul(factor).min(policy.longest))
}

/// What to do with the next call.
#[must_use]
pub fn decide(history: &History, now: Time, policy: &Policy) -> Decision {
    let (Some(pause), Some(last)) = (pause(history, policy), history.last) else {
        return Decision::Closed;
    };
    let until = last + pause;
    let hanging = history.probing.map(|since| since + policy.pause).filter(|until| now < *until);
    match hanging {
        _ if now < until => Decision::Open { until },
        Some(until) => Decision::Open { until },
        None => Decision::Probe,
    }
}

/// Somebody says that the cloud is mended: the pause ends, and the next call is the probe.
#[must_use]
pub fn told_mended(history: History, now: Time, policy: &Policy) -> History {
    let pause = pause(&history, policy).unwrap_or_default();
    History { last: history.last.map(|last| last.min(now - pause)), ..history }
}

/// Takes one outcome in. Only failures of the cloud itself count; one that says no, because of a
/// quota or an unknown image, works. A rate limit says neither: it has a pause of its own.
#[must_use]
pub fn after(history: History, error: Option<&PortError>, now: Time, policy: &Policy) -> History {
    let opened = pause(&history, policy).zip(history.last);
    let straggler = opened.is_some_and(|(pause, last)| now < last + pause);
    match error.map(|e| e.class) {
        Some(ErrorClass::Transient | ErrorClass::Auth) if straggler => history,
        Some(ErrorClass::Transient | ErrorClass::Auth) => History {
            failures: history.failures.saturating_add(1),
            last: Some(now),
            refused: error.is_some_and(|error| error.class == ErrorClass::Auth),
            probing: history.probing,
        },
        Some(ErrorClass::RateLimited { .. }) => history,
        _ => History { probing: history.probing, ..History::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        chrono::DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn down(failures: u32) -> History {
        let broken = PortError::certain(ErrorClass::Transient, "down");
        let mut history = History::default();
        for _ in 0..failures {
            // Each as soon as the pause before it is over.
            let now = pause(&history, &POLICY)
                .zip(history.last)
                .map_or(at(100), |(pause, last)| last + pause);
            history = after(history, Some(&broken), now, &POLICY);
        }
        history
    }

    const POLICY: Policy =
        Policy { failures: 3, pause: Duration::from_secs(5), longest: Duration::from_secs(60) };

    #[test]
    fn it_opens_at_the_limit_and_not_before() {
        assert_eq!(decide(&down(2), at(100), &POLICY), Decision::Closed);
        assert_eq!(decide(&down(3), at(100), &POLICY), Decision::Open { until: at(105) });
    }

    #[test]
    fn calls_that_fail_together_are_one_outage() {
        let broken = PortError::certain(ErrorClass::Transient, "down");
        let crowd =
            (0..50).fold(History::default(), |h, _| after(h, Some(&broken), at(100), &POLICY));
        assert_eq!(decide(&crowd, at(100), &POLICY), Decision::Open { until: at(105) });
        assert_eq!(decide(&crowd, at(105), &POLICY), Decision::Probe);
        let probed = after(crowd, Some(&broken), at(105), &POLICY);
        assert_eq!(decide(&probed, at(105), &POLICY), Decision::Open { until: at(110) });
    }

    #[test]
    fn a_cloud_that_stays_away_is_asked_as_often_as_in_the_beginning() {
        let pauses = [3, 4, 9].map(|n| pause(&down(n), &POLICY));
        assert_eq!(pauses, [Some(POLICY.pause); 3]);
        assert_eq!(pause(&down(2), &POLICY), None);
    }

    #[test]
    fn one_that_refuses_who_we_are_is_asked_more_and_more_rarely() {
        let refused = |failures| History { refused: true, ..down(failures) };
        let pauses: Vec<u64> =
            (3..9).filter_map(|n| pause(&refused(n), &POLICY)).map(|p| p.as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
    }

    #[test]
    fn after_the_pause_one_call_goes_through_and_no_second_beside_it() {
        let mut history = down(3);
        assert_eq!(decide(&history, at(105), &POLICY), Decision::Probe);
        history.probing = Some(at(105));
        assert_eq!(decide(&history, at(106), &POLICY), Decision::Open { until: at(110) });
        assert_eq!(
            decide(&history, at(110), &POLICY),
            Decision::Probe,
            "one that hangs is no answer"
        );
    }

    #[test]
    fn a_word_that_it_is_mended_lets_one_call_through_and_its_failure_counts() {
        let history = told_mended(down(5), at(101), &POLICY);
        assert_eq!(decide(&history, at(101), &POLICY), Decision::Probe);
        let broken = PortError::certain(ErrorClass::Auth, "401");
        let failed = after(history, Some(&broken), at(102), &POLICY);
        assert_eq!(decide(&failed, at(102), &POLICY), Decision::Open { until: at(102 + 40) });
        assert_eq!(told_mended(History::default(), at(1), &POLICY), History::default());
    }

    #[test]
    fn a_cloud_that_says_no_works() {
        for class in [ErrorClass::Quota, ErrorClass::Invalid, ErrorClass::NoCapacity] {
            let no = PortError::certain(class, "no");
            assert_eq!(after(down(9), Some(&no), at(101), &POLICY).failures, 0, "{class}");
        }
        assert_eq!(after(down(9), None, at(101), &POLICY).failures, 0);
        let class = ErrorClass::RateLimited { until: at(200) };
        let slow = PortError::certain(class, "slow");
        assert_eq!(after(down(2), Some(&slow), at(101), &POLICY).failures, 2);
    }
}
