//! What words about a job are worth: whose runner they are about, and what speaks against them.

use runner_fleet_actors::{
    event::{DrainReason, Job, JobEnd, Phase},
    name::{RegistrationId, RunnerName, VmId},
    port::{Registration, StandDown, Vm, VmStatus},
    runner::{Answer, Event, Limits, Observation, Report, Sighting, State, adopt},
};

use crate::given::{at, guest, next};

const OURS: Option<RegistrationId> = Some(RegistrationId(1001));
const THEIRS: Option<RegistrationId> = Some(RegistrationId(999_999));

fn name() -> RunnerName {
    "ci--small--0123456789ab".parse().unwrap()
}

fn begins(registration: Option<RegistrationId>) -> Event {
    Event::JobStarted { job: Job { id: Some(900_001), ..Job::default() }, registration }
}

fn ends(registration: Option<RegistrationId>) -> Event {
    Event::JobCompleted { end: JobEnd::default(), registration }
}

fn shown(busy: bool, second: u64) -> Event {
    let (id, name) = (RegistrationId(1001), name());
    Event::Observed(Observation {
        vm: Sighting::Unknown,
        registration: Sighting::Seen(Registration {
            name,
            id,
            online: true,
            busy: Some(busy),
            cordoned: None,
        }),
        vm_as_of: at(second),
        registration_as_of: at(second),
    })
}

/// Adopted with our number, online, without a job.
fn idle() -> State {
    let vm = Vm {
        name: name(),
        id: VmId("vm".into()),
        status: VmStatus::Active,
        created_at: None,
        shape: None,
        scope: None,
        address: None,
        task: None,
    };
    let registration = Registration {
        name: name(),
        id: RegistrationId(1001),
        online: true,
        busy: Some(false),
        cordoned: None,
    };
    adopt(Some(vm), Some(registration), at(0))
}

fn busy() -> State {
    next(idle(), begins(OURS), 10)
}

#[test]
fn another_repositorys_runner_of_the_same_name_neither_ends_nor_pins_ours() {
    for state in [idle(), busy(), next(idle(), Event::Drain(DrainReason::Shrink), 10)] {
        for word in [begins(THEIRS), ends(THEIRS)] {
            let (after, effects) = state.clone().next(word, at(20), &Limits::default());
            assert_eq!((after, effects), (state.clone(), vec![]), "not even a fact changes");
        }
    }
    assert_eq!(next(idle(), begins(OURS), 20).phase(), Phase::Busy);
    assert_eq!(next(busy(), ends(OURS), 20).reason(), Some(&DrainReason::Finished));
}

#[test]
fn a_word_of_the_forge_ends_no_job_of_which_the_guest_says_that_it_runs() {
    let working = next(busy(), guest(Report::JobStarted(Job::default())), 11);
    for word in [ends(OURS), ends(None)] {
        assert_eq!(next(working.clone(), word, 20).phase(), Phase::Busy);
    }
    let over = next(working, guest(Report::JobCompleted(JobEnd::default())), 30);
    assert_eq!(over.reason(), Some(&DrainReason::Finished), "its own word does");
}

#[test]
fn the_forges_word_counts_where_the_guest_has_told_of_no_job() {
    let silent = next(busy(), guest(Report::RunnerStarted), 11);
    assert_eq!(next(silent, ends(OURS), 20).phase(), Phase::Draining);
}

/// Listings every 30 seconds from `from` to `to`, none of which shows a job.
fn quiet(mut state: State, from: u64, to: u64) -> State {
    for second in (from..=to).step_by(30) {
        state = next(state, shown(false, second), second);
    }
    state
}

#[test]
fn a_word_without_a_number_keeps_an_idle_runner_for_a_quarter_of_an_hour_and_not_for_days() {
    let said = next(idle(), begins(None), 10);
    assert_eq!(said.phase(), Phase::Busy, "it may be right");
    let said = quiet(said, 30, 900);
    assert_eq!(said.phase(), Phase::Busy, "a flag may lie for minutes");
    let free = quiet(said, 930, 960);
    assert_eq!(free.phase(), Phase::Idle, "nobody bore it out");
    assert_eq!(next(free, begins(OURS), 970).phase(), Phase::Busy, "its job may come yet");
}

#[test]
fn the_real_start_counts_although_hearsay_has_told_of_one_before() {
    let free = quiet(next(idle(), begins(None), 10), 30, 960);
    let drains = next(free, Event::Drain(DrainReason::Shrink), 961);
    assert_eq!(drains.phase(), Phase::Draining);
    assert_eq!(next(drains, begins(OURS), 962).phase(), Phase::Busy);
}

#[test]
fn what_was_listed_before_a_word_without_a_number_does_not_speak_against_it() {
    let said = next(quiet(idle(), 30, 3000), begins(None), 3001);
    let said = quiet(said, 3030, 3900);
    assert_eq!(said.phase(), Phase::Busy);
}

#[test]
fn a_word_without_a_number_that_anybody_bears_out_holds() {
    let said_busy = Event::Answered(Answer::StoodDown(Ok(StandDown::Busy)));
    for witness in
        [shown(true, 40), begins(OURS), guest(Report::JobStarted(Job::default())), said_busy]
    {
        let said = next(next(idle(), begins(None), 10), witness.clone(), 41);
        assert_eq!(quiet(said, 60, 7200).phase(), Phase::Busy, "{witness:?}");
    }
    let said = next(next(idle(), begins(None), 10), begins(None), 41);
    assert_eq!(quiet(said, 60, 7200).phase(), Phase::Idle, "hearsay twice is hearsay");
}

#[test]
fn a_proven_job_is_not_made_hearsay_by_a_later_word_without_a_number() {
    let busy = next(busy(), begins(None), 20);
    assert_eq!(quiet(busy, 60, 7200).phase(), Phase::Busy);
}
