//! What a listener is told, what it asks for, and what it keeps.

use std::time::Duration;

use runner_fleet_actors::port::{ErrorClass, Time};
use serde::{Deserialize, Serialize};

use crate::demand::scale_set::wire::{Message, Statistics};

/// What a listener keeps over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The number of the scale set that the rest is about.
    pub set: Option<u64>,
    /// The session that was open last.
    pub session: Option<String>,
    /// The last message that was handled.
    pub last: u64,
}

/// What to do next. One at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read the memory of the last process.
    Recall,
    /// Look the scale set up by its name.
    Find,
    /// Make the scale set.
    Create,
    /// Delete a session.
    Drop {
        /// Of which scale set.
        set: u64,
        /// Which one.
        session: String,
    },
    /// Open a session.
    Open {
        /// Of which scale set.
        set: u64,
    },
    /// Renew the session's token.
    Renew {
        /// Of which scale set.
        set: u64,
        /// Which one.
        session: String,
    },
    /// Keep this for the next process.
    Remember(Memory),
    /// Ask for the next message.
    Poll {
        /// The last one that was handled.
        last: u64,
    },
    /// Ask which jobs wait to be acquired.
    Look {
        /// Of which scale set.
        set: u64,
    },
    /// Acquire jobs.
    Acquire {
        /// For which scale set.
        set: u64,
        /// Which ones.
        requests: Vec<u64>,
    },
    /// Hand a message on to whoever must know; done when they will not forget it.
    Hear(Message),
    /// Acknowledge a message.
    Acknowledge {
        /// Which one.
        message: u64,
    },
    /// Do nothing until then.
    Wait {
        /// Then.
        until: Time,
    },
    /// It is over.
    End,
}

/// How an action came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Done; there is nothing to tell.
    Done,
    /// What the last process kept.
    Recalled(Memory),
    /// The scale set of that name, if there is one.
    Found(Option<u64>),
    /// The scale set was made.
    Created(u64),
    /// A session is open, or its token is new.
    Opened {
        /// Its number.
        session: String,
        /// When its token ends, if it says so.
        expires: Option<Time>,
        /// The numbers of this moment.
        statistics: Option<Statistics>,
    },
    /// A message came.
    Came {
        /// The message.
        message: Message,
        /// How long the poll waited for it.
        after: Duration,
    },
    /// No message came: nothing has changed.
    Nothing,
    /// The jobs that wait to be acquired.
    Acquirable(Vec<u64>),
    /// These jobs were acquired, of those that were asked for.
    Acquired(Vec<u64>),
    /// It failed.
    Failed(Failure),
    /// A poll was broken off, because what it was asked with has changed.
    Interrupted,
    /// It shall end. May come beside any action.
    Stop,
}

/// Why an action failed, as far as it decides anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Another session is open.
    Conflict,
    /// What was named is not there: scale set, session or message.
    Gone,
    /// The queue's token is refused.
    Refused,
    /// Anything else.
    Other(ErrorClass),
}

/// Jobs as GitHub counts them, and when it said so last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// The counts.
    pub statistics: Statistics,
    /// When they were true.
    pub as_of: Time,
}
