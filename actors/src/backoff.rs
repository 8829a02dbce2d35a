//! The only retry arithmetic in the house: how long to wait before the next try.
//!
//! Exponential, bounded, and spread by a seed so that a thousand runners that failed together do
//! not come back together. Pure: the same attempt and seed give the same delay, so a simulation
//! replays. The alternative, a retry layer in each client, multiplies: three layers of three tries
//! are twenty-seven calls.

use std::time::Duration;

use crate::port::{ErrorClass, Time};

/// First delay and largest delay of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Curve {
    /// Delay after the first failure.
    pub base: Duration,
    /// No delay is longer.
    pub cap: Duration,
}

/// For calls about one runner: short, because a VM costs money while it waits.
pub const EFFECT: Curve = Curve { base: Duration::from_secs(2), cap: Duration::from_secs(60) };

/// Polls of a deletion that was taken on: listings usually bring the news first.
pub const DELETION: Curve = Curve { base: Duration::from_secs(10), cap: Duration::from_secs(60) };

/// Look-ups of a runner that lists lack: each costs a call or two, and settles it as a rule.
pub const LOOK_UP: Curve = Curve { base: Duration::from_secs(30), cap: Duration::from_secs(900) };

/// VMs that end before their runner was online: an image or a network that people must mend, found
/// out by one VM at a time.
pub const BOOT: Curve = Curve { base: Duration::from_secs(5), cap: Duration::from_secs(600) };

/// The delay after `attempt` failures in a row (0 and 1 both give the first), spread over
/// ±12.5 % by `seed`; never above `curve.cap`.
#[must_use]
pub fn delay(attempt: u32, seed: u64, curve: Curve) -> Duration {
    let doublings = attempt.saturating_sub(1).min(20);
    let full = curve.base.saturating_mul(1 << doublings).min(curve.cap);
    let spread = full / 4;
    // A multiplicative hash turns neighbouring seeds (names, attempts) into far-apart fractions.
    let mixed = (seed ^ u64::from(attempt)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let part = spread.mul_f64(mixed as f64 / f64::from(u32::MAX));
    (full - spread / 2 + part).min(curve.cap)
}

/// How failed launches of one class hold a whole pool back.
///
/// Credentials and images are mended by people, in minutes; quota and capacity come back when
/// something else goes; a hiccup is over in seconds, and what is not shows signs of life when it is over:
/// the longest wait is for what shows none, four tries a minute.
#[must_use]
pub fn launch_curve(class: ErrorClass) -> Curve {
    let (base, cap) = match class {
        ErrorClass::Auth | ErrorClass::Invalid | ErrorClass::NotFound => (30, 600),
        ErrorClass::Quota | ErrorClass::NoCapacity => (15, 300),
        ErrorClass::Busy | ErrorClass::Transient | ErrorClass::RateLimited { .. } => (3, 15),
    };
    Curve { base: Duration::from_secs(base), cap: Duration::from_secs(cap) }
}

/// When to try again after a failure of `class`: what the other side said, or the curve.
#[must_use]
pub fn retry_at(class: ErrorClass, attempt: u32, seed: u64, curve: Curve, now: Time) -> Time {
    let own = now + delay(attempt, seed, curve);
    match class {
        // Asked to stay away longer than the curve would: obey; never come back sooner than it.
        ErrorClass::RateLimited { until } => until.max(own),
        _ => own,
    }
}
