//! When to stop asking a cloud that does not work. Pure: a history and a time in, a decision out.
//!
//! The breaker opens after some failures in a row, each further failure makes the next pause longer,
//! up to a bound, and after a pause one call is let through to see. The pauses have no jitter: one
//! breaker stands before one cloud, and there is no crowd to scatter.

use std::time::Duration;

use runner_fleet_actors::port::{ErrorClass, PortError, Time};

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open it; at least one.
    pub failures: u32,
    /// The first pause; each failure after it doubles the next.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { failures: 5, first: Duration::from_secs(5), longest: Duration::from_secs(5 * 60) }
    }
}

/// What has happened of late.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Failures since the last sign of life.
    pub failures: u32,
    /// When the last of them was.
    pub last: Option<Time>,
    /// Whether a call is under way that shall show if it works again.
    pub probing: bool,
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

/// How long the cloud is left alone after so many failures in a row.
#[must_use]
pub fn pause(failures: u32, policy: &Policy) -> Option<Duration> {
    let over = failures.checked_sub(policy.failures.max(1))?;
    let factor = 1_u32.checked_shl(over).unwrap_or(u32::MAX);
    Some(policy.first.saturating_mul(factor).min(policy.longest))
}

/// What to do with the next call.
#[must_use]
pub fn decide(history: &History, now: Time, policy: &Policy) -> Decision {
    let (Some(pause), Some(last)) = (pause(history.failures, policy), history.last) else {
        return Decision::Closed;
    };
    let until = last + pause;
    if now < until {
        Decision::Open { until }
    } else if history.probing {
        Decision::Open { until: now + policy.first }
    } else {
        Decision::Probe
    }
}

/// Takes one outcome in. Only failures of the cloud itself count; one that says no, because of a
/// quota or an unknown image, works. A rate limit says neither: it has a pause of its own. Nor does
/// a failure during a pause: that call was under way when the breaker opened, and counting a crowd
/// that fails together one by one would turn an outage of seconds into the longest pause.
#[must_use]
pub fn after(history: History, error: Option<&PortError>, now: Time, policy: &Policy) -> History {
    let paused = match (pause(history.failures, policy), history.last) {
        (Some(pause), Some(last)) => now < last + pause,
        _ => false,
    };
    match error.map(|e| e.class) {
        Some(ErrorClass::Transient | ErrorClass::Auth) if paused => history,
        Some(ErrorClass::Transient | ErrorClass::Auth) => History {
            failures: history.failures.saturating_add(1),
            last: Some(now),
            probing: history.probing,
        },
        Some(ErrorClass::RateLimited { .. }) => history,
        _ => History { failures: 0, last: None, probing: history.probing },
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
        History { failures, ..after(History::default(), Some(&broken), at(100), &POLICY) }
    }

    const POLICY: Policy =
        Policy { failures: 3, first: Duration::from_secs(5), longest: Duration::from_secs(60) };

    #[test]
    fn it_opens_at_the_limit_and_not_before() {
        assert_eq!(decide(&down(2), at(100), &POLICY), Decision::Closed);
        assert_eq!(decide(&down(3), at(100), &POLICY), Decision::Open { until: at(105) });
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let pauses: Vec<u64> =
            (3..9).filter_map(|n| pause(n, &POLICY)).map(|p| p.as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        assert_eq!(pause(u32::MAX, &POLICY), Some(POLICY.longest));
    }

    #[test]
    fn after_the_pause_one_call_goes_through_and_no_second_beside_it() {
        let mut history = down(3);
        assert_eq!(decide(&history, at(105), &POLICY), Decision::Probe);
        history.probing = true;
        assert_eq!(decide(&history, at(105), &POLICY), Decision::Open { until: at(110) });
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

    #[test]
    fn a_crowd_that_fails_together_opens_it_for_the_first_pause_only() {
        let broken = PortError::certain(ErrorClass::Transient, "down");
        let fail = |history, at| after(history, Some(&broken), at, &POLICY);
        let history = (0..50).fold(History::default(), |history, _| fail(history, at(100)));
        assert_eq!(decide(&history, at(100), &POLICY), Decision::Open { until: at(105) });
        // The probe fails as well, and with it whatever was slower to come back.
        let history = fail(fail(fail(history, at(105)), at(105)), at(106));
        assert_eq!(decide(&history, at(106), &POLICY), Decision::Open { until: at(115) });
    }
}
