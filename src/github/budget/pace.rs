//! How fast one endpoint is asked, and how many calls may be under way there. Pure.
//!
//! GitHub gives each endpoint 900 points a minute, of which a call that writes costs 5 and one that
//! reads costs 1 (GitHub docs, "Rate limits for the REST API", "About secondary rate limits"). So an
//! endpoint is asked for all of them at once where so much is wanted, and then for what becomes a
//! minute old. The 80 a minute on the same page are for content that people see; nobody was seen to
//! meet them with registrations, and who keeps to them beforehand needs three minutes for what GitHub
//! gives in one. The same page says that its numbers may change without notice, so they are where
//! it begins, and refusals teach the rest:
//!
//! - *Down at once.* What was taken within the minute before a refusal is what this GitHub gives, and
//!   an eighth less is asked for from then on; but never less than an eighth of what was asked for
//!   before, because a refusal may have had another cause, such as a neighbour with the same
//!   credentials. A refusal before which nothing was taken teaches nothing of the pace.
//! - *Up slowly*, and only where the limit was met: by one a minute up to what was taken once, then a
//!   quarter of an hour there, then beyond; by an eighth where the refusal told nothing of the limit,
//!   or that one was passed. Never beyond the published number: who asks for more is banned.
//! - *Few at first.* A limit that is met is met by all calls under way. So [`FEW`] writes are under
//!   way, or an eighth of what was taken within this minute, or what is left of the most that was ever
//!   taken within one; after a refusal one, until one was taken. A doubled crowd at every answer, as
//!   is usual, would have half of all calls refused where it ends.
//! - *For a day.* Then it begins anew.
//!
//! A call counts for a minute from its answer, not from when it was sent: nobody knows when in
//! between GitHub counts it.

use std::{collections::VecDeque, time::Duration};

use runner_fleet_actors::port::Time;
use serde::{Deserialize, Serialize};

/// What an endpoint gives a minute.
pub const POINTS: u32 = 900;
/// What a call costs of it that changes something.
pub const WRITE: u32 = 5;
/// What a call costs of it that reads.
pub const READ: u32 = 1;
/// Writes under way at an endpoint of which nothing is known yet.
pub const FEW: usize = 4;
/// For how long it is kept what was learnt.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Calls a minute that are never gone below.
const FLOOR: u32 = 1;
/// How many windows long nothing more is asked for than was taken once.
const WAITS: u32 = 15;
/// The part by which a pace is taken back, and below which one refusal never takes it.
const PART: u32 = 8;

/// Where a pace stands since a refusal. Calls a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// At most so many are made.
    pub most: u32,
    /// So many were taken before one was refused, where that told of the limit.
    pub taken: Option<u32>,
    /// When that was.
    pub refused: Time,
    /// When the pace was last changed.
    pub changed: Time,
}

/// The most calls that were ever taken within a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// How many.
    pub calls: u32,
    /// When that was last so.
    pub at: Time,
}

/// What is known of one endpoint, and kept over a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lesson {
    /// Where the pace stands; `None` while it is the published one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// What it has taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

impl Lesson {
    /// The same with its times so much later.
    #[must_use]
    pub fn shifted(self, by: chrono::TimeDelta) -> Self {
        let shift = |at: Time| at.checked_add_signed(by).unwrap_or(at);
        Self {
            limit: self.limit.map(|limit| Limit {
                refused: shift(limit.refused),
                changed: shift(limit.changed),
                ..limit
            }),
            proof: self.proof.map(|proof| Proof { at: shift(proof.at), ..proof }),
        }
    }

    /// What of it holds at `now`, whoever wrote it down.
    fn fresh(self, now: Time, published: u32) -> Self {
        let fresh = |at: Time| at.min(now) + KEPT > now;
        Self {
            limit: self.limit.filter(|limit| fresh(limit.refused)).map(|limit| Limit {
                most: limit.most.clamp(FLOOR, published),
                taken: limit.taken.map(|taken| taken.min(published)),
                refused: limit.refused.min(now),
                changed: limit.changed.min(now),
            }),
            proof: self
                .proof
                .filter(|proof| fresh(proof.at))
                .map(|proof| Proof { calls: proof.calls.min(published), at: proof.at.min(now) }),
        }
    }
}

/// Whether there is room for one more call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// There is.
    Now,
    /// As soon as one that is under way has ended.
    AfterAnother,
    /// From then on.
    At(Time),
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was never sent.
    NotSent,
    /// GitHub answered, whatever it was.
    Answered,
    /// Nobody knows whether GitHub counts it, or GitHub was not itself (5xx).
    Lost,
    /// Refused for a rate limit.
    Refused,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// Calls a window, as GitHub publishes it.
    published: u32,
    writes: bool,
    window: Duration,
    /// When the calls of the last window were answered.
    answered: VecDeque<Time>,
    under_way: usize,
    lesson: Lesson,
    /// Whether the limit has held a call back since it was last changed.
    met: bool,
    /// Whether one call goes first.
    alone: bool,
    /// The refusal that was last learnt from: those that come together are one.
    round: Option<u64>,
}

impl Pace {
    /// An endpoint of which so much is known. A call there costs so many points, of those of a window.
    #[must_use]
    pub fn new(cost: u32, window: Duration, lesson: Lesson) -> Self {
        Self {
            published: POINTS / cost.max(1),
            writes: cost > READ,
            window,
            answered: VecDeque::new(),
            under_way: 0,
            lesson,
            met: false,
            alone: false,
            round: None,
        }
    }

    /// Calls a window that are made at most.
    #[must_use]
    pub fn most(&self, now: Time) -> u32 {
        let lesson = self.lesson.fresh(now, self.published);
        lesson.limit.map_or(self.published, |limit| limit.most)
    }

    /// Whether a refusal has taught of a limit.
    #[must_use]
    pub fn is_limited(&self, now: Time) -> bool {
        self.lesson.fresh(now, self.published).limit.is_some()
    }

    /// What is known of it, where that is worth keeping.
    #[must_use]
    pub fn lesson(&self, now: Time) -> Option<Lesson> {
        let lesson = self.lesson.fresh(now, self.published);
        // What is proven of an endpoint that takes a few is of no use to anybody.
        let proof = lesson.proof.filter(|proof| {
            self.writes && usize::try_from(proof.calls).is_ok_and(|calls| calls > FEW)
        });
        let lesson = Lesson { proof, ..lesson };
        (lesson != Lesson::default()).then_some(lesson)
    }

    /// Whether nothing is known of it and nothing happens there.
    #[must_use]
    pub fn is_idle(&self, now: Time) -> bool {
        let over = self.answered.back().is_none_or(|at| *at + self.window <= now);
        over && self.under_way == 0 && self.lesson(now).is_none()
    }

    /// How many calls more its window has, and when it has the next where that is none. Calls under way
    /// count as answered now.
    #[must_use]
    pub fn left(&self, now: Time) -> (u32, Option<Time>) {
        let before = self.answered.iter().take_while(|at| **at + self.window <= now).count();
        let most = usize::try_from(self.most(now)).unwrap_or(usize::MAX);
        let used = self.answered.len() - before + self.under_way;
        match most.checked_sub(used) {
            Some(left) if left > 0 => (u32::try_from(left).unwrap_or(u32::MAX), None),
            _ => {
                let next = self.answered.get(before + used - most);
                (0, Some(next.map_or(now, |at| *at) + self.window))
            }
        }
    }

    /// Whether one more call may be made. `told`: GitHub tells of limits, or nothing is known of that yet;
    /// whoever is told of none and was refused nothing is not held back.
    pub fn room(&mut self, now: Time, told: bool) -> Room {
        self.turn(now);
        if self.alone && self.under_way > 0 {
            return Room::AfterAnother;
        }
        if !told && self.lesson.limit.is_none() {
            return Room::Now;
        }
        match self.left(now) {
            (0, _) if self.answered.is_empty() => return Room::AfterAnother,
            (0, Some(next)) => {
                self.met = true;
                return Room::At(next);
            }
            _ => {}
        }
        let answered = self.answered.len();
        let proven = self.lesson.proof.map_or(0, |proof| proof.calls);
        let proven = usize::try_from(proven).unwrap_or_default().saturating_sub(answered);
        let at_once = FEW.max(answered / PART as usize).max(proven);
        if self.writes && self.under_way >= at_once { Room::AfterAnother } else { Room::Now }
    }

    /// A call is made.
    pub const fn begin(&mut self) {
        self.under_way = self.under_way.saturating_add(1);
    }

    /// It has ended. `round`: which refusal it was, where it tells of the pace.
    pub fn end(&mut self, ending: Ending, round: Option<u64>, now: Time) {
        self.under_way = self.under_way.saturating_sub(1);
        match ending {
            Ending::NotSent => {}
            Ending::Refused => self.learn(round, now),
            Ending::Lost => self.answered.push_back(now),
            Ending::Answered => {
                self.answered.push_back(now);
                self.alone = false;
                self.turn(now);
                let calls = u32::try_from(self.answered.len()).unwrap_or(u32::MAX);
                if self.lesson.proof.is_none_or(|proof| proof.calls <= calls) {
                    self.lesson.proof = Some(Proof { calls, at: now });
                }
            }
        }
    }

    /// Lets time pass.
    fn turn(&mut self, now: Time) {
        while self.answered.front().is_some_and(|at| *at + self.window <= now) {
            self.answered.pop_front();
        }
        self.lesson = self.lesson.fresh(now, self.published);
        let Some(limit) = self.lesson.limit.as_mut() else { return };
        let wait = match limit.taken {
            Some(taken) if limit.most == taken => self.window.saturating_mul(WAITS),
            _ => self.window,
        };
        if !self.met || now < limit.changed + wait {
            return;
        }
        // A window beyond it without a refusal: it was not the limit.
        limit.taken = limit.taken.filter(|taken| *taken >= limit.most);
        let step = if limit.taken.is_some() { 1 } else { (limit.most / PART).max(1) };
        limit.most = limit.most.saturating_add(step);
        limit.changed = now;
        self.met = false;
        if limit.most >= self.published {
            self.lesson.limit = None;
        }
    }

    fn learn(&mut self, round: Option<u64>, now: Time) {
        self.turn(now);
        self.alone = true;
        if round.is_none() || self.round == round {
            return;
        }
        self.round = round;
        self.lesson.proof = None;
        let taken = u32::try_from(self.answered.len()).unwrap_or(u32::MAX);
        if taken == 0 {
            return;
        }
        let present = self.most(now);
        let lowest = present / PART;
        let most = (taken - taken.div_ceil(PART)).max(lowest).clamp(FLOOR, present.max(FLOOR));
        let told = (lowest..present).contains(&taken);
        self.met = false;
        self.lesson.limit =
            Some(Limit { most, taken: told.then_some(taken), refused: now, changed: now });
    }
}
