//! The mirror of the pool's and scaler's shells, and the operator who turns their knobs.

use rand::Rng;

use super::{Mutant, happening::Happening, world::World};
use crate::{
    demand::{Demand, Sure, combine},
    event::DrainReason,
    invariant::{self, Broken},
    pool::plan,
    port::Doors,
    runner::Event,
    scaler,
};

impl World {
    /// New policies reach the process.
    pub fn reconfigure(&mut self) {
        if let Some(process) = &mut self.process {
            for (shell, config) in process.pools.iter_mut().zip(&self.pools) {
                shell.policy = config.policy.clone();
            }
        }
        for pool in 0..self.pools.len() {
            self.plan_pool(pool);
        }
    }

    /// Demand reaches the scaler.
    pub fn demand(&mut self, epoch: u32, pool: usize) {
        if epoch != self.epoch || self.process.is_none() {
            return;
        }
        self.between(10.0, 30.0, Happening::Demand { epoch, pool });
        self.scale(pool);
    }

    /// Something about demand changed: sources that are pushed to say so at once.
    pub fn demand_changes(&mut self, pool: usize) {
        if self.process.is_some() && !self.is_paused() && self.chance(0.5) {
            self.scale(pool);
        }
    }

    fn scale(&mut self, pool: usize) {
        let now = self.now;
        let Some(config) = self.pools.get(pool) else { return };
        let running = self.jobs.values().filter(|job| job.pool == pool).count();
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        let unknown = config.unknown_until.is_some_and(|until| now < until);
        let truth = Demand::exact(config.waiting, running, now);
        let half = Demand::at_least(config.waiting / 2, running / 2, now);
        let demand = match self.mutant {
            Some(Mutant::ZeroOnUnknown) if unknown => Some(Demand::exact(0, 0, now)),
            // The one source that speaks overlooks half.
            _ if unknown => match config.known {
                Some(Sure::AtLeast) => Some(half),
                Some(Sure::Silent) => combine(&[None, Some(half)]),
                None | Some(Sure::Exact) => None,
            },
            _ => Some(truth),
        };
        let known = if unknown { config.known } else { Some(Sure::Exact) };
        let Some(shell) = self.process.as_mut().and_then(|process| process.pools.get_mut(pool))
        else {
            return;
        };
        let new = scaler::target(demand, &shell.target, &config.scaling, now);
        let broken = invariant::target(known, &shell.target, &new, &config.scaling);
        let changed = new.runners != shell.target.runners;
        if new.runners > shell.target.runners {
            shell.raised = Some(now);
        }
        shell.target = new;
        shell.heard |= !unknown || config.scaling.fixed.is_some();
        let words = shell.target.because.clone();
        self.report(broken);
        if changed {
            self.note(|| format!("pool {pool}: target: {words}"));
        }
        self.plan_pool(pool);
    }

    pub fn report(&mut self, broken: impl IntoIterator<Item = Broken>) {
        for Broken { name, seen } in broken {
            self.violated(name, seen);
        }
    }

    pub fn replan(&mut self, epoch: u32, pool: usize) {
        if epoch == self.epoch {
            self.plan_pool(pool);
        }
    }

    /// Marks a pool to be planned once the present happening is done, so that no plan runs inside
    /// another.
    pub fn plan_pool(&mut self, pool: usize) {
        self.unplanned.insert(pool);
    }

    /// Plans the marked pools.
    pub fn plan_all(&mut self) {
        if self.is_paused() {
            return;
        }
        while let Some(pool) = self.unplanned.pop_first() {
            self.plan_now(pool);
        }
    }

    /// Plans a pool and does what the plan says.
    fn plan_now(&mut self, pool: usize) {
        self.pool_notices(pool);
        let now = self.now;
        let (epoch, mutant) = (self.epoch, self.mutant);
        let Some(process) = &mut self.process else { return };
        let doors = process.doors(now);
        let Some(shell) = process.pools.get_mut(pool) else { return };
        shell.roster.notice(now);
        let live = shell.roster.live();
        let far = self.books.far(pool, &shell.roster, process.runners.iter(), now);
        let target = shell.target.over(live);
        let doors = if mutant == Some(Mutant::OpenDoors) { Doors::default() } else { doors };
        let mut plan = plan(target, &shell.roster, &shell.policy, &doors, now);
        let mut broken = invariant::plan(&plan, &shell.roster, &shell.policy);
        broken.extend(far);
        let shrinks = plan.drain.iter().any(|(_, reason)| *reason == DrainReason::Shrink);
        if shrinks && !shell.heard && live <= shell.policy.max {
            let seen = "a pool shrinks before demand was ever known".to_owned();
            broken.push(Broken { name: invariant::UNKNOWN_HOLDS, seen });
        }
        if mutant == Some(Mutant::ForgetMax) && shell.roster.cloud_seen.is_some() {
            plan.create = target.saturating_sub(live);
        }
        if mutant == Some(Mutant::Crowds) && plan.create > 0 {
            plan.create = target.min(shell.policy.max - shell.roster.vms()).saturating_sub(live);
        }
        let replan = plan.again_at.filter(|at| shell.replan_at != Some(*at));
        if replan.is_some() {
            shell.replan_at = replan;
        }
        self.report(broken);
        if let Some(at) = replan {
            self.at(at, Happening::Replan { epoch, pool });
        }
        if plan.create > 0 || !plan.drain.is_empty() {
            self.note(|| {
                format!(
                    "pool {pool}: create {}, drain {}: {}",
                    plan.create,
                    plan.drain.len(),
                    plan.because.join("; ")
                )
            });
        }
        for _ in 0..plan.create {
            self.launch(pool);
        }
        for (name, reason) in plan.drain {
            if let Some(shell) = self.process.as_mut().and_then(|p| p.pools.get_mut(pool)) {
                shell.roster.asked(&name, now);
            }
            self.apply(&name, Event::Drain(reason));
            if mutant == Some(Mutant::DeleteFirst) {
                self.delete_now(&name, super::judge::Cause::Drain);
            }
        }
    }

    /// The operator drains, forces, or sets a target.
    pub fn operator_acts(&mut self) {
        if self.calm_since.is_some() {
            return;
        }
        self.between(30.0, 90.0, Happening::OperatorActs);
        if self.is_paused() || !self.chance(self.faults.operator / 60.0) {
            return;
        }
        let names: Vec<_> = self.process.iter().flat_map(|p| p.names().cloned()).collect();
        let pick = |rng: &mut rand::rngs::SmallRng| {
            (!names.is_empty()).then(|| names[rng.random_range(0..names.len())].clone())
        };
        let pool = self.rng.random_range(0..self.pools.len());
        match self.rng.random_range(0..4) {
            0 => {
                if let Some(name) = pick(&mut self.rng) {
                    self.apply(&name, Event::Drain(DrainReason::Operator));
                }
            }
            1 => {
                if let Some(name) = pick(&mut self.rng) {
                    self.apply(&name, Event::Force);
                }
            }
            2 => {
                let fixed = self.rng.random_range(0..25);
                if let Some(pool) = self.pools.get_mut(pool) {
                    pool.scaling.fixed = Some(fixed);
                }
                self.scale(pool);
            }
            _ => {
                if let Some(pool) = self.pools.get_mut(pool) {
                    pool.scaling.fixed = None;
                }
                self.scale(pool);
            }
        }
    }
}
