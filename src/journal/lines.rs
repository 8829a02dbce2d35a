//! From an event to its lines. Pure but for the memory that is handed in.
//!
//! Each runner's life tells at most one `runner_installed`, one `runner_start` and one `runner_stop`,
//! in this order. A duration that nobody saw both ends of is left out rather than guessed, because a
//! guess poisons the median that somebody is paged on. An adopted runner that is online was told as
//! installed (and started, if busy) by the process before.
//!
//! Where the guest reports, its own clock says how long it waited and how long its job ran: that is true
//! also of a report that came late. What such a guest alone knows is waited for: `runner_start` for the
//! job's repository and workflow, where a listing or an answer showed the job first, and `runner_stop`
//! for the last word, with conclusion and exit code. That takes a moment; what has not come when the
//! runner goes on its way, or its VM is gone, is left out. Nothing is kept until the registration has
//! vanished too: GitHub takes minutes for that, and a job that was cut off is news now.

use std::time::Duration;

use runner_fleet_actors::{
    event::{DrainReason, FleetEvent, GuestTimes, Job, JobEnd, Phase, Transition},
    foreign::Foreign,
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
        FleetEvent::VmGone { at, pool, runner } => {
            let Some(mut life) = memory.take(runner) else { return Vec::new() };
            let stop = stopped(pool, true, &mut life);
            memory.keep(runner, life);
            stop.into_iter().map(|entry| Line::new(*at, entry)).collect()
        }
        FleetEvent::GuestTold { at, pool, runner, job, end, times } => {
            // Of a runner that is gone, or was never heard of, there is nothing to tell.
            let Some(mut life) = memory.take(runner) else { return Vec::new() };
            life.hear(job.as_ref(), end.as_ref(), *times);
            let mut entries = Vec::new();
            if life.knows_its_job() {
                entries.extend(started(pool, &mut life));
            }
            if end.is_some() {
                entries.extend(stopped(pool, true, &mut life));
            }
            memory.keep(runner, life);
            entries.into_iter().map(|entry| Line::new(*at, entry)).collect()
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
    life.hear(transition.job.as_ref(), transition.job_end.as_ref(), transition.times);
    let pool = &transition.pool;
    match (transition.from, transition.to) {
        (None, Phase::Creating | Phase::Registering) => life.born = Some(transition.created_at),
        (from, phase @ (Phase::Idle | Phase::Busy)) if from.is_none() || transition.found => {
            life.installed = true;
            life.start_told = phase == Phase::Busy;
            life.online = Some(at);
        }
        (_, Phase::Idle) => entries.extend(installed(at, transition, &mut life)),
        (_, Phase::Busy) => {
            entries.extend(installed(at, transition, &mut life));
            life.began = true;
            life.started.get_or_insert(at);
            if life.knows_its_job() || !life.reports() {
                entries.extend(started(pool, &mut life));
            }
        }
        (from, Phase::Draining | Phase::Deleted) => {
            let by_itself =
                transition.reason == Some(DrainReason::Finished) && !transition.job_killed;
            if from == Some(Phase::Busy) && !life.began {
                // Adopted with its job, or one for which memory had no room: its start is told.
                (life.began, life.start_told) = (true, true);
            }
            life.began |= by_itself && had_job(transition);
            if life.began && (by_itself || from == Some(Phase::Busy)) {
                entries.extend(started(pool, &mut life));
                life.ended.get_or_insert(at);
                if !by_itself || !life.reports() || life.end.exit_code.is_some() {
                    entries.extend(stopped(pool, by_itself, &mut life));
                }
            }
            if transition.to == Phase::Deleted {
                entries.extend(stopped(pool, true, &mut life));
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

fn started(pool: &PoolName, life: &mut Life) -> Option<Entry> {
    if !life.began || std::mem::replace(&mut life.start_told, true) {
        return None;
    }
    let seen = life.online.zip(life.started).map(|(online, started)| between(online, started));
    Some(Entry::RunnerStart {
        flavor: pool.clone(),
        workflow: workflow(life.job.as_ref()),
        idle: seconds(life.times.idle().or(seen)),
    })
}

fn stopped(pool: &PoolName, by_itself: bool, life: &mut Life) -> Option<Entry> {
    let ended = life.ended?;
    if std::mem::replace(&mut life.stop_told, true) {
        return None;
    }
    let normal = by_itself && !life.was_cut_off() && life.end.exit_code.unwrap_or(0) == 0;
    let seen = life.started.map(|started| between(started, ended));
    Some(Entry::RunnerStop {
        flavor: pool.clone(),
        workflow: workflow(life.job.as_ref()),
        status: if normal { JobStatus::Normal } else { JobStatus::Abnormal },
        status_info: life.end.exit_code.map(|code| StatusInfo { code }),
        job_duration: seconds(life.times.job().or(seen)),
        job_conclusion: life.end.conclusion.as_deref().map(cut),
    })
}

impl Life {
    /// Takes in what is told of its job, its end and its times. What is known already stays.
    fn hear(&mut self, job: Option<&Job>, end: Option<&JobEnd>, times: GuestTimes) {
        if let Some(told) = job {
            let known = self.job.get_or_insert_default();
            known.repository = known.repository.take().or_else(|| told.repository.clone());
            known.workflow = known.workflow.take().or_else(|| told.workflow.clone());
            known.event = known.event.take().or_else(|| told.event.clone());
        }
        if let Some(told) = end {
            self.end.conclusion = self.end.conclusion.take().or_else(|| told.conclusion.clone());
            self.end.exit_code = self.end.exit_code.or(told.exit_code);
        }
        self.times.merge(times);
    }

    fn knows_its_job(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.repository.is_some())
    }

    /// Whether its guest told of its job and then of nothing more: the VM went under it. A cloud that
    /// removes what has stopped says no more than that it stopped.
    fn was_cut_off(&self) -> bool {
        let GuestTimes { job_started, job_completed, stopped, .. } = self.times;
        let over = job_completed.or(stopped).is_some() || self.end != JobEnd::default();
        job_started.is_some() && !over
    }

    fn reports(&self) -> bool {
        self.times != GuestTimes::default()
    }
}

fn seconds(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_secs_f64())
}

fn workflow(job: Option<&Job>) -> Workflow {
    let Some(job) = job else { return Workflow::default() };
    let text = |text: &Option<Foreign>| text.as_deref().map(cut);
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
