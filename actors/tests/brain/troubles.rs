//! What is told of trouble: VMs that do not go, launches that are held, failures by their class, digests.

use runner_fleet_actors::{
    event::{Counts, HoldSnapshot, Phase, Place, PoolSnapshot, ReadModel, RunnerSnapshot},
    job::{
        JobFacts, JobRecord, JobWord, Way,
        why::{Around, Because, why},
    },
    name::{RunnerName, VmId},
    port::{ErrorClass, PortError, short_digest},
};

use crate::given::at;

/// A runner whose VM is to go since this second.
fn goes_since(number: u64, second: u64) -> RunnerSnapshot {
    let name: RunnerName = format!("ci--linux--{number:012x}").parse().unwrap();
    RunnerSnapshot {
        pool: name.pool(),
        name,
        state: Phase::Draining,
        since: at(second),
        created_at: at(0),
        why: String::new(),
        last_error: None,
        vm_id: Some(VmId("vm".into())),
        registration_id: None,
        job: None,
        step: Some("delete".into()),
        step_since: Some(at(second)),
        tries: 1,
        task: None,
        deadline: None,
        shape: None,
        version: None,
    }
}

#[test]
fn of_the_vms_that_do_not_go_the_oldest_is_told_first() {
    let model = ReadModel::default();
    for (number, since) in [(1, 500), (2, 100), (3, 990)] {
        let runner = goes_since(number, since);
        model.runners.insert(runner.name.clone(), runner);
    }
    let told: Vec<_> = model.stuck(at(1000)).into_iter().map(|(_, stuck)| stuck.since).collect();
    assert_eq!(told, [at(100), at(500)], "the third is not late yet");
}

#[test]
fn a_hold_that_ends_now_keeps_no_job_waiting() {
    let pool = |until: u64| PoolSnapshot {
        name: "large".parse().unwrap(),
        scope: "octo".parse().unwrap(),
        provider: "lxd".into(),
        min: 0,
        spare: 0,
        max: 9,
        target: 1,
        target_because: String::new(),
        target_override: None,
        demand_unknown: false,
        counts: Counts::default(),
        because: vec![],
        holds: vec![HoldSnapshot {
            place: Place::Cloud,
            since: at(50),
            until: at(until),
            failures: 2,
            error: PortError::certain(ErrorClass::Transient, "503"),
            ends: String::new(),
        }],
        boots: None,
        late: 0,
        habits: runner_fleet_actors::pool::Habits::default(),
        cloud_seen_at: None,
        forge_seen_at: None,
        forge_shows_from: None,
        absence_awaited: false,
        retiring: false,
    };
    let job = JobRecord {
        key: 1.into(),
        word: JobWord::Queued,
        facts: JobFacts::default(),
        pool: Some("large".parse().unwrap()),
        unserved: None,
        way: Way::default(),
        heard_at: at(0),
        last_at: at(0),
        checks: 0,
    };
    let held = |until| {
        let pool = pool(until);
        let reasons = why(&job, Around { pool: Some(&pool), ..Around::default() }, at(100));
        reasons.iter().any(|reason| reason.because == Because::LaunchesHeld)
    };
    assert_eq!((held(101), held(100)), (true, false));
}

#[test]
fn a_digest_is_the_same_for_ever() {
    // Test vectors of 64-bit FNV-1a (draft-eastlake-fnv).
    for (text, digest) in
        [("", "cbf29ce484222325"), ("a", "af63dc4c8601ec8c"), ("foobar", "85944171f73967e8")]
    {
        assert_eq!(short_digest(text), digest, "{text:?}");
    }
}
