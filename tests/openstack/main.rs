//! What needs a real OpenStack: `tests/openstack/up.sh` brings one up.
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

mod contract;
mod e2e;
mod outages;
