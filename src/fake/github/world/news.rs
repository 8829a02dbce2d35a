//! What happens to jobs, told to whoever posts it to the hooks.
//!
//! The world only speaks; it neither waits nor knows who listens. So a hook that is slow or broken
//! changes nothing in it.

use tokio::sync::mpsc::UnboundedSender;

use super::{JobRecord, World};

/// What happened to a job, in GitHub's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Waiting,
    Queued,
    InProgress,
    Completed,
}

impl Action {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
        }
    }
}

/// A change of a job, and the job as it was then.
#[derive(Debug, Clone)]
pub(crate) struct News {
    /// Which change of this world it is, counted from one.
    pub(crate) number: u64,
    pub(crate) action: Action,
    pub(crate) record: JobRecord,
    /// The name of its runner's group.
    pub(crate) group: Option<String>,
}

/// Where the news go.
#[derive(Debug)]
pub(crate) struct Wire {
    told: u64,
    to: UnboundedSender<News>,
}

impl Wire {
    pub(crate) fn new(to: UnboundedSender<News>) -> Self {
        Self { told: 0, to }
    }
}

impl World {
    pub(super) fn tell(&mut self, action: Action, record: &JobRecord) {
        self.wire.told += 1;
        let group = self.group_name(record.runner_group);
        let news = News { number: self.wire.told, action, record: record.clone(), group };
        // Nobody listens any more: the fake is ending.
        let _ = self.wire.to.send(news);
    }

    /// How many changes there were so far.
    pub(crate) fn told(&self) -> u64 {
        self.wire.told
    }

    pub(crate) fn group_name(&self, group: Option<u64>) -> Option<String> {
        let found = self.groups.iter().find(|one| Some(one.id) == group)?;
        Some(found.name.clone())
    }
}
