//! What a cloud tells of changes between two listings: believed of whom it names, and of nobody else.

use std::sync::Arc;

use runner_fleet_actors::{
    event::{DrainReason, Phase},
    name::{RegistrationId, VmId},
    pool::{Boots, Roster, Survey},
    port::{Deletion, ErrorClass, Listing, PortError, Recent, Registration, VmStatus},
    runner::{Answer, Effect, Event, Limits, Report, Sighting, State, adopt},
};

use crate::given::{
    at, busy, creating, draining, guest, idle, launched, limits, name, next, of_cloud, registering,
    seconds, seen, vm,
};
use crate::lives::there;

fn recent(second: u64) -> Recent {
    Recent::nothing(at(second))
}

/// The cloud says that a VM is deleted, asked at that second.
fn ended(id: &str, second: u64) -> Event {
    Event::VmEnded { vm: VmId(id.into()), as_of: at(second) }
}

fn taken() -> Event {
    Event::Answered(Answer::VmDeleted(Ok(Deletion::Accepted)))
}

/// Its guest has ended; its VM is being deleted, and the cloud has taken that on.
fn deleting() -> State {
    let off = of_cloud(Sighting::Seen(vm(name(1), VmStatus::Stopped)), 9);
    next(next(busy(), off, 10), taken(), 11)
}

/// Both sides were listed whole with runners in these states, numbered from 1.
fn listed(states: impl IntoIterator<Item = State>) -> Roster {
    let mut roster = Roster::default();
    for (number, state) in (1..).zip(states) {
        roster.transitioned(&name(number), state, at(0));
    }
    let numbers: Vec<_> = roster.iter().map(|(name, _)| name.clone()).collect();
    let (faults, as_of) = (Vec::new(), at(1));
    let entries = numbers.iter().map(|name| vm(name.clone(), VmStatus::Active)).collect();
    let vms = Some(Arc::new(Listing { entries, complete: true, as_of, faults }));
    let entries = (1..)
        .zip(numbers)
        .map(|(number, name)| Registration {
            name,
            id: RegistrationId(number),
            online: true,
            busy: Some(false),
            cordoned: None,
        })
        .collect();
    let registrations =
        Some(Arc::new(Listing { entries, complete: true, as_of, faults: Vec::new() }));
    let survey = Survey { vms, registrations, ..Survey::default() };
    roster.survey(&"linux".parse().unwrap(), &survey, at(1));
    roster
}

#[test]
fn a_vm_whose_deletion_was_taken_on_is_gone_when_the_cloud_says_so_and_its_place_is_free() {
    assert!(deleting().holds_vm());
    let gone = next(deleting(), ended("vm", 13), 14);
    assert!(!gone.holds_vm());
    assert_eq!(next(gone.clone(), ended("vm", 16), 17), gone, "told again");
    let other = next(deleting(), ended("another", 13), 14);
    assert!(other.holds_vm(), "another one of that name proves nothing");
    let young = next(next(next(creating(), launched(), 5), Event::Force, 10), taken(), 11);
    assert!(!next(young, ended("vm", 13), 14).holds_vm(), "however young the VM is");
    let before = next(deleting(), ended("vm", 11), 14);
    assert!(before.holds_vm(), "asked before the deletion was taken on, it is not about that");
}

#[test]
fn a_listing_of_before_does_not_bring_back_what_the_cloud_said_is_deleted() {
    let gone = next(deleting(), ended("vm", 13), 14);
    let cached = of_cloud(Sighting::Seen(vm(name(1), VmStatus::Active)), 20);
    assert!(!next(gone, cached, 21).holds_vm());
}

#[test]
fn nobody_else_is_ended_by_that_word() {
    for state in [creating(), registering(), idle(), busy(), draining()] {
        let before = (state.phase(), state.holds_vm());
        let after = next(state, ended("vm", 9), 10);
        assert_eq!((after.phase(), after.holds_vm()), before);
    }
    // Its deletion failed: nobody has taken it on.
    let failed = PortError::certain(ErrorClass::Transient, "503");
    let off = of_cloud(Sighting::Seen(vm(name(1), VmStatus::Stopped)), 9);
    let refused = next(next(busy(), off, 10), Event::Answered(Answer::VmDeleted(Err(failed))), 11);
    assert!(next(refused, ended("vm", 12), 12).holds_vm());
}

#[test]
fn whom_it_does_not_name_is_not_absent_and_whom_nobody_has_is_not_found() {
    let mut roster = listed([idle(), busy()]);
    let told = Recent {
        changed: vec![vm(name(1), VmStatus::Stopped), vm(name(9), VmStatus::Active)],
        deleted: vec![(name(8), VmId("old".into()))],
        ..recent(10)
    };
    let news = roster.recent(&told);
    let [(of, Event::Observed(seen))] = news.as_slice() else { panic!("{news:?}") };
    assert_eq!((of, &seen.registration), (&name(1), &Sighting::Unknown));
    assert_eq!(seen.vm, Sighting::Seen(vm(name(1), VmStatus::Stopped)));
    assert_eq!(roster.cloud_seen, Some(at(1)), "the cloud was not listed by it");
    assert_eq!(roster.recent(&recent(20)), []);
}

#[test]
fn a_vm_that_is_told_to_be_off_ends_its_runner_as_a_listing_would() {
    let mut roster = listed([busy()]);
    let told = Recent { changed: vec![vm(name(1), VmStatus::Stopped)], ..recent(10) };
    let (_, event) = roster.recent(&told).remove(0);
    let (state, effects) = busy().next(event, at(11), &limits());
    assert_eq!((state.phase(), effects), (Phase::Draining, vec![Effect::DeleteVm]));
    assert_eq!(state.reason(), Some(&DrainReason::Finished));
}

#[test]
fn what_was_told_before_the_process_stood_still_is_no_news_after_it() {
    let mut roster = listed([idle()]);
    roster.woke(at(100));
    let told = |second| Recent { changed: vec![vm(name(1), VmStatus::Active)], ..recent(second) };
    assert_eq!(roster.recent(&told(100)), []);
    assert_eq!(roster.recent(&told(101)).len(), 1);
}

/// From when on the forge may show something, with boots of 40 to 60 s known.
fn shows(states: impl IntoIterator<Item = State>, reports: bool) -> Option<u64> {
    let mut roster = listed(states);
    roster.boots = [40, 50, 60].map(seconds).into_iter().collect::<Boots>();
    let limits = Limits { guests_report: reports, ..limits() };
    let from = roster.forge_shows_from(&limits, at(10))?;
    Some(u64::try_from((from - at(0)).num_seconds()).unwrap())
}

#[test]
fn the_forge_is_not_asked_for_a_runner_that_boots_before_one_was_ever_online() {
    assert_eq!(shows([creating()], false), Some(40));
    assert_eq!(shows([registering(), creating()], false), Some(40));
    assert_eq!(shows([creating()], true), Some(60), "its guest tells first, if it tells anything");
    let heard = next(registering(), guest(Report::Booted), 5);
    assert_eq!(shows([heard], false), Some(180), "and so does one that has reported");
    let heard = next(idle(), guest(Report::RunnerStarted), 5);
    assert_eq!(shows([heard], true), None);
    assert_eq!(shows([idle()], true), Some(10), "a guest that was never heard may be mute");
    assert_eq!(shows([idle()], false), Some(10), "nobody else says when it has a job");
    assert_eq!(shows([deleting()], true), Some(20), "its registration goes by itself");
    assert_eq!(shows([draining()], false), Some(10), "what shows it quiet is awaited");
    assert_eq!(Roster::default().forge_shows_from(&limits(), at(10)), Some(at(10)));
}

#[test]
fn that_a_vm_is_not_there_is_awaited_by_whoever_never_knew_of_one_or_misses_it() {
    let awaited = |states: &[State]| listed(states.iter().cloned()).absence_awaited();
    assert!(!awaited(&[creating(), registering(), idle(), busy(), deleting()]));
    let missed = next(busy(), seen(Sighting::Absent, Sighting::Unknown, 70), 70);
    assert!(awaited(&[missed]), "a list lacks it");
    assert!(
        awaited(&[adopt(None, Some(there(false)), at(0))]),
        "an earlier daemon may have ordered it"
    );
}
