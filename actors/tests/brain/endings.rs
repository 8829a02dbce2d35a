//! What a runner's end means: its job done, or a launch that failed after all.

use std::{sync::Arc, time::Duration};

use runner_fleet_actors::{
    event::{DrainReason, GuestTimes, Job, JobEnd, Phase},
    name::{RegistrationId, VmId},
    pool::{Policy, Roster, Survey, plan},
    port::{
        Change, Deletion, Doors, ErrorClass, Finding, Listing, PortError, Registration, Stage,
        VmStatus,
    },
    runner::{
        Answer, Effect, Event, Known, LaunchFailure, Limits, Report, Sighting, State, Step, adopt,
    },
};

use crate::given::{at, limits, name, next, of_cloud, of_forge, seen, vm};

fn registration(online: bool) -> Registration {
    Registration { name: name(1), id: RegistrationId(7), online, busy: Some(false), cordoned: None }
}

fn job_begins() -> Event {
    Event::JobStarted { job: Job::default(), registration: Some(RegistrationId(7)) }
}

fn shows(status: VmStatus, second: u64) -> Event {
    of_cloud(Sighting::Seen(vm(name(1), status)), second)
}

/// The VM runs; nothing was heard of its runner.
fn registering() -> State {
    let launched = Answer::Launched { vm: VmId("vm".into()), registration: RegistrationId(7) };
    let state = next(State::start(at(0), &limits()).0, Event::Answered(launched), 1);
    next(state, shows(VmStatus::Active, 40), 40)
}

fn idle() -> State {
    next(registering(), of_forge(Sighting::Seen(registration(true)), 50), 50)
}

fn stopped(exit_code: i32, times: GuestTimes) -> Event {
    let end = JobEnd { exit_code: Some(exit_code), conclusion: None };
    Event::Guest(Report::Stopped(end), times)
}

#[test]
fn a_vm_that_is_off_before_its_runner_was_online_has_failed_if_its_registration_stays() {
    let off = next(registering(), shows(VmStatus::Stopped, 60), 61);
    assert_eq!(off.reason(), Some(&DrainReason::Finished), "not yet known");
    let older = next(off.clone(), of_forge(Sighting::Seen(registration(false)), 60), 62);
    assert_eq!(older.reason(), Some(&DrainReason::Finished), "that listing is from before");
    let failed = next(off, of_forge(Sighting::Seen(registration(false)), 65), 66);
    assert_eq!(failed.reason(), Some(&DrainReason::BootFailed));
    let error = failed.known().unwrap().last_error.clone().unwrap();
    assert!(error.what.contains("before its runner was ever online"), "{error}");
}

#[test]
fn one_whose_registration_is_gone_has_done_its_job_between_two_listings() {
    let off = next(registering(), shows(VmStatus::Stopped, 60), 61);
    let done = next(off, of_forge(Sighting::Absent, 65), 66);
    let done = next(done, of_forge(Sighting::Seen(registration(false)), 70), 71);
    assert_eq!(done.reason(), Some(&DrainReason::Finished));
}

#[test]
fn one_that_was_online_has_done_its_job() {
    let off = next(idle(), shows(VmStatus::Stopped, 60), 61);
    let done = next(off, of_forge(Sighting::Seen(registration(false)), 65), 66);
    assert_eq!(done.reason(), Some(&DrainReason::Finished));
}

#[test]
fn an_exit_code_without_a_job_is_a_failure_and_with_one_is_not() {
    let counted = |job_started| GuestTimes {
        booted: Some(Duration::from_secs(3)),
        job_started,
        ..GuestTimes::default()
    };
    let failed = next(idle(), stopped(1, counted(None)), 60);
    assert_eq!(failed.reason(), Some(&DrainReason::BootFailed));
    let job_started = Some(Duration::from_secs(30));
    let done = next(idle(), stopped(1, counted(job_started)), 60);
    assert_eq!(
        done.reason(),
        Some(&DrainReason::Finished),
        "only the report of its begin was lost"
    );
    let left = next(idle(), stopped(0, counted(None)), 60);
    let State::Draining { drain, .. } = left else { panic!("{left:?}") };
    assert_eq!(
        (drain.reason, drain.job_end),
        (DrainReason::Finished, None),
        "no job, no job's end"
    );
}

#[test]
fn a_guests_last_word_can_come_after_the_news_that_its_vm_is_off() {
    let off = next(registering(), shows(VmStatus::Stopped, 60), 61);
    let failed = next(off, stopped(2, GuestTimes::default()), 62);
    assert_eq!(failed.reason(), Some(&DrainReason::BootFailed));
}

#[test]
fn a_runner_that_neither_side_lists_twice_is_finished() {
    let busy = next(idle(), job_begins(), 55);
    let once = next(busy, seen(Sighting::Absent, Sighting::Absent, 70), 70);
    assert_eq!(once.phase(), Phase::Busy, "one listing of each proves nothing");
    let (twice, effects) =
        once.next(seen(Sighting::Absent, Sighting::Absent, 75), at(75), &limits());
    assert_eq!(effects, [Effect::LookUp], "its job was known to run");
    let found = Event::Answered(Answer::LookedUp(Ok(Finding::default())));
    let (twice, effects) = twice.next(found, at(76), &limits());
    assert_eq!(twice.reason(), Some(&DrainReason::Finished));
    assert_eq!(effects, [Effect::DeleteVm], "the cloud is asked by name: its list may be wrong");
    assert!(twice.holds_vm(), "its place is not given away on the word of a list");
    let gone = next(twice, Event::Answered(Answer::VmDeleted(Ok(Deletion::Gone))), 76);
    assert!(!gone.holds_vm(), "its place is free");
    let (last, effects) = gone.next(Event::Tick, at(76), &limits());
    assert_eq!((last.phase(), effects), (Phase::Deleted, vec![]), "and nothing is left to be done");
}

/// A pool of `many` runners whose VMs run, and whose cloud was listed.
fn pool_of(many: u64) -> Roster {
    let mut roster = Roster::default();
    survey(&mut roster, 41);
    for number in 0..many {
        roster.transitioned(&name(number), State::start(at(0), &limits()).0, at(0));
        roster.transitioned(&name(number), registering(), at(40));
    }
    roster
}

fn survey(roster: &mut Roster, second: u64) {
    let whole = Survey {
        vms: Some(listing(second)),
        registrations: Some(listing(second)),
        ..Survey::default()
    };
    let _nobody = roster.survey(&"linux".parse().unwrap(), &whole, at(second));
}

fn listing<T>(second: u64) -> Arc<Listing<T>> {
    let (entries, faults) = (Vec::new(), Vec::new());
    Arc::new(Listing { entries, complete: true, as_of: at(second), faults })
}

fn failed_boot() -> State {
    next(registering(), stopped(1, GuestTimes::default()), 60)
}

const POLICY: Policy = Policy { max: 100, replace_at_once: 1, shape: None, retiring: false };

#[test]
fn boots_that_fail_together_count_once_and_are_followed_by_one_probe() {
    let mut roster = pool_of(5);
    for number in 0..5 {
        roster.transitioned(&name(number), failed_boot(), at(60 + 10 * number));
    }
    assert_eq!(
        roster.failures.longest().map(|hold| hold.waves),
        Some(1),
        "they were launched before the first of them failed"
    );
    let held = plan(5, &roster, &POLICY, &Doors::default(), at(61));
    assert_eq!(held.create, 0, "{held:?}");
    let later = plan(5, &roster, &POLICY, &Doors::default(), at(200));
    assert_eq!(later.create, 1, "{later:?}");
    roster.transitioned(&name(9), State::start(at(200), &limits()).0, at(200));
    roster.transitioned(&name(9), registering(), at(240));
    let open = plan(5, &roster, &POLICY, &Doors::default(), at(300));
    assert_eq!(open.create, 0, "a VM that runs proves nothing: {open:?}");
    roster.transitioned(&name(9), idle(), at(310));
    assert_eq!(
        plan(5, &roster, &POLICY, &Doors::default(), at(310)).create,
        4,
        "a runner that is online does"
    );
}

#[test]
fn boots_that_fail_again_and_again_are_tried_ever_less_often() {
    let mut roster = pool_of(0);
    let (mut now, mut tried) = (100, 0);
    while now < 100 + 4 * 3600 {
        if plan(1, &roster, &POLICY, &Doors::default(), at(now)).create > 0 {
            tried += 1;
            roster.transitioned(&name(tried), State::start(at(now), &limits()).0, at(now));
            roster.transitioned(&name(tried), registering(), at(now + 30));
            now += 40;
            roster.transitioned(&name(tried), failed_boot(), at(now));
        }
        now += 1;
    }
    assert!((20..40).contains(&tried), "{tried} boots in four hours");
}

#[test]
fn a_runner_is_counted_as_lost_once() {
    let mut roster = pool_of(1);
    let off = next(registering(), shows(VmStatus::Stopped, 60), 61);
    assert!(!roster.newly_lost(&name(0), &off), "it may have done its job");
    roster.transitioned(&name(0), off.clone(), at(61));
    let failed = next(off, of_forge(Sighting::Seen(registration(false)), 65), 66);
    assert!(roster.newly_lost(&name(0), &failed));
    roster.transitioned(&name(0), failed.clone(), at(66));
    assert!(!roster.newly_lost(&name(0), &failed));
}

#[test]
fn a_pool_knows_its_busy_runners_once_each_has_judged_a_listing_of_both_sides() {
    let mut roster = Roster::default();
    let clouds = Survey { vms: Some(listing(10)), registrations: None, ..Survey::default() };
    let _nobody = roster.survey(&"linux".parse().unwrap(), &clouds, at(10));
    assert!(!roster.occupancy_known());
    survey(&mut roster, 20);
    roster.transitioned(&name(0), idle(), at(20));
    assert!(!roster.occupancy_known(), "its runners have yet to judge it");
    survey(&mut roster, 30);
    assert!(roster.occupancy_known());
}

#[test]
fn a_pool_without_runners_knows_at_once_that_none_is_busy() {
    let mut roster = Roster::default();
    survey(&mut roster, 10);
    assert!(roster.occupancy_known());
}

#[test]
fn what_a_cloud_tells_is_ordered_with_its_listings_by_when_it_was_so() {
    let mut roster = pool_of(0);
    let busy = next(idle(), job_begins(), 55);
    roster.transitioned(&name(1), busy.clone(), at(55));
    let change = Change { name: name(1), status: VmStatus::Stopped, as_of: at(60) };
    let news = Event::Observed(roster.changed(&change).unwrap());
    // A listing that began later still shows it: what was told is the older news.
    let listed = next(busy.clone(), shows(VmStatus::Active, 61), 62);
    assert_eq!(next(listed, news.clone(), 63).phase(), Phase::Busy);
    assert_eq!(next(busy, news, 63).phase(), Phase::Draining);
    let stranger = Change { name: name(2), ..change };
    assert_eq!(roster.changed(&stranger), None);
}

/// Lets both sides be listed every ten seconds, quiet, while every order to the guest is in vain.
fn asked_in_vain(
    mut state: State,
    limits: &Limits,
    (from, until): (u64, u64),
) -> (State, Vec<Effect>) {
    let mut all = Vec::new();
    for second in (from..=until).step_by(10) {
        let vm = Sighting::Seen(vm(name(1), VmStatus::Active));
        let both = seen(vm, Sighting::Seen(registration(true)), second);
        let mut events = vec![Event::Tick, both];
        while let Some(event) = events.pop() {
            let (next, effects) = state.next(event, at(second), limits);
            if effects.contains(&Effect::StandDown) {
                let silence = PortError::certain(ErrorClass::Transient, "no answer");
                events.push(Event::Answered(Answer::StoodDown(Err(silence))));
            }
            all.extend(effects);
            state = next;
        }
    }
    (state, all)
}

#[test]
fn an_old_guest_in_a_pool_whose_guests_report_goes_once_it_was_asked_in_vain_all_the_time() {
    let limits = Limits { guests_report: true, ..limits() };
    // Made before guests reported, and adopted by a process that expects every guest to.
    let found = (vm(name(1), VmStatus::Active), registration(true));
    let adopted = adopt(Some(found.0), Some(found.1), at(100));
    let (asked, effects) = adopted.next(Event::Drain(DrainReason::Shrink), at(105), &limits);
    assert_eq!(effects, [Effect::StandDown]);
    let silence = PortError::certain(ErrorClass::Transient, "no answer");
    let silence = Event::Answered(Answer::StoodDown(Err(silence)));
    let (asked, _) = asked.next(silence, at(106), &limits);
    let (state, effects) = asked_in_vain(asked, &limits, (110, 900));
    let State::Draining { drain, .. } = &state else { panic!("{state:?}") };
    assert_eq!(drain.step, Step::Ask, "a quiet minute is not enough for a guest that may answer");
    assert!(effects.iter().all(|effect| *effect == Effect::StandDown), "{effects:?}");
    let (_, effects) = asked_in_vain(state, &limits, (910, 1080));
    assert_eq!(effects.last(), Some(&Effect::Cordon), "nobody can ask it");
}

#[test]
fn a_guest_that_reports_is_asked_also_where_its_pool_does_not_expect_it() {
    let heard = Event::Guest(Report::RunnerStarted, GuestTimes::default());
    let (_, effects) =
        next(idle(), heard, 60).next(Event::Drain(DrainReason::Shrink), at(70), &limits());
    assert_eq!(effects, [Effect::StandDown]);
}

#[test]
fn a_guest_that_never_came_online_is_not_waited_for() {
    let limits = Limits { guests_report: true, ..limits() };
    let known = Known::default();
    assert!(!known.answers(&limits));
}

#[test]
fn what_a_guest_has_counted_stays_and_no_duration_is_negative() {
    let seconds = |n| Some(Duration::from_secs(n));
    let mut times = GuestTimes { booted: seconds(3), ..GuestTimes::default() };
    times.merge(GuestTimes {
        booted: seconds(99),
        runner_started: seconds(9),
        job_started: seconds(31),
        ..GuestTimes::default()
    });
    assert_eq!(times.booted, seconds(3), "nothing happens twice");
    assert_eq!((times.starting(), times.idle(), times.job()), (seconds(6), seconds(22), None));
    times.merge(GuestTimes { stopped: seconds(41), ..GuestTimes::default() });
    assert_eq!(
        times.job(),
        seconds(10),
        "to the runner application's end, if nobody saw the job's"
    );
    times.merge(GuestTimes { job_completed: seconds(20), ..GuestTimes::default() });
    assert_eq!(times.job(), None, "a guest that counts backwards is not believed");
}

fn busy() -> State {
    next(idle(), job_begins(), 60)
}

fn lacks(second: u64) -> Event {
    of_forge(Sighting::Absent, second)
}

#[test]
fn a_finished_guest_that_powers_off_is_deleted_without_more_proof() {
    let missed = next(next(busy(), lacks(100), 101), lacks(160), 161);
    assert_eq!(missed.phase(), Phase::Busy, "a minute without it is a doubt");
    let missed = next(missed, Event::Answered(Answer::LookedUp(Ok(Finding::default()))), 162);
    assert_eq!(missed.reason(), Some(&DrainReason::Finished));
    let off = missed.next(shows(VmStatus::Stopped, 165), at(166), &limits());
    assert_eq!(off.1, [Effect::DeleteVm]);
}

/// Its create failed, and may have made a VM all the same.
fn unsure() -> State {
    let failed = Answer::LaunchFailed(LaunchFailure {
        stage: Stage::Cloud,
        error: PortError::doubtful(ErrorClass::Transient, "503"),
        vm_possible: true,
        registration_possible: true,
        registration: Some(RegistrationId(7)),
    });
    next(State::start(at(0), &limits()).0, Event::Answered(failed), 1)
}

#[test]
fn a_guest_that_speaks_has_a_vm_whatever_listings_lack() {
    let of_cloud = |second| of_cloud(Sighting::Absent, second);
    let late = next(unsure(), of_cloud(200), 201);
    let late = next(late, Event::Guest(Report::RunnerStarted, GuestTimes::default()), 255);
    let late = next(late, of_cloud(262), 263);
    assert_eq!(late.phase(), Phase::Idle, "the cloud made it after all");
}

#[test]
fn a_guest_that_speaks_while_its_failed_launch_is_cleared_away_is_asked_first() {
    let of_cloud = |second| of_cloud(Sighting::Absent, second);
    let (gone, effects) =
        next(unsure(), of_cloud(200), 201).next(of_cloud(262), at(263), &limits());
    assert_eq!(effects, [Effect::Deregister], "no listing has its VM");
    let limited = PortError::certain(ErrorClass::RateLimited { until: at(400) }, "403");
    let held = next(gone, Event::Answered(Answer::Deregistered(Err(limited))), 264);
    let boots = Event::Guest(Report::Booted, GuestTimes::default());
    let (asked, effects) = held.next(boots, at(300), &limits());
    assert_eq!(asked.phase(), Phase::Draining);
    assert!(asked.holds_vm(), "its place below max is taken");
    assert!(!effects.contains(&Effect::Deregister), "{effects:?}");
    let (_, effects) = asked.clone().next(Event::Tick, at(401), &limits());
    assert_eq!(effects, [Effect::StandDown], "it may have a job");
    let dead = next(next(asked, of_cloud(310), 311), of_cloud(372), 373);
    assert!(!dead.holds_vm(), "its word was its last one");
}

#[test]
fn a_vm_that_comes_late_to_a_runner_deleted_by_force_counts_and_is_deleted() {
    let forced = next(unsure(), Event::Force, 50);
    let none = Answer::VmDeleted(Ok(Deletion::Gone));
    let gone = next(forced, Event::Answered(none), 51);
    assert!(!gone.holds_vm());
    let late = gone.next(shows(VmStatus::Building, 300), at(301), &limits());
    assert!(late.0.holds_vm(), "its place below max is taken");
    let refused = Answer::Deregistered(Err(PortError::certain(ErrorClass::Transient, "502")));
    let deleting = late.0.next(Event::Answered(refused), at(302), &limits());
    assert_eq!(deleting.1, [Effect::DeleteVm]);
}
