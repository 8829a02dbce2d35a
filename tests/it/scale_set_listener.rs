//! The life of a scale set's session, decided by one function: what it does next, cell by cell.

use std::time::Duration;

use runner_fleet::demand::scale_set::{
    listener::{
        Action, CONFLICT_ALARM, Event, Failure, Listener, Memory, Numbers, RENEW_EARLY, SILENCE,
    },
    wire::{Happened, JobMessage, Message, Statistics},
};
use runner_fleet_actors::port::{ErrorClass, Time};

const CAPACITY: u32 = 10;
const TRANSIENT: Event = Event::Failed(Failure::Other(ErrorClass::Transient));
const LIVE: Duration = Duration::from_secs(5);

fn at(seconds: u64) -> Time {
    Time::from_timestamp(1_800_000_000, 0).unwrap() + Duration::from_secs(seconds)
}

fn statistics(assigned: u32, running: u32) -> Statistics {
    Statistics { available: 0, assigned, running }
}

fn opened(session: &str, assigned: u32) -> Event {
    Event::Opened {
        session: session.to_owned(),
        expires: Some(at(3600)),
        statistics: Some(statistics(assigned, 0)),
    }
}

fn job(happened: Happened, request: u64) -> JobMessage {
    JobMessage {
        happened,
        request,
        job: Some(format!("job-{request}").into()),
        repository: None,
        name: None,
        workflow: None,
        run_id: None,
        event: None,
        labels: Vec::new(),
        runner: None,
        runner_id: None,
        conclusion: None,
        queued_at: None,
        started_at: None,
        ended_at: None,
    }
}

fn message(id: u64, assigned: u32) -> Message {
    Message { id, statistics: Some(statistics(assigned, 0)), jobs: Vec::new(), unread: 0 }
}

fn came(message: Message) -> Event {
    Event::Came { message, after: LIVE }
}

fn remembered(session: &str, last: u64) -> Action {
    Action::Remember(Memory { set: Some(7), session: Some(session.to_owned()), last })
}

/// A listener and what time it is.
#[derive(Debug, Clone)]
struct Life {
    listener: Listener,
    now: Time,
}

impl Life {
    fn new() -> Self {
        Self { listener: Listener::new(1), now: at(0) }
    }

    /// One that polls scale set 7 in session `s1`, with three jobs assigned.
    fn polling() -> Self {
        let events = [
            Event::Recalled(Memory::default()),
            Event::Found(Some(7)),
            opened("s1", 3),
            Event::Done,
        ];
        let life = events.into_iter().fold(Self::new(), Self::then);
        assert_eq!(life.does(), Action::Poll { last: 0 });
        life
    }

    fn then(self, event: Event) -> Self {
        Self { listener: self.listener.next(event, self.now, CAPACITY), now: self.now }
    }

    /// Through events, with the action that each must lead to.
    #[track_caller]
    fn through(self, steps: Vec<(Event, Action)>) -> Self {
        steps.into_iter().fold(self, |life, (event, wanted)| {
            let said = format!("{event:?}");
            let life = life.then(event);
            assert_eq!(life.does(), wanted, "after {said}");
            life
        })
    }

    fn does(&self) -> Action {
        self.listener.action()
    }

    /// Waits as long as it wants to.
    #[track_caller]
    fn waits(self) -> (Duration, Self) {
        let Action::Wait { until } = self.does() else { panic!("it does {:?}", self.does()) };
        let waited = (until - self.now).to_std().unwrap();
        (waited, Self { now: until, ..self }.then(Event::Done))
    }

    fn assigned(&self) -> Option<u32> {
        self.listener.numbers(self.now).map(|numbers| numbers.statistics.assigned)
    }
}

#[test]
fn a_scale_set_that_is_not_there_is_made_and_its_session_kept_before_the_first_poll() {
    Life::new().through(vec![
        (Event::Recalled(Memory::default()), Action::Find),
        (Event::Found(None), Action::Create),
        (Event::Created(7), Action::Open { set: 7 }),
        (opened("s1", 0), remembered("s1", 0)),
        (Event::Done, Action::Poll { last: 0 }),
    ]);
}

#[test]
fn one_that_is_there_is_adopted_and_the_session_of_the_last_process_deleted_first() {
    let memory = Memory { set: Some(7), session: Some("old".to_owned()), last: 41 };
    let recalled = || Life::new().then(Event::Recalled(memory.clone()));
    let drop = Action::Drop { set: 7, session: "old".to_owned() };
    for gone in [Event::Done, Event::Failed(Failure::Gone)] {
        recalled().through(vec![
            (Event::Found(Some(7)), drop.clone()),
            (gone, Action::Open { set: 7 }),
            (opened("s1", 2), remembered("s1", 41)),
            (Event::Done, Action::Poll { last: 41 }),
        ]);
    }
    // Another scale set of that name knows neither session nor messages of the first.
    recalled().through(vec![
        (Event::Found(Some(8)), Action::Open { set: 8 }),
        (
            opened("s1", 2),
            Action::Remember(Memory { set: Some(8), session: Some("s1".into()), last: 0 }),
        ),
    ]);
}

#[test]
fn a_dead_session_that_cannot_be_deleted_does_not_hold_up_the_next_one_for_ever() {
    let memory = Memory { set: Some(7), session: Some("old".to_owned()), last: 0 };
    let mut life = Life::new().then(Event::Recalled(memory)).then(Event::Found(Some(7)));
    for _ in 0..3 {
        assert_eq!(life.does(), Action::Drop { set: 7, session: "old".to_owned() });
        life = life.then(TRANSIENT).waits().1;
    }
    assert_eq!(life.then(TRANSIENT).does(), Action::Open { set: 7 });
}

#[test]
fn a_message_is_acquired_heard_and_kept_before_it_is_acknowledged() {
    let mut offer = message(5, 4);
    offer.jobs = vec![job(Happened::Available, 71), job(Happened::Assigned, 70)];
    Life::polling().through(vec![
        (came(offer.clone()), Action::Acquire { set: 7, requests: vec![71] }),
        (Event::Acquired(vec![71]), Action::Hear(offer)),
        (Event::Done, remembered("s1", 5)),
        (Event::Done, Action::Acknowledge { message: 5 }),
        (Event::Done, Action::Poll { last: 5 }),
    ]);
}

#[test]
fn the_numbers_count_at_once_and_not_only_when_the_message_is_done() {
    let life = Life::polling().then(came(message(5, 9)));
    assert_eq!(life.assigned(), Some(9));
    assert!(matches!(life.does(), Action::Hear(_)));
}

#[test]
fn a_message_that_nobody_could_keep_is_not_acknowledged() {
    let mut life = Life::polling().then(came(message(5, 4)));
    let mut waits = Vec::new();
    for _ in 0..9 {
        assert!(matches!(life.does(), Action::Hear(_)));
        let (waited, next) = life.then(TRANSIENT).waits();
        waits.push(waited);
        life = next;
    }
    assert!(waits[0] < Duration::from_secs(2) && waits[8] <= Duration::from_secs(60), "{waits:?}");
    assert_eq!(life.then(Event::Done).does(), remembered("s1", 5));
}

#[test]
fn a_lost_acknowledgement_is_said_again_and_one_for_nothing_is_done() {
    let heard = || Life::polling().then(came(message(5, 4))).then(Event::Done).then(Event::Done);
    assert_eq!(heard().then(TRANSIENT).waits().1.does(), Action::Acknowledge { message: 5 });
    assert_eq!(heard().then(Event::Failed(Failure::Gone)).does(), Action::Poll { last: 5 });
    let invalid = Event::Failed(Failure::Other(ErrorClass::Invalid));
    assert_eq!(heard().then(invalid).waits().1.does(), Action::Poll { last: 5 });
}

#[test]
fn what_lay_in_the_queue_is_heard_but_its_numbers_are_old() {
    let backlog =
        |id, assigned| Event::Came { message: message(id, assigned), after: Duration::ZERO };
    let mut life = Life::polling();
    for id in 1..4 {
        life = life.then(backlog(id, 40));
        assert_eq!(life.assigned(), Some(3), "the session said so later");
        assert_eq!(life.does(), Action::Renew { set: 7, session: "s1".to_owned() });
        life = life.then(opened("s1", 3));
        assert!(matches!(life.does(), Action::Hear(_)));
        life = life.then(Event::Done).then(Event::Done);
        assert_eq!(life.does(), Action::Acknowledge { message: id });
        life = life.then(Event::Done);
        assert_eq!(life.does(), Action::Poll { last: id });
    }
    life = life.then(came(message(4, 12)));
    assert_eq!(life.assigned(), Some(12), "a poll had waited for that one");
    life = life.then(Event::Done).then(Event::Done).then(Event::Done).then(backlog(5, 13));
    assert_eq!(life.assigned(), Some(13), "from then on all are new");
}

#[test]
fn a_repeated_message_is_heard_again_and_its_numbers_are_asked_for_anew() {
    let handled = [Event::Done, Event::Done, Event::Done];
    let mut life = Life::polling().then(came(message(5, 4)));
    life = handled.clone().into_iter().fold(life, Life::then);
    life = life.then(came(message(5, 99)));
    assert_eq!(life.assigned(), Some(4));
    assert_eq!(life.does(), Action::Renew { set: 7, session: "s1".to_owned() });
    assert!(matches!(life.then(opened("s1", 4)).does(), Action::Hear(_)));
}

#[test]
fn where_newer_numbers_are_not_to_be_had_those_of_the_message_are_taken() {
    let old = Event::Came { message: message(5, 8), after: Duration::ZERO };
    let mut life = Life::polling().then(old.clone());
    for _ in 0..3 {
        assert!(matches!(life.does(), Action::Renew { .. }));
        life = life.then(TRANSIENT).waits().1;
    }
    life = life.then(TRANSIENT);
    assert!(matches!(life.does(), Action::Hear(_)));
    assert_eq!(life.assigned(), Some(8));
    // A session that is gone meanwhile costs the message nothing.
    let lost = Life::polling().then(old).then(Event::Failed(Failure::Gone));
    assert!(matches!(lost.does(), Action::Hear(_)));
}

#[test]
fn a_conflict_is_tried_every_ten_to_thirty_seconds_and_known_to_whoever_asks() {
    let events = [Event::Recalled(Memory::default()), Event::Found(Some(7))];
    let mut life = events.into_iter().fold(Life::new(), Life::then);
    let begin = life.now;
    while life.now < begin + CONFLICT_ALARM {
        assert_eq!(life.does(), Action::Open { set: 7 });
        let (waited, next) = life.then(Event::Failed(Failure::Conflict)).waits();
        assert!((10..=30).contains(&waited.as_secs()), "{waited:?}");
        life = next;
        assert_eq!(life.listener.conflict_since(), Some(begin));
    }
    assert_eq!(life.then(opened("s1", 0)).listener.conflict_since(), None);
}

#[test]
fn a_refused_token_is_renewed_once_and_then_the_session_is_opened_anew() {
    let refused = || Event::Failed(Failure::Refused);
    let renew = Action::Renew { set: 7, session: "s1".to_owned() };
    Life::polling().through(vec![
        (refused(), renew.clone()),
        (opened("s1", 3), Action::Poll { last: 0 }),
        (refused(), Action::Drop { set: 7, session: "s1".to_owned() }),
        (Event::Done, Action::Open { set: 7 }),
        (opened("s2", 3), remembered("s2", 0)),
        (Event::Done, Action::Poll { last: 0 }),
        // A poll that was answered makes the next refusal the first again.
        (Event::Nothing, Action::Poll { last: 0 }),
        (refused(), Action::Renew { set: 7, session: "s2".to_owned() }),
    ]);
    // While a message is handled, nothing of it is left out.
    let mut offer = message(5, 4);
    offer.jobs = vec![job(Happened::Available, 71)];
    Life::polling().through(vec![
        (came(offer.clone()), Action::Acquire { set: 7, requests: vec![71] }),
        (refused(), renew.clone()),
        (opened("s1", 3), Action::Acquire { set: 7, requests: vec![71] }),
        (refused(), Action::Hear(offer)),
        (
            Event::Done,
            Action::Remember(Memory { set: Some(7), session: Some("s1".into()), last: 5 }),
        ),
        (Event::Done, Action::Drop { set: 7, session: "s1".to_owned() }),
    ]);
}

#[test]
fn a_session_that_github_dropped_is_opened_anew_where_it_stood() {
    Life::polling().through(vec![
        (came(message(5, 4)), Action::Hear(message(5, 4))),
        (Event::Done, remembered("s1", 5)),
        (Event::Done, Action::Acknowledge { message: 5 }),
        (Event::Failed(Failure::Refused), Action::Renew { set: 7, session: "s1".to_owned() }),
        (Event::Failed(Failure::Gone), Action::Drop { set: 7, session: "s1".to_owned() }),
        (Event::Failed(Failure::Gone), Action::Open { set: 7 }),
        (opened("s2", 4), remembered("s2", 5)),
        (Event::Done, Action::Poll { last: 5 }),
    ]);
}

#[test]
fn a_scale_set_that_github_deleted_is_made_anew_and_counts_its_messages_from_the_start() {
    let life = Life::polling().then(came(message(5, 4)));
    let life = life.then(Event::Done).then(Event::Done).then(Event::Done);
    let life = life.through(vec![
        (Event::Failed(Failure::Gone), Action::Drop { set: 7, session: "s1".to_owned() }),
        (Event::Failed(Failure::Gone), Action::Open { set: 7 }),
    ]);
    let life = life.then(Event::Failed(Failure::Gone));
    assert_eq!((life.assigned(), life.listener.set()), (None, None));
    let (_, life) = life.waits();
    assert_eq!(life.does(), Action::Find);
    life.through(vec![
        (Event::Found(None), Action::Create),
        (Event::Created(9), Action::Open { set: 9 }),
        (
            opened("s9", 1),
            Action::Remember(Memory { set: Some(9), session: Some("s9".into()), last: 0 }),
        ),
        (Event::Done, Action::Poll { last: 0 }),
    ]);
}

#[test]
fn a_lost_answer_to_the_creation_leads_to_a_look_and_not_to_a_second_one() {
    let life = Life::new().then(Event::Recalled(Memory::default())).then(Event::Found(None));
    assert_eq!(life.does(), Action::Create);
    assert_eq!(life.then(TRANSIENT).waits().1.does(), Action::Find);
}

#[test]
fn a_token_is_renewed_before_it_ends_and_not_at_every_poll() {
    let ends = at(3600);
    let mut life = Life::polling();
    life.now = ends - RENEW_EARLY - Duration::from_secs(1);
    life = life.then(Event::Nothing);
    assert_eq!(life.does(), Action::Poll { last: 0 });
    life.now = ends - RENEW_EARLY + Duration::from_secs(1);
    life = life.then(Event::Nothing);
    assert_eq!(life.does(), Action::Renew { set: 7, session: "s1".to_owned() });
    // The new one ends soon as well, or there is none: polls go on.
    for outcome in [opened("s1", 3), TRANSIENT] {
        let after = life.clone().then(outcome);
        assert_eq!(after.does(), Action::Poll { last: 0 });
        assert_eq!(after.then(Event::Nothing).does(), Action::Poll { last: 0 });
    }
}

#[test]
fn after_three_silent_minutes_demand_is_unknown_and_not_zero() {
    let mut life = Life::polling();
    life.now = at(170);
    life = life.then(Event::Nothing);
    let wanted = Numbers { statistics: statistics(3, 0), as_of: at(170) };
    life.now = at(170) + SILENCE - Duration::from_secs(1);
    assert_eq!(life.listener.numbers(life.now), Some(wanted), "no message: nothing has changed");
    assert_eq!(life.listener.silent_at(), Some(at(170) + SILENCE));
    life.now += Duration::from_secs(1);
    assert_eq!(life.listener.numbers(life.now), None);
    for _ in 0..20 {
        life = life.then(TRANSIENT).waits().1;
        assert_eq!(life.assigned(), None);
    }
    assert_eq!(life.then(came(message(1, 0))).assigned(), Some(0));
}

#[test]
fn jobs_are_acquired_only_up_to_what_there_could_be_runners_for() {
    let mut offer = message(5, 8);
    offer.jobs = (70..75).map(|request| job(Happened::Available, request)).collect();
    let life = Life::polling().then(came(offer));
    assert_eq!(life.does(), Action::Acquire { set: 7, requests: vec![70, 71] });
    // Another message that was made before the first acquisition was counted.
    let acquired = |given: &[u64]| {
        let life = life.clone().then(Event::Acquired(given.to_vec()));
        let life = std::iter::repeat_n(Event::Done, 3).fold(life, Life::then);
        assert_eq!(life.does(), Action::Poll { last: 5 });
        let mut offer = message(6, 8);
        offer.jobs = vec![job(Happened::Available, 75)];
        life.then(came(offer)).does()
    };
    assert!(matches!(acquired(&[70, 71]), Action::Hear(_)), "ten is all there is room for");
    // The other one was given to somebody else, and no message will ever tell of it.
    assert_eq!(acquired(&[70]), Action::Acquire { set: 7, requests: vec![75] });
}

#[test]
fn jobs_that_were_left_are_looked_for_when_there_is_room_again() {
    let room = Statistics { available: 3, assigned: 9, running: 9 };
    let mut freed = message(5, 9);
    freed.statistics = Some(room);
    let life = Life::polling().then(came(freed)).then(Event::Done).then(Event::Done);
    let look = (Event::Done, Action::Look { set: 7 });
    let looked = life.clone().through(vec![
        look.clone(),
        (Event::Acquirable(vec![80, 81, 82]), Action::Acquire { set: 7, requests: vec![80] }),
        (Event::Acquired(vec![80]), Action::Poll { last: 5 }),
    ]);
    assert_eq!(looked.listener.numbers(at(0)).unwrap().statistics, room, "GitHub's numbers stand");
    life.through(vec![look, (TRANSIENT, Action::Poll { last: 5 })]);
}

#[test]
fn an_orderly_end_closes_the_session_and_handles_what_it_has_begun() {
    let drop = Action::Drop { set: 7, session: "s1".to_owned() };
    let nothing = |last| Action::Remember(Memory { set: Some(7), session: None, last });
    Life::polling().through(vec![
        (Event::Stop, drop.clone()),
        (Event::Stop, drop.clone()),
        (Event::Done, nothing(0)),
        (Event::Done, Action::End),
    ]);
    Life::polling().through(vec![
        (came(message(5, 4)), Action::Hear(message(5, 4))),
        (Event::Stop, Action::Hear(message(5, 4))),
        (Event::Done, remembered("s1", 5)),
        (Event::Done, Action::Acknowledge { message: 5 }),
        (Event::Done, drop.clone()),
        (Event::Done, nothing(5)),
        (Event::Done, Action::End),
    ]);
    // What cannot be kept now is left to whoever comes next; what cannot be deleted is remembered.
    Life::polling().through(vec![
        (came(message(5, 4)), Action::Hear(message(5, 4))),
        (Event::Stop, Action::Hear(message(5, 4))),
        (TRANSIENT, drop),
        (TRANSIENT, Action::End),
    ]);
    assert_eq!(Life::new().then(Event::Stop).does(), Action::End);
}

#[test]
fn a_poll_that_was_broken_off_begins_anew() {
    assert_eq!(Life::polling().then(Event::Interrupted).does(), Action::Poll { last: 0 });
}

#[test]
fn an_outcome_that_does_not_fit_changes_nothing() {
    let outcomes = || {
        vec![
            Event::Recalled(Memory::default()),
            Event::Found(None),
            Event::Found(Some(9)),
            Event::Created(9),
            opened("sX", 1),
            Event::Acquirable(vec![1]),
            Event::Done,
        ]
    };
    for event in outcomes() {
        let before = Life::polling();
        let after = before.clone().then(event.clone());
        assert_eq!(before.listener, after.listener, "{event:?}");
    }
    let ended = Life::new().then(Event::Stop);
    for event in outcomes() {
        assert_eq!(ended.clone().then(event).does(), Action::End);
    }
}
