//! Drains at their turns: what takes one back, what does not, and what each step waits for.

use std::time::Duration;

use runner_fleet_actors::{
    event::{DrainReason, JobEnd, Phase},
    port::{Deletion, ErrorClass, PortError, VmStatus},
    runner::{Answer, Effect, Event, Limits, Report, Sighting, State, Step, adopt},
};

use crate::lives::*;

/// A shrink whose VM two lists lack: what is left of it is its registration.
fn vanished_while_shrinking() -> State {
    run(idle(), [(10, shrinks()), (20, no_vm(20)), (80, no_vm(80))])
}

/// Without a job, when its VM vanished: the same.
fn vanished() -> State {
    run(idle(), [(20, no_vm(20)), (80, no_vm(80))])
}

/// Over by the word of lists and of a look-up, which found nothing. Since second 81.
fn inferred() -> State {
    run(busy(), [(20, no_registration(20)), (80, no_registration(80)), (81, found(None, None))])
}

#[test]
fn an_end_that_was_only_inferred_is_taken_back_by_whoever_says_that_a_job_begins() {
    assert_eq!(drain(&inferred()).step, Step::Settle);
    assert_eq!(next(inferred(), guest_begins(), 90).phase(), Phase::Busy);
}

#[test]
fn an_end_that_the_forge_told_is_not_taken_back() {
    let told = run(
        busy(),
        [(20, no_registration(20)), (80, no_registration(80)), (81, found(None, Some(false)))],
    );
    assert!(drain(&told).job_end.is_none() && drain(&told).forge_knows);
    assert_eq!(next(told, guest_begins(), 90).phase(), Phase::Draining);
}

#[test]
fn an_end_that_the_guest_told_is_not_taken_back_by_a_list_or_a_look_up() {
    let over = run(busy(), [(12, guest_begins()), (20, guest_ends())]);
    assert_eq!(next(over.clone(), of_forge(true, 25), 25).phase(), Phase::Draining);
    let unlisted = run(over, [(30, no_registration(30))]);
    let (asked, effects) = step(unlisted, no_registration(95), 95);
    assert_eq!(effects, [Effect::LookUp], "whether anybody is there to be told the job's end");
    let at_work = next(asked, found(Some(there(true)), None), 96);
    assert_eq!(at_work.phase(), Phase::Draining, "its own guest knows best");
}

#[test]
fn a_drain_that_the_forge_knows_of_looks_nothing_up() {
    let patient = Limits { settle: Duration::from_secs(300), ..limits() };
    let mut state = busy();
    for (second, event) in [(20, ends()), (30, no_registration(30)), (95, no_registration(95))] {
        let (after, effects) = state.next(event, at(second), &patient);
        assert_eq!(effects, [], "at {second}");
        state = after;
    }
}

#[test]
fn a_job_that_ended_under_a_drain_is_not_begun_by_a_late_word() {
    let settles =
        run(reporting(), [(10, shrinks()), (11, stands_down()), (12, deregistered(Ok(())))]);
    assert_eq!(drain(&settles).step, Step::Settle);
    assert_eq!(next(settles.clone(), begins(Some(7)), 14).phase(), Phase::Busy);
    let ended = next(settles, guest_ends(), 13);
    assert_eq!(ended.reason(), Some(&DrainReason::Shrink));
    assert_eq!(next(ended, begins(Some(7)), 14).phase(), Phase::Draining);
}

#[test]
fn whom_the_cloud_lacks_for_long_is_not_taken_back_by_a_word_that_comes_late() {
    let gone = vanished_while_shrinking();
    assert!(drain(&gone).vm_gone);
    assert_eq!(next(gone, begins(Some(7)), 85).phase(), Phase::Draining);
}

#[test]
fn a_vm_that_no_host_took_runs_no_job_whatever_is_said() {
    let class = ErrorClass::NoCapacity;
    let refused =
        next(launched(), of_cloud(VmStatus::Error { class, fault: "no host".into() }, 40), 40);
    assert_eq!(drain(&refused).step, Step::Delete);
    assert_eq!(next(refused, begins(Some(7)), 41).phase(), Phase::Draining);
}

#[test]
fn asking_and_deregistering_have_one_clock_and_one_count_of_failures() {
    let asked = run(reporting(), [(10, shrinks()), (20, stands_down())]);
    let failed = next(asked, deregistered(Err(no_answer())), 21);
    assert_eq!((drain(&failed).step, drain(&failed).tries), (Step::Ask, 1));
    let again = run(failed, [(30, Event::Tick), (31, stands_down())]);
    let again = (drain(&again).step, drain(&again).tries, drain(&again).step_since);
    assert_eq!(again, (Step::Deregister, 1, at(10)));
}

#[test]
fn each_other_step_begins_anew() {
    let forced = run(idle(), [(10, Event::Force), (11, vm_deleted(Deletion::Accepted))]);
    assert_eq!(drain(&forced).tries, 1);
    let gone = run(forced, [(40, Event::Tick), (41, vm_deleted(Deletion::Gone))]);
    let gone = drain(&gone);
    assert_eq!((gone.step, gone.tries, gone.step_since), (Step::Deregister, 0, at(41)));
    let settles =
        run(reporting(), [(10, shrinks()), (20, stands_down()), (21, deregistered(Ok(())))]);
    assert_eq!((drain(&settles).step, drain(&settles).step_since), (Step::Settle, at(21)));
    let orphan = adopt(None, Some(there(false)), at(0));
    let alone = run(orphan, [(40, no_vm(40)), (100, no_vm(100))]);
    assert_eq!((drain(&alone).step, drain(&alone).step_since), (Step::Deregister, at(100)));
}

#[test]
fn of_a_vm_that_vanished_two_lists_without_its_registration_leave_nothing() {
    let once = next(vanished(), no_registration(90), 90);
    assert_eq!(once.phase(), Phase::Draining);
    let gone = next(once, no_registration(95), 95);
    assert_eq!((gone.phase(), gone.reason()), (Phase::Deleted, Some(&DrainReason::VmVanished)));
}

#[test]
fn a_registration_that_was_removed_is_there_again_only_in_a_newer_list() {
    let removed =
        run(reporting(), [(10, shrinks()), (20, stands_down()), (21, deregistered(Ok(())))]);
    let shown =
        |second| drain(&next(removed.clone(), of_forge(false, second), 25)).registration_gone;
    assert_eq!((shown(21), shown(22)), (true, false));
}

#[test]
fn a_registration_without_a_vm_waits_for_the_cloud_and_is_no_orphan_where_that_shows_one() {
    let orphan = adopt(None, Some(there(false)), at(0));
    assert_eq!(orphan.reason(), Some(&DrainReason::Orphan));
    for status in [VmStatus::Active, VmStatus::Building] {
        assert_eq!(next(orphan.clone(), of_cloud(status, 20), 20).phase(), Phase::Idle);
    }
}

#[test]
fn where_there_is_no_vm_a_failed_deregistration_is_tried_again_and_nobody_is_asked() {
    let (failed, effects) = step(vanished(), deregistered(Err(no_answer())), 81);
    assert_eq!((drain(&failed).step, drain(&failed).tries, effects), (Step::Deregister, 1, vec![]));
}

/// The forge's word of the end is contradicted by a listing, and looked up. Since second 20.
fn contradicted() -> State {
    let (asked, effects) = step(next(busy(), ends(), 20), of_forge(true, 25), 25);
    assert_eq!(effects, [Effect::LookUp]);
    asked
}

#[test]
fn a_contradicted_end_is_taken_back_by_a_look_up_that_can_know_unless_the_guest_has_ended() {
    let at_work = || found(Some(there(true)), None);
    assert_eq!(next(contradicted(), at_work(), 49).phase(), Phase::Draining, "it may lag");
    assert_eq!(next(contradicted(), at_work(), 50).phase(), Phase::Busy);
    let stopped = next(contradicted(), guest(Report::Stopped(JobEnd::default())), 30);
    assert_eq!(next(stopped, at_work(), 50).phase(), Phase::Draining);
}

#[test]
fn an_answer_that_comes_twice_brings_nobody_back_whose_registration_is_gone() {
    let looked_up = run(
        idle(),
        [
            (10, shrinks()),
            (20, no_registration(20)),
            (50, no_registration(50)),
            (110, no_registration(110)),
            (111, found(Some(there(false)), None)),
            (112, cordoned(Ok(()))),
            (210, no_registration(210)),
            (211, deregistered(Ok(()))),
        ],
    );
    assert_eq!(drain(&looked_up).step, Step::Settle);
    assert_eq!(next(looked_up, found(Some(there(true)), None), 212).phase(), Phase::Draining);
}

#[test]
fn a_guest_that_can_answer_is_asked_however_long_lists_have_shown_it_quiet() {
    let quiet = run(reporting(), (100..2000).step_by(100).map(|now| (now, of_forge(false, now))));
    let (asked, effects) = step(quiet, shrinks(), 2000);
    assert_eq!(effects, [Effect::StandDown]);
    let failed = next(asked, Event::Answered(Answer::StoodDown(Err(no_answer()))), 2001);
    let listed = next(failed, of_forge(false, 2500), 2500);
    assert_eq!(drain(&listed).step, Step::Ask, "for a quarter of an hour");
}

#[test]
fn a_mute_runner_that_no_look_up_tells_of_is_cordoned_when_the_asking_ends() {
    let unlisted = run(
        idle(),
        [
            (10, shrinks()),
            (20, no_registration(20)),
            (50, no_registration(50)),
            (110, no_registration(110)),
            (111, not_looked_up()),
        ],
    );
    assert_eq!(step(unlisted.clone(), Event::Tick, 909).1, [Effect::LookUp]);
    let given_up = next(unlisted.clone(), Event::Tick, 910);
    assert_eq!(given_up.phase(), Phase::Idle, "nobody has listed for long");
    let unlisted = run(unlisted, [(850, no_registration(850)), (851, not_looked_up())]);
    assert_eq!(step(unlisted, Event::Tick, 910).1, [Effect::Cordon]);
}

#[test]
fn nobody_is_looked_up_whose_vm_is_off() {
    let unlisted =
        run(idle(), [(10, shrinks()), (20, no_registration(20)), (50, no_registration(50))]);
    let off = seen(Sighting::Seen(vm(VmStatus::Stopped)), Sighting::Absent, 110);
    assert_eq!(step(unlisted, off, 110).1, [Effect::DeleteVm]);
}

#[test]
fn the_vm_of_a_job_whose_end_the_forge_does_not_know_is_left_its_last_words() {
    let settles = |events: Vec<(u64, Event)>, second: u64| {
        let state = run(busy(), events);
        drain(&state).due - at(second)
    };
    let (long, short) = (limits().last_words, limits().settle);
    let is = |due: chrono::TimeDelta, wanted: Duration| assert_eq!(due.to_std(), Ok(wanted));
    is(settles(vec![(20, guest_ends())], 20), long);
    is(settles(vec![(20, ends())], 20), short);
    is(settles(vec![(12, guest_begins()), (20, guest_ends()), (22, ends())], 20), short);
}

#[test]
fn a_shrink_whose_registration_shows_again_is_left_no_longer_for_it() {
    let removed = run(
        reporting(),
        [
            (10, shrinks()),
            (20, stands_down()),
            (21, deregistered(Ok(()))),
            (25, of_forge(false, 25)),
        ],
    );
    assert!(!drain(&removed).registration_gone);
    assert_eq!(drain(&removed).due, at(21) + limits().settle);
}

#[test]
fn an_old_doubt_wakes_no_drain_that_waits_for_the_forge() {
    let until = at(5000);
    let limited = PortError::certain(ErrorClass::RateLimited { until }, "slow down");
    let waits = run(
        idle(),
        [
            (10, shrinks()),
            (20, no_registration(20)),
            (50, no_registration(50)),
            (110, no_registration(110)),
            (111, found(Some(there(false)), None)),
            (112, cordoned(Ok(()))),
            (210, no_registration(210)),
            (211, deregistered(Err(limited))),
        ],
    );
    assert!(waits.known().unwrap().doubt.is_some());
    assert_eq!(waits.deadline(&limits()), Some(drain(&waits).due));
}
