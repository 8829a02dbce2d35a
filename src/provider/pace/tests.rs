use std::{cmp::Reverse, collections::BinaryHeap};

use super::*;

fn at(millis: u64) -> Time {
    Time::from_timestamp_millis(1_800_000_000_000 + i64::try_from(millis).unwrap()).unwrap()
}

/// A cloud that works on so many calls at a time, each for so long, lets others wait, and refuses
/// what is beyond `room`.
struct Cloud {
    workers: usize,
    millis: u64,
    room: usize,
}

struct Run {
    took: u64,
    refused: usize,
    most: usize,
}

/// Makes `wanted` launches as quickly as the pace lets it; what is refused is asked for again.
fn run(pace: &mut Pace, cloud: &Cloud, wanted: usize, begin: u64) -> Run {
    let mut now = begin;
    let mut free: BinaryHeap<Reverse<u64>> = (0..cloud.workers).map(|_| Reverse(begin)).collect();
    // When it ends, when it began, whether it was refused.
    let mut under_way: BinaryHeap<Reverse<(u64, u64, bool)>> = BinaryHeap::new();
    let (mut done, mut inside) = (0, 0);
    let mut run = Run { took: 0, refused: 0, most: 0 };
    while done < wanted {
        while done + under_way.len() < wanted && pace.enter(Kind::Launch) {
            if inside >= cloud.room {
                under_way.push(Reverse((now + 5, now, true)));
                continue;
            }
            inside += 1;
            let Reverse(worker) = free.pop().unwrap();
            let end = worker.max(now) + cloud.millis;
            free.push(Reverse(end));
            under_way.push(Reverse((end, now, false)));
        }
        run.most = run.most.max(under_way.len());
        let Reverse((end, began, refused)) = under_way.pop().expect("it never stands still");
        now = end;
        let outcome = if refused { Outcome::TooMuch } else { Outcome::Done };
        pace.learn(Kind::Launch, at(began), at(now), outcome);
        pace.leave(Kind::Launch);
        if refused {
            run.refused += 1;
        } else {
            inside -= 1;
            done += 1;
        }
    }
    run.took = now - begin;
    run
}

#[test]
fn a_clouds_capacity_is_found_within_a_fifth_with_few_refusals() {
    let (all, wanted) = (usize::MAX, 3000);
    for (workers, millis, room) in [
        (4, 200, all),
        (16, 300, all),
        (64, 150, all),
        (100, 1000, all),
        (150, 400, all),
        (20, 500, 20),
        (40, 200, 60),
        (60, 1000, 60),
        (120, 300, 130),
    ] {
        let mut pace = Pace::new(MOST);
        let cloud = Cloud { workers, millis, room };
        let Run { took, refused, most } = run(&mut pace, &cloud, wanted, 0);
        let best = wanted as u64 * millis / workers as u64;
        let what =
            format!("{workers} workers of {millis} ms, room for {room}: {took} of {best} ms");
        assert!(took * 4 <= best * 5, "{what}");
        assert!(refused * 50 <= wanted, "{refused} refused by {what}");
        // Calls that only wait inside of the cloud are no use.
        assert!(most <= (3 * workers).max(FIRST as usize), "{most} at a time for {what}");
    }
}

#[test]
fn a_quarter_of_the_places_is_kept_from_launches() {
    for (most, launches) in [(1, 1), (2, 1), (4, 3), (32, 24), (256, 24)] {
        let mut pace = Pace::new(most);
        let taken = (0..most).filter(|_| pace.enter(Kind::Launch)).count();
        assert_eq!(taken, launches, "of {most}");
        assert_eq!(pace.permits(at(0)), (0, Some(at(1000))));
        let others = (0..most).filter(|_| pace.enter(Kind::Delete)).count();
        assert_eq!(taken + others, FIRST.min(most) as usize, "of {most}");
        pace.leave(Kind::Launch);
        assert_eq!(pace.permits(at(0)), (1, None));
    }
}

/// A crowd that fills the launches' places, begins and ends together so.
fn crowd(pace: &mut Pace, began: u64, ended: u64, outcome: Outcome) {
    let count = std::iter::from_fn(|| pace.enter(Kind::Launch).then_some(())).count();
    for _ in 0..count {
        pace.learn(Kind::Launch, at(began), at(ended), outcome);
        pace.leave(Kind::Launch);
    }
}

#[test]
fn a_crowd_that_fails_is_cut_once_and_an_outage_no_further() {
    let mut pace = Pace::new(MOST);
    crowd(&mut pace, 0, 100, Outcome::Failed);
    assert_eq!(pace.places(), 16);
    for second in 1..60 {
        crowd(&mut pace, 1000 * second, 1000 * second + 500, Outcome::Failed);
    }
    assert_eq!(pace.places(), 16, "nothing but failures is the breaker's");
    crowd(&mut pace, 61_000, 61_100, Outcome::Done);
    assert!(pace.places() >= 16);
    crowd(&mut pace, 62_000, 62_100, Outcome::Failed);
    assert_eq!(pace.places(), 8);
}

#[test]
fn a_cloud_that_says_too_much_is_asked_for_less_each_time_but_never_for_nothing() {
    let mut pace = Pace::new(MOST);
    let mut places = Vec::new();
    for second in 0..6 {
        crowd(&mut pace, 1000 * second, 1000 * second + 100, Outcome::TooMuch);
        places.push(pace.places());
    }
    assert_eq!(places, [16, 8, 4, 4, 4, 4]);
    crowd(&mut pace, 10_000, 10_100, Outcome::Refused);
    assert_eq!(pace.places(), 4, "a quota says nothing of the pace");
    let mut narrow = Pace::new(2);
    crowd(&mut narrow, 0, 100, Outcome::TooMuch);
    assert_eq!(narrow.places(), 2);
}

#[test]
fn it_grows_only_where_places_are_used_and_calls_stay_quick() {
    let mut pace = Pace::new(MOST);
    for second in 0..100 {
        assert!(pace.enter(Kind::List));
        pace.learn(Kind::List, at(1000 * second), at(1000 * second + 80), Outcome::Done);
        pace.leave(Kind::List);
    }
    assert_eq!(pace.places(), FIRST, "one call at a time shows nothing");
    crowd(&mut pace, 200_000, 200_100, Outcome::Done);
    let grown = pace.places();
    assert!(grown > FIRST, "{grown}");
    crowd(&mut pace, 201_000, 201_300, Outcome::Done);
    assert_eq!(pace.places(), grown, "three times as long: they wait for one another");
    crowd(&mut pace, 900_000, 900_300, Outcome::Done);
    assert!(pace.places() > grown, "what was quick long ago is no measure");
    for second in 1000..1100 {
        crowd(&mut pace, 1000 * second, 1000 * second + 300, Outcome::Done);
    }
    assert_eq!(pace.places(), MOST);
}

proptest::proptest! {
    #[test]
    fn whatever_a_cloud_takes_it_is_made_use_of(
        workers in 4_usize..160,
        millis in 20_u64..2000,
        more in 0_usize..200,
        wanted in 1_usize..4000,
    ) {
        let mut pace = Pace::new(MOST);
        let cloud = Cloud { workers, millis, room: workers + more };
        let Run { took, refused, .. } = run(&mut pace, &cloud, wanted, 0);
        let best = wanted as u64 * millis / workers as u64;
        // Some rounds to find it out, and afterwards a fifth less than it takes, or what is kept.
        proptest::prop_assert!(took * 3 <= best * 4 + 3 * 16 * millis, "{took} of {best} ms");
        // The last round before the limit is found, and what is tried beyond it later.
        proptest::prop_assert!(refused <= 60 + workers / 4 + wanted / 50, "{refused} refused");
        proptest::prop_assert!((4..=MOST).contains(&pace.places()));
    }
}
