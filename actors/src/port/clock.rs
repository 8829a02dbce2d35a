//! The time of day, handed in.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::Time;

/// The one way to the time of day. It has two faces, and which one is asked depends on whose clock the
/// answer is compared with.
///
/// - *The timeline* ([`Clock::now`]) begins at the wall's time and then only runs: it never jumps and
///   never goes back, whatever is done to the system's clock; it runs on while the machine is suspended. For
///   everything that is measured here: deadlines, pauses, ages of listings, all of the brain.
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

    /// Since when this process has been awake, on the timeline: when it last went on after a gap, a time in
    /// which it did nothing at all. Whoever asks first after a gap sees it, before any timer has fired.
    fn awake_since(&self) -> Time {
        Time::MIN_UTC
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

/// A process that nobody has asked for the time for so long stood still: stopped, suspended, or starved. Well
/// above what a busy machine does to a process (it asks once a second by its own beat, and with each event
/// besides), and well below the time that anything is good for that was concluded before. What is shorter is
/// as a slow call, and every effect has an end of its own. Where a process was only starved, that costs a
/// listing of each side and a question to each guest that stands down.
pub const GAP: Duration = Duration::from_secs(10);

/// How often a process asks at least, so that not being asked is a gap.
pub const BEAT: Duration = Duration::from_secs(1);

/// Up to when somebody has heard of gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard(Time);

impl Heard {
    /// Somebody who begins in a process that is awake since then.
    #[must_use]
    pub fn up_to(awake_since: Time) -> Self {
        Self(awake_since)
    }

    /// Whether a process that is awake since then has stood still in between: since when it goes on.
    pub fn news(&mut self, awake_since: Time) -> Option<Time> {
        let before = std::mem::replace(&mut self.0, awake_since);
        (before < awake_since).then_some(awake_since)
    }
}

type Wall = Arc<dyn Fn() -> Time + Send + Sync>;

/// How long the machine was suspended, since whenever.
type Asleep = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The system's clock. Its timeline is advanced by tokio's, so that a test that pauses tokio's time
/// pauses this one as well, and a step of the wall clock never makes a deadline jump. Tokio's stands while
/// the machine is suspended (CLOCK_MONOTONIC, clock_gettime(2)), so that is added. Gaps are found by the
/// machine's own time, which no test pauses: time that a test skips is none in which the process stood still.
pub struct TokioClock {
    origin: Time,
    started: tokio::time::Instant,
    wall: Option<Wall>,
    /// How far the wall was ahead of the timeline when that was last said, in milliseconds.
    apart: AtomicI64,
    asleep: Option<Asleep>,
    /// How long the machine was suspended before this clock began, and since, in milliseconds.
    slept: (Duration, AtomicU64),
    begun: Instant,
    pulse: Mutex<Pulse>,
}

/// When this process was last seen alive, by the time that it has been there, and since when on the timeline.
#[derive(Debug, Clone, Copy)]
struct Pulse {
    last: Duration,
    awake_since: Time,
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
        Self {
            origin,
            started: tokio::time::Instant::now(),
            wall: None,
            apart: 0.into(),
            asleep: None,
            slept: (Duration::ZERO, 0.into()),
            begun: Instant::now(),
            pulse: Mutex::new(Pulse { last: Duration::ZERO, awake_since: origin }),
        }
    }

    /// The clock of the system.
    #[must_use]
    pub fn of_system() -> Self {
        Self::with_wall(chrono::Utc::now).seeing(suspended)
    }

    /// The same clock, on a machine that says so how long it was suspended.
    #[must_use]
    pub fn seeing(self, asleep: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let slept = (asleep(), 0.into());
        Self { asleep: Some(Arc::new(asleep)), slept, ..self }
    }

    /// A clock on such a wall.
    #[must_use]
    pub fn with_wall(wall: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        let clock = Self::starting_at(wall());
        Self { wall: Some(Arc::new(wall)), ..clock }
    }

    /// How long the machine was suspended since this clock began.
    fn slept(&self) -> Duration {
        let (before, most) = &self.slept;
        let Some(asleep) = &self.asleep else { return Duration::ZERO };
        let slept = asleep().saturating_sub(*before).as_millis();
        let slept = u64::try_from(slept).unwrap_or(u64::MAX);
        // Two clocks are read one after the other, so that the difference trembles; the timeline must not.
        Duration::from_millis(most.fetch_max(slept, Ordering::AcqRel).max(slept))
    }

    /// Notices that the process lives, and whether it did so all the while. Returns the timeline's now.
    fn beat(&self) -> (Time, Pulse) {
        // A panic while the lock was held cannot have left half a number.
        let mut pulse = self.pulse.lock().unwrap_or_else(PoisonError::into_inner);
        let slept = self.slept();
        let now = self.origin + self.started.elapsed() + slept;
        let alive = self.begun.elapsed() + slept;
        if alive.saturating_sub(pulse.last) > GAP {
            pulse.awake_since = now;
        }
        pulse.last = pulse.last.max(alive);
        (now, *pulse)
    }

    /// How far the wall is ahead of the timeline, where it has been set anew since that was last said.
    fn step(&self, wall: Time) -> Option<chrono::TimeDelta> {
        let apart = wall.signed_duration_since(self.now());
        let said = self.apart.load(Ordering::Acquire);
        let moved = apart.num_milliseconds().abs_diff(said);
        if u128::from(moved) < STEP.as_millis() {
            return None;
        }
        self.apart.store(apart.num_milliseconds(), Ordering::Release);
        Some(apart)
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Time {
        self.beat().0
    }

    fn awake_since(&self) -> Time {
        self.beat().1.awake_since
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

/// How long this machine was suspended since it was started. Of two clocks that are read one after the other:
/// in this order a pause between the readings makes it less and never more.
fn suspended() -> Duration {
    let read = |clock| {
        let time = clock_gettime(clock);
        let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
    };
    let all = read(ClockId::Boottime);
    all.saturating_sub(read(ClockId::Monotonic))
}
