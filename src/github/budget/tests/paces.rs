//! How fast GitHub is asked: tables, and a little GitHub that counts.

use std::collections::{BTreeMap, VecDeque};

use http::Method;
use proptest::prelude::*;

use super::*;

const RTT: Duration = Duration::from_millis(300);

fn launch(budget: &mut Budget, now: Time) -> Turn {
    budget.ask(Some(CallKind::Launch), &Endpoint::launch(), now)
}

fn go(budget: &mut Budget, now: Time) -> Ticket {
    match launch(budget, now) {
        Turn::Go(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

fn told() -> Budget {
    let mut budget = Budget::default();
    budget.take_in(&left(5000, 3600), at(0));
    budget
}

fn limited(retry_at: Option<i64>) -> Seen {
    let retry_at = retry_at.map(at);
    Seen { refused: true, says: Some(Limit::Secondary), retry_at, ..left(900, 3600) }
}

/// So many launches, one after the other, all at that time.
fn launched(budget: &mut Budget, count: u32, now: Time) {
    for _ in 0..count {
        let ticket = go(budget, now);
        budget.end(ticket, Ending::Answered, now);
    }
}

fn refused_at(budget: &mut Budget, now: i64) -> Time {
    let ticket = go(budget, at(now));
    let until = budget.take_in(&limited(None), at(now)).unwrap();
    assert!(budget.end(ticket, Ending::Refused, at(now)), "who waits anywhere is told");
    until
}

#[test]
fn an_endpoint_is_asked_for_its_points_of_a_minute_and_then_for_what_becomes_a_minute_old() {
    let mut budget = told();
    launched(&mut budget, 100, at(0));
    launched(&mut budget, 80, at(30));
    let later = |until| Turn::Later { until: at(until), most: Some(180) };
    assert_eq!(launch(&mut budget, at(40)), later(60));
    assert_eq!(budget.permits(at(40)), (0, Some(at(60))));
    assert_eq!(budget.permits(at(60)), (100, None));
    launched(&mut budget, 100, at(60));
    assert_eq!(launch(&mut budget, at(60)), later(90), "what was refused here was not counted");
    assert_eq!(budget.held_until(at(60)), None, "everything else goes on");
    let page = Endpoint::of(&Method::GET, "/orgs/octo-org/actions/runners");
    for _ in 0..900 {
        let Turn::Go(ticket) = budget.ask(Some(CallKind::List), &page, at(60)) else { panic!() };
        budget.end(ticket, Ending::Answered, at(60));
    }
    let full = budget.ask(Some(CallKind::List), &page, at(60));
    assert_eq!(full, Turn::Later { until: at(120), most: Some(900) }, "to read costs a fifth");
}

#[test]
fn whoever_tells_of_no_limit_is_not_held_back_once_that_is_known() {
    let mut budget = Budget::default();
    let before: Vec<_> = (0..4).map(|_| go(&mut budget, at(0))).collect();
    assert_eq!(launch(&mut budget, at(0)), Turn::Wait, "nothing is known yet");
    budget.take_in(&Seen::default(), at(1));
    let after: Vec<_> = (0..1000).map(|_| go(&mut budget, at(1))).collect();
    for ticket in before.into_iter().chain(after) {
        budget.end(ticket, Ending::Answered, at(1));
    }
    assert_eq!(budget.permits(at(1)), (u32::MAX, None));
    budget.take_in(&left(5000, 3600), at(2));
    let until = at(61);
    assert_eq!(launch(&mut budget, at(2)), Turn::Later { until, most: Some(180) }, "it all counts");
}

#[test]
fn few_writes_are_under_way_until_more_were_taken_within_a_minute() {
    let mut budget = told();
    let crowd = |budget: &mut Budget, now| {
        let mut tickets = Vec::new();
        while let Turn::Go(ticket) = launch(budget, now) {
            tickets.push(ticket);
        }
        let crowd = tickets.len();
        tickets.into_iter().for_each(|ticket| _ = budget.end(ticket, Ending::NotSent, now));
        crowd
    };
    assert_eq!(crowd(&mut budget, at(0)), 4);
    launched(&mut budget, 80, at(0));
    assert_eq!(crowd(&mut budget, at(0)), 10, "an eighth of them");
    assert_eq!(crowd(&mut budget, at(61)), 80, "so many were taken within a minute before");
    launched(&mut budget, 60, at(61));
    assert_eq!(crowd(&mut budget, at(61)), 20, "the rest of them");
    let day = 24 * 3600;
    assert_eq!(crowd(&mut budget, at(61 + day)), 4, "a day later that says nothing");
}

#[test]
fn a_refusal_teaches_what_was_taken_and_less_is_asked_for() {
    // Taken in the minute before; asked for at most after it; after one minute more at that pace.
    for (taken, most, then) in [(160, 140, 141), (30, 26, 27), (24, 22, 23), (10, 22, 24)] {
        let mut budget = told();
        launched(&mut budget, taken, at(0));
        assert_eq!(refused_at(&mut budget, 1), at(61));
        assert_eq!(budget.permits(at(60)), (0, Some(at(61))));
        launched(&mut budget, most, at(61));
        let full = Turn::Later { until: at(121), most: Some(most) };
        assert_eq!(launch(&mut budget, at(62)), full, "after {taken}");
        launched(&mut budget, then, at(121));
        assert!(matches!(launch(&mut budget, at(121)), Turn::Later { .. }), "after {taken}");
    }
    let mut budget = told();
    assert_eq!(refused_at(&mut budget, 0), at(60));
    launched(&mut budget, 180, at(60));
}

#[test]
fn a_pace_that_is_not_used_up_does_not_grow_and_what_was_learnt_lasts_a_day() {
    let mut budget = told();
    launched(&mut budget, 30, at(0));
    refused_at(&mut budget, 1);
    for hour in 1..24 {
        launched(&mut budget, 20, at(3600 * hour));
    }
    let evening = at(3600 * 23 + 120);
    assert_eq!(budget.permits(evening), (26, None));
    let kept = budget.lessons(evening);
    let later = Budget::default().knowing(kept.clone());
    assert_eq!(later.permits(evening), (26, None), "a restart knows it");
    assert_eq!(later.permits(at(24 * 3600 + 2)), (180, None));
    assert_eq!(
        serde_json::from_str::<BTreeMap<Endpoint, Lesson>>(&serde_json::to_string(&kept).unwrap())
            .unwrap(),
        kept
    );
}

#[test]
fn at_what_was_once_the_limit_is_stayed_for_a_while_and_then_more_is_tried() {
    let mut budget = told();
    launched(&mut budget, 30, at(0));
    refused_at(&mut budget, 1);
    let mut paces = Vec::new();
    for minute in 2..30 {
        let now = at(60 * minute);
        let mut count = 0;
        while let Turn::Go(ticket) = launch(&mut budget, now) {
            budget.end(ticket, Ending::Answered, now);
            count += 1;
        }
        paces.push(count);
    }
    let mut wanted = vec![26, 27, 28, 29];
    wanted.extend([30; 15]);
    wanted.extend([31, 34, 38, 42, 47, 52, 58, 65, 73]);
    assert_eq!(paces, wanted);
}

#[test]
fn after_a_hold_one_call_goes_first_and_the_crowd_when_it_was_answered() {
    let mut budget = told();
    let crowd: Vec<_> = (0..4).map(|_| go(&mut budget, at(0))).collect();
    for ticket in crowd {
        budget.take_in(&limited(Some(90)), at(1));
        budget.end(ticket, Ending::Refused, at(1));
    }
    let later = Turn::Later { until: at(90), most: None };
    assert_eq!(launch(&mut budget, at(89)), later);
    let app = Endpoint::of(&Method::POST, "/app/hook/deliveries/7/attempts");
    assert_eq!(budget.ask(None, &app, at(89)), later, "an App's own calls are silent as well");
    assert_eq!(budget.permits(at(90)), (1, Some(at(91))));

    let first = go(&mut budget, at(90));
    assert_eq!(budget.permits(at(90)), (0, Some(at(91))));
    assert_eq!(launch(&mut budget, at(90)), Turn::Wait);
    assert_eq!(budget.ask(None, &app, at(90)), Turn::Wait, "one call of all");
    assert!(budget.end(first, Ending::Lost, at(91)), "who waits is told");
    let second = go(&mut budget, at(91));
    assert_eq!(launch(&mut budget, at(91)), Turn::Wait, "without an answer nobody is wiser");
    budget.take_in(&limited(None), at(92));
    budget.end(second, Ending::Refused, at(92));
    let until = at(212);
    assert_eq!(launch(&mut budget, at(92)), Turn::Later { until, most: None }, "twice as long");

    let third = go(&mut budget, until);
    budget.take_in(&left(900, 3600), until);
    assert!(budget.end(third, Ending::Answered, until));
    let _crowd: Vec<_> = (0..4).map(|_| go(&mut budget, until)).collect();
}

#[test]
fn a_used_up_primary_limit_teaches_nothing_of_the_pace() {
    let mut budget = told();
    launched(&mut budget, 30, at(0));
    let ticket = go(&mut budget, at(1));
    budget.take_in(&Seen { refused: true, ..left(0, 100) }, at(1));
    budget.end(ticket, Ending::Refused, at(1));
    budget.take_in(&left(5000, 3700), at(100));
    launched(&mut budget, 180, at(100));
}

#[test]
fn launches_that_the_primary_limit_leaves_are_all_that_may_go() {
    let mut budget = told();
    let seen = Seen { resource: Some(REGISTRATION.to_owned()), ..left(7, 100) };
    budget.take_in(&seen, at(0));
    assert_eq!(budget.permits(at(1)), (7, Some(at(100))));
}

/// A GitHub that counts: so many launches within any minute, each answered after [`RTT`]; beyond it a
/// refusal that names a time, or none.
struct World {
    a_minute: usize,
    names_time: bool,
    taken: VecDeque<Time>,
    refusals: u32,
}

impl World {
    fn answer(&mut self, now: Time) -> Seen {
        while self.taken.front().is_some_and(|at| *at + MINUTE <= now) {
            self.taken.pop_front();
        }
        if self.taken.len() < self.a_minute {
            self.taken.push_back(now);
            return left(5000, 36_000);
        }
        self.refusals += 1;
        let retry_at = self.names_time.then(|| self.taken.front().map_or(now, |at| *at + MINUTE));
        Seen { refused: true, says: Some(Limit::Secondary), retry_at, ..left(5000, 36_000) }
    }
}

/// Asks for `wanted` launches at once, each again as soon as it is told to. Returns when the last was
/// taken.
fn run(budget: &mut Budget, world: &mut World, wanted: usize) -> Duration {
    let mut now = at(1);
    // Counted in the middle of their way.
    let mut under_way: VecDeque<(Time, Ticket)> = VecDeque::new();
    let mut done = 0;
    let (mut waiting, mut asleep) = (wanted, Vec::<Time>::new());
    while done < wanted {
        let awake = asleep.iter().filter(|at| **at <= now).count();
        asleep.retain(|at| *at > now);
        waiting += awake;
        while waiting > 0 && under_way.len() < 50 {
            match launch(budget, now) {
                Turn::Go(ticket) => under_way.push_back((now + RTT, ticket)),
                Turn::Wait => break,
                Turn::Later { until, .. } => {
                    assert!(until > now, "it must be worth asking later");
                    asleep.push(until);
                }
            }
            waiting -= 1;
        }
        let next = under_way.front().map(|(at, _)| *at);
        now = next.into_iter().chain(asleep.iter().min().copied()).min().unwrap();
        while under_way.front().is_some_and(|(at, _)| *at <= now) {
            let (_, ticket) = under_way.pop_front().unwrap();
            let seen = world.answer(now - RTT / 2);
            let refused = budget.take_in(&seen, now).is_some();
            budget.end(ticket, if refused { Ending::Refused } else { Ending::Answered }, now);
            if refused { waiting += 1 } else { done += 1 }
        }
    }
    (now - at(1)).to_std().unwrap()
}

fn world(a_minute: usize, names_time: bool) -> World {
    World { a_minute, names_time, taken: VecDeque::new(), refusals: 0 }
}

#[test]
fn two_hundred_launches_take_hardly_longer_than_githubs_points_allow() {
    for names_time in [true, false] {
        let (mut budget, mut world) = (told(), world(180, names_time));
        // 180 at once, and 20 when those are a minute old.
        let took = run(&mut budget, &mut world, 200);
        assert!(took < MINUTE.mul_f64(1.15), "{took:?}");
        assert_eq!(world.refusals, 0);
    }
}

#[test]
fn a_limit_that_nobody_published_is_found_with_few_refusals() {
    for names_time in [true, false] {
        let (mut budget, mut world) = (told(), world(30, names_time));
        let took = run(&mut budget, &mut world, 50);
        assert!(world.refusals <= 5, "{} refusals", world.refusals);
        assert!(took < MINUTE * 2, "{took:?}");
        let before = world.refusals;
        run(&mut budget, &mut world, 50);
        assert_eq!(world.refusals, before, "it is known then");
    }
}

proptest! {
    #[test]
    fn whatever_a_github_allows_all_launches_come_and_refusals_stay_few(
        a_minute in 1_usize..400,
        names_time in any::<bool>(),
        wanted in 1_usize..250,
    ) {
        let (mut budget, mut world) = (told(), world(a_minute, names_time));
        let took = run(&mut budget, &mut world, wanted);
        // Each round costs an eighth of what was taken before it, and the limit is met seldom.
        let minutes = wanted.div_ceil(a_minute.min(180));
        prop_assert!(u64::from(world.refusals) <= 12 + wanted as u64 / 8, "{}", world.refusals);
        prop_assert!(took <= MINUTE * (4 * minutes as u32 + 8), "{took:?} for {minutes} min");
    }

    #[test]
    fn whatever_happens_a_minute_never_sees_more_than_the_published_points(
        steps in prop::collection::vec((0_i64..20, 0_u8..5), 1..600),
    ) {
        let mut budget = told();
        let (mut now, mut sent, mut under_way) = (0, VecDeque::new(), Vec::new());
        for (pause, what) in steps {
            now += pause;
            match (what, under_way.pop()) {
                (0..=2, open) => {
                    under_way.extend(open);
                    if let Turn::Go(ticket) = launch(&mut budget, at(now)) {
                        sent.push_back(now);
                        under_way.push(ticket);
                    }
                }
                (3, Some(ticket)) => {
                    budget.take_in(&limited(Some(now + 10)), at(now));
                    budget.end(ticket, Ending::Refused, at(now));
                }
                (_, Some(ticket)) => _ = budget.end(ticket, Ending::Answered, at(now)),
                (_, None) => {}
            }
            sent.retain(|sent| *sent + 60 > now);
            prop_assert!(sent.len() <= 180);
            prop_assert!(under_way.len() <= 180);
        }
    }
}
