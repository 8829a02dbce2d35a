//! A runner at work that listings lack: what is asked before its VM goes, and what the answers mean.

use std::{sync::Arc, time::Duration};

use runner_fleet_actors::{
    event::{DrainReason, GuestTimes, Job, JobEnd, Phase},
    name::{RegistrationId, RunnerName, VmId},
    pool::{DOUBTED_FOR, Doubted, Policy, Roster, Survey, plan},
    port::{Doors, ErrorClass, Listing, PortError, Registration, Vm, VmStatus},
    runner::{Answer, Effect, Event, Limits, Observation, Report, Sighting, State, Step, adopt},
};

use crate::given::{at, found, limits, next, nowhere, seen};

fn name(number: u64) -> RunnerName {
    format!("bench--bench--{number:012x}").parse().unwrap()
}

fn vm(number: u64, status: VmStatus) -> Vm {
    Vm {
        name: name(number),
        id: VmId("vm".into()),
        status,
        created_at: None,
        shape: None,
        scope: None,
        address: None,
        task: None,
    }
}

fn registration(number: u64, online: bool, busy: Option<bool>) -> Registration {
    Registration { name: name(number), id: RegistrationId(number), online, busy, cordoned: None }
}

/// GitHub lists it not; its VM is active.
fn lacks(second: u64) -> Event {
    seen(Sighting::Seen(vm(1001, VmStatus::Active)), Sighting::Absent, second)
}

fn shows(busy: bool, second: u64) -> Event {
    let registration = Sighting::Seen(registration(1001, true, Some(busy)));
    seen(Sighting::Seen(vm(1001, VmStatus::Active)), registration, second)
}

fn gone() -> Event {
    found(None, None)
}

fn working() -> Event {
    found(Some(registration(1001, true, Some(true))), Some(true))
}

fn no_answer() -> Event {
    let error = PortError::certain(ErrorClass::Transient, "502");
    Event::Answered(Answer::LookedUp(Err(error)))
}

fn idle() -> State {
    adopt(Some(vm(1001, VmStatus::Active)), Some(registration(1001, true, Some(false))), at(0))
}

fn ends(registration: Option<u64>) -> Event {
    let registration = registration.map(RegistrationId);
    Event::JobCompleted { end: JobEnd::default(), registration }
}

/// `workflow_job in_progress` named it.
fn busy() -> State {
    let job = Job { id: Some(500_001), ..Job::default() };
    let begins = Event::JobStarted { job, registration: Some(RegistrationId(1001)) };
    next(idle(), begins, 10)
}

/// Tells the same every ten seconds, lets time pass, and answers each look-up with `answer`. Returns the
/// state and when it was looked up.
fn hours_of(
    mut state: State,
    (from, to): (u64, u64),
    listed: impl Fn(u64) -> Event,
    answer: impl Fn() -> Event,
    limits: &Limits,
) -> (State, Vec<u64>) {
    let mut asked = Vec::new();
    for second in (from..=to).step_by(10) {
        let mut events = vec![Event::Tick, listed(second)];
        while let Some(event) = events.pop() {
            let (after, effects) = state.next(event, at(second), limits);
            state = after;
            if effects.contains(&Effect::LookUp) {
                asked.push(second);
                events.push(answer());
            }
        }
    }
    (state, asked)
}

#[test]
fn a_runner_at_work_keeps_its_vm_for_as_long_as_listings_lack_it() {
    let (state, asked) = hours_of(busy(), (20, 4 * 3600), lacks, working, &limits());
    assert_eq!(state.phase(), Phase::Busy);
    assert!((10..30).contains(&asked.len()), "asked ever less often: {asked:?}");
    assert_eq!(asked.first(), Some(&80), "a minute without it is a doubt");
    let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] <= 40 && pauses.iter().all(|pause| *pause <= 910), "{pauses:?}");
}

#[test]
fn a_job_that_is_said_to_run_runs_even_where_no_runner_of_its_number_is_shown() {
    let running = || found(None, Some(true));
    let (state, _) = hours_of(busy(), (20, 3600), lacks, running, &limits());
    assert_eq!(state.phase(), Phase::Busy);
}

#[test]
fn a_runner_that_is_there_by_its_number_is_at_work_whatever_its_flag_says() {
    let there = || found(Some(registration(1001, true, Some(false))), None);
    let (state, _) = hours_of(busy(), (20, 3600), lacks, there, &limits());
    assert_eq!(state.phase(), Phase::Busy);
}

#[test]
fn a_runner_that_is_gone_by_its_number_too_is_finished_and_its_vm_goes_half_a_minute_later() {
    let doubted = next(next(busy(), lacks(20), 20), lacks(80), 80);
    assert_eq!(doubted.phase(), Phase::Busy, "it is asked for first");
    let over = next(doubted, gone(), 81);
    assert_eq!(over.reason(), Some(&DrainReason::Finished));
    assert_eq!(over.clone().next(Event::Tick, at(110), &limits()).1, []);
    assert_eq!(over.next(Event::Tick, at(111), &limits()).1, [Effect::DeleteVm]);
}

#[test]
fn a_job_that_is_over_by_its_number_is_over_although_its_runner_is_still_shown() {
    let doubted = next(next(busy(), lacks(20), 20), lacks(80), 80);
    let over = found(Some(registration(1001, false, Some(false))), Some(false));
    let over = next(doubted.clone(), over, 81);
    assert_eq!(over.reason(), Some(&DrainReason::Finished));
    assert_eq!(over.next(Event::Tick, at(111), &limits()).1, [Effect::DeleteVm]);
    let contradictory = found(Some(registration(1001, true, Some(true))), Some(false));
    assert_eq!(next(doubted, contradictory, 81).phase(), Phase::Busy, "while it is shown at work");
}

#[test]
fn a_vm_that_powers_off_needs_no_look_up() {
    let off = seen(Sighting::Seen(vm(1001, VmStatus::Stopped)), Sighting::Absent, 30);
    assert_eq!(busy().next(off, at(30), &limits()).1, [Effect::DeleteVm]);
}

#[test]
fn a_listing_that_shows_it_again_ends_the_doubt() {
    let (state, asked) = hours_of(busy(), (20, 300), lacks, working, &limits());
    let shown = next(state, shows(true, 310), 310);
    assert_eq!(shown.known().unwrap().doubt, None);
    let (_, again) = hours_of(shown, (320, 400), lacks, working, &limits());
    assert_eq!((asked[0], again), (80, vec![380]), "a new one begins anew");
}

#[test]
fn a_guest_that_reports_is_taken_at_its_word_for_longer_than_one_that_cannot() {
    let told = Event::Guest(Report::JobStarted(Job::default()), GuestTimes::default());
    let (_, asked) = hours_of(next(busy(), told, 15), (20, 1000), lacks, gone, &limits());
    assert_eq!(asked, [920], "a quarter of an hour");
}

#[test]
fn without_an_answer_a_runner_at_work_lives_until_its_own_limit_and_no_longer() {
    let limits = Limits { busy: Duration::from_secs(6 * 3600), ..limits() };
    let (state, asked) = hours_of(busy(), (20, 5 * 3600), lacks, no_answer, &limits);
    assert_eq!(state.phase(), Phase::Busy);
    assert!(asked.len() < 40, "{asked:?}");
    let (state, _) = hours_of(state, (5 * 3600 + 10, 7 * 3600), lacks, no_answer, &limits);
    assert_eq!(state.reason(), Some(&DrainReason::JobOverdue));
}

#[test]
fn a_look_up_that_is_held_by_the_rate_limit_waits_for_it() {
    let until = at(2000);
    let held = move || {
        let error = PortError::certain(ErrorClass::RateLimited { until }, "rate limited");
        Event::Answered(Answer::LookedUp(Err(error)))
    };
    let (_, asked) = hours_of(busy(), (20, 1990), lacks, held, &limits());
    assert_eq!(asked, [80]);
}

#[test]
fn a_runner_without_a_job_is_asked_for_as_well() {
    let (state, effects) = next(idle(), lacks(20), 20).next(lacks(80), at(80), &limits());
    assert_eq!((state.phase(), effects), (Phase::Idle, vec![Effect::LookUp]));
    assert_eq!(next(state.clone(), working(), 81).phase(), Phase::Busy, "its job was never told");
    let there = found(Some(registration(1001, true, Some(false))), None);
    assert_eq!(next(state.clone(), there, 81).phase(), Phase::Idle);
    let vanished = next(state, gone(), 81);
    assert_eq!(vanished.reason(), Some(&DrainReason::RegistrationVanished));
    assert_eq!(next(vanished.clone(), shows(false, 90), 90).phase(), Phase::Idle, "refuted");
    assert_eq!(vanished.next(Event::Tick, at(111), &limits()).1, [Effect::DeleteVm]);
}

#[test]
fn one_without_a_job_that_was_asked_for_in_vain_goes_the_careful_way() {
    let (state, _) = hours_of(idle(), (20, 970), lacks, no_answer, &limits());
    assert_eq!(state.phase(), Phase::Idle);
    let (state, _) = hours_of(state, (980, 990), lacks, no_answer, &limits());
    assert_eq!(state.reason(), Some(&DrainReason::RegistrationVanished));
    let State::Draining { drain, .. } = &state else { panic!("{state:?}") };
    assert!(matches!(drain.step, Step::Ask | Step::Deregister), "{:?}", drain.step);
}

#[test]
fn a_runner_without_a_job_that_neither_side_lists_is_asked_for_before_its_vm_goes() {
    let (doubted, effects) = next(idle(), nowhere(20), 20).next(nowhere(30), at(30), &limits());
    assert_eq!((doubted.phase(), effects), (Phase::Idle, vec![Effect::LookUp]));
    assert_eq!(next(doubted.clone(), working(), 31).phase(), Phase::Busy, "its job was never told");
    let there = found(Some(registration(1001, true, Some(false))), None);
    assert_eq!(next(doubted.clone(), there, 31).phase(), Phase::Idle);
    let (over, effects) = doubted.clone().next(gone(), at(31), &limits());
    assert_eq!((over.reason(), effects), (Some(&DrainReason::Finished), vec![Effect::DeleteVm]));
    let shown = next(next(doubted, shows(false, 35), 35), gone(), 36);
    assert_eq!(shown.phase(), Phase::Idle, "an answer that comes after it was shown again");
}

#[test]
fn a_runner_at_work_that_neither_side_lists_is_alive_while_it_is_connected() {
    let doubted = next(next(busy(), nowhere(20), 20), nowhere(30), 30);
    assert_eq!(doubted.phase(), Phase::Busy);
    assert_eq!(next(doubted.clone(), working(), 31).phase(), Phase::Busy);
    let lost = found(Some(registration(1001, false, Some(true))), Some(true));
    assert_eq!(
        next(doubted.clone(), lost, 31).reason(),
        Some(&DrainReason::Finished),
        "not connected, and no VM"
    );
    assert_eq!(next(doubted, gone(), 31).reason(), Some(&DrainReason::Finished));
}

#[test]
fn a_runner_that_is_connected_has_a_vm_whatever_listings_lack_and_its_busy_flag_says() {
    let missing = |second| seen(Sighting::Absent, Sighting::Unknown, second);
    let answer = |online| move || found(Some(registration(1001, online, Some(false))), None);
    let (state, asked) = hours_of(busy(), (20, 1800), missing, answer(true), &limits());
    assert_eq!(state.phase(), Phase::Busy);
    assert!((5..20).contains(&asked.len()), "asked ever less often: {asked:?}");
    let (state, _) = hours_of(state, (1810, 2800), missing, answer(false), &limits());
    assert_eq!(state.reason(), Some(&DrainReason::VmVanished));
}

#[test]
fn a_lost_vm_of_a_busy_runner_frees_its_place_a_quarter_of_an_hour_later_at_the_latest() {
    let missing = |second| seen(Sighting::Absent, Sighting::Unknown, second);
    let (state, _) = hours_of(busy(), (20, 970), missing, no_answer, &limits());
    assert_eq!(state.phase(), Phase::Busy);
    let (state, _) = hours_of(state, (980, 990), missing, no_answer, &limits());
    assert_eq!(state.reason(), Some(&DrainReason::VmVanished));
    assert!(!state.holds_vm());
}

#[test]
fn a_word_of_the_end_that_the_guest_contradicts_is_looked_up_at_once() {
    let told = Event::Guest(Report::JobStarted(Job::default()), GuestTimes::default());
    let (state, effects) = next(busy(), told, 15).next(ends(Some(1001)), at(20), &limits());
    assert_eq!((state.phase(), effects), (Phase::Busy, vec![Effect::LookUp]));
    let over = next(state.clone(), gone(), 21);
    assert_eq!(over.reason(), Some(&DrainReason::Finished));
    // GitHub's answers may lag behind its word, so the first one is not the last.
    let once = next(state, working(), 21);
    let (again, effects) = once.next(Event::Tick, at(60), &limits());
    assert_eq!(effects, [Effect::LookUp]);
    let settled = next(again, working(), 61);
    let (_, asked) = hours_of(settled, (70, 3600), |second| shows(true, second), gone, &limits());
    assert_eq!(asked, [], "the word was not about this job");
}

#[test]
fn a_newer_listing_that_shows_the_job_holds_the_vm_of_a_runner_that_is_said_to_be_done() {
    let done = next(busy(), ends(Some(1001)), 20);
    assert_eq!(done.reason(), Some(&DrainReason::Finished));
    let older = next(done.clone(), shows(true, 20), 21);
    assert_eq!(older.next(Event::Tick, at(50), &limits()).1, [Effect::DeleteVm], "began before");
    let (held, effects) = done.next(shows(true, 25), at(26), &limits());
    assert_eq!(effects, [Effect::LookUp]);
    let held = next(held, working(), 27);
    assert_eq!(held.phase(), Phase::Draining, "its answer may be old as well");
    assert_eq!(held.clone().next(Event::Tick, at(51), &limits()).1, [], "and its VM stays");
    let (asked, effects) = held.clone().next(Event::Tick, at(65), &limits());
    assert_eq!(effects, [Effect::LookUp]);
    assert_eq!(next(asked.clone(), working(), 66).phase(), Phase::Busy, "the word was wrong");
    assert_eq!(asked.next(gone(), at(66), &limits()).1, [Effect::DeleteVm]);
    let quiet = next(held, shows(false, 60), 60);
    assert_eq!(quiet.phase(), Phase::Draining);
}

#[test]
fn a_contradiction_that_nobody_can_settle_is_given_up_for_the_job() {
    let done = next(busy(), ends(Some(1001)), 20);
    let listed = |second| shows(true, second);
    let (state, asked) = hours_of(done, (30, 920), listed, no_answer, &limits());
    assert_eq!(state.phase(), Phase::Busy);
    assert!(asked.len() < 10, "{asked:?}");
}

#[test]
fn a_job_keeps_no_vm_by_repeating_that_it_has_begun() {
    let started = || Event::Guest(Report::JobStarted(Job::default()), GuestTimes::default());
    let state = next(idle(), started(), 10);
    let (over, _) = hours_of(state, (20, 930), lacks, gone, &limits());
    assert_eq!(over.reason(), Some(&DrainReason::Finished));
    for second in [931, 933, 935] {
        assert_eq!(next(over.clone(), started(), second).phase(), Phase::Draining);
    }
    let again = next(over, started(), 936);
    assert_eq!(again.next(Event::Tick, at(960), &limits()).1, [Effect::DeleteVm]);
}

#[test]
fn a_start_that_the_forge_repeats_undoes_no_end_either_and_a_first_one_does() {
    let begins =
        || Event::JobStarted { job: Job::default(), registration: Some(RegistrationId(1001)) };
    let over = next(next(next(busy(), lacks(20), 20), lacks(80), 80), gone(), 81);
    assert_eq!(next(over, begins(), 82).phase(), Phase::Draining);
    let vanished = next(next(next(idle(), lacks(20), 20), lacks(80), 80), gone(), 81);
    assert_eq!(next(vanished, begins(), 82).phase(), Phase::Busy, "told late, told once");
}

fn listing<T>(entries: Vec<T>, second: u64) -> Arc<Listing<T>> {
    Arc::new(Listing { entries, complete: true, as_of: at(second), faults: Vec::new() })
}

/// A pool of `many` idle runners that both sides have shown.
fn pool_of(many: u64) -> Roster {
    let mut roster = Roster::default();
    for number in 1..=many {
        let state = adopt(
            Some(vm(number, VmStatus::Active)),
            Some(registration(number, true, Some(false))),
            at(0),
        );
        roster.transitioned(&name(number), state, at(0));
    }
    clouds(&mut roster, 1..=many, 5);
    forges(&mut roster, 1..=many, 5);
    roster
}

fn clouds(
    roster: &mut Roster,
    shown: std::ops::RangeInclusive<u64>,
    second: u64,
) -> Vec<Observation> {
    let vms = listing(shown.map(|number| vm(number, VmStatus::Active)).collect(), second);
    survey(roster, &Survey { vms: Some(vms), registrations: None, ..Survey::default() }, second)
}

fn forges(
    roster: &mut Roster,
    shown: std::ops::RangeInclusive<u64>,
    second: u64,
) -> Vec<Observation> {
    let of = |number| registration(number, true, Some(false));
    let registrations = listing(shown.map(of).collect(), second);
    survey(
        roster,
        &Survey { vms: None, registrations: Some(registrations), ..Survey::default() },
        second,
    )
}

fn survey(roster: &mut Roster, survey: &Survey, second: u64) -> Vec<Observation> {
    let surveyed = roster.survey(&"bench".parse().unwrap(), survey, at(second));
    surveyed.observe.into_iter().map(|(_, seen)| seen).collect()
}

#[test]
fn a_list_that_lacks_all_at_once_proves_nothing_for_ten_minutes() {
    #[allow(clippy::reversed_empty_ranges, reason = "nobody")]
    let nobody = 1..=0;
    let mut roster = pool_of(4);
    for second in [10, 300, 609] {
        let seen = forges(&mut roster, nobody.clone(), second);
        assert!(seen.iter().all(|one| one.registration == Sighting::Unknown), "at {second}");
        assert!(!roster.forge_whole, "a shrink waits");
    }
    let seen = forges(&mut roster, nobody.clone(), 610);
    assert!(seen.iter().all(|one| one.registration == Sighting::Absent), "not for ever");
    let mut roster = pool_of(4);
    for second in [10, 300, 609] {
        let seen = clouds(&mut roster, nobody.clone(), second);
        assert!(seen.iter().all(|one| one.vm == Sighting::Unknown), "at {second}");
        assert_eq!(
            plan(8, &roster, &POLICY, &Doors::default(), at(second)).create,
            4,
            "its VMs count"
        );
    }
    let seen = clouds(&mut roster, nobody, 610);
    assert!(seen.iter().all(|one| one.vm == Sighting::Absent));
}

const POLICY: Policy = Policy { max: 8, replace_at_once: 1, shape: None, retiring: false };

#[test]
fn one_of_several_may_vanish_and_so_may_two_of_many() {
    let mut roster = pool_of(4);
    let absent = |seen: Vec<Observation>| {
        seen.iter().filter(|one| one.registration == Sighting::Absent).count()
    };
    assert_eq!(absent(forges(&mut roster, 2..=4, 10)), 1);
    let mut roster = pool_of(9);
    assert_eq!(absent(forges(&mut roster, 3..=9, 10)), 2);
    let mut roster = pool_of(8);
    assert_eq!(absent(forges(&mut roster, 3..=8, 10)), 0, "two of eight at once");
}

#[test]
fn runners_that_the_other_side_ended_may_vanish_all_at_once() {
    let mut roster = pool_of(4);
    let off = listing((1..=4).map(|number| vm(number, VmStatus::Stopped)).collect(), 8);
    survey(&mut roster, &Survey { vms: Some(off), registrations: None, ..Survey::default() }, 8);
    #[allow(clippy::reversed_empty_ranges, reason = "nobody")]
    let seen = forges(&mut roster, 1..=0, 10);
    assert!(seen.iter().all(|one| one.registration == Sighting::Absent));
}

#[test]
fn a_doubt_lasts_until_nobody_is_lacking_that_it_began_with() {
    let names: Vec<_> = (1..=4).map(name).collect();
    let mut doubted = Doubted::default();
    doubted.weigh(names.iter(), |_| false, at(0));
    doubted.weigh(names.iter(), |one| *one != names[0], at(60));
    assert!(doubted.doubts(at(599)), "one of them is lacking still");
    assert!(!doubted.doubts(at(DOUBTED_FOR.as_secs())));
    doubted.weigh(names.iter(), |_| true, at(700));
    doubted.weigh(names.iter(), |_| false, at(710));
    assert!(doubted.doubts(at(1309)), "a new one begins anew");
}
