#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;

use super::*;

fn at(minutes: i64) -> Time {
    Time::from_timestamp(1_800_000_000 + 60 * minutes, 0).unwrap()
}

fn delivery(id: u64, guid: &str, minutes: i64, status_code: i64) -> Delivery {
    Delivery {
        id,
        guid: guid.to_owned(),
        delivered_at: at(minutes),
        status_code,
        event: "workflow_job".to_owned(),
    }
}

#[test]
fn what_never_arrived_is_asked_for_once_the_oldest_first() {
    let logged = [
        delivery(9, "b", 9, 503),
        delivery(8, "a", 8, 0),
        delivery(7, "c", 7, 200),
        delivery(6, "b", 6, 502),
        delivery(5, "old", 1, 500),
    ];
    let asked = lost(&logged, at(5), &BTreeMap::new());
    assert_eq!(asked, [("a".to_owned(), 8), ("b".to_owned(), 9)]);
}

#[test]
fn what_arrived_in_any_attempt_and_other_events_are_left_alone() {
    let mut other = delivery(3, "push", 3, 500);
    other.event = "push".to_owned();
    let logged = [delivery(2, "a", 2, 200), delivery(1, "a", 1, 500), other];
    assert_eq!(lost(&logged, at(0), &BTreeMap::new()), []);
}

#[test]
fn a_delivery_that_is_refused_again_and_again_is_given_up() {
    let logged = [delivery(1, "a", 1, 422)];
    let after = |asked, failed| {
        let tries = Tries::from([("a".to_owned(), Tried { asked, failed })]);
        lost(&logged, at(0), &tries).len()
    };
    assert_eq!((after(2, 9), after(3, 0), after(0, 10)), (1, 0, 0));
}

#[test]
fn looks_overlap_and_reach_back_over_the_time_in_which_nobody_looked() {
    let now = at(10_000);
    assert_eq!(since(None, now), now - FIRST_LOOK);
    let period = Pace::default().period;
    assert!(since(Some(now - period), now) <= now - period - OVERLAP);
    assert_eq!(since(Some(at(0)), now), now - LOGGED, "GitHub has no more than that");
}

#[test]
fn what_was_asked_for_in_vain_is_asked_for_after_the_rest() {
    let logged = [delivery(2, "a", 2, 500), delivery(1, "refused", 1, 500)];
    let tries = Tries::from([("refused".to_owned(), Tried { asked: 0, failed: 1 })]);
    assert_eq!(lost(&logged, at(0), &tries), [("a".to_owned(), 2), ("refused".to_owned(), 1)]);
}

fn follows(failures: u32, sure: bool, minutes: u64) -> Next {
    let since_start = Duration::from_secs(60 * minutes);
    after(Looks { failures, sure, since_start }, Pace::default())
}

#[test]
fn demand_is_all_there_is_once_what_was_asked_for_again_has_had_time_to_arrive() {
    let pace = Pace::default();
    let whole = Next { sure_in: Some(pace.arrival), pause: pace.period };
    assert_eq!(follows(0, false, 0), whole);
    assert_eq!(follows(0, true, 10), Next { sure_in: None, pause: pace.period });
}

#[test]
fn where_no_look_is_possible_demand_is_all_there_is_after_five_minutes() {
    for failures in 1..20 {
        let early = follows(failures, false, 4);
        assert_eq!(early.sure_in, None);
        assert!(early.pause <= Duration::from_secs(300), "{early:?}");
        assert_eq!(follows(failures, false, 5).sure_in, Some(Duration::ZERO));
        assert_eq!(follows(failures, true, 60).sure_in, None, "said once");
    }
}

#[test]
fn looks_that_fail_come_less_and_less_often_and_never_stop() {
    let pauses: Vec<_> = (1..12).map(|failures| follows(failures, true, 60).pause).collect();
    assert!(pauses[0] <= Duration::from_secs(20), "{pauses:?}");
    assert!(pauses[10] > pauses[0] * 8, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(600)), "{pauses:?}");
}

proptest! {
    #[test]
    fn no_delivery_is_forgotten_and_none_is_asked_for_twice_at_once(
        attempts in proptest::collection::vec((0..6_u8, 0..100_i64, prop_oneof![Just(200), Just(500)]), 0..40)
    ) {
        let logged: Vec<_> = attempts
            .iter()
            .zip(1..)
            .map(|((guid, minutes, status), id)| delivery(id, &guid.to_string(), *minutes, *status))
            .collect();
        let asked = lost(&logged, at(0), &BTreeMap::new());
        let guids: BTreeSet<_> = asked.iter().map(|(guid, _)| guid.clone()).collect();
        prop_assert_eq!(guids.len(), asked.len());
        for delivery in &logged {
            let arrived = logged.iter().any(|d| d.guid == delivery.guid && d.arrived());
            prop_assert_eq!(guids.contains(&delivery.guid), !arrived);
        }
    }
}

#[test]
fn three_thousand_doubtful_jobs_cost_a_small_part_of_githubs_hour() {
    let begin: Time = "2026-11-28T00:00:00Z".parse().unwrap();
    let turn = Pace::default().turn;
    let (mut purse, mut asked) = (LookUps::of_jobs(begin), 0);
    for second in 0..3600 {
        asked += purse.take(3000, turn, begin + Duration::from_secs(second));
    }
    assert!((350..=400).contains(&asked), "{asked}");
    let (mut purse, mut asked) = (LookUps::of_hooks(begin), 0);
    for second in 0..3600 {
        asked += purse.take(1500, turn, begin + Duration::from_secs(second));
    }
    assert!((30..=40).contains(&asked), "{asked}");
    // A clock that goes back brings nothing, and costs nothing.
    assert_eq!(purse.take(0, turn, begin), 0);
    assert!(purse.take(9, turn, begin + Duration::from_secs(240)) >= 1);
}

#[test]
fn the_newest_doubt_goes_first_and_the_oldest_is_not_left_for_ever() {
    let due: Vec<u32> = (0..100).collect();
    assert_eq!(chosen(&due, 10, 0), [99, 98, 97, 96, 95, 94, 93, 92, 0, 1]);
    assert_eq!(chosen(&due, 3, 0), [99, 98, 97]);
    assert_eq!(chosen(&due, 0, 4), [0; 0]);
    let mut all = chosen(&due, 500, 0);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 100, "each once");
}

#[test]
fn where_each_turn_has_one_look_up_each_fifth_is_of_the_oldest() {
    let begin: Time = "2026-11-28T00:00:00Z".parse().unwrap();
    let turn = Pace::default().turn;
    let (due, mut purse) = ((0..100).collect::<Vec<u32>>(), LookUps::of_jobs(begin));
    let (mut oldest, mut all) = (0, 0);
    // What may be made at once, and then one each ten seconds.
    for turns in 0..100 {
        let made = purse.made();
        let may = purse.take(1, turn, begin + turn * turns);
        let asked = chosen(&due, may, made);
        assert_eq!(asked.len(), may);
        all += asked.len();
        oldest += asked.iter().filter(|job| **job == 0).count();
    }
    assert!(all >= 50, "{all}");
    assert_eq!(oldest, all / 5);
}
