//! What an operator may ask of a fleet: orders for pools, fixed targets, reload, stop.

use std::{collections::BTreeMap, sync::Arc};

use actix::{Handler, Message, ResponseFuture, prelude::MessageResult};
use tokio::sync::oneshot;

use super::{EMPTY, Ending, FleetActor, PoolSetup, sources};
use crate::{
    name::PoolName,
    pool::actor::{Order, PoolKey, Refused},
    port::Provider,
    runner::actor::Halt,
    scaler::actor::{Follow, SetPolicy},
};

/// An operator's order for a pool.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<u32, RouteError>")]
pub struct Route {
    /// Which pool.
    pub pool: PoolName,
    /// What to do.
    pub order: Order,
}

/// Why an order did not reach a runner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There is no such pool.
    #[error("there is no pool {0}; see `runner-fleet pools`")]
    NoPool(PoolName),
    /// The pool refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The pool's actor did not answer.
    #[error("pool {0} did not answer; it is being started again, try once more")]
    NoAnswer(PoolName),
}

impl Handler<Route> for FleetActor {
    type Result = ResponseFuture<Result<u32, RouteError>>;

    fn handle(&mut self, Route { pool, order }: Route, _ctx: &mut Self::Context) -> Self::Result {
        let addrs: Vec<_> = self
            .pools
            .iter()
            .filter(|(key, _)| key.pool == pool)
            .map(|(_, child)| child.addr.clone())
            .collect();
        Box::pin(async move {
            let mut last = Err(RouteError::NoPool(pool.clone()));
            for addr in addrs {
                last = match addr.send(order.clone()).await {
                    Ok(Ok(n)) => return Ok(n),
                    Ok(Err(refused)) => Err(refused.into()),
                    Err(_closed) => Err(RouteError::NoAnswer(pool.clone())),
                };
                // A pool of the same name at another place may have the runner.
                if !matches!(last, Err(RouteError::Refused(Refused::NoRunner(_)))) {
                    break;
                }
            }
            last
        })
    }
}

/// Fix a pool's target, or give it back to its scaler.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), RouteError>")]
pub struct Fix {
    /// Which pool.
    pub pool: PoolName,
    /// The target; `None` gives it back.
    pub runners: Option<u32>,
}

impl Handler<Fix> for FleetActor {
    type Result = MessageResult<Fix>;

    fn handle(&mut self, Fix { pool, runners }: Fix, _ctx: &mut Self::Context) -> Self::Result {
        let found = self
            .pools
            .iter_mut()
            .find(|(key, child)| key.pool == pool && !child.setup.configure.policy.retiring);
        let Some((_, child)) = found else {
            return MessageResult(Err(RouteError::NoPool(pool)));
        };
        child.setup.configure.scaling.fixed = runners;
        child.addr.do_send(child.setup.configure.clone());
        if let Some(scaler) = &child.scaler {
            scaler.do_send(SetPolicy(child.setup.configure.scaling));
        }
        MessageResult(Ok(()))
    }
}

/// List everything now, and end every hold that is only this fleet's own judgement.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Reconcile;

impl Handler<Reconcile> for FleetActor {
    type Result = ();

    fn handle(&mut self, _: Reconcile, _ctx: &mut Self::Context) {
        self.end_holds();
    }
}

/// A new configuration: new pools start, removed ones retire, the others change in place.
#[derive(Clone, Message)]
#[rtype(result = "Vec<String>")]
pub struct Reload {
    /// Providers by name. One that pools still use stays even if it left the configuration.
    pub providers: BTreeMap<String, Arc<dyn Provider>>,
    /// The pools.
    pub pools: Vec<PoolSetup>,
}

impl Handler<Reload> for FleetActor {
    type Result = MessageResult<Reload>;

    fn handle(&mut self, reload: Reload, ctx: &mut Self::Context) -> Self::Result {
        let mut done = Vec::new();
        for (name, provider) in reload.providers {
            self.setup.providers.entry(name).or_insert(provider);
        }
        let wanted: BTreeMap<PoolKey, PoolSetup> =
            reload.pools.into_iter().map(|setup| (Self::key(&setup), setup)).collect();
        for (key, child) in &mut self.pools {
            if !wanted.contains_key(key) && !child.setup.configure.policy.retiring {
                let configure = &mut child.setup.configure;
                configure.policy.retiring = true;
                configure.scaling = EMPTY;
                child.addr.do_send(configure.clone());
                if let Some(scaler) = &child.scaler {
                    scaler.do_send(SetPolicy(EMPTY));
                }
                done.push(format!("pool {} is retiring", key.pool));
            }
        }
        for (key, mut setup) in wanted {
            match self.pools.get_mut(&key) {
                Some(child) => {
                    let fixed = child.setup.configure.scaling.fixed;
                    setup.configure.scaling.fixed = setup.configure.scaling.fixed.or(fixed);
                    child.setup = setup.clone();
                    child.addr.do_send(setup.configure.clone());
                    if let Some(scaler) = &child.scaler {
                        scaler.do_send(SetPolicy(setup.configure.scaling));
                        scaler.do_send(Follow(sources(&setup)));
                    }
                    done.push(format!("pool {} is up to date", key.pool));
                }
                None => {
                    done.push(format!("pool {} starts", key.pool));
                    self.start_pool(setup, Vec::new(), None, ctx);
                }
            }
        }
        self.hear_anew(ctx);
        self.end_holds();
        MessageResult(done)
    }
}

/// Stop: no new effects, wait for the answers that are due. Running jobs go on; the next start adopts.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Stop;

impl Handler<Stop> for FleetActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) -> Self::Result {
        let (stopped, done) = oneshot::channel();
        self.stopping = Some(stopped);
        for (_, task) in std::mem::take(&mut self.sweeps) {
            task.abort();
        }
        self.hear_nobody();
        for child in self.pools.values_mut() {
            child.scaler = None;
            child.addr.do_send(Halt);
        }
        if self.pools.is_empty() {
            self.end(Ending::Stopped, ctx);
        }
        Box::pin(async move {
            // Either way the fleet is at its end.
            let _either_way = done.await;
        })
    }
}
