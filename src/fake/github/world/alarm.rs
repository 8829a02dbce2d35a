//! What happens at GitHub without anybody's call: sessions that fall silent, assignments that
//! nobody takes.
//!
//! An alarm is set once and looked at when it is due; if it was wrong by then, it is set anew. So a
//! session that is heard every second costs nothing, and nothing is searched.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use tokio::{sync::Notify, time::Instant};

/// What is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// Whether that session has been silent for too long.
    Silence { registration: u64, session: u64 },
    /// Whether that assignment of the job, counted from one, was taken.
    Assignment { job: u64, assignment: u32 },
}

/// The alarms that are set.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    heap: BinaryHeap<Reverse<(Instant, Alarm)>>,
    /// Rung when the next alarm is earlier than it was.
    pub(super) earlier: Arc<Notify>,
}

impl Alarms {
    pub(super) fn set(&mut self, at: Instant, alarm: Alarm) {
        if self.next().is_none_or(|next| at < next) {
            self.earlier.notify_one();
        }
        self.heap.push(Reverse((at, alarm)));
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// One that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Alarm> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, alarm))| alarm)
    }
}
