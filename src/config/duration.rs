//! Durations as people write them: `90s`, `15m`, `1h30m`, `5d`.
//!
//! A bare number is refused: whether `15` means seconds or minutes is a guess that costs a fleet.

use std::time::Duration;

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a duration as whole numbers with units, largest first: \"90s\", \"15m\", \"1h30m\", \"5d\""
)]
pub struct DurationError;

/// Reads `1h30m`: whole numbers, each with one of the units d, h, m, s, largest unit first and each
/// unit at most once.
///
/// # Errors
/// Anything else, a bare number included.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let mut seconds: u64 = 0;
    let mut units = UNITS.iter();
    let mut rest = text;
    if rest.is_empty() {
        return Err(DurationError);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(DurationError)?;
        let number: u64 = rest[..digits].parse().map_err(|_| DurationError)?;
        let unit = rest[digits..].chars().next().ok_or(DurationError)?;
        let (_, size) = units.find(|(letter, _)| *letter == unit).ok_or(DurationError)?;
        let part = number.checked_mul(*size).ok_or(DurationError)?;
        seconds = seconds.checked_add(part).ok_or(DurationError)?;
        rest = &rest[digits + 1..];
    }
    Ok(Duration::from_secs(seconds))
}

/// Writes `3m12s`: the two largest units that are not zero, rounded down; `0s` for less than one
/// second. Meant for people; [`parse_duration`] reads it back.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut parts = Vec::new();
    for (letter, size) in UNITS {
        let number = rest / size;
        rest %= size;
        if number > 0 {
            parts.push(format!("{number}{letter}"));
        }
        // After the largest unit exactly one more is of use: `2h`, `2h5m`, never `2h0m3s`.
        if parts.len() == 2 || (parts.len() == 1 && number == 0) {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, seconds) in
            [("90s", 90), ("15m", 900), ("1h30m", 5400), ("5d", 432_000), ("1d2h3m4s", 93_784)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn anything_that_could_be_misread_is_refused() {
        for text in [
            "",
            "15",
            "m",
            "1.5h",
            "15 m",
            "-5m",
            "30m1h",
            "1m1m",
            "5w",
            "99999999999999999999s",
            "5ü",
        ] {
            assert_eq!(parse_duration(text), Err(DurationError), "{text}");
        }
        assert_eq!(parse_duration("300000000000000d"), Err(DurationError), "overflow");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back_and_never_shows_too_much(seconds in 0..u64::MAX) {
            let duration = Duration::from_secs(seconds);
            let back = parse_duration(&format_duration(duration)).unwrap();
            proptest::prop_assert!(back <= duration);
            proptest::prop_assert!(duration - back < duration / 12 + Duration::from_secs(1));
        }

        #[test]
        fn no_text_is_too_strange_to_be_refused(text in ".{0,40}") {
            let _refused_or_not = parse_duration(&text);
        }
    }

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (192, "3m12s"),
            (3_600, "1h"),
            (3_603, "1h"),
            (9_300, "2h35m"),
            (97_200, "1d3h"),
        ] {
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
    }
}
