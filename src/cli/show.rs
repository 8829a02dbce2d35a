//! How answers look to a person. Pure but for the width of the terminal.

use std::{path::Path, time::Duration};

use runner_fleet_actors::{
    event::{PoolSnapshot, RunnerSnapshot},
    port::Time,
    sight::{Side, Sight, moment},
};
use serde_json::json;

use super::{
    Output,
    table::{table, terminal_width},
};
use crate::{
    config::{Config, format_duration},
    http::api::{ListingStatus, Status},
};

/// How long ago, or `0s` where clocks differ.
pub(super) fn age(since: Time, now: Time) -> String {
    format_duration((now - since).to_std().unwrap_or_default())
}

/// An error is history after this long, and not shown any more.
const HISTORY: Duration = Duration::from_secs(3600);

/// An error that was met of late, with how long ago that was.
fn last_error(what: Option<&String>, at: Option<Time>, now: Time) -> Option<String> {
    let what = what?;
    match at {
        Some(at) if now > at + HISTORY => None,
        Some(at) => Some(format!("last error {} ago: {what}", age(at, now))),
        None => Some(format!("last error: {what}")),
    }
}

pub(super) fn status(status: &Status, now: Time) -> String {
    status_at(status, now, terminal_width())
}

fn status_at(status: &Status, now: Time, width: Option<u16>) -> String {
    let fleet = &status.fleet;
    let attention = &status.readiness.attention;
    let ready = match status.readiness.ready {
        true if attention.is_empty() => "ready",
        true => "ready, with trouble",
        false => "NOT READY",
    };
    let up = age(fleet.started_at, now);
    let mut text = format!("fleet {}  version {}  up {up}  {ready}\n", fleet.id, fleet.version);
    for reason in &status.readiness.reasons {
        text.push_str(&format!("  {reason}\n"));
    }
    for note in &fleet.notes {
        text.push_str(&format!("{} ago: {}\n", age(note.at, now), note.what));
    }
    for trouble in attention {
        text.push_str(&format!("  look at {trouble}\n"));
    }
    if let Some(reload) = &fleet.last_reload {
        let went = if reload.ok { "done" } else { "REFUSED" };
        let ago = age(reload.at, now);
        text.push_str(&format!("configuration reload {ago} ago {went}: {}\n", reload.what));
    }
    text.push('\n');
    text.push_str(&pools_at(&status.pools, now, width));
    text.push_str("\n\n");
    text.push_str(&ports_at(status, now, width));
    if !status.sources.is_empty() {
        let sources = status.sources.iter().map(|source| {
            let error = source
                .failing_since
                .map_or_else(String::new, |since| format!("fails since {}; ", moment(since, now)));
            let error = source.last_error.as_ref().map(|what| format!("{error}last error: {what}"));
            let heard = source.last_word_at.map(|at| format!("{} ago", age(at, now)));
            vec![
                source.source.clone(),
                source.signals.to_string(),
                heard.unwrap_or_else(|| "never".to_owned()),
                error.unwrap_or_default(),
            ]
        });
        text.push_str("\n\n");
        text.push_str(&table(&["DEMAND FROM", "SIGNALS", "HEARD", "NOTE"], sources, width));
    }
    text
}

/// The ports, and below GitHub the scopes that are listed there: calls are counted for all of them.
fn ports_at(status: &Status, now: Time, width: Option<u16>) -> String {
    let seen = |sight: &Sight| {
        let listed = || sight.listed_at.map(|at| format!("listed {} ago", age(at, now)));
        sight.said(now).or_else(listed)
    };
    let mut rows = Vec::new();
    for (name, port) in &status.ports {
        let of_cloud = |one: &&ListingStatus| one.side == Side::Provider(name.clone());
        let sight = status.listings.iter().find(of_cloud).map(|one| &one.sight);
        let mut notes: Vec<_> = sight.and_then(seen).into_iter().collect();
        if let Some(until) = port.held_until.filter(|until| *until > now) {
            notes.push(format!("held until {}", moment(until, now)));
        }
        // What is failing now has said so.
        if sight.is_none_or(|sight| sight.trouble.is_none()) {
            notes.extend(last_error(port.last_error.as_ref(), port.last_error_at, now));
        }
        rows.push(vec![
            name.clone(),
            port.calls.to_string(),
            port.failures.to_string(),
            port.in_flight.to_string(),
            port.remaining.map_or_else(|| "-".to_owned(), |calls| calls.to_string()),
            notes.join("; "),
        ]);
    }
    for one in &status.listings {
        if let Side::Scope(scope) = &one.side {
            let mut row = vec![format!("github {scope}")];
            row.extend(std::iter::repeat_n("-".to_owned(), 4));
            row.push(seen(&one.sight).unwrap_or_default());
            rows.push(row);
        }
    }
    table(&["PORT", "CALLS", "FAILED", "NOW", "LEFT", "NOTE"], rows, width)
}

pub(super) fn pools(pools: &[PoolSnapshot], now: Time) -> String {
    pools_at(pools, now, terminal_width())
}

fn pools_at(pools: &[PoolSnapshot], now: Time, width: Option<u16>) -> String {
    let rows = pools.iter().map(|pool| {
        let counts = pool.counts;
        vec![
            pool.name.to_string(),
            pool.target.to_string(),
            counts.creating.saturating_add(counts.registering).to_string(),
            counts.idle.to_string(),
            counts.busy.to_string(),
            counts.draining.to_string(),
            pool.max.to_string(),
            pool_why(pool, now),
        ]
    });
    table(&["POOL", "TARGET", "START", "IDLE", "BUSY", "DRAIN", "MAX", "WHY"], rows, width)
}

fn pool_why(pool: &PoolSnapshot, now: Time) -> String {
    let mut why = Vec::new();
    if pool.retiring {
        why.push("left the configuration, being emptied".to_owned());
    }
    if !pool.target_because.is_empty() {
        why.push(pool.target_because.clone());
    }
    why.extend(pool.because.iter().cloned());
    if pool.late > 0 {
        let known = pool.boots.map_or_else(String::new, |boots| {
            format!(
                " (half of them {} s, 99 of 100 {} s)",
                boots.median.as_secs(),
                boots.p99.as_secs()
            )
        });
        why.push(format!("{} take far longer to come online than others did{known}", pool.late));
    }
    why.extend(pool.habits.said(now));
    why.extend(pool.holds.iter().map(|hold| hold.said(now)));
    why.join("; ")
}

pub(super) fn runners(runners: &[RunnerSnapshot], now: Time) -> String {
    runners_at(runners, now, terminal_width())
}

fn runners_at(runners: &[RunnerSnapshot], now: Time, width: Option<u16>) -> String {
    let rows = runners.iter().map(|runner| {
        let state = match &runner.step {
            Some(step) => format!("{} ({step})", runner.state),
            None => runner.state.to_string(),
        };
        vec![runner.name.to_string(), state, age(runner.since, now), runner_why(runner, now)]
    });
    table(&["RUNNER", "STATE", "FOR", "WHY"], rows, width)
}

fn runner_why(runner: &RunnerSnapshot, now: Time) -> String {
    let job = runner.job.as_ref().and_then(|job| job.repository.as_ref());
    let mut why: Vec<String> =
        job.map(|repository| format!("job of {repository}")).into_iter().collect();
    why.push(runner.why.clone());
    why.extend(runner.stuck(now).map(|stuck| stuck.what));
    why.extend(runner.last_error.as_ref().map(|error| format!("last error: {error}")));
    why.join("; ")
}

pub(super) fn runner(runner: &RunnerSnapshot, now: Time) -> String {
    let mut rows = vec![
        ("name", runner.name.to_string()),
        ("pool", runner.pool.to_string()),
        ("state", runner.state.to_string()),
        ("for", age(runner.since, now)),
        ("age", age(runner.created_at, now)),
        ("why", runner.why.clone()),
    ];
    let job = runner.job.clone().unwrap_or_default();
    let known = [
        ("step", runner.step.clone()),
        ("cloud task", runner.task.as_ref().map(|task| task.word.to_string())),
        ("stuck", runner.stuck(now).map(|stuck| stuck.what)),
        ("state ends by", runner.deadline.map(|deadline| deadline.format("%F %TZ").to_string())),
        ("VM", runner.vm_id.as_ref().map(ToString::to_string)),
        ("registration", runner.registration_id.as_ref().map(ToString::to_string)),
        ("repository", job.repository.map(Into::into)),
        ("workflow", job.workflow.map(Into::into)),
        ("event", job.event.map(Into::into)),
        ("run", job.run_id.map(|run| run.to_string())),
        ("shape", runner.shape.clone()),
        ("last error", runner.last_error.clone()),
    ];
    rows.extend(known.into_iter().filter_map(|(key, value)| Some((key, value?))));
    let lines: Vec<_> = rows.into_iter().map(|(key, value)| format!("{key:<14}{value}")).collect();
    lines.join("\n")
}

/// What `check` says of a configuration without faults.
pub(super) fn good_config(path: &Path, config: &Config, output: Output) -> String {
    let pools: Vec<_> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
    let providers: Vec<_> = config.providers.keys().map(String::as_str).collect();
    match output {
        Output::Json => json!({
            "file": path,
            "faults": [],
            "warnings": config.warnings,
            "fleet": config.fleet.id,
            "providers": providers,
            "pools": pools,
        })
        .to_string(),
        Output::Table => format!(
            "{}: no fault found; fleet {}, providers: {}; pools: {}",
            path.display(),
            config.fleet.id,
            providers.join(", "),
            pools.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests;
