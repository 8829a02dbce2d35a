//! The death of a runner's actor: it is started again as it was last reported, or, where it dies again
//! and again, left to the next listing to adopt.

use std::sync::Arc;

use actix::{AsyncContext, Handler};

use super::PoolActor;
use crate::{
    event::FleetEvent,
    guard::Died,
    name::RunnerName,
    port::{ErrorClass, PortError},
    runner::{actor::Beginning, revive},
    supervision::{self, Restart},
};

impl Handler<Died<RunnerName>> for PoolActor {
    type Result = ();

    fn handle(&mut self, died: Died<RunnerName>, ctx: &mut Self::Context) {
        if self.children.get(&died.key).is_none_or(|child| child.start != died.start) {
            return;
        }
        let Some(mut child) = self.children.remove(&died.key) else { return };
        if died.orderly || self.halting {
            self.halt_if_done(ctx);
            return;
        }
        let now = self.now();
        let intensity = self.outfit.intensity;
        supervision::forget_old(&mut child.deaths, now, &intensity);
        child.deaths.push(now);
        self.crashed += 1;
        let decision = supervision::decide(&child.deaths, now, &intensity);
        tracing::error!(runner = %died.key, deaths = child.deaths.len(), ?decision, "a runner's actor died");
        let what = match decision {
            Restart::At(_) => format!("the actor of {} died; it is started again", died.key),
            Restart::Escalate => format!(
                "the actor of {} died {} times within {} s; it is left to the next listing to adopt",
                died.key,
                child.deaths.len(),
                intensity.within.as_secs()
            ),
        };
        self.observe(FleetEvent::Fault {
            at: now,
            pool: Some(self.name().clone()),
            runner: Some(died.key.clone()),
            error: PortError::certain(ErrorClass::Invalid, what),
        });
        match decision {
            Restart::At(at) => {
                let wait = (at - now).to_std().unwrap_or_default();
                let (name, deaths) = (died.key, child.deaths);
                ctx.run_later(wait, move |actor, ctx| {
                    let now = actor.now();
                    let Some(member) = actor.roster.get(&name) else { return };
                    let beginning = Beginning {
                        state: revive(member.state.clone(), now),
                        created_at: member.created_at,
                        name,
                        effects: Vec::new(),
                        why: "its actor died and was started again".to_owned(),
                        blueprint: Arc::clone(&actor.outfit.configure.blueprint),
                    };
                    actor.start_runner(beginning, deaths, ctx);
                });
            }
            Restart::Escalate => {
                self.roster.hand_to_orphans(&died.key);
                self.outfit.shared.model.runners.remove(&died.key);
                self.plan_soon(ctx);
            }
        }
    }
}
