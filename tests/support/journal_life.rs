//! Lives of one runner, as events, and the lines that a journal has of them.

use std::time::Duration;

use chrono::{TimeZone, Utc};
use runner_fleet::journal::{Memory, lines};
use runner_fleet_actors::{
    event::{DrainReason, FleetEvent, GuestTimes, Job, JobEnd, Phase, Transition},
    port::Time,
};

pub fn at(seconds: i64) -> Time {
    Utc.timestamp_opt(1_718_000_000 + seconds, 0).unwrap()
}

pub fn job() -> Job {
    Job {
        id: None,
        repository: Some("o/r".into()),
        workflow: Some("CI".into()),
        event: Some("push".into()),
        run_id: Some(1),
    }
}

pub fn change(from: Option<Phase>, to: Phase) -> Transition {
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
        found: false,
    }
}

pub fn finished(from: Phase) -> Transition {
    Transition {
        reason: Some(DrainReason::Finished),
        job: Some(job()),
        job_end: Some(JobEnd { conclusion: Some("success".into()), exit_code: Some(0) }),
        ..change(Some(from), Phase::Draining)
    }
}

pub fn with_job(from: Option<Phase>) -> Transition {
    Transition { job: Some(job()), ..change(from, Phase::Busy) }
}

/// What a guest has counted: it was up after 3 s, and so on.
pub fn counted(times: [Option<u64>; 5]) -> GuestTimes {
    let [booted, runner_started, job_started, job_completed, stopped] =
        times.map(|time| time.map(Duration::from_secs));
    GuestTimes { booted, runner_started, job_started, job_completed, stopped }
}

pub fn last_word(times: GuestTimes, conclusion: Option<&str>, code: i32) -> FleetEvent {
    FleetEvent::GuestTold {
        at: at(400),
        pool: "large".parse().unwrap(),
        runner: "ci--large--0123456789ab".parse().unwrap(),
        job: None,
        end: Some(JobEnd { conclusion: conclusion.map(Into::into), exit_code: Some(code) }),
        times,
    }
}

/// All lines but those of plain transitions.
pub fn metrics(life: &[(i64, Transition)]) -> Vec<String> {
    let mut memory = Memory::default();
    let all = life.iter().flat_map(|(seconds, transition)| {
        let event = FleetEvent::Transition { at: at(*seconds), transition: transition.clone() };
        lines(&event, &mut memory)
    });
    all.map(|line| line.to_json())
        .filter(|line| !line.contains(r#""event":"transition""#))
        .collect()
}

pub fn lines_of(event: FleetEvent, memory: &mut Memory) -> Vec<String> {
    lines(&event, memory).iter().map(|line| line.to_json()).collect()
}

pub fn vm_gone(seconds: i64) -> FleetEvent {
    FleetEvent::VmGone {
        at: at(seconds),
        pool: "large".parse().unwrap(),
        runner: "ci--large--0123456789ab".parse().unwrap(),
    }
}

pub fn only(event: FleetEvent) -> String {
    let lines = lines(&event, &mut Memory::default());
    assert_eq!(lines.len(), 1);
    lines[0].to_json()
}
