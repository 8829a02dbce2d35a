//! What a demo shows: the table while it runs, the summary at its end.

use std::{fmt::Write, path::PathBuf, time::Duration};

use runner_fleet_actors::event::ReadModel;
use serde::Serialize;

use super::source::Signals;
use crate::{cli::table::table, fake::github};

/// The summary of a demo.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    /// What made the VMs.
    pub cloud: String,
    /// The fleet's id: the mark on every VM.
    pub fleet: String,
    /// Who told the fleet of jobs.
    #[serde(flatten)]
    pub told: Signals,
    pub seed: u64,
    pub seconds: f64,
    pub jobs_queued: u64,
    pub jobs_served: u64,
    /// Jobs whose VM the story took away: no fleet can save them.
    pub jobs_lost_to_vanished_vms: u64,
    pub wait_ms: Spread,
    /// From a runner's registration, which comes right before its launch, to its first connection.
    pub cold_start_ms: Spread,
    /// Runners that GitHub registered.
    pub launches: u64,
    pub peak_vms: u64,
    pub max_vms: u32,
    pub github_calls: u64,
    pub github_calls_that_count: u64,
    pub github_calls_per_job: f64,
    pub cloud_calls: u64,
    /// Invariants of the brain that were seen broken: defects.
    pub invariants_broken: u64,
    pub leaked_vms: u64,
    pub leaked_registrations: u64,
    pub busy_runners_killed: u64,
    /// Of those, each job that GitHub gave up, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub killed: Vec<String>,
    /// What the daemon wrote, kept where something was not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<PathBuf>,
}

/// A spread of times, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Spread {
    pub p50: u64,
    pub p95: u64,
    pub max: u64,
}

impl Spread {
    pub(super) fn of(times: &[Duration]) -> Self {
        let mut millis: Vec<u64> =
            times.iter().map(|time| runner_fleet_actors::port::millis(*time)).collect();
        millis.sort_unstable();
        let at = |share: f64| {
            let last = millis.len().saturating_sub(1);
            // Nearest rank; an index never exceeds the last one.
            let index = (share * last as f64).round() as usize;
            millis.get(index).copied().unwrap_or_default()
        };
        Self { p50: at(0.5), p95: at(0.95), max: at(1.0) }
    }
}

impl Summary {
    pub(super) fn is_good(&self) -> bool {
        self.leaked_vms == 0
            && self.leaked_registrations == 0
            && self.busy_runners_killed == 0
            && self.invariants_broken == 0
    }

    pub(super) fn text(&self) -> String {
        let (wait, start) = (self.wait_ms, self.cold_start_ms);
        let rows = [
            ("news of jobs", self.told.words()),
            ("jobs served", format!("{} of {}", self.jobs_served, self.jobs_queued)),
            ("lost with a VM that vanished", self.jobs_lost_to_vanished_vms.to_string()),
            (
                "a job waited (p50 / p95 / max)",
                format!("{} / {} / {} ms", wait.p50, wait.p95, wait.max),
            ),
            (
                "a launch took to be online (p50 / p95 / max)",
                format!("{} / {} / {} ms", start.p50, start.p95, start.max),
            ),
            ("launches", self.launches.to_string()),
            ("VMs at most", format!("{} of {} allowed", self.peak_vms, self.max_vms)),
            (
                "GitHub calls a job",
                format!(
                    "{:.2} ({} calls, {} count against the limit)",
                    self.github_calls_per_job, self.github_calls, self.github_calls_that_count
                ),
            ),
            ("cloud calls", self.cloud_calls.to_string()),
            ("leaked VMs", self.leaked_vms.to_string()),
            ("leaked registrations", self.leaked_registrations.to_string()),
            ("busy runners killed", self.busy_runners_killed.to_string()),
            ("invariants broken", self.invariants_broken.to_string()),
        ];
        let mut text =
            format!("demo of {:.0} s on {}, seed {}\n", self.seconds, self.cloud, self.seed);
        for (what, value) in rows {
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "  {what:<46}{value}");
        }
        for job in &self.killed {
            let _infallible = writeln!(text, "  killed: {job}");
        }
        if let Some(evidence) = &self.evidence {
            let _infallible =
                writeln!(text, "  what the daemon wrote is kept in {}", evidence.display());
        }
        let verdict = if self.is_good() { "nothing leaked, nothing killed" } else { "NOT GOOD" };
        text + "  " + verdict
    }
}

/// The present state of the fleet.
pub(super) fn now(
    model: &ReadModel,
    jobs: &github::Stats,
    vms: u64,
    news: &[String],
    width: Option<u16>,
) -> String {
    let mut pools: Vec<_> = model.pools.iter().map(|pool| pool.value().clone()).collect();
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    let rows = pools.iter().map(|pool| {
        let c = pool.counts;
        let numbers = [pool.target, c.creating, c.registering, c.idle, c.busy, c.draining];
        let mut row = vec![pool.name.to_string()];
        row.extend(numbers.iter().map(ToString::to_string));
        row.push(pool.because.first().cloned().unwrap_or_else(|| pool.target_because.clone()));
        row
    });
    let header =
        ["POOL", "TARGET", "CREATING", "REGISTERING", "IDLE", "BUSY", "DRAINING", "BECAUSE"];
    let mut text = table(&header, rows, width);
    text += &format!(
        "\n\njobs: {} waiting, {} running, {} done    VMs: {}    registrations: {}\n",
        jobs.queued, jobs.running, jobs.completed, vms, jobs.registrations
    );
    for line in news.iter().rev().take(8).rev() {
        text += &format!("\n  {line}");
    }
    text
}

/// The same in one line, for where there is no terminal.
pub(super) fn line(model: &ReadModel, jobs: &github::Stats, at: Duration) -> String {
    let counts = model.pools.iter().fold([0; 6], |sum, pool| {
        let c = pool.counts;
        let own = [pool.target, c.creating, c.registering, c.idle, c.busy, c.draining];
        std::array::from_fn(|i| sum[i] + own[i])
    });
    let [target, creating, registering, idle, busy, draining] = counts;
    format!(
        "{:>5.1}s  target {target}  creating {creating}  registering {registering}  idle {idle}  \
         busy {busy}  draining {draining}  |  jobs: {} waiting, {} running, {} done",
        at.as_secs_f64(),
        jobs.queued,
        jobs.running,
        jobs.completed
    )
}
