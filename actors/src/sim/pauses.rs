//! Pauses: the process stands still, and the world goes on.
//!
//! What it had decided and not sent yet is sent when it goes on, unless its grounds have ended; half of what
//! was under way counts as sent before. Only then it hears what has happened meanwhile, in any order.

use std::time::Duration;

use rand::{Rng, seq::SliceRandom};

use super::{
    Mutant,
    happening::{Call, Happening},
    world::World,
};
use crate::{
    invariant,
    name::RunnerName,
    port::{GAP, Grounds, PortError, Stage, Time},
    runner::{Answer, LaunchFailure},
};

/// A process that stands still, and what waits for it.
pub(super) struct Pause {
    number: u64,
    since: Time,
    waits: Vec<Happening>,
}

impl World {
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// The process is stopped for 3 to 400 s: for longer than a guest stands down by itself.
    pub fn pause(&mut self) {
        if self.calm_since.is_some() {
            return;
        }
        self.rarely(self.faults.pauses, Happening::Pause);
        if self.process.is_none() || self.is_paused() {
            return;
        }
        self.counters.pauses += 1;
        let number = self.fresh_id();
        let seconds = self.rng.random_range(3..=400);
        self.note(|| format!("the process stands still for {seconds} s"));
        self.paused = Some(Pause { number, since: self.now, waits: Vec::new() });
        self.at(self.now + Duration::from_secs(seconds), Happening::Resume { pause: number });
    }

    /// What is about to happen, unless it waits for a process that stands still.
    pub fn unless_paused(&mut self, what: Happening) -> Option<Happening> {
        let on_the_wire = self.paused.is_none() || !self.waits_for_the_process(&what);
        match &mut self.paused {
            Some(pause) if !on_the_wire => pause.waits.push(what),
            _ => return Some(what),
        }
        None
    }

    fn waits_for_the_process(&mut self, what: &Happening) -> bool {
        match what {
            Happening::Perform { call: Call::Order { .. } | Call::Create, .. } => true,
            Happening::Perform { epoch, grounds: Some(_), .. } => {
                *epoch == self.epoch && self.chance(0.5)
            }
            Happening::Answer { .. }
            | Happening::TimeOut { .. }
            | Happening::Deliver { .. }
            | Happening::Changed { .. }
            | Happening::Tick { .. }
            | Happening::SweepBegins { .. }
            | Happening::SweepEnds { .. }
            | Happening::Demand { .. }
            | Happening::Replan { .. }
            | Happening::Fetched { .. }
            | Happening::Said { .. }
            | Happening::Withdraw { .. } => true,
            _ => false,
        }
    }

    /// The process goes on.
    pub fn resume(&mut self, number: u64) {
        let Some(Pause { since, waits, .. }) = self.paused.take_if(|pause| pause.number == number)
        else {
            return;
        };
        let (now, slept) = (self.now, (self.now - since).to_std().unwrap_or_default());
        if let Some(process) = &mut self.process
            && slept > GAP
        {
            process.awake_since = now;
        }
        self.note(|| format!("the process goes on after {} s", slept.as_secs()));
        let calls = |what: &Happening| matches!(what, Happening::Perform { .. });
        let (calls, mut news): (Vec<_>, Vec<_>) = waits.into_iter().partition(calls);
        news.shuffle(&mut self.rng);
        for what in calls.into_iter().chain(news) {
            self.happen(what);
            self.plan_all();
        }
    }

    /// A pool notices that the process stood still, before it plans and before it takes in a listing.
    pub fn pool_notices(&mut self, pool: usize) {
        let Some(process) = &mut self.process else { return };
        let awake_since = process.awake_since;
        let Some(shell) = process.pools.get_mut(pool) else { return };
        if let Some(awake_since) = shell.heard_of_gaps.news(awake_since)
            && self.mutant != Some(Mutant::SleepsUnnoticed)
        {
            shell.roster.woke(awake_since);
        }
    }

    /// Whether a call may be sent: where its grounds have ended, that is its answer.
    pub fn may_go(
        &mut self,
        (epoch, op): (u32, u64),
        name: &RunnerName,
        (call, grounds): (Call, Option<Grounds>),
    ) -> bool {
        let (Some(grounds), Some(process)) = (grounds, &self.process) else { return true };
        // What a dead process had sent is on its way. A look-up or a question changes nothing.
        let changes = !matches!(call, Call::Order { .. } | Call::LookUp { .. });
        let awake_since = process.awake_since;
        let checks = changes && self.mutant != Some(Mutant::GroundsForEver);
        if epoch != self.epoch || !checks || grounds.hold(self.now, awake_since) {
            if epoch == self.epoch && changes && grounds.since < awake_since {
                let detail = format!("{call:?} of {name}, decided before a gap, is sent after it");
                self.violated(invariant::LOOKS_FIRST, detail);
            }
            return true;
        }
        let error = PortError::held_back(self.now, "what it was decided on holds no more");
        let answer = match call {
            Call::Register | Call::Create => Answer::LaunchFailed(LaunchFailure {
                error,
                stage: if matches!(call, Call::Create) { Stage::Cloud } else { Stage::Forge },
                vm_possible: false,
                registration_possible: matches!(call, Call::Create),
                registration: self.registrations.get(name).map(|registration| registration.id),
            }),
            Call::Deregister { .. } => Answer::Deregistered(Err(error)),
            Call::Delete { .. } => Answer::VmDeleted(Err(error)),
            Call::Cordon { on: true } => Answer::Cordoned(Err(error)),
            Call::Cordon { on: false } => Answer::Uncordoned(Err(error)),
            Call::Order { .. } | Call::LookUp { .. } => return true,
        };
        self.counters.calls_held_back += 1;
        self.note(|| format!("{name}: {call:?} is not sent"));
        let name = name.clone();
        self.after(0.0, Happening::Answer { epoch, op, name, answer });
        false
    }
}
