#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

fn now() -> Time {
    "2026-11-20T10:00:00Z".parse().unwrap()
}

fn is(id: u64, name: &str) -> Result<Option<Identity>, ErrorClass> {
    Ok(Some(Identity { id, now: scope(name) }))
}

fn book(scopes: &[&str]) -> Book {
    let mut book = Book::default();
    book.configure(scopes.iter().map(|text| scope(text)));
    book
}

/// The only question that is due.
fn asks(book: &Book, at: Time) -> Question {
    let (due, _) = book.due(at);
    assert_eq!(due.len(), 1, "{due:?}");
    due.into_iter().next().unwrap()
}

#[test]
fn each_scope_is_asked_for_once_by_its_name_and_then_by_its_number() {
    let mut book = book(&["acme/widgets", "enterprises/acme"]);
    let first = asks(&book, now());
    assert_eq!(first, Question { scope: scope("acme/widgets"), id: None });
    assert!(book.learn(&first, is(777, "acme/widgets"), now()));
    assert_eq!(book.due(now()), (vec![], None), "nothing is in doubt");
    assert_eq!(book.present(&first.scope), None);
    assert!(book.doubt(&first.scope) && !book.doubt(&scope("somebody/else")));
    let second = asks(&book, now());
    assert_eq!(second.id, Some(777));
    assert!(book.learn(&second, is(777, "acme/gadgets"), now()));
    assert_eq!(book.present(&first.scope), Some(scope("acme/gadgets")));
    let back = Question { id: Some(777), ..first };
    assert!(book.doubt(&back.scope) && book.learn(&back, is(777, "Acme/Widgets"), now()));
    assert_eq!(book.present(&back.scope), None, "it has its old name again");
}

#[test]
fn whoever_has_the_name_later_is_not_taken_for_it_until_the_operator_says_so() {
    let mut book = book(&["acme/widgets"]);
    let by_name = asks(&book, now());
    book.learn(&by_name, is(777, "acme/widgets"), now());
    let by_number = Question { id: Some(777), ..by_name.clone() };
    let known = book.known();
    for answer in [is(888, "acme/widgets"), Ok(None), Err(ErrorClass::Auth)] {
        book.doubt(&by_name.scope);
        assert!(!book.learn(&by_number, answer, now()));
        assert_eq!(book.known(), known, "a failure to learn changes nothing");
    }
    // What was asked before something else was learned comes late.
    assert!(!book.learn(&by_name, is(888, "acme/widgets"), now()));
    assert_eq!(book.known(), known);
    book.configure([scope("acme/widgets")].into_iter());
    assert_eq!(asks(&book, now()), by_number, "a reload asks for the number first");
    assert!(book.learn(&by_number, Ok(None), now()), "it is gone");
    assert_eq!(asks(&book, now()), by_name);
    assert!(book.learn(&by_name, is(888, "acme/widgets"), now()));
    assert_eq!(book.known()[&by_name.scope].id, 888);
}

#[test]
fn doubts_that_bring_nothing_new_are_looked_into_ever_less_often() {
    let mut book = book(&["acme/widgets"]);
    let (first, mut at) = (asks(&book, now()), now());
    book.learn(&first, is(777, "acme/widgets"), at);
    let question = Question { id: Some(777), ..first };
    let (mut asked, end) = (0, now() + Duration::from_secs(24 * 3600));
    while at < end {
        // Every call is redirected, and a new one is made each second.
        book.doubt(&question.scope);
        let (due, next) = book.due(at);
        if due.is_empty() {
            assert!(next.unwrap() > at);
        } else {
            asked += 1;
            book.learn(&question, is(777, "acme/widgets"), at);
        }
        at += Duration::from_secs(1);
    }
    assert!((24..=36).contains(&asked), "{asked} questions in a day");
}

#[test]
fn a_doubt_a_day_makes_no_rename_wait_for_an_hour() {
    let mut book = book(&["acme"]);
    let (first, mut at) = (asks(&book, now()), now());
    book.learn(&first, is(7, "acme"), at);
    let question = Question { id: Some(7), ..first };
    for _ in 0..10 {
        at += Duration::from_secs(24 * 3600);
        book.doubt(&question.scope);
        assert!(!book.learn(&question, is(7, "acme"), at));
    }
    book.doubt(&question.scope);
    let (_, next) = book.due(at);
    assert!(next.is_some_and(|next| next <= at + Duration::from_secs(120)), "{next:?}");
}

#[test]
fn what_a_removed_pool_has_left_is_still_found_under_the_name_that_its_scope_has_now() {
    let mut book = book(&["acme"]);
    let first = asks(&book, now());
    book.learn(&first, is(7, "acme-labs"), now());
    // The operator corrects the scope, as he was told to.
    book.configure([scope("acme-labs")].into_iter());
    assert_eq!(book.present(&scope("acme")), Some(scope("acme-labs")));
    assert_eq!(asks(&book, now()).scope, scope("acme-labs"), "nobody asks for it by the old name");
    assert!(!book.known().contains_key(&scope("acme")), "no pool is told of it");
    book.configure([scope("other")].into_iter());
    book.configure([scope("acme")].into_iter());
    assert!(book.known().contains_key(&scope("acme")), "it is a pool's again");
}

#[test]
fn a_question_that_was_not_answered_is_asked_again_and_a_refused_one_is_not() {
    for (class, again) in [
        (ErrorClass::Transient, true),
        (ErrorClass::RateLimited { until: now() + Duration::from_secs(1800) }, true),
        (ErrorClass::Auth, false),
        (ErrorClass::Invalid, false),
    ] {
        let mut book = book(&["acme"]);
        let question = asks(&book, now());
        assert!(!book.learn(&question, Err(class), now()));
        let (due, next) = book.due(now());
        assert_eq!((due.len(), next.is_some()), (0, again), "{class:?}");
        if let ErrorClass::RateLimited { until } = class {
            assert_eq!(next, Some(until));
        }
    }
}

#[test]
fn paths_are_those_of_the_present_name_also_of_a_renamed_organisations_repositories() {
    let names = Names::default();
    let (repository, org) = (scope("acme/widgets"), scope("beta"));
    names.configure([&repository, &org].into_iter());
    names.book(|book| {
        for (scope, id, now_called) in [(&repository, 777, "acme/gadgets"), (&org, 7, "gamma")] {
            let question = Question { scope: scope.clone(), id: None };
            book.learn(&question, is(id, now_called), now());
        }
    });
    for (of, path, wanted) in [
        (
            "acme/widgets",
            "/repos/acme/widgets/actions/runners",
            "/repos/acme/gadgets/actions/runners",
        ),
        (
            "Acme/Widgets",
            "/repos/Acme/Widgets/actions/jobs/1",
            "/repos/acme/gadgets/actions/jobs/1",
        ),
        ("acme/widgets", "/repos/acme/widgets", "/repos/acme/gadgets"),
        ("acme/widgets", "/repos/acme/widgets2/x", "/repos/acme/widgets2/x"),
        ("acme/widgets", "/repositories/777", "/repositories/777"),
        ("acme/widgets", "/app/hook/deliveries", "/app/hook/deliveries"),
        ("acme/other", "/repos/acme/other/actions/jobs/1", "/repos/acme/other/actions/jobs/1"),
        ("beta", "/orgs/beta/actions/runners", "/orgs/gamma/actions/runners"),
        ("Beta/app", "/repos/Beta/app/actions/jobs/1", "/repos/gamma/app/actions/jobs/1"),
    ] {
        assert_eq!(names.path(&scope(of), path), wanted);
    }
}
