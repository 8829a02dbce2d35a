//! What the journal says of a runner whose guest reports: golden lines.

use crate::support::journal_life::{
    at, change, counted, finished, job, last_word, lines_of, metrics, only, vm_gone, with_job,
};
use runner_fleet::journal::{Memory, lines};
use runner_fleet_actors::event::{
    DrainReason, FleetEvent, GuestTimes, Job, JobEnd,
    Phase::{Busy, Creating, Deleted, Draining, Idle, Registering},
    Transition,
};

/// The life of a runner whose guest reports, up to the end of its job as the hook told it.
fn reported(memory: &mut Memory) -> Vec<String> {
    let up_to = |known: usize| {
        let all = [Some(3), Some(9), Some(31), Some(40), None];
        counted(std::array::from_fn(|i| all[i].filter(|_| i < known)))
    };
    let told = |known, transition| Transition { times: up_to(known), ..transition };
    let over = Transition { job_end: Some(JobEnd::default()), ..finished(Busy) };
    let life = [
        (0, change(None, Creating)),
        (40, told(1, change(Some(Creating), Registering))),
        (46, told(2, change(Some(Registering), Idle))),
        // The daemon was away for a while: the report came late.
        (90, told(3, with_job(Some(Idle)))),
        (95, told(4, over)),
    ];
    let events =
        life.map(|(seconds, transition)| FleetEvent::Transition { at: at(seconds), transition });
    let all = events.iter().flat_map(|event| lines(event, memory));
    all.map(|line| line.to_json()).filter(|line| line.contains(r#""event":"runner_"#)).collect()
}

#[test]
fn where_guests_report_their_clock_tells_the_durations_and_their_last_word_the_end() {
    let mut memory = Memory::default();
    assert_eq!(
        reported(&mut memory),
        [
            r#"{"timestamp":1718000046.0,"event":"runner_installed","flavor":"large","duration":46.0}"#,
            r#"{"timestamp":1718000090.0,"event":"runner_start","flavor":"large","workflow":"CI","repo":"o/r","github_event":"push","idle":22.0}"#,
        ],
        "the stop waits for the guest's last word"
    );
    let stopped =
        last_word(counted([Some(3), Some(9), Some(31), Some(40), Some(41)]), Some("failure"), 0);
    let told: Vec<_> = lines(&stopped, &mut memory).iter().map(|line| line.to_json()).collect();
    assert_eq!(
        told,
        [
            r#"{"timestamp":1718000400.0,"event":"runner_stop","flavor":"large","workflow":"CI","repo":"o/r","github_event":"push","status":"normal","status_info":{"code":0},"job_duration":9.0,"job_conclusion":"failure"}"#
        ]
    );
    assert!(lines(&stopped, &mut memory).is_empty(), "a replay tells nothing");
    let deleted =
        Transition { reason: Some(DrainReason::Finished), ..change(Some(Draining), Deleted) };
    let deleted = FleetEvent::Transition { at: at(410), transition: deleted };
    assert_eq!(lines(&deleted, &mut memory).len(), 1, "and neither does its end");
    assert!(lines(&stopped, &mut memory).is_empty() && memory.is_empty(), "nor a late replay");
}

#[test]
fn a_runner_application_that_fails_after_its_job_is_abnormal() {
    let mut memory = Memory::default();
    reported(&mut memory);
    let stopped = last_word(GuestTimes::default(), None, 2);
    let told = lines(&stopped, &mut memory)[0].to_json();
    assert!(told.contains(r#""status":"abnormal","status_info":{"code":2}"#), "{told}");
}

#[test]
fn a_stop_whose_last_word_never_comes_is_told_when_the_vm_is_gone() {
    // Its registration goes with it, or minutes later.
    let deleted =
        Transition { reason: Some(DrainReason::Finished), ..change(Some(Draining), Deleted) };
    let deleted = FleetEvent::Transition { at: at(130), transition: deleted };
    for gone in [deleted, vm_gone(130)] {
        let mut memory = Memory::default();
        reported(&mut memory);
        assert_eq!(
            lines_of(gone, &mut memory)[0],
            r#"{"timestamp":1718000130.0,"event":"runner_stop","flavor":"large","workflow":"CI","repo":"o/r","github_event":"push","status":"normal","job_duration":9.0}"#
        );
    }
}

/// The registration of a runner whose VM went away is left to GitHub for minutes.
#[test]
fn a_vm_that_goes_in_mid_job_cuts_the_job_off_though_its_cloud_says_only_that_it_stopped() {
    let mut memory = Memory::default();
    let running = counted([Some(3), Some(9), Some(31), None, None]);
    let mut told = |seconds, times, transition| {
        let transition = Transition { times, ..transition };
        lines_of(FleetEvent::Transition { at: at(seconds), transition }, &mut memory)
    };
    told(0, GuestTimes::default(), change(None, Creating));
    told(40, running, with_job(Some(Idle)));
    let draining = told(60, running, Transition { job_end: None, ..finished(Busy) });
    assert!(draining.iter().all(|line| !line.contains("runner_stop")), "its guest may still tell");
    let gone = vm_gone(61);
    assert_eq!(
        lines_of(gone.clone(), &mut memory),
        [
            r#"{"timestamp":1718000061.0,"event":"runner_stop","flavor":"large","workflow":"CI","repo":"o/r","github_event":"push","status":"abnormal","job_duration":20.0}"#
        ]
    );
    let deleted =
        Transition { reason: Some(DrainReason::Finished), ..change(Some(Draining), Deleted) };
    let deleted = FleetEvent::Transition { at: at(210), transition: deleted };
    for (event, expected) in [(gone, 0), (deleted, 1), (vm_gone(211), 0)] {
        assert_eq!(lines_of(event.clone(), &mut memory).len(), expected, "once: {event:?}");
    }
    assert!(memory.is_empty());
}

#[test]
fn a_vm_that_goes_without_ever_having_had_a_job_stops_nothing() {
    let mut memory = Memory::default();
    let shrunk = Transition { reason: Some(DrainReason::Shrink), ..change(Some(Idle), Draining) };
    for (seconds, transition) in
        [(0, change(None, Creating)), (9, change(Some(Creating), Idle)), (20, shrunk)]
    {
        lines_of(FleetEvent::Transition { at: at(seconds), transition }, &mut memory);
    }
    assert_eq!(lines_of(vm_gone(21), &mut memory), [""; 0]);
}

/// A listing, or the guest's answer to a question, shows that there is a job a moment before the guest
/// tells which.
#[test]
fn a_start_waits_for_what_the_guest_tells_of_its_job() {
    let times = counted([Some(3), Some(9), None, None, None]);
    let at_once = Transition { times, job: Some(Job::default()), ..change(Some(Idle), Busy) };
    let born = FleetEvent::Transition { at: at(0), transition: change(None, Idle) };
    let busy = FleetEvent::Transition { at: at(5), transition: at_once.clone() };
    let told = |job| FleetEvent::GuestTold {
        at: at(6),
        pool: "large".parse().unwrap(),
        runner: at_once.runner.clone(),
        job: Some(job),
        end: None,
        times: counted([Some(3), Some(9), Some(13), None, None]),
    };
    let mut memory = Memory::default();
    assert_eq!((lines(&born, &mut memory).len(), lines(&busy, &mut memory).len()), (1, 1));
    assert!(lines(&told(Job::default()), &mut memory).is_empty(), "it knows no more");
    let start = lines(&told(job()), &mut memory);
    assert_eq!(
        start[0].to_json(),
        r#"{"timestamp":1718000006.0,"event":"runner_start","flavor":"large","workflow":"CI","repo":"o/r","github_event":"push","idle":4.0}"#
    );
    assert!(lines(&told(job()), &mut memory).is_empty(), "once");

    // A guest that is silent from then on: the start is told with the end, without what is not known.
    let mut memory = Memory::default();
    assert_eq!((lines(&born, &mut memory).len(), lines(&busy, &mut memory).len()), (1, 1));
    let gone = Transition { reason: Some(DrainReason::VmVanished), ..change(Some(Busy), Draining) };
    let told = lines(&FleetEvent::Transition { at: at(60), transition: gone }, &mut memory);
    let told: Vec<_> = told.iter().map(|line| line.to_json()).collect();
    assert_eq!(
        told[..2],
        [
            r#"{"timestamp":1718000060.0,"event":"runner_start","flavor":"large","idle":5.0}"#,
            r#"{"timestamp":1718000060.0,"event":"runner_stop","flavor":"large","status":"abnormal","job_duration":55.0}"#,
        ]
    );
}

/// The guest's last word and the change of state that it causes come in either order.
#[test]
fn a_last_word_that_comes_before_its_change_of_state_is_not_lost() {
    let mut memory = Memory::default();
    let busy = FleetEvent::Transition { at: at(0), transition: with_job(None) };
    assert_eq!(lines(&busy, &mut memory).len(), 1);
    let times = counted([None, None, Some(31), None, Some(41)]);
    assert!(lines(&last_word(times, Some("success"), 0), &mut memory).is_empty());
    let over = Transition { job_end: None, ..finished(Busy) };
    let told = lines(&FleetEvent::Transition { at: at(5), transition: over }, &mut memory);
    let stop = told[0].to_json();
    assert!(stop.contains(r#""status_info":{"code":0},"job_duration":10.0"#), "{stop}");
}

#[test]
fn a_guest_that_ends_without_a_job_has_run_none() {
    let end = Transition {
        reason: Some(DrainReason::Finished),
        job_end: Some(JobEnd { conclusion: None, exit_code: Some(1) }),
        times: counted([Some(3), None, None, None, Some(5)]),
        ..change(Some(Registering), Draining)
    };
    let life = [(0, change(None, Creating)), (10, change(Some(Creating), Registering)), (20, end)];
    assert_eq!(metrics(&life), [""; 0]);
}

#[test]
fn guests_that_tell_their_times_the_wrong_way_round_make_no_negative_durations() {
    let times = counted([Some(50), Some(40), Some(30), Some(20), Some(10)]);
    let end = Transition { times, ..finished(Busy) };
    let life = [
        (0, change(None, Creating)),
        (10, change(Some(Creating), Idle)),
        (20, Transition { times, ..with_job(Some(Idle)) }),
        (50, end),
    ];
    let lines = metrics(&life);
    assert!(lines[1].contains(r#""idle":10.0"#) && lines[2].contains(r#""job_duration":30.0"#));
}

#[test]
fn of_a_guests_log_the_end_is_kept() {
    let log = format!("{}\nno space left on device", "x".repeat(10_000));
    let (at, pool) = (at(0), "large".parse().unwrap());
    let runner = "ci--large--0123456789ab".parse().unwrap();
    let line = only(FleetEvent::GuestLog { at, pool, runner, log });
    assert!(
        line.contains(r#""event":"guest_log","flavor":"large","runner":"ci--large--01"#),
        "{line}"
    );
    assert!(line.ends_with(r#"\nno space left on device"}"#) && line.len() < 4_500, "{line}");
}
