//! The real daemon, stopped (SIGSTOP) in the moment in which a guest says that it stands down, and let go on
//! when that may be void: the guest goes on by itself, and takes a job.
//!
//! The guest's word lies in the daemon's socket all the while, so that it is read first when the daemon goes
//! on. What is promised: no runner is deregistered on the strength of it, whatever it has begun meanwhile; and
//! a pause that is none keeps nobody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::e2e::{Daemon, Home, PATIENCE, eventually};
use crate::support::e2e_fakes::{self, Outside};

const SCOPE: &str = "octo-org";

/// As long as the real guest stands down.
const MINUTES: Duration = Duration::from_secs(300);

fn fleet(outside: &Outside) -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pool = e2e_fakes::pool("small", SCOPE, "spare = 1\nmax = 3");
    format!(
        "{}\n[guests]\nlisten = \"{free}\"\nurl = \"http://{free}\"\n{pool}",
        outside.head("token_file = \"token\""),
    )
}

/// A daemon with one idle runner that is told to go, stopped when its guest has frozen its listener for
/// `frozen` and before the guest's word of that is read. The runner's name.
async fn stopped(outside: &Outside, home: &Home, frozen: Duration) -> (Daemon, String) {
    let daemon = home.start();
    home.ready().await;
    home.holds("small", "idle", 1).await;
    let (name, _) = home.runners().await.into_iter().find(|(_, state)| state == "idle").unwrap();
    // GitHub knows better than to say so: its flag is late, and its DELETE takes whoever it is asked for.
    outside.github.faults().busy_lies(true);
    let (halted, process) = (Arc::new(AtomicBool::new(false)), daemon.process());
    let first = Arc::clone(&halted);
    outside.guests.stand_down_for(frozen, move || {
        if !first.swap(true, Ordering::SeqCst) {
            process.signal("STOP");
        }
    });
    // The daemon may be stopped before it has answered the command.
    let order = ["drain", name.as_str()];
    let ordered = async {
        home.cli(&order).await;
        std::future::pending::<()>().await;
    };
    let frozen = eventually(PATIENCE, "the guest has frozen its listener", || async {
        halted.load(Ordering::SeqCst).then_some(())
    });
    tokio::select! {
        () = ordered => {}
        () = frozen => {}
    }
    (daemon, name)
}

fn nobody_lost_a_job(outside: &Outside) {
    assert_eq!(outside.guests.seen().registration_taken, [""; 0], "taken away in mid-job");
    assert_eq!(outside.guests.seen().vm_taken, [""; 0], "taken away in mid-job");
    assert_eq!(outside.github.stats().lost, 0);
}

/// The guest goes on by itself and has a job, `pause` after the daemon was stopped it goes on as well.
async fn a_void_word_is_not_acted_on(frozen: Duration, pause: Duration) {
    let outside = Outside::start(81).await;
    let home = Home::new();
    outside.furnish(&home);
    home.configure(&fleet(&outside));
    let (daemon, _) = stopped(&outside, &home, frozen).await;
    let began = Instant::now();
    let (scope, labels) = (SCOPE.parse().unwrap(), ["small".to_owned()]);
    outside.github.queue_job(&scope, &labels, Duration::from_secs(30));
    eventually(frozen + PATIENCE, "the guest goes on and takes the job", || async {
        let jobs = outside.github.jobs();
        let taken = jobs.iter().any(|job| job.acquired_at.is_some());
        taken.then_some(())
    })
    .await;
    tokio::time::sleep(pause.saturating_sub(began.elapsed())).await;
    daemon.signal("CONT");
    eventually(PATIENCE, "the job comes to its end", || async {
        (outside.github.stats().completed == 1).then_some(())
    })
    .await;
    nobody_lost_a_job(&outside);
    assert!(daemon.said().contains("this process stood still for a while"));
}

/// The guest stands down all the while: the drain comes to its end, whoever has to be asked again.
async fn a_word_that_holds_is_acted_on(pause: Duration) {
    let outside = Outside::start(82).await;
    let home = Home::new();
    outside.furnish(&home);
    home.configure(&fleet(&outside));
    let (daemon, name) = stopped(&outside, &home, MINUTES).await;
    tokio::time::sleep(pause).await;
    daemon.signal("CONT");
    eventually(PATIENCE, "the runner is gone", || async {
        outside.github.registrations().iter().all(|one| one.name != name).then_some(())
    })
    .await;
    nobody_lost_a_job(&outside);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_was_stopped_for_3_s_goes_on_with_its_drain() {
    a_word_that_holds_is_acted_on(Duration::from_secs(3)).await;
}

/// A guest that goes on after 4 s stands for one that does so after 300.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_was_stopped_for_longer_than_its_guest_stood_down_asks_again() {
    a_void_word_is_not_acted_on(Duration::from_secs(4), Duration::from_secs(12)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; needs no server"]
async fn a_daemon_that_was_stopped_for_60_s_goes_on_with_its_drain() {
    a_word_that_holds_is_acted_on(Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes more than five minutes; needs no server"]
async fn a_daemon_that_was_stopped_for_310_s_asks_again() {
    a_void_word_is_not_acted_on(MINUTES, Duration::from_secs(310)).await;
}
