//! The life of a scale set's session, as one total function: what happened in, what to do next out.
//!
//! A listener does one thing at a time; [`Listener::action`] says which, its outcome is an [`Event`].
//! Pure: no clock, no call, no secret. The rules:
//!
//! - **Heard, then acknowledged.** A message is handed on and kept before it is acknowledged, so a
//!   death in between brings it again instead of losing it; whoever hears it twice must not mind. The
//!   reference client acknowledges first and loses what it was doing.
//! - **The numbers are GitHub's.** Jobs are never counted from messages, because each may come twice
//!   and a job that nobody took makes new ones: `totalAssignedJobs` is the truth. A message tells the
//!   numbers of the moment when it was made, so one that came before, or that lay in the queue when a
//!   session was opened, tells nothing new: the peak of last night would be launched in the morning.
//!   Then the session is asked instead, until a poll has waited for its message.
//! - **A dead session is swept away, not waited for.** A scale set has one session. Its number is kept
//!   as soon as it is open, so whoever comes next deletes it first. One that nobody knows the number
//!   of lapses by itself; until then it is tried again every 20 seconds or so.
//! - **Nothing is final.** A scale set that GitHub or somebody deleted is made anew, a refused token is
//!   renewed once and then the session, everything else is tried again, later each time.
//! - **Silence is not zero.** After [`SILENCE`] without a good word demand is unknown.
//!
//! The alternative, the official client's loop, ends its process at each of these and leaves the rest
//! to a restart.

mod failures;
mod steps;
mod words;

use std::time::Duration;

use runner_fleet_actors::{
    backoff::{self, Curve},
    port::{ErrorClass, Time},
};

use self::steps::{Stage, Step};
pub use self::words::{Action, Event, Failure, Memory, Numbers};
use super::wire::{Happened, Message, Statistics};

/// Without a good word for this long nobody knows how many jobs there are. A poll lasts 50 seconds.
pub const SILENCE: Duration = Duration::from_secs(180);
/// A queue token is renewed when it has less than this left.
pub const RENEW_EARLY: Duration = Duration::from_secs(600);
/// A conflict that lasts this long wants a person.
pub const CONFLICT_ALARM: Duration = Duration::from_secs(300);
/// A poll that waited this long got a message that was made meanwhile.
const LIVE: Duration = Duration::from_secs(1);
/// How often newer numbers are asked for before older ones are taken.
const NUMBERS_TRIES: u32 = 3;
/// No early renewal follows another one sooner: a peer may give out tokens that live for minutes.
const RENEW_PAUSE: Duration = Duration::from_secs(60);
/// After a failure: from a second to a minute.
const AGAIN: Curve = Curve { base: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// While another session is open: GitHub lets a dead one lapse by itself.
const CONFLICT: Curve = Curve { base: Duration::from_secs(20), cap: Duration::from_secs(30) };
/// How often the deletion of a dead session is tried before a new one is tried all the same.
const DROP_TRIES: u32 = 3;

/// A session that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    id: String,
    expires: Option<Time>,
    /// No early renewal before this.
    rest_until: Time,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    step: Step,
    set: Option<u64>,
    session: Option<Held>,
    /// A session that is not ours to use any more and is deleted before the next one is opened.
    dead: Option<String>,
    last: u64,
    numbers: Option<Numbers>,
    /// The numbers are older than what has happened since. What a message said of it, perhaps rightly.
    outdated: Option<Option<Statistics>>,
    /// Messages are newer than the numbers that the session told.
    live: bool,
    /// Requests that were acquired and that no message has shown assigned so far.
    promised: Vec<u64>,
    /// Whether to look for jobs to acquire before the next poll.
    look: bool,
    /// The present token was refused and renewed once already.
    refused: bool,
    /// Failures in a row.
    failures: u32,
    conflict_since: Option<Time>,
    stopping: bool,
    seed: u64,
}

impl Listener {
    /// One that knows nothing yet. `seed` spreads its waits against others'.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            step: Step::Recall,
            set: None,
            session: None,
            dead: None,
            last: 0,
            numbers: None,
            outdated: None,
            live: false,
            promised: Vec::new(),
            look: false,
            refused: false,
            failures: 0,
            conflict_since: None,
            stopping: false,
            seed,
        }
    }

    /// The counts, unless nothing good was heard for too long.
    #[must_use]
    pub fn numbers(&self, now: Time) -> Option<Numbers> {
        self.numbers.filter(|numbers| now < numbers.as_of + SILENCE)
    }

    /// When [`numbers`](Self::numbers) becomes `None` if nothing is heard.
    #[must_use]
    pub fn silent_at(&self) -> Option<Time> {
        self.numbers.map(|numbers| numbers.as_of + SILENCE)
    }

    /// The scale set's number, while it is known to exist.
    #[must_use]
    pub fn set(&self) -> Option<u64> {
        self.set
    }

    /// Whether a session is open.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.session.is_some()
    }

    /// Since when another session keeps this one out.
    #[must_use]
    pub fn conflict_since(&self) -> Option<Time> {
        self.conflict_since
    }

    /// What to do now.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action_of(&self.step)
    }

    /// What follows from an event. Total: an outcome that does not fit leaves things as they are.
    /// `capacity`: how many runners there may be, which is how many jobs are acquired at most.
    #[must_use]
    pub fn next(mut self, event: Event, now: Time, capacity: u32) -> Self {
        if event == Event::Stop {
            self.stopping = true;
            // A message that is being handled is handled to its end.
            return match self.step {
                Step::Handle(..)
                | Step::Drop { .. }
                | Step::Close { .. }
                | Step::Forget
                | Step::End => self,
                Step::Wait { then, .. } if matches!(*then, Step::Handle(..)) => {
                    Self { step: *then, ..self }
                }
                _ => self.close(),
            };
        }
        if let Event::Failed(failure) = event {
            return self.failed(failure, now, capacity);
        }
        match (self.step.clone(), event) {
            (Step::Recall, Event::Recalled(memory)) => {
                self.failures = 0;
                (self.dead, self.last) = (memory.session, memory.last);
                let of = memory.set;
                self.at(Step::Find { of })
            }
            (Step::Find { .. }, Event::Found(None)) => {
                self.lose_set();
                self.at(Step::Create)
            }
            (Step::Find { of }, Event::Found(Some(set))) => {
                if of != Some(set) {
                    // What is remembered is about another scale set of this name.
                    self.lose_set();
                }
                self.failures = 0;
                self.set = Some(set);
                self.reopen()
            }
            (Step::Create, Event::Created(set)) => {
                self.failures = 0;
                self.set = Some(set);
                self.reopen()
            }
            (Step::Drop { .. }, Event::Done) => {
                self.dead = None;
                self.reopen()
            }
            (Step::Open { .. }, Event::Opened { session, expires, statistics }) => {
                self.conflict_since = None;
                self.opened(session, expires, statistics, now);
                self.at(Step::Note)
            }
            (Step::Note, Event::Done) => self.settle(now, capacity),
            (Step::Renew { then, .. }, Event::Opened { session, expires, statistics }) => {
                self.opened(session, expires, statistics, now);
                match *then {
                    Step::Poll => self.settle(now, capacity),
                    then => self.at(then),
                }
            }
            (Step::Poll, Event::Came { message, after }) => {
                self.live |= after >= LIVE;
                self.came(message, now, capacity)
            }
            (Step::Poll, Event::Nothing) => {
                (self.failures, self.refused, self.look) = (0, false, true);
                self.live = true;
                self.promised.clear();
                if let Some(numbers) = &mut self.numbers {
                    numbers.as_of = now;
                }
                self.settle(now, capacity)
            }
            (Step::Poll, Event::Interrupted) => self.settle(now, capacity),
            (Step::Look { .. }, Event::Acquirable(mut requests)) => {
                requests.truncate(self.free(capacity));
                match self.set.filter(|_| !requests.is_empty()) {
                    None => self.settle(now, capacity),
                    Some(set) => self.at(Step::Acquire { set, requests }),
                }
            }
            (Step::Acquire { .. }, Event::Acquired(given)) => {
                self.refused = false;
                self.promised.extend(given);
                self.settle(now, capacity)
            }
            (Step::Handle(message, Stage::Acquire { .. }), Event::Acquired(given)) => {
                self.refused = false;
                self.promised.extend(given);
                self.at(Step::Handle(message, Stage::Hear))
            }
            (Step::Handle(message, Stage::Hear), Event::Done) => {
                self.failures = 0;
                self.last = message.id;
                self.at(Step::Handle(message, Stage::Remember))
            }
            (Step::Handle(message, Stage::Remember), Event::Done) => match self.session {
                Some(_) => self.at(Step::Handle(message, Stage::Acknowledge)),
                // It comes again in the next session, and is heard again.
                None => self.settle(now, capacity),
            },
            (Step::Handle(_, Stage::Acknowledge), Event::Done) => {
                (self.failures, self.refused, self.look) = (0, false, true);
                self.settle(now, capacity)
            }
            (Step::Wait { then, .. }, Event::Done) => self.at(*then),
            (Step::Close { .. }, Event::Done) => {
                (self.session, self.dead) = (None, None);
                self.at(Step::Forget)
            }
            (Step::Forget, Event::Done) => self.at(Step::End),
            (_, _) => self,
        }
    }

    fn came(mut self, message: Message, now: Time, capacity: u32) -> Self {
        self.refused = false;
        match message.statistics {
            Some(statistics) if self.live && message.id > self.last => {
                self.numbers = Some(Numbers { statistics, as_of: now });
                self.outdated = None;
            }
            told => self.outdated = Some(told),
        }
        self.promised.retain(|request| {
            !message
                .jobs
                .iter()
                .any(|job| job.request == *request && !matches!(job.happened, Happened::Available))
        });
        let available = message.jobs.iter().filter(|job| job.happened == Happened::Available);
        let mut requests: Vec<u64> =
            available.map(|job| job.request).filter(|request| *request > 0).collect();
        requests.truncate(self.free(capacity));
        let stage = match self.set.filter(|_| !requests.is_empty()) {
            None => Stage::Hear,
            Some(set) => Stage::Acquire { set, requests },
        };
        let handle = Step::Handle(message, stage);
        let step = match self.outdated {
            // Before it is heard: who scales must not wait for a disk.
            Some(_) => self.renewal(handle, true),
            None => handle,
        };
        self.at(step)
    }

    fn opened(
        &mut self,
        id: String,
        expires: Option<Time>,
        statistics: Option<Statistics>,
        now: Time,
    ) {
        self.failures = 0;
        self.session = Some(Held { id, expires, rest_until: now + RENEW_PAUSE });
        self.look = true;
        match (statistics, self.outdated.take()) {
            (Some(statistics), _) => {
                self.numbers = Some(Numbers { statistics, as_of: now });
                self.live = false;
            }
            // It tells none; asking again would tell none either.
            (None, Some(told)) => self.make_do(told, now),
            (None, None) => {}
        }
    }

    /// Newer numbers are not to be had.
    fn make_do(&mut self, told: Option<Statistics>, now: Time) {
        if let Some(statistics) = told {
            self.numbers = Some(Numbers { statistics, as_of: now });
        }
        self.live = true;
    }

    /// How many more jobs there could be runners for.
    fn free(&self, capacity: u32) -> usize {
        let assigned = self.numbers.map_or(0, |numbers| numbers.statistics.assigned);
        let free = capacity.saturating_sub(assigned);
        usize::try_from(free).unwrap_or(usize::MAX).saturating_sub(self.promised.len())
    }

    /// Before the next poll: what else is due.
    fn settle(self, now: Time, capacity: u32) -> Self {
        let Some(held) = &self.session else { return self.reopen() };
        let ends = held.expires.is_some_and(|end| now + RENEW_EARLY > end);
        if ends && now >= held.rest_until {
            let renew = self.renewal(Step::Poll, true);
            return self.at(renew);
        }
        let available = self.numbers.is_some_and(|numbers| numbers.statistics.available > 0);
        match self.set {
            Some(set) if self.look && available && self.free(capacity) > 0 => {
                Self { look: false, ..self }.at(Step::Look { set })
            }
            _ => self.at(Step::Poll),
        }
    }

    /// On the way to a session.
    fn opening(&self) -> Step {
        match (self.set, self.dead.clone()) {
            (None, _) => Step::Find { of: None },
            (Some(set), None) => Step::Open { set },
            (Some(set), Some(session)) => Step::Drop { set, session, tries: 0 },
        }
    }

    fn reopen(self) -> Self {
        let step = self.opening();
        self.at(step)
    }

    /// A renewal, then `then`.
    fn renewal(&self, then: Step, early: bool) -> Step {
        match (self.set, &self.session) {
            (Some(set), Some(held)) => {
                Step::Renew { set, session: held.id.clone(), then: Box::new(then), early }
            }
            _ => self.opening(),
        }
    }

    fn lose_set(&mut self) {
        (self.set, self.session, self.dead, self.last) = (None, None, None, 0);
        (self.numbers, self.outdated, self.live) = (None, None, false);
        self.promised.clear();
    }

    /// The same or another step after a while.
    fn again(mut self, step: Step, failure: Failure, now: Time) -> Self {
        self.failures = self.failures.saturating_add(1);
        let class = match failure {
            Failure::Other(class) => class,
            Failure::Conflict | Failure::Gone | Failure::Refused => ErrorClass::Transient,
        };
        let until = backoff::retry_at(class, self.failures, self.seed, AGAIN, now);
        self.later(step, until)
    }

    fn later(self, step: Step, until: Time) -> Self {
        if self.stopping {
            // There is no later: what was not acknowledged comes again to whoever is next.
            return self.close();
        }
        Self { step: Step::Wait { until, then: Box::new(step) }, ..self }
    }

    fn at(self, step: Step) -> Self {
        let handling = matches!(step, Step::Handle(..));
        let ending = matches!(step, Step::Close { .. } | Step::Forget | Step::End);
        if self.stopping && !handling && !ending {
            return self.close();
        }
        Self { step, ..self }
    }

    fn close(self) -> Self {
        let session = self.session.as_ref().map(|held| held.id.clone()).or(self.dead.clone());
        let step = match (self.set, session) {
            (Some(set), Some(session)) => Step::Close { set, session },
            _ => Step::End,
        };
        Self { step, ..self }
    }
}
