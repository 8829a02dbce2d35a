//! The daemon's wiring: adapters, actors, API and journal, from start to stop.

use std::{path::Path, process::ExitCode};

use crate::{cli::Output, config::Config, log::LogControl};

/// Runs the fleet of `config`, which was read from `path`, until SIGTERM.
#[must_use]
pub fn run(config: Config, path: &Path, _log: LogControl) -> ExitCode {
    tracing::error!(fleet = %config.fleet.id, config = %path.display(), "the daemon is not wired up");
    ExitCode::FAILURE
}

/// Asks GitHub and the clouds whether they can do what `config` wants of them.
#[must_use]
pub fn check_online(config: &Config, _output: Output) -> ExitCode {
    tracing::error!(fleet = %config.fleet.id, "the online check is not wired up");
    ExitCode::FAILURE
}
