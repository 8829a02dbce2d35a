//! Is a runner application too old, or about to be? A pure decision.
//!
//! GitHub sends no jobs to an application that stays old: 30 days after the release of a newer one
//! (GitHub docs, "Runner software updates on self-hosted runners"; enforced again since 2026). Such
//! a runner registers, is idle for ever, and its listener ends with "Runner version … is deprecated
//! and cannot receive messages" (actions/runner#4392): a fleet of an old image is a fleet that works
//! one evening and takes no job the next morning. So it is said beforehand.
//!
//! The date comes from GitHub's own schedule where it tells one. A GitHub Enterprise Server does not,
//! and then the 30 days count from when a newer version was first seen on offer, which may have been
//! after its release: the date told is the latest one.
//!
//! Refusing launches of an old application is the alternative: it turns GitHub's date, which GitHub
//! itself has moved more than once, into an outage of our own.

use std::{fmt, str::FromStr, time::Duration};

use runner_fleet_actors::port::Time;

/// How long an application may be used after the release of a newer one.
pub const GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A version of the runner application, as `2.336.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32, pub u32, pub u32);

/// A text is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no version of the runner application, which is three numbers such as 2.336.0")]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let mut parts = text.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|_| digits).ok_or(NoVersion)
        });
        let mut next = || parts.next().unwrap_or(Err(NoVersion));
        let version = Self(next()?, next()?, next()?);
        if parts.next().is_some() { Err(NoVersion) } else { Ok(version) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// GitHub's schedule for one version. Without dates: GitHub has set none yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deprecation {
    /// From when on it can no longer register.
    pub registration: Option<Time>,
    /// From when on it gets no jobs.
    pub runtime: Option<Time>,
}

impl Deprecation {
    /// A single-use runner needs both: it registers for each job.
    #[must_use]
    pub fn refused_from(&self) -> Option<Time> {
        self.registration.into_iter().chain(self.runtime).min()
    }
}

/// The newest version on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// Which.
    pub version: Version,
    /// When it was first seen.
    pub seen: Time,
}

/// What there is to say of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing: no newer one is known, and GitHub has set no date.
    Current,
    /// There is a newer one, or GitHub has set a date.
    Old {
        /// The newer one, if there is one on offer.
        newest: Option<Version>,
        /// From when on GitHub refuses it, as far as that is known.
        refused_from: Option<Time>,
    },
    /// GitHub refuses it, by its own schedule.
    Refused {
        /// A newer one on offer.
        newest: Option<Version>,
        /// Since when.
        since: Time,
    },
}

/// Judges a version by what is known at `now`. `told` is GitHub's schedule; `None` where GitHub has
/// told none, because it was not asked yet or because it does not tell.
#[must_use]
pub fn judge(
    version: Version,
    newest: Option<Newest>,
    told: Option<&Deprecation>,
    now: Time,
) -> Freshness {
    let newer = newest.filter(|newest| newest.version > version);
    let refused_from = match (told, newer) {
        (Some(told), _) => told.refused_from(),
        (None, Some(newer)) => Some(newer.seen + GRACE),
        (None, None) => None,
    };
    let newest = newer.map(|newer| newer.version);
    match refused_from {
        Some(since) if told.is_some() && since <= now => Freshness::Refused { newest, since },
        None if newest.is_none() => Freshness::Current,
        refused_from => Freshness::Old { newest, refused_from },
    }
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DO: &str =
            "renew the image or mirror that it comes from, or let the pool download it";
        let newer = |newest: &Option<Version>| match newest {
            Some(newest) => format!("GitHub offers {newest}"),
            None => "GitHub retires it".to_owned(),
        };
        match self {
            Self::Current => f.write_str("current"),
            Self::Old { newest, refused_from: Some(from) } => {
                let (newer, day) = (newer(newest), from.format("%Y-%m-%d"));
                write!(f, "old: {newer} and sends it no jobs from {day} on at the latest; {DO}")
            }
            Self::Old { newest, refused_from: None } => {
                write!(f, "old: {} and has set no date for its end yet; {DO}", newer(newest))
            }
            Self::Refused { newest, since } => {
                let (newer, day) = (newer(newest), since.format("%Y-%m-%d"));
                write!(f, "too old: {newer} and sends it no jobs since {day}; {DO}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i64) -> Time {
        Time::from_timestamp(1_790_000_000 + day * 86_400, 0).unwrap()
    }

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn a_version_is_three_numbers_and_nothing_else() {
        for text in ["2.336.0", "0.0.1", "10.2.30"] {
            assert_eq!(version(text).to_string(), text);
        }
        for text in ["", "2", "2.336", "2.336.0.1", "v2.336.0", "2.+3.0", "2..0", "2.336.0-rc", "a"]
        {
            assert_eq!(text.parse::<Version>(), Err(NoVersion), "{text}");
        }
        assert!(version("2.99.9") < version("2.336.0"), "numbers, not letters");
    }

    #[test]
    fn an_old_version_is_told_of_before_github_refuses_it() {
        let newest = Some(Newest { version: version("2.336.0"), seen: day(0) });
        let old = |refused_from| Freshness::Old { newest: Some(version("2.336.0")), refused_from };
        let refused = |since| Freshness::Refused { newest: Some(version("2.336.0")), since };
        let told = |registration: Option<i64>, runtime: Option<i64>| {
            Some(Deprecation { registration: registration.map(day), runtime: runtime.map(day) })
        };
        let table = [
            // Nothing told: the rule, and never more than a warning.
            ("2.336.0", None, 1, Freshness::Current),
            ("2.337.0", None, 1, Freshness::Current),
            ("2.335.0", None, 1, old(Some(day(30)))),
            ("2.335.0", None, 31, old(Some(day(30)))),
            // GitHub's own dates, whichever comes first.
            ("2.335.0", told(None, None), 40, old(None)),
            ("2.335.0", told(Some(20), Some(25)), 19, old(Some(day(20)))),
            ("2.335.0", told(Some(20), Some(10)), 9, old(Some(day(10)))),
            ("2.335.0", told(None, Some(10)), 10, refused(day(10))),
            ("2.335.0", told(Some(10), None), 11, refused(day(10))),
            ("2.336.0", told(None, None), 1, Freshness::Current),
        ];
        for (text, told, now, wanted) in table {
            let is = judge(version(text), newest, told.as_ref(), day(now));
            assert_eq!(is, wanted, "{text} on day {now}, told {told:?}");
        }
    }

    #[test]
    fn a_date_that_github_has_set_counts_also_where_nothing_newer_is_on_offer() {
        let told = Deprecation { registration: None, runtime: Some(day(10)) };
        let is = |now| judge(version("2.336.0"), None, Some(&told), day(now));
        assert_eq!(is(9), Freshness::Old { newest: None, refused_from: Some(day(10)) });
        assert_eq!(is(10), Freshness::Refused { newest: None, since: day(10) });
    }
}
