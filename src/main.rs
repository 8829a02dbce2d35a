//! The runner-fleet command.

use std::process::ExitCode;

fn main() -> ExitCode {
    runner_fleet::cli::main()
}
