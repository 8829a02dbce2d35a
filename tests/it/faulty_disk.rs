//! The state folder on a device that fails, and on a file system that turns read-only beneath the daemon:
//! as for a full disk ([`super::full_disk`]), what was answered for is there, and the rest was refused.
//!
//! On a real ext4 on a loop device, which only root may have.

use std::path::Path;

use runner_fleet::demand::scale_set::Marks;

use crate::support::{
    disks::ThinDisk,
    ledger_house::{House, Story, found_by_another},
};

fn that_fails(at: &Path) -> Option<ThinDisk> {
    ThinDisk::mount(at, &at.with_extension("thin"), "continue")
}

fn that_turns_read_only(at: &Path) -> Option<ThinDisk> {
    ThinDisk::mount(at, &at.with_extension("thin"), "remount-ro")
}

/// Those that were acknowledged and that nobody else finds.
async fn lost(folder: &Path, acknowledged: &[u64]) -> Vec<u64> {
    let (jobs, _) = found_by_another(folder).await;
    acknowledged.iter().copied().filter(|id| !jobs.contains(&id.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_beside_input_output_errors_is_there() {
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    let Some(disk) = that_fails(&state) else { return };
    let house = House::open(&state).await;
    for _ in 0..2 {
        for _ in 0..10 {
            assert!(house.tell().await);
        }
        disk.fail();
        let said = house.refuses(6).await;
        assert!(said.contains("I/O error"), "SQLITE_IOERR, not a full disk: {said}");
        // Here and there a write fits into what the device has; it is there, then.
        let mark = Marks::keep(&**house.desk.ledger(), "scale-set large", "7").await;
        let (_, marks) = found_by_another(&state).await;
        assert!(
            mark.is_err() || marks.contains("scale-set large"),
            "a mark is no better than a job"
        );
        house.all_is_there().await;
        disk.work();
        house.takes_again().await;
        house.all_is_there().await;
    }
    house.serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_before_and_after_a_file_system_turns_read_only_is_there() {
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    let Some(mut disk) = that_turns_read_only(&state) else { return };
    let house = House::open(&state).await;
    for _ in 0..10 {
        assert!(house.tell().await);
    }
    disk.turn_read_only();
    let _said = house.refuses(6).await;
    let mark = Marks::keep(&**house.desk.ledger(), "scale-set large", "7").await;
    assert!(mark.is_err(), "a mark is no better than a job");
    house.all_is_there().await;
    disk.mend();
    house.takes_again().await;
    house.all_is_there().await;
    house.serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_beside_input_output_errors_has_every_delivery_that_it_answered_for() {
    let Some(story) = Story::begin("webhook", that_fails).await else { return };
    let state = story.home.path("state");
    let daemon = story.home.start();
    story.home.ready().await;
    let (mut acknowledged, mut next) = (vec![1], 1);
    assert_eq!(story.deliver(1).await, 200);
    story.disk.fail();
    story.refuses(&mut acknowledged, &mut next, 8).await;
    daemon.kill().await;
    story.disk.work();
    assert_eq!(lost(&state, &acknowledged).await, [0; 0], "acknowledged, and gone after kill -9");
    let daemon = story.home.start();
    story.home.ready().await;
    story.takes_again(&mut acknowledged, &mut next).await;
    daemon.kill().await;
    assert_eq!(lost(&state, &acknowledged).await, [0; 0], "acknowledged, and gone after kill -9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_file_system_turns_read_only_says_so_and_goes_on_where_it_is_mounted_anew() {
    let Some(mut story) = Story::begin("webhook", that_turns_read_only).await else { return };
    let state = story.home.path("state");
    let mut daemon = story.home.start();
    story.home.ready().await;
    let (mut acknowledged, mut next) = (vec![1], 1);
    assert_eq!(story.deliver(1).await, 200);
    story.disk.turn_read_only();
    story.refuses(&mut acknowledged, &mut next, 8).await;
    let reasons = story.not_ready().await;
    assert!(reasons.contains("demand.sqlite"), "{reasons}");
    story.disk.mend();
    story.takes_again(&mut acknowledged, &mut next).await;
    assert!(daemon.runs(), "it was not started anew for it");
    daemon.kill().await;
    assert_eq!(lost(&state, &acknowledged).await, [0; 0], "acknowledged, and gone after kill -9");
}
