//! The messages that are held, by job, and when each job is asked about: pure.
//!
//! A message is known by a tag that is good for one connection; a job by its number. Brokers hand out
//! the same message again after every lost connection, and a sender may write one twice, so a job has
//! any number of messages, all settled together. What was learned of a job outlives its messages for a
//! while: else each lost connection would ask GitHub about all jobs at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use runner_fleet_actors::{name::PoolName, port::Time};

use super::verdict::{Doubt, Said, Verdict};

/// How long a job is remembered whose messages are all gone without a verdict.
const REMEMBERED: Duration = Duration::from_secs(900);
/// Jobs of one pool that are asked about at once because one of its runners took a job. GitHub mostly
/// gives out the oldest.
const HURRIED: usize = 2;

/// What a broker's connection calls one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

/// A job to ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its number.
    pub id: u64,
    /// `owner/repo`.
    pub repository: String,
    /// The pool that it waits for.
    pub pool: PoolName,
}

#[derive(Debug, Clone)]
struct Entry {
    question: Question,
    tags: BTreeSet<Tag>,
    doubt: Doubt,
    came_at: Time,
    check_at: Time,
    asking: bool,
    loose_since: Option<Time>,
}

/// All messages that are held over one queue.
#[derive(Debug, Clone, Default)]
pub struct Held {
    jobs: BTreeMap<u64, Entry>,
    by_tag: BTreeMap<Tag, u64>,
}

impl Held {
    /// Holds a message for a job. `old`: it did not come fresh from its sender, so its job may be over.
    pub fn take(&mut self, tag: Tag, question: Question, old: bool, now: Time) {
        let id = question.id;
        let first = if old { now } else { Doubt::first(id, now) };
        let entry = self.jobs.entry(id).or_insert_with(|| Entry {
            question,
            tags: BTreeSet::new(),
            doubt: Doubt::default(),
            came_at: now,
            check_at: first,
            asking: false,
            loose_since: None,
        });
        entry.tags.insert(tag);
        entry.loose_since = None;
        self.by_tag.insert(tag, id);
    }

    /// A message is gone without our doing: given back, or taken by somebody else.
    pub fn withdraw(&mut self, tag: Tag, now: Time) {
        self.forget(now);
        let Some(id) = self.by_tag.remove(&tag) else { return };
        if let Some(entry) = self.jobs.get_mut(&id) {
            entry.tags.remove(&tag);
            if entry.tags.is_empty() {
                entry.loose_since = Some(now);
            }
        }
    }

    /// The connection is lost, and every tag with it.
    pub fn lost(&mut self, now: Time) {
        self.by_tag.clear();
        for entry in self.jobs.values_mut() {
            entry.tags.clear();
            entry.asking = false;
            entry.loose_since.get_or_insert(now);
        }
        self.forget(now);
    }

    /// Forgets the jobs whose messages are all gone for long.
    fn forget(&mut self, now: Time) {
        self.jobs.retain(|_, entry| entry.loose_since.is_none_or(|at| at + REMEMBERED > now));
    }

    /// Up to `most` jobs that are to be asked about now, the longest due first.
    pub fn due(&mut self, most: usize, now: Time) -> Vec<Question> {
        let mut due: Vec<_> = self
            .jobs
            .iter_mut()
            .filter(|(_, entry)| {
                !entry.asking && entry.loose_since.is_none() && entry.check_at <= now
            })
            .collect();
        due.sort_by_key(|(id, entry)| (entry.check_at, **id));
        let ask = |(_, entry): (&u64, &mut Entry)| {
            entry.asking = true;
            entry.question.clone()
        };
        due.into_iter().take(most).map(ask).collect()
    }

    /// When the next job is to be asked about.
    #[must_use]
    pub fn next_check(&self) -> Option<Time> {
        let asked = self.jobs.values().filter(|entry| !entry.asking && entry.loose_since.is_none());
        asked.map(|entry| entry.check_at).min()
    }

    /// What is said of a job. Returns the verdict on its messages, and, where it ends them, which they
    /// are; the job is forgotten then.
    pub fn answered(&mut self, id: u64, said: Said, now: Time) -> (Verdict, Vec<Tag>) {
        let Some(entry) = self.jobs.get_mut(&id) else { return (Verdict::Done, Vec::new()) };
        entry.asking = false;
        let verdict = entry.doubt.next(said, id, now);
        match verdict {
            Verdict::CheckAt(at) => {
                entry.check_at = at;
                (verdict, Vec::new())
            }
            Verdict::Done | Verdict::Reject(_) => {
                let tags: Vec<_> = entry.tags.iter().copied().collect();
                self.jobs.remove(&id);
                for tag in &tags {
                    self.by_tag.remove(tag);
                }
                (verdict, tags)
            }
        }
    }

    /// A runner has taken a job: the oldest jobs, of that repository where it is known, are asked about
    /// now. Each runner that has taken one hurries others.
    pub fn hurry(&mut self, repository: Option<&str>, now: Time) {
        let of = |entry: &Entry| {
            repository.is_none_or(|wanted| entry.question.repository.eq_ignore_ascii_case(wanted))
        };
        let mut waiting: Vec<_> = self
            .jobs
            .values_mut()
            .filter(|entry| {
                let waits = !entry.asking && entry.check_at > now;
                waits && entry.loose_since.is_none() && of(entry)
            })
            .collect();
        waiting.sort_by_key(|entry| entry.came_at);
        for entry in waiting.into_iter().take(HURRIED) {
            entry.check_at = entry.check_at.min(now);
        }
    }

    /// The number of messages that are held.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.by_tag.len()
    }
}
