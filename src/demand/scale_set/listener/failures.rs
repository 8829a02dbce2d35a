//! What follows from a failure, cell by cell.

use runner_fleet_actors::{
    backoff,
    port::{ErrorClass, Time},
};

use super::{
    CONFLICT, DROP_TRIES, Event, Failure, Listener, NUMBERS_TRIES, RENEW_PAUSE,
    steps::{Stage, Step},
};

impl Listener {
    /// What follows from a failure of the present action.
    pub(super) fn failed(mut self, failure: Failure, now: Time, capacity: u32) -> Self {
        match (self.step.clone(), failure) {
            (step @ Step::Open { .. }, Failure::Conflict) => {
                self.failures += 1;
                self.conflict_since.get_or_insert(now);
                let spread = self.seed ^ u64::from(self.failures);
                self.later(step, now + backoff::delay(1, spread, CONFLICT))
            }
            (Step::Open { .. }, Failure::Gone) => {
                self.lose_set();
                self.again(Step::Find { of: None }, failure, now)
            }
            (Step::Create, _) => {
                // An answer may have been lost, or somebody was quicker: look before the next try.
                self.again(Step::Find { of: None }, failure, now)
            }
            (Step::Drop { tries, .. }, _) if failure == Failure::Gone || tries >= DROP_TRIES => {
                self.dead = None;
                self.reopen()
            }
            (Step::Drop { set, session, tries }, _) => {
                self.again(Step::Drop { set, session, tries: tries + 1 }, failure, now)
            }
            (Step::Renew { then, .. }, Failure::Gone) => self.without_session(*then),
            (step @ Step::Renew { early: true, .. }, _)
                if self.outdated.is_some() && self.failures < NUMBERS_TRIES =>
            {
                self.again(step, failure, now)
            }
            (Step::Renew { then, early: true, .. }, _) => {
                // The present token is still good; the next poll tells whether GitHub is.
                if let Some(held) = &mut self.session {
                    held.rest_until = now + RENEW_PAUSE;
                }
                if let Some(told) = self.outdated.take() {
                    self.make_do(told, now);
                }
                self.at(*then)
            }
            (
                step @ (Step::Poll
                | Step::Acquire { .. }
                | Step::Handle(_, Stage::Acquire { .. } | Stage::Acknowledge)),
                Failure::Refused,
            ) => {
                if std::mem::replace(&mut self.refused, true) {
                    self.refused = false;
                    return self.without_session(step);
                }
                let renew = self.renewal(step, false);
                self.at(renew)
            }
            (Step::Poll, Failure::Gone) => self.without_session(Step::Poll),
            (Step::Poll, Failure::Other(ErrorClass::Invalid)) => {
                // Perhaps the queue has moved: a renewal tells where it is.
                let renew = self.renewal(Step::Poll, false);
                self.again(renew, failure, now)
            }
            // Whatever could not be acquired is found by the next look.
            (Step::Look { .. } | Step::Acquire { .. }, _) => self.settle(now, capacity),
            (Step::Handle(message, Stage::Acquire { .. }), _) => {
                self.at(Step::Handle(message, Stage::Hear))
            }
            // Heard it was; the memory only saves a repetition.
            (Step::Handle(message, Stage::Remember), _) => {
                self.step = Step::Handle(message, Stage::Remember);
                self.next(Event::Done, now, capacity)
            }
            (Step::Note, _) => self.settle(now, capacity),
            (Step::Handle(_, Stage::Acknowledge), Failure::Gone) => self.settle(now, capacity),
            (Step::Handle(_, Stage::Acknowledge), Failure::Other(ErrorClass::Invalid)) => {
                self.again(Step::Poll, failure, now)
            }
            // The next process finds the session in the memory.
            (Step::Close { .. } | Step::Forget, _) => self.at(Step::End),
            (step @ (Step::Wait { .. } | Step::End), _) => self.at(step),
            (step, _) => self.again(step, failure, now),
        }
    }

    /// The session is lost while `step` was under way.
    fn without_session(mut self, step: Step) -> Self {
        self.dead = self.session.take().map(|held| held.id);
        match step {
            // It was not heard yet. What could not be acquired is found by the next look.
            Step::Handle(message, Stage::Acquire { .. } | Stage::Hear) => {
                self.at(Step::Handle(message, Stage::Hear))
            }
            _ => self.reopen(),
        }
    }
}
