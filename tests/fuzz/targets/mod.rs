//! What the fuzzer does with an input, and CI with each file of the corpus: the functions that read what
//! comes from outside, called as production calls them, and what must hold whatever they are given.
//!
//! "No panic" alone would be a poor judge: a reader that takes everything for nothing never panics. So
//! each target says what is kept, what is bounded, and what one bad part may not cost.

use std::hash::{DefaultHasher, Hasher as _};

use runner_fleet_actors::{foreign::is_order, port::Time};

pub mod clouds;
pub mod config;
pub mod guests;
mod listings;
pub mod lxd;
pub mod nova;
pub mod scale_sets;
pub mod user_data;
pub mod webhooks;

/// Whether an input is of the one in `one_in` that a slow judge looks at: always the same ones. CI, which
/// has the corpus alone, looks at all.
fn is_judged(input: &[u8], one_in: u64) -> bool {
    let mut hasher = DefaultHasher::new();
    hasher.write(input);
    cfg!(test) || hasher.finish().is_multiple_of(one_in)
}

/// When everything happens.
fn now() -> Time {
    Time::from_timestamp(1_795_867_200, 0).unwrap()
}

/// A text that is shown to people: it orders no terminal about, and fills no log.
fn assert_tame(text: &str, max: usize) {
    assert!(!text.chars().any(is_order), "orders a terminal about: {text:?}");
    let long = text.len() > max && text.chars().count() > max;
    assert!(!long, "longer than {max} characters: {text:?}");
}
