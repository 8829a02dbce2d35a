//! The real daemon holds twenty runners on a real OpenStack: through `kill -9`, an API that is away,
//! and a reload. The VMs boot nothing, so the test plays their guests (`support/e2e_nova.rs`).
//!
//! Run with `--nocapture` for the times that it measures.

use std::{
    panic::AssertUnwindSafe,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::FutureExt;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use runner_fleet::fake::github::{FakeGithub, Options};

use crate::support::e2e::{Home, eventually};
use crate::support::e2e_nova::{Admin, Guests};
use crate::support::openstack;

const TOKEN: &str = "github_pat_of_the_test_on_a_real_cloud";
const SCOPE: &str = "octo-org";
const LABELS: [&str; 2] = ["self-hosted", "held"];
const RUNNERS: u64 = 20;
const MAX: usize = 24;
/// Idle runners of an old shape that are replaced at the same time.
const AT_ONCE: u64 = 8;
/// The cloud shares its two cores with the compiler and with everything else that is tested.
const PATIENCE: Duration = Duration::from_secs(400);

struct Story {
    home: Home,
    github: FakeGithub,
    guests: Guests,
    admin: Arc<Admin>,
    fleet: String,
    provider: String,
    ours: bool,
}

impl Story {
    fn configure(&self, flavor: &str) {
        self.home.configure(&format!(
            r#"[fleet]
id = "{fleet}"
state_dir = "state"
journal = "journal.log"

[api]
socket = "api.sock"

[github]
url = "{url}"
token_file = "token"

[providers.real]
kind = "openstack"
cloud = "{provider}"
clouds_file = "clouds.yaml"

[[pools]]
name = "held"
scope = "{SCOPE}"
labels = {LABELS:?}
provider = "real"
image = "debian-12"
flavor = "{flavor}"
network = "demo-net"
min = {RUNNERS}
max = {MAX}
replace_at_once = {AT_ONCE}
limits = {{ launch = "5m", register = "5m", idle_proof = "2s", watch = "3s", idle_alone = "6s", settle = "5s" }}
"#,
            fleet = self.fleet,
            url = self.github.url(),
            provider = self.provider,
        ));
    }

    fn queue(&self, jobs: u32, runs_for: Duration) {
        let labels = LABELS.map(str::to_owned);
        for _ in 0..jobs {
            self.github.queue_job(&SCOPE.parse().unwrap(), &labels, runs_for);
        }
    }

    /// Twenty idle runners by the daemon's word, online at GitHub, in VMs that the cloud calls ACTIVE.
    async fn held(&self, what: &str) -> Duration {
        let began = Instant::now();
        let what_for = format!("{RUNNERS} runners are idle {what}");
        eventually(PATIENCE, &what_for, || async {
            let pool = self.home.pool("held").await?;
            let active = self.guests.seen().now.iter().filter(|vm| vm.status == "ACTIVE").count();
            (pool["counts"]["idle"] == RUNNERS
                && self.github.stats().online >= RUNNERS
                && active as u64 >= RUNNERS)
                .then_some(())
        })
        .await;
        self.no_job_was_lost();
        let took = began.elapsed();
        eprintln!("{:>6.1} s  to {RUNNERS} idle {what}", took.as_secs_f64());
        took
    }

    fn no_job_was_lost(&self) {
        let seen = self.guests.seen();
        assert_eq!(seen.taken, [""; 0], "VMs deleted in mid-job");
        assert_eq!(self.github.stats().lost, 0, "jobs lost");
        assert!(seen.most <= MAX, "{} VMs of at most {MAX}", seen.most);
    }

    /// Waits until a VM is there that was not there before.
    async fn launch_begins(&self) {
        let known = self.guests.seen().names;
        eventually(PATIENCE, "a launch is under way", || async {
            let seen = self.guests.seen();
            seen.now.iter().any(|vm| !known.contains(&vm.name)).then_some(())
        })
        .await;
    }

    async fn tell(&self) {
        self.configure("m1.tiny");
        let mut chance = SmallRng::seed_from_u64(20);

        // Killed on the way to the first twenty, started again, and again in mid-launch.
        let began = Instant::now();
        for some in [3, 9] {
            let daemon = self.home.start();
            eventually(PATIENCE, "the first VMs are there", || async {
                (self.guests.seen().names.len() >= some).then_some(())
            })
            .await;
            daemon.kill().await;
        }
        let mut daemon = self.home.start();
        self.held("after a start that was killed twice in mid-launch").await;
        eprintln!("{:>6.1} s  in all, from an empty cloud", began.elapsed().as_secs_f64());
        let made = self.guests.seen().names.len() as u64;
        assert_eq!(made, RUNNERS, "an order under way at the kill is adopted, not given twice");

        // Jobs come and go, and the daemon dies while it replaces the runners that had them.
        for round in 0..4 {
            self.queue(5, Duration::from_millis(chance.random_range(500..3000)));
            self.launch_begins().await;
            tokio::time::sleep(Duration::from_millis(chance.random_range(0..1500))).await;
            daemon.kill().await;
            if round % 2 == 0 {
                // Some jobs begin and end while no daemon lives.
                self.queue(3, Duration::from_millis(300));
            }
            daemon = self.home.start();
        }
        self.held("after 4 kills while runners with jobs were replaced").await;
        assert_eq!(self.github.stats().completed, 26, "every job was served");

        if self.ours {
            self.outage("nova-api").await;
            self.queue(4, Duration::from_millis(500));
            let jobs = self.github.stats().completed;
            eventually(PATIENCE, "jobs end while nova is away", || async {
                (self.github.stats().completed >= jobs + 4).then_some(())
            })
            .await;
            daemon.kill().await;
            daemon = self.home.start();
            eventually(PATIENCE, "the status names what is away", || async {
                let status = self.home.status().await?;
                (!status["ports"]["real"]["last_error"].is_null() || status["ready"] == false)
                    .then_some(())
            })
            .await;
            self.back("nova-api").await;
            self.held("after an outage of nova-api with a kill in it").await;

            self.outage("keystone").await;
            self.queue(4, Duration::from_millis(500));
            let jobs = self.github.stats().completed;
            eventually(PATIENCE, "jobs end while keystone is away", || async {
                (self.github.stats().completed >= jobs + 4).then_some(())
            })
            .await;
            self.back("keystone").await;
            self.held("after an outage of keystone").await;
        }

        // Another flavor: all are replaced, a few at a time, and the others stay in service.
        self.configure("m1.small");
        let began = Instant::now();
        daemon.signal("HUP");
        let fewest = AtomicU64::new(RUNNERS);
        eventually(PATIENCE, "every VM has the new flavor", || async {
            let idle = self.home.pool("held").await?["counts"]["idle"].as_u64()?;
            fewest.fetch_min(idle, Ordering::Relaxed);
            let new = self.guests.seen().now.iter().all(|vm| vm.flavor == "m1.small");
            (new && idle == RUNNERS).then_some(())
        })
        .await;
        let fewest = fewest.into_inner();
        eprintln!(
            "{:>6.1} s  to replace {RUNNERS} idle runners of an old flavor, at least {fewest} in service",
            began.elapsed().as_secs_f64()
        );
        assert!(fewest >= RUNNERS - AT_ONCE, "only {fewest} were left in service");
        self.held("of the new flavor").await;

        // The end, with a kill in the middle of the drain.
        let began = Instant::now();
        self.home.cli(&["target", "held", "0"]).await.good();
        eventually(PATIENCE, "the drain has begun", || async {
            (self.github.stats().registrations < RUNNERS).then_some(())
        })
        .await;
        daemon.kill().await;
        let daemon = self.home.start();
        eventually(PATIENCE, "no VM and no registration is left", || async {
            let vms = self.admin.vms(&self.fleet).await.ok()?;
            (vms.is_empty() && self.github.stats().registrations == 0).then_some(())
        })
        .await;
        eprintln!("{:>6.1} s  to none, with a kill in it", began.elapsed().as_secs_f64());
        daemon.signal("TERM");
        assert_eq!(daemon.exit(Duration::from_secs(40)).await.0.code(), Some(0));
        self.no_job_was_lost();
        let seen = self.guests.seen();
        eprintln!("{} VMs made, at most {} at a time", seen.names.len(), seen.most);
        self.nothing_secret_was_said(&seen.jit_configs.into_iter().collect::<Vec<_>>());
    }

    async fn outage(&self, daemon: &str) {
        self.api("stop", daemon).await;
    }

    async fn back(&self, daemon: &str) {
        self.api("start", daemon).await;
    }

    async fn api(&self, order: &str, daemon: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openstack/api.sh");
        let ran =
            tokio::process::Command::new(script).args([order, daemon]).output().await.unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    fn nothing_secret_was_said(&self, jit_configs: &[String]) {
        let clouds = std::fs::read_to_string(self.home.path("clouds.yaml")).unwrap();
        let mut secrets = jit_configs.to_vec();
        secrets.push(TOKEN.to_owned());
        secrets.extend(clouds.lines().filter_map(|line| {
            line.trim()
                .strip_prefix("password:")
                .map(|text| text.trim().trim_matches('"').to_owned())
        }));
        assert!(secrets.len() > jit_configs.len() + 1, "the cloud has a password");
        for (path, text) in self.home.everything_said() {
            for secret in &secrets {
                assert!(!text.contains(secret), "a secret is in {}", path.display());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real OpenStack: tests/openstack/up.sh"]
async fn twenty_runners_are_held_on_a_real_openstack_whatever_dies() {
    let _alone = openstack::CLOUD.lock().await;
    let clouds = openstack::clouds_yaml();
    let ours = openstack::is_ours_to_break(&clouds);
    let name = |key: &str, default: &str| std::env::var(key).unwrap_or_else(|_| default.to_owned());
    let home = Home::new();
    home.secret("token", TOKEN);
    home.secret("clouds.yaml", &std::fs::read_to_string(&clouds).unwrap());
    let tokens = vec![TOKEN.to_owned()];
    let github = FakeGithub::start(Options { tokens, rate_limit: None, ..Options::default() })
        .await
        .unwrap();
    // Another one each time: an earlier run may have left something behind.
    let fleet = format!("e{}", &uuid::Uuid::new_v4().simple().to_string()[..10]);
    let admin =
        Arc::new(Admin::of(&clouds, &name("RUNNER_FLEET_TEST_ADMIN_CLOUD", "ostest-admin")));
    let guests = Guests::start(&admin, &github, &fleet);
    let provider = name("RUNNER_FLEET_TEST_CLOUD", "ostest");
    let story = Story { home, github, guests, admin, fleet, provider, ours };
    let told = AssertUnwindSafe(story.tell()).catch_unwind().await;
    if let Err(failure) = told {
        if ours {
            story.back("keystone").await;
            story.back("nova-api").await;
        }
        story.admin.delete_all(&story.fleet).await;
        std::panic::resume_unwind(failure);
    }
}
