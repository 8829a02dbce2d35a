//! The real daemon, a real LXD, and guests that are real containers: they run the real user data with
//! a stand-in for the runner application, which takes its jobs from the fake GitHub.
//!
//! `tests/lxd/up.sh` starts the LXD. Run with `--nocapture` for the figures that it measures.

use std::{
    net::{Ipv4Addr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::join_all};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use runner_fleet::fake::github::Lost;
use serde_json::json;
use tokio::sync::RwLock;

use crate::support::e2e::eventually;
use crate::support::e2e_lxd_story::{PATIENCE, Pool, Story};
use crate::support::journal;
use crate::support::lxd;

/// The stories share one LXD and two cores.
static STAGE: RwLock<()> = RwLock::const_new(());

/// Runs a story that mostly waits, beside others of its kind.
async fn told(story: impl AsyncFnOnce(&Story)) {
    let _shared = STAGE.read().await;
    tell(story).await;
}

/// Runs a story that measures, or that makes LXD slow for everybody.
async fn told_alone(story: impl AsyncFnOnce(&Story)) {
    let _alone = STAGE.write().await;
    tell(story).await;
}

/// Runs a story, and leaves nothing of it on LXD whatever happens.
async fn tell(story: impl AsyncFnOnce(&Story)) {
    let begun = Story::begin().await;
    let outcome = AssertUnwindSafe(story(&begun)).catch_unwind().await;
    begun.lxd.clean_up().await;
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure);
    }
}

/// The value below which that share of the values lies, in milliseconds.
fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len());
    sorted[at - 1]
}

fn figure(what: &str, values: &[f64], bound: f64) {
    let (half, most) = (percentile(values, 0.5), percentile(values, 0.99));
    eprintln!(
        "{what}: p50 {half:.0} ms, p99 {most:.0} ms of {} ({:.2} x the bound of {bound:.0} ms)",
        values.len(),
        most / bound
    );
}

const JOBS: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn ten_runners_are_kept_under_a_stream_of_a_hundred_jobs() {
    told_alone(async |story| {
        story.configure(&[Pool::of("ten", 10, 20)], true);
        story.home.cli(&["check", "--online"]).await.good();
        let daemon = story.home.start();
        story.at_rest(&[("ten", 10)]).await;
        let before = story.registered_at().len();
        let mut chance = SmallRng::seed_from_u64(3);
        for _ in 0..JOBS {
            eventually(PATIENCE, "a runner is near", || async {
                let jobs = story.github.stats();
                (jobs.queued + jobs.running < 6).then_some(())
            })
            .await;
            story.queue("ten", Duration::from_millis(chance.random_range(100..1500)));
            assert!(story.lxd.instances().await.len() <= 20, "never more than max");
        }
        eventually(PATIENCE, "every job was served", || async {
            (story.github.stats().completed == JOBS).then_some(())
        })
        .await;
        assert_eq!(story.github.stats().lost, 0, "no job was lost");
        story.at_rest(&[("ten", 10)]).await;

        let lines = journal::judged(&story.home.journal());
        let busy = journal::entered(&lines, "busy");
        let mut jobs = story.github.jobs();
        let known: Vec<f64> = jobs
            .iter()
            .map(|job| {
                let acquired = job.acquired_at.unwrap().timestamp_micros() as f64 / 1e6;
                (busy[job.runner.as_ref().unwrap()] - acquired).max(0.0) * 1e3
            })
            .collect();
        figure("a job taken by a guest -> the daemon knows it", &known, 200.0);
        // Each end of a job makes one registration, in the same order.
        jobs.sort_by_key(|job| job.completed_at);
        let asked: Vec<f64> = jobs
            .iter()
            .zip(&story.registered_at()[before..])
            .map(|(job, asked)| (*asked - job.completed_at.unwrap()).num_milliseconds() as f64)
            .map(|late| late.max(0.0))
            .collect();
        assert_eq!(asked.len() as u64, JOBS, "each finished runner was replaced");
        figure("a job ends at GitHub -> its replacement is asked for", &asked, 100.0);

        // The journal tells each job once, whole, in the fields of Canonical's charm.
        let of = |event| {
            let lines = journal::of(&lines, event);
            lines.into_iter().filter(|line| line["flavor"] == "ten").collect::<Vec<_>>()
        };
        let (starts, stops) = (of("runner_start"), of("runner_stop"));
        assert_eq!((starts.len() as u64, stops.len() as u64), (JOBS, JOBS));
        assert!(of("runner_installed").len() as u64 >= JOBS);
        for line in starts.iter().chain(&stops) {
            assert_eq!(line["repo"], "octo-org/project", "{line}");
            assert_eq!(line["workflow"], "CI", "{line}");
            assert_eq!(line["github_event"], "push", "{line}");
        }
        assert!(starts.iter().all(|line| line["idle"].is_number()), "{starts:?}");
        for line in &stops {
            assert_eq!(line["status"], "normal", "{line}");
            assert_eq!(line["job_conclusion"], "success", "{line}");
            assert!(line["job_duration"].as_f64().is_some_and(|took| took >= 0.1), "{line}");
        }
        story.end(daemon, &["ten"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_guest_that_somebody_deletes_in_mid_job_costs_that_job_alone_and_leaves_nothing() {
    told(async |story| {
        story.configure(&[Pool::of("few", 2, 5)], true);
        let daemon = story.home.start();
        story.at_rest(&[("few", 2)]).await;

        let (victim, other) = (
            story.queue("few", Duration::from_secs(120)),
            story.queue("few", Duration::from_secs(8)),
        );
        let runner = story.runs(victim).await;
        story.is(&runner, "busy").await;
        story.lxd.delete(&runner).await;
        // Its job is told as what it was while its registration is still left to GitHub.
        eventually(PATIENCE, "the lost job is told", || async {
            let lines = journal::judged(&story.home.journal());
            let stops = journal::of(&lines, "runner_stop");
            // Nobody could say with which code its runner application ended.
            let cut_off = |line: &&&serde_json::Value| {
                line["status"] == "abnormal" && line["status_info"].is_null()
            };
            stops.iter().find(cut_off)?;
            let deleted = journal::entered(&lines, "deleted");
            assert!(!deleted.contains_key(&runner), "told only when nothing of it was left");
            Some(())
        })
        .await;
        story.done(other).await;
        // Its registration is left to GitHub for a while, as that of every runner whose VM has stopped.
        story.home.holds("few", "idle", 2).await;
        eventually(PATIENCE, "github gives the job up", || async {
            matches!(story.job(victim).lost?, (_, Lost::Silent | Lost::Disconnected)).then_some(())
        })
        .await;
        story.end(daemon, &["few"]).await;
        story.only_these_were_lost(&[victim]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn guests_that_fill_their_disk_cost_their_own_job_and_leave_nothing() {
    // Disks with a size make LXD slow for everybody.
    told_alone(async |story| {
        let few = Pool { more: "disk = \"2GiB\"", ..Pool::of("few", 2, 4) };
        story.configure(std::slice::from_ref(&few), true);
        let daemon = story.home.start();
        story.at_rest(&[("few", 2)]).await;

        let full = story.queue("few", Duration::from_secs(25));
        let runner = story.runs(full).await;
        let fill = "dd if=/dev/zero of=/full bs=1M 2>/dev/null; \
                    dd if=/dev/zero of=/more bs=1M count=1 2>/dev/null && echo room || echo full";
        // The runner application may fail at once, and its machine end under this command.
        if let Ok(left) = story.lxd.exec(&runner, &["sh", "-c", fill]).await {
            assert_eq!(left.trim(), "full", "what is left on its disk");
        }
        // The job may fail for it, and the runner application too: nothing may be left of either.
        eventually(PATIENCE, "the job on the full disk is over", || async {
            let job = story.job(full);
            job.completed_at.or(job.lost.map(|(at, _)| at))
        })
        .await;
        eventually(PATIENCE, "the container with the full disk is gone", || async {
            story.lxd.instances().await.iter().all(|one| one.name != runner).then_some(())
        })
        .await;
        story.home.holds("few", "idle", 2).await;
        story.end(daemon, &["few"]).await;
        story.only_these_were_lost(&[full]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_daemon_a_github_and_drains_that_fail_in_mid_job_cost_no_job() {
    told(async |story| {
        let few = Pool::of("few", 3, 6);
        story.configure(std::slice::from_ref(&few), true);
        let mut daemon = story.home.start();
        story.at_rest(&[("few", 3)]).await;

        // The daemon is killed and started again in mid-job.
        let job = story.queue("few", Duration::from_secs(10));
        let runner = story.runs(job).await;
        story.is(&runner, "busy").await;
        daemon.kill().await;
        daemon = story.home.start();
        story.is(&runner, "busy").await;
        story.done(job).await;
        story.home.holds("few", "idle", 3).await;

        // Jobs begin, run and end around a GitHub that is away for longer than listings may lag.
        let jobs: Vec<_> =
            [3, 20, 45].map(|seconds| story.queue("few", Duration::from_secs(seconds))).into();
        for job in &jobs {
            story.runs(*job).await;
        }
        story.github.faults().outage(true);
        tokio::time::sleep(Duration::from_secs(40)).await;
        story.github.faults().outage(false);
        for job in &jobs {
            story.done(*job).await;
        }
        story.home.holds("few", "idle", 3).await;

        // Drains that meet a job, again and again: the drain or the job comes first, never both.
        let mut chance = SmallRng::seed_from_u64(11);
        for round in 0..6 {
            let job = story.queue("few", Duration::from_secs(2));
            tokio::time::sleep(Duration::from_millis(chance.random_range(0..400))).await;
            story.home.cli(&["target", "few", "0"]).await.good();
            tokio::time::sleep(Duration::from_millis(chance.random_range(0..1500))).await;
            story.home.cli(&["target", "few", "clear"]).await.good();
            story.done(job).await;
            eprintln!("round {round}: {} assignments", story.job(job).assignments);
        }
        story.at_rest(&[("few", 3)]).await;

        // A guest that never registers is given up and replaced with backoff, beside a sound pool.
        let mute = Pool {
            env: &[("STAND_IN_SILENT", "1")],
            limits: r#"launch = "1m", register = "8s", idle_proof = "3s", watch = "5s", idle_alone = "10s", settle = "5s", ask = "10s""#,
            ..Pool::of("mute", 1, 2)
        };
        story.configure(&[few.clone(), mute], true);
        daemon.signal("HUP");
        eventually(PATIENCE, "a guest that never registers is given up", || async {
            let lines = journal::judged(&story.home.journal());
            lines
                .iter()
                .any(|line| line["flavor"] == "mute" && line["to"] == "deleted")
                .then_some(())
        })
        .await;
        story.configure(&[few], true);
        daemon.signal("HUP");
        story.at_rest(&[("few", 3)]).await;
        story.end(daemon, &["few"]).await;
        assert_eq!(story.github.stats().lost, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn guests_that_cannot_reach_the_daemon_are_kept_by_listings_alone() {
    told(async |story| {
        // Guests that should answer and never do are asked for as long as `ask` says.
        let mute = Pool {
            limits: r#"launch = "4m", register = "4m", idle_proof = "3s", watch = "5s", idle_alone = "10s", settle = "5s", ask = "15s""#,
            ..Pool::of("mute", 2, 4)
        };
        story.configure(&[mute], false);
        let daemon = story.home.start();
        story.at_rest(&[("mute", 2)]).await;
        let jobs: Vec<_> = (0..4).map(|_| story.queue("mute", Duration::from_secs(1))).collect();
        for job in jobs {
            story.done(job).await;
        }
        story.at_rest(&[("mute", 2)]).await;
        story.end(daemon, &["mute"]).await;
        assert_eq!(story.github.stats().lost, 0);
    })
    .await;
}

const AT_ONCE: u64 = 20;

/// What LXD alone needs until the user data of twenty containers has run.
async fn plainly(lxd: &lxd::RealLxd, story: &Story, bridge: Ipv4Addr) -> Duration {
    let called: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let note = Arc::clone(&called);
    let listener = tokio::net::TcpListener::bind(SocketAddr::from((bridge, 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(async move || {
        note.lock().unwrap().push(Instant::now());
    });
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let fleet = &story.lxd.fleet;
    let names: Vec<String> = (0..AT_ONCE).map(|n| format!("{fleet}-plain-{n}")).collect();
    let began = Instant::now();
    join_all(names.iter().map(async |name| {
        let body = json!({
            "name": name, "type": "container", "ephemeral": true, "profiles": ["default"],
            "config": {
                "limits.cpu": "1", "limits.memory": "512MiB",
                "user.runner-fleet.fleet": fleet,
                "cloud-init.user-data": format!("#cloud-config\nruncmd: [[curl, -s, \"{url}\"]]\n"),
            },
            "source": { "type": "image", "alias": "runner" },
        });
        lxd.done("POST", "instances", Some(body)).await;
        let start = json!({ "action": "start" });
        lxd.done("PUT", &format!("instances/{name}/state"), Some(start)).await;
    }))
    .await;
    eventually(PATIENCE, "the user data of all has run", || async {
        (called.lock().unwrap().len() as u64 >= AT_ONCE).then_some(())
    })
    .await;
    serving.abort();
    for name in &names {
        story.lxd.delete(name).await;
    }
    called.lock().unwrap().iter().max().unwrap().duration_since(began)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn twenty_containers_at_once_are_idle_runners_soon_after_lxd_has_them() {
    told_alone(async |story| {
        let lxd = lxd::RealLxd::found();
        let plain = plainly(&lxd, story, story.lxd.bridge().await).await;
        story.configure(&[Pool::of("twenty", 20, 20)], true);
        let began = Instant::now();
        story.home.cli(&["check", "--online"]).await.good();
        let daemon = story.home.start();
        eventually(PATIENCE, "twenty runners are idle", || async {
            let pool = story.home.pool("twenty").await?;
            (pool["counts"]["idle"] == AT_ONCE).then_some(())
        })
        .await;
        let ours = began.elapsed();
        eprintln!(
            "{AT_ONCE} containers at once, from check to idle: {:.1} s, LXD alone {:.1} s ({:.2} x, bound 1.3 x)",
            ours.as_secs_f64(),
            plain.as_secs_f64(),
            ours.as_secs_f64() / plain.as_secs_f64()
        );
        story.end(daemon, &["twenty"]).await;
    })
    .await;
}
