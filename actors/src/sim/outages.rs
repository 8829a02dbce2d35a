//! Times at which a side is away, or does not answer, or takes no registrations: the causes that a hold of
//! launches must end with.

use std::time::Duration;

use rand::Rng;

use super::{
    happening::{Call, Happening},
    world::World,
};
use crate::{
    invariant,
    name::RunnerName,
    port::{ErrorClass, PortError, Stage, Time},
    runner::{Answer, LaunchFailure},
};

/// What is the matter with one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outage {
    /// Nothing of the forge works.
    ForgeAway,
    /// Nothing of the cloud works.
    CloudAway,
    /// The cloud answers only once this is over.
    CloudHangs,
    /// The forge takes no registrations, and says until when.
    Limited,
}

/// The outages that go on.
#[derive(Debug, Default)]
pub(super) struct Outages(Vec<(Outage, Time)>);

impl Outages {
    /// Until when this one goes on, if it does.
    pub fn until(&self, outage: Outage, now: Time) -> Option<Time> {
        self.0.iter().find(|(one, until)| *one == outage && now < *until).map(|(_, until)| *until)
    }
}

/// After the return of a side the first launch is asked for within this, and the last one within twice
/// this and the time that the simulated calls take.
const FIRST: Duration = Duration::from_secs(3);
const ALL: Duration = Duration::from_secs(8);

impl World {
    /// Outages begin, one at a time.
    pub fn outages_begin(&mut self) {
        let faults = self.faults;
        let kinds = [
            (Outage::ForgeAway, faults.forge_away, 30..300),
            (Outage::CloudAway, faults.cloud_away, 30..300),
            (Outage::CloudHangs, faults.cloud_hangs, 10..60),
            (Outage::Limited, faults.registrations_limited, 60..600),
        ];
        for (outage, rate, seconds) in kinds {
            // What is asked right after an outage must not meet the next one.
            let quiet = self.outages.0.iter().all(|(_, until)| self.now >= *until + ALL * 2);
            if !self.chance(rate / 60.0) || !quiet {
                continue;
            }
            let until = self.now + Duration::from_secs(self.rng.random_range(seconds));
            self.note(|| format!("{outage:?} until {}", until.format("%H:%M:%S")));
            self.outages.0 = vec![(outage, until)];
            if self.strict {
                for (after, all) in [(FIRST, false), (ALL, true)] {
                    self.at(until + after, Happening::Returned { since: until, all });
                }
            }
        }
    }

    /// Whether a call of this kind meets an outage; then that has answered it, or holds it up.
    pub fn meets_outage(&mut self, (epoch, op): (u32, u64), name: &RunnerName, call: Call) -> bool {
        let now = self.now;
        let of_cloud = matches!(call, Call::Create | Call::Delete { .. });
        let of_forge = !of_cloud && !matches!(call, Call::Order { .. });
        if of_cloud && let Some(until) = self.outages.until(Outage::CloudHangs, now) {
            // It was sent, and asks for no grounds any more.
            let (name, grounds) = (name.clone(), None);
            self.at(until, Happening::Perform { epoch, op, name, call, grounds });
            return true;
        }
        let limited = self.outages.until(Outage::Limited, now);
        let class = match call {
            Call::Register if limited.is_some() => {
                limited.map(|until| ErrorClass::RateLimited { until })
            }
            _ if of_cloud => {
                self.outages.until(Outage::CloudAway, now).map(|_| ErrorClass::Transient)
            }
            _ if of_forge => {
                self.outages.until(Outage::ForgeAway, now).map(|_| ErrorClass::Transient)
            }
            _ => None,
        };
        let Some(class) = class else { return false };
        let error = PortError::certain(class, "it is away");
        let registration = self.registrations.get(name).map(|registration| registration.id);
        let answer = match call {
            Call::Register | Call::Create => Answer::LaunchFailed(LaunchFailure {
                error,
                stage: if of_cloud { Stage::Cloud } else { Stage::Forge },
                vm_possible: false,
                registration_possible: of_cloud,
                registration,
            }),
            Call::Deregister { .. } => Answer::Deregistered(Err(error)),
            Call::LookUp { .. } => Answer::LookedUp(Err(error)),
            Call::Cordon { on: true } => Answer::Cordoned(Err(error)),
            Call::Cordon { on: false } => Answer::Uncordoned(Err(error)),
            Call::Delete { .. } => Answer::VmDeleted(Err(error)),
            Call::Order { .. } => return false,
        };
        self.reply(epoch, op, name, answer);
        true
    }

    /// A side has been back since then: what is missing must have been asked for.
    pub fn returned(&mut self, since: Time, all: bool) {
        if self.calm_since.is_some() {
            return;
        }
        for pool in 0..self.pools.len() {
            let Some(shell) = self.process.as_ref().and_then(|process| process.pools.get(pool))
            else {
                return;
            };
            // What is wanted only now could not be asked for before.
            let bound = if all { ALL } else { FIRST };
            if shell.raised.is_some_and(|raised| self.now < raised + bound) {
                continue;
            }
            let live = shell.roster.live();
            let target = shell.target.over(live).min(shell.policy.max);
            if live >= target || shell.roster.vms() >= shell.policy.max {
                continue;
            }
            let asked = self.pools.get(pool).and_then(|pool| pool.launched_at) >= Some(since);
            if all || !asked {
                let (late, missing) = ((self.now - since).num_seconds(), target - live);
                let what = if all { "are not asked for" } else { "miss even the first launch" };
                let detail = format!("{missing} of pool {pool} {what} {late} s after the return");
                self.violated(invariant::RECOVERS, detail);
            }
        }
    }
}
