//! The time of day, handed in.

use std::{fmt, time::Duration};

use super::Time;

/// The one way to the time of day. It has two faces, and which one is asked depends on whose clock the
/// answer is compared with.
///
/// - *The timeline* ([`Clock::now`]) begins at the wall's time and then only runs: it never jumps and
///   never goes back, whatever is done to the system's clock. For everything that is measured here:
///   deadlines, pauses, ages of listings, all of the brain.
/// - *The wall* ([`Clock::wall`]) is the system's clock as it is set now. For what is compared with other
///   people's clocks: a JWT's `iat` and `exp`, when a token expires, the reset of a rate limit; and for what
///   is written down for a later process, as a VM's tag and a job's record are.
///
/// What the outside names by its clock and the brain waits for is taken over by
/// [`Clock::on_timeline`], what was written down by [`Clock::ahead`]. A clock that was wrong at the start
/// is wrong only until it is mended.
pub trait Clock: Send + Sync {
    /// Now, on the timeline.
    fn now(&self) -> Time;

    /// Now, by the system's clock. The timeline's where there is no other.
    fn wall(&self) -> Time {
        self.now()
    }

    /// Where on the timeline a point of the wall's time lies.
    fn on_timeline(&self, wall: Time) -> Time {
        let ahead = wall.signed_duration_since(self.wall());
        self.now().checked_add_signed(ahead).unwrap_or(wall)
    }

    /// How far the wall is ahead of the timeline. In whole seconds, so that what is written down twice is
    /// the same both times.
    fn ahead(&self) -> chrono::TimeDelta {
        let ahead = self.wall().signed_duration_since(self.now()).num_seconds();
        chrono::TimeDelta::try_seconds(ahead).unwrap_or_default()
    }
}

/// The wall's time may differ so much from the timeline before it counts as set anew: clocks that are
/// slewed drift by less in weeks (adjtimex(2)).
const STEP: Duration = Duration::from_secs(5);

type Wall = std::sync::Arc<dyn Fn() -> Time + Send + Sync>;

/// The system's clock. Its timeline is advanced by tokio's, so that a test that pauses tokio's time
/// pauses this one as well, and a step of the wall clock never makes a deadline jump.
pub struct TokioClock {
    origin: Time,
    started: tokio::time::Instant,
    wall: Option<Wall>,
    /// How far the wall was ahead of the timeline when that was last said, in milliseconds.
    apart: std::sync::atomic::AtomicI64,
}

impl fmt::Debug for TokioClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioClock").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl TokioClock {
    /// A clock that shows `origin` now, and whose wall is its timeline: for tests and demos.
    #[must_use]
    pub fn starting_at(origin: Time) -> Self {
        Self { origin, started: tokio::time::Instant::now(), wall: None, apart: 0.into() }
    }

    /// The clock of the system.
    #[must_use]
    pub fn of_system() -> Self {
        Self::with_wall(chrono::Utc::now)
    }

    /// A clock on such a wall.
    #[must_use]
    pub fn with_wall(wall: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        let clock = Self::starting_at(wall());
        Self { wall: Some(std::sync::Arc::new(wall)), ..clock }
    }

    /// How far the wall is ahead of the timeline, where it has been set anew since that was last said.
    fn step(&self, wall: Time) -> Option<chrono::TimeDelta> {
        let apart = wall.signed_duration_since(self.now());
        let said = self.apart.load(std::sync::atomic::Ordering::Acquire);
        let moved = apart.num_milliseconds().abs_diff(said);
        if u128::from(moved) < STEP.as_millis() {
            return None;
        }
        self.apart.store(apart.num_milliseconds(), std::sync::atomic::Ordering::Release);
        Some(apart)
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Time {
        self.origin + self.started.elapsed()
    }

    fn wall(&self) -> Time {
        let Some(wall) = &self.wall else { return self.now() };
        let wall = wall();
        if let Some(apart) = self.step(wall) {
            tracing::warn!(
                ahead_seconds = apart.num_seconds(), %wall,
                "the system's clock was set; what is compared with others' clocks follows it, deadlines do not"
            );
        }
        wall
    }
}
