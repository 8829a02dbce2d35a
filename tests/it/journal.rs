//! What the journal says of a runner's life: golden lines.

use std::time::Duration;

use crate::support::journal_life::{at, change, finished, metrics, only, with_job};
use runner_fleet::journal::{Memory, lines};
use runner_fleet_actors::{
    event::{
        Counts, DrainReason, FleetEvent, JobEnd,
        Phase::{Busy, Creating, Deleted, Draining, Idle, Registering},
        Transition,
    },
    port::{ErrorClass, PortError},
};

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

    // The cloud is listed first, and what the forge shows then was so before.
    let found = |phase| Transition { found: true, ..change(Some(Registering), phase) };
    for (phase, next, told) in
        [(Busy, finished(Busy), "runner_stop"), (Idle, with_job(Some(Idle)), "runner_start")]
    {
        let lines = metrics(&[(0, change(None, Registering)), (2, found(phase)), (100, next)]);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(told), "{lines:?}");
    }

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
