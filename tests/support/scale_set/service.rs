//! GitHub's actions service as a listener meets it, in a few lines and with a clock of its own: loses
//! answers, repeats messages, ends sessions, forgets scale sets. Seeded, so that every story can be told
//! again.

use std::{collections::BTreeSet, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use runner_fleet::demand::scale_set::{
    listener::{Action, Event, Failure, Listener, Memory},
    wire::{Message, Statistics},
};
use runner_fleet_actors::port::{ErrorClass, Time};

/// As long as a dead session keeps others out.
const LAPSE: Duration = Duration::from_secs(120);
const TOKEN: Duration = Duration::from_secs(3600);
const POLL: Duration = Duration::from_secs(50);
const CAPACITY: u32 = 100;

#[derive(Debug, Clone)]
struct Session {
    id: String,
    heard: Time,
    token_ends: Time,
}

#[derive(Debug, Clone)]
struct Letter {
    id: u64,
    statistics: Statistics,
}

/// The service and the world that is told of.
pub struct Service {
    pub now: Time,
    rng: SmallRng,
    set: Option<u64>,
    session: Option<Session>,
    letters: Vec<Letter>,
    acknowledged: Option<Letter>,
    last_letter: u64,
    made: u64,
    /// The truth. `running` counts changes, so that older numbers can be told from newer ones.
    pub truth: Statistics,
    /// Share of calls that fail, before or after they take effect.
    pub trouble: f64,
    /// Handled by whoever must not forget: set and message.
    pub heard: BTreeSet<(u64, u64)>,
    /// What the last process kept.
    pub memory: Memory,
    pub sessions: u64,
}

impl Service {
    pub fn new(seed: u64) -> Self {
        Self {
            now: Time::from_timestamp(1_800_000_000, 0).unwrap(),
            rng: SmallRng::seed_from_u64(seed),
            set: None,
            session: None,
            letters: Vec::new(),
            acknowledged: None,
            last_letter: 0,
            made: 0,
            truth: Statistics::default(),
            trouble: 0.0,
            heard: BTreeSet::new(),
            memory: Memory::default(),
            sessions: 0,
        }
    }

    fn chance(&mut self, share: f64) -> bool {
        self.rng.random_bool(share)
    }

    /// A job comes or ends.
    pub fn job(&mut self) {
        if self.set.is_none() {
            return;
        }
        let more = self.truth.assigned == 0 || self.chance(0.5);
        self.truth.assigned = if more { self.truth.assigned + 1 } else { self.truth.assigned - 1 };
        self.truth.running += 1;
        self.last_letter += 1;
        self.letters.push(Letter { id: self.last_letter, statistics: self.truth });
    }

    /// Something goes wrong at GitHub.
    pub fn mishap(&mut self) {
        match self.rng.random_range(0..6) {
            0 => self.session = None,
            1 => {
                if let Some(session) = &mut self.session {
                    session.token_ends = self.now;
                }
            }
            2 if self.chance(0.3) => {
                (self.set, self.session) = (None, None);
                self.letters.clear();
                (self.acknowledged, self.last_letter) = (None, 0);
                (self.truth.assigned, self.truth.running) = (0, self.truth.running + 1);
            }
            3 => {
                if let Some(letter) = self.acknowledged.clone() {
                    self.letters.insert(0, letter);
                }
            }
            _ => {}
        }
    }

    pub fn settled(&self) -> bool {
        self.letters.is_empty() && self.session.is_some()
    }

    /// The owner's last sign of life.
    pub fn session_heard(&self) -> Option<Time> {
        self.session.as_ref().map(|session| session.heard)
    }

    /// One action of a listener, and the time it takes.
    pub fn step(&mut self, listener: Listener) -> Listener {
        let action = listener.action();
        let outside = !matches!(
            action,
            Action::Recall
                | Action::Remember(_)
                | Action::Hear(_)
                | Action::Wait { .. }
                | Action::End
        );
        let trouble = self.trouble;
        let event = if outside && self.chance(trouble) {
            self.now += Duration::from_millis(200);
            Event::Failed(Failure::Other(ErrorClass::Transient))
        } else {
            let event = self.does(action);
            if outside && self.chance(trouble) {
                Event::Failed(Failure::Other(ErrorClass::Transient))
            } else {
                event
            }
        };
        listener.next(event, self.now, CAPACITY)
    }

    fn is_open(&self, set: u64, session: &str) -> bool {
        self.set == Some(set) && self.session.as_ref().is_some_and(|one| one.id == session)
    }

    fn opened(&mut self) -> Event {
        let (now, statistics) = (self.now, Some(self.truth));
        let Some(session) = &mut self.session else { return Event::Failed(Failure::Gone) };
        session.token_ends = now + TOKEN;
        Event::Opened { session: session.id.clone(), expires: Some(now + TOKEN), statistics }
    }

    fn does(&mut self, action: Action) -> Event {
        self.now += Duration::from_millis(20);
        match action {
            Action::Recall => Event::Recalled(self.memory.clone()),
            Action::Find => Event::Found(self.set),
            Action::Create if self.set.is_some() => {
                Event::Failed(Failure::Other(ErrorClass::Invalid))
            }
            Action::Create => {
                self.made += 1;
                self.set = Some(self.made);
                Event::Created(self.made)
            }
            Action::Drop { set, session } => {
                if !self.is_open(set, &session) {
                    return Event::Failed(Failure::Gone);
                }
                self.session = None;
                Event::Done
            }
            Action::Open { set } if self.set != Some(set) => Event::Failed(Failure::Gone),
            Action::Open { .. } => {
                let open = self.session.as_ref().map(|session| session.heard);
                if open.is_some_and(|heard| self.now < heard + LAPSE) {
                    return Event::Failed(Failure::Conflict);
                }
                self.sessions += 1;
                let id = format!("session-{}", self.sessions);
                self.session = Some(Session { id, heard: self.now, token_ends: self.now });
                self.opened()
            }
            Action::Renew { set, session } => match self.is_open(set, &session) {
                true => self.opened(),
                false => Event::Failed(Failure::Gone),
            },
            Action::Remember(memory) => {
                self.memory = memory;
                Event::Done
            }
            Action::Poll { .. } => self.poll(),
            Action::Hear(message) => {
                self.heard.insert((self.made, message.id));
                Event::Done
            }
            Action::Acknowledge { message } => {
                if let Some(refused) = self.refused() {
                    return refused;
                }
                let at = self.letters.iter().position(|letter| letter.id == message);
                let Some(at) = at else { return Event::Failed(Failure::Gone) };
                let letter = self.letters.remove(at);
                assert!(
                    self.heard.contains(&(self.made, letter.id)),
                    "message {} is acknowledged and was never heard",
                    letter.id
                );
                self.acknowledged = Some(letter);
                Event::Done
            }
            Action::Look { .. } => Event::Acquirable(Vec::new()),
            Action::Acquire { .. } => Event::Done,
            Action::Wait { until } => {
                self.now = self.now.max(until);
                Event::Done
            }
            Action::End => Event::Done,
        }
    }

    /// What a call with the queue's token meets where that is no good.
    fn refused(&self) -> Option<Event> {
        let good = self.session.as_ref().is_some_and(|session| self.now < session.token_ends);
        (!good).then_some(Event::Failed(Failure::Refused))
    }

    fn poll(&mut self) -> Event {
        if let Some(refused) = self.refused() {
            return refused;
        }
        let begin = self.now;
        if self.letters.is_empty() {
            // Now and then something happens while it waits.
            let happens = self.chance(0.7);
            self.now += if happens { POLL / 5 } else { POLL };
            match self.rng.random_range(0..8) {
                0 if happens => self.mishap(),
                _ if happens => self.job(),
                _ => {}
            }
            if let Some(refused) = self.refused() {
                return refused;
            }
        }
        let now = self.now;
        if let Some(session) = &mut self.session {
            session.heard = now;
        }
        let after = (now - begin).to_std().unwrap_or_default();
        match self.letters.first() {
            None => Event::Nothing,
            Some(letter) => {
                let statistics = Some(letter.statistics);
                let message = Message { id: letter.id, statistics, jobs: Vec::new(), unread: 0 };
                Event::Came { message, after }
            }
        }
    }
}
