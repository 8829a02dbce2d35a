//! The cloud that needs nothing: a fake OpenStack on loopback inside this process, whose guests are
//! stand-ins in it as well. Everything goes `--speed` times faster than in a real one.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::{
    Plan, TOKEN,
    outside::{Cloud, Outside, Tally, Terms},
    source::Source,
    story::Fault,
    write_secret,
};
use crate::{
    cli::DemoDemand,
    config::Pool,
    daemon::Pace,
    fake::{
        github::{self, FakeGithub},
        guest::StandIns,
        openstack::{self, FakeOpenstack},
    },
};

/// Seconds from a create to ACTIVE, shortest and longest, before the speed.
const BOOT: (f64, f64) = (15.0, 40.0);
/// Seconds from ACTIVE to a runner that is online, likewise.
const GUEST_START: (f64, f64) = (10.0, 25.0);

struct FakeCloud {
    openstack: FakeOpenstack,
    guests: StandIns,
    vanished: Mutex<Vec<String>>,
}

/// Starts the outside, and lays down what the configuration names in `folder`.
pub(super) async fn start(plan: &Plan, folder: &Path) -> Result<(Outside, Terms), String> {
    let scaled = |seconds: f64| Duration::from_secs_f64(seconds / plan.speed);
    let failed = |error: std::io::Error| error.to_string();
    let github = FakeGithub::start(github::Options {
        tokens: vec![TOKEN.to_owned()],
        // The limit of an hour, squeezed into the demo's hour.
        rate_limit: Some(5000 * plan.speed as u64),
        latency: Duration::from_millis(5),
        seed: plan.seed,
        ..github::Options::default()
    })
    .await
    .map_err(failed)?;
    let start = scaled(GUEST_START.0)..=scaled(GUEST_START.1);
    let guests = StandIns::new(github.clone(), start, plan.seed);
    let openstack = FakeOpenstack::start(openstack::Options {
        boot: scaled(BOOT.0)..=scaled(BOOT.1),
        delete: scaled(3.0)..=scaled(10.0),
        api_latency: Duration::from_millis(5),
        seed: plan.seed,
        guest: Some(Arc::new(guests.clone())),
        ..openstack::Options::default()
    })
    .await
    .map_err(failed)?;
    write_secret(&folder.join("clouds.yaml"), &openstack.clouds_yaml()).map_err(failed)?;
    let cloud = FakeCloud { openstack, guests, vanished: Mutex::default() };
    let source = Source::new(plan.demand, folder).map_err(failed)?;
    Ok((Outside { github, source, cloud: Box::new(cloud), news: Vec::new() }, terms(plan)))
}

fn terms(plan: &Plan) -> Terms {
    let limit = |seconds: f64| format!("{}s", (seconds / plan.speed).ceil().max(1.0));
    let whole = plan.speed as u32;
    Terms {
        fleet: "demo".to_owned(),
        sections: r#"[providers.cloud]
kind = "openstack"
cloud = "fake"
clouds_file = "clouds.yaml"
concurrency = 50
rate = 1000
"#
        .to_owned(),
        vms: "image = \"debian-12\"\nflavor = \"m1.small\"\nnetwork = \"demo-net\"".to_owned(),
        limits: format!(
            r#"launch = "{}", register = "{}", idle_proof = "{}", watch = "{}", idle_alone = "{}", settle = "{}", ask = "{}""#,
            limit(600.0),
            limit(900.0),
            limit(60.0),
            limit(90.0),
            limit(600.0),
            limit(30.0),
            limit(900.0),
        ),
        tables: String::new(),
        // With a source of demand every runner is there because of a job.
        spare: if plan.demand == DemoDemand::Static { (plan.max / 5).max(1) } else { 0 },
        pace: Pace {
            cloud: Pace::default().cloud.faster(whole),
            forge: Pace::default().forge.faster(whole),
            listing_lag: Pace::default().listing_lag / whole.max(1),
            registration_grace: Pace::default().registration_grace / whole.max(1),
            shrink_after: Pace::default().shrink_after / whole.max(1),
            repair: Pace::default().repair.faster(whole),
            minute: Pace::default().minute / whole.max(1),
        },
        first_runner: None,
        patience: Duration::from_secs(60),
    }
}

#[async_trait]
impl Cloud for FakeCloud {
    fn what(&self) -> String {
        "a fake OpenStack".to_owned()
    }

    async fn check(&self, _pools: &[Pool]) -> Result<(), String> {
        Ok(())
    }

    fn perform(&self, fault: Fault) {
        let cloud = self.openstack.faults();
        match fault {
            Fault::CloudAway(on) => cloud.outage(on),
            Fault::LostAnswers(n) => cloud.lose_create_answers(n, None),
            Fault::FailedBoots(n) => cloud.fail_boots(n, "No valid host was found. "),
            Fault::VanishedVm => {
                let mut vanished = self.vanished.lock().unwrap_or_else(PoisonError::into_inner);
                vanished.extend(cloud.vanish_any());
            }
            Fault::RevokedTokens => cloud.revoke_tokens(),
            Fault::GithubAway(_)
            | Fault::RateLimit(_)
            | Fault::MissingEntries(_)
            | Fault::UnreliablePost(_)
            | Fault::LostLine => {}
        }
    }

    fn present(&self) -> u64 {
        self.openstack.stats().present as u64
    }

    async fn tally(&self) -> Tally {
        let (cloud, seen) = (self.openstack.stats(), self.guests.seen());
        let vanished = self.vanished.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Tally {
            left: cloud.present as u64,
            peak: cloud.peak as u64,
            vanished: vanished.into_iter().collect(),
            taken: seen.vm_taken.into_iter().chain(seen.registration_taken).collect(),
        }
    }

    async fn clear(&self) -> Result<(), String> {
        // It ends with this process, and everything in it.
        Ok(())
    }

    fn left_alone(&self) -> String {
        "interrupted while the daemon was ending; nothing is left of the demo".to_owned()
    }
}
