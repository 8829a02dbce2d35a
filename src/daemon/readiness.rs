//! Whether the fleet can do its work, and what should be looked at even while it can. **Pure**: the
//! read model and a time in, words out.

use std::{collections::BTreeSet, time::Duration};

use runner_fleet_actors::{
    event::{PoolSnapshot, ReadModel, Stuck},
    port::Time,
    sight::{Side, Sight, moment},
};

use crate::http::api::Readiness;

/// Stuck VMs that are named; the rest is counted.
const NAMED: usize = 5;

/// What is in the way of the fleet of `model`, whose listings may be as old as `bound`.
pub(super) fn readiness(model: &ReadModel, bound: Duration, now: Time) -> Readiness {
    let mut told = Readiness::default();
    let mut pools: Vec<PoolSnapshot> = model.pools.iter().map(|p| p.value().clone()).collect();
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    let sides: BTreeSet<Side> = pools
        .iter()
        .flat_map(|pool| [Side::Provider(pool.provider.clone()), Side::Scope(pool.scope.clone())])
        .collect();
    let mut reported = BTreeSet::new();
    for side in sides {
        let sight = model.sights.get(&side).map(|sight| sight.value().clone());
        if of_side(&side, sight.as_ref(), bound, now, &mut told) {
            reported.insert(side);
        }
    }
    let stuck = model.stuck(now);
    for pool in &pools {
        let cloud = Side::Provider(pool.provider.clone());
        let sides = [
            ("cloud", cloud, pool.cloud_seen_at),
            ("forge", Side::Scope(pool.scope.clone()), pool.forge_seen_at),
        ];
        for (side, which, seen) in sides {
            if seen.is_none() && !reported.contains(&which) {
                told.reasons
                    .push(format!("pool {}: the {side} was not listed whole yet", pool.name));
            }
        }
        let held = pool.holds.iter().filter(|hold| hold.until > now);
        told.reasons.extend(held.map(|hold| format!("pool {}: {}", pool.name, hold.said(now))));
        let own: Vec<_> =
            stuck.iter().filter(|(name, _)| *name == pool.name).map(|(_, stuck)| stuck).collect();
        of_vms(pool, &own, &mut told);
    }
    told.ready = told.reasons.is_empty();
    told
}

/// Whether it was told that the side is not seen.
fn of_side(
    side: &Side,
    sight: Option<&Sight>,
    bound: Duration,
    now: Time,
    told: &mut Readiness,
) -> bool {
    // Who is not asked for yet was not listed either, and the pools say so.
    let Some(sight) = sight else { return false };
    let name = match side {
        Side::Provider(_) => side.to_string(),
        Side::Scope(scope) => format!("github {scope}"),
    };
    let blind = sight.blind(bound, now);
    let said = sight.said(now).or_else(|| {
        let at = sight.listed_at.filter(|_| blind)?;
        Some(format!("was last listed whole at {}", moment(at, now)))
    });
    if let Some(said) = said {
        let list = if blind { &mut told.reasons } else { &mut told.attention };
        list.push(format!("{name}: {said}"));
    }
    blind
}

/// VMs that do not go keep a pool from its target where they take its last places.
fn of_vms(pool: &PoolSnapshot, stuck: &[&Stuck], told: &mut Readiness) {
    if stuck.is_empty() {
        return;
    }
    let going = stuck.iter().filter(|stuck| stuck.deletion).count();
    let vms = pool.counts.live() + pool.counts.draining;
    let full = going > 0 && vms >= pool.max && pool.counts.live() < pool.target;
    let list = if full { &mut told.reasons } else { &mut told.attention };
    if full {
        list.push(format!(
            "pool {}: {going} of its {} places are taken by VMs that do not go",
            pool.name, pool.max
        ));
    }
    list.extend(
        stuck.iter().take(NAMED).map(|stuck| format!("pool {}: {}", pool.name, stuck.what)),
    );
    if let Some(more) = stuck.len().checked_sub(NAMED).filter(|more| *more > 0) {
        list.push(format!("pool {}: {more} more VMs are stuck like these", pool.name));
    }
}

#[cfg(test)]
mod tests;
