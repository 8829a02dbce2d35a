#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use runner_fleet_actors::{
    job::{Identity, JobNews, JobWord, Serves},
    port::Time,
};

use super::{
    held::{Held, Question, Tag},
    kombu,
    message::{Message, Origin, Raw, Refusal, read},
    verdict::{Doubt, Intake, Said, Verdict, intake},
};

const ROUTER: &str = r#"{"labels":["large","X64"],"status":"queued","url":"https://api.github.com/repos/octo-org/app/actions/jobs/123"}"#;

fn at(seconds: i64) -> Time {
    Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn github() -> Origin {
    Origin::new("https://github.com").unwrap()
}

fn text(body: &str) -> Raw {
    Raw { content_type: Some("text/plain".into()), body: body.into(), ..Raw::default() }
}

fn asked(body: &str) -> Result<JobNews, String> {
    match read(&text(body), &github(), at(0)) {
        Ok(Message::Asked(news)) => Ok(news),
        Ok(other) => Err(format!("{other:?}")),
        Err(refusal) => Err(refusal.to_string()),
    }
}

fn serves(pool: &str, labels: &[&str], priority: u32) -> Serves {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    let serves = Serves::new(pool.parse().unwrap(), "octo-org".parse().unwrap(), labels);
    Serves { priority, ..serves }
}

fn event(name: &str) -> Raw {
    let path = format!("{}/tests/data/webhooks/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let body = std::fs::read(path).unwrap();
    Raw { event: Some("workflow_job".into()), body, ..Raw::default() }
}

#[test]
fn the_routers_message_is_a_job_that_waits_however_kombu_was_given_it() {
    let news = asked(ROUTER).unwrap();
    assert_eq!((news.key.id(), news.word), (Some(123), JobWord::Queued));
    assert_eq!(news.facts.repository.as_deref(), Some("octo-org/app"));
    assert_eq!(news.facts.labels, ["large", "X64"]);
    let within = serde_json::to_string(ROUTER).unwrap();
    assert_eq!(asked(&within), Ok(news), "a text in JSON, as kombu's json serializer sends it");
}

#[test]
fn what_kombu_wrote_into_mongodb_is_the_same_message() {
    // As kombu 5.7 has written it.
    let payload = r#"{"body": "eyJsYWJlbHMiOlsibGFyZ2UiXSwic3RhdHVzIjoicXVldWVkIiwidXJsIjoiaHR0cHM6Ly9hcGkuZ2l0aHViLmNvbS9yZXBvcy9vL3IvYWN0aW9ucy9qb2JzLzEyMyJ9", "content-encoding": "utf-8", "content-type": "text/plain", "headers": {}, "properties": {"delivery_mode": 2, "delivery_info": {"exchange": "a", "routing_key": "a"}, "priority": 0, "body_encoding": "base64", "delivery_tag": "c54f4233-6f42-4fa3-a155-b6b7e7d1f62a"}}"#;
    let raw = kombu::open(payload).unwrap();
    assert_eq!(raw.content_type.as_deref(), Some("text/plain"));
    let Ok(Message::Asked(news)) = read(&raw, &github(), at(0)) else { panic!("{raw:?}") };
    assert_eq!(news.facts.repository.as_deref(), Some("o/r"));
    for broken in ["", "[]", "{}", r#"{"body":"%","properties":{"body_encoding":"base64"}}"#] {
        assert!(matches!(kombu::open(broken), Err(Refusal::Envelope(_))), "{broken}");
    }
}

#[test]
fn only_the_configured_github_is_asked_about_jobs() {
    let of = |url: &str| ROUTER.replace("https://api.github.com/repos/octo-org/app", url);
    for foreign in [
        "https://evil.example/repos/o/r",
        "http://api.github.com/repos/o/r",
        "https://api.github.com:8443/repos/o/r",
        "https://u:p@api.github.com/repos/o/r",
        "https://api.github.com/repos/o/../r",
        "https://api.github.com/repos/o/r/x",
        "https://api.github.com/orgs/o/r",
        "https://api.github.com.evil.example/repos/o/r",
    ] {
        let why = asked(&of(foreign)).unwrap_err();
        assert!(why.contains("is no job of https://api.github.com/"), "{foreign}: {why}");
    }
    let server = Origin::new("https://git.example.net").unwrap();
    let ours = text(&of("https://git.example.net/api/v3/repos/o/r"));
    assert!(matches!(read(&ours, &server, at(0)), Ok(Message::Asked(_))));
    let beside = text(&of("https://git.example.net/repos/o/r"));
    assert!(matches!(read(&beside, &server, at(0)), Err(Refusal::ForeignGithub { .. })));
}

#[test]
fn what_is_no_message_of_either_sender_is_refused_with_its_reason() {
    for (body, reason) in [
        ("", "it is not JSON (its sender says \"text/plain\")"),
        ("hello", "it is not JSON"),
        ("{}", "it has no url"),
        (r#"{"url":1,"labels":[]}"#, "it has no url"),
        (r#"{"url":"https://api.github.com/repos/o/r/actions/jobs/1"}"#, "it has no labels"),
        (r#"{"url":"https://api.github.com/repos/o/r/actions/jobs/1","labels":[1]}"#, "its labels"),
        (r#"{"url":"https://api.github.com/repos/o/r/actions/jobs/-1","labels":[]}"#, "is no job"),
        (r#"{"workflow_job":{"id":1}}"#, "its job has no url"),
    ] {
        let why = asked(body).unwrap_err();
        assert!(why.contains(reason), "{body}: {why}");
    }
    let packed = Raw { compression: Some("application/x-gzip".into()), ..text(ROUTER) };
    assert!(matches!(read(&packed, &github(), at(0)), Err(Refusal::Packed(_))));
    let long = text(&" ".repeat(2 << 20));
    assert!(matches!(read(&long, &github(), at(0)), Err(Refusal::TooLong(_))));
}

#[test]
fn the_gateways_events_are_news_of_jobs_and_other_events_are_none() {
    for (name, word) in [
        ("api.github.com.workflow_job.queued.1", JobWord::Queued),
        ("api.github.com.workflow_job.waiting.1", JobWord::Blocked),
        ("api.github.com.workflow_job.in_progress.1", JobWord::Running),
        ("api.github.com.workflow_job.completed.1", JobWord::Done),
    ] {
        let message = read(&event(name), &github(), at(0));
        let Ok(Message::Told(news)) = message else { panic!("{name}: {message:?}") };
        assert_eq!(news.word, word, "{name}");
        assert!(news.facts.run_id.is_some() && news.facts.repository.is_some(), "{name}");
    }
    let ping = Raw { event: Some("ping".into()), body: b"{}".to_vec(), ..Raw::default() };
    assert_eq!(read(&ping, &github(), at(0)), Ok(Message::Other("ping".into())));
}

#[test]
fn a_message_waits_only_where_a_pool_of_its_queue_serves_its_job() {
    let one = [serves("large", &["large", "x64"], 0)];
    let taken = |body: &str, pools: &[Serves]| intake(read(&text(body), &github(), at(0)), pools);
    let Intake::Hold(news) = taken(ROUTER, &one) else { panic!("held") };
    assert_eq!(news.facts.pool.as_ref().unwrap().as_str(), "large");
    let Intake::Reject(why) = taken(&ROUTER.replace("X64", "gpu"), &one) else { panic!("gpu") };
    assert!(why.contains("job 123") && why.contains("lacks \"gpu\""), "{why}");
    let elsewhere = ROUTER.replace("octo-org/app", "other/app");
    assert!(matches!(taken(&elsewhere, &one), Intake::Reject(why) if why.contains("other/app")));
    let nothing = ROUTER.replace(r#""large","X64""#, "");
    assert!(matches!(taken(&nothing, &one), Intake::Hold(_)), "the router's default flavor");
    let two = [serves("small", &["small"], 9), serves("large", &["large", "x64"], 0)];
    let Intake::Hold(news) = taken(ROUTER, &two) else { panic!("two pools") };
    assert_eq!(news.facts.pool.as_ref().unwrap().as_str(), "large");
    assert!(matches!(taken(&nothing, &two), Intake::Reject(_)), "nobody knows for which of them");
}

#[test]
fn jobs_of_a_scope_that_was_renamed_are_its_pools_under_both_names_and_nobody_elses() {
    let moved = |scope: &str, id, now: &str| {
        let identity = Some(Identity { id, now: now.parse().unwrap() });
        let scope = scope.parse().unwrap();
        [Serves { scope, identity, ..serves("large", &["large", "x64"], 0) }]
    };
    let taken = |name: &str, pools: &[Serves]| {
        intake(read(&text(&ROUTER.replace("octo-org/app", name)), &github(), at(0)), pools)
    };
    // What the router was told before the move, and after it.
    for name in ["octo-org/app", "octo-labs/app"] {
        assert!(
            matches!(taken(name, &moved("octo-org", 7, "octo-labs")), Intake::Hold(_)),
            "{name}"
        );
        let repository = moved("octo-org/app", 77, "octo-labs/app");
        assert!(matches!(taken(name, &repository), Intake::Hold(_)), "{name}");
    }
    assert!(matches!(taken("evil/app", &moved("octo-org", 7, "octo-labs")), Intake::Reject(_)));
    // The gateway's events bear numbers, and those decide.
    let event = read(&event("api.github.com.workflow_job.queued.1"), &github(), at(0));
    let Ok(Message::Told(queued)) = &event else { panic!("an event") };
    let (name, number) = (queued.facts.repository.clone().unwrap(), queued.facts.repository_id);
    let labels: Vec<_> = queued.facts.labels.iter().map(|label| label.as_str()).collect();
    for (id, ours) in [(number.unwrap(), true), (number.unwrap() + 1, false)] {
        let identity = Some(Identity { id, now: "octo-labs/moved".parse().unwrap() });
        let scope = name.parse().unwrap();
        let pools = [Serves { scope, identity, ..serves("large", &labels, 0) }];
        assert_eq!(matches!(intake(event.clone(), &pools), Intake::Hold(_)), ours, "{id}");
    }
}

#[test]
fn of_the_gateways_events_only_waiting_jobs_of_these_pools_are_held_and_nothing_is_a_fault() {
    let job = |name: &str| read(&event(name), &github(), at(0));
    let Ok(Message::Told(queued)) = job("api.github.com.workflow_job.queued.1") else {
        panic!("an event")
    };
    let owner = queued.facts.repository.as_deref().unwrap().split('/').next().unwrap();
    let labels: Vec<_> = queued.facts.labels.iter().map(|label| label.as_str()).collect();
    let ours = [Serves { scope: owner.parse().unwrap(), ..serves("here", &labels, 0) }];
    let taken = |name: &str, pools: &[Serves]| intake(job(name), pools);
    assert!(matches!(taken("api.github.com.workflow_job.queued.1", &ours), Intake::Hold(_)));
    let strangers = [serves("here", &["nothing-of-this"], 0)];
    assert!(matches!(taken("api.github.com.workflow_job.queued.1", &strangers), Intake::Tell(_)));
    assert!(matches!(taken("api.github.com.workflow_job.completed.1", &ours), Intake::Tell(_)));
    assert_eq!(intake(Ok(Message::Other("ping".into())), &ours), Intake::Drop);
}

#[test]
fn a_job_in_a_queue_of_enterprises_pools_is_of_one_of_them_whichever_comes_first() {
    let of = |slug: &str, serves: Serves| {
        let scope = format!("enterprises/{slug}").parse().unwrap();
        Serves { scope, ..serves }
    };
    let pools = [
        of("octo", serves("small", &["small"], 0)),
        of("acme", serves("large", &["large", "x64"], 0)),
    ];
    let Intake::Hold(news) = intake(read(&text(ROUTER), &github(), at(0)), &pools) else {
        panic!("it waits")
    };
    assert_eq!(news.facts.pool.as_ref().unwrap().as_str(), "large");
}

#[test]
fn a_strangers_event_from_the_gateway_is_not_of_the_enterprise_whose_labels_it_has() {
    let Ok(Message::Told(mut queued)) =
        read(&event("api.github.com.workflow_job.queued.1"), &github(), at(0))
    else {
        panic!("an event")
    };
    queued.facts.enterprise = None;
    let labels: Vec<_> = queued.facts.labels.iter().map(|label| label.as_str()).collect();
    let enterprise = "enterprises/octo".parse().unwrap();
    let ours = [Serves { scope: enterprise, ..serves("here", &labels, 0) }];
    let told = intake(Ok(Message::Told(queued.clone())), &ours);
    assert!(matches!(told, Intake::Tell(news) if news.facts.pool.is_none()), "not this fleet's");
    queued.facts.enterprise = Some("Octo".into());
    assert!(matches!(intake(Ok(Message::Told(queued)), &ours), Intake::Hold(_)), "it says whose");
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        Just(Said::Word(JobWord::Queued)),
        Just(Said::Word(JobWord::Blocked)),
        Just(Said::Gone),
        Just(Said::Unknown { until: None }),
        (0..4000_i64).prop_map(|seconds| Said::Unknown { until: Some(at(seconds)) }),
    ]
}

fn question(id: u64) -> Question {
    let (repository, pool) = ("octo-org/app".to_owned(), "large".parse().unwrap());
    Question { id, repository, pool }
}

#[test]
fn a_message_is_done_when_its_job_runs_or_is_over_and_at_no_other_word() {
    for (word, done) in [
        (JobWord::Blocked, false),
        (JobWord::Queued, false),
        (JobWord::Running, true),
        (JobWord::Done, true),
    ] {
        let verdict = Doubt::default().next(Said::Word(word), 1, at(0));
        assert_eq!(verdict == Verdict::Done, done, "{word:?}: {verdict:?}");
    }
}

#[test]
fn a_job_that_github_does_not_know_is_believed_to_be_gone_when_it_says_so_twice() {
    let mut never_seen = Doubt::default();
    let Verdict::CheckAt(again) = never_seen.next(Said::Gone, 1, at(0)) else { panic!("once") };
    assert!(again >= at(20));
    let dead = never_seen.next(Said::Gone, 1, again);
    assert!(matches!(dead, Verdict::Reject(why) if why.contains("Actions: read")));
    let mut seen = Doubt::default();
    let _waits = seen.next(Said::Word(JobWord::Queued), 1, at(0));
    let _doubt = seen.next(Said::Gone, 1, at(60));
    assert_eq!(seen.next(Said::Gone, 1, at(120)), Verdict::Done, "its run was deleted");
    let mut flickers = Doubt::default();
    for seconds in 0..20 {
        let word = if seconds % 2 == 0 { Said::Gone } else { Said::Word(JobWord::Queued) };
        assert!(matches!(flickers.next(word, 1, at(seconds)), Verdict::CheckAt(_)));
    }
}

#[test]
fn a_waiting_job_is_asked_about_less_and_less_often() {
    let (mut doubt, mut now) = (Doubt::default(), at(0));
    let mut waits = Vec::new();
    for _ in 0..8 {
        let Verdict::CheckAt(next) = doubt.next(Said::Word(JobWord::Queued), 7, now) else {
            panic!("it waits")
        };
        waits.push((next - now).num_seconds());
        now = next;
    }
    assert!((50..=70).contains(&waits[0]) && (520..=600).contains(&waits[7]), "{waits:?}");
}

#[test]
fn all_messages_of_a_job_end_together_and_a_repeated_one_asks_nothing_more() {
    let mut held = Held::default();
    held.take(Tag(1), question(7), false, at(0));
    held.take(Tag(2), question(7), true, at(1));
    held.take(Tag(3), question(8), false, at(1));
    assert_eq!(held.messages(), 3);
    assert_eq!(held.due(9, at(10)), [], "a second message does not hurry the first");
    let due: BTreeSet<_> = held.due(9, at(60)).into_iter().map(|question| question.id).collect();
    assert_eq!(due, BTreeSet::from([7, 8]));
    assert_eq!(held.due(9, at(60)), [], "nobody is asked twice at the same time");
    let (verdict, tags) = held.answered(7, Said::Word(JobWord::Running), at(61));
    assert_eq!((verdict, tags), (Verdict::Done, vec![Tag(1), Tag(2)]));
    assert_eq!(held.messages(), 1);
}

#[test]
fn a_message_that_may_be_old_is_looked_up_at_once_and_a_fresh_one_later() {
    let mut held = Held::default();
    held.take(Tag(1), question(7), false, at(0));
    held.take(Tag(2), question(8), true, at(0));
    assert_eq!(held.due(9, at(0)), [question(8)]);
    assert!(held.next_check().unwrap() >= at(20));
}

#[test]
fn after_a_lost_connection_nothing_is_asked_that_was_asked_before() {
    let mut held = Held::default();
    held.take(Tag(1), question(7), true, at(0));
    assert_eq!(held.due(9, at(0)).len(), 1);
    let (Verdict::CheckAt(next), _) = held.answered(7, Said::Word(JobWord::Queued), at(1)) else {
        panic!("it waits")
    };
    held.lost(at(2));
    assert_eq!((held.messages(), held.next_check()), (0, None));
    held.take(Tag(1), question(7), true, at(5));
    assert_eq!(held.next_check(), Some(next));
    held.lost(at(10));
    held.lost(at(2000));
    held.take(Tag(1), question(7), true, at(2000));
    assert_eq!(held.next_check(), Some(at(2000)), "that was long ago");
}

#[test]
fn a_runner_that_takes_a_job_hurries_the_oldest_of_that_repository() {
    let mut held = Held::default();
    for id in 0..5_u64 {
        let seconds = i64::try_from(id).unwrap();
        held.take(Tag(id), question(id), false, at(10 - seconds));
    }
    let other = Question { repository: "octo-org/other".into(), ..question(9) };
    held.take(Tag(9), other, false, at(0));
    let due = |held: &Held| -> Vec<_> {
        held.clone().due(9, at(11)).into_iter().map(|question| question.id).collect()
    };
    held.hurry(Some("Octo-Org/App"), at(11));
    assert_eq!(due(&held), [3, 4], "by number, both due at the same moment");
    held.hurry(Some("Octo-Org/App"), at(11));
    assert_eq!(due(&held), [1, 2, 3, 4], "another runner has taken another job");
}

proptest! {
    #[test]
    fn however_github_answers_a_message_is_kept_or_ended_and_checked_in_bounded_time(
        answers in proptest::collection::vec(said(), 1..40), seed: u64,
    ) {
        let (mut doubt, mut now) = (Doubt::default(), at(0));
        for answer in answers {
            match doubt.next(answer, seed, now) {
                Verdict::CheckAt(next) => {
                    prop_assert!(next > now + Duration::from_secs(20), "no retry without backoff");
                    let asked_to_wait = match answer {
                        Said::Unknown { until: Some(until) } => until,
                        _ => now,
                    };
                    prop_assert!(next <= asked_to_wait.max(now + Duration::from_secs(600)));
                    now = next;
                }
                Verdict::Done | Verdict::Reject(_) => {
                    prop_assert_eq!(answer, Said::Gone, "silence never ends a message");
                    return Ok(());
                }
            }
        }
    }

    #[test]
    fn no_message_is_too_strange_to_be_read_or_refused(body in ".{0,200}", event in ".{0,20}") {
        let raw = Raw { event: Some(event), ..text(&body) };
        let _read_or_refused = read(&raw, &github(), at(0));
        let _opened_or_refused = kombu::open(&body);
    }

    #[test]
    fn tags_and_jobs_always_agree(
        steps in proptest::collection::vec((0..5_u8, 0..6_u64, 0..4_u64), 0..80)
    ) {
        let mut held = Held::default();
        let mut open = std::collections::BTreeMap::new();
        for (turn, (step, tag, id)) in steps.into_iter().enumerate() {
            let now = at(i64::try_from(turn).unwrap() * 60);
            match step {
                0 | 1 => {
                    // A line never uses a tag twice.
                    if let std::collections::btree_map::Entry::Vacant(free) = open.entry(tag) {
                        free.insert(id);
                        held.take(Tag(tag), question(id), step == 1, now);
                    }
                }
                2 => {
                    open.remove(&tag);
                    held.withdraw(Tag(tag), now);
                }
                3 => {
                    let (_, ended) = held.answered(id, Said::Word(JobWord::Running), now);
                    let wanted: Vec<_> =
                        open.iter().filter(|(_, of)| **of == id).map(|(tag, _)| Tag(*tag)).collect();
                    prop_assert_eq!(ended, wanted);
                    open.retain(|_, of| *of != id);
                }
                _ => {
                    open.clear();
                    held.lost(now);
                }
            }
            prop_assert_eq!(held.messages(), open.len());
        }
    }
}
