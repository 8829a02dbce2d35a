//! The command line against a real daemon, as an operator uses it: looks, orders, refusals, exit codes.

use std::{future::ready, time::Duration};

use serde_json::Value;

use crate::support::e2e::{Daemon, Home, PATIENCE, eventually};
use crate::support::e2e_fakes::{Outside, nothing_secret_was_said, pool};
use crate::support::planner;

const SCOPE: &str = "octo-org";
const NEVER_ENDS: Duration = Duration::from_secs(3600);

/// A home with a good configuration: pool `small` with `min` of at most 4 runners.
async fn furnished(min: u32) -> (Outside, Home) {
    let outside = Outside::start(u64::from(min)).await;
    let home = Home::new();
    outside.furnish(&home);
    home.configure(&config(&outside, &format!("min = {min}\nmax = 4")));
    (outside, home)
}

fn config(outside: &Outside, sizes: &str) -> String {
    outside.head("token_file = \"token\"") + &pool("small", SCOPE, sizes)
}

/// The same with a daemon that has its runners idle.
async fn at_work(min: u32) -> (Outside, Home, Daemon) {
    let (outside, home) = furnished(min).await;
    let daemon = home.start();
    home.holds("small", "idle", min.into()).await;
    home.ready().await;
    (outside, home, daemon)
}

/// Gives one of the runners a job without end; its name, once the daemon knows.
async fn with_a_job(outside: &Outside, home: &Home) -> String {
    let labels = ["self-hosted", "small"].map(str::to_owned);
    outside.github.queue_job(&SCOPE.parse().unwrap(), &labels, NEVER_ENDS);
    eventually(PATIENCE, "the job runs", || {
        ready((outside.github.stats().running == 1).then_some(()))
    })
    .await;
    // Without it the job would be known with the next listing, when all is quiet a minute later.
    home.cli(&["reconcile"]).await.good();
    eventually(PATIENCE, "the daemon knows of the job", || async {
        let runners = home.runners().await;
        runners.into_iter().find(|(_, state)| state == "busy").map(|(name, _)| name)
    })
    .await
}

async fn is_gone(home: &Home, name: &str) {
    eventually(PATIENCE, &format!("{name} is gone"), || async {
        home.runners().await.iter().all(|(known, _)| known != name).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_a_daemon_the_exit_code_says_so_and_names_the_socket() {
    let (_outside, home) = furnished(0).await;
    for command in [
        &["status"][..],
        &["pools", "--output", "json"],
        &["runners"],
        &["target", "small", "1"],
        &["drain", "ci--small--0123456789ab"],
        &["delete", "ci--small--0123456789ab", "--force"],
        &["flush", "small"],
        &["reconcile"],
        &["reload"],
    ] {
        let told = home.cli(command).await.bad(3);
        assert!(told.contains("api.sock") && told.contains("--socket"), "{command:?}: {told}");
    }
}

#[tokio::test]
async fn a_wrong_command_line_is_told_from_a_failure() {
    let (_outside, home) = furnished(0).await;
    for command in [
        &["shrink"][..],
        &["target", "small"],
        &["target", "small", "many"],
        &["flush", "small", "--busy"],
        &["runners", "--output", "yaml"],
        &["drain"],
    ] {
        home.cli(command).await.bad(2);
    }
    let missing = home.path("no-such.toml");
    let told = home.cli(&["run", "--config", missing.to_str().unwrap()]).await.bad(2);
    assert!(told.contains("no-such.toml"), "{told}");
    assert!(home.cli(&["--help"]).await.good().contains("Examples"));
    for shell in ["bash", "zsh", "fish"] {
        let script = home.cli(&["completions", shell]).await.good();
        assert!(script.contains("runner-fleet") && script.contains("reconcile"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_shows_its_pools_and_runners_for_people_and_for_programs() {
    let (outside, home, _daemon) = at_work(2).await;
    let text = home.cli(&["status"]).await.good();
    assert!(text.contains("fleet ci") && text.contains("small"), "{text}");
    let status = home.cli(&["status", "--output", "json"]).await.json();
    assert_eq!((&status["id"], &status["ready"]), (&"ci".into(), &true.into()));
    assert!(status["ports"]["github"]["calls"].as_u64() > Some(0), "{status}");
    assert!(home.cli(&["pools"]).await.good().contains("small"));
    let pools = home.cli(&["pools", "--output", "json"]).await.json();
    assert_eq!(pools["pools"][0]["counts"]["idle"], 2, "{pools}");

    let runners = home.runners().await;
    let mut vms: Vec<String> = outside.cloud.vms().into_iter().map(|vm| vm.name).collect();
    let mut names: Vec<String> = runners.iter().map(|(name, _)| name.clone()).collect();
    vms.sort();
    names.sort();
    assert_eq!(names, vms, "a runner is its VM, by name");
    let table = home.cli(&["runners", "--pool", "small", "--state", "idle"]).await.good();
    assert!(names.iter().all(|name| table.contains(name)), "{table}");
    let busy = home.cli(&["runners", "--state", "busy", "--output", "json"]).await.json();
    assert_eq!(busy["runners"], Value::Array(Vec::new()));
    let one = home.cli(&["runners", &names[0]]).await.good();
    assert!(one.contains(&names[0]) && one.contains("idle"), "{one}");
    let one = home.cli(&["runners", &names[0], "--output", "json"]).await.json();
    assert_eq!((&one["state"], &one["pool"]), (&"idle".into(), &"small".into()));

    let told = home.cli(&["runners", "ci--small--000000000000"]).await.bad(1);
    assert!(told.contains("no runner"), "{told}");
    let told = home.cli(&["runners", "--pool", "large"]).await.bad(1);
    assert!(told.contains("small"), "what there is, is said: {told}");
    let told = home.cli(&["runners", "--state", "asleep"]).await.bad(1);
    assert!(told.contains("idle"), "what there is, is said: {told}");
    nothing_secret_was_said(&home, &outside.secrets());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_an_operator_fixed_holds_over_a_restart_until_it_is_cleared() {
    let (_outside, home, daemon) = at_work(1).await;
    home.cli(&["target", "small", "3"]).await.good();
    home.holds("small", "idle", 3).await;
    daemon.kill().await;
    let _daemon = home.start();
    home.ready().await;
    let pool = home.pool("small").await.unwrap();
    assert_eq!((&pool["target_override"], &pool["target"]), (&3.into(), &3.into()), "{pool}");
    home.holds("small", "idle", 3).await;

    let told = home.cli(&["target", "small", "5"]).await.bad(1);
    assert!(told.contains("max = 4"), "{told}");
    let told = home.cli(&["target", "large", "1"]).await.bad(1);
    assert!(told.contains("large") && told.contains("small"), "{told}");

    home.cli(&["target", "small", "clear", "--output", "json"]).await.json();
    // A fleet at rest is listed once a minute: the second listing tells a new daemon how many are busy,
    // a shrink waits a while, and a mute runner's idleness is proven by listings again.
    eventually(PATIENCE * 3, "the pool follows its own policy again", || async {
        let pool = home.pool("small").await?;
        let back = pool["target_override"].is_null() && pool["target"] == 1;
        (back && pool["counts"]["idle"] == 1 && pool["counts"]["draining"] == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_to_runners_spare_jobs_unless_force_is_said() {
    let (outside, home, _daemon) = at_work(2).await;
    let busy = with_a_job(&outside, &home).await;
    home.holds("small", "idle", 1).await;
    let idle = home.runners().await.into_iter().find(|(_, state)| state == "idle").unwrap().0;

    let told = home.cli(&["drain", &busy]).await.bad(1);
    assert!(told.contains(&busy), "{told}");
    for name in [&busy, &idle] {
        let told = home.cli(&["delete", name]).await.bad(1);
        assert!(told.contains("--force") && told.contains("drain"), "{told}");
    }
    home.cli(&["drain", &idle]).await.good();
    is_gone(&home, &idle).await;
    home.holds("small", "idle", 1).await;

    let before = home.runners().await;
    let flushed = home.cli(&["flush", "small", "--output", "json"]).await.json();
    assert_eq!((&flushed["drained"], &flushed["killed"]), (&1.into(), &0.into()));
    for (name, _) in before.iter().filter(|(name, _)| *name != busy) {
        is_gone(&home, name).await;
    }
    assert!(home.runners().await.contains(&(busy.clone(), "busy".to_owned())));
    assert_eq!(outside.github.stats().lost, 0, "nothing so far has cost a job");

    home.cli(&["delete", &busy, "--force"]).await.good();
    is_gone(&home, &busy).await;
    assert_eq!(outside.guests.seen().vm_taken, [busy], "the job was killed, as was said");
    assert!(home.journal().contains("\"job_killed\":true"), "and the journal says so");

    let busy = with_a_job(&outside, &home).await;
    let flushed = home.cli(&["flush", "small", "--busy", "--force", "--output", "json"]).await;
    assert_eq!(flushed.json()["killed"], 1);
    is_gone(&home, &busy).await;
    for command in ["drain", "flush"] {
        let told = home.cli(&[command, "ci--small--000000000000"]).await.bad(1);
        assert!(told.contains("ci--small--000000000000"), "{told}");
    }
    nothing_secret_was_said(&home, &outside.secrets());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconcile_finds_what_no_event_told() {
    let (outside, home, _daemon) = at_work(2).await;
    let lost = home.runners().await[0].0.clone();
    assert!(outside.cloud.faults().vanish(&lost));
    // A VM that one listing does not show may be there all the same, so it takes more than one.
    eventually(PATIENCE, "the lost VM is replaced", || async {
        home.cli(&["reconcile"]).await.good();
        let runners = home.runners().await;
        let whole = runners.iter().filter(|(_, state)| state == "idle").count() == 2;
        (whole && runners.iter().all(|(name, _)| *name != lost)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_configuration_is_not_taken_over_and_every_fault_is_listed() {
    let (outside, home, _daemon) = at_work(1).await;
    let before = home.pool("small").await.unwrap();
    let faulty = config(&outside, "mim = 2\nmax = 0");
    home.configure(&faulty);
    let told = home.cli(&["reload"]).await.bad(1);
    assert!(told.contains("mim") && told.contains("max"), "both faults: {told}");
    let status = home.status().await.unwrap();
    assert_eq!(status["last_reload"]["ok"], false, "{status}");
    let after = home.pool("small").await.unwrap();
    assert_eq!((&after["max"], &after["target"]), (&before["max"], &before["target"]));
    home.holds("small", "idle", 1).await;

    home.configure(
        &(config(&outside, "min = 2\nmax = 3") + &pool("more", SCOPE, "min = 1\nmax = 1")),
    );
    let done = home.cli(&["reload"]).await.good();
    assert!(done.contains("more"), "what changed is said: {done}");
    home.holds("small", "idle", 2).await;
    home.holds("more", "idle", 1).await;
    assert_eq!(home.pool("small").await.unwrap()["max"], 3);
    assert_eq!(home.status().await.unwrap()["last_reload"]["ok"], true);

    let other = config(&outside, "min = 2\nmax = 3").replace("id = \"ci\"", "id = \"cd\"");
    home.configure(&other);
    let told = home.cli(&["reload"]).await.bad(1);
    assert!(told.contains("fleet.id"), "{told}");
}

#[tokio::test]
async fn a_check_reports_every_fault_of_the_file_at_once() {
    let (outside, home) = furnished(1).await;
    assert!(home.cli(&["check"]).await.good().contains("fleet.toml"));
    home.cli(&["check", "--output", "json"]).await.json();
    let faulty =
        config(&outside, "min = 9\nmax = 4").replace("m1.small\"", "m1.small\"\nflavour = 1");
    home.configure(&faulty);
    let told = home.cli(&["check"]).await.bad(2);
    for word in ["min", "flavour", "fleet.toml:"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let answer = home.cli(&["check", "--output", "json"]).await;
    assert_eq!(answer.code, 2);
    let faults: Value = serde_json::from_str(&answer.out).unwrap();
    assert!(faults.to_string().contains("flavour"), "{faults}");
}

/// What `check --online` grades as a fault.
async fn online_faults(home: &Home) -> Vec<String> {
    let answer = home.cli(&["check", "--online", "--output", "json"]).await;
    let found: Vec<Value> =
        serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}: {}", answer.out));
    let faults: Vec<String> = found
        .iter()
        .filter(|one| one["grade"] == "fault")
        .map(|one| format!("{}: {}: {}", one["whom"], one["about"], one["what"]))
        .collect();
    assert_eq!(answer.code, i32::from(!faults.is_empty()), "{found:?}");
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_online_check_says_what_cloud_and_github_would_refuse() {
    let (outside, home) = furnished(1).await;
    assert_eq!(online_faults(&home).await, [""; 0]);
    let text = home.cli(&["check", "--online"]).await.good();
    assert!(text.contains("debian-12") && text.contains(SCOPE), "{text}");

    let good = config(&outside, "min = 1\nmax = 4");
    let builders = good.replace("labels", "group = \"builders\"\nlabels");
    for (change, about) in [
        (good.replace("debian-12", "debian-13"), ["debian-13", "debian-12"]),
        (good.replace("m1.small", "m1.huge"), ["m1.huge", "m1.small"]),
        (good.replace("demo-net", "no-net"), ["no-net", "demo-net"]),
        (builders.replace("builders", "testers"), ["testers", "Builders"]),
    ] {
        home.configure(&change);
        let faults = online_faults(&home).await;
        let [fault] = &faults[..] else { panic!("one fault about {about:?}: {faults:?}") };
        assert!(about.iter().all(|word| fault.contains(word)), "what there is instead: {fault}");
    }
    home.configure(&builders);
    assert_eq!(online_faults(&home).await, [""; 0], "groups are found without regard to case");

    home.configure(&good);
    home.secret("token", "ghp_of_somebody_who_left");
    let faults = online_faults(&home).await;
    assert!(
        faults.len() == 1 && faults[0].contains("github") && faults[0].contains("401"),
        "{faults:?}"
    );
    outside.furnish(&home);
    outside.cloud.faults().refuse_logins(true);
    let faults = online_faults(&home).await;
    assert!(faults.len() == 1 && faults[0].contains("provider fake"), "{faults:?}");
    outside.cloud.faults().refuse_logins(false);
    outside.github.faults().outage(true);
    let faults = online_faults(&home).await;
    assert!(faults.len() == 1 && faults[0].contains("github"), "{faults:?}");
    assert_eq!(outside.cloud.stats().creates, 0, "a check makes nothing");

    let mut secrets = outside.secrets();
    secrets.push("ghp_of_somebody_who_left".to_owned());
    let said = home.everything_said();
    for (path, text) in said {
        for secret in &secrets {
            assert!(!text.contains(secret), "a secret is in {}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_online_check_asks_whoever_tells_of_demand() {
    let (outside, home) = furnished(1).await;
    let planner = planner::Planner::start(&[("large", 3)]).await;
    home.secret("planner-token", planner::TOKEN);
    home.secret("hook-secret", "of the webhooks");
    home.secret("queue-url", "amqp://fleet:s3cr3t-of-the-queue@127.0.0.1:9/");
    let head = outside.head("token_file = \"token\"");
    let whole = format!(
        "{head}\n[planner]\nurl = \"http://{}\"\ntoken_file = \"planner-token\"\n\
         [webhooks]\nlisten = \"127.0.0.1:8443\"\nsecret_file = \"hook-secret\"\n",
        planner.address
    );
    let pools = pool("large", SCOPE, "max = 4\ndemand = [\"planner\"]")
        + &pool("hooked", SCOPE, "max = 4\ndemand = [\"webhook\"]")
        + &pool("set", SCOPE, "max = 4\ndemand = [\"scale-set\"]");
    home.configure(&(whole.clone() + &pools));
    assert_eq!(online_faults(&home).await, [""; 0]);
    let text = home.cli(&["check", "--online"]).await.good();
    for word in ["3 runners wanted in all", "set of octo-org", "the daemon makes it", "secrets"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(outside.github.scale_sets().len(), 0, "a check makes nothing");

    let queue = "[queue]\nkind = \"amqp\"\nurl_file = \"queue-url\"\n";
    let edge = pool("edge", SCOPE, "max = 4\ndemand = [\"queue\"]");
    planner.forget("large");
    planner.set("huge", 1);
    home.configure(&(whole + queue + &pools + &edge));
    let faults = online_faults(&home).await;
    let about = ["queue", "flavor large"];
    assert_eq!(faults.len(), about.len(), "{faults:?}");
    for (fault, word) in faults.iter().zip(about) {
        assert!(fault.contains(word) && !fault.contains("s3cr3t"), "{fault}");
    }
    assert!(faults[0].contains("127.0.0.1:9") && faults[1].contains("it tells huge"), "{faults:?}");
}
