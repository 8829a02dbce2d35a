//! Calls on their way out and answers on their way back: delays, losses, time-outs.

use super::{
    happening::{Call, Happening},
    orders::Word,
    world::World,
};
use crate::{
    name::RunnerName,
    port::{ErrorClass, Grounds, PortError, Stage},
    runner::{Answer, Effect, LaunchFailure},
};

/// What an effect is asked for with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// Whether it is a drain by force.
    pub forced: bool,
    /// Whether the guest was asked in vain.
    pub silent: bool,
    /// The job's number, where it is known.
    pub job: Option<u64>,
    /// Until when it may be sent.
    pub grounds: Option<Grounds>,
}

impl World {
    /// Sends an effect on its way, and sets the time at which its answer is given up.
    pub fn send(&mut self, pool: usize, op: u64, name: &RunnerName, effect: Effect, asked: Asked) {
        let Asked { forced, silent, job, grounds } = asked;
        let epoch = self.epoch;
        let call = match effect {
            Effect::Launch => Call::Register,
            Effect::StandDown => Call::Order { word: Word::StandDown },
            Effect::GoOn => Call::Order { word: Word::GoOn },
            Effect::End => Call::Order { word: Word::End },
            Effect::Deregister => {
                let ahead = !self.vms.contains_key(name);
                Call::Deregister { forced, silent, ahead }
            }
            Effect::DeleteVm => Call::Delete { forced, silent },
            Effect::LookUp => Call::LookUp { job },
            Effect::Cordon => Call::Cordon { on: true },
            Effect::Uncordon => Call::Cordon { on: false },
        };
        let limited = self.process.as_ref().and_then(|process| process.limited);
        if let (Call::Register, Some(until)) = (call, limited.filter(|until| self.now < *until)) {
            let error = PortError::held_back(until, "the forge says so");
            let answer = Answer::LaunchFailed(LaunchFailure {
                error,
                stage: Stage::Forge,
                vm_possible: false,
                registration_possible: false,
                registration: None,
            });
            let name = name.clone();
            return self.after(0.0, Happening::Answer { epoch, op, name, answer });
        }
        // A call that is held up somewhere still ends before the shell stops waiting for it. An order is
        // kept in the process itself, in the order in which it was given.
        let most = match call {
            Call::Order { .. } => 0.0,
            _ if self.strict => 0.2,
            _ if self.chance(0.05) => 60.0,
            _ => 2.0,
        };
        let least = 0.05_f64.min(most);
        let perform = Happening::Perform { epoch, op, name: name.clone(), call, grounds };
        self.between(least, most, perform);
        if !effect.has_answer() {
            return;
        }
        if let Some(config) = self.pools.get(pool) {
            let at = self.now + effect.limit(&config.believed);
            self.at(at, Happening::TimeOut { epoch, op, name: name.clone(), effect });
        }
    }

    /// An answer on its way back.
    pub fn reply(&mut self, epoch: u32, op: u64, name: &RunnerName, answer: Answer) {
        let name = name.clone();
        let most = if self.strict { 0.2 } else { 3.0 };
        self.between(0.05, most, Happening::Answer { epoch, op, name, answer });
    }

    /// An answer that the knob may lose.
    pub fn reply_or_lose(&mut self, epoch: u32, op: u64, name: &RunnerName, answer: Answer) {
        if !self.chance(self.faults.answer_lost) {
            self.reply(epoch, op, name, answer);
        }
    }

    /// The shell gives an answer up: everything is possible.
    pub fn time_out(&mut self, epoch: u32, op: u64, name: &RunnerName, effect: Effect) {
        let due = epoch == self.epoch
            && self.process.as_ref().is_some_and(|process| process.is_op(name, op));
        if !due {
            return;
        }
        self.counters.answers_given_up += 1;
        let error = PortError::doubtful(ErrorClass::Transient, "no answer in time");
        let answer = match effect {
            Effect::Launch => Answer::LaunchFailed(LaunchFailure {
                error,
                stage: Stage::Cloud,
                vm_possible: true,
                registration_possible: true,
                registration: None,
            }),
            Effect::Deregister => Answer::Deregistered(Err(error)),
            Effect::DeleteVm => Answer::VmDeleted(Err(error)),
            Effect::LookUp => Answer::LookedUp(Err(error)),
            Effect::Cordon => Answer::Cordoned(Err(error)),
            Effect::Uncordon => Answer::Uncordoned(Err(error)),
            Effect::StandDown | Effect::GoOn | Effect::End => Answer::StoodDown(Err(error)),
        };
        self.answer(epoch, op, name, answer);
    }
}
