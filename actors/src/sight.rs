//! How well one side is seen: the VMs of a cloud, or the registrations of one scope. **Pure.**
//!
//! A listing that fails changes nothing in the fleet, and so would leave no trace but a log line:
//! every runner goes on as it was last seen. What fails, since when and until when is kept here, for
//! whoever asks why nothing happens; it ends with the first listing that goes well.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    foreign::Foreign,
    name::Scope,
    port::{ErrorClass, PortError, Time},
};

/// Longest text of the other side that is kept, in characters.
const TEXT_MAX: usize = 600;
/// Refusals in a row that are no hiccup: a token that is being rotated is refused once.
const REFUSALS: u32 = 2;

/// The time of day, with its date unless that is today's (UTC): a hold may last for days.
#[must_use]
pub fn moment(at: Time, now: Time) -> String {
    let form = if at.date_naive() == now.date_naive() { "%H:%M:%SZ" } else { "%Y-%m-%d %H:%M:%SZ" };
    at.format(form).to_string()
}

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "side", content = "name")]
pub enum Side {
    /// The VMs of the provider of that name.
    Provider(String),
    /// The registrations of that scope at the forge.
    Scope(Scope),
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(name) => write!(f, "provider {name}"),
            Self::Scope(scope) => write!(f, "scope {scope}"),
        }
    }
}

/// A side that cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When the first listing in a row failed.
    pub since: Time,
    /// How many failed in a row.
    pub failures: u32,
    /// When it is tried again; until then the side is held.
    pub until: Time,
    /// Whether it is refused for good, so that a person must mend it. A rate limit that comes between
    /// changes nothing about that.
    pub refused: bool,
    /// What the last one failed with.
    pub error: PortError,
}

/// How well a side is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// Since when it is asked for.
    pub asked_since: Time,
    /// When the last whole listing began.
    pub listed_at: Option<Time>,
    /// What the newest listing could not read, where it was not whole.
    pub partial: Option<String>,
    /// Why it cannot be listed, while that is so.
    pub trouble: Option<Trouble>,
}

impl Sight {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self { asked_since: now, listed_at: None, partial: None, trouble: None }
    }

    /// A listing that began at `as_of` came; `faults` is what it could not read.
    pub fn listed(&mut self, whole: bool, as_of: Time, faults: &[String]) {
        self.trouble = None;
        if whole {
            self.listed_at = self.listed_at.max(Some(as_of));
            self.partial = None;
        } else {
            let first = faults.first().map_or("something could not be read", String::as_str);
            self.partial = Some(tame(first));
        }
    }

    /// A listing failed at `now`; the next one is tried at `until`.
    pub fn failed(&mut self, error: &PortError, until: Time, now: Time) {
        let before = self.trouble.take();
        let refused = match error.class {
            ErrorClass::Auth | ErrorClass::Invalid => true,
            ErrorClass::RateLimited { .. } => before.as_ref().is_some_and(|t| t.refused),
            _ => false,
        };
        self.trouble = Some(Trouble {
            since: before.as_ref().map_or(now, |t| t.since),
            failures: before.as_ref().map_or(0, |t| t.failures).saturating_add(1),
            until,
            refused,
            error: PortError { what: tame(&error.what), ..error.clone() },
        });
    }

    /// What is to be said of it at `now`; `None` while all is well.
    #[must_use]
    pub fn said(&self, now: Time) -> Option<String> {
        let mut parts = Vec::new();
        if self.listed_at.is_none() {
            parts.push(format!("not listed yet since {}", moment(self.asked_since, now)));
        }
        if let Some(trouble) = &self.trouble {
            parts.push(trouble.said(now));
        } else if let Some(partial) = &self.partial {
            let seen = self.listed_at.map(|at| format!(" since {}", moment(at, now)));
            parts.push(format!("not listed whole{}: {partial}", seen.unwrap_or_default()));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Whether the fleet is not ready for want of this side: it was never listed whole, not within
    /// `bound`, or it refuses us for good and not only once.
    #[must_use]
    pub fn blind(&self, bound: Duration, now: Time) -> bool {
        let refused = self.trouble.as_ref().is_some_and(|t| t.refused && t.failures >= REFUSALS);
        refused || self.listed_at.is_none_or(|at| now > at + bound)
    }
}

impl Trouble {
    /// What fails, since when, until when.
    #[must_use]
    pub fn said(&self, now: Time) -> String {
        let times =
            if self.failures == 1 { "once".into() } else { format!("{} times", self.failures) };
        format!(
            "fails since {} ({times}, held until {}): {}",
            moment(self.since, now),
            moment(self.until, now),
            self.error.what
        )
    }
}

/// A foreign text that a terminal does not obey and that fills no page.
fn tame(given: &str) -> String {
    Foreign::<TEXT_MAX>::from(given).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::is_order;

    const BOUND: Duration = Duration::from_secs(180);

    fn at(seconds: i64) -> Time {
        chrono::DateTime::from_timestamp(1_718_000_000 + seconds, 0).unwrap()
    }

    fn error(class: ErrorClass) -> PortError {
        PortError::certain(
            class,
            "list runners of acme/widgets: GitHub says 401, \"Bad credentials\"",
        )
    }

    fn seen() -> Sight {
        let mut sight = Sight::new(at(0));
        sight.listed(true, at(1), &[]);
        sight
    }

    #[test]
    fn what_fails_is_told_from_the_first_failure_to_the_first_listing() {
        let mut sight = seen();
        assert_eq!(sight.said(at(2)), None);
        sight.failed(&error(ErrorClass::Auth), at(18), at(10));
        sight.failed(&error(ErrorClass::Auth), at(34), at(18));
        let said = sight.said(at(20)).unwrap();
        assert_eq!(
            said,
            "fails since 06:13:30Z (2 times, held until 06:13:54Z): list runners of acme/widgets: \
             GitHub says 401, \"Bad credentials\""
        );
        sight.listed(true, at(34), &[]);
        assert_eq!((sight.said(at(35)), sight.blind(BOUND, at(35))), (None, false));
    }

    #[test]
    fn a_side_that_was_never_listed_says_since_when() {
        let mut sight = Sight::new(at(0));
        assert_eq!(sight.said(at(1)).unwrap(), "not listed yet since 06:13:20Z");
        assert!(sight.blind(BOUND, at(1)));
        sight.failed(&error(ErrorClass::Transient), at(10), at(2));
        let said = sight.said(at(3)).unwrap();
        assert!(
            said.starts_with("not listed yet since 06:13:20Z; fails since 06:13:22Z (once"),
            "{said}"
        );
    }

    #[test]
    fn a_side_is_seen_for_as_long_as_the_last_whole_listing_is_young() {
        let mut sight = seen();
        sight.failed(&error(ErrorClass::Transient), at(20), at(10));
        sight.failed(&error(ErrorClass::Transient), at(40), at(20));
        assert!(!sight.blind(BOUND, at(181)));
        assert!(sight.blind(BOUND, at(182)));
        let mut partial = seen();
        partial.listed(false, at(100), &["page 2: 502".to_owned()]);
        assert!(!partial.blind(BOUND, at(101)) && partial.blind(BOUND, at(182)));
        assert_eq!(partial.said(at(101)).unwrap(), "not listed whole since 06:13:21Z: page 2: 502");
    }

    #[test]
    fn whoever_is_refused_twice_sees_nothing_whatever_the_last_listing_was() {
        let mut sight = seen();
        sight.failed(&error(ErrorClass::Auth), at(20), at(10));
        assert!(!sight.blind(BOUND, at(11)), "a token that is being rotated is refused once");
        let held = error(ErrorClass::RateLimited { until: at(60) });
        sight.failed(&held, at(60), at(20));
        assert!(sight.blind(BOUND, at(21)), "a breaker's hold is still the refusal's");
        sight.failed(&error(ErrorClass::Transient), at(80), at(60));
        assert!(!sight.blind(BOUND, at(61)));
    }

    #[test]
    fn a_hold_beyond_today_is_told_with_its_date() {
        assert_eq!(moment(at(0), at(60)), "06:13:20Z");
        assert_eq!(moment(at(86_400), at(0)), "2024-06-11 06:13:20Z");
    }

    #[test]
    fn a_foreign_text_is_cut_and_orders_no_terminal_about() {
        let mut sight = seen();
        let long = format!("\u{1b}[2J{}\u{202e}", "x".repeat(5000));
        sight.failed(&PortError::certain(ErrorClass::Transient, long), at(20), at(10));
        let what = sight.trouble.unwrap().error.what;
        assert!(what.chars().count() <= TEXT_MAX + 1 && !what.chars().any(is_order), "{what}");
    }
}
