//! What a pool makes of its runners' transitions and of listings: places taken, names that nobody owns,
//! lists that lack too much.

use std::sync::Arc;

use runner_fleet_actors::{
    event::{DrainReason, Phase},
    name::{RegistrationId, RunnerName},
    pool::{Roster, Survey, Surveyed},
    port::{Listing, Registration, Vm, VmStatus},
    runner::{Observation, Sighting, State},
};

use crate::given::{at, busy, draining, idle, name, registering, vm};

fn deleted(second: u64) -> State {
    State::Deleted { since: at(second), reason: DrainReason::Finished }
}

fn registration(number: u64) -> Registration {
    Registration {
        name: name(number),
        id: RegistrationId(number),
        online: true,
        busy: None,
        cordoned: None,
    }
}

fn listing<T>(entries: Vec<T>, complete: bool, second: u64) -> Option<Arc<Listing<T>>> {
    Some(Arc::new(Listing { entries, complete, as_of: at(second), faults: vec![] }))
}

/// The running VMs of these numbers, as the cloud lists them.
fn vms(numbers: &[u64], complete: bool, second: u64) -> Option<Arc<Listing<Vm>>> {
    let entries = numbers.iter().map(|number| vm(name(*number), VmStatus::Active)).collect();
    listing(entries, complete, second)
}

fn forges(numbers: &[u64], complete: bool, second: u64) -> Option<Arc<Listing<Registration>>> {
    listing(numbers.iter().map(|number| registration(*number)).collect(), complete, second)
}

fn survey(
    roster: &mut Roster,
    vms: Option<Arc<Listing<Vm>>>,
    registrations: Option<Arc<Listing<Registration>>>,
    second: u64,
) -> Surveyed {
    roster.survey(
        &"linux".parse().unwrap(),
        &Survey { vms, registrations, ..Survey::default() },
        at(second),
    )
}

fn adopted(surveyed: &Surveyed) -> Vec<RunnerName> {
    surveyed.adopt.iter().map(|(name, _)| name.clone()).collect()
}

/// Runners with the numbers 1, 2, ….
fn roster(states: impl IntoIterator<Item = State>) -> Roster {
    let mut roster = Roster::default();
    for (number, state) in (1..).zip(states) {
        roster.transitioned(&name(number), state, at(number));
    }
    roster
}

#[test]
fn a_roster_says_what_is_in_it() {
    let mut two = roster([idle(), busy()]);
    assert!(!two.is_empty() && two.expects_change(), "one is not idle");
    assert_eq!(two.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), [name(1), name(2)]);
    assert!(!roster([idle(), idle()]).expects_change());
    assert!(roster([]).is_empty() && !roster([]).expects_change());
    let handed = two.hand_to_orphans(&name(2)).unwrap();
    assert_eq!((handed.state.phase(), two.get(&name(2)).is_none()), (Phase::Busy, true));
    assert!(two.hand_to_orphans(&name(2)).is_none());
    assert_eq!((two.vms(), two.live()), (1, 1));
}

#[test]
fn a_name_that_nobody_owns_is_adopted_once_whichever_sides_show_it() {
    let mut one = roster([idle()]);
    let other = vm("ci--other--000000000009".parse().unwrap(), VmStatus::Active);
    let mut both = vms(&[1, 2], true, 10);
    Arc::get_mut(both.as_mut().unwrap()).unwrap().entries.push(other);
    let found = survey(&mut one, both, forges(&[1, 2, 3], true, 10), 10);
    assert_eq!(adopted(&found), [name(2), name(3)], "not its own, not another pool's");
    assert_eq!(found.adopt[0].1.phase(), Phase::Idle, "both sides show it");
    assert_eq!(found.adopt[1].1.reason(), Some(&DrainReason::Orphan), "it has no VM");
    assert_eq!(one.vms(), 1, "who is adopted counts from then on");
}

#[test]
fn a_registration_alone_is_no_orphan_before_the_cloud_was_seen_whole() {
    let mut none = roster([]);
    assert_eq!(adopted(&survey(&mut none, None, forges(&[1], true, 10), 10)), []);
    let partial = survey(&mut none, vms(&[], false, 20), forges(&[1], true, 20), 20);
    assert_eq!(adopted(&partial), []);
    let whole = survey(&mut none, vms(&[], true, 30), forges(&[1], true, 30), 30);
    assert_eq!(adopted(&whole), [name(1)]);
}

#[test]
fn the_dead_are_not_raised_by_a_list_that_cannot_know_of_their_end() {
    for (second, raised) in [(130, 0), (131, 1)] {
        let mut one = roster([idle()]);
        one.transitioned(&name(1), deleted(100), at(100));
        let shown = survey(&mut one, vms(&[1], true, second), None, second);
        assert_eq!(shown.adopt.len(), raised, "at {second}");
    }
}

#[test]
fn a_vm_that_is_listed_after_its_runners_end_takes_a_place_until_two_whole_lists_lack_it() {
    let mut one = roster([idle()]);
    one.transitioned(&name(1), deleted(100), at(100));
    survey(&mut one, vms(&[1], true, 100), None, 100);
    assert_eq!(one.vms(), 0, "that list began before its end");
    survey(&mut one, vms(&[1], true, 101), None, 101);
    assert_eq!(one.vms(), 1);
    survey(&mut one, vms(&[], true, 102), None, 102);
    survey(&mut one, vms(&[], false, 103), None, 103);
    assert_eq!(one.vms(), 1, "one whole list, and one that is partial");
    let mut shown = one.clone();
    survey(&mut one, vms(&[], true, 104), None, 104);
    assert_eq!(one.vms(), 0);
    survey(&mut shown, vms(&[1], true, 105), None, 105);
    survey(&mut shown, vms(&[], true, 106), None, 106);
    assert_eq!(shown.vms(), 1, "shown again, it is to be lacked twice again");
}

#[test]
fn a_vm_that_is_adopted_again_takes_one_place() {
    let mut one = roster([idle()]);
    one.transitioned(&name(1), deleted(100), at(100));
    let found = survey(&mut one, vms(&[1], true, 200), None, 200);
    assert_eq!((found.adopt.len(), one.vms()), (1, 1));
    one.transitioned(&name(1), registering(), at(200));
    assert_eq!(one.vms(), 1);
}

#[test]
fn a_deleted_name_is_remembered_for_a_quarter_of_an_hour() {
    let places = |forgets: u64| {
        let mut two = roster([idle(), idle()]);
        two.transitioned(&name(1), deleted(100), at(100));
        two.transitioned(&name(2), deleted(forgets), at(forgets));
        survey(&mut two, vms(&[1], true, 1100), None, 1100);
        two.vms()
    };
    assert_eq!(places(100 + 899), 1);
    assert_eq!(places(100 + 900), 0, "it is adopted as anybody is");
}

fn sightings(surveyed: &Surveyed) -> Vec<(bool, bool)> {
    let absent =
        |seen: &Observation| (seen.vm == Sighting::Absent, seen.registration == Sighting::Absent);
    surveyed.observe.iter().map(|(_, seen)| absent(seen)).collect()
}

#[test]
fn what_a_partial_list_lacks_is_unknown_and_what_a_whole_one_lacks_is_absent() {
    let mut one = roster([idle()]);
    let seen = survey(&mut one, vms(&[], false, 10), forges(&[], false, 10), 10);
    assert_eq!(
        (sightings(&seen), one.cloud_whole, one.forge_whole),
        (vec![(false, false)], false, false)
    );
    let seen = survey(&mut one, vms(&[], true, 20), forges(&[], true, 20), 20);
    assert_eq!(
        (sightings(&seen), one.cloud_whole, one.forge_whole),
        (vec![(true, true)], true, true)
    );
    assert_eq!((one.cloud_seen, one.forge_seen), (Some(at(20)), Some(at(20))));
}

#[test]
fn a_list_that_began_no_later_than_the_last_is_no_news() {
    let mut one = roster([idle()]);
    survey(&mut one, vms(&[1], true, 20), forges(&[1], true, 20), 20);
    for second in [19, 20] {
        survey(&mut one, vms(&[], false, second), forges(&[], false, second), 21);
        assert!(one.cloud_whole && one.forge_whole);
    }
}

#[test]
fn a_list_that_lacks_all_that_the_other_side_shows_at_work_proves_nothing() {
    let seen_by_both = || {
        let mut two = roster([busy(), busy(), draining()]);
        survey(&mut two, vms(&[1, 2, 3], true, 10), forges(&[1, 2, 3], true, 10), 10);
        two
    };
    let mut two = seen_by_both();
    let seen = survey(&mut two, vms(&[], true, 20), forges(&[1, 2, 3], true, 20), 20);
    assert_eq!((sightings(&seen), two.cloud_whole), (vec![(false, false); 3], false));
    let mut two = seen_by_both();
    let seen = survey(&mut two, vms(&[1, 2, 3], true, 20), forges(&[], true, 20), 20);
    let of_one_that_goes = (false, true);
    let lacks = [(false, false), (false, false), of_one_that_goes];
    assert_eq!((sightings(&seen), two.forge_whole), (lacks.to_vec(), false));
    let mut two = seen_by_both();
    let seen = survey(&mut two, vms(&[2, 3], true, 20), forges(&[1, 2, 3], true, 20), 20);
    assert_eq!((sightings(&seen)[0], two.cloud_whole), ((true, false), true), "one that is gone");
}

#[test]
fn whoever_is_on_the_way_out_is_missed_by_nobody() {
    let mut three = roster([busy(), draining(), draining()]);
    survey(&mut three, vms(&[1, 2, 3], true, 10), forges(&[1, 2, 3], true, 10), 10);
    let seen = survey(&mut three, vms(&[1], true, 20), forges(&[1, 2, 3], true, 20), 20);
    assert_eq!(sightings(&seen), [(false, false), (true, false), (true, false)]);
    assert!(three.cloud_whole);
}

#[test]
fn a_partial_list_between_makes_nobody_forgotten_that_was_at_work() {
    for of_cloud in [true, false] {
        let mut two = roster([busy(), busy()]);
        survey(&mut two, vms(&[1, 2], true, 10), forges(&[1, 2], true, 10), 10);
        let shows = |numbers: &[u64], complete, second| {
            let all = [1, 2];
            let (cloud, forge) = if of_cloud { (numbers, &all[..]) } else { (&all[..], numbers) };
            let (of_vms, of_forge) = (complete || !of_cloud, complete || of_cloud);
            (vms(cloud, of_vms, second), forges(forge, of_forge, second))
        };
        for (complete, second) in [(false, 20), (true, 30)] {
            let (vms, forges) = shows(&[], complete, second);
            let seen = survey(&mut two, vms, forges, second);
            assert_eq!(sightings(&seen), [(false, false); 2], "{of_cloud} {second}");
        }
        assert!(!(two.cloud_whole && two.forge_whole));
    }
}

#[test]
fn one_that_a_whole_list_lacked_is_not_expected_of_the_next() {
    let mut two = roster([busy(), busy()]);
    survey(&mut two, vms(&[1, 2], true, 10), forges(&[1, 2], true, 10), 10);
    survey(&mut two, vms(&[2], true, 20), forges(&[1, 2], true, 20), 20);
    let seen = survey(&mut two, vms(&[], true, 30), forges(&[1, 2], true, 30), 30);
    assert_eq!(sightings(&seen), [(true, false); 2], "one, and then another, are not many at once");
    let mut two = roster([busy(), busy()]);
    survey(&mut two, vms(&[1, 2], true, 10), forges(&[1, 2], true, 10), 10);
    survey(&mut two, vms(&[1, 2], true, 20), forges(&[2], true, 20), 20);
    let seen = survey(&mut two, vms(&[1, 2], true, 30), forges(&[], true, 30), 30);
    assert_eq!(sightings(&seen), [(false, true); 2]);
}
