//! The demo: the real daemon with its real adapters, against a fake GitHub and a fake cloud that are
//! served on loopback inside this process.
//!
//! Nothing of the fleet is simulated: configuration file, clients, actors, listings and API are the
//! ones of `run`. Time is not faked either, the demo's cloud is only quick: limits and pauses are
//! divided by `--speed`. The faults of the story hit all the while; the summary says what they did.

mod report;
mod story;

use std::{
    io::{IsTerminal, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use runner_fleet_actors::name::Scope;

use self::{
    report::{Spread, Summary},
    story::{Act, Fault},
};
use crate::{
    cli::{self, DemoArgs, Output, table::terminal_width},
    config::Config,
    daemon::{self, Daemon, Pace},
    fake::{
        github::{self, FakeGithub},
        guest::StandIns,
        openstack::{self, FakeOpenstack},
    },
};

const SCOPE: &str = "octo-org";
const LABEL: &str = "linux-small";
const TOKEN: &str = "demo-token-of-the-fake-github";
/// Seconds from a create to ACTIVE, shortest and longest, before the speed.
const BOOT: (f64, f64) = (15.0, 40.0);
/// Seconds from ACTIVE to a runner that is online, likewise.
const GUEST_START: (f64, f64) = (10.0, 25.0);
/// How long the fleet may take to empty itself at the end, by the wall clock.
const EMPTYING: Duration = Duration::from_secs(60);

/// Runs the demo. 0 where nothing leaked and no busy runner was killed, else 1.
#[must_use]
pub fn run(args: &DemoArgs) -> ExitCode {
    match demo(args) {
        Ok(summary) => {
            let text = match args.output {
                Output::Table => summary.text(),
                Output::Json => {
                    serde_json::to_string_pretty(&summary).unwrap_or_else(|error| error.to_string())
                }
            };
            let said = cli::say(&text);
            if summary.is_good() { said } else { ExitCode::from(cli::FAILED) }
        }
        Err(error) => {
            cli::complain(cli::FAILED, &format!("runner-fleet: the demo cannot run: {error}"))
        }
    }
}

/// The outside of the demo's fleet.
struct Outside {
    github: FakeGithub,
    cloud: FakeOpenstack,
    guests: StandIns,
    vanished: Vec<String>,
    news: Vec<String>,
}

fn demo(args: &DemoArgs) -> Result<Summary, String> {
    let seed = args.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 32);
    let speed = args.speed.clamp(1.0, 600.0);
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let io = daemon::io_runtime()?;
    let outside = io.block_on(start_outside(seed, speed)).map_err(|error| error.to_string())?;
    let path = folder.path().join("demo.toml");
    configure(&path, &outside, args.max, speed).map_err(|error| error.to_string())?;
    let config = Config::load(&path).map_err(|faults| faults.to_string())?;
    let whole = speed as u32;
    let pace = Pace {
        cloud: Pace::default().cloud.faster(whole),
        forge: Pace::default().forge.faster(whole),
        listing_lag: Pace::default().listing_lag / whole.max(1),
        shrink_after: Pace::default().shrink_after / whole.max(1),
    };
    actix::System::new().block_on(async {
        let daemon = Daemon::start(config, &path, pace, None, io.handle()).await?;
        let summary = tell(args, seed, speed, &daemon, outside).await;
        daemon.stop().await;
        Ok(summary)
    })
}

async fn start_outside(seed: u64, speed: f64) -> std::io::Result<Outside> {
    let scaled = |seconds: f64| Duration::from_secs_f64(seconds / speed);
    let github = FakeGithub::start(github::Options {
        tokens: vec![TOKEN.to_owned()],
        // The limit of an hour, squeezed into the demo's hour.
        rate_limit: Some(5000 * speed as u64),
        latency: Duration::from_millis(5),
        seed,
        ..github::Options::default()
    })
    .await?;
    let guests = StandIns::new(github.clone(), scaled(GUEST_START.0)..=scaled(GUEST_START.1), seed);
    let cloud = FakeOpenstack::start(openstack::Options {
        boot: scaled(BOOT.0)..=scaled(BOOT.1),
        delete: scaled(3.0)..=scaled(10.0),
        api_latency: Duration::from_millis(5),
        seed,
        guest: Some(std::sync::Arc::new(guests.clone())),
        ..openstack::Options::default()
    })
    .await?;
    Ok(Outside { github, cloud, guests, vanished: Vec::new(), news: Vec::new() })
}

/// Writes the demo's configuration as a user would.
fn configure(path: &Path, outside: &Outside, max: u32, speed: f64) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let secret = |name: &str, text: &str| {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(folder.join(name))?;
        file.write_all(text.as_bytes())
    };
    secret("token", TOKEN)?;
    secret("clouds.yaml", &outside.cloud.clouds_yaml())?;
    let cloud = "fake";
    let limit = |seconds: f64| format!("{}s", (seconds / speed).ceil().max(1.0));
    let spare = (max / 5).max(1);
    let text = format!(
        r#"[fleet]
id = "demo"
state_dir = "state"
journal = "journal.log"

[api]
socket = "api.sock"

[github]
url = "{url}"
token_file = "token"

[providers.fake]
kind = "openstack"
cloud = "{cloud}"
clouds_file = "clouds.yaml"
concurrency = 50
rate = 1000

[[pools]]
name = "small"
scope = "{SCOPE}"
labels = ["{LABEL}"]
provider = "fake"
image = "debian-12"
flavor = "m1.small"
network = "demo-net"
spare = {spare}
max = {max}
limits = {{ launch = "{launch}", register = "{register}", idle_proof = "{proof}", settle = "{settle}", ask = "{ask}" }}
"#,
        url = outside.github.url(),
        launch = limit(600.0),
        register = limit(900.0),
        proof = limit(60.0),
        settle = limit(30.0),
        ask = limit(900.0),
    );
    std::fs::write(path, text)
}

/// Lets the story happen, empties the fleet, and counts.
async fn tell(
    args: &DemoArgs,
    seed: u64,
    speed: f64,
    daemon: &Daemon,
    mut outside: Outside,
) -> Summary {
    let acts = story::write(seed, args.length, args.jobs, speed, !args.no_faults);
    let control = daemon.control();
    let mut screen = Screen::new(args.output);
    let began = Instant::now();
    let mut acts = acts.into_iter().peekable();
    let mut emptying: Option<Instant> = None;
    loop {
        while let Some((_, act)) = acts.next_if(|(at, _)| began.elapsed() >= *at) {
            outside.perform(act, began.elapsed());
        }
        let jobs = outside.github.stats();
        let over = began.elapsed() >= args.length && acts.peek().is_none();
        let at_rest = jobs.queued == 0 && jobs.running == 0;
        if let Some(since) = emptying {
            let present = outside.cloud.stats().present;
            if (present == 0 && jobs.registrations == 0) || since.elapsed() > EMPTYING {
                break;
            }
        } else if over && (at_rest || began.elapsed() > args.length + EMPTYING) {
            for pool in
                control.model().pools.iter().map(|pool| pool.name.clone()).collect::<Vec<_>>()
            {
                if let Err(refusal) = control.set_target(&pool, Some(0)).await {
                    outside.news.push(format!("the pool cannot be emptied: {refusal}"));
                }
            }
            emptying = Some(Instant::now());
        }
        screen.show(control.model(), &outside, began.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    screen.end();
    outside.summary(args, seed, speed, began.elapsed(), daemon.invariants_broken())
}

impl Outside {
    fn perform(&mut self, act: Act, at: Duration) {
        match act {
            Act::Jobs(runs) => {
                // The name was parsed by the configuration a moment ago.
                let Ok(scope) = SCOPE.parse::<Scope>() else { return };
                for runs_for in runs {
                    self.github.queue_job(&scope, &[LABEL.to_owned()], runs_for);
                }
            }
            Act::Fault(fault) => {
                self.news.push(format!("{:>5.1}s  {}", at.as_secs_f64(), fault.words()));
                let (cloud, github) = (self.cloud.faults(), self.github.faults());
                match fault {
                    Fault::CloudAway(on) => cloud.outage(on),
                    Fault::GithubAway(on) => github.outage(on),
                    Fault::LostAnswers(n) => cloud.lose_create_answers(n, None),
                    Fault::FailedBoots(n) => cloud.fail_boots(n, "No valid host was found. "),
                    Fault::VanishedVm => self.vanished.extend(cloud.vanish_any()),
                    Fault::RateLimit(lasts) => github.secondary_limit(lasts, true),
                    Fault::RevokedTokens => cloud.revoke_tokens(),
                    Fault::MissingEntries(on) => github.listings_miss_one(on),
                }
            }
        }
    }

    fn summary(
        &self,
        args: &DemoArgs,
        seed: u64,
        speed: f64,
        took: Duration,
        broken: u64,
    ) -> Summary {
        let (jobs, cloud, seen) = (self.github.stats(), self.cloud.stats(), self.guests.seen());
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let (gone, killed): (Vec<_>, Vec<_>) =
            seen.vm_taken.iter().partition(|name| self.vanished.contains(name));
        let github_calls: u64 = jobs.calls.values().sum();
        Summary {
            seed,
            seconds: took.as_secs_f64(),
            jobs_queued: jobs.queued + jobs.running + jobs.completed + jobs.lost,
            jobs_served: jobs.completed,
            jobs_lost_to_vanished_vms: number(gone.len()),
            wait_ms: Spread::of(&jobs.waits),
            cold_start_ms: ((BOOT.0 + BOOT.1 + GUEST_START.0 + GUEST_START.1) / 2.0 * 1000.0
                / speed) as u64,
            launches: cloud.creates,
            peak_vms: number(cloud.peak),
            max_vms: args.max,
            github_calls,
            github_calls_that_count: jobs.counted,
            github_calls_per_job: github_calls as f64 / (jobs.completed.max(1)) as f64,
            cloud_calls: cloud.calls.values().sum(),
            invariants_broken: broken,
            leaked_vms: number(cloud.present),
            leaked_registrations: jobs.registrations,
            // GitHub's own count: whatever was lost and did not vanish with its VM was killed.
            busy_runners_killed: jobs
                .lost
                .saturating_sub(number(gone.len()))
                .max(number(killed.len()) + number(seen.registration_taken.len())),
        }
    }
}

/// Where progress is shown: a table that redraws itself, plain lines, or nowhere.
struct Screen {
    live: bool,
    shown: Option<Instant>,
    told: usize,
    quiet: bool,
}

impl Screen {
    fn new(output: Output) -> Self {
        let live = output == Output::Table && std::io::stdout().is_terminal();
        Self { live, shown: None, told: 0, quiet: output == Output::Json }
    }

    fn show(
        &mut self,
        model: &runner_fleet_actors::event::ReadModel,
        outside: &Outside,
        at: Duration,
    ) {
        let pause = Duration::from_millis(if self.live { 200 } else { 5000 });
        if self.quiet {
            return;
        }
        if !self.live {
            for line in &outside.news[self.told..] {
                let _shown = cli::say(line);
            }
            self.told = outside.news.len();
        }
        if self.shown.is_some_and(|shown| shown.elapsed() < pause) {
            return;
        }
        self.shown = Some(Instant::now());
        let jobs = outside.github.stats();
        let text = if self.live {
            let cloud = outside.cloud.stats();
            let text = report::now(model, &jobs, &cloud, &outside.news, terminal_width());
            // Home, then each line cleared to its end, then the rest of the screen.
            format!("\x1b[H{}\x1b[J", (text + "\n").replace('\n', "\x1b[K\n"))
        } else {
            report::line(model, &jobs, at)
        };
        let _shown = cli::say(&text);
    }

    fn end(&self) {
        if self.live {
            let _shown = cli::say("");
        }
    }
}
