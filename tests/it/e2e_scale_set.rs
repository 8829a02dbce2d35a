//! The real daemon and a runner scale set: GitHub keeps the queue, the daemon listens, a fake cloud runs
//! the VMs.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::support::e2e::{Home, PATIENCE, eventually};
use crate::support::e2e_fakes::{Outside, nothing_secret_was_said, pool};

const ORG: &str = "octo-org";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_in_the_middle_of_a_burst_loses_no_job_of_its_scale_set() {
    let outside = Outside::start_with(23, Duration::ZERO).await;
    let home = Home::new();
    outside.furnish(&home);
    let pools = pool("setted", ORG, "demand = [\"scale-set\"]\nmax = 20");
    home.configure(&format!("{}\n{pools}", outside.head("token_file = \"token\"")));
    let mut daemon = home.start();
    eventually(PATIENCE, "the scale set is there", || async {
        (!outside.github.scale_sets().is_empty()).then_some(())
    })
    .await;
    let mut chance = SmallRng::seed_from_u64(9);
    let mut jobs = 0;
    for _ in 0..2 {
        for _ in 0..8 {
            let runs_for = Duration::from_millis(chance.random_range(200..1500));
            outside.github.queue_job_for_scale_set(&ORG.parse().unwrap(), "setted", runs_for);
            jobs += 1;
            tokio::time::sleep(Duration::from_millis(chance.random_range(0..60))).await;
        }
        daemon.kill().await;
        daemon = home.start();
    }
    eventually(PATIENCE, "every job was served", || async {
        (outside.github.stats().completed == jobs).then_some(())
    })
    .await;
    let done = outside.github.stats();
    assert_eq!((done.queued, done.running, done.lost), (0, 0, 0), "no job was lost");
    eventually(PATIENCE, "no VM is left", || async {
        outside.cloud.vms().is_empty().then_some(())
    })
    .await;
    daemon.signal("TERM");
    assert_eq!(daemon.exit(Duration::from_secs(60)).await.0.code(), Some(0));
    nothing_secret_was_said(&home, &outside.secrets());
}
