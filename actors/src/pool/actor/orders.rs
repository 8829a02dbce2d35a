//! What an operator, or the channel to the guests, may ask of a pool.

use actix::{Context, Handler, Message, MessageResult};

use super::PoolActor;
use crate::{
    event::{DrainReason, Phase},
    name::RunnerName,
    runner::Event,
};

/// An operator's or the guest channel's wish.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<u32, Refused>")]
pub enum Order {
    /// Drain one runner; refused while it is busy.
    Drain(RunnerName),
    /// Delete one runner whatever it does.
    Force(RunnerName),
    /// Drain every idle runner.
    Flush,
    /// What failed is said to be mended: holds end, and one launch finds out.
    EndHold,
    /// Tell one runner what its guest or the forge says.
    Tell(RunnerName, Box<Event>),
}

/// Why an order was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such runner.
    #[error("there is no runner {0}; see `runner-fleet runners`")]
    NoRunner(RunnerName),
    /// The runner has a job.
    #[error(
        "{0} is busy; it ends with its job. To kill the job as well: `runner-fleet delete {0} --force`"
    )]
    Busy(RunnerName),
    /// The daemon is about to stop.
    #[error("the daemon is stopping and takes no orders")]
    Stopping,
}

impl Handler<Order> for PoolActor {
    type Result = MessageResult<Order>;

    fn handle(&mut self, order: Order, ctx: &mut Context<Self>) -> Self::Result {
        if self.halting {
            return MessageResult(Err(Refused::Stopping));
        }
        let now = self.now();
        let phase = |name: &RunnerName| self.roster.get(name).map(|m| m.state.phase());
        let result = match order {
            Order::Drain(name) => match phase(&name) {
                None => Err(Refused::NoRunner(name)),
                Some(Phase::Busy) => Err(Refused::Busy(name)),
                Some(_) => {
                    self.roster.asked(&name, now);
                    self.tell(&name, Event::Drain(DrainReason::Operator));
                    Ok(1)
                }
            },
            Order::Force(name) => match phase(&name) {
                None => Err(Refused::NoRunner(name)),
                Some(_) => {
                    self.tell(&name, Event::Force);
                    Ok(1)
                }
            },
            Order::Flush => {
                let idle = self.roster.idle_oldest_first(now);
                for name in &idle {
                    self.roster.asked(name, now);
                    self.tell(name, Event::Drain(DrainReason::Operator));
                }
                Ok(u32::try_from(idle.len()).unwrap_or(u32::MAX))
            }
            Order::EndHold => {
                let ended = self.roster.failures.end_hold(now);
                if ended {
                    tracing::info!(pool = %self.name(), "launches go on by an operator's word; one probes");
                    self.plan_soon(ctx);
                }
                Ok(u32::from(ended))
            }
            Order::Tell(name, event) => match phase(&name) {
                None => Err(Refused::NoRunner(name)),
                Some(_) => {
                    self.tell(&name, *event);
                    Ok(1)
                }
            },
        };
        self.outfit.stir.send_modify(|stir| stir.changes += 1);
        MessageResult(result)
    }
}
