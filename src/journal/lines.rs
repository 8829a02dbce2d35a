//! From an event to its lines. Pure but for the memory that is handed in.
//!
//! Each runner's life tells at most one `runner_installed`, one `runner_start` and one `runner_stop`,
//! in this order. A duration that nobody saw both ends of is left out rather than guessed, because a
//! guess poisons the median that somebody is paged on. An adopted runner that is online was told as
//! installed (and started, if busy) by the process before.
//!
//! Where the guest reports, its own clock says how long it waited and how long its job ran: that is true
//! also of a report that came late. Such a runner's `runner_stop` is held until its guest has said its
//! last word, which alone knows the conclusion and the exit code; that is a moment, and at the longest
//! the time until its VM is gone.

use std::time::Duration;

use runner_fleet_actors::{
    event::{DrainReason, FleetEvent, GuestTimes, Job, JobEnd, Phase, Transition},
    name::PoolName,
    port::Time,
};

use super::{
    entry::{Entry, JobStatus, Line, StatusInfo, Workflow},
    memory::{Life, Memory},
};

/// Longest text of a line, in characters: a cloud's fault text may hold a page.
const TEXT_MAX: usize = 1_000;
/// Longest log excerpt, in characters.
const TAIL_MAX: usize = 4_096;

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
        FleetEvent::GuestStopped { at, pool, runner, end, times } => {
            // Of a runner that is gone, or was never heard of, there is nothing to tell.
            let Some(mut life) = memory.take(runner) else { return Vec::new() };
            life.hear(end, *times);
            let told = life.held.and_then(|ended| stopped(pool, ended, true, &mut life));
            memory.keep(runner, life);
            told.map(|entry| Line::new(*at, entry)).into_iter().collect()
        }
        FleetEvent::GuestLog { at, pool, runner, log } => {
            let (flavor, runner, log) = (pool.clone(), runner.clone(), tail(log));
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
    life.hear(&transition.job_end.clone().unwrap_or_default(), transition.times);
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
                && had_job(transition);
            if ran_unseen {
                life.start_told = true;
                entries.push(Entry::RunnerStart {
                    flavor: transition.pool.clone(),
                    workflow: workflow(life.job.as_ref()),
                    idle: seconds(life.times.idle()),
                });
            }
            let by_itself =
                transition.reason == Some(DrainReason::Finished) && !transition.job_killed;
            if from == Some(Phase::Busy) || ran_unseen {
                let reports = life.times != GuestTimes::default();
                if by_itself && reports && life.end.exit_code.is_none() {
                    life.held = Some(at);
                } else {
                    entries.extend(stopped(&transition.pool, at, by_itself, &mut life));
                }
            }
            if transition.to == Phase::Deleted
                && let Some(ended) = life.held
            {
                entries.extend(stopped(&transition.pool, ended, true, &mut life));
            }
        }
        _ => {}
    }
    if transition.to != Phase::Deleted {
        memory.keep(&transition.runner, life);
    }
    entries.into_iter().map(|entry| Line::new(at, entry)).collect()
}

/// Whether anybody said that there was a job. An exit code alone says only that the runner application
/// ended.
fn had_job(transition: &Transition) -> bool {
    transition.job.is_some()
        || transition.times.job_started.is_some()
        || transition.job_end.as_ref().is_some_and(|end| end.conclusion.is_some())
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
    let seen = life.online.map(|online| between(online, at));
    Some(Entry::RunnerStart {
        flavor: transition.pool.clone(),
        workflow: workflow(life.job.as_ref()),
        idle: seconds(life.times.idle().or(seen)),
    })
}

fn stopped(pool: &PoolName, ended: Time, by_itself: bool, life: &mut Life) -> Option<Entry> {
    life.held = None;
    if std::mem::replace(&mut life.stop_told, true) {
        return None;
    }
    let normal = by_itself && life.end.exit_code.unwrap_or(0) == 0;
    let seen = life.started.map(|started| between(started, ended));
    Some(Entry::RunnerStop {
        flavor: pool.clone(),
        workflow: workflow(life.job.as_ref()),
        status: if normal { JobStatus::Normal } else { JobStatus::Abnormal },
        status_info: life.end.exit_code.map(|code| StatusInfo { code }),
        job_duration: seconds(life.times.job().or(seen)),
        job_conclusion: life.end.conclusion.clone(),
    })
}

impl Life {
    /// Takes in what is told of its end and its times. What is known already stays.
    fn hear(&mut self, end: &JobEnd, times: GuestTimes) {
        self.end.conclusion = self.end.conclusion.take().or_else(|| end.conclusion.clone());
        self.end.exit_code = self.end.exit_code.or(end.exit_code);
        self.times.merge(times);
    }
}

fn seconds(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_secs_f64())
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

/// The end of a text: of a log the last lines are those that tell.
fn tail(text: &str) -> String {
    match text.char_indices().rev().nth(TAIL_MAX) {
        Some((start, c)) => format!("…{}", &text[start + c.len_utf8()..]),
        None => text.to_owned(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
