//! What one pool learns of a side, told to the others that wait for it.

use actix::Handler;

use super::FleetActor;
use crate::{
    event::Place,
    pool::actor::{PoolKey, Sign, Works},
};

impl Handler<Works> for FleetActor {
    type Result = ();

    fn handle(&mut self, Works(by): Works, _ctx: &mut Self::Context) {
        let model = &self.setup.model;
        let held =
            |key: &PoolKey| model.pools.get(&key.pool).is_some_and(|pool| !pool.holds.is_empty());
        for (key, child) in self.pools.iter().filter(|(key, _)| **key != by && held(key)) {
            child.addr.do_send(Sign(Place::Forge));
            if key.scope == by.scope {
                child.addr.do_send(Sign(Place::Scope));
            }
            if key.provider == by.provider {
                child.addr.do_send(Sign(Place::Cloud));
            }
        }
    }
}
