//! Lines out of a stream of bytes, and pressures out of a line. **Pure.**
//!
//! Bytes arrive as the network cuts them: half a line, three lines, half a character. A line is
//! bounded, so that a peer that never ends one fills no memory; what is too long or makes no sense
//! costs itself, and the next line counts again.

use std::collections::BTreeMap;

use runner_fleet_actors::foreign::{Foreign, Words};
use serde_json::Value;

/// No line is longer: room for thousands of flavors.
const LINE_MAX: usize = 256 * 1024;

/// Why a line says nothing. It never quotes much of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// It is longer than any list of flavors.
    #[error("a line of more than {LINE_MAX} bytes")]
    TooLong,
    /// It is no JSON object.
    #[error("a line that is no JSON object: {0}")]
    NoObject(Words),
}

/// Bytes that are not a whole line yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    skipping: bool,
}

impl Lines {
    /// The lines that end in `chunk`, without their ends.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Vec<Result<Vec<u8>, Malformed>> {
        let mut ended = Vec::new();
        let mut parts = chunk.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            if self.begun.len() + part.len() > LINE_MAX {
                self.skipping = true;
            }
            if self.skipping {
                self.begun = Vec::new();
            } else {
                self.begun.extend_from_slice(part);
            }
            // What stands behind the last line end is the beginning of the next line.
            if parts.peek().is_some() {
                let line = std::mem::take(&mut self.begun);
                let skipped = std::mem::take(&mut self.skipping);
                ended.push(if skipped { Err(Malformed::TooLong) } else { Ok(line) });
            }
        }
        ended
    }
}

/// The pressures that one line tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pressures {
    /// By flavor.
    pub flavors: BTreeMap<Foreign, u32>,
    /// Flavors whose pressure is no number of runners: they are unknown, the others are not.
    pub unreadable: Vec<Foreign>,
}

/// What a line says; `None` for an empty one, by which a proxy keeps a connection alive.
pub(super) fn pressures(line: &[u8]) -> Result<Option<Pressures>, Malformed> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let told: BTreeMap<Foreign, Value> = serde_json::from_slice(line)
        .map_err(|error| Malformed::NoObject(error.to_string().into()))?;
    let mut pressures = Pressures { flavors: BTreeMap::new(), unreadable: Vec::new() };
    for (flavor, value) in told {
        match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(number) => {
                pressures.flavors.insert(flavor, number);
            }
            None => pressures.unreadable.push(flavor),
        }
    }
    Ok(Some(pressures))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(line: &str) -> Pressures {
        pressures(line.as_bytes()).unwrap().unwrap()
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_the_network_cuts_them(
            lines in prop::collection::vec("[^\n]{0,40}", 0..8),
            cut in 1..9_usize,
        ) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let mut splitter = Lines::default();
            let found: Vec<_> =
                text.as_bytes().chunks(cut).flat_map(|chunk| splitter.push(chunk)).collect();
            let whole: Vec<_> = lines.into_iter().map(|line| Ok(line.into_bytes())).collect();
            prop_assert_eq!(found, whole);
        }

        #[test]
        fn no_line_is_too_strange(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _understood_or_not = pressures(&line);
        }
    }

    #[test]
    fn a_line_without_end_costs_itself_and_no_memory() {
        let mut splitter = Lines::default();
        let piece = vec![b'x'; 100_000];
        for _ in 0..20 {
            assert_eq!(splitter.push(&piece), []);
            assert!(splitter.begun.len() <= LINE_MAX);
        }
        assert_eq!(splitter.push(b"x\n{}\n"), [Err(Malformed::TooLong), Ok(b"{}".to_vec())]);
    }

    #[test]
    fn a_flavor_whose_pressure_is_no_number_costs_itself() {
        let odd = told(r#"{"a": 3, "b": -1, "c": "7", "d": 4294967296, "e": 1.5, "f": 0}"#);
        let flavors = [("a", 3), ("f", 0)].map(|(name, number)| (name.into(), number));
        assert_eq!(odd.flavors, flavors.into());
        assert_eq!(odd.unreadable, ["b", "c", "d", "e"]);
    }

    #[test]
    fn an_empty_line_says_nothing_and_is_no_fault() {
        assert_eq!(pressures(b" \r"), Ok(None));
        assert!(pressures(b"{\"a\":").is_err() && pressures(b"[1]").is_err());
    }
}
