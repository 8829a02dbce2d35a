//! The demo: the real daemon against a fake GitHub and a fake cloud on loopback.

use std::process::ExitCode;

use crate::cli::DemoArgs;

/// Runs the demo.
#[must_use]
pub fn run(args: &DemoArgs) -> ExitCode {
    tracing::error!(?args, "the demo is not wired up");
    ExitCode::FAILURE
}
