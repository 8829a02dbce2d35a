//! What one pool's launch shows of a side, and the pools that wait for that side are told.

use actix::{Handler, Message};

use super::{PoolActor, PoolKey};
use crate::event::Place;

/// A launch of this pool was taken on: forge and cloud work. Other pools' launches may wait for that.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Works(pub PoolKey);

/// A launch of another pool was taken on, in the same scope or at the same cloud.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Sign(pub Place);

impl Handler<Sign> for PoolActor {
    type Result = ();

    fn handle(&mut self, Sign(place): Sign, ctx: &mut Self::Context) {
        let now = self.now();
        if self.roster.failures.sign(place, now) {
            self.plan_soon(ctx);
        }
    }
}
