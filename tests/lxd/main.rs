//! What needs a real LXD: `tests/lxd/up.sh` brings one up.
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

mod background;
mod contract;
mod demo;
mod e2e;
mod events;
mod guest_container;
mod guest_stand_down;
mod provider;
mod vms;
