#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Time {
    Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn serves(pool: &str, scope: &str, labels: &[&str], priority: u32) -> Serves {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    let serves = Serves::new(pool.parse().unwrap(), scope.parse().unwrap(), labels);
    Serves { priority, ..serves }
}

fn facts(labels: &[&str]) -> JobFacts {
    JobFacts {
        repository: Some("Octo-Org/app".into()),
        run_id: Some(7),
        labels: labels.iter().map(|label| (*label).into()).collect(),
        ..JobFacts::default()
    }
}

fn news(id: u64, word: JobWord, seconds: i64) -> JobNews {
    let of = |least| (word >= least).then(|| at(seconds));
    let facts = JobFacts {
        runner: (word == JobWord::Running).then(|| format!("ci--large--{id:012x}").into()),
        queued_at: of(JobWord::Queued),
        started_at: of(JobWord::Running),
        ended_at: of(JobWord::Done),
        ..facts(&["large"])
    };
    JobNews { key: id.into(), word, at: at(seconds), facts }
}

fn pools() -> Vec<Serves> {
    vec![serves("large", "octo-org", &["self-hosted", "Large"], 0)]
}

fn large() -> PoolName {
    "large".parse().unwrap()
}

/// Jobs that wait and run for a pool.
fn demand(book: &Book, pool: &PoolName) -> (u32, u32) {
    book.demands().get(pool).copied().unwrap_or_default()
}

#[test]
fn a_job_goes_to_a_pool_whose_runners_have_all_of_its_labels_whatever_their_case() {
    let pools = pools();
    assert_eq!(matching(&facts(&["SELF-HOSTED", "large"]), &pools).unwrap().as_str(), "large");
    let why = matching(&facts(&["large", "gpu"]), &pools).unwrap_err();
    assert!(why.contains("(\"large\", \"gpu\")") && why.contains("lacks \"gpu\""), "{why}");
}

#[test]
fn of_several_pools_priority_decides_then_the_one_that_can_do_least() {
    let pools = [
        serves("gpu", "octo-org", &["large", "gpu"], 0),
        serves("plain", "octo-org", &["large"], 0),
        serves("first", "octo-org", &["large", "x", "y"], 5),
    ];
    assert_eq!(matching(&facts(&["large"]), &pools).unwrap().as_str(), "first");
    assert_eq!(matching(&facts(&["large"]), &pools[..2]).unwrap().as_str(), "plain");
    assert_eq!(matching(&facts(&["GPU"]), &pools[..2]).unwrap().as_str(), "gpu");
}

#[test]
fn a_job_of_another_repository_or_without_labels_is_told_why_nobody_serves_it() {
    let elsewhere = [serves("other", "other-org", &["large"], 0)];
    let why = matching(&facts(&["large"]), &elsewhere).unwrap_err();
    assert!(why.contains("Octo-Org/app"), "{why}");
    assert!(matching(&facts(&[]), &pools()).unwrap_err().contains("asks for no label"));
}

#[test]
fn a_job_is_demand_from_its_queueing_to_its_end_and_not_while_it_is_blocked() {
    let (mut book, pools) = (Book::default(), pools());
    for (word, wanted) in [
        (JobWord::Blocked, (0, 0)),
        (JobWord::Queued, (1, 0)),
        (JobWord::Running, (0, 1)),
        (JobWord::Done, (0, 0)),
    ] {
        assert!(book.apply(news(1, word, 1), &pools).is_some());
        assert_eq!(demand(&book, &large()), wanted, "{word:?}");
    }
}

#[test]
fn late_and_repeated_news_never_bring_a_job_back() {
    let (mut book, pools) = (Book::default(), pools());
    book.apply(news(1, JobWord::Done, 9), &pools);
    assert!(book.apply(news(1, JobWord::Done, 10), &pools).is_none(), "a replay is nothing new");
    book.apply(news(1, JobWord::Queued, 11), &pools);
    assert_eq!(demand(&book, &large()), (0, 0));
}

#[test]
fn a_guest_that_has_begun_a_job_takes_one_of_its_run_before_the_forge_says_so() {
    let (mut book, pools) = (Book::default(), pools());
    book.apply(news(1, JobWord::Queued, 1), &pools);
    book.apply(news(2, JobWord::Queued, 1), &pools);
    book.guest_started("ci--large--000000000001", &large(), Some(7), at(2));
    book.guest_started("ci--large--000000000009", &large(), Some(8), at(2));
    assert_eq!(demand(&book, &large()), (1, 1), "the other run is none of these jobs'");
    book.apply(news(1, JobWord::Running, 3), &pools);
    assert_eq!(demand(&book, &large()), (1, 1), "told twice, counted once");
    book.guest_started("ci--large--000000000001", &large(), Some(7), at(4));
    assert_eq!(demand(&book, &large()), (1, 1), "a late report of a job that is known already");
}

#[test]
fn a_start_that_was_not_taken_leaves_the_job_to_others() {
    let (mut book, pools) = (Book::default(), pools());
    book.apply(news(1, JobWord::Queued, 1), &pools);
    let runner = "ci--large--000000000009";
    book.guest_started(runner, &large(), Some(7), at(2));
    assert_eq!(demand(&book, &large()), (0, 1));
    book.start_withdrawn(runner);
    assert_eq!(demand(&book, &large()), (1, 0));
}

#[test]
fn a_guest_that_has_ended_its_job_is_believed_before_the_forge_says_so() {
    let (mut book, pools) = (Book::default(), pools());
    let runner = "ci--large--000000000001";
    book.apply(news(1, JobWord::Queued, 1), &pools);
    book.guest_started(runner, &large(), Some(7), at(2));
    book.runner_ended(runner, at(3));
    assert_eq!(demand(&book, &large()), (0, 0), "begun and over, and no webhook of either");
    book.apply(news(1, JobWord::Running, 4), &pools);
    assert_eq!(demand(&book, &large()), (0, 0), "the late word that it has begun");
    assert_eq!(book.doubtful(at(3600)).0.len(), 1, "and it is looked up");
    book.apply(news(1, JobWord::Done, 5), &pools);
    assert_eq!(demand(&book, &large()), (0, 0));
}

#[test]
fn a_job_whose_end_was_never_told_is_looked_up_less_and_less_often() {
    let (mut book, pools) = (Book::default(), pools());
    book.apply(news(1, JobWord::Queued, 0), &pools);
    assert_eq!(book.doubtful(at(60)).0.len(), 0);
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let (_, next) = book.doubtful(now);
        let next = next.unwrap();
        waits.push((next - now).num_seconds());
        now = next;
        assert_eq!(book.doubtful(now).0.len(), 1);
        book.checked(&1.into(), now);
    }
    assert!(waits.iter().all(|wait| (250..=3600).contains(wait)), "{waits:?}");
    assert!(waits[7] > 4 * waits[0], "{waits:?}");
}

#[test]
fn a_job_whose_runner_is_gone_is_looked_up_soon() {
    let (mut book, pools) = (Book::default(), pools());
    book.apply(news(1, JobWord::Running, 0), &pools);
    book.runner_ended("ci--large--000000000001", at(10));
    assert_eq!(demand(&book, &large()), (0, 0), "it runs nowhere any more");
    assert_eq!(book.doubtful(at(29)).0.len(), 0);
    assert_eq!(book.doubtful(at(30)).0.len(), 1);
    book.checked(&1.into(), at(30));
    assert_eq!(book.doubtful(at(200)).0.len(), 0, "once soon, then as ever");
}

#[test]
fn a_job_that_cannot_be_looked_up_is_asked_about_after_the_others_and_less_and_less_often() {
    let (mut book, pools) = (Book::default(), pools());
    for id in 1..=3 {
        book.apply(news(id, JobWord::Running, 0), &pools);
    }
    let now = at(4 * 3600);
    let first = book.doubtful(now).0[0].key.clone();
    let mut waits = Vec::new();
    let mut at = now;
    for _ in 0..8 {
        assert!(book.doubtful(at).0.iter().any(|job| job.key == first));
        book.unanswered(&first, at);
        let (due, next) = book.doubtful(at);
        assert_eq!(due.len(), 2, "only the others");
        waits.push((next.unwrap() - at).num_seconds());
        at = next.unwrap();
    }
    assert!(waits.iter().all(|wait| (5..=600).contains(wait)), "{waits:?}");
    assert!(waits[7] > 4 * waits[0], "{waits:?}");
    book.checked(&first, at);
    book.unanswered(&first, at);
    let (_, next) = book.doubtful(at);
    assert!(next.unwrap() - at > chrono::Duration::minutes(5), "an answer is an answer");
}

#[test]
fn a_record_tells_what_happened_on_the_way_to_its_runner() {
    let (mut book, pools) = (Book::default(), pools());
    let runner = "ci--large--000000000001";
    book.apply(news(1, JobWord::Queued, 0), &pools);
    let changed = book.delayed(&large(), "1 more wanted; room for 0");
    assert_eq!(changed, [1.into()]);
    assert_eq!(book.delayed(&large(), "1 more wanted; room for 0"), [], "said once");
    book.runner_launched(runner, at(5));
    book.runner_booted(runner, at(20));
    book.apply(news(1, JobWord::Running, 30), &pools);
    let way = &book.get(&1.into()).unwrap().way;
    assert_eq!((way.launched_at, way.booted_at), (Some(at(5)), Some(at(20))));
    assert_eq!(way.assigned_at, Some(at(30)));
    assert_eq!(way.delayed.as_deref(), Some("1 more wanted; room for 0"));
}

#[test]
fn a_name_that_would_order_a_terminal_about_or_fill_a_page_is_tamed() {
    let (mut book, pools) = (Book::default(), pools());
    let mut told = news(1, JobWord::Queued, 0);
    told.facts.name =
        Some(format!("\x1b]0;owned\x07\x1b[2Jbuild\n\u{202e}fake line{}", "x".repeat(5000)).into());
    told.facts.labels.extend((0..500).map(|n| format!("\rlabel-{n}").into()));
    book.apply(told, &pools);
    let facts = &book.get(&1.into()).unwrap().facts;
    let name = facts.name.as_deref().unwrap();
    assert!(name.contains("]0;owned") && name.contains("fake line"), "{name}");
    assert!(!name.chars().any(crate::foreign::is_order) && name.chars().count() == 300, "{name}");
    assert!(facts.labels.len() <= 101 && facts.labels.iter().all(|label| !label.contains('\r')));
}

#[test]
fn a_new_configuration_matches_again_what_nobody_has_taken() {
    let (mut book, before) = (Book::default(), pools());
    book.apply(news(1, JobWord::Queued, 0), &before);
    book.apply(news(2, JobWord::Running, 0), &before);
    let now = [serves("huge", "octo-org", &["large"], 0)];
    let changed = book.rematch(&now);
    assert_eq!(changed.len(), 1);
    assert_eq!(demand(&book, &"huge".parse().unwrap()), (1, 0));
    assert_eq!(demand(&book, &large()), (0, 1), "a job that runs stays where it is");
}

#[test]
fn what_ended_is_forgotten_after_a_while_and_what_is_open_is_not() {
    let (mut book, pools) = (Book::default(), pools());
    book.apply(news(1, JobWord::Done, 0), &pools);
    book.apply(news(2, JobWord::Queued, 0), &pools);
    book.tidy(at(100));
    assert_eq!(book.jobs().count(), 2);
    book.tidy(at(4000));
    assert_eq!(book.jobs().count(), 1);
}

proptest! {
    #[test]
    fn however_news_are_shuffled_repeated_and_lost_the_best_word_stands(
        order in proptest::collection::vec(0..4_usize, 1..12)
    ) {
        let words = [JobWord::Blocked, JobWord::Queued, JobWord::Running, JobWord::Done];
        let (mut book, pools) = (Book::default(), pools());
        for (turn, &which) in order.iter().enumerate() {
            let seconds = i64::try_from(which).unwrap();
            let mut told = news(1, words[which], seconds);
            told.at = at(i64::try_from(turn).unwrap());
            book.apply(told, &pools);
        }
        let best = *order.iter().max().unwrap();
        let job = book.get(&1.into()).unwrap();
        prop_assert_eq!(job.word, words[best]);
        prop_assert_eq!(&job.pool, &Some(large()));
        if best == 3 {
            prop_assert_eq!(job.facts.ended_at, Some(at(3)));
        }
        let heard_running = order.contains(&2);
        prop_assert_eq!(job.facts.runner.is_some(), heard_running);
    }

    #[test]
    fn every_open_job_is_looked_up_in_bounded_time(
        word in 0..3_usize, checks in 0..40_u32, id: u64,
    ) {
        let word = [JobWord::Blocked, JobWord::Queued, JobWord::Running][word];
        let (mut book, pools) = (Book::default(), pools());
        book.apply(news(id, word, 0), &pools);
        for _ in 0..checks {
            book.checked(&id.into(), at(0));
        }
        let (due, next) = book.doubtful(at(0));
        prop_assert!(due.is_empty());
        let next = next.unwrap();
        prop_assert!(next <= at(3 * 3600), "{next}");
        prop_assert_eq!(book.doubtful(next).0.len(), 1);
    }
}

#[test]
fn a_job_stays_in_its_repository_whatever_a_stranger_says_of_its_number() {
    let (mut book, pools) = (Book::default(), pools());
    book.apply(news(1, JobWord::Queued, 1), &pools);
    let told = |repository: &str, repository_id| JobNews {
        facts: JobFacts { repository: Some(repository.into()), repository_id, ..facts(&["large"]) },
        ..news(1, JobWord::Done, 2)
    };
    assert!(book.apply(told("evil/repo", Some(666)), &pools).is_none());
    assert_eq!(demand(&book, &large()), (1, 0));
    let known = JobNews { word: JobWord::Queued, ..told("octo-org/app", Some(5)) };
    book.apply(known, &pools);
    assert!(book.apply(told("evil/repo", Some(666)), &pools).is_none());
    assert!(book.apply(told("octo-org/renamed", Some(5)), &pools).is_some(), "its number stays");
    assert_eq!(demand(&book, &large()), (0, 0));
}

/// What each pool's demand was counted by before all were counted in one pass.
fn counted_alone(book: &Book, pool: &PoolName) -> (u32, u32) {
    let of = |word| {
        book.jobs().filter(move |job| job.word == word && job.pool.as_ref() == Some(pool)).count()
    };
    (u32::try_from(of(JobWord::Queued)).unwrap(), u32::try_from(of(JobWord::Running)).unwrap())
}

#[test]
fn all_pools_are_counted_in_one_pass_as_each_would_be_alone() {
    let mut book = Book::default();
    let pools: Vec<PoolName> = (0..50).map(|n| format!("pool-{n}").parse().unwrap()).collect();
    let words = [JobWord::Blocked, JobWord::Queued, JobWord::Running, JobWord::Done];
    for id in 0..2000_u64 {
        let at_random = usize::try_from(id.wrapping_mul(2_654_435_761) >> 7).unwrap();
        let facts = JobFacts {
            run_id: Some(id / 3),
            pool: Some(pools[at_random % pools.len()].clone()),
            ..JobFacts::default()
        };
        let word = words[at_random % words.len()];
        let serves: Vec<_> = pools
            .iter()
            .map(|pool| Serves::new(pool.clone(), "o".parse().unwrap(), Vec::new()))
            .collect();
        book.apply(JobNews { key: id.into(), word, at: at(0), facts }, &serves);
    }
    let demands = book.demands();
    for pool in &pools {
        let counted = demands.get(pool).copied().unwrap_or_default();
        assert_eq!(counted, counted_alone(&book, pool), "{pool}");
    }
}
