//! What GitHub's actions service answers, and what a listener does with a message.

use std::time::Duration;

use runner_fleet::demand::scale_set::{
    listener::{Action, Event, Listener, Memory},
    wire::{self, Happened, JobMessage, Message},
};
use runner_fleet_actors::foreign::{Foreign, NAME_MAX, WORDS_MAX};
use serde_json::{Value, json};

use super::{assert_tame, now};

/// Runners at most.
const CAPACITY: u32 = 3;

/// Any answer: each reader must stand each body.
pub fn check(body: &[u8]) {
    let _ = (wire::connection(body), wire::registration_token(body), wire::jit_config(body));
    let _ = (wire::ids(body), wire::acquirable(body));
    if let Some(session) = wire::session(body) {
        assert_eq!(
            session.id.find(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c)),
            None
        );
    }
    let (_, words) = wire::refusal(body);
    words.iter().for_each(|words| assert_tame(words, WORDS_MAX));
    if let Some(sets) = wire::scale_sets(body) {
        assert!(sets.iter().all(|set| set.id > 0), "zero is no number of a set");
        sets.iter().flat_map(|set| &set.labels).for_each(of_text);
    }
    if let Some((agents, _)) = wire::agents(body) {
        assert!(agents.iter().all(|agent| agent.id != Some(0) && agent.scale_set != Some(0)));
    }
    let Some(message) = wire::message(body) else { return };
    assert_eq!(wire::message(body).as_ref(), Some(&message), "one body, one meaning");
    message.jobs.iter().for_each(of_job);
    one_bad_job(body, &message);
    heard_then_acknowledged(message);
}

fn of_text(text: &Foreign) {
    assert_tame(text, NAME_MAX);
}

fn of_job(job: &JobMessage) {
    let texts = [
        &job.job,
        &job.repository,
        &job.name,
        &job.workflow,
        &job.event,
        &job.runner,
        &job.conclusion,
    ];
    texts.into_iter().flatten().chain(&job.labels).for_each(of_text);
    assert!(texts.into_iter().flatten().all(|text| !text.is_empty()));
    assert!(job.run_id != Some(0) && job.runner_id != Some(0), "the service writes 0 for none");
}

/// A job of a message that cannot be read costs itself, wherever it stands.
fn one_bad_job(body: &[u8], message: &Message) {
    let Some(mut envelope) = wire::json(body) else { return };
    let inner = envelope.get("body").and_then(Value::as_str).unwrap_or_default();
    let Some(Value::Array(mut jobs)) = wire::json(inner.as_bytes()) else { return };
    if message.jobs.is_empty() {
        return;
    }
    for (at, bad) in [(0, Value::Null), (jobs.len() / 2, json!({ "messageType": "Surprise" }))] {
        jobs.insert(at, bad);
    }
    envelope["body"] = Value::Array(jobs).to_string().into();
    let mixed = wire::message(envelope.to_string().as_bytes()).unwrap();
    assert_eq!((&mixed.jobs, mixed.unread), (&message.jobs, message.unread + 2));
}

/// No job is acquired above the capacity, and nothing is acknowledged that was not heard.
fn heard_then_acknowledged(message: Message) {
    let opened = || Event::Opened { session: "s".to_owned(), expires: None, statistics: None };
    let mut listener = Listener::new(1);
    let first = [Event::Recalled(Memory::default()), Event::Found(Some(1)), opened(), Event::Done];
    for event in first {
        listener = listener.next(event, now(), CAPACITY);
    }
    let (id, statistics) = (message.id, message.statistics);
    let waits: Vec<u64> = message
        .jobs
        .iter()
        .filter(|job| job.happened == Happened::Available)
        .map(|job| job.request)
        .collect();
    assert_eq!(listener.action(), Action::Poll { last: 0 });
    let came = Event::Came { message, after: Duration::from_secs(2) };
    listener = listener.next(came, now(), CAPACITY);
    let mut heard = false;
    for _ in 0..10 {
        let event = match listener.action() {
            Action::Hear(told) => {
                assert_eq!(told.id, id);
                heard = true;
                Event::Done
            }
            Action::Acknowledge { message } => {
                assert!(heard && message == id);
                Event::Done
            }
            Action::Acquire { requests, .. } => {
                assert!(requests.len() <= CAPACITY as usize);
                assert!(requests.iter().all(|request| *request > 0 && waits.contains(request)));
                Event::Acquired(requests)
            }
            Action::Remember(memory) => {
                assert!(heard && memory.last == id);
                Event::Done
            }
            Action::Renew { .. } => opened(),
            Action::Look { .. } => Event::Acquirable(Vec::new()),
            Action::Poll { last } => {
                assert!(heard && last == id);
                if let Some((numbers, told)) = listener.numbers(now()).zip(statistics) {
                    assert_eq!(numbers.statistics, told, "the numbers are GitHub's");
                }
                return;
            }
            other => panic!("{other:?}"),
        };
        listener = listener.next(event, now(), CAPACITY);
    }
    panic!("a message is not done with: {:?}", listener.action());
}
