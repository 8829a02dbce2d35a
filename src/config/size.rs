//! Sizes as people write them: `"4GiB"`.

use std::fmt;

/// Units by name, in bytes. Binary and decimal ones, as LXD's own keys take them.
const UNITS: [(&str, u64); 7] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
];

/// Why a text is not a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeError;

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write a size with its unit, such as \"512MiB\" or \"4GiB\" (KiB, MiB, GiB, TiB, MB, GB, TB)")
    }
}

impl std::error::Error for SizeError {}

/// Reads a whole number with a unit; the result is in bytes.
///
/// # Errors
/// Where there is no number, no unit, an unknown one, or more than a `u64` holds.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let (unit, bytes) = UNITS.iter().find(|(unit, _)| text.ends_with(unit)).ok_or(SizeError)?;
    let number = text.strip_suffix(unit).unwrap_or_default().trim_end();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(SizeError);
    }
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(*bytes)).ok_or(SizeError)
}

/// Bytes in the largest binary unit that leaves a whole number: `4GiB`, `1536MiB`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let exact = UNITS[..4].iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    match exact {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit_and_written_the_same() {
        for (text, bytes) in [("4GiB", 4 << 30), ("1536MiB", 1536 << 20), ("1TiB", 1 << 40)] {
            assert_eq!(parse_size(text), Ok(bytes));
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(parse_size("10 GB"), Ok(10_000_000_000));
        for text in ["", "4", "GiB", "4 gib", "-1GiB", "1.5GiB", "4G", "99999999999TiB"] {
            assert_eq!(parse_size(text), Err(SizeError), "{text}");
        }
    }
}
