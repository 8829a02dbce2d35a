//! The book of jobs: whose word stands, what counts as demand, and when a job is looked up.

use runner_fleet_actors::{
    job::{
        Book, JobFacts, JobKey, JobNews, JobWord, Repositories, Serves,
        speech::{Numbers, Word},
        why::{Because, Reason},
    },
    name::{PoolName, RegistrationId, RunnerName},
};

use crate::given::at;

fn large() -> PoolName {
    "large".parse().unwrap()
}

fn pool(name: &str) -> Vec<Serves> {
    let labels = vec!["large".to_owned()];
    vec![Serves::new(name.parse().unwrap(), "octo".parse().unwrap(), labels)]
}

fn runner(number: u64) -> RunnerName {
    format!("ci--large--{number:012x}").parse().unwrap()
}

fn facts() -> JobFacts {
    JobFacts {
        repository: Some("octo/app".into()),
        run_id: Some(7),
        labels: vec!["large".into()],
        ..JobFacts::default()
    }
}

fn queued(id: u64) -> JobNews {
    JobNews { key: id.into(), word: JobWord::Queued, at: at(0), facts: facts() }
}

/// Runs on the runner of its number.
fn running(id: u64) -> JobNews {
    let facts = JobFacts { runner: Some(runner(id).as_str().into()), ..facts() };
    JobNews { word: JobWord::Running, facts, ..queued(id) }
}

fn done(id: u64) -> JobNews {
    JobNews { word: JobWord::Done, ..queued(id) }
}

fn book(news: impl IntoIterator<Item = JobNews>) -> Book {
    let mut book = Book::default();
    for news in news {
        book.apply(news, &pool("large"));
    }
    book
}

fn demand(book: &Book) -> (u32, u32) {
    book.demands().get(&large()).copied().unwrap_or_default()
}

fn looked_up(book: &Book, second: u64) -> Vec<JobKey> {
    book.doubtful(at(second)).0.iter().map(|job| job.key.clone()).collect()
}

#[test]
fn a_record_that_was_kept_is_taken_back_and_undoes_no_news() {
    let kept = book([queued(1)]).get(&1.into()).cloned().unwrap();
    let mut recalled = Book::default();
    recalled.recall(kept.clone());
    assert_eq!((recalled.get(&1.into()), demand(&recalled)), (Some(&kept), (1, 0)));
    let mut newer = book([running(1)]);
    newer.recall(kept);
    assert_eq!(demand(&newer), (0, 1));
}

#[test]
fn facts_of_the_higher_word_stand() {
    let named = |news: JobNews, name: &str| {
        let facts = JobFacts { name: Some(name.into()), ..news.facts.clone() };
        JobNews { facts, ..news }
    };
    let name = |book: &Book| book.get(&1.into()).unwrap().facts.name.as_deref().map(str::to_owned);
    let mut book = book([named(queued(1), "queued")]);
    book.apply(named(queued(1), "again"), &pool("large"));
    assert_eq!(name(&book).as_deref(), Some("queued"));
    book.apply(named(running(1), "running"), &pool("large"));
    assert_eq!(name(&book).as_deref(), Some("running"));
    book.apply(named(queued(1), "late"), &pool("large"));
    assert_eq!(name(&book).as_deref(), Some("running"));
}

#[test]
fn only_a_new_word_makes_a_job_as_doubtful_as_a_new_one() {
    let mut book = book([queued(1)]);
    book.checked(&1.into(), at(10));
    book.apply(queued(1), &pool("large"));
    assert_eq!(book.get(&1.into()).unwrap().checks, 1, "said before");
    book.apply(running(1), &pool("large"));
    assert_eq!(book.get(&1.into()).unwrap().checks, 0);
}

#[test]
fn a_job_that_waits_follows_the_configuration_and_one_that_runs_stays() {
    let mut book = book([queued(1), running(2)]);
    for news in [queued(1), running(2)] {
        book.apply(news, &pool("huge"));
    }
    let of =
        |id: u64| book.get(&id.into()).unwrap().pool.as_ref().map(|pool| pool.as_str().to_owned());
    assert_eq!((of(1).as_deref(), of(2).as_deref()), (Some("huge"), Some("large")));
}

#[test]
fn what_was_known_of_a_runner_that_is_gone_is_told_of_no_job() {
    let way = |forgotten: bool| {
        let mut book = book([queued(1)]);
        book.runner_launched(runner(1).as_str(), at(5));
        if forgotten {
            book.runner_forgotten(runner(1).as_str());
        }
        book.apply(running(1), &pool("large"));
        book.get(&1.into()).unwrap().way.launched_at
    };
    assert_eq!((way(false), way(true)), (Some(at(5)), None));
}

#[test]
fn why_a_pool_makes_no_runner_is_told_of_the_jobs_that_wait_for_it() {
    let elsewhere =
        JobNews { facts: JobFacts { labels: vec!["gpu".into()], ..facts() }, ..queued(3) };
    let mut book = book([queued(1), running(2), elsewhere]);
    assert_eq!(book.delayed(&large(), "full"), [1.into()]);
}

#[test]
fn a_runner_that_ends_ends_its_own_job_alone() {
    let mut book = book([running(1), running(2), queued(3)]);
    book.runner_ended(runner(1).as_str(), at(10));
    assert_eq!(demand(&book), (1, 1));
    assert_eq!(looked_up(&book, 30), [1.into()]);
}

#[test]
fn more_starts_than_jobs_of_a_run_are_no_demand() {
    let mut book = book([queued(1)]);
    for number in 1..=3 {
        book.guest_started(runner(number).as_str(), &large(), Some(7), at(1));
    }
    assert_eq!(demand(&book), (0, 1));
}

#[test]
fn a_job_that_its_source_gives_to_a_pool_which_does_not_take_it_is_refused() {
    let closed = || {
        let mut pools = pool("large");
        let deny = vec!["octo/app".parse().unwrap()];
        pools[0].repositories = Repositories { deny, ..Repositories::default() };
        pools
    };
    let given = |news: JobNews, to: &str| {
        let facts = JobFacts { pool: Some(to.parse().unwrap()), ..news.facts.clone() };
        JobNews { facts, ..news }
    };
    let mut book = Book::default();
    book.apply(given(queued(1), "large"), &closed());
    book.apply(given(queued(2), "large"), &closed());
    assert_eq!(book.refused(&large()), 2);
    book.apply(queued(3), &closed());
    book.apply(given(queued(4), "other"), &closed());
    book.apply(given(done(5), "large"), &closed());
    book.apply(given(queued(6), "large"), &pool("large"));
    assert_eq!(
        book.refused(&large()),
        2,
        "not one that nobody gave, not another's, not one that is over or taken"
    );
}

#[test]
fn a_queued_job_whose_run_has_begun_by_a_guests_word_is_looked_up_soon() {
    let begun = |mut book: Book| {
        book.guest_started(runner(9).as_str(), &large(), Some(7), at(5));
        book
    };
    let waits = begun(book([queued(1)]));
    assert_eq!(looked_up(&waits, 59), []);
    assert_eq!(looked_up(&waits, 60), [1.into()], "a minute after the last news of it");
    let other = JobNews { facts: JobFacts { run_id: Some(8), ..facts() }, ..queued(1) };
    assert_eq!(looked_up(&begun(book([other])), 61), [], "another run");
    assert_eq!(looked_up(&begun(book([running(1)])), 61), [], "it runs, as is known");
    let mut asked = waits;
    asked.checked(&1.into(), at(60));
    assert_eq!(looked_up(&asked, 300), [], "once soon, then as ever");
}

#[test]
fn each_kind_of_job_is_looked_up_at_its_own_pace() {
    let first = |news: JobNews| {
        let book = book([news]);
        let due = book.doubtful(at(0)).1.unwrap();
        (due - at(0)).num_seconds()
    };
    let unserved =
        JobNews { facts: JobFacts { labels: vec!["gpu".into()], ..facts() }, ..queued(1) };
    // Each within an eighth: five minutes, twenty, an hour.
    assert!((262..=338).contains(&first(queued(1))), "{}", first(queued(1)));
    assert!((1050..=1350).contains(&first(running(1))), "{}", first(running(1)));
    assert!((3150..=4050).contains(&first(unserved.clone())), "{}", first(unserved));
    assert_eq!(book([done(1)]).doubtful(at(90_000)), (vec![], None));
}

#[test]
fn a_job_that_is_asked_about_again_and_again_is_so_up_to_its_longest_pause() {
    let last = |news: JobNews| {
        let mut book = book([news]);
        for _ in 0..20 {
            book.checked(&1.into(), at(0));
        }
        (book.doubtful(at(0)).1.unwrap() - at(0)).num_seconds()
    };
    let unserved =
        JobNews { facts: JobFacts { labels: vec!["gpu".into()], ..facts() }, ..queued(1) };
    assert!((3150..=3600).contains(&last(queued(1))));
    assert!((9450..=10_800).contains(&last(running(1))));
    assert!((18_900..=21_600).contains(&last(unserved)));
}

#[test]
fn what_is_over_and_starts_that_nothing_explains_are_forgotten_after_an_hour() {
    let tidied = |second| {
        let mut book = book([done(1), queued(2), running(3)]);
        book.guest_started(runner(9).as_str(), &large(), Some(7), at(0));
        book.tidy(at(second));
        let keys: Vec<_> = book.jobs().filter_map(|job| job.key.id()).collect();
        (keys, demand(&book))
    };
    assert_eq!(tidied(3599), (vec![1, 2, 3], (0, 2)));
    assert_eq!(tidied(3600), (vec![2, 3], (1, 1)));
}

fn told(numbers: &mut Numbers, of: u64, said: Option<u64>, known: Option<u64>) -> Word {
    numbers.compare(&runner(of), true, said.map(RegistrationId), known.map(RegistrationId))
}

/// A pool whose webhooks name runners by other numbers, as three of them have shown.
fn two_kinds() -> Numbers {
    let mut numbers = Numbers::default();
    for of in 1..=3 {
        told(&mut numbers, of, Some(100 + of), Some(of));
    }
    assert_eq!(numbers.of_two_kinds().count(), 1);
    numbers
}

#[test]
fn a_number_of_a_runner_whose_own_is_not_known_yet_is_passed_on_as_long_as_numbers_count() {
    let said = Some(RegistrationId(104));
    let mut fresh = Numbers::default();
    assert_eq!(told(&mut fresh, 4, Some(104), None), Word::Ours(said), "the runner compares");
    assert_eq!(told(&mut two_kinds(), 4, Some(104), None), Word::Ours(None));
    let odd = two_kinds().compare(&runner(4), false, said, None);
    assert_eq!(odd, Word::OtherRunner, "its labels are another's");
}

#[test]
fn words_without_a_number_or_of_another_kind_teach_nothing() {
    let mut numbers = Numbers::default();
    for of in 1..=9 {
        assert_eq!(told(&mut numbers, of, None, Some(of)), Word::OtherRunner);
        let (said, known) = (Some(RegistrationId(100 + of)), Some(RegistrationId(of)));
        assert_eq!(numbers.compare(&runner(of), false, said, known), Word::OtherRunner);
    }
    assert_eq!(numbers.of_two_kinds().count(), 0);
    assert_eq!(told(&mut numbers, 1, Some(101), Some(1)), Word::OtherRunner);
}

#[test]
fn a_reason_reads_as_its_text() {
    let text = "it waits".to_owned();
    let reason = Reason { because: Because::PoolSays, text, since: None, until: None };
    assert_eq!(reason.to_string(), "it waits");
}
