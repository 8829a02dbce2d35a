//! The brain as tables and properties, without a world: one binary, which is also what judges mutants.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test stops where its set-up fails"
)]

mod beginnings;
mod cordons;
mod drains;
mod endings;
mod facts;
mod gaps;
mod given;
mod holds;
mod invariants;
mod jobs;
mod lifecycle;
mod lives;
mod names;
mod order;
mod pace;
mod plans;
mod properties;
mod rosters;
mod supply;
mod told;
mod troubles;
mod under_way;
mod unlisted;
mod words;
