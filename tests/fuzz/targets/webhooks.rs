//! Bodies of webhook deliveries, from their JSON to the book of jobs.

use runner_fleet::demand::webhook::payload::{self, Said};
use runner_fleet_actors::{
    foreign::{Foreign, NAME_MAX, WORDS_MAX},
    job::{
        Book, JobFacts, JobNews, JobWord, Serves, concerns,
        speech::{Numbers, Word},
    },
    name::{RegistrationId, RunnerName, Scope},
};

use super::{assert_tame, now};

/// One more than a runner can have.
const LABELS_MAX: usize = 101;
const OURS: RegistrationId = RegistrationId(7);

/// A delivery's body.
pub fn check(body: &[u8]) {
    as_a_form(body);
    let said = payload::read("workflow_job", body, now());
    assert_eq!(said, payload::read("workflow_job", body, now()), "one body, one meaning");
    assert_eq!(payload::read("push", body, now()), Ok(Said::Nothing));
    match said {
        Ok(Said::Job(news)) => {
            of_facts(&news.facts);
            of_a_runner(&news.facts);
            in_the_book(&news);
        }
        Ok(Said::Nothing) => {}
        Ok(Said::Ping) => panic!("a ping is another event"),
        Err(why) => assert_tame(&why.to_string(), WORDS_MAX),
    }
}

/// GitHub's other content type holds the same.
fn as_a_form(body: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if str::from_utf8(body).is_err() {
        return;
    }
    let mut form = b"payload=".to_vec();
    for byte in body {
        form.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    let kind = Some("application/x-www-form-urlencoded; charset=utf-8");
    assert_eq!(payload::json(kind, &form).as_deref(), Ok(body));
    assert_eq!(payload::json(Some("application/json"), body).as_deref(), Ok(body));
}

fn of_facts(facts: &JobFacts) {
    let texts = [
        &facts.repository,
        &facts.enterprise,
        &facts.name,
        &facts.workflow,
        &facts.event,
        &facts.group,
        &facts.runner,
        &facts.conclusion,
    ];
    for text in texts.into_iter().flatten().chain(&facts.labels) {
        assert!(!text.is_empty());
        assert_tame(text, NAME_MAX);
    }
    assert!(facts.labels.len() <= LABELS_MAX);
    assert!(facts.runner_id.is_none_or(|id| id.0 > 0));
    // So the ledger keeps them.
    let kept = serde_json::to_string(facts).unwrap();
    assert_eq!(&serde_json::from_str::<JobFacts>(&kept).unwrap(), facts);
}

fn pool() -> Serves {
    let scope = Scope::Organisation("acme".to_owned());
    Serves::new("small".parse().unwrap(), scope, vec!["self-hosted".to_owned()])
}

fn is_acmes(facts: &JobFacts) -> bool {
    let owner = facts.repository.as_ref().and_then(|name| name.split_once('/'));
    owner.is_some_and(|(owner, _)| owner.eq_ignore_ascii_case("acme"))
}

/// A word about a runner counts from its scope and by its number alone.
fn of_a_runner(facts: &JobFacts) {
    let pools = [pool()];
    assert!(is_acmes(facts) || !concerns(facts, &pools), "a stranger's job");
    let Some(runner) = facts.runner.as_ref().and_then(|name| name.parse::<RunnerName>().ok())
    else {
        return;
    };
    let word = Numbers::default().judge(&runner, facts, &pools, Some(OURS));
    if let Word::Ours(number) = word {
        assert_eq!(number, Some(OURS));
        assert!(is_acmes(facts) && runner.pool() == pools[0].pool);
    }
}

/// A repeated delivery changes nothing, and no job goes back.
fn in_the_book(news: &JobNews) {
    assert!(news.key.id().is_some());
    let begun = news.word >= JobWord::Running;
    let of_runner = (&news.facts.runner, news.facts.runner_id, news.facts.started_at);
    assert!(begun || of_runner == (&None::<Foreign>, None, None), "nobody has it yet");
    let pools = [pool()];
    let mut book = Book::default();
    assert!(book.apply(news.clone(), &pools).is_some());
    assert_eq!(book.apply(news.clone(), &pools), None);
    let earlier = JobNews { word: JobWord::Blocked, ..news.clone() };
    book.apply(earlier, &pools);
    assert_eq!(book.get(&news.key).map(|job| job.word), Some(news.word));
    let counted: u32 = book.demands().values().map(|(queued, running)| queued + running).sum();
    let open = matches!(news.word, JobWord::Queued | JobWord::Running);
    assert!(counted <= u32::from(open && is_acmes(&news.facts)));
}
