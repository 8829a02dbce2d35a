//! From an event to its lines. Pure but for the memory that is handed in.
//!
//! Each runner's life tells at most one `runner_installed`, one `runner_start` and one `runner_stop`,
//! in this order. A duration that nobody saw both ends of is left out rather than guessed, because a
//! guess poisons the median that somebody is paged on. An adopted runner that is online was told as
//! installed (and started, if busy) by the process before.

use std::time::Duration;

use runner_fleet_actors::{
    event::{DrainReason, FleetEvent, Job, Phase, Transition},
    port::Time,
};

use super::{
    entry::{Entry, JobStatus, Line, StatusInfo, Workflow},
    memory::{Life, Memory},
};

/// Longest text of a line, in characters: a cloud's fault text may hold a page.
const TEXT_MAX: usize = 1_000;

/// The lines of one event, in the order in which they are written.
#[must_use]
pub fn lines(event: &FleetEvent, memory: &mut Memory) -> Vec<Line> {
    match event {
        FleetEvent::Transition { at, transition } => {
            let mut lines = of_life(*at, transition, memory);
            lines.push(Line::new(*at, of_transition(transition)));
            lines
        }
        FleetEvent::Target { at, pool, runners, because } => {
            let because = cut(because);
            vec![Line::new(*at, Entry::Target { flavor: pool.clone(), runners: *runners, because })]
        }
        FleetEvent::Plan { at, pool, create, drain, because } => {
            let (flavor, because) = (pool.clone(), cut(&because.join("; ")));
            let entry = Entry::Plan { flavor, create: *create, drain: *drain, because };
            vec![Line::new(*at, entry)]
        }
        FleetEvent::Reconciled { at, pool, took, counts, crashed, target } => {
            let entry = Entry::Reconciliation {
                flavor: pool.clone(),
                crashed_runners: *crashed,
                idle_runners: counts.idle,
                active_runners: counts.busy,
                expected_runners: *target,
                duration: took.as_secs_f64(),
            };
            vec![Line::new(*at, entry)]
        }
        FleetEvent::Fault { at, pool, runner, error } => {
            let entry = Entry::Fault {
                flavor: pool.clone(),
                runner: runner.clone(),
                class: error.class,
                error: cut(&error.what),
            };
            vec![Line::new(*at, entry)]
        }
        FleetEvent::GuestLog { at, pool, runner, log } => {
            let (flavor, runner, log) = (pool.clone(), runner.clone(), cut(log));
            vec![Line::new(*at, Entry::GuestLog { flavor, runner, log })]
        }
        FleetEvent::InvariantBroken { at, name, seen } => {
            let entry = Entry::InvariantBroken { name: cut(name), seen: cut(seen) };
            vec![Line::new(*at, entry)]
        }
    }
}

fn of_transition(transition: &Transition) -> Entry {
    Entry::Transition {
        runner: transition.runner.clone(),
        flavor: transition.pool.clone(),
        from: transition.from,
        to: transition.to,
        after: transition.after.as_secs_f64(),
        because: cut(&transition.because),
        reason: transition.reason.as_ref().map(DrainReason::as_str),
        job_killed: transition.job_killed,
    }
}

/// The metric events of a runner's life that this change of state brings.
fn of_life(at: Time, transition: &Transition, memory: &mut Memory) -> Vec<Line> {
    let mut life = memory.take(&transition.runner).unwrap_or_default();
    let mut entries = Vec::new();
    if transition.job.is_some() {
        life.job.clone_from(&transition.job);
    }
    match (transition.from, transition.to) {
        (None, Phase::Creating | Phase::Registering) => life.born = Some(transition.created_at),
        (None, phase @ (Phase::Idle | Phase::Busy)) => {
            life.installed = true;
            life.start_told = phase == Phase::Busy;
            life.online = Some(at);
        }
        (_, Phase::Idle) => entries.extend(installed(at, transition, &mut life)),
        (_, Phase::Busy) => {
            entries.extend(installed(at, transition, &mut life));
            entries.extend(started(at, transition, &mut life));
        }
        (from, Phase::Draining | Phase::Deleted) => {
            let ran_unseen = !life.start_told
                && transition.reason == Some(DrainReason::Finished)
                && (transition.job.is_some() || transition.job_end.is_some());
            if ran_unseen {
                life.start_told = true;
                entries.push(Entry::RunnerStart {
                    flavor: transition.pool.clone(),
                    workflow: workflow(life.job.as_ref()),
                    idle: None,
                });
            }
            if from == Some(Phase::Busy) || ran_unseen {
                entries.extend(stopped(at, transition, &mut life));
            }
        }
        _ => {}
    }
    if transition.to != Phase::Deleted {
        memory.keep(&transition.runner, life);
    }
    entries.into_iter().map(|entry| Line::new(at, entry)).collect()
}

fn installed(at: Time, transition: &Transition, life: &mut Life) -> Option<Entry> {
    life.online.get_or_insert(at);
    if std::mem::replace(&mut life.installed, true) {
        return None;
    }
    // Without a known birth the time in the state before is the least that it can have been; the
    // field is not optional for those who read it.
    let duration = life.born.map_or(transition.after, |born| between(born, at)).as_secs_f64();
    Some(Entry::RunnerInstalled { flavor: transition.pool.clone(), duration })
}

fn started(at: Time, transition: &Transition, life: &mut Life) -> Option<Entry> {
    if std::mem::replace(&mut life.start_told, true) {
        return None;
    }
    life.started = Some(at);
    Some(Entry::RunnerStart {
        flavor: transition.pool.clone(),
        workflow: workflow(life.job.as_ref()),
        idle: life.online.map(|online| between(online, at).as_secs_f64()),
    })
}

fn stopped(at: Time, transition: &Transition, life: &mut Life) -> Option<Entry> {
    if std::mem::replace(&mut life.stop_told, true) {
        return None;
    }
    let end = transition.job_end.clone().unwrap_or_default();
    let by_itself = transition.reason == Some(DrainReason::Finished)
        && !transition.job_killed
        && end.exit_code.unwrap_or(0) == 0;
    Some(Entry::RunnerStop {
        flavor: transition.pool.clone(),
        workflow: workflow(life.job.as_ref()),
        status: if by_itself { JobStatus::Normal } else { JobStatus::Abnormal },
        status_info: end.exit_code.map(|code| StatusInfo { code }),
        job_duration: life.started.map(|started| between(started, at).as_secs_f64()),
        job_conclusion: end.conclusion,
    })
}

fn workflow(job: Option<&Job>) -> Workflow {
    let Some(job) = job else { return Workflow::default() };
    let text = |text: &Option<String>| text.as_deref().map(cut);
    Workflow {
        workflow: text(&job.workflow),
        repo: text(&job.repository),
        github_event: text(&job.event),
    }
}

/// Never negative, whatever the clock did.
fn between(from: Time, to: Time) -> Duration {
    (to - from).to_std().unwrap_or_default()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
