//! The commands that talk: each is one call of the API and the way to show its answer.

use std::process::ExitCode;

use http::Method;
use runner_fleet_actors::port::Time;
use serde_json::{Value, json};

use super::{
    Command, Output, Talk, TargetWord,
    client::{self, CallError},
    complain, fail, jobs, say, show,
};
use crate::http::api::{
    FlushRequest, Flushed, Jobs, Pools, Runners, Status, Taken, TargetOverride, Waits, WhyWaiting,
};

/// How an answer is shown to a person.
type Show = fn(Value, Time) -> serde_json::Result<String>;

/// One call.
struct Call {
    method: Method,
    path: String,
    body: Option<Value>,
    show: Show,
}

/// Carries out a command that talks to the daemon.
pub(super) fn call(command: Command, talk: &Talk) -> ExitCode {
    let Some(call) = translate(command) else {
        return complain(super::WRONG, "this command does not talk to the daemon");
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(super::FAILED, &format!("no runtime: {error}")),
    };
    let Call { method, path, body, show } = call;
    match runtime.block_on(client::call(&talk.socket, method, &path, body)) {
        Ok(answer) => {
            let text = match talk.output {
                Output::Json => serde_json::to_string_pretty(&answer),
                Output::Table => show(answer, chrono::Utc::now()),
            };
            match text {
                Ok(text) => say(&text),
                Err(error) => fail(&CallError::Broken(format!(
                    "the daemon's answer is not in words of this version: {error}; \
                     is the daemon of the same version? --output json shows it as it is"
                ))),
            }
        }
        Err(error) => fail(&error),
    }
}

fn translate(command: Command) -> Option<Call> {
    let call = |method, path: String, body, show| Some(Call { method, path, body, show });
    let (get, post) = (Method::GET, Method::POST);
    match command {
        Command::Status => call(get, "/v1/status".to_owned(), None, status),
        Command::Pools => call(get, "/v1/pools".to_owned(), None, pools),
        Command::Runners { name: Some(name), .. } => {
            call(get, format!("/v1/runners/{}", segment(&name)), None, runner)
        }
        Command::Runners { name: None, pool, state } => {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for (key, value) in [("pool", pool), ("state", state)] {
                if let Some(value) = value {
                    query.append_pair(key, &value);
                }
            }
            call(get, format!("/v1/runners?{}", query.finish()), None, runners)
        }
        Command::Jobs(args) => {
            let (path, show): (_, Show) = if args.summary {
                (jobs::waits_path(&args), waits)
            } else {
                (jobs::path(&args), jobs)
            };
            call(get, path, None, show)
        }
        Command::WhyWaiting { job } => {
            let path = format!("/v1/jobs/{}/why", segment(jobs::key(&job)));
            call(get, path, None, why_waiting)
        }
        Command::Target { pool, runners } => {
            let path = format!("/v1/pools/{}/target", segment(&pool));
            match runners {
                TargetWord::Runners(runners) => {
                    call(Method::PUT, path, Some(json!(TargetOverride { runners })), target)
                }
                TargetWord::Clear => call(Method::DELETE, path, None, taken),
            }
        }
        Command::Drain { name } => {
            call(post, format!("/v1/runners/{}/drain", segment(&name)), None, taken)
        }
        Command::Delete { name, force } => {
            let path = format!("/v1/runners/{}?force={force}", segment(&name));
            call(Method::DELETE, path, None, taken)
        }
        Command::Flush { pool, busy, force } => {
            let path = format!("/v1/pools/{}/flush", segment(&pool));
            call(post, path, Some(json!(FlushRequest { busy, force })), flushed)
        }
        Command::Reconcile => call(post, "/v1/reconcile".to_owned(), None, taken),
        Command::Reload => call(post, "/v1/reload".to_owned(), None, taken),
        Command::Run(_) | Command::Check(_) | Command::Demo(_) | Command::Completions { .. } => {
            None
        }
    }
}

/// A name as one segment of a path, whatever was typed.
fn segment(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

fn status(answer: Value, now: Time) -> serde_json::Result<String> {
    serde_json::from_value::<Status>(answer).map(|status| show::status(&status, now))
}

fn pools(answer: Value, now: Time) -> serde_json::Result<String> {
    serde_json::from_value::<Pools>(answer).map(|pools| show::pools(&pools.pools, now))
}

fn runners(answer: Value, now: Time) -> serde_json::Result<String> {
    serde_json::from_value::<Runners>(answer).map(|runners| show::runners(&runners.runners, now))
}

fn runner(answer: Value, now: Time) -> serde_json::Result<String> {
    serde_json::from_value(answer).map(|runner| show::runner(&runner, now))
}

fn jobs(answer: Value, now: Time) -> serde_json::Result<String> {
    serde_json::from_value::<Jobs>(answer).map(|jobs| jobs::jobs(&jobs.jobs, now))
}

fn waits(answer: Value, _: Time) -> serde_json::Result<String> {
    serde_json::from_value::<Waits>(answer).map(|waits| jobs::waits(&waits.days))
}

fn why_waiting(answer: Value, now: Time) -> serde_json::Result<String> {
    serde_json::from_value::<WhyWaiting>(answer).map(|why| jobs::why_waiting(&why, now))
}

fn target(answer: Value, _: Time) -> serde_json::Result<String> {
    let target: TargetOverride = serde_json::from_value(answer)?;
    Ok(format!("the target is fixed at {}; \"clear\" lets it follow demand again", target.runners))
}

fn flushed(answer: Value, _: Time) -> serde_json::Result<String> {
    let Flushed { pool, drained, killed } = serde_json::from_value(answer)?;
    Ok(format!("pool {pool}: {drained} idle runners are drained, {killed} busy ones deleted"))
}

fn taken(answer: Value, _: Time) -> serde_json::Result<String> {
    serde_json::from_value::<Taken>(answer).map(|taken| taken.message)
}
