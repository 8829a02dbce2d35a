//! Orders on their way to a guest and answers on their way back: the daemon's end and the guest's.
//!
//! The daemon keeps the newest order for each guest, until it dies. A guest takes each order once and
//! none that is older than its last. An order that has no answer in time is withdrawn, and an answer
//! that comes later is refused, whereupon the guest goes on at once.

use std::time::Duration;

use super::{Mutant, guest::alive, happening::Happening, listener::Stage, world::World};
use crate::{
    invariant,
    name::RunnerName,
    port::{ErrorClass, PortError, StandDown},
    runner::Answer,
};

/// How long a guest stands down without another word. Longer than two calls may take together, so
/// that an order is still good when the deregistration that it was given for acts.
const LAPSE: Duration = Duration::from_secs(300);
/// How long the daemon waits for a guest's answer.
const PATIENCE: f64 = 20.0;
/// How long a guest looks again where a message has come and no worker yet.
const DOUBT: Duration = Duration::from_secs(20);

/// What a guest is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    StandDown,
    GoOn,
    End,
}

/// The newest order for one guest, as this process keeps it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    number: u64,
    word: Word,
    /// Whether its answer would be taken.
    open: bool,
}

impl World {
    /// The daemon gives an order. Its number is the operation's, so numbers grow over crashes.
    pub fn order(&mut self, epoch: u32, number: u64, name: &RunnerName, word: Word) {
        if epoch != self.epoch || self.process.is_none() {
            return;
        }
        self.counters.guest_calls += 1;
        let open = word == Word::StandDown;
        self.hub.insert(name.clone(), Slot { number, word, open });
        if open {
            let withdrawal = Happening::Withdraw { epoch, op: number, name: name.clone() };
            self.after(PATIENCE, withdrawal);
        }
        let fetched = Happening::Fetched { name: name.clone(), number };
        if self.chance(self.faults.order_lost) {
            // The poll broke. The next one brings it, late, unless the guest cannot be reached at all.
            if self.chance(0.5) {
                self.between(2.0, 60.0, fetched);
            }
            return;
        }
        self.between(0.01, 1.0, fetched);
        if self.chance(self.faults.order_lost) {
            self.between(0.5, 30.0, Happening::Fetched { name: name.clone(), number });
        }
    }

    /// The guest's poll is answered, with the order that is the newest by now.
    pub fn fetched(&mut self, name: &RunnerName, number: u64) {
        if let Some(slot) = self.hub.get(name).filter(|slot| slot.number == number).copied() {
            let (name, word) = (name.clone(), slot.word);
            self.between(0.005, 0.3, Happening::Ordered { name, number, word });
        }
    }

    /// An order reaches the guest.
    pub fn ordered(&mut self, name: &RunnerName, number: u64, word: Word) {
        let Some(vm) = self.vms.get_mut(name) else { return };
        let hears = alive(&vm.status) && vm.guest.reports && !vm.guest.dud && !vm.guest.over;
        if !hears || number <= vm.guest.order {
            return;
        }
        vm.guest.order = number;
        self.note(|| format!("guest: {name} is told {word:?}"));
        match (word, self.mutant) {
            (Word::StandDown, Some(Mutant::FreezesUnlooked)) => {
                self.freeze(name);
                self.stands_down(name, number);
            }
            (Word::StandDown, Some(Mutant::LooksUnfrozen)) => match self.look_inside(name) {
                Some(Stage::Received) | None => {
                    let (name, until) = (name.clone(), self.now);
                    self.between(0.05, 1.5, Happening::LooksAgain { name, number, until });
                }
                Some(_) => self.says(name, number, StandDown::Busy),
            },
            (Word::StandDown, _) => self.freeze_and_look(name, number, self.now + DOUBT),
            (Word::GoOn, _) => self.thaw(name),
            (Word::End, _) => self.end_listener(name),
        }
    }

    fn freeze_and_look(&mut self, name: &RunnerName, number: u64, until: crate::port::Time) {
        self.freeze(name);
        let name = name.clone();
        self.between(0.002, 0.3, Happening::LooksInside { name, number, until });
    }

    /// A moment later: once more, if the order still stands.
    pub fn looks_again(&mut self, name: &RunnerName, number: u64, until: crate::port::Time) {
        if !self.obeys(name, number) {
            return;
        }
        if self.mutant == Some(Mutant::LooksUnfrozen) {
            self.freeze(name);
            return self.stands_down(name, number);
        }
        self.freeze_and_look(name, number, until);
    }

    fn obeys(&self, name: &RunnerName, number: u64) -> bool {
        self.vms
            .get(name)
            .is_some_and(|vm| alive(&vm.status) && !vm.guest.over && vm.guest.order == number)
    }

    /// What a guest can see of its listener: processes and the diagnostic log. A message that was not
    /// written down yet cannot be seen, and is not acquired.
    fn look_inside(&self, name: &RunnerName) -> Option<Stage> {
        self.vms.get(name).and_then(|vm| vm.guest.hand).map(|hand| hand.stage)
    }

    /// The guest looks for a job, its listener frozen.
    pub fn looks_inside(&mut self, name: &RunnerName, number: u64, until: crate::port::Time) {
        if !self.obeys(name, number) {
            return;
        }
        match self.look_inside(name) {
            None | Some(Stage::Received) => self.stands_down(name, number),
            Some(Stage::Logged | Stage::Acquiring) => {
                // A message came, and what became of it only a listener that runs can show.
                self.thaw(name);
                if self.now < until {
                    let name = name.clone();
                    self.between(0.2, 2.0, Happening::LooksAgain { name, number, until });
                }
            }
            Some(Stage::Accepted | Stage::Spawned | Stage::Running) => {
                self.thaw(name);
                self.says(name, number, StandDown::Busy);
            }
        }
    }

    fn stands_down(&mut self, name: &RunnerName, number: u64) {
        let lapse = Happening::Lapse { name: name.clone(), number };
        self.at(self.now + LAPSE, lapse);
        self.says(name, number, StandDown::StandingDown);
    }

    fn says(&mut self, name: &RunnerName, number: u64, word: StandDown) {
        self.note(|| format!("guest: {name} says {word:?}"));
        let said = Happening::Said { name: name.clone(), number, word };
        if !self.chance(self.faults.stand_down_lost) {
            self.between(0.01, 1.0, said);
        } else if self.chance(0.7) {
            self.between(1.0, 40.0, said);
        }
    }

    /// The guest's answer reaches the daemon, if there is one.
    pub fn said(&mut self, name: &RunnerName, number: u64, word: StandDown) {
        if self.process.is_none() {
            if self.obeys(name, number) {
                let said = Happening::Said { name: name.clone(), number, word };
                self.between(1.0, 30.0, said);
            }
            return;
        }
        let slot = self.hub.get_mut(name).filter(|slot| slot.number == number && slot.open);
        if let Some(slot) = slot {
            slot.open = false;
            self.answer(self.epoch, number, name, Answer::StoodDown(Ok(word)));
            // A confirmation that gets lost changes nothing: the guest stands down until it is told.
            if self.mutant == Some(Mutant::ThawsUnconfirmed) {
                self.after(PATIENCE, Happening::Lapse { name: name.clone(), number });
            }
        } else if self.obeys(name, number) {
            self.note(|| format!("guest: {name} comes too late with its answer"));
            self.thaw(name);
        }
    }

    /// No answer in time: the order is withdrawn.
    pub fn withdraw(&mut self, epoch: u32, op: u64, name: &RunnerName) {
        if epoch != self.epoch {
            return;
        }
        let Some(slot) = self.hub.get_mut(name).filter(|slot| slot.number == op && slot.open)
        else {
            return;
        };
        slot.open = false;
        let error = PortError::certain(ErrorClass::Transient, "the guest does not answer");
        self.answer(epoch, op, name, Answer::StoodDown(Err(error)));
    }

    /// A guest that heard nothing more goes on by itself.
    pub fn lapse(&mut self, name: &RunnerName, number: u64) {
        let stands = self.vms.get(name).is_some_and(|vm| vm.guest.frozen);
        if !stands || !self.obeys(name, number) {
            return;
        }
        if self.no_excuse {
            let detail = format!("{name} stood down for {} s", LAPSE.as_secs());
            self.violated(invariant::RELEASED, detail);
        }
        self.thaw(name);
    }
}
