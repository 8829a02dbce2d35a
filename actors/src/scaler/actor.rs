//! The scaler's actor: wakes when demand or policy change, and tells the pool its target.

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use std::sync::Arc;
use tokio::sync::watch;

use super::{Policy, Target, target};
use crate::{
    demand::{Demand, News, join},
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

/// Others know of the pool's demand from now on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Follow(pub Vec<watch::Receiver<Option<Demand>>>);

/// The actor of one pool's scaler.
pub struct ScalerActor {
    pool: Addr<PoolActor>,
    policy: Policy,
    last: Target,
    busy: watch::Receiver<Option<Demand>>,
    news: News,
    sources: Vec<watch::Receiver<Option<Demand>>>,
    watches: Vec<SpawnHandle>,
    clock: Arc<dyn Clock>,
    timer: Option<(Time, SpawnHandle)>,
}

impl ScalerActor {
    /// A scaler for `pool`, which publishes its `busy` runners, and for whose jobs `sources` speak.
    #[must_use]
    pub fn new(
        pool: Addr<PoolActor>,
        policy: Policy,
        busy: watch::Receiver<Option<Demand>>,
        sources: Vec<watch::Receiver<Option<Demand>>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let last = Target::initial(&policy);
        Self {
            pool,
            policy,
            last,
            busy,
            news: News::default(),
            sources,
            watches: Vec::new(),
            clock,
            timer: None,
        }
    }

    /// A watch keeps only the newest value, so a burst of signals wakes the scaler once. A source that
    /// has ended wakes it no more; its last word stands until the pool follows others.
    fn follow(&mut self, ctx: &mut Context<Self>) {
        for watch in self.watches.drain(..) {
            ctx.cancel_future(watch);
        }
        let parts: Vec<_> = self.sources.iter().chain([&self.busy]).cloned().collect();
        for mut part in parts {
            let this = ctx.address().downgrade();
            let watch = async move {
                while part.changed().await.is_ok() {
                    let Some(this) = this.upgrade() else { return };
                    this.do_send(Look);
                }
            };
            self.watches.push(ctx.spawn(watch.into_actor(self)));
        }
    }

    fn look(&mut self, tell_anyway: bool, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let busy = *self.busy.borrow_and_update();
        let fresh = self.news.fresh(busy.map_or(0, |busy| busy.running), now);
        let sources: Vec<_> =
            self.sources.iter_mut().map(|source| *source.borrow_and_update()).collect();
        let next = target(join(busy, &sources, fresh), &self.last, &self.policy, now);
        if tell_anyway || next != self.last {
            self.pool.do_send(SetTarget(next.clone()));
        }
        self.last = next;
        let again_at =
            self.last.again_at(&self.policy).into_iter().chain(self.news.again_at()).min();
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
        self.follow(ctx);
        self.look(true, ctx);
    }
}

impl Handler<Look> for ScalerActor {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        // Also where the target stays as it is: a pool whose runner has ended its job waits for it.
        self.look(true, ctx);
    }
}

impl Handler<Follow> for ScalerActor {
    type Result = ();

    fn handle(&mut self, Follow(sources): Follow, ctx: &mut Self::Context) {
        self.sources = sources;
        self.follow(ctx);
        self.look(true, ctx);
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
