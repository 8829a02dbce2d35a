//! The real user data in real containers: boot, register, one job, reports home, power-off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

#[path = "support/guest_world.rs"]
mod guest_world;
#[path = "support/lxd_guests.rs"]
mod lxd_guests;

use std::time::Duration;

use guest_world::{JobState, World, jit_config, token};
use lxd_guests::{Lxd, stand_in};
use runner_fleet::guest::{Application, Guest, Home, Settings};
use runner_fleet_actors::{
    name::RunnerName,
    port::{Secret, UserData},
};
use serde_json::{Value, json};

const BOOT: Duration = Duration::from_secs(120);

/// A world for one runner application that behaves as `wish` says, and the settings that lead to it.
async fn world(lxd: &Lxd, mut wish: Value) -> (World, Settings) {
    let (archive, sha256) = stand_in(&wish);
    let world = World::start(&lxd.bridge, archive).await;
    wish["STAND_IN_GITHUB"] = world.url().into();
    let env = wish.as_object().unwrap().iter();
    let env = env.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect();
    let settings = Settings {
        application: Application::Mirror {
            url: format!("{}/application.tar.gz", world.url()),
            sha256,
        },
        env,
        home: Some(Home { url: world.url(), ca_pem: None }),
        ..Settings::default()
    };
    (world, settings)
}

fn user_data(settings: &Settings, name: &str) -> String {
    let guest = Guest::new(
        settings.clone(),
        |name: &RunnerName| Secret::new(token(name.as_str())),
        |_| None,
    );
    let rendered = guest.render(&name.parse().unwrap(), &Secret::new(jit_config(name)));
    rendered.unwrap().expose().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_boots_registers_runs_one_job_reports_each_step_and_is_gone() {
    let Some(lxd) = Lxd::found() else { return };
    let (world, mut settings) = world(&lxd, json!({})).await;
    settings.groups = vec!["adm".to_owned(), "no-such-group".to_owned()];
    settings.disable_update = true;
    let name = "gt--life--000000000001";
    let container = lxd.launch(name, &user_data(&settings, name));
    world.until(BOOT, "the runner is online", |known| known.online.contains_key(name)).await;
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
    assert_eq!(world.known().strangers, 0);
}
