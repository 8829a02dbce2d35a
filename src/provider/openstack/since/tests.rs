use super::*;

fn at(seconds: i64) -> Time {
    chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn stamp(vm: &str, seconds: i64) -> Stamp {
    let vm = VmId::told(vm).unwrap();
    Stamp { vm, updated: at(seconds), settled: true, deleted: false }
}

/// A cloud whose clock shows 1000, and that has shown two VMs.
fn known() -> Since {
    let mut since = Since::default();
    since.listed(vec![stamp("a", 500), stamp("b", 990)], Some(at(1000)), at(0));
    since
}

#[test]
fn nothing_is_asked_before_the_cloud_has_shown_a_time_of_its_own() {
    let mut since = Since::default();
    assert_eq!(since.question(at(0)), None);
    since.listed(vec![], None, at(0));
    assert_eq!(since.question(at(0)), None);
    since.listed(vec![], Some(at(1000)), at(0));
    assert_eq!(since.question(at(0)), Some(at(990)), "whatever our own clock says");
}

#[test]
fn the_question_overlaps_what_is_known_by_whichever_clock_is_behind() {
    assert_eq!(known().question(at(0)), Some(at(980)));
    let mut behind = Since::default();
    behind.listed(vec![stamp("a", 1000)], Some(at(980)), at(0));
    assert_eq!(behind.question(at(0)), Some(at(970)));
    let mut wrong = Since::default();
    wrong.listed(vec![stamp("a", 1000)], Some(at(-7200)), at(0));
    assert_eq!(wrong.question(at(0)), Some(at(990)), "hours apart, one of two clocks is wrong");
    let mut dateless = Since::default();
    dateless.listed(vec![stamp("a", 1000)], None, at(0));
    assert_eq!(dateless.question(at(0)), Some(at(990)));
}

#[test]
fn an_answer_that_repeats_what_is_known_is_believed_and_moves_the_question_on() {
    let mut since = known();
    since.told(&[stamp("b", 990), stamp("a", 1005)], Some(at(1006)), at(980), at(6)).unwrap();
    assert_eq!(since.question(at(6)), Some(at(995)));
    let ended = Stamp { deleted: true, ..stamp("a", 1010) };
    since.told(&[ended], Some(at(1011)), at(995), at(11)).unwrap();
    assert_eq!(since.question(at(11)), Some(at(1000)));
    since.told(&[], Some(at(1020)), at(1000), at(20)).unwrap();
}

#[test]
fn an_answer_that_lacks_what_it_must_repeat_is_not_believed_and_the_third_one_ends_the_asking() {
    let mut since = known();
    let lies: [&[Stamp]; 3] = [&[], &[stamp("c", 1001)], &[stamp("b", 985)]];
    for lie in lies {
        assert_eq!(since.question(at(0)), Some(at(980)));
        since.told(lie, Some(at(1003)), at(980), at(0)).unwrap_err();
    }
    assert_eq!(since.question(at(0)), None);
    since.listed(vec![stamp("a", 500), stamp("b", 990)], Some(at(1000)), at(0));
    assert_eq!(since.question(at(599)), None);
    assert!(since.question(at(600)).is_some(), "then it is tried again");
}

#[test]
fn a_cloud_that_tells_what_had_not_changed_does_not_heed_the_question() {
    let mut since = known();
    let why = since.told(&[stamp("a", 500), stamp("b", 990)], None, at(980), at(0)).unwrap_err();
    assert!(why.contains("not heeded"), "{why}");
    assert_eq!(since.question(at(0)), None);
}

#[test]
fn a_change_that_only_a_listing_shows_widens_the_overlap_and_clocks_minutes_apart_end_the_asking() {
    let mut since = known();
    since.told(&[stamp("b", 990)], Some(at(1003)), at(980), at(3)).unwrap();
    since.listed(vec![stamp("a", 950), stamp("b", 990)], Some(at(1030)), at(30));
    assert_eq!(since.question(at(30)), Some(at(940)), "one host is half a minute behind");
    since.told(&[stamp("b", 990), stamp("a", 950)], Some(at(1033)), at(940), at(33)).unwrap();
    let mut since = known();
    since.told(&[stamp("b", 990)], Some(at(1003)), at(980), at(3)).unwrap();
    since.listed(vec![stamp("a", 600), stamp("b", 990)], Some(at(1030)), at(60));
    assert_eq!(since.question(at(60)), None);
}

#[test]
fn a_vm_in_build_need_not_be_repeated() {
    let mut since = known();
    let building = Stamp { settled: false, ..stamp("c", 1000) };
    since.listed(vec![stamp("b", 990), building], Some(at(1000)), at(0));
    since.told(&[stamp("b", 990)], Some(at(1003)), at(980), at(3)).unwrap();
}

#[test]
fn failures_in_a_row_end_the_asking_for_a_while() {
    let mut since = known();
    since.doubt(at(0), "500");
    since.doubt(at(3), "500");
    since.told(&[stamp("b", 990)], None, at(980), at(6)).unwrap();
    since.doubt(at(9), "500");
    since.doubt(at(12), "500");
    assert!(since.question(at(12)).is_some());
    since.doubt(at(15), "500");
    assert_eq!(since.question(at(15)), None);
}
