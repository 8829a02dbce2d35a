//! The demo on a real LXD: its guests are containers, and none of them is left.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use crate::support::lxd_guests::Lxd;

const DAEMON: &str = env!("CARGO_BIN_EXE_runner-fleet");

/// The longest that a demo may take, from its start or from the order to end.
const PATIENCE: Duration = Duration::from_secs(400);

/// A demo that does not outlive its test.
struct Demo(Child);

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let demo = Command::new(DAEMON).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        Self(demo)
    }

    fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(ended) = self.0.try_wait().unwrap() {
                return ended;
            }
            assert!(Instant::now() < deadline, "the demo does not end");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ended = self.0.kill();
    }
}

/// What LXD shows of a fleet, by its own client.
fn containers(lxd: &Lxd, fleet: &str) -> String {
    let mark = format!("user.runner-fleet.fleet={fleet}");
    lxd.said(&["list", &mark, "--format", "csv", "--columns", "n"])
}

#[test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
fn on_an_lxd_the_guests_are_containers_and_none_of_them_is_left() {
    let lxd = Lxd::found();
    let few = ["--for", "20s", "--jobs", "8", "--max", "3", "--speed", "60", "--seed", "11"];
    let there = ["--provider", "lxd", "--lxd-socket", &lxd.socket, "--image", "deb12"];
    let arguments = [&["demo"], &there[..], &few, &["--output", "json"]].concat();
    let mut demo = Demo::start(&arguments);
    // Less than a pipe holds.
    let ended = demo.ends();
    let mut told = String::new();
    demo.0.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(ended.success(), "{told}");
    let summary: serde_json::Value = serde_json::from_str(&told).unwrap();
    eprintln!("{summary:#}");
    let number = |key: &str| summary[key].as_u64().unwrap();
    for never in ["leaked_vms", "leaked_registrations", "busy_runners_killed", "invariants_broken"]
    {
        assert_eq!(number(never), 0, "{never}");
    }
    assert_eq!(number("jobs_queued"), 8);
    assert_eq!(number("jobs_served") + number("jobs_lost_to_vanished_vms"), 8);
    assert!(number("launches") >= 8 && (1..=3).contains(&number("peak_vms")));
    assert!(number("cloud_calls") > 0);
    assert!(summary["cold_start_ms"]["p50"].as_u64().unwrap() > 0, "it is measured");
    assert_eq!(containers(&lxd, summary["fleet"].as_str().unwrap()), "");
}

#[test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
fn ctrl_c_takes_every_container_of_the_demo_away() {
    let lxd = Lxd::found();
    let there = ["--provider", "lxd", "--lxd-socket", &lxd.socket, "--image", "deb12"];
    let mut demo = Demo::start(&[&["demo"], &there[..], &["--max", "4"]].concat());
    let mut lines = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let fleet = first.split_once("fleet ").unwrap().1.split(';').next().unwrap().to_owned();
    let deadline = Instant::now() + Duration::from_secs(120);
    while containers(&lxd, &fleet).is_empty() {
        assert!(Instant::now() < deadline, "no container of {fleet} came into sight");
        std::thread::sleep(Duration::from_millis(100));
    }
    let pid = demo.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(demo.ends().code(), Some(130));
    assert_eq!(containers(&lxd, &fleet), "");
}
