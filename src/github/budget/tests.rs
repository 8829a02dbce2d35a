use super::*;

fn at(second: i64) -> Time {
    Time::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn left(remaining: u64, reset: i64) -> Seen {
    Seen {
        limit: Some(1000),
        remaining: Some(remaining),
        reset: Some(at(reset)),
        ..Seen::default()
    }
}

fn allowed(budget: &Budget, now: i64) -> [bool; 3] {
    [CallKind::List, CallKind::Deregister, CallKind::Launch]
        .map(|kind| allow(kind, budget, at(now)).is_ok())
}

#[test]
fn before_github_says_anything_every_call_is_allowed() {
    assert_eq!(allowed(&Budget::default(), 0), [true; 3]);
}

#[test]
fn listings_stop_first_then_deregistrations_and_launches_last() {
    let table = [
        (1000, [true, true, true]),
        (200, [true, true, true]),
        (199, [false, true, true]),
        (50, [false, true, true]),
        (49, [false, false, true]),
        (1, [false, false, true]),
        (0, [false, false, false]),
    ];
    for (remaining, wanted) in table {
        let mut budget = Budget::default();
        assert_eq!(budget.take_in(&left(remaining, 100), at(0)), None);
        assert_eq!(allowed(&budget, 1), wanted, "with {remaining} of 1000 left");
    }
}

#[test]
fn a_refused_call_says_when_the_limit_resets_and_then_is_allowed_again() {
    let mut budget = Budget::default();
    budget.take_in(&left(0, 100), at(0));
    assert_eq!(allow(CallKind::Launch, &budget, at(99)), Err(at(100)));
    assert_eq!(allowed(&budget, 100), [true; 3], "the reset needs no call to be noticed");
    assert_eq!(budget.remaining(at(100)), None, "an old window says nothing of the new one");
}

#[test]
fn answers_out_of_order_never_raise_what_is_left() {
    let mut budget = Budget::default();
    budget.take_in(&left(10, 100), at(0));
    budget.take_in(&left(900, 100), at(1));
    assert_eq!(budget.remaining(at(2)), Some(10));
    budget.take_in(&left(999, 3700), at(101));
    budget.take_in(&left(3, 100), at(102));
    assert_eq!(budget.remaining(at(103)), Some(999), "a late answer of the old window is no news");
}

#[test]
fn a_used_up_primary_limit_holds_everything_until_its_reset() {
    let mut budget = Budget::default();
    let until = budget.take_in(&Seen { refused: true, ..left(0, 500) }, at(0));
    assert_eq!(until, Some(at(500)));
    assert_eq!(allowed(&budget, 499), [false; 3]);
    assert_eq!(allowed(&budget, 500), [true; 3]);
}

#[test]
fn a_reset_that_seems_past_does_not_make_the_client_hammer() {
    let mut budget = Budget::default();
    let until = budget.take_in(&Seen { refused: true, ..left(0, 500) }, at(600));
    assert_eq!(until, Some(at(610)));
    assert_eq!(allowed(&budget, 609), [false; 3]);
}

#[test]
fn an_answer_that_names_no_limit_is_only_heard_where_it_refuses() {
    let mut budget = Budget::default();
    let of_the_app = Seen { limit: None, ..left(0, 500) };
    assert_eq!(budget.take_in(&of_the_app, at(0)), None);
    assert_eq!(allowed(&budget, 1), [true; 3]);
    let refused = Seen { refused: true, ..of_the_app };
    assert_eq!(budget.take_in(&refused, at(0)), Some(at(500)));
}

#[test]
fn retry_after_holds_everything_although_much_is_left() {
    let mut budget = Budget::default();
    let seen = Seen { refused: true, retry_at: Some(at(30)), ..left(900, 3600) };
    assert_eq!(budget.take_in(&seen, at(0)), Some(at(30)));
    assert_eq!(allowed(&budget, 29), [false; 3]);
    assert_eq!(budget.held_until(at(29)), Some(at(30)));
    assert_eq!(allowed(&budget, 30), [true; 3]);
}

#[test]
fn a_limit_without_a_time_holds_a_minute_and_longer_each_time() {
    for says in [Limit::Some, Limit::Secondary] {
        let mut budget = Budget::default();
        let seen = Seen { refused: true, says: Some(says), ..left(900, 36_000) };
        assert_eq!(budget.take_in(&seen, at(0)), Some(at(60)));
        assert_eq!(budget.take_in(&seen, at(60)), Some(at(180)));
        for turn in 1..40 {
            budget.take_in(&seen, at(1000 * turn));
        }
        let last = budget.take_in(&seen, at(50_000));
        assert_eq!(last, Some(at(50_900)), "never more than 15 minutes");
        budget.take_in(&left(900, 96_000), at(51_000));
        assert_eq!(budget.take_in(&seen, at(51_000)), Some(at(51_060)), "a success starts anew");
    }
}

#[test]
fn calls_that_are_refused_together_are_one_refusal() {
    let mut budget = Budget::default();
    let seen = Seen { refused: true, says: Some(Limit::Secondary), ..left(900, 3600) };
    for _ in 0..50 {
        assert_eq!(budget.take_in(&seen, at(0)), Some(at(60)));
    }
    budget.take_in(&left(899, 3600), at(1));
    assert_eq!(budget.take_in(&seen, at(60)), Some(at(180)), "a success of before is none");
}

#[test]
fn one_odd_answer_holds_for_an_hour_at_most_and_a_newer_one_counts_for_more() {
    let far = Time::MAX_UTC;
    let odd = Seen { refused: true, retry_at: Some(far), ..Seen::default() };
    let mut budget = Budget::default();
    assert_eq!(budget.take_in(&odd, at(0)), Some(at(3600)));
    let newer = Seen { refused: true, retry_at: Some(at(40)), ..Seen::default() };
    assert_eq!(budget.take_in(&newer, at(10)), Some(at(40)));
    assert_eq!(allowed(&budget, 40), [true; 3]);

    let mut budget = Budget::default();
    budget.take_in(&Seen { reset: Some(far), ..left(0, 0) }, at(0));
    assert_eq!(allow(CallKind::Launch, &budget, at(1)), Err(at(3600)));
    budget.take_in(&left(900, 1800), at(2));
    assert_eq!(allowed(&budget, 3), [true; 3]);
    assert_eq!(budget.remaining(at(3)), Some(900));
}

#[test]
fn names_of_resources_fill_no_memory() {
    let mut budget = Budget::default();
    for number in 0..1000 {
        let resource = Some(format!("resource {number}"));
        budget.take_in(&Seen { resource, ..left(900, 3600) }, at(0));
    }
    assert!(budget.windows.len() <= RESOURCES_MAX);
}

#[test]
fn a_missing_permission_is_no_rate_limit() {
    let mut budget = Budget::default();
    assert_eq!(budget.take_in(&Seen { refused: true, ..left(900, 3600) }, at(0)), None);
    assert_eq!(allowed(&budget, 1), [true; 3]);
}

#[test]
fn a_used_up_registration_limit_stops_launches_only() {
    let mut budget = Budget::default();
    let seen = Seen { resource: Some(REGISTRATION.to_owned()), ..left(0, 100) };
    budget.take_in(&seen, at(0));
    assert_eq!(allowed(&budget, 1), [true, true, false]);
}

mod paces;
