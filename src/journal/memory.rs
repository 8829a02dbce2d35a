//! What the journal must remember of a runner, to tell durations that no single event knows.

use std::collections::HashMap;

use runner_fleet_actors::{
    event::{GuestTimes, Job, JobEnd},
    name::RunnerName,
    port::Time,
};

/// More runners than any fleet has (GitHub takes 10,000 in a group); some megabytes.
const LIVES: usize = 50_000;

/// The runners that are alive, as far as the journal needs them. Bounded: of a runner that finds no
/// room nothing is remembered, and its lines go without the durations.
#[derive(Debug, Clone)]
pub struct Memory {
    lives: HashMap<RunnerName, Life>,
    room: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_room(LIVES)
    }
}

impl Memory {
    /// A memory for so many runners at once.
    #[must_use]
    pub fn with_room(room: usize) -> Self {
        Self { lives: HashMap::new(), room }
    }

    /// How many runners are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lives.len()
    }

    /// Whether no runner is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lives.is_empty()
    }

    pub(super) fn take(&mut self, runner: &RunnerName) -> Option<Life> {
        self.lives.remove(runner)
    }

    pub(super) fn keep(&mut self, runner: &RunnerName, life: Life) {
        if self.lives.len() < self.room {
            self.lives.insert(runner.clone(), life);
        }
    }
}

/// What is known of one runner's life.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Life {
    /// When its launch was decided; `None` where it was adopted.
    pub born: Option<Time>,
    /// When it was first online.
    pub online: Option<Time>,
    /// When its job was seen to start.
    pub started: Option<Time>,
    /// Whether it has or had a job.
    pub began: bool,
    /// When its job was seen to end.
    pub ended: Option<Time>,
    /// Its job.
    pub job: Option<Job>,
    /// How its job ended, as far as anybody said.
    pub end: JobEnd,
    /// What its guest has counted.
    pub times: GuestTimes,
    /// Which of the three metric events of a life are written, by this process or the one before.
    pub installed: bool,
    pub start_told: bool,
    pub stop_told: bool,
}
