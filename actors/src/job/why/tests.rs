#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;
use crate::{
    event::{Counts, HoldSnapshot, Place},
    job::{JobFacts, Way},
    port::{ErrorClass, PortError},
};

fn at(seconds: i64) -> Time {
    Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn job(word: JobWord) -> JobRecord {
    JobRecord {
        key: 7.into(),
        word,
        facts: JobFacts { queued_at: Some(at(0)), ..JobFacts::default() },
        pool: Some("large".parse().unwrap()),
        unserved: None,
        way: Way::default(),
        heard_at: at(1),
        last_at: at(1),
        checks: 0,
    }
}

fn pool() -> PoolSnapshot {
    PoolSnapshot {
        name: "large".parse().unwrap(),
        scope: "octo-org".parse().unwrap(),
        provider: "east".into(),
        min: 0,
        spare: 0,
        max: 3,
        target: 3,
        target_because: "2 running + 1 waiting + 0 spare = 3".into(),
        target_override: None,
        demand_unknown: false,
        counts: Counts { busy: 2, ..Counts::default() },
        because: Vec::new(),
        holds: Vec::new(),
        boots: None,
        late: 0,
        habits: crate::pool::Habits::default(),
        cloud_seen_at: None,
        forge_seen_at: None,
        forge_shows_from: None,
        absence_awaited: false,
        retiring: false,
    }
}

fn reasons(pool: &PoolSnapshot) -> Vec<Reason> {
    why(&job(JobWord::Queued), Around { pool: Some(pool), ..Around::default() }, at(60))
}

fn kinds(reasons: &[Reason]) -> Vec<Because> {
    reasons.iter().map(|reason| reason.because).collect()
}

#[test]
fn a_job_that_does_not_wait_is_told_so_with_where_it_is() {
    let mut running = job(JobWord::Running);
    running.facts.runner = Some("ci--large--0123456789ab".into());
    running.facts.started_at = Some(at(9));
    let told = why(&running, Around::default(), at(60));
    assert_eq!((told[0].because, told[0].since), (Because::NotWaiting, Some(at(9))));
    assert!(told[0].text.contains("runs on ci--large--0123456789ab"), "{}", told[0]);
    let mut done = job(JobWord::Done);
    done.facts.conclusion = Some("cancelled".into());
    let told = why(&done, Around::default(), at(60));
    assert!(told[0].text.contains("over (cancelled)"), "{}", told[0]);
}

#[test]
fn a_job_that_nobody_may_run_yet_or_nobody_serves_has_one_reason() {
    let told = why(&job(JobWord::Blocked), Around::default(), at(60));
    assert_eq!((kinds(&told), told[0].since), (vec![Because::Blocked], Some(at(0))));
    let mut stray = job(JobWord::Queued);
    stray.pool = None;
    stray.unserved = Some("no pool has all of its labels (gpu)".into());
    let told = why(&stray, Around { pool: Some(&pool()), ..Around::default() }, at(60));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].text, "no pool has all of its labels (gpu)");
}

#[test]
fn a_pool_that_is_gone_or_leaving_starts_nothing() {
    assert_eq!(kinds(&why(&job(JobWord::Queued), Around::default(), at(60))), [Because::PoolGone]);
    let leaving = PoolSnapshot { retiring: true, ..pool() };
    assert_eq!(kinds(&reasons(&leaving)), [Because::PoolGone]);
}

fn held(error: PortError, until: Time) -> HoldSnapshot {
    let ends = "as soon as a VM goes".to_owned();
    HoldSnapshot { place: Place::Shape, since: at(20), until, failures: 4, error, ends }
}

#[test]
fn everything_in_the_way_is_told_the_nearest_to_the_job_first() {
    let error = PortError::certain(ErrorClass::Quota, "quota of 480 cores is used up");
    let mut crowded = pool();
    crowded.counts = Counts { busy: 1, registering: 1, draining: 1, ..Counts::default() };
    crowded.target_override = Some(2);
    crowded.holds = vec![held(error, at(90))];
    crowded.demand_unknown = true;
    crowded.because = vec!["1 more wanted; room for 0".into()];
    let down = PortStatus {
        held_until: Some(at(75)),
        last_error: Some("GET …/servers: 503".into()),
        ..PortStatus::default()
    };
    let around = Around {
        pool: Some(&crowded),
        provider: Some(&down),
        forge: Some(&down),
        ..Around::default()
    };
    let told = why(&job(JobWord::Queued), around, at(60));
    assert_eq!(
        kinds(&told),
        [
            Because::RunnersStarting,
            Because::AtMax,
            Because::Fixed,
            Because::LaunchesHeld,
            Because::ProviderDown,
            Because::ForgeDown,
            Because::DemandUnknown,
            Because::PoolSays,
            Because::PoolSays,
        ]
    );
    assert!(told[1].text.contains("max of 3: 1 busy, 1 draining"), "{}", told[1]);
    assert!(told[3].text.contains("4 failures") && told[3].text.contains("480 cores"));
    assert!(told[3].text.ends_with("or as soon as a VM goes"), "{}", told[3]);
    assert_eq!(told[3].since, Some(at(20)));
    assert_eq!((told[3].until, told[4].until), (Some(at(90)), Some(at(75))));
    assert!(told[4].text.starts_with("east takes no calls") && told[4].text.contains("503"));
}

#[test]
fn what_is_over_is_not_in_the_way() {
    let mut well = pool();
    let mended = PortError::certain(ErrorClass::Quota, "it was full");
    well.holds = vec![held(mended, at(59))];
    let port = PortStatus { held_until: Some(at(60)), ..PortStatus::default() };
    let around = Around {
        pool: Some(&well),
        provider: Some(&port),
        forge: Some(&port),
        ..Around::default()
    };
    let told = why(&job(JobWord::Queued), around, at(60));
    assert_eq!(kinds(&told), [Because::PoolSays], "the pool's own words are there in any case");
    assert!(told[0].text.contains("2 running + 1 waiting"), "{}", told[0]);
}

#[test]
fn an_idle_runner_points_at_the_forge() {
    let mut idle = pool();
    idle.counts.idle = 1;
    let told = reasons(&idle);
    assert_eq!(kinds(&told)[..2], [Because::RunnerIdle, Because::AtMax]);
    assert!(told[0].text.starts_with("1 runner is idle in pool large"), "{}", told[0]);
    assert!(told[0].text.contains("runner group"), "{}", told[0]);
}

#[test]
fn a_job_waits_because_the_forge_or_the_cloud_fails_and_it_is_told_since_when_and_until_when() {
    let mut scope = Sight::new(at(0));
    let refused = PortError::certain(ErrorClass::Auth, "list runners of octo-org: GitHub says 401");
    scope.failed(&refused, at(30), at(10));
    scope.failed(&refused, at(70), at(30));
    let mut cloud = Sight::new(at(0));
    cloud.failed(&PortError::certain(ErrorClass::Transient, "no route to host"), at(90), at(20));
    let pool = pool();
    let held = PortStatus { held_until: Some(at(99)), ..PortStatus::default() };
    let around = Around {
        pool: Some(&pool),
        provider: Some(&held),
        cloud_seen: Some(&cloud),
        scope_seen: Some(&scope),
        ..Around::default()
    };
    let told = why(&job(JobWord::Queued), around, at(60));
    assert_eq!(kinds(&told)[..2], [Because::ProviderDown, Because::ForgeDown]);
    assert_eq!(told[0].text, "east fails: no route to host");
    assert_eq!((told[0].since, told[0].until), (Some(at(20)), Some(at(99))));
    assert!(told[1].text.contains("GitHub (octo-org) fails") && told[1].text.contains("says 401"));
    assert_eq!((told[1].since, told[1].until), (Some(at(10)), Some(at(70))));
    scope.listed(true, at(70), &[]);
    let around = Around { pool: Some(&pool), scope_seen: Some(&scope), ..Around::default() };
    assert_eq!(kinds(&why(&job(JobWord::Queued), around, at(80))), [Because::PoolSays]);
}

#[test]
fn a_job_waits_because_a_vm_does_not_go() {
    let stuck = |since, what: &str| Stuck { since: at(since), deletion: true, what: what.into() };
    let all =
        [stuck(9, "ci--large--b is being deleted"), stuck(5, "ci--large--a is being deleted")];
    let pool = pool();
    let around = Around { pool: Some(&pool), stuck: &all, ..Around::default() };
    let told = why(&job(JobWord::Queued), around, at(60));
    assert_eq!((told[0].because, told[0].since), (Because::VmsStuck, Some(at(5))));
    assert!(told[0].text.ends_with("ci--large--a is being deleted, and 1 more"), "{}", told[0]);
}
