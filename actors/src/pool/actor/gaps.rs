//! A process that stood still: what its pools make of that.

use actix::{AsyncContext, Handler, Message};

use super::PoolActor;

/// This process stood still for a while; whoever notices first tells the pools.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Woke;

impl Handler<Woke> for PoolActor {
    type Result = ();

    fn handle(&mut self, _: Woke, ctx: &mut Self::Context) {
        self.notice_a_gap();
        // Set on a clock that stands while the machine is suspended: the next plan sets it anew.
        if let Some((_, timer)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.plan_soon(ctx);
    }
}

impl PoolActor {
    /// After a gap nothing is planned on what was seen before it, and each runner hears of it.
    pub(super) fn notice_a_gap(&mut self) {
        let awake_since = self.outfit.shared.hands.clock.awake_since();
        if let Some(awake_since) = self.heard_of_gaps.news(awake_since) {
            self.roster.woke(awake_since);
            self.stir_runners();
        }
    }
}
