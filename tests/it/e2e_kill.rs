//! The real daemon, killed again and again in the middle of its work, against a GitHub and a cloud on
//! loopback whose VMs run jobs all the while.
//!
//! What is promised: nothing is left over, no job is lost, and a pool never has more VMs than `max`,
//! however often the daemon dies. The last one holds as strictly as it is tested here where a cloud
//! shows a VM as soon as it has taken the order, as Nova does: an order that is still on its way
//! when the daemon dies, and is shown only after the next start has listed the cloud, comes on top.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use runner_fleet::fake::github::{Once, Operation};
use serde_json::Value;

use crate::support::e2e::{Daemon, Home, PATIENCE, eventually};
use crate::support::e2e_fakes::{
    API_TOKEN, APP_ID, INSTALLATION, Outside, nothing_secret_was_said, pool,
};

const SEED: u64 = 20_240_611;
const ORG: &str = "octo-org";
const REPOSITORY: &str = "octo-org/app";

fn by_token() -> &'static str {
    "token_file = \"token\""
}

fn by_app() -> String {
    format!(
        "app = {{ id = {APP_ID}, installation_id = {INSTALLATION}, private_key_file = \"app.pem\" }}"
    )
}

fn small() -> String {
    pool("small", ORG, "spare = 3\nmax = 8")
}

fn large() -> String {
    pool("large", REPOSITORY, "min = 2\nmax = 4")
}

fn extra() -> String {
    pool("extra", ORG, "min = 1\nspare = 1\nmax = 3")
}

const MAX: [(&str, usize); 3] = [("small", 8), ("large", 4), ("extra", 3)];

/// What goes on around the daemon, whether it lives or not: jobs come in, and VMs are counted.
struct Bustle {
    wanted: Arc<Mutex<Vec<(&'static str, &'static str)>>>,
    most: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Bustle {
    fn start(outside: &Arc<Outside>) -> Self {
        let wanted: Arc<Mutex<Vec<(&'static str, &'static str)>>> = Arc::default();
        let most: Arc<Mutex<BTreeMap<_, usize>>> = Arc::default();
        let jobs = {
            let (outside, wanted) = (Arc::clone(outside), Arc::clone(&wanted));
            let mut chance = SmallRng::seed_from_u64(SEED);
            async move {
                loop {
                    for (scope, label) in wanted.lock().unwrap().clone() {
                        let (scope, labels) = (scope.parse().unwrap(), [label.to_owned()]);
                        let (waiting, running) = outside.github.demand(&scope, &labels);
                        if waiting == 0 && running < 3 {
                            let runs_for = Duration::from_millis(chance.random_range(300..4000));
                            outside.github.queue_job(&scope, &labels, runs_for);
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        let count = {
            let (outside, most) = (Arc::clone(outside), Arc::clone(&most));
            async move {
                loop {
                    for (pool, _) in MAX {
                        let there = outside.vms_of(pool);
                        let mut most = most.lock().unwrap();
                        let most = most.entry(pool).or_default();
                        *most = (*most).max(there);
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        Self { wanted, most, tasks: [tokio::spawn(jobs), tokio::spawn(count)] }
    }

    /// Jobs are wanted in these scopes with these labels from now on.
    fn jobs(&self, wanted: &[(&'static str, &'static str)]) {
        *self.wanted.lock().unwrap() = wanted.to_vec();
    }
}

impl Drop for Bustle {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Starts a daemon, gives it something to do, and kills it at some moment while it does it.
async fn kill_in_the_middle(home: &Home, outside: &Outside, chance: &mut SmallRng, round: usize) {
    let before = outside.cloud.stats();
    let daemon = home.start();
    // Every fourth one dies while it starts.
    if round % 4 != 3 {
        eventually(PATIENCE, "the daemon answers", || home.status()).await;
        let order = match chance.random_range(0..4) {
            0 => vec!["target".to_owned(), "small".to_owned(), "8".to_owned()],
            1 => {
                let runners: u32 = chance.random_range(0..4);
                vec!["target".to_owned(), "small".to_owned(), runners.to_string()]
            }
            2 => vec!["target".to_owned(), "small".to_owned(), "clear".to_owned()],
            _ => vec!["flush".to_owned(), "small".to_owned()],
        };
        let words: Vec<&str> = order.iter().map(String::as_str).collect();
        home.cli(&words).await.good();
        eventually(PATIENCE, "a launch or a deletion is begun", || async {
            let now = outside.cloud.stats();
            (now.creates + now.deletes > before.creates + before.deletes).then_some(())
        })
        .await;
    }
    tokio::time::sleep(Duration::from_millis(chance.random_range(0..900))).await;
    daemon.kill().await;
    no_job_was_lost(outside);
}

fn no_job_was_lost(outside: &Outside) {
    let (seen, jobs) = (outside.guests.seen(), outside.github.stats());
    assert_eq!(seen.vm_taken, [""; 0], "VMs taken away in mid-job");
    assert_eq!(seen.registration_taken, [""; 0], "registrations taken away in mid-job");
    assert_eq!(jobs.lost, 0, "jobs lost");
}

/// Everything that the API shows, over TCP and with its token, goes to what was said.
async fn look_over_tcp(home: &Home, daemon: &Daemon) {
    let said = daemon.said();
    let (_, rest) = said.split_once("tcp=Some(").expect("the log names the address");
    let (address, _) = rest.split_once(')').unwrap();
    let get = |path: String, token: Option<&'static str>| {
        let url = format!("http://{address}{path}");
        async move {
            let mut request = reqwest::Client::new().get(url);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    };
    assert_eq!(get("/v1/status".to_owned(), None).await.0, 401, "nobody gets in without the token");
    let (status, runners) = get("/v1/runners".to_owned(), Some(API_TOKEN)).await;
    assert_eq!(status, 200, "{runners}");
    let listed: Value = serde_json::from_str(&runners).unwrap();
    let names = listed["runners"].as_array().unwrap().iter();
    let mut paths: Vec<String> =
        names.map(|one| format!("/v1/runners/{}", one["name"].as_str().unwrap())).collect();
    paths.extend(["/v1/status", "/v1/pools", "/healthz", "/readyz"].map(str::to_owned));
    home.note("api.log", &runners);
    for path in paths {
        home.note("api.log", &get(path, Some(API_TOKEN)).await.1);
    }
}

/// Each whole line is JSON with the fields of its event. A line that a kill tore may be none; it
/// costs only itself.
fn the_journal_can_be_read(home: &Home, kills: usize) {
    let text = home.journal();
    let mut torn = 0;
    let mut events: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            assert!(line.starts_with('{'), "a torn line is the beginning of one: {line}");
            torn += 1;
            continue;
        };
        let event = line["event"].as_str().expect("every line names its event").to_owned();
        assert!(line["timestamp"].as_f64().is_some_and(|at| at > 1.7e9), "{line}");
        let fields: &[&str] = match event.as_str() {
            "runner_installed" => &["duration"],
            "runner_stop" => &["status"],
            "reconciliation" => &[
                "crashed_runners",
                "idle_runners",
                "active_runners",
                "expected_runners",
                "duration",
            ],
            "transition" => &["runner", "to", "after", "because", "job_killed"],
            _ => &[],
        };
        if event != "fault" && event != "invariant_broken" {
            assert!(line["flavor"].is_string(), "{line}");
        }
        for field in fields {
            assert!(!line[field].is_null(), "{field} is missing: {line}");
        }
        assert_ne!(event, "invariant_broken", "{line}");
        assert_ne!(line["job_killed"], true, "{line}");
        *events.entry(event).or_default() += 1;
    }
    assert!(torn <= kills, "{torn} torn lines after {kills} kills");
    for event in ["runner_installed", "runner_start", "runner_stop", "reconciliation", "transition"]
    {
        assert!(events.contains_key(event), "{event} never happened: {events:?}");
    }
    eprintln!("journal: {events:?}, {torn} torn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_killed_at_any_moment_loses_nothing() {
    let outside = Arc::new(Outside::start(SEED).await);
    let home = Home::new();
    outside.furnish(&home);
    home.configure(&(outside.head(by_token()) + &small() + &large()));
    let bustle = Bustle::start(&outside);
    bustle.jobs(&[(ORG, "small"), (REPOSITORY, "large")]);
    let mut chance = SmallRng::seed_from_u64(SEED);
    let mut kills = 0;
    for round in 0..5 {
        kill_in_the_middle(&home, &outside, &mut chance, round).await;
        kills += 1;
    }

    // A reload takes a pool out, brings one in, and logs in as an App from now on.
    let daemon = home.start();
    home.ready().await;
    bustle.jobs(&[(ORG, "small"), (ORG, "extra")]);
    home.configure(&(outside.head(&by_app()) + &small() + &extra()));
    daemon.signal("HUP");
    eventually(PATIENCE, "the new pool has runners, the removed one has none", || async {
        (outside.vms_of("extra") > 0 && outside.vms_of("large") == 0).then_some(())
    })
    .await;
    no_job_was_lost(&outside);

    // SIGTERM in the middle of launches.
    home.cli(&["target", "small", "8"]).await.good();
    eventually(PATIENCE, "a launch is under way", || async {
        outside.cloud.vms().iter().any(|vm| vm.status == "BUILD").then_some(())
    })
    .await;
    look_over_tcp(&home, &daemon).await;
    daemon.signal("TERM");
    let (status, said) = daemon.exit(Duration::from_secs(25)).await;
    assert_eq!(status.code(), Some(0), "a stop is no failure");
    assert!(said.contains("stopped"), "its last word");

    for round in 5..9 {
        kill_in_the_middle(&home, &outside, &mut chance, round).await;
        kills += 1;
    }

    // One pool is emptied by order, the other leaves the configuration while no daemon runs.
    bustle.jobs(&[]);
    let daemon = home.start();
    eventually(PATIENCE, "the daemon answers", || home.status()).await;
    home.cli(&["target", "small", "0"]).await.good();
    daemon.kill().await;
    kills += 1;
    home.configure(&(outside.head(&by_app()) + &small()));
    let daemon = home.start();
    eventually(PATIENCE, "no VM and no registration is left", || async {
        let (cloud, github) = (outside.cloud.stats(), outside.github.stats());
        (cloud.present == 0 && github.registrations == 0).then_some(())
    })
    .await;
    // What runners do under the eyes of one daemon is told whole; a start need not have seen it.
    bustle.jobs(&[(ORG, "small")]);
    home.cli(&["target", "small", "2"]).await.good();
    eventually(PATIENCE, "a runner is told from its first idle moment to its job's", || async {
        let journal = home.journal();
        ["runner_installed", "runner_start"]
            .iter()
            .all(|event| journal.contains(event))
            .then_some(())
    })
    .await;
    bustle.jobs(&[]);
    home.cli(&["target", "small", "0"]).await.good();
    eventually(PATIENCE, "nothing is left again", || async {
        let (cloud, github) = (outside.cloud.stats(), outside.github.stats());
        (cloud.present == 0 && github.registrations == 0).then_some(())
    })
    .await;
    home.cli(&["status"]).await.good();
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(25)).await.0.code(), Some(0));

    no_job_was_lost(&outside);
    let jobs = outside.github.stats();
    let most = bustle.most.lock().unwrap().clone();
    eprintln!("{kills} kills, {} jobs, most VMs {most:?}", jobs.completed);
    assert!(jobs.completed > 10, "jobs ran all the while");
    for (pool, max) in MAX {
        assert!(most[pool] <= max, "pool {pool} had {} VMs of at most {max}", most[pool]);
    }
    the_journal_can_be_read(&home, kills);
    nothing_secret_was_said(&home, &outside.secrets());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_never_run_on_one_socket_or_one_state_folder() {
    let outside = Outside::start(SEED).await;
    let home = Home::new();
    outside.furnish(&home);
    let config = outside.head(by_token()) + &pool("small", ORG, "min = 1\nmax = 2");
    home.configure(&config);
    std::fs::write(home.path("other-socket.toml"), config.replace("api.sock", "other.sock"))
        .unwrap();
    std::fs::write(home.path("other-state.toml"), config.replace("\"state\"", "\"other\""))
        .unwrap();

    let first = home.start();
    home.holds("small", "idle", 1).await;
    for (config, told) in
        [("fleet.toml", "process"), ("other-socket.toml", "state"), ("other-state.toml", "socket")]
    {
        let (status, said) = home.start_with(config).exit(PATIENCE).await;
        assert_eq!(status.code(), Some(1), "{config}: {said}");
        assert!(said.contains("another daemon") && said.contains(told), "{config}: {said}");
    }
    home.cli(&["status"]).await.good();
    assert_eq!(outside.cloud.stats().creates, 1, "a refused daemon has launched nothing");
    first.kill().await;

    // In the same instant, where neither finds the other's socket.
    let mut both = [home.start(), home.start_with("other-socket.toml")];
    let loser = eventually(PATIENCE, "one of two daemons gives way", || {
        std::future::ready(both.iter_mut().position(|daemon| !daemon.runs()))
    })
    .await;
    let [first, second] = both;
    let (loser, mut winner) = if loser == 0 { (first, second) } else { (second, first) };
    let (status, said) = loser.exit(PATIENCE).await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("another daemon"), "{said}");
    eventually(PATIENCE, "the other one serves", || async {
        winner.said().contains("api listens").then_some(())
    })
    .await;
    assert!(winner.runs());
    winner.kill().await;

    // A lock dies with its process.
    let _next = home.start();
    home.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_cannot_listen_everywhere_takes_back_what_it_had_begun() {
    let outside = Outside::start(SEED).await;
    let home = Home::new();
    outside.furnish(&home);
    home.secret("hook-secret", "of the webhooks");
    let taken = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let webhooks = format!(
        "[webhooks]\nlisten = \"{}\"\nsecret_file = \"hook-secret\"\n",
        taken.local_addr().unwrap()
    );
    let small = pool("small", ORG, "min = 1\nmax = 2");
    home.configure(&(outside.head(by_token()) + &webhooks + &small));
    let (status, said) = home.start().exit(PATIENCE).await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("api listens") && said.contains("webhooks.listen"), "{said}");
    assert!(
        !home.path("api.sock").exists(),
        "nobody finds the socket of a daemon that is not there"
    );
    let calls = outside.cloud.stats().calls;
    assert!(!calls.keys().any(|call| call.contains("/servers")), "its fleet never ran: {calls:?}");

    drop(taken);
    let _next = home.start();
    home.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_of_a_killed_daemon_is_found_also_where_no_pool_has_its_scope_any_more() {
    let outside = Outside::start(SEED).await;
    let home = Home::new();
    outside.furnish(&home);
    let small = outside.head(by_token()) + &pool("small", ORG, "min = 0\nmax = 2");
    home.configure(&(small.clone() + &pool("large", REPOSITORY, "min = 1\nmax = 1")));
    // Made at GitHub, but the answer never comes: so there is no VM that could tell of it.
    outside.github.faults().once(Operation::JitConfig, Once::DoAndHang);
    let daemon = home.start();
    let left = eventually(PATIENCE, "a registration without a VM", || async {
        outside.github.registrations().pop()
    })
    .await;
    assert_eq!((left.scope.to_string().as_str(), left.online), (REPOSITORY, false));
    daemon.kill().await;
    assert_eq!(outside.cloud.stats().creates, 0);

    home.configure(&small);
    let daemon = home.start();
    // Its owner is only known once the cloud was listed as well; nobody need wait for the next look.
    home.ready().await;
    home.cli(&["reconcile"]).await.good();
    eventually(PATIENCE * 2, "it is removed", || async {
        outside.github.registrations().is_empty().then_some(())
    })
    .await;
    daemon.signal("TERM");
    assert_eq!(daemon.exit(PATIENCE).await.0.code(), Some(0));
}
