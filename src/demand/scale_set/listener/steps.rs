//! Where a listener is, and which action that means.

use runner_fleet_actors::port::Time;

use super::{Action, Listener, Memory};
use crate::demand::scale_set::wire::Message;

/// Where a listener is. Each step holds what its action needs, so that none can want what is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Recall,
    /// `of`: the scale set that the memory is about.
    Find {
        of: Option<u64>,
    },
    Create,
    /// Deleting the dead session.
    Drop {
        set: u64,
        session: String,
        tries: u32,
    },
    Open {
        set: u64,
    },
    /// Keeping the number of the session that was opened.
    Note,
    /// `early`: before the token has ended.
    Renew {
        set: u64,
        session: String,
        then: Box<Step>,
        early: bool,
    },
    Poll,
    Look {
        set: u64,
    },
    Acquire {
        set: u64,
        requests: Vec<u64>,
    },
    Handle(Message, Stage),
    Wait {
        until: Time,
        then: Box<Step>,
    },
    /// Deleting the own session at the end.
    Close {
        set: u64,
        session: String,
    },
    /// Keeping that there is none.
    Forget,
    End,
}

/// How far the handling of a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    Acquire { set: u64, requests: Vec<u64> },
    Hear,
    Remember,
    Acknowledge,
}

impl Listener {
    fn memory(&self) -> Memory {
        let session = self.session.as_ref().map(|held| held.id.clone());
        Memory { set: self.set, session: session.or_else(|| self.dead.clone()), last: self.last }
    }

    pub(super) fn action_of(&self, step: &Step) -> Action {
        match step {
            Step::Recall => Action::Recall,
            Step::Find { .. } => Action::Find,
            Step::Create => Action::Create,
            Step::Drop { set, session, .. } | Step::Close { set, session } => {
                Action::Drop { set: *set, session: session.clone() }
            }
            Step::Open { set } => Action::Open { set: *set },
            Step::Renew { set, session, .. } => {
                Action::Renew { set: *set, session: session.clone() }
            }
            Step::Note | Step::Forget | Step::Handle(_, Stage::Remember) => {
                Action::Remember(self.memory())
            }
            Step::Poll => Action::Poll { last: self.last },
            Step::Look { set } => Action::Look { set: *set },
            Step::Acquire { set, requests } | Step::Handle(_, Stage::Acquire { set, requests }) => {
                Action::Acquire { set: *set, requests: requests.clone() }
            }
            Step::Handle(message, Stage::Hear) => Action::Hear(message.clone()),
            Step::Handle(message, Stage::Acknowledge) => {
                Action::Acknowledge { message: message.id }
            }
            Step::Wait { until, .. } => Action::Wait { until: *until },
            Step::End => Action::End,
        }
    }
}
