//! What the stories on a real LXD share: a fake GitHub that containers reach, a daemon, its pools.

use std::{
    collections::BTreeSet,
    fmt::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use runner_fleet::fake::github::{FakeGithub, JobId, JobRecord, Options};
use runner_fleet_actors::{name::Scope, port::Time};

use super::{
    e2e::{Daemon, Home, eventually},
    e2e_lxd::{Lxd, runner_image, socket},
    journal,
};

pub const TOKEN: &str = "github_pat_of_the_test_on_a_real_lxd";
pub const SCOPE: &str = "octo-org";
/// Twenty containers share two cores with everything else that is tested.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A pool of a story.
#[derive(Debug, Clone)]
pub struct Pool {
    pub name: &'static str,
    pub min: u32,
    pub max: u32,
    /// How the stand-in behaves, by its environment.
    pub env: &'static [(&'static str, &'static str)],
    /// More lines of `[[pools]]`.
    pub more: &'static str,
    pub limits: &'static str,
}

impl Pool {
    pub fn of(name: &'static str, min: u32, max: u32) -> Self {
        Self {
            name,
            min,
            max,
            env: &[],
            more: "",
            limits: r#"launch = "4m", register = "4m", idle_proof = "3s", watch = "5s", idle_alone = "10s", settle = "20s", ask = "2m""#,
        }
    }
}

/// What GitHub noted of the fleet's calls.
#[derive(Debug, Default)]
struct Noted {
    registered_at: Vec<Time>,
    secrets: BTreeSet<String>,
}

/// A fleet on a real LXD, about to live.
pub struct Story {
    pub home: Home,
    pub github: FakeGithub,
    pub lxd: Lxd,
    bridge: Ipv4Addr,
    port: u16,
    noted: Arc<Mutex<Noted>>,
}

impl Story {
    pub async fn begin() -> Self {
        runner_image().await;
        let lxd = Lxd::new();
        let bridge = lxd.bridge().await;
        let noted: Arc<Mutex<Noted>> = Arc::default();
        let note = Arc::clone(&noted);
        let github = FakeGithub::start(Options {
            tokens: vec![TOKEN.to_owned()],
            rate_limit: None,
            listen: SocketAddr::from((bridge, 0)),
            recorder: Some(Arc::new(move |exchange| {
                let config =
                    exchange.response.as_ref().and_then(|r| r["encoded_jit_config"].as_str());
                if let Some(config) = config {
                    let mut noted = note.lock().unwrap();
                    noted.registered_at.push(chrono::Utc::now());
                    noted.secrets.insert(config.to_owned());
                }
            })),
            ..Options::default()
        })
        .await
        .unwrap();
        let home = Home::new();
        home.secret("token", TOKEN);
        // Free now, and nobody else on this bridge asks for one.
        let port = TcpListener::bind((bridge, 0)).unwrap().local_addr().unwrap().port();
        Self { home, github, lxd, bridge, port, noted }
    }

    /// Writes the configuration. Without `heard`, what the guests are told to call is nobody.
    pub fn configure(&self, pools: &[Pool], heard: bool) {
        let (bridge, port) = (self.bridge, self.port);
        // The discard port: nobody listens there.
        let called = if heard { port } else { 9 };
        let mut text = format!(
            r#"[fleet]
id = "{fleet}"
state_dir = "state"
journal = "journal.log"

[api]
socket = "api.sock"

[github]
url = "{github}"
token_file = "token"

[guests]
listen = "{bridge}:{port}"
url = "http://{bridge}:{called}"

[providers.here]
kind = "lxd"
socket = "{socket}"
concurrency = 20
rate = 100
"#,
            fleet = self.lxd.fleet,
            github = self.github.url(),
            socket = socket().display(),
        );
        for pool in pools {
            let Pool { name, min, max, more, limits, .. } = pool;
            writeln!(
                text,
                r#"
[[pools]]
name = "{name}"
scope = "{SCOPE}"
labels = ["{name}"]
provider = "here"
type = "container"
image = "runner"
cpu = 1
memory = "512MiB"
min = {min}
max = {max}
limits = {{ {limits} }}
{more}
[pools.guest]
user = "runner"
[pools.guest.env]
STAND_IN_GITHUB = "{github}""#,
                github = self.github.url_for_guests(),
            )
            .unwrap();
            for (key, value) in pool.env {
                writeln!(text, "{key} = {value:?}").unwrap();
            }
        }
        self.home.configure(&text);
    }

    /// Queues one job for the runners of a pool.
    pub fn queue(&self, pool: &str, runs_for: Duration) -> JobId {
        self.github.queue_job(&self.scope(), &[pool.to_owned()], runs_for)
    }

    pub fn scope(&self) -> Scope {
        SCOPE.parse().unwrap()
    }

    /// A job as GitHub knows it now.
    pub fn job(&self, id: JobId) -> JobRecord {
        self.github.jobs().into_iter().find(|job| job.id == id).unwrap()
    }

    /// No other job was lost than those whose machine somebody harmed, if these were.
    pub fn only_these_were_lost(&self, harmed: &[JobId]) {
        let jobs = self.github.jobs();
        let lost = jobs.iter().filter(|job| job.lost.is_some() && !harmed.contains(&job.id));
        assert_eq!(lost.count(), 0, "jobs whose machine was sound");
    }

    /// Waits until a job runs: its runner's name.
    pub async fn runs(&self, id: JobId) -> String {
        let what = format!("job {} runs", id.0);
        eventually(PATIENCE, &what, || async {
            let job = self.job(id);
            job.acquired_at.and(job.runner)
        })
        .await
    }

    /// Waits until a job has ended well.
    pub async fn done(&self, id: JobId) {
        let what = format!("job {} ends", id.0);
        eventually(PATIENCE, &what, || async {
            let job = self.job(id);
            assert_eq!(job.lost, None, "the job is not lost");
            job.completed_at
        })
        .await;
    }

    /// Waits until a runner is in a state, by the daemon's word.
    pub async fn is(&self, runner: &str, state: &str) {
        let what = format!("{runner} is {state}");
        eventually(PATIENCE, &what, || async {
            // A daemon that was started a moment ago does not answer yet.
            self.home.status().await?;
            let all = self.home.runners().await;
            all.iter().any(|(name, now)| name == runner && now == state).then_some(())
        })
        .await;
    }

    /// Waits until a pool is as it should be: so many idle runners, each of them online at GitHub and
    /// in a container, and nothing else of the fleet anywhere.
    pub async fn at_rest(&self, pools: &[(&str, u64)]) {
        let all: u64 = pools.iter().map(|(_, wanted)| wanted).sum();
        let what = format!("the fleet is at rest with {pools:?} idle");
        eventually(PATIENCE, &what, || async {
            for (name, wanted) in pools {
                if self.home.pool(name).await?["counts"]["idle"] != *wanted {
                    return None;
                }
            }
            let registrations = self.github.registrations();
            let online = registrations.iter().filter(|one| one.online).count() as u64;
            if registrations.len() as u64 != all || online != all {
                return None;
            }
            let there = self.lxd.instances().await;
            let running = there.iter().filter(|one| one.status == "Running").count() as u64;
            (there.len() as u64 == all && running == all).then_some(())
        })
        .await;
    }

    /// Empties the pools, ends the daemon, and looks for anything that is left.
    pub async fn end(&self, daemon: Daemon, pools: &[&str]) {
        for pool in pools {
            self.home.cli(&["target", pool, "0"]).await.good();
        }
        eventually(PATIENCE, "no container and no registration is left", || async {
            (self.lxd.instances().await.is_empty() && self.github.registrations().is_empty())
                .then_some(())
        })
        .await;
        daemon.signal("TERM");
        assert_eq!(daemon.exit(Duration::from_secs(60)).await.0.code(), Some(0));
        let lines = journal::judged(&self.home.journal());
        assert_eq!(journal::of(&lines, "invariant_broken").len(), 0);
        let killed = lines.iter().filter(|line| line["job_killed"] == true).count();
        assert_eq!(killed, 0, "no busy runner was killed");
        self.nothing_secret_was_said();
    }

    fn nothing_secret_was_said(&self) {
        let noted = self.noted.lock().unwrap();
        assert!(!noted.secrets.is_empty(), "GitHub handed out JIT configs");
        for (path, text) in self.home.everything_said() {
            for secret in noted.secrets.iter().map(String::as_str).chain([TOKEN]) {
                assert!(!text.contains(secret), "a secret is in {}", path.display());
            }
        }
    }

    /// When each registration was asked for, oldest first.
    pub fn registered_at(&self) -> Vec<Time> {
        self.noted.lock().unwrap().registered_at.clone()
    }
}
