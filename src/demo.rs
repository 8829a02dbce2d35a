//! The demo: the real daemon with its real adapters, against a fake GitHub that is served inside this
//! process, on a cloud that is a fake one as well or the LXD of this machine. How the fleet hears of jobs
//! is chosen by `--demand`.
//!
//! Nothing of the fleet is simulated: configuration file, clients, actors, listings and API are the
//! ones of `run`. Time is not faked either, the fake cloud is only quick: limits and pauses are
//! divided by `--speed`. The faults of the story hit all the while; the summary says what they did.
//!
//! Whatever ends a demo, the daemon is stopped and the cloud is cleared of what the demo made there.

mod containers;
mod fake_cloud;
mod outside;
mod report;
mod screen;
mod source;
mod story;

use std::{
    io::Write,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{
    outside::{Outside, Terms},
    report::{Spread, Summary},
    screen::Screen,
    story::Weather,
};
use crate::{
    cli::{self, DemoArgs, DemoDemand, DemoProvider, Output},
    config::{Config, Env},
    daemon::{self, Daemon},
    fake::github::JobRecord,
    http::Control,
};

const SCOPE: &str = "octo-org";
const POOL: &str = "small";
const LABEL: &str = "linux-small";
const TOKEN: &str = "demo-token-of-the-fake-github";
/// How often the demo looks at what it shows.
const TICK: Duration = Duration::from_millis(50);
/// So many launches failed in a row before there was any runner: no other one will do better.
const HOPELESS: u32 = 3;
/// 128 + SIGINT, as a shell says it.
const INTERRUPTED: u8 = 130;
const REMOVING: &str = "runner-fleet: interrupted; what the demo has made is removed now";

/// Runs the demo. 0 where nothing leaked and no busy runner was killed; 1 where something did, the
/// demo could not run, or not all of it could be removed; 130 where it was interrupted.
#[must_use]
pub fn run(args: &DemoArgs) -> ExitCode {
    let useless = [
        ("--lxd-socket", args.lxd_socket.is_some()),
        ("--image", args.image.is_some()),
        ("--address", args.address.is_some()),
    ];
    let useless = useless.into_iter().find(|(_, given)| *given);
    if let (DemoProvider::Openstack, Some((option, _))) = (args.provider, useless) {
        let what = format!("runner-fleet: {option} is of use only with --provider lxd");
        return cli::complain(cli::WRONG, &what);
    }
    let ended = match demo(args) {
        Ok(ended) => ended,
        Err(error) => {
            let what = format!("runner-fleet: the demo cannot run: {error}");
            return cli::complain(cli::FAILED, &what);
        }
    };
    let code = ended.summary.as_ref().map_or(ExitCode::from(INTERRUPTED), |summary| {
        let text = match args.output {
            Output::Table => summary.text(),
            Output::Json => {
                serde_json::to_string_pretty(summary).unwrap_or_else(|error| error.to_string())
            }
        };
        let said = cli::say(&text);
        if summary.is_good() { said } else { ExitCode::from(cli::FAILED) }
    });
    match ended.cleared {
        Ok(()) => code,
        Err(left) => cli::complain(cli::FAILED, &format!("runner-fleet: {left}")),
    }
}

/// What is to be shown.
struct Plan {
    seed: u64,
    speed: f64,
    length: Duration,
    jobs: u32,
    max: u32,
    weather: Weather,
    demand: DemoDemand,
}

impl Plan {
    fn new(args: &DemoArgs) -> Self {
        let (jobs, max, weather) = match args.provider {
            DemoProvider::Openstack => (150, 50, Weather::Stormy),
            DemoProvider::Lxd => (40, 8, Weather::CloudStands),
        };
        Self {
            seed: args.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 32),
            speed: args.speed.clamp(1.0, 600.0),
            length: args.length,
            jobs: args.jobs.unwrap_or(jobs),
            max: args.max.unwrap_or(max),
            weather: if args.no_faults { Weather::Fine } else { weather },
            demand: args.demand,
        }
    }
}

/// How a demo ended.
struct Ended {
    /// `None` where it was interrupted.
    summary: Option<Summary>,
    /// What may be left of it, where not all could be removed.
    cleared: Result<(), String>,
}

/// Tells the story.
fn demo(args: &DemoArgs) -> Result<Ended, String> {
    let plan = Plan::new(args);
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let io = daemon::io_runtime()?;
    let (outside, terms) = io.block_on(async {
        match args.provider {
            DemoProvider::Openstack => fake_cloud::start(&plan, folder.path()).await,
            DemoProvider::Lxd => containers::start(&plan, args, folder.path()).await,
        }
    })?;
    let path = folder.path().join("demo.toml");
    configure(&path, &plan, &outside, &terms).map_err(|error| error.to_string())?;
    let config = Config::load_with(&path, &Env::of_process().built_with_everything())
        .map_err(|faults| faults.to_string())?;
    io.block_on(outside.cloud.check(&config.pools))?;
    actix::System::new().block_on(async {
        let mut stop = StopWish::new()?;
        let broker = outside.source.broker();
        let daemon = Daemon::start(config, &path, terms.pace, broker, None, io.handle()).await?;
        outside.source.open(&outside.github);
        let mut telling = Telling { plan, terms, outside, screen: Screen::new(args.output) };
        let told = tokio::select! {
            told = telling.tell(&daemon) => told.map(Some),
            () = stop.comes() => Ok(None),
        };
        telling.screen.end();
        if let Ok(None) = told {
            // The exit code has to wait for what is removed now.
            let _said = cli::complain(INTERRUPTED, REMOVING);
        }
        let cloud = telling.outside.cloud;
        let clear = async {
            daemon.stop().await;
            cloud.clear().await
        };
        let cleared = tokio::select! {
            cleared = clear => cleared,
            () = stop.comes() => Err(cloud.left_alone()),
        };
        match (told, cleared) {
            (Ok(mut summary), cleared) => {
                if let Some(summary) = summary.as_mut().filter(|summary| !summary.is_good()) {
                    summary.evidence = Some(folder.keep());
                }
                Ok(Ended { summary, cleared })
            }
            (Err(error), Ok(())) => Err(error),
            (Err(error), Err(left)) => Err(format!("{error}\n{left}")),
        }
    })
}

/// Ctrl-C, SIGTERM, or a terminal that was closed.
struct StopWish([Signal; 3]);

impl StopWish {
    fn new() -> Result<Self, String> {
        let on = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
        Ok(Self([
            on(SignalKind::interrupt())?,
            on(SignalKind::terminate())?,
            on(SignalKind::hangup())?,
        ]))
    }

    async fn comes(&mut self) {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Writes a file that nobody else may read.
fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}

/// Writes the demo's configuration as a user would.
fn configure(path: &Path, plan: &Plan, outside: &Outside, terms: &Terms) -> std::io::Result<()> {
    write_secret(&path.with_file_name("token"), TOKEN)?;
    let Terms { fleet, sections, vms, limits, tables, spare, .. } = terms;
    let text = format!(
        r#"[fleet]
id = "{fleet}"
state_dir = "state"
journal = "journal.log"
stop_deadline = "10s"

[api]
socket = "api.sock"

[github]
url = "{url}"
token_file = "token"

{sections}
{source}
[[pools]]
name = "{POOL}"
{of_pool}
scope = "{SCOPE}"
labels = ["{LABEL}"]
provider = "cloud"
{vms}
spare = {spare}
max = {max}
limits = {{ {limits} }}

{tables}"#,
        url = outside.github.url(),
        source = outside.source.section(),
        of_pool = outside.source.of_pool(),
        max = plan.max,
    );
    std::fs::write(path, text)
}

/// A story that is being told.
struct Telling {
    plan: Plan,
    terms: Terms,
    outside: Outside,
    screen: Screen,
}

impl Telling {
    /// Lets the story happen, empties the fleet, and counts.
    async fn tell(&mut self, daemon: &Daemon) -> Result<Summary, String> {
        let control = daemon.control();
        self.first_runner(&*control).await?;
        let plan = &self.plan;
        let acts = story::write(plan);
        let mut acts = acts.into_iter().peekable();
        let began = Instant::now();
        let mut emptying: Option<Instant> = None;
        loop {
            while let Some((_, act)) = acts.next_if(|(at, _)| began.elapsed() >= *at) {
                self.outside.perform(act, began.elapsed());
            }
            let jobs = self.outside.github.stats();
            let over = began.elapsed() >= self.plan.length && acts.peek().is_none();
            let at_rest = jobs.queued == 0 && jobs.running == 0;
            let patience = self.terms.patience;
            if let Some(since) = emptying {
                let present = self.outside.cloud.present();
                if (present == 0 && jobs.registrations == 0) || since.elapsed() > patience {
                    break;
                }
            } else if over && (at_rest || began.elapsed() > self.plan.length + patience) {
                self.empty(&*control).await;
                emptying = Some(Instant::now());
            }
            self.screen.show(control.model(), &self.outside, began.elapsed());
            tokio::time::sleep(TICK).await;
        }
        Ok(self.summary(began.elapsed(), daemon).await)
    }

    /// Waits for the first runner where the cloud wants it: the story is not about an image that is
    /// being fetched.
    async fn first_runner(&mut self, control: &dyn Control) -> Result<(), String> {
        let Some(patience) = self.terms.first_runner else { return Ok(()) };
        let began = Instant::now();
        let mut trouble = None;
        while self.outside.github.stats().online == 0 {
            let holds = control.model().pools.iter().flat_map(|pool| pool.holds.clone());
            let worst = holds.max_by_key(|hold| hold.failures);
            let failures = worst.as_ref().map(|hold| hold.failures);
            let told = worst.map(|hold| hold.error);
            if let Some(error) = told.filter(|told| trouble.as_ref() != Some(told)) {
                self.outside.news.push(format!("        {error}"));
                trouble = Some(error);
            }
            if began.elapsed() > patience || failures >= Some(HOPELESS) {
                let why = trouble.map_or_else(String::new, |error| format!(": {error}"));
                let waited = began.elapsed().as_secs();
                return Err(format!(
                    "no runner came online in {waited} s{why}\nAnother image is named by --image"
                ));
            }
            self.screen.show(control.model(), &self.outside, began.elapsed());
            tokio::time::sleep(TICK).await;
        }
        let took = began.elapsed().as_secs_f64();
        self.outside.news.push(format!("        the first runner is online after {took:.1} s"));
        Ok(())
    }

    async fn empty(&mut self, control: &dyn Control) {
        let pools: Vec<_> = control.model().pools.iter().map(|pool| pool.name.clone()).collect();
        for pool in pools {
            if let Err(refusal) = control.set_target(&pool, Some(0)).await {
                self.outside.news.push(format!("the pool cannot be emptied: {refusal}"));
            }
        }
    }

    async fn summary(&self, took: Duration, daemon: &Daemon) -> Summary {
        let outside = &self.outside;
        let tally = outside.cloud.tally().await;
        let jobs = outside.github.stats();
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let runs = outside.github.jobs();
        let lost = runs.iter().filter(|job| job.lost.is_some());
        let (gone, killed): (Vec<_>, Vec<_>) = lost.partition(|job| is_of(&tally.vanished, job));
        let gone = number(gone.len());
        let taken = tally.taken.iter().filter(|name| !tally.vanished.contains(*name)).count();
        let github_calls: u64 = jobs.calls.values().sum();
        let control = daemon.control();
        let cloud_calls = control.model().ports.get("cloud").map(|port| port.calls);
        Summary {
            cloud: outside.cloud.what(),
            fleet: self.terms.fleet.clone(),
            told: outside.source.told(&outside.github),
            seed: self.plan.seed,
            seconds: took.as_secs_f64(),
            jobs_queued: jobs.queued + jobs.running + jobs.completed + jobs.lost,
            jobs_served: jobs.completed,
            jobs_lost_to_vanished_vms: gone,
            wait_ms: Spread::of(&jobs.waits),
            cold_start_ms: Spread::of(&jobs.starts),
            launches: jobs.registered,
            peak_vms: tally.peak,
            max_vms: self.plan.max,
            github_calls,
            github_calls_that_count: jobs.counted,
            github_calls_per_job: github_calls as f64 / (jobs.completed.max(1)) as f64,
            cloud_calls: cloud_calls.unwrap_or_default(),
            invariants_broken: daemon.invariants_broken(),
            leaked_vms: tally.left,
            leaked_registrations: jobs.registrations,
            // GitHub's own count: whatever was lost and did not vanish with its VM was killed.
            busy_runners_killed: jobs.lost.saturating_sub(gone).max(number(taken)),
            killed: killed.into_iter().filter_map(how_lost).collect(),
            evidence: None,
        }
    }
}

fn how_lost(job: &JobRecord) -> Option<String> {
    let (at, how) = job.lost?;
    let runner = job.runner.as_deref().unwrap_or("no runner");
    Some(format!("job {} on {runner} at {}: {how:?}", job.id.0, at.format("%H:%M:%S%.3f")))
}

fn is_of(vms: &std::collections::BTreeSet<String>, job: &JobRecord) -> bool {
    job.runner.as_ref().is_some_and(|runner| vms.contains(runner))
}
