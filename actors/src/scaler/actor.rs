//! The scaler's actor: wakes when demand or policy change, and tells the pool its target.

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use std::sync::Arc;
use tokio::sync::watch;

use super::{Policy, Target, target};
use crate::{
    demand::{Demand, combine},
    pool::actor::{PoolActor, SetTarget},
    port::{Clock, Time},
};

/// Look at demand once more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Look;

/// A new policy, from a reload or an operator's fixed target.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SetPolicy(pub Policy);

/// A new pool actor took the place of the old one.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Serve(pub Addr<PoolActor>);

/// The actor of one pool's scaler.
pub struct ScalerActor {
    pool: Addr<PoolActor>,
    policy: Policy,
    last: Target,
    demand: Vec<watch::Receiver<Option<Demand>>>,
    clock: Arc<dyn Clock>,
    timer: Option<(Time, SpawnHandle)>,
}

impl ScalerActor {
    /// A scaler for `pool` that follows what all of `demand` say together.
    #[must_use]
    pub fn new(
        pool: Addr<PoolActor>,
        policy: Policy,
        demand: Vec<watch::Receiver<Option<Demand>>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let last = Target::initial(&policy);
        Self { pool, policy, last, demand, clock, timer: None }
    }

    fn look(&mut self, tell_anyway: bool, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let parts: Vec<_> = self.demand.iter_mut().map(|part| *part.borrow_and_update()).collect();
        let next = target(combine(&parts), &self.last, &self.policy, now);
        if tell_anyway || next != self.last {
            self.pool.do_send(SetTarget(next.clone()));
        }
        self.last = next;
        let again_at = self.last.again_at(&self.policy);
        if self.timer.as_ref().map(|(at, _)| *at) != again_at {
            if let Some((_, timer)) = self.timer.take() {
                ctx.cancel_future(timer);
            }
            if let Some(at) = again_at {
                let wait = (at - now).to_std().unwrap_or_default();
                let timer = ctx.run_later(wait, |actor, ctx| {
                    actor.timer = None;
                    actor.look(false, ctx);
                });
                self.timer = Some((at, timer));
            }
        }
    }
}

impl Actor for ScalerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // A watch keeps only the newest value, so a burst of signals wakes the scaler once.
        for mut part in self.demand.clone() {
            let this = ctx.address().downgrade();
            ctx.spawn(
                async move {
                    while part.changed().await.is_ok() {
                        let Some(this) = this.upgrade() else { return };
                        this.do_send(Look);
                    }
                }
                .into_actor(self),
            );
        }
        self.look(true, ctx);
    }
}

impl Handler<Look> for ScalerActor {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        self.look(false, ctx);
    }
}

impl Handler<SetPolicy> for ScalerActor {
    type Result = ();

    fn handle(&mut self, SetPolicy(policy): SetPolicy, ctx: &mut Self::Context) {
        self.policy = policy;
        self.look(true, ctx);
    }
}

impl Handler<Serve> for ScalerActor {
    type Result = ();

    fn handle(&mut self, Serve(pool): Serve, ctx: &mut Self::Context) {
        self.pool = pool;
        self.look(true, ctx);
    }
}
