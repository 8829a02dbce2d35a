//! The real user data in real containers: boot, register, one job, reports home, power-off.

use std::time::Duration;

use crate::support::guest_settings::{user_data, world};
use crate::support::guest_world::{JobState, World, jit_config, token};
use crate::support::lxd_guests;
use crate::support::lxd_guests::{Container, Lxd, fresh};
use runner_fleet::guest::{Application, Settings};
use serde_json::json;

/// Prints each file that holds a line of /srv/secrets and that the caller can read.
const SEARCH: &str = r#"
cd /
find / -xdev \( -path /proc -o -path /sys -o -path /home/runner -o -path /srv \) -prune -o \
    -type f -size -2000k -readable -exec grep -lF -f /srv/secrets {} +
find /run -type f -readable -exec grep -lF -f /srv/secrets {} +
grep -lF -f /srv/secrets /proc/[0-9]*/cmdline
grep -lF -f /srv/secrets /proc/1/environ /proc/$(pgrep -o -f runner-fleet/guest)/environ
curl -s --unix-socket /dev/lxd/sock http://lxd/1.0/config/cloud-init.user-data
"#;
const BOOT: Duration = Duration::from_secs(120);

/// A machine whose runner waits for a job.
async fn online<'a>(
    lxd: &'a Lxd,
    world: &World,
    settings: &Settings,
    name: &'a str,
) -> Container<'a> {
    let container = lxd.launch(name, &user_data(settings, name));
    world.until(BOOT, "the runner is online", |known| known.online.contains_key(name)).await;
    container
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_guest_boots_registers_runs_one_job_reports_each_step_and_is_gone() {
    let lxd = Lxd::found();
    let (world, mut settings) = world(&lxd, json!({})).await;
    settings.groups = vec!["adm".to_owned(), "no-such-group".to_owned()];
    settings.disable_update = true;
    let name = &fresh("life");
    let container = online(&lxd, &world, &settings, name).await;
    let inside = container.exec("hostname; id -Gn runner; grep -c adm /etc/group");
    let inside = String::from_utf8_lossy(&inside.stdout).into_owned();
    assert!(inside.starts_with(&format!("{name}\n")), "{inside}");
    assert!(inside.lines().nth(1).unwrap().contains("adm"), "{inside}");

    let job = world.queue(name, 1.0);
    assert!(container.gone_within(BOOT), "the container is there after its runner ended");
    assert_eq!(world.known().jobs[&job].state, JobState::Completed);
    assert_eq!(
        world.words(name),
        ["booted", "runner-started", "job-started", "job-completed", "stopped"]
    );
    let stopped = world.report(name, "stopped").unwrap();
    assert_eq!(stopped["exit_code"], 0);
    assert_eq!(stopped["result"], "success");
    assert_eq!(stopped["runner_version"], "2.336.0");
    assert!(stopped.get("log").is_none(), "a normal end has nothing to explain: {stopped}");
    assert_eq!(
        stopped["job"],
        json!({"repository": "o/r", "run_id": 123, "event": "push",
            "workflow": "CI \"quoted\" 'twice' $(reboot) \u{1F600}"})
    );
    let times = &stopped["times"];
    let order = ["booted", "runner_started", "job_started", "job_completed", "stopped"];
    let order: Vec<f64> = order.iter().map(|key| times[key].as_f64().unwrap()).collect();
    assert!(order.is_sorted() && order[0] >= 0.0, "{times}");
    println!("seconds since the container's start: {times}");
    assert_eq!(world.known().strangers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn the_jobs_user_reads_no_secret_but_its_own_runners() {
    let lxd = Lxd::found();
    let (world, settings) = world(&lxd, json!({})).await;
    let name = &fresh("secret");
    let container = online(&lxd, &world, &settings, name).await;
    let token = token(name);
    let jit = jit_config(name);
    // Whatever the user can read anywhere on the disk and of any process, its own runner's folder
    // left out: that one has the JIT config by its nature.
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in [("search.sh", SEARCH), ("secrets", &format!("{token}\n{jit}\n"))] {
        std::fs::write(folder.path().join(file), text).unwrap();
        let local = folder.path().join(file);
        let there = format!("{name}/srv/{file}");
        lxd.said(&["file", "push", "--mode=0644", local.to_str().unwrap(), &there]);
    }
    let found = container
        .exec("setpriv --reuid=runner --regid=runner --init-groups sh /srv/search.sh 2>/dev/null");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    let lines: Vec<_> = found.lines().filter(|line| !line.is_empty()).collect();
    assert!(!found.contains("#cloud-config"), "LXD tells the job's user: {found}");
    assert!(lines.contains(&"Access denied for non-root user"), "{found}");
    let files: Vec<_> = lines.iter().filter(|line| line.starts_with('/')).collect();
    assert!(files.is_empty(), "the job's user can read a secret in {files:?}");
    // A search that finds nothing anywhere would prove nothing.
    let kept = container.exec("ls -l /var/lib/cloud/instance/user-data.txt; stat -c %a /var/lib/cloud/seed/nocloud-net/user-data");
    let kept = String::from_utf8_lossy(&kept.stdout).into_owned();
    assert!(kept.contains("-rw-------") && kept.ends_with("600\n"), "{kept}");
    let planted = container.exec(
        "cp /srv/secrets /tmp/planted; chmod 644 /tmp/planted; \
         setpriv --reuid=runner --regid=runner --init-groups sh /srv/search.sh 2>/dev/null",
    );
    let planted = String::from_utf8_lossy(&planted.stdout).into_owned();
    assert!(planted.contains("/tmp/planted"), "the search finds nothing: {planted}");
    let log = container.exec("cat /var/log/runner-fleet-guest.log; journalctl --no-pager");
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(log.contains("report: runner-started"), "{log}");
    assert!(!log.contains(&token) && !log.contains(&jit), "a secret in a log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_runner_that_ends_without_a_job_says_why_and_powers_off() {
    let lxd = Lxd::found();
    let (world, settings) = world(&lxd, json!({"STAND_IN_EXIT": "7"})).await;
    let name = &fresh("exit");
    let container = lxd.launch(name, &user_data(&settings, name));
    assert!(container.gone_within(BOOT));
    assert_eq!(world.words(name), ["booted", "stopped"]);
    let stopped = world.report(name, "stopped").unwrap();
    assert_eq!(stopped["exit_code"], 7);
    let log = stopped["log"].as_str().unwrap();
    assert!(log.contains("was told to end with 7"), "{log}");
    assert!(log.len() <= 4096);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn an_application_with_the_wrong_digest_is_not_unpacked() {
    let lxd = Lxd::found();
    let (world, mut settings) = world(&lxd, json!({})).await;
    let wrong = "0".repeat(64);
    let url = format!("{}/application.tar.gz", world.url());
    settings.application = Application::Mirror { url, sha256: wrong.clone() };
    let name = &fresh("digest");
    let container = lxd.launch(name, &user_data(&settings, name));
    assert!(container.gone_within(BOOT));
    let stopped = world.report(name, "stopped").unwrap();
    let log = stopped["log"].as_str().unwrap();
    assert!(log.contains(&wrong) && log.contains("nothing of it was unpacked"), "{log}");
    assert!(world.known().online.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_guest_that_is_killed_takes_its_machine_along() {
    let lxd = Lxd::found();
    let (world, settings) = world(&lxd, json!({})).await;
    let name = &fresh("killed");
    let container = online(&lxd, &world, &settings, name).await;
    container.exec("systemctl kill --signal=KILL --kill-who=main runner-fleet-guest");
    assert!(container.gone_within(BOOT), "the machine outlives its guest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_machine_that_is_rebooted_serves_nobody_any_more_and_powers_off() {
    let lxd = Lxd::found();
    let (world, settings) = world(&lxd, json!({})).await;
    let name = &fresh("reboot");
    let container = online(&lxd, &world, &settings, name).await;
    container.exec("systemctl --no-block reboot");
    assert!(container.gone_within(BOOT), "the machine came back and stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_job_does_not_notice_that_the_daemon_is_away_and_all_is_told_when_it_is_back() {
    let lxd = Lxd::found();
    let (world, settings) = world(&lxd, json!({})).await;
    let name = &fresh("away");
    let container = online(&lxd, &world, &settings, name).await;
    world
        .until(BOOT, "the runner's start is told", |known| {
            known
                .reports
                .get(name)
                .is_some_and(|all| all.iter().any(|one| one["report"] == "runner-started"))
        })
        .await;
    world.known().away = Some(503);
    let job = world.queue(name, 0.5);
    world
        .until(BOOT, "the job is done", |known| known.jobs[&job].state == JobState::Completed)
        .await;
    assert_eq!(world.words(name), ["booted", "runner-started"]);
    world.known().away = None;
    assert!(container.gone_within(BOOT));
    assert_eq!(
        world.words(name),
        ["booted", "runner-started", "job-started", "job-completed", "stopped"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_job_whose_hooks_never_ran_is_told_all_the_same() {
    let lxd = Lxd::found();
    let wish = json!({"STAND_IN_NO_HOOKS": "1", "STAND_IN_RESULT": "failure"});
    let (world, settings) = world(&lxd, wish).await;
    let name = &fresh("nohooks");
    let container = online(&lxd, &world, &settings, name).await;
    world.queue(name, 0.1);
    assert!(container.gone_within(BOOT));
    assert_eq!(
        world.words(name),
        ["booted", "runner-started", "job-started", "job-completed", "stopped"]
    );
    let stopped = world.report(name, "stopped").unwrap();
    assert_eq!((&stopped["result"], &stopped["job"]), (&json!("failure"), &json!({})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn an_application_that_updates_itself_is_started_again() {
    let lxd = Lxd::found();
    let (world, settings) = world(&lxd, json!({"STAND_IN_UPDATE": "1"})).await;
    let name = &fresh("update");
    let container = online(&lxd, &world, &settings, name).await;
    let job = world.queue(name, 0.1);
    assert!(container.gone_within(BOOT));
    assert_eq!(world.known().jobs[&job].state, JobState::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn an_image_that_holds_the_application_is_used_as_it_is_and_keeps_its_own_hooks() {
    let lxd = Lxd::found();
    let (world, mut settings) = world(&lxd, json!({})).await;
    let name = &fresh("image");
    settings.application = Application::default();
    settings.home = None;
    // The image of this test: the stand-in where images have it, with an `.env` and a hook.
    lxd.said(&["init", "deb12", name, "--ephemeral"]);
    let container = lxd_guests::Container::of(&lxd, name);
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("actions-runner");
    lxd_guests::copy_stand_in(&app);
    std::fs::write(
        app.join(".env"),
        "FROM_IMAGE=kept\nACTIONS_RUNNER_HOOK_JOB_STARTED=/opt/hook.sh\nSTAND_IN_START=1000\n",
    )
    .unwrap();
    let target = format!("{name}/opt/");
    lxd.said(&["file", "push", "--quiet", "--recursive", app.to_str().unwrap(), &target]);
    let hook = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(hook.path(), "env >/tmp/hook-ran; sleep 3\n").unwrap();
    settings.env.insert("STAND_IN_START".to_owned(), "0".to_owned());
    let rendered = user_data(&settings, name);
    lxd.said(&["config", "set", name, &format!("cloud-init.user-data={rendered}")]);
    lxd.said(&[
        "file",
        "push",
        hook.path().to_str().unwrap(),
        &format!("{name}/opt/hook.sh"),
        "--mode=0755",
    ]);
    lxd.said(&["start", name]);
    world.until(BOOT, "the runner is online", |known| known.online.contains_key(name)).await;
    world.queue(name, 0.5);
    world
        .until(BOOT, "the job is acquired", |known| {
            known.jobs.values().any(|job| job.state == JobState::Acquired)
        })
        .await;
    let mut seen = String::new();
    for _ in 0..50 {
        let read = container.exec("cat /tmp/hook-ran; stat -c owner=%U /opt/actions-runner");
        seen = String::from_utf8_lossy(&read.stdout).into_owned();
        if seen.contains("GITHUB_REPOSITORY=o/r") {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(seen.contains("FROM_IMAGE=kept") && seen.contains("owner=runner"), "{seen}");
    assert!(container.gone_within(BOOT));
    // No home was given: nobody was told anything.
    assert!(world.known().reports.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn a_restart_of_the_unit_in_mid_job_waits_for_the_job() {
    let lxd = Lxd::found();
    let (world, settings) = world(&lxd, json!({})).await;
    let name = &fresh("restart");
    let container = online(&lxd, &world, &settings, name).await;
    let job = world.queue(name, 8.0);
    world.until(BOOT, "the job runs", |known| known.jobs[&job].state == JobState::Acquired).await;
    // What needrestart does, were the unit not exempt; also in a job's own process, which is killed
    // with the rest if the unit is.
    container.exec("systemctl restart --no-block runner-fleet-guest");
    assert!(container.gone_within(BOOT), "the machine ends after its job all the same");
    assert_eq!(world.known().jobs[&job].state, JobState::Completed);
    let stopped = world.report(name, "stopped").unwrap();
    assert_eq!(stopped["result"], "success", "{stopped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn upkeep_is_held_off_needrestart_leaves_the_guest_alone_and_the_pools_command_ran() {
    let lxd = Lxd::found();
    let (world, mut settings) = world(&lxd, json!({})).await;
    settings.before = Some("id -u >/run/before-ran".to_owned());
    let name = &fresh("upkeep");
    let container = online(&lxd, &world, &settings, name).await;
    let seen = container.exec(
        "cat /run/before-ran; \
         for unit in apt-daily.timer apt-daily.service apt-daily-upgrade.timer; do \
         systemctl is-enabled $unit | sed s/-runtime//; systemctl is-active $unit; done; \
         perl -e 'my %nrconf; eval join(\"\", <>); die $@ if $@; \
         print \"exempt\\n\" if grep { \"runner-fleet-guest.service\" =~ $_ } \
         keys %{$nrconf{override_rc}}' /etc/needrestart/conf.d/runner-fleet.conf",
    );
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    let lines: Vec<&str> = seen.lines().collect();
    // For good where the image did it itself (the timers of this one), for this life by the guest.
    let held = ["masked", "inactive"].repeat(3);
    assert_eq!(lines[..1], ["0"], "{seen}");
    assert_eq!(lines[1..7], held[..], "{seen}");
    assert_eq!(lines[7..], ["exempt"], "{seen}");
}
