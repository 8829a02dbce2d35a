//! The forge of a fleet with scale sets: runners of such pools are registered and removed through the
//! actions service, all others through the REST API.
//!
//! A runner's name says its pool, and the pool says the way: so the port stays as it is, and no order
//! has to carry the name of a scale set. The alternative, a forge per pool, would make every sweep and
//! every orphan ask which one to take.
//!
//! A scope is listed by both. REST shows runners of scale sets as well, but what it shows of them
//! comes late and costs the rate limit; where both show a runner the actions service is believed, and
//! a runner that either shows busy is busy. A listing is complete only if both are.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use runner_fleet_actors::{
    event::Job,
    name::{FleetId, PoolName, RegistrationId, RunnerName, Scope},
    port::{
        Door, ErrorClass, Finding, Forge, Listing, PortError, PortStatus, RegisterOrder,
        Registered, Registration, Time,
    },
};

use super::{
    ScaleSets,
    admin::Admin,
    calls,
    wire::{Agent, Refusal},
};
use crate::github::look_up::{at_work, finding};

/// The forge of a fleet with scale sets.
pub struct Routed {
    rest: Arc<dyn Forge>,
    sets: Arc<ScaleSets>,
}

impl Routed {
    pub(super) fn new(rest: Arc<dyn Forge>, sets: Arc<ScaleSets>) -> Self {
        Self { rest, sets }
    }
}

#[async_trait]
impl Forge for Routed {
    async fn register(&self, order: &RegisterOrder) -> Result<Registered, PortError> {
        let Some((admin, set)) = self.sets.route(&order.name.pool()) else {
            return self.rest.register(order).await;
        };
        let done = match set {
            Some(set) => register(&admin, set, &order.name).await,
            None => Err(PortError::certain(
                ErrorClass::Transient,
                format!(
                    "register runner {}: its pool's scale set is not known yet; the log says what \
                     it waits for",
                    order.name
                ),
            )),
        };
        admin.github().client.noted(done)
    }

    async fn deregister(
        &self,
        scope: &Scope,
        name: &RunnerName,
        id: Option<RegistrationId>,
    ) -> Result<(), PortError> {
        match self.sets.route(&name.pool()) {
            Some((admin, _)) if admin.scope() == scope => {
                let done = deregister(&admin, name, id).await;
                admin.github().client.noted(done)
            }
            _ => self.rest.deregister(scope, name, id).await,
        }
    }

    async fn cordon(&self, order: &RegisterOrder, id: RegistrationId) -> Result<(), PortError> {
        match self.sets.route(&order.name.pool()) {
            Some(_) => Err(uncordonable(&order.name)),
            None => self.rest.cordon(order, id).await,
        }
    }

    async fn uncordon(&self, order: &RegisterOrder, id: RegistrationId) -> Result<(), PortError> {
        match self.sets.route(&order.name.pool()) {
            Some(_) => Err(uncordonable(&order.name)),
            None => self.rest.uncordon(order, id).await,
        }
    }

    async fn list(&self, scope: &Scope) -> Result<Listing<Registration>, PortError> {
        let Some(admin) = self.sets.admin_of(scope) else { return self.rest.list(scope).await };
        let github = admin.github();
        let as_of = github.client.clock.now();
        let (rest, agents) = tokio::join!(self.rest.list(scope), calls::agents(&admin, None));
        let agents = agents
            .map(|(agents, nameless)| listing(agents, nameless, &github.fleet, scope, as_of))
            .map_err(PortError::from);
        joined(rest, github.client.noted(agents))
    }

    async fn look_up(
        &self,
        scope: &Scope,
        name: &RunnerName,
        id: Option<RegistrationId>,
        job: Option<&Job>,
    ) -> Result<Finding, PortError> {
        match self.sets.route(&name.pool()) {
            Some((admin, _)) if admin.scope() == scope => {
                let done = look_up(&admin, name, job).await;
                admin.github().client.noted(done)
            }
            _ => self.rest.look_up(scope, name, id, job).await,
        }
    }

    fn status(&self) -> PortStatus {
        self.rest.status()
    }

    fn door(&self, pool: &PoolName) -> Door {
        match self.sets.route(pool) {
            Some((admin, set)) => admin.door(set.is_some()),
            None => self.rest.door(pool),
        }
    }

    fn end_hold(&self) {
        self.rest.end_hold();
        self.sets.end_hold();
    }
}

/// The set hands out the jobs, by its own labels: those of a runner decide nothing.
fn uncordonable(name: &RunnerName) -> PortError {
    PortError::certain(
        ErrorClass::Invalid,
        format!(
            "keep jobs off runner {name}: it is of a scale set, whose runners have no labels of their own"
        ),
    )
}

async fn register(admin: &Admin, set: u64, name: &RunnerName) -> Result<Registered, PortError> {
    let mut made = calls::jit_config(admin, set, name).await;
    if made.as_ref().is_err_and(|failed| failed.refusal == Refusal::AgentExists) {
        // An earlier answer was lost. The name holds the fleet's id, so it is ours.
        tracing::info!(runner = %name, set, "name is registered already, removing that first");
        deregister(admin, name, None).await?;
        made = calls::jit_config(admin, set, name).await;
    }
    let (id, jit_config) = made.map_err(|failed| match failed.error.class {
        // The listener finds out as well, and makes it anew.
        ErrorClass::NotFound => PortError::certain(
            ErrorClass::Transient,
            format!("{}; the scale set is gone and is made anew", failed.error.what),
        ),
        _ => failed.error,
    })?;
    Ok(Registered { id: RegistrationId(id), jit_config })
}

async fn deregister(
    admin: &Admin,
    name: &RunnerName,
    id: Option<RegistrationId>,
) -> Result<(), PortError> {
    let ids: Vec<u64> = match id {
        Some(id) => vec![id.0],
        None => {
            let (agents, _) = calls::agents(admin, Some(name)).await?;
            let named = agents.iter().filter(|one| one.name.eq_ignore_ascii_case(name.as_str()));
            // One without a number must not pass for "there is none".
            named.map(|one| one.id).collect::<Option<_>>().ok_or_else(|| {
                let what = format!("deregister runner {name}: GitHub shows it without a number");
                PortError::certain(ErrorClass::Transient, what)
            })?
        }
    };
    for id in ids {
        match calls::remove_agent(admin, name, id).await.map_err(PortError::from) {
            Err(error) if error.class == ErrorClass::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// The service knows its runners by name as well, and answers at once.
async fn look_up(
    admin: &Admin,
    name: &RunnerName,
    job: Option<&Job>,
) -> Result<Finding, PortError> {
    let (agents, _) = calls::agents(admin, Some(name)).await?;
    let named = agents.into_iter().find(|one| one.name.eq_ignore_ascii_case(name.as_str()));
    let registration = named
        .map(|Agent { id, online, busy, .. }| {
            // One that cannot be read must not pass for one that is gone.
            let (id, online) = id.zip(online).ok_or_else(|| {
                let what = format!("look up runner {name}: GitHub shows it without id or status");
                PortError::certain(ErrorClass::Transient, what)
            })?;
            Ok::<_, PortError>(Registration {
                name: name.clone(),
                id: RegistrationId(id),
                online,
                busy,
                cordoned: None,
            })
        })
        .transpose()?;
    finding(registration, at_work(&admin.github().client, name, job).await)
}

fn listing(
    agents: Vec<Agent>,
    nameless: usize,
    fleet: &FleetId,
    scope: &Scope,
    as_of: Time,
) -> Listing<Registration> {
    let mut entries = Vec::new();
    let mut faults = Vec::new();
    if nameless > 0 {
        faults.push(format!("{nameless} runners of {scope} without a readable name"));
    }
    for Agent { id, name, scale_set, online, busy } in agents {
        let Ok(name) = name.parse::<RunnerName>() else { continue };
        // What is of no scale set is REST's to show.
        if !name.is_of(fleet) || scale_set.is_none() {
            continue;
        }
        match (id, online) {
            (Some(id), Some(online)) => {
                entries.push(Registration {
                    name,
                    id: RegistrationId(id),
                    online,
                    busy,
                    cordoned: None,
                });
            }
            _ => faults.push(format!("runner {name} without a readable id or status")),
        }
    }
    Listing { entries, complete: faults.is_empty(), as_of, faults }
}

/// One listing of two. What only one could tell is incomplete.
fn joined(
    rest: Result<Listing<Registration>, PortError>,
    agents: Result<Listing<Registration>, PortError>,
) -> Result<Listing<Registration>, PortError> {
    let (rest, agents) = match (rest, agents) {
        (Ok(rest), Ok(agents)) => (rest, agents),
        (Ok(mut only), Err(error)) | (Err(error), Ok(mut only)) => {
            only.complete = false;
            only.faults.push(error.what);
            return Ok(only);
        }
        (Err(error), Err(_)) => return Err(error),
    };
    let mut entries: BTreeMap<RunnerName, Registration> =
        rest.entries.into_iter().map(|one| (one.name.clone(), one)).collect();
    for mut one in agents.entries {
        let earlier = entries.get(&one.name).and_then(|earlier| earlier.busy);
        one.busy = match (one.busy, earlier) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (known, other) => known.or(other),
        };
        entries.insert(one.name.clone(), one);
    }
    let mut faults = rest.faults;
    faults.extend(agents.faults);
    Ok(Listing {
        entries: entries.into_values().collect(),
        complete: rest.complete && agents.complete,
        as_of: rest.as_of.min(agents.as_of),
        faults,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(token: u64, online: bool, busy: Option<bool>) -> Registration {
        let name = RunnerName::new(&"ci".parse().unwrap(), &"set".parse().unwrap(), token);
        Registration { name, id: RegistrationId(token), online, busy, cordoned: None }
    }

    fn list(entries: Vec<Registration>) -> Listing<Registration> {
        Listing { entries, complete: true, as_of: Time::default(), faults: Vec::new() }
    }

    #[test]
    fn a_runner_that_either_side_shows_busy_is_busy_and_is_shown_once() {
        let rest = list(vec![one(1, false, Some(true)), one(2, true, None)]);
        let agents = list(vec![one(1, true, Some(false)), one(3, true, Some(true))]);
        let both = joined(Ok(rest), Ok(agents)).unwrap();
        assert!(both.complete);
        let seen: Vec<_> = both.entries.iter().map(|r| (r.id.0, r.online, r.busy)).collect();
        assert_eq!(seen, [(1, true, Some(true)), (2, true, None), (3, true, Some(true))]);
    }

    #[test]
    fn what_only_one_side_could_tell_is_incomplete() {
        let error = || PortError::certain(ErrorClass::Transient, "away");
        for (rest, agents) in
            [(Ok(list(vec![one(1, true, None)])), Err(error())), (Err(error()), Ok(list(vec![])))]
        {
            let half = joined(rest, agents).unwrap();
            assert_eq!((half.complete, half.faults), (false, vec!["away".to_owned()]));
        }
        assert_eq!(joined(Err(error()), Err(error())), Err(error()));
    }

    #[test]
    fn only_runners_of_this_fleet_and_of_a_scale_set_are_taken_from_the_actions_service() {
        let agent = |name: &str, id, scale_set, online| Agent {
            id,
            name: name.to_owned(),
            scale_set,
            online,
            busy: Some(false),
        };
        let agents = vec![
            agent("ci--set--000000000001", Some(1), Some(7), Some(true)),
            agent("ci--set--000000000002", Some(2), None, Some(true)),
            agent("other--set--000000000003", Some(3), Some(7), Some(true)),
            agent("somebody", None, Some(7), None),
            agent("ci--set--000000000004", None, Some(7), Some(true)),
            agent("ci--set--000000000005", Some(5), Some(7), None),
        ];
        let scope = "octo-org".parse().unwrap();
        let listing = listing(agents, 0, &"ci".parse().unwrap(), &scope, Time::default());
        assert_eq!(listing.entries.iter().map(|r| r.id.0).collect::<Vec<_>>(), [1]);
        assert_eq!((listing.complete, listing.faults.len()), (false, 2));
    }
}
