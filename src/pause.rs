//! Until when another side wants no calls: the one place in which its words become a time. Pure.
//!
//! Every client asks here (GitHub's REST API and actions service, the clouds, the planner), because
//! each of them once believed what it read: `Retry-After: 3600000`, written in milliseconds by somebody
//! in between, stops a fleet for six weeks, and a number near 2^64 ends the task that adds it to a time.
//! So whatever is told
//!
//! - is at most [`LONGEST`] from now: no window of anybody asked here is longer than an hour, and one
//!   call too early an hour later costs less than a fleet that stands still;
//! - counts as not told where it is no number of seconds and no date (RFC 9110, 10.2.3), is negative,
//!   or is over already: then the caller's own pause holds;
//! - is added so that nothing overflows.

use std::time::{Duration, UNIX_EPOCH};

use runner_fleet_actors::port::Time;

/// The longest pause that is believed. GitHub's windows are an hour long (GitHub docs, "Rate limits for
/// the REST API").
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// What the other side said, as it stands in its header.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Told<'a> {
    /// `Retry-After`: seconds from now, or a date.
    RetryAfter(&'a str),
    /// The end of a window, in seconds since 1970.
    Reset(&'a str),
}

/// `now` and a while, which is at most [`LONGEST`].
pub(crate) fn after(now: Time, pause: Duration) -> Time {
    now.checked_add_signed(chrono::TimeDelta::from_std(pause.min(LONGEST)).unwrap_or_default())
        .unwrap_or(Time::MAX_UTC)
}

/// The time that was told. A `Retry-After` is never before `now`; a reset may be, for a window that is
/// over. Neither is later than [`LONGEST`] from now. `None` where the text is no such thing.
pub(crate) fn until(told: Told<'_>, now: Time) -> Option<Time> {
    match told {
        Told::RetryAfter(text) => match seconds(text) {
            Some(seconds) => Some(after(now, Duration::from_secs(seconds))),
            None => Some(date(text.trim())?.clamp(now, after(now, LONGEST))),
        },
        Told::Reset(text) => {
            let told = i64::try_from(seconds(text)?).ok();
            let told = told.and_then(|second| Time::from_timestamp(second, 0));
            Some(told.unwrap_or(Time::MAX_UTC).min(after(now, LONGEST)))
        }
    }
}

/// The time that was told if it is still to come, else `pause` from now.
pub(crate) fn or_after(told: Option<Time>, now: Time, pause: Duration) -> Time {
    told.filter(|told| *told > now).unwrap_or_else(|| after(now, pause))
}

/// A whole number that is not negative. One with more digits than any number has is a large one.
fn seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Any of the three forms of a date (RFC 9110, 5.6.7).
fn date(text: &str) -> Option<Time> {
    let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Time::from_timestamp(i64::try_from(since.as_secs()).ok()?, 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Time {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    /// Seconds from now, or `None` where nothing usable was told.
    fn left(told: Told<'_>) -> Option<i64> {
        until(told, now()).map(|until| (until - now()).num_seconds())
    }

    #[test]
    fn one_odd_retry_after_stops_nobody_for_longer_than_an_hour() {
        let table = [
            ("0", Some(0)),
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("3600", Some(3600)),
            ("3601", Some(3600)),
            ("3600000", Some(3600)),
            ("18446744073709551615", Some(3600)),
            ("99999999999999999999999999", Some(3600)),
            ("Fri, 20 Nov 2026 10:01:00 GMT", Some(60)),
            ("Friday, 20-Nov-26 10:01:00 GMT", Some(60)),
            ("Fri Nov 20 10:01:00 2026", Some(60)),
            ("Fri, 20 Nov 2026 09:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(3600)),
            ("-1", None),
            ("-9223372036854775808", None),
            ("1.5", None),
            ("1e9", None),
            ("", None),
            ("soon", None),
            ("\u{661}\u{662}", None),
        ];
        for (text, wanted) in table {
            assert_eq!(left(Told::RetryAfter(text)), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_reset_lies_within_the_window_whatever_unit_it_was_written_in() {
        let second = now().timestamp();
        let table = [
            ((second + 60).to_string(), Some(60)),
            ((second - 60).to_string(), Some(-60)),
            ((second + 86_400).to_string(), Some(3600)),
            (((second + 60) * 1000).to_string(), Some(3600)),
            (u64::MAX.to_string(), Some(3600)),
            ("99999999999999999999999".to_owned(), Some(3600)),
            ("-5".to_owned(), None),
            ("Fri, 20 Nov 2026 10:01:00 GMT".to_owned(), None),
            (String::new(), None),
        ];
        for (text, wanted) in table {
            assert_eq!(left(Told::Reset(&text)), wanted, "{text:?}");
        }
    }

    #[test]
    fn what_is_over_counts_as_not_told() {
        let minute = Duration::from_secs(60);
        let in_a_minute = after(now(), minute);
        assert_eq!(or_after(None, now(), minute), in_a_minute);
        assert_eq!(or_after(Some(now()), now(), minute), in_a_minute);
        let later = after(now(), minute * 2);
        assert_eq!(or_after(Some(later), now(), minute), later);
        assert_eq!(after(Time::MAX_UTC, minute), Time::MAX_UTC);
        assert_eq!(after(now(), Duration::MAX), after(now(), LONGEST));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_none_exceeds_the_clamp(
            text in prop_oneof!["\\PC{0,40}", "-?[0-9]{0,30}", "[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT"],
            second in -62_135_596_800_i64..253_402_300_799,
        ) {
            let now = Time::from_timestamp(second, 0).unwrap();
            let latest = after(now, LONGEST);
            if let Some(until) = until(Told::RetryAfter(&text), now) {
                prop_assert!(now <= until && until <= latest);
            }
            if let Some(until) = until(Told::Reset(&text), now) {
                prop_assert!(until <= latest);
            }
        }
    }
}
