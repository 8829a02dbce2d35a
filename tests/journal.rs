//! What the journal says of a runner's life: golden lines.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in what its tests share"
)]

use std::time::Duration;

use chrono::{TimeZone, Utc};
use runner_fleet::journal::{Memory, lines};
use runner_fleet_actors::{
    event::{Counts, DrainReason, FleetEvent, GuestTimes, Job, JobEnd, Phase, Transition},
    port::{ErrorClass, PortError, Time},
};

fn at(seconds: i64) -> Time {
    Utc.timestamp_opt(1_718_000_000 + seconds, 0).unwrap()
}

fn job() -> Job {
    Job {
        repository: Some("o/r".into()),
        workflow: Some("CI".into()),
        event: Some("push".into()),
        run_id: Some(1),
    }
}

fn change(from: Option<Phase>, to: Phase) -> Transition {
    Transition {
        runner: "ci--large--0123456789ab".parse().unwrap(),
        pool: "large".parse().unwrap(),
        from,
        to,
        created_at: at(0),
        after: Duration::from_millis(1_500),
        because: "seen so".into(),
        reason: None,
        job_killed: false,
        job: None,
        job_end: None,
        times: GuestTimes::default(),
    }
}

fn finished(from: Phase) -> Transition {
    Transition {
        reason: Some(DrainReason::Finished),
        job: Some(job()),
        job_end: Some(JobEnd { conclusion: Some("success".into()), exit_code: Some(0) }),
        ..change(Some(from), Phase::Draining)
    }
}

fn with_job(from: Option<Phase>) -> Transition {
    Transition { job: Some(job()), ..change(from, Phase::Busy) }
}

/// What a guest has counted: it was up after 3 s, and so on.
fn counted(times: [Option<u64>; 5]) -> GuestTimes {
    let [booted, runner_started, job_started, job_completed, stopped] =
        times.map(|time| time.map(Duration::from_secs));
    GuestTimes { booted, runner_started, job_started, job_completed, stopped }
}

fn last_word(times: GuestTimes, conclusion: Option<&str>, code: i32) -> FleetEvent {
    FleetEvent::GuestTold {
        at: at(400),
        pool: "large".parse().unwrap(),
        runner: "ci--large--0123456789ab".parse().unwrap(),
        job: None,
        end: Some(JobEnd { conclusion: conclusion.map(str::to_owned), exit_code: Some(code) }),
        times,
    }
}

/// All lines but those of plain transitions.
fn metrics(life: &[(i64, Transition)]) -> Vec<String> {
    let mut memory = Memory::default();
    let all = life.iter().flat_map(|(seconds, transition)| {
        let event = FleetEvent::Transition { at: at(*seconds), transition: transition.clone() };
        lines(&event, &mut memory)
    });
    all.map(|line| line.to_json())
        .filter(|line| !line.contains(r#""event":"transition""#))
        .collect()
}

fn lines_of(event: FleetEvent, memory: &mut Memory) -> Vec<String> {
    lines(&event, memory).iter().map(|line| line.to_json()).collect()
}

fn vm_gone(seconds: i64) -> FleetEvent {
    FleetEvent::VmGone {
        at: at(seconds),
        pool: "large".parse().unwrap(),
        runner: "ci--large--0123456789ab".parse().unwrap(),
    }
}

fn only(event: FleetEvent) -> String {
    let lines = lines(&event, &mut Memory::default());
    assert_eq!(lines.len(), 1);
    lines[0].to_json()
}

use Phase::{Busy, Creating, Deleted, Draining, Idle, Registering};

#[test]
fn a_runners_life_tells_installed_start_and_stop_once_each() {
    let life = [
        (0, change(None, Creating)),
        (40, change(Some(Creating), Registering)),
        (95, change(Some(Registering), Idle)),
        (155, with_job(Some(Idle))),
        (395, finished(Busy)),
        (425, change(Some(Draining), Deleted)),
    ];
    assert_eq!(
        metrics(&life),
        [
            r#"{"timestamp":1718000095.0,"event":"runner_installed","flavor":"large","duration":95.0}"#,
            r#"{"timestamp":1718000155.0,"event":"runner_start","flavor":"large","workflow":"CI","repo":"o/r","github_event":"push","idle":60.0}"#,
            r#"{"timestamp":1718000395.0,"event":"runner_stop","flavor":"large","workflow":"CI","repo":"o/r","github_event":"push","status":"normal","status_info":{"code":0},"job_duration":240.0,"job_conclusion":"success"}"#,
        ]
    );
}

#[test]
fn a_job_that_is_taken_at_once_is_installed_and_started_together() {
    let life = [
        (0, change(None, Creating)),
        (30, change(Some(Creating), Registering)),
        (50, with_job(Some(Registering))),
    ];
    let lines = metrics(&life);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains(r#""event":"runner_installed","flavor":"large","duration":50.0"#));
    assert!(lines[1].contains(r#""event":"runner_start""#) && lines[1].contains(r#""idle":0.0"#));
}

#[test]
fn a_job_that_was_killed_or_lost_is_abnormal() {
    for reason in [DrainReason::JobOverdue, DrainReason::Forced, DrainReason::VmVanished] {
        let end = Transition {
            reason: Some(reason.clone()),
            job_killed: true,
            ..change(Some(Busy), Draining)
        };
        let life = [(0, change(None, Creating)), (9, with_job(Some(Registering))), (20, end)];
        let stop = metrics(&life).pop().unwrap();
        assert_eq!(
            stop,
            r#"{"timestamp":1718000020.0,"event":"runner_stop","flavor":"large","workflow":"CI","repo":"o/r","github_event":"push","status":"abnormal","job_duration":11.0}"#,
            "{reason:?}"
        );
    }
}

#[test]
fn a_runner_application_that_fails_is_abnormal_and_tells_its_code() {
    let mut end = finished(Busy);
    end.job_end = Some(JobEnd { conclusion: None, exit_code: Some(137) });
    let life = [(0, change(None, Creating)), (9, with_job(Some(Registering))), (20, end)];
    let stop = metrics(&life).pop().unwrap();
    assert!(stop.contains(r#""status":"abnormal","status_info":{"code":137}"#), "{stop}");
}

#[test]
fn a_drain_that_is_called_off_for_a_job_starts_it_once() {
    let life = [
        (0, change(None, Creating)),
        (10, change(Some(Creating), Registering)),
        (20, change(Some(Registering), Idle)),
        (30, change(Some(Idle), Draining)),
        (40, with_job(Some(Draining))),
        (50, finished(Busy)),
        (60, change(Some(Draining), Deleted)),
    ];
    let events: Vec<_> = metrics(&life)
        .iter()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["event"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(events, ["runner_installed", "runner_start", "runner_stop"]);
}

/// A job may start and end between two listings; it is counted, and no duration is invented.
#[test]
fn a_job_that_was_only_seen_at_its_end_is_counted_without_durations() {
    let life =
        [(0, change(None, Creating)), (10, change(Some(Creating), Idle)), (70, finished(Idle))];
    let lines = metrics(&life);
    assert_eq!(
        lines[1..],
        [
            r#"{"timestamp":1718000070.0,"event":"runner_start","flavor":"large","workflow":"CI","repo":"o/r","github_event":"push"}"#,
            r#"{"timestamp":1718000070.0,"event":"runner_stop","flavor":"large","workflow":"CI","repo":"o/r","github_event":"push","status":"normal","status_info":{"code":0},"job_conclusion":"success"}"#,
        ]
    );
}

#[test]
fn an_adopted_runner_does_not_tell_again_what_the_process_before_told() {
    let busy = [(0, change(None, Busy)), (100, finished(Busy))];
    let lines = metrics(&busy);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("runner_stop") && !lines[0].contains("job_duration"), "{lines:?}");

    let killed = Transition { job_killed: true, ..finished(Busy) };
    let lines = metrics(&[(0, change(None, Busy)), (100, killed)]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(r#""event":"runner_stop""#) && lines[0].contains("abnormal"));

    let idle = [(0, change(None, Idle)), (60, with_job(Some(Idle)))];
    let lines = metrics(&idle);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(r#""event":"runner_start""#) && lines[0].contains(r#""idle":60.0"#));

    let booting = [(60, change(None, Registering)), (67, change(Some(Registering), Idle))];
    assert_eq!(
        metrics(&booting),
        [
            r#"{"timestamp":1718000067.0,"event":"runner_installed","flavor":"large","duration":67.0}"#
        ],
        "from the launch that the process before decided"
    );
}

#[test]
fn a_runner_that_never_ran_a_job_stops_nothing() {
    let life = [
        (0, change(None, Creating)),
        (10, change(Some(Creating), Idle)),
        (20, Transition { reason: Some(DrainReason::Shrink), ..change(Some(Idle), Draining) }),
        (30, change(Some(Draining), Deleted)),
    ];
    let lines = metrics(&life);
    assert_eq!(lines.len(), 1, "{lines:?}");
}

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

#[test]
fn every_change_of_state_is_a_line_with_its_reason() {
    let transition = Transition {
        reason: Some(DrainReason::Shrink),
        because: "3 more than the target".into(),
        ..change(Some(Idle), Draining)
    };
    assert_eq!(
        only(FleetEvent::Transition { at: at(0), transition }),
        r#"{"timestamp":1718000000.0,"event":"transition","runner":"ci--large--0123456789ab","flavor":"large","from":"idle","to":"draining","after":1.5,"because":"3 more than the target","reason":"shrink","job_killed":false}"#
    );
}

#[test]
fn a_reconciliation_has_the_fields_that_dashboards_read() {
    let event = FleetEvent::Reconciled {
        at: at(500),
        pool: "large".parse().unwrap(),
        took: Duration::from_millis(18_400),
        counts: Counts { idle: 2, busy: 3, creating: 7, registering: 7, draining: 7 },
        crashed: 0,
        target: 5,
    };
    assert_eq!(
        only(event),
        r#"{"timestamp":1718000500.0,"event":"reconciliation","flavor":"large","crashed_runners":0,"idle_runners":2,"active_runners":3,"expected_runners":5,"duration":18.4}"#
    );
}

#[test]
fn targets_plans_faults_and_defects_are_lines_too() {
    let pool = || "large".parse().unwrap();
    assert_eq!(
        only(FleetEvent::Target {
            at: at(0),
            pool: pool(),
            runners: 4,
            because: "1 busy + 3".into()
        }),
        r#"{"timestamp":1718000000.0,"event":"target","flavor":"large","runners":4,"because":"1 busy + 3"}"#
    );
    let because = vec!["a".into(), "b".into()];
    assert_eq!(
        only(FleetEvent::Plan { at: at(0), pool: pool(), create: 2, drain: 0, because }),
        r#"{"timestamp":1718000000.0,"event":"plan","flavor":"large","create":2,"drain":0,"because":"a; b"}"#
    );
    let error = PortError::certain(ErrorClass::RateLimited { until: at(60) }, "too often");
    assert_eq!(
        only(FleetEvent::Fault { at: at(0), pool: Some(pool()), runner: None, error }),
        r#"{"timestamp":1718000000.0,"event":"fault","flavor":"large","class":"rate_limited","until":"2024-06-10T06:14:20Z","error":"too often"}"#
    );
    assert_eq!(
        only(FleetEvent::InvariantBroken { at: at(0), name: "max".into(), seen: "6 > 5".into() }),
        r#"{"timestamp":1718000000.0,"event":"invariant_broken","name":"max","seen":"6 > 5"}"#
    );
}

#[test]
fn a_page_of_fault_text_does_not_make_a_page_of_journal() {
    let error = PortError::certain(ErrorClass::Invalid, "ä".repeat(100_000));
    let line = only(FleetEvent::Fault { at: at(0), pool: None, runner: None, error });
    assert!(line.len() < 4_000, "{} bytes", line.len());
    serde_json::from_str::<serde_json::Value>(&line).unwrap();
}

#[test]
fn memory_is_given_back_and_bounded() {
    let mut memory = Memory::with_room(100);
    let mut tell = |number: u32, from, to| {
        let mut transition = change(from, to);
        transition.runner = format!("ci--large--{number:012x}").parse().unwrap();
        assert!(!lines(&FleetEvent::Transition { at: at(0), transition }, &mut memory).is_empty());
        memory.len()
    };
    let mut most = 0;
    for number in 0..1_000 {
        most = most.max(tell(number, None, Creating));
    }
    assert_eq!(most, 100);
    for number in 0..1_000 {
        tell(number, Some(Creating), Deleted);
    }
    assert!(memory.is_empty());
}
