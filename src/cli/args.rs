//! What can be written on the command line.

use std::{ffi::OsString, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, error::ErrorKind,
    parser::ValueSource,
};

use crate::config::{DEFAULT_SOCKET, parse_duration};

const EXAMPLES: &str = "\
Examples:
  runner-fleet demo                        a whole fleet against a fake cloud, on this machine
  runner-fleet check --online              what is wrong with the configuration, GitHub, the cloud
  runner-fleet run --config fleet.toml     the daemon
  runner-fleet status                      pools, ports, and why there are as many runners
  runner-fleet target large 20             fix a pool's target; \"clear\" lets it follow demand
  runner-fleet runners --state busy --output json
  runner-fleet jobs --slow                 jobs that waited long; \"why-waiting JOB\" says for what

Exit codes:
  0  done            1  what was asked failed
  2  wrong command line or configuration
  3  no daemon answers at the socket";

/// Keeps fleets of single-use GitHub Actions runners alive on clouds.
#[derive(Debug, Parser)]
#[command(name = "runner-fleet", version, after_help = EXAMPLES)]
pub struct Args {
    /// How to talk to the daemon.
    #[command(flatten)]
    pub talk: Talk,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// The command line of this process. `--socket` and `--output` may stand before or after the command.
    ///
    /// # Errors
    /// What is wrong with it, or the help that was asked for.
    pub fn of_process() -> Result<Self, clap::Error> {
        Self::of(std::env::args_os())
    }

    fn of(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(words)?;
        let mut args = Self::from_arg_matches(&matches)?;
        let given = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        let (name, socket, output) = match &mut args.command {
            Command::Run(_) => ("run", false, false),
            Command::Completions { .. } => ("completions", false, false),
            Command::Check(check) => {
                check.output = args.talk.output;
                ("check", false, true)
            }
            Command::Demo(demo) => {
                demo.output = args.talk.output;
                ("demo", false, true)
            }
            _ => ("", true, true),
        };
        // What does nothing there must not look as if it did.
        for (option, of_use) in [("socket", socket), ("output", output)] {
            if given(option) && !of_use {
                let what = format!("--{option} is of no use with {name}");
                return Err(command.error(ErrorKind::ArgumentConflict, what));
            }
        }
        Ok(args)
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon until SIGTERM; SIGHUP reads the configuration again
    Run(ConfigArgs),
    /// Report every fault of a configuration at once
    #[command(after_help = "Examples:\n  \
        runner-fleet check --config fleet.toml\n  \
        runner-fleet check --online     also credentials, scopes, image, flavor, network, quota")]
    Check(CheckArgs),
    /// Show the fleet: pools, providers, GitHub, and what is in the way
    Status,
    /// Show the pools, and why each has as many runners as it has
    Pools,
    /// Show the runners, or one of them
    #[command(after_help = "Examples:\n  \
        runner-fleet runners\n  \
        runner-fleet runners --pool large --state idle\n  \
        runner-fleet runners ci--large--0123456789ab")]
    Runners {
        /// One runner, with all that is known of it
        name: Option<String>,
        /// Only runners of this pool
        #[arg(long, conflicts_with = "name")]
        pool: Option<String>,
        /// Only runners in this state: creating, registering, idle, busy, draining
        #[arg(long, conflicts_with = "name")]
        state: Option<String>,
    },
    /// Show jobs: how long they waited and ran, and where
    #[command(after_help = "Examples:\n  \
        runner-fleet jobs                              those of the last seven days, newest first\n  \
        runner-fleet jobs --slow --pool large          those that waited for a minute or more\n  \
        runner-fleet jobs --slow 10m --since 30d       the slowest first\n  \
        runner-fleet jobs --state queued               those that wait now\n  \
        runner-fleet jobs --summary                    how long jobs wait, by pool and day")]
    Jobs(JobsArgs),
    /// Say what a job waits for
    #[command(after_help = "Examples:\n  \
        runner-fleet why-waiting 29679449526\n  \
        runner-fleet why-waiting https://github.com/my-org/app/actions/runs/30433642/job/29679449526")]
    WhyWaiting {
        /// The job's number at GitHub, its address there, or what `jobs` calls it
        job: String,
    },
    /// Fix a pool's target, or let it follow its demand again
    #[command(after_help = "Examples:\n  \
        runner-fleet target large 20\n  \
        runner-fleet target large 0         empty the pool; jobs are finished first\n  \
        runner-fleet target large clear")]
    Target {
        /// The pool
        pool: String,
        /// How many runners, or "clear"
        #[arg(value_name = "N|clear")]
        runners: TargetWord,
    },
    /// Drain one runner: it takes no new job; a job that it has is finished first
    Drain {
        /// The runner
        name: String,
    },
    /// Delete one runner whatever it does; a job that it has is killed
    Delete {
        /// The runner
        name: String,
        /// That killing its job is meant; without it nothing is deleted
        #[arg(long)]
        force: bool,
    },
    /// Drain all idle runners of a pool, so that fresh ones take their place
    Flush {
        /// The pool
        pool: String,
        /// Also delete the runners with a job; needs --force, for the jobs are killed
        #[arg(long, requires = "force")]
        busy: bool,
        /// That killing jobs is meant
        #[arg(long, requires = "busy")]
        force: bool,
    },
    /// List clouds and GitHub now, and repair what differs
    Reconcile,
    /// Read the configuration again, as SIGHUP does, and say what changed
    Reload,
    /// Run a whole fleet against a fake GitHub, on a fake cloud or in real containers
    #[command(after_help = "Examples:\n  \
        runner-fleet demo --for 60s\n  \
        runner-fleet demo --seed 7 --output json\n  \
        runner-fleet demo --demand webhook                 no runner before its job is told of\n  \
        runner-fleet demo --provider lxd                   real containers on this machine\n  \
        runner-fleet demo --provider lxd --image noble     from an image that LXD has\n\n\
        Ends with 1 if anything leaked or a busy runner was killed. Ctrl-C removes everything of the \
        demo and ends with 130.")]
    Demo(DemoArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  \
        runner-fleet completions bash > /etc/bash_completion.d/runner-fleet")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Where the configuration is.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArgs {
    /// The configuration
    #[arg(
        long,
        value_name = "FILE",
        env = "RUNNER_FLEET_CONFIG",
        default_value = "/etc/runner-fleet/runner-fleet.toml"
    )]
    pub config: PathBuf,
}

/// `check`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Also ask GitHub and the clouds
    #[arg(long)]
    pub online: bool,
    /// How to print; `--output`.
    #[arg(skip)]
    pub output: Output,
}

/// How to talk to the daemon.
#[derive(Debug, Clone, clap::Args)]
pub struct Talk {
    /// The daemon's socket
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "RUNNER_FLEET_SOCKET",
        default_value = DEFAULT_SOCKET
    )]
    pub socket: PathBuf,
    /// How to print the answer
    #[arg(long, global = true, value_enum, default_value_t)]
    pub output: Output,
}

/// `jobs`.
#[derive(Debug, Clone, clap::Args)]
pub struct JobsArgs {
    /// Only jobs of this pool
    #[arg(long)]
    pub pool: Option<String>,
    /// Only jobs that were queued since so long
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    pub since: String,
    /// Only jobs that waited for so long or wait that long already, the slowest first
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "1m")]
    pub slow: Option<String>,
    /// Only jobs that are so far: blocked, queued, running, done
    #[arg(long)]
    pub state: Option<String>,
    /// At most so many, up to 1000
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// How long jobs waited, by pool and day (UTC), instead of the jobs themselves
    #[arg(long, conflicts_with_all = ["slow", "state", "limit"])]
    pub summary: bool,
}

/// `demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// What makes the VMs
    #[arg(long, value_enum, default_value_t)]
    pub provider: DemoProvider,
    /// Who tells the fleet of jobs
    #[arg(long, value_enum, default_value_t)]
    pub demand: DemoDemand,
    /// How long the demo runs, by the wall clock; with lxd, from the first runner on
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub length: Duration,
    /// Jobs and faults follow from this number; drawn and printed when not given
    #[arg(long)]
    pub seed: Option<u64>,
    /// Jobs that come in all, in bursts [default: 150; with lxd 40]
    #[arg(long)]
    pub jobs: Option<u32>,
    /// VMs that the pool may have at most [default: 50; with lxd 8]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub max: Option<u32>,
    /// How many times faster than in a real cloud everything goes; with lxd only the jobs do, which
    /// are one to eight minutes long
    #[arg(long, default_value_t = 30.0)]
    pub speed: f64,
    /// No faults of cloud and GitHub: how it looks on a good day
    #[arg(long)]
    pub no_faults: bool,
    /// LXD's socket, where it is at none of its usual places
    #[arg(long, value_name = "PATH", help_heading = LXD_ONLY)]
    pub lxd_socket: Option<PathBuf>,
    /// An image of that LXD, by alias or fingerprint, with cloud-init and Python
    /// [default: Ubuntu's 24.04, fetched once from cloud-images.ubuntu.com]
    #[arg(long, help_heading = LXD_ONLY)]
    pub image: Option<String>,
    /// This machine's address as containers reach it [default: the one on the network of the default
    /// profile]
    #[arg(long, value_name = "IP", help_heading = LXD_ONLY)]
    pub address: Option<IpAddr>,
    /// A live table (plain lines where there is no terminal), or JSON; `--output`.
    #[arg(skip)]
    pub output: Output,
}

/// Who tells the fleet of a demo that there are jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DemoDemand {
    /// Nobody: idle runners wait for jobs, and busy ones are replaced
    #[default]
    Static,
    /// The fake GitHub's webhooks; some are lost, late or come twice
    Webhook,
    /// A runner scale set: the fleet polls the fake GitHub, and its session is lost once
    ScaleSet,
    /// A queue as Canonical's webhook router fills it, at a stand-in for its broker; its line breaks once
    Queue,
}

const LXD_ONLY: &str = "Options with --provider lxd";

/// What makes the VMs of a demo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DemoProvider {
    /// A fake OpenStack inside this process; needs nothing
    #[default]
    Openstack,
    /// The LXD or Incus of this machine: real containers, and all of them removed at the end
    Lxd,
}

fn duration(text: &str) -> Result<Duration, crate::config::DurationError> {
    parse_duration(text)
}

/// How to print an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// For programs: the API's own documents
    Json,
}

/// A pool's target, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetWord {
    /// So many runners.
    Runners(u32),
    /// Follow demand again.
    Clear,
}

impl FromStr for TargetWord {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "clear" {
            return Ok(Self::Clear);
        }
        text.parse().map(Self::Runners).map_err(|_| "a whole number, or \"clear\"".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Result<Args, String> {
        let words = std::iter::once(&"runner-fleet").chain(words).map(OsString::from);
        Args::of(words).map_err(|error| error.to_string())
    }

    #[test]
    fn socket_and_output_are_taken_before_and_after_the_command() {
        for words in [
            ["--socket", "/tmp/a.sock", "--output", "json", "status"],
            ["status", "--socket", "/tmp/a.sock", "--output", "json"],
            ["--output", "json", "status", "--socket", "/tmp/a.sock"],
        ] {
            let talk = args(&words).unwrap().talk;
            assert_eq!((talk.socket, talk.output), ("/tmp/a.sock".into(), Output::Json));
        }
        for words in [["--output", "json", "check"], ["check", "--output", "json"]] {
            let Command::Check(check) = args(&words).unwrap().command else { panic!("check") };
            assert_eq!(check.output, Output::Json);
        }
        let Command::Demo(demo) = args(&["--output", "json", "demo"]).unwrap().command else {
            panic!("demo")
        };
        assert_eq!(demo.output, Output::Json);
    }

    #[test]
    fn an_option_that_does_nothing_with_a_command_is_refused() {
        for words in [
            ["run", "--socket", "/tmp/a.sock"],
            ["--socket", "/tmp/a.sock", "check"],
            ["demo", "--socket", "/tmp/a.sock"],
            ["run", "--output", "json"],
        ] {
            let error = args(&words).unwrap_err();
            assert!(error.contains("is of no use with"), "{error}");
        }
    }
}
