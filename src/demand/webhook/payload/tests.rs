#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use proptest::prelude::*;

use super::*;

fn example(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/webhooks/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

fn job(name: &str) -> JobNews {
    match read("workflow_job", &example(name), Time::default()).unwrap() {
        Said::Job(news) => *news,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_real_payload_is_taken() {
    let folder = format!("{}/tests/data/webhooks", env!("CARGO_MANIFEST_DIR"));
    let mut taken = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let event = name.split('.').rev().find(|part| ["ping", "workflow_job"].contains(part));
        let event = event.or_else(|| name.contains("workflow_job.").then_some("workflow_job"));
        let Some(event) = event else { continue };
        if name.contains("schema") {
            continue;
        }
        let said = read(event, &std::fs::read(&path).unwrap(), Time::default()).unwrap();
        assert_ne!(said, Said::Nothing, "{name}");
        taken += 1;
    }
    assert!(taken >= 15, "{taken} payloads");
}

#[test]
fn a_queued_job_that_a_deployment_rule_holds_is_blocked() {
    assert_eq!(job("api.github.com.workflow_job.queued.2").word, JobWord::Blocked);
    assert_eq!(job("api.github.com.workflow_job.waiting.1").word, JobWord::Blocked);
    assert_eq!(job("api.github.com.workflow_job.queued.1").word, JobWord::Queued);
}

#[test]
fn a_queued_job_has_no_runner_whatever_its_last_attempt_had() {
    let queued = job("api.github.com.workflow_job.queued.1");
    assert_eq!((queued.facts.runner, queued.facts.started_at), (None, None));
    assert!(queued.facts.queued_at.is_some());
    let running = job("api.github.com.workflow_job.in_progress.1");
    assert_eq!(running.facts.runner.as_deref(), Some("my runner"));
    assert_eq!(running.facts.labels, ["gpu", "db-app", "dc-03"]);
    let done = job("api.github.com.workflow_job.completed.1");
    assert_eq!(done.facts.conclusion.as_deref(), Some("failure"));
    assert_eq!(done.facts.repository.as_deref(), Some("Codertocat/Hello-World"));
}

#[test]
fn other_events_say_nothing_and_a_body_that_is_none_is_told_so() {
    assert_eq!(read("push", b"{}", Time::default()), Ok(Said::Nothing));
    assert_eq!(read("ping", b"anything", Time::default()), Ok(Said::Ping));
    let error = read("workflow_job", b"{\"action\": ", Time::default()).unwrap_err();
    assert!(error.to_string().contains("no workflow_job event"), "{error}");
    let error = read("workflow_job", b"{}", Time::default()).unwrap_err();
    assert!(error.to_string().contains("has no workflow_job"), "{error}");
}

proptest! {
    #[test]
    fn no_body_is_a_crash(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _read = read("workflow_job", &body, Time::default());
    }
}

/// What an odd body comes to: `number word labels runner#id`, or what is wrong with it.
fn odd(name: &str) -> String {
    let path = format!("{}/tests/data/webhooks/odd/{name}", env!("CARGO_MANIFEST_DIR"));
    told(&std::fs::read(path).unwrap(), None)
}

fn told(body: &[u8], content_type: Option<&str>) -> String {
    let body = match json(content_type, body) {
        Ok(body) => body,
        Err(why) => return why.to_string(),
    };
    let news = match read("workflow_job", &body, Time::default()) {
        Ok(Said::Job(news)) => news,
        Ok(other) => return format!("{other:?}"),
        Err(why) => return why.to_string(),
    };
    let facts = &news.facts;
    let labels = facts.labels.join("|");
    let id = facts.runner_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let runner = facts.runner.as_deref().unwrap_or("-");
    format!("{} {} {labels} {runner}#{id}", news.key, news.word.as_str())
}

#[test]
fn what_cannot_be_read_of_a_delivery_costs_itself_and_never_a_jobs_end() {
    for (name, wanted) in [
        ("null-labels.json", "2004 done  -#-"),
        ("group-only.json", "2000 queued  -#-"),
        ("one-string-label.json", "2001 queued self-hosted, linux, bench -#-"),
        ("foreign-runner.json", "900001 done ubuntu-latest ci--small--0123456789ab#999999"),
        ("numbers-as-texts.json", "2002 running self-hosted|22 ci--large--000000000001#31"),
        ("missing-fields.json", "2003 done  -#-"),
        ("unknown-action.json", "2005 queued self-hosted|large -#-"),
        ("unknown-status.json", "Nothing"),
        ("odd-types.json", "2007 queued self-hosted|large -#-"),
        ("no-repository.json", "2008 queued self-hosted|large -#-"),
        ("escapes.json", "2009 queued self-hosted|lar\u{fffd}ge -#-"),
        ("no-number.json", "its workflow_job has no number as its id"),
        ("enterprise.json", "2010 queued self-hosted|large -#-"),
    ] {
        assert_eq!(odd(name), wanted, "{name}");
    }
}

#[test]
fn a_form_is_read_as_githubs_default_content_type_has_it() {
    let path = format!("{}/tests/data/webhooks/odd/form-encoded.txt", env!("CARGO_MANIFEST_DIR"));
    let body = std::fs::read(path).unwrap();
    let wanted = "1001 queued self-hosted|linux|bench -#-";
    for kind in
        ["application/x-www-form-urlencoded", "Application/X-WWW-Form-URLEncoded; charset=utf-8"]
    {
        assert_eq!(told(&body, Some(kind)), wanted);
        assert!(told(b"load=%7B%7D", Some(kind)).contains("content type"), "what to set");
    }
    let plain = br#"{"action": "queued", "workflow_job": {"id": 7, "status": "queued"}}"#;
    assert_eq!(told(plain, Some("application/json")), "7 queued  -#-");
}

#[test]
fn where_a_job_is_and_who_may_see_it_is_read_as_far_as_it_is_said() {
    let read = |name: &str| {
        let path = format!("{}/tests/data/webhooks/odd/{name}", env!("CARGO_MANIFEST_DIR"));
        match read("workflow_job", &std::fs::read(path).unwrap(), Time::default()).unwrap() {
            Said::Job(news) => news.facts,
            other => panic!("{other:?}"),
        }
    };
    let facts = read("enterprise.json");
    assert_eq!(facts.enterprise.as_deref(), Some("octo-corp"));
    assert_eq!((facts.repository_id, facts.public), (Some(78), Some(true)));
    assert_eq!(read("unknown-action.json").public, Some(false), "internal is not public");
    assert_eq!(read("numbers-as-texts.json").repository_id, Some(77));
    let told = |owner: &str, organisation: &str| {
        let body = format!(
            "{{\"action\": \"queued\", \"workflow_job\": {{\"id\": 5}}, \"repository\": \
             {{\"full_name\": \"acme/app\", \"owner\": {owner}}}, \"organization\": {organisation}}}"
        );
        match super::read("workflow_job", body.as_bytes(), Time::default()).unwrap() {
            Said::Job(news) => news.facts.owner_id,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told("{\"id\": 9}", "{\"id\": 9}"), Some(9));
    assert_eq!(told("{\"id\": 9}", "null"), Some(9), "a repository's own hook");
    assert_eq!(told("[]", "7"), None);
    let odd = read("odd-types.json");
    assert_eq!((odd.enterprise, odd.public, odd.name), (None, None, None));
}

#[test]
fn lists_without_end_take_no_memory_and_change_nothing() {
    let many = |element: &str| vec![element; 200_000].join(",");
    for (field, value) in [
        ("labels", format!("[{}]", many("\"x\""))),
        ("labels", format!("[{}]", many("[]"))),
        ("name", format!("[{}]", many("{}"))),
        ("name", format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
        ("steps", format!("[{}]", many("{\"a\": [1]}"))),
    ] {
        let body = format!(
            "{{\"action\": \"completed\", \"workflow_job\": {{\"id\": 5, \"{field}\": {value}}}}}"
        );
        let Said::Job(news) = read("workflow_job", body.as_bytes(), Time::default()).unwrap()
        else {
            panic!("{field}")
        };
        assert!(news.word == JobWord::Done && news.facts.labels.len() <= 101, "{field}");
    }
}
