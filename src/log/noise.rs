//! Lines that a stranger can cause: the first ones of a minute are written, the others are counted.
//!
//! Whoever reaches a listener, or holds a guest's token, can make the daemon complain as often as he
//! likes; without a bound that fills the disk on which the ledger lies. So whatever a stranger can
//! cause goes through a [`Noise`], one for each kind of complaint at each listener, so that a flood of one kind
//! hides no other. What is quoted of him is cut and tamed by [`quoted`].

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use runner_fleet_actors::foreign::Foreign;
use tokio::{runtime::Handle, time::Instant};
use tracing::field::{DisplayValue, display};

/// Lines of one kind in a minute: enough to see who and what.
const LINES: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// Longest text of a stranger in a line, in characters.
const QUOTED_MAX: usize = 100;

/// Decides which lines of one kind are written. Pure: the time is an argument.
#[derive(Debug, Clone)]
pub struct Flood {
    lines: u32,
    within: Duration,
    began: Option<Instant>,
    written: u32,
    untold: u64,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// It is written, with the number of those that were left out before it and not told yet.
    Write(u64),
    /// It is counted. `first`: nothing was left out before it, so somebody should see that the count is
    /// told by [`Flood::close`] at the end of the time.
    Count {
        /// Whether it is the first that is left out.
        first: bool,
    },
}

impl Flood {
    /// At most `lines` lines are written in each `within`.
    #[must_use]
    pub const fn new(lines: u32, within: Duration) -> Self {
        Self { lines, within, began: None, written: 0, untold: 0 }
    }

    fn over(&self, now: Instant) -> bool {
        self.began.is_none_or(|began| now.saturating_duration_since(began) >= self.within)
    }

    /// A line wants to be written.
    pub fn line(&mut self, now: Instant) -> Line {
        if self.over(now) {
            self.began = Some(now);
            self.written = 0;
        }
        if self.written < self.lines {
            self.written += 1;
            return Line::Write(std::mem::take(&mut self.untold));
        }
        self.untold = self.untold.saturating_add(1);
        Line::Count { first: self.untold == 1 }
    }

    /// How many were left out, once their time is over and nothing has told it since.
    pub fn close(&mut self, now: Instant) -> Option<u64> {
        let untold = if self.over(now) { std::mem::take(&mut self.untold) } else { 0 };
        (untold > 0).then_some(untold)
    }
}

/// How many lines were left out, for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct More(u64);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        f.write_str(" more in the last minute")
    }
}

/// The field of a line that tells of those left out; nothing where none was.
pub type And = Option<DisplayValue<More>>;

#[derive(Debug)]
struct Kind {
    what: &'static str,
    whom: &'static str,
    flood: Mutex<Flood>,
}

impl Kind {
    fn with<T>(&self, act: impl FnOnce(&mut Flood) -> T) -> T {
        act(&mut self.flood.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Complaints of one kind.
#[derive(Debug, Clone)]
pub struct Noise(Arc<Kind>);

impl Noise {
    /// `what` names the kind in the line that tells how many were left out ("wrong signatures"), `whom`
    /// the listener ("webhooks").
    #[must_use]
    pub fn new(whom: &'static str, what: &'static str) -> Self {
        Self(Arc::new(Kind { what, whom, flood: Mutex::new(Flood::new(LINES, MINUTE)) }))
    }

    /// Writes a line by `write`, or counts it. `write` puts what it is given into its line.
    pub fn say(&self, write: impl FnOnce(And)) {
        match self.0.with(|flood| flood.line(Instant::now())) {
            Line::Write(0) => write(None),
            Line::Write(untold) => write(Some(display(More(untold)))),
            Line::Count { first: true } => self.close_later(),
            Line::Count { first: false } => {}
        }
    }

    /// Tells the count when the flood has ended. Without a runtime the next line tells it.
    fn close_later(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let kind = Arc::clone(&self.0);
        runtime.spawn(async move {
            tokio::time::sleep(MINUTE).await;
            if let Some(untold) = kind.with(|flood| flood.close(Instant::now())) {
                tracing::warn!(whom = kind.whom, "{}: and {}", kind.what, More(untold));
            }
        });
    }
}

/// A stranger's text in a line: cut, and without what would order a terminal about.
#[must_use]
pub fn quoted(text: &str) -> String {
    Foreign::<QUOTED_MAX>::from(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_of_a_minute_are_written_and_the_next_one_tells_how_many_were_left_out() {
        let mut flood = Flood::new(3, MINUTE);
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        for _ in 0..3 {
            assert_eq!(flood.line(at(0)), Line::Write(0));
        }
        assert_eq!(flood.line(at(1)), Line::Count { first: true });
        for _ in 0..12_344 {
            assert_eq!(flood.line(at(2)), Line::Count { first: false });
        }
        assert_eq!(flood.close(at(59)), None, "its minute is not over");
        assert_eq!(flood.line(at(60)), Line::Write(12_345));
        assert_eq!(flood.line(at(61)), Line::Write(0));
        assert_eq!(flood.close(at(200)), None, "told already");
    }

    #[test]
    fn a_flood_that_ends_is_counted_to_its_end() {
        let mut flood = Flood::new(1, MINUTE);
        let begin = Instant::now();
        assert_eq!(flood.line(begin), Line::Write(0));
        assert_eq!(flood.line(begin), Line::Count { first: true });
        assert_eq!(flood.line(begin), Line::Count { first: false });
        assert_eq!(flood.close(begin + MINUTE), Some(2));
        assert_eq!(flood.close(begin + MINUTE), None);
        // A clock that was set back is no new minute.
        assert_eq!(flood.line(begin + MINUTE), Line::Write(0));
        assert_eq!(flood.line(begin), Line::Count { first: true });
    }

    #[test]
    fn counts_are_readable_and_texts_of_strangers_short() {
        let said = |count: u64| More(count).to_string();
        assert_eq!(said(7), "7 more in the last minute");
        assert_eq!(said(12_345), "12,345 more in the last minute");
        assert_eq!(said(1_000_000), "1,000,000 more in the last minute");
        assert_eq!(quoted("a\u{1b}[2Jb\u{202e}\n"), "a\u{fffd}[2Jb\u{fffd} ");
        assert_eq!(quoted(&"x".repeat(16_000)).chars().count(), QUOTED_MAX);
    }

    #[test]
    fn a_noise_writes_few_lines_however_loud_it_is() {
        let noise = Noise::new("tests", "shouts");
        let mut written = 0;
        for _ in 0..100_000 {
            noise.say(|_| written += 1);
        }
        assert_eq!(written, LINES);
        assert_eq!(noise.0.with(|flood| flood.untold), 100_000 - u64::from(LINES));
    }
}
