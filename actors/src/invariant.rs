//! Named invariants: what must hold whatever happens, one predicate each.
//!
//! The same predicates judge every step of the simulation and every plan in production. There, a
//! broken one is counted and shown, and the plan that broke it is not carried out.

use crate::{
    event::Phase,
    pool::{Plan, Policy, Roster},
};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The invariant's name.
    pub name: &'static str,
    /// What was seen.
    pub seen: String,
}

/// Never ask for more VMs than `max`, the draining ones included.
pub const NEVER_ABOVE_MAX: &str = "never create above max";

/// A plan drains idle runners only.
pub const NEVER_DRAIN_BUSY: &str = "never drain a busy runner";

/// What a plan would break.
#[must_use]
pub fn of_plan(plan: &Plan, roster: &Roster, policy: &Policy) -> Vec<Broken> {
    let mut broken = Vec::new();
    let vms = roster.vms();
    if plan.create > 0 && vms.saturating_add(plan.create) > policy.max {
        let seen = format!("{vms} VMs and {} more, at most {}", plan.create, policy.max);
        broken.push(Broken { name: NEVER_ABOVE_MAX, seen });
    }
    for (name, _) in &plan.drain {
        let phase = roster.get(name).map(|member| member.state.phase());
        if phase != Some(Phase::Idle) {
            let phase = phase.map_or("unknown", Phase::as_str);
            broken.push(Broken { name: NEVER_DRAIN_BUSY, seen: format!("{name} is {phase}") });
        }
    }
    broken
}
