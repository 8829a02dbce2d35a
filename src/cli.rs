//! The command line: `runner-fleet run` is the daemon, everything else talks to one.
//!
//! Rules. Answers go to stdout, everything else to stderr. `--output json` prints the API's own
//! documents, so that a script that outgrows the command line keeps its reading code. Exit codes say
//! whose turn it is: 1 what was asked failed, 2 the command or the configuration is wrong, 3 no
//! daemon answers. The command line knows nothing that the HTTP API does not: the alternative, a
//! second way into the fleet, is a second truth.

mod args;
mod client;
mod jobs;
mod order;
mod show;
pub(crate) mod table;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::CommandFactory;

pub use self::args::{
    Args, CheckArgs, Command, ConfigArgs, DemoArgs, DemoDemand, DemoProvider, JobsArgs, Output,
    Talk, TargetWord,
};
use self::client::CallError;
use crate::{config::Config, daemon, log, process};

/// What was asked failed.
pub(crate) const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub(crate) const WRONG: u8 = 2;
/// No daemon answers.
const UNREACHABLE: u8 = 3;

/// The whole program: reads the command line, does what it says, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let args = match Args::of_process() {
        Ok(args) => args,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(WRONG);
            // Help that nobody reads to its end (`| head`) is no failure.
            let _closed_pipe = error.print();
            return ExitCode::from(code);
        }
    };
    // Before the first secret is read. Only the daemon has a log for what the system refuses.
    let refused = process::prepare();
    match args.command {
        Command::Run(args) => run(&args.config, refused),
        Command::Check(args) => check(&args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => crate::demo::run(&args),
        #[cfg(not(feature = "demo"))]
        Command::Demo(_) => {
            complain(WRONG, "this runner-fleet was built without the cargo feature \"demo\"")
        }
        Command::Completions { shell } => completions(shell),
        command => order::call(command, &args.talk),
    }
}

fn run(path: &Path, refused: Vec<String>) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(faults) => return complain(WRONG, &faults.to_string()),
    };
    if let Err(faults) = daemon::read_clouds(&config, path) {
        return complain(WRONG, &faults.to_string());
    }
    match log::init(&config.fleet) {
        Ok(log) => {
            for what in refused {
                tracing::warn!("{what}");
            }
            for warning in &config.warnings {
                let warning = warning.at(path);
                tracing::warn!(%warning, "the configuration is unwise");
            }
            daemon::run(config, path, log)
        }
        Err(error) => complain(WRONG, &error.to_string()),
    }
}

fn check(args: &CheckArgs) -> ExitCode {
    let path = args.config.config.as_path();
    let read = Config::load(path).and_then(|config| {
        let warnings = daemon::read_clouds(&config, path)?;
        Ok((config, warnings))
    });
    if let Ok((config, warnings)) = &read {
        // Asked online, they stand among the answers.
        for warning in config.warnings.iter().filter(|_| !args.online) {
            remark(&format!("warning: {}", warning.at(path)));
        }
        for warning in warnings {
            remark(&format!("warning: {warning}"));
        }
    }
    match read {
        Ok((config, _)) if args.online => daemon::check_online(&config, args.output),
        Ok((config, _)) => say(&show::good_config(path, &config, args.output)),
        Err(faults) if args.output == Output::Json => {
            let text = serde_json::to_string_pretty(&faults).unwrap_or_else(|e| e.to_string());
            say(&text);
            ExitCode::from(WRONG)
        }
        Err(faults) => complain(WRONG, &faults.to_string()),
    }
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "runner-fleet", &mut text);
    say(String::from_utf8_lossy(&text).trim_end())
}

/// Prints an answer. A reader that has gone away is no failure.
pub(crate) fn say(text: &str) -> ExitCode {
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => complain(FAILED, &format!("the answer cannot be written: {error}")),
    }
}

/// Says what is wrong, and ends with `code`.
pub(crate) fn complain(code: u8, text: &str) -> ExitCode {
    remark(text);
    ExitCode::from(code)
}

/// Says something that is no answer.
fn remark(text: &str) {
    // With stderr gone as well, the exit code is all that is left to say.
    let _closed = writeln!(io::stderr().lock(), "{text}");
}

fn fail(error: &CallError) -> ExitCode {
    let code = match error {
        CallError::Unreachable(_) => UNREACHABLE,
        CallError::Refused(_) | CallError::Broken(_) => FAILED,
    };
    complain(code, &format!("runner-fleet: {error}"))
}
