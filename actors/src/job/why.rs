//! Why a job waits: what is known of it and of its pool, put into reasons. **Pure.**
//!
//! Only what is known is told, and every reason that holds is told, the nearest to the job first:
//! where three things are in the way, mending one of them must not be a disappointment. Reasons come
//! from numbers and states; the pool's own words are passed on as they are and never read.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{JobRecord, JobWord};
use crate::{
    event::{PoolSnapshot, Stuck},
    port::{PortStatus, Time},
    sight::Sight,
};

/// What kind of reason it is; for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// It does not wait (any more).
    NotWaiting,
    /// A deployment protection rule holds it at its forge.
    Blocked,
    /// No pool may serve it.
    NoPool,
    /// Its pool is not in the configuration any more.
    PoolGone,
    /// An operator has fixed the pool's target.
    Fixed,
    /// A runner is idle: the forge has yet to hand the job out, or will not.
    RunnerIdle,
    /// Runners are on their way.
    RunnersStarting,
    /// The pool has as many VMs as it may have.
    AtMax,
    /// VMs that do not go or do not boot take places of the pool.
    VmsStuck,
    /// Launches have failed, and are held for a while.
    LaunchesHeld,
    /// The cloud of the pool takes no calls, or fails.
    ProviderDown,
    /// The forge takes no calls, or fails, so no runner can be registered.
    ForgeDown,
    /// A source of demand is silent, so that the pool may not know of the job.
    DemandUnknown,
    /// What the pool says of itself.
    PoolSays,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What kind of reason.
    pub because: Because,
    /// The reason, for a person.
    pub text: String,
    /// Since when it holds, where that is known.
    pub since: Option<Time>,
    /// When it ends by itself, where that is known.
    pub until: Option<Time>,
}

impl Reason {
    fn new(because: Because, text: impl Into<String>) -> Self {
        Self { because, text: text.into(), since: None, until: None }
    }

    fn since(self, since: Option<Time>) -> Self {
        Self { since, ..self }
    }

    fn until(self, until: Time) -> Self {
        Self { until: Some(until), ..self }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is there while a job waits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around<'a> {
    /// The job's pool, if it is there.
    pub pool: Option<&'a PoolSnapshot>,
    /// The cloud of that pool.
    pub provider: Option<&'a PortStatus>,
    /// The forge.
    pub forge: Option<&'a PortStatus>,
    /// How well that cloud is seen.
    pub cloud_seen: Option<&'a Sight>,
    /// How well the pool's scope is seen at the forge.
    pub scope_seen: Option<&'a Sight>,
    /// VMs of the pool that do not go or do not boot.
    pub stuck: &'a [Stuck],
}

/// Why a job has no runner yet; never empty.
#[must_use]
pub fn why(job: &JobRecord, around: Around<'_>, now: Time) -> Vec<Reason> {
    let queued = job.facts.queued_at.unwrap_or(job.heard_at);
    match job.word {
        JobWord::Done | JobWord::Running => return vec![not_waiting(job)],
        JobWord::Blocked => {
            let text = "a deployment protection rule holds it: somebody must approve it at GitHub";
            return vec![Reason::new(Because::Blocked, text).since(Some(queued))];
        }
        JobWord::Queued => {}
    }
    let Some(name) = &job.pool else {
        let text = job.unserved.clone().unwrap_or_else(|| "no pool serves it".to_owned());
        return vec![Reason::new(Because::NoPool, text).since(Some(queued))];
    };
    let gone = |text: String| vec![Reason::new(Because::PoolGone, text)];
    match around.pool {
        None => {
            gone(format!("pool {name} is not there: it left the configuration, or has not begun"))
        }
        Some(pool) if pool.retiring => {
            gone(format!("pool {name} left the configuration and starts no runner any more"))
        }
        Some(pool) => of_pool(pool, around, now),
    }
}

fn not_waiting(job: &JobRecord) -> Reason {
    let facts = &job.facts;
    let on = facts.runner.as_ref().map(|runner| format!(" on {runner}")).unwrap_or_default();
    if job.word == JobWord::Running {
        let text = format!("it does not wait: it runs{on}");
        return Reason::new(Because::NotWaiting, text).since(facts.started_at);
    }
    let end = facts.conclusion.as_deref().unwrap_or("its end was not told");
    let text = format!("it does not wait: it is over{on} ({end})");
    Reason::new(Because::NotWaiting, text).since(facts.ended_at)
}

fn of_pool(pool: &PoolSnapshot, around: Around<'_>, now: Time) -> Vec<Reason> {
    let counts = pool.counts;
    let mut reasons = Vec::new();
    let mut add = |reason: Reason| reasons.push(reason);
    if counts.idle > 0 {
        add(Reason::new(
            Because::RunnerIdle,
            format!(
                "{} idle in pool {}: GitHub hands the job out in seconds; if it does not, look at the \
                 runner group's repositories and at the workflow's concurrency group",
                runners(counts.idle),
                pool.name
            ),
        ));
    }
    let starting = counts.creating + counts.registering;
    if starting > 0 {
        let text = format!("{} on the way: it waits for one of them", runners(starting));
        add(Reason::new(Because::RunnersStarting, text));
    }
    let vms = counts.live() + counts.draining;
    if vms >= pool.max {
        let text = format!(
            "pool {} is at its max of {}: {} busy, {} draining; it waits for one to end",
            pool.name, pool.max, counts.busy, counts.draining
        );
        add(Reason::new(Because::AtMax, text));
    }
    if let Some(oldest) = around.stuck.iter().min_by_key(|stuck| stuck.since) {
        let more = match around.stuck.len() {
            1 => String::new(),
            all => format!(", and {} more", all - 1),
        };
        let text = format!("a place is taken by a VM that is stuck: {}{more}", oldest.what);
        add(Reason::new(Because::VmsStuck, text).since(Some(oldest.since)));
    }
    if let Some(fixed) = pool.target_override {
        let text = format!(
            "an operator has fixed the target of pool {} at {fixed}; `runner-fleet target {} clear` \
             lets it follow its jobs",
            pool.name, pool.name
        );
        add(Reason::new(Because::Fixed, text));
    }
    for hold in pool.holds.iter().filter(|hold| hold.until > now) {
        let text = format!(
            "launches are held by {} after {} failures in a row: {}; one tries at that time, or {}",
            hold.place, hold.failures, hold.error.what, hold.ends
        );
        add(Reason::new(Because::LaunchesHeld, text).since(Some(hold.since)).until(hold.until));
    }
    let scope = format!("GitHub ({})", pool.scope);
    let ports = [
        (Because::ProviderDown, pool.provider.as_str(), around.provider, around.cloud_seen),
        (Because::ForgeDown, scope.as_str(), around.forge, around.scope_seen),
    ];
    for (because, name, port, seen) in ports {
        let held = port.and_then(|port| Some((port.held_until.filter(|at| *at > now)?, port)));
        let trouble = seen.and_then(|seen| seen.trouble.as_ref());
        match (held, trouble) {
            (held, Some(trouble)) => {
                let until = held.map_or(trouble.until, |(until, _)| until.max(trouble.until));
                let text = format!("{name} fails: {}", trouble.error.what);
                add(Reason::new(because, text).since(Some(trouble.since)).until(until));
            }
            (Some((until, port)), None) => {
                let error = port.last_error.as_ref().map(|error| format!(": {error}"));
                let text = format!("{name} takes no calls{}", error.unwrap_or_default());
                add(Reason::new(because, text).until(until));
            }
            (None, None) => {}
        }
    }
    if pool.demand_unknown {
        let text = format!(
            "a demand source of pool {} is silent: it may not know how many jobs wait",
            pool.name
        );
        add(Reason::new(Because::DemandUnknown, text));
    }
    for words in std::iter::once(&pool.target_because).chain(&pool.because) {
        add(Reason::new(Because::PoolSays, format!("pool {} says: {words}", pool.name)));
    }
    reasons
}

fn runners(count: u32) -> String {
    if count == 1 { "1 runner is".to_owned() } else { format!("{count} runners are") }
}

#[cfg(test)]
mod tests;
