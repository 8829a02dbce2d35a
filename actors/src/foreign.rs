//! Texts that somebody else wrote: names of workflows, labels, a cloud's fault, a forge's refusal.
//!
//! Whoever may write a workflow, or answer for a cloud, writes them; they end on terminals, in logs
//! and on pages. So they are made harmless *where they enter*, once, by their type: a [`Foreign`] is
//! tame and short from its making on, also where it is read back from a file. What is to be shown later
//! need not remember it. The alternative, to escape at each place that shows, is forgotten at the next
//! one.

use std::{borrow::Borrow, fmt, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name that is kept, in characters; GitHub's own limits of names lie below.
pub const NAME_MAX: usize = 300;
/// Longest text of several words that is kept, in characters: an error and the list of what there is
/// instead.
pub const WORDS_MAX: usize = 4000;

/// Whether a character of a foreign text orders a terminal about instead of being shown: control
/// characters, line and paragraph separators, and the marks that turn the direction of what follows
/// (Unicode Standard Annex 9).
#[must_use]
pub fn is_order(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

/// What stands in the place of a character that orders a terminal about. Not nothing: `"lar\u{7}ge"`
/// must not become the name `large`.
fn tame(c: char) -> char {
    match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
        c if is_order(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// A text that somebody else wrote, tame and of at most `MAX` characters. A longer one ends with `…`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Foreign<const MAX: usize = NAME_MAX>(String);

/// A foreign text of several words: an error, a fault, a notice.
pub type Words = Foreign<WORDS_MAX>;

impl<const MAX: usize> Foreign<MAX> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> From<&str> for Foreign<MAX> {
    fn from(given: &str) -> Self {
        let mut chars = given.chars();
        let mut text: String = chars.by_ref().take(MAX).map(tame).collect();
        if chars.next().is_some() {
            text.pop();
            text.push('…');
        }
        Self(text)
    }
}

impl<const MAX: usize> From<String> for Foreign<MAX> {
    fn from(given: String) -> Self {
        // Mostly there is nothing to do, and the text is kept as it lies there.
        if given.len() <= MAX && !given.chars().any(is_order) {
            return Self(given);
        }
        Self::from(given.as_str())
    }
}

impl<const MAX: usize> From<Foreign<MAX>> for String {
    fn from(text: Foreign<MAX>) -> Self {
        text.0
    }
}

impl<const MAX: usize> Deref for Foreign<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> Borrow<str> for Foreign<MAX> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> AsRef<str> for Foreign<MAX> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> PartialEq<str> for Foreign<MAX> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl<const MAX: usize> PartialEq<&str> for Foreign<MAX> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl<const MAX: usize> PartialEq<String> for Foreign<MAX> {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

impl<const MAX: usize> fmt::Display for Foreign<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Foreign<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX: usize> Serialize for Foreign<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Foreign<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_workflow_cannot_ring_colour_or_turn_the_terminal_that_shows_its_name() {
        let name = Foreign::<NAME_MAX>::from("CI\u{1b}[2J\u{7} \u{202e}gpj.exe\nready");
        assert_eq!(name, "CI\u{fffd}[2J\u{fffd} \u{fffd}gpj.exe ready");
        let read: Foreign = serde_json::from_str(r#""a\u001b[31mb""#).unwrap();
        assert_eq!(read, "a\u{fffd}[31mb", "also where it is read from a body or a file");
        assert_ne!(Foreign::<NAME_MAX>::from("lar\u{7}ge"), "large", "no other name by taming");
    }

    #[test]
    fn a_name_of_megabytes_is_cut_and_says_so() {
        let cut = Foreign::<NAME_MAX>::from("é".repeat(4 << 20));
        assert_eq!(cut.chars().count(), NAME_MAX);
        assert!(cut.ends_with('…'));
        let whole = "x".repeat(NAME_MAX);
        assert_eq!(Foreign::<NAME_MAX>::from(whole.clone()), whole);
    }

    proptest! {
        #[test]
        fn whatever_comes_in_is_tame_and_short_and_stays_as_it_is(given in any::<String>()) {
            let tame = Foreign::<20>::from(given.as_str());
            prop_assert!(!tame.chars().any(is_order) && tame.chars().count() <= 20);
            prop_assert_eq!(&Foreign::<20>::from(given), &tame);
            prop_assert_eq!(&Foreign::<20>::from(tame.as_str()), &tame, "once is enough");
        }
    }
}
