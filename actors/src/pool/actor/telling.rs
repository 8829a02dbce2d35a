//! How a listing's observations reach the runners: those that may lead to something at once, the others not too many
//! at a time. What news lead to, a replacement for instance, must not wait for thousands who hear that all is as
//! before.

use std::{collections::VecDeque, time::Duration};

use actix::{AsyncContext, Context};

use super::PoolActor;
use crate::{
    name::RunnerName,
    runner::{Event, Observation},
};

/// So many runners hear at a time that all is as before, and after that pause the next ones.
const AT_ONCE: usize = 250;
const PAUSE: Duration = Duration::from_millis(2);

/// What bears out only what is known, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Later {
    observations: VecDeque<(RunnerName, Observation)>,
    /// Whether the next ones are due by themselves.
    due: bool,
}

impl PoolActor {
    pub(super) fn tell_all(
        &mut self,
        seen: Vec<(RunnerName, Observation)>,
        ctx: &mut Context<Self>,
    ) {
        for (name, seen) in seen {
            if self.roster.is_news(&name, &seen) {
                self.tell(&name, Event::Observed(seen));
            } else {
                self.told_later.observations.push_back((name, seen));
            }
        }
        self.tell_some(ctx);
    }

    fn tell_some(&mut self, ctx: &mut Context<Self>) {
        let now = self.told_later.observations.len().min(AT_ONCE);
        let some: Vec<_> = self.told_later.observations.drain(..now).collect();
        for (name, seen) in some {
            self.tell(&name, Event::Observed(seen));
        }
        let more = !self.told_later.observations.is_empty();
        if more && !std::mem::replace(&mut self.told_later.due, true) {
            let _next = ctx.run_later(PAUSE, |actor, ctx| {
                actor.told_later.due = false;
                actor.tell_some(ctx);
            });
        }
    }
}
