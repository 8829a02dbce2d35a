//! What needs real queues: `tests/queue/up.sh` brings them up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "a test fails by panicking, and says what it measured"
)]

#[path = "../support/mod.rs"]
mod support;

mod e2e;
mod source;
