//! The shell round a [`Listener`]: does what it says, one thing at a time, and shows what it knows.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use runner_fleet_actors::{
    demand::Demand,
    job::speech::{Numbers, Word},
    name::{PoolName, RegistrationId, RunnerName},
    port::{Clock, ErrorClass, PortError, Time},
};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    PoolSet,
    admin::Admin,
    calls,
    exchange::Failed,
    listener::{Action, CONFLICT_ALARM, Event, Failure, Listener, Memory},
    news::{self, Became},
    outside::{Hears, Marks, NotKept},
    queue::Queue,
    wire::{Message, ScaleSet, Session},
};
use crate::demand::JobEars;

/// What a scale set's listener says of itself, for status pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The pool.
    pub pool: PoolName,
    /// The scale set's name.
    pub scale_set: String,
    /// Its number, while it is known to exist.
    pub id: Option<u64>,
    /// Since when its session is open.
    pub connected_since: Option<Time>,
    /// Since when another session keeps this one out.
    pub conflict_since: Option<Time>,
    /// When GitHub last told how many jobs there are.
    pub last_word: Option<Time>,
    /// Jobs that GitHub gave to it and that no runner has, as told last.
    pub waiting: Option<u32>,
    /// Jobs that run, as told last.
    pub running: Option<u32>,
    /// Messages that were handled since the start.
    pub messages: u64,
    /// Since when there is no connection or no good word for a failure; `None` while it works.
    pub failing_since: Option<Time>,
    /// The last error, for a person.
    pub last_error: Option<String>,
}

/// What others see of a listener.
#[derive(Debug)]
pub(super) struct Seen {
    demand: watch::Sender<Option<Demand>>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    status: Status,
    /// Another listener, or none, speaks for the pool now.
    retired: bool,
}

impl Seen {
    pub fn new(set: &PoolSet, demand: watch::Sender<Option<Demand>>) -> Self {
        let status = Status {
            pool: set.pool.clone(),
            scale_set: set.name.clone(),
            id: None,
            connected_since: None,
            conflict_since: None,
            last_word: None,
            waiting: None,
            running: None,
            messages: 0,
            failing_since: None,
            last_error: None,
        };
        Self { demand, inner: Mutex::new(Inner { status, retired: false }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn status(&self) -> Status {
        self.lock().status.clone()
    }

    /// Whether it failed until now.
    fn goes_on(&self) -> bool {
        let mut inner = self.lock();
        inner.status.failing_since = None;
        inner.status.last_error.take().is_some()
    }

    fn fails(&self, error: String, now: Time) {
        let mut inner = self.lock();
        inner.status.failing_since.get_or_insert(now);
        inner.status.last_error = Some(error);
    }

    /// The scale set's number, while it is known to exist.
    pub fn set(&self) -> Option<u64> {
        self.lock().status.id
    }

    /// Nothing is known.
    pub fn unknown(&self) {
        self.publish(&self.lock(), None);
    }

    /// From now on this listener speaks for no pool, and nothing is known until another one does.
    pub fn retire(&self) {
        let mut inner = self.lock();
        self.publish(&inner, None);
        inner.retired = true;
    }

    fn publish(&self, inner: &Inner, demand: Option<Demand>) {
        if !inner.retired {
            self.demand.send_if_modified(|shown| {
                let changed = *shown != demand;
                *shown = demand;
                changed
            });
        }
    }

    /// `refused`: jobs that GitHub counts and that the pool does not take.
    fn show(&self, listener: &Listener, refused: u32, now: Time) {
        let numbers = listener.numbers(now);
        let demand = numbers.map(|numbers| {
            let told = numbers.statistics;
            let waiting = told.assigned.saturating_sub(told.running).saturating_sub(refused);
            Demand::exact(waiting, told.running, numbers.as_of)
        });
        let mut inner = self.lock();
        let status = &mut inner.status;
        status.id = listener.set();
        status.connected_since =
            listener.connected().then(|| status.connected_since.unwrap_or(now));
        status.conflict_since = listener.conflict_since();
        status.last_word = demand.map(|demand| demand.as_of).or(status.last_word);
        status.waiting = demand.map(|demand| demand.waiting);
        status.running = demand.map(|demand| demand.running);
        self.publish(&inner, demand);
    }
}

/// What all listeners of a daemon share.
#[derive(Clone)]
pub(super) struct Around {
    pub clock: Arc<dyn Clock>,
    pub marks: Arc<dyn Marks>,
    pub hears: Arc<dyn Hears>,
    /// There before anything listens.
    pub ears: Arc<OnceLock<Arc<dyn JobEars>>>,
    pub owner: String,
}

/// One listener and its connections.
pub(super) struct Talk {
    pub admin: Arc<Admin>,
    pub set: PoolSet,
    pub around: Around,
    pub seen: Arc<Seen>,
    pub capacity: watch::Receiver<u32>,
    /// What was learned of the numbers in its messages.
    pub numbers: Mutex<Numbers>,
}

/// Different for each scale set, the same after a restart (FNV-1a).
fn seed(mark: &str) -> u64 {
    mark.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Talk {
    /// Listens until `stop`; then closes the session. A message that is being handled is handled to
    /// its end.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut listener = Listener::new(seed(&self.set.mark()));
        let mut queue = None;
        let mut alarmed = None;
        loop {
            if stop.is_cancelled() {
                listener = listener.next(Event::Stop, self.now(), 0);
            }
            self.seen.show(&listener, self.refused(), self.now());
            self.alarm(&listener, &mut alarmed);
            let action = listener.action();
            if action == Action::End {
                break;
            }
            let event = self.outcome(&listener, action, &mut queue, stop).await;
            let capacity = *self.capacity.borrow();
            listener = listener.next(event, self.now(), capacity);
        }
        self.seen.unknown();
    }

    fn now(&self) -> Time {
        self.around.clock.now()
    }

    /// Jobs that GitHub gave to the scale set and that its pool does not take, as far as messages told.
    fn refused(&self) -> u32 {
        if self.set.repositories.is_open() {
            return 0;
        }
        self.around.hears.refused(&self.set.pool)
    }

    /// A conflict that lasts is said once.
    fn alarm(&self, listener: &Listener, alarmed: &mut Option<Time>) {
        let now = self.now();
        let lasting = listener.conflict_since().filter(|since| now >= *since + CONFLICT_ALARM);
        if let Some(since) = lasting
            && *alarmed != lasting
        {
            tracing::error!(
                pool = %self.set.pool, scale_set = %self.set.name, %since,
                "another session of the scale set is open; end the other daemon that has it, or \
                 wait until github lets it lapse"
            );
        }
        *alarmed = lasting;
    }

    /// Does an action, unless it is one that may be broken off and something says so.
    async fn outcome(
        &self,
        listener: &Listener,
        action: Action,
        queue: &mut Option<Queue>,
        stop: &CancellationToken,
    ) -> Event {
        let polls = matches!(action, Action::Poll { .. });
        let may_break = polls || matches!(action, Action::Wait { .. });
        let mut capacity = self.capacity.clone();
        capacity.mark_unchanged();
        let silent_at = listener.silent_at().map(|at| self.until(at));
        let silence = tokio::time::sleep(silent_at.unwrap_or_default());
        tokio::pin!(silence);
        let mut speaks = silent_at.is_some();
        let doing = self.perform(action, queue);
        tokio::pin!(doing);
        loop {
            tokio::select! {
                biased;
                event = &mut doing => return event,
                () = stop.cancelled(), if may_break => return Event::Stop,
                Ok(()) = capacity.changed(), if polls => return Event::Interrupted,
                () = &mut silence, if speaks => {
                    speaks = false;
                    self.seen.show(listener, self.refused(), self.now());
                }
            }
        }
    }

    fn until(&self, at: Time) -> Duration {
        (at - self.now()).to_std().unwrap_or_default()
    }

    async fn perform(&self, action: Action, queue: &mut Option<Queue>) -> Event {
        let waits = matches!(action, Action::Wait { .. });
        let done = self.attempt(action, queue).await;
        match done {
            Ok(event) => {
                if !waits && self.seen.goes_on() {
                    tracing::debug!(pool = %self.set.pool, "the scale set's listener goes on");
                }
                event
            }
            Err(failed) => {
                let failure = failed.failure();
                let error = failed.error.what;
                // These happen in the life of every session.
                if matches!(failure, Failure::Refused | Failure::Gone) {
                    tracing::info!(pool = %self.set.pool, %error, "the scale set's session needs repair");
                } else {
                    tracing::warn!(pool = %self.set.pool, %error, "a call for the scale set failed");
                }
                self.seen.fails(error, self.now());
                Event::Failed(failure)
            }
        }
    }

    async fn attempt(&self, action: Action, queue: &mut Option<Queue>) -> Result<Event, Failed> {
        let (admin, set) = (&*self.admin, &self.set);
        Ok(match action {
            Action::Recall => Event::Recalled(self.recall().await?),
            Action::Find => {
                let group = calls::group(admin, set.group.as_deref()).await?;
                let found = calls::find(admin, group, &set.name).await?;
                found.iter().for_each(|found| self.look_at_labels(found));
                Event::Found(found.map(|found| found.id))
            }
            Action::Create => {
                let group = calls::group(admin, set.group.as_deref()).await?;
                let made = calls::create(admin, group, &set.name, &set.all_labels()).await?;
                tracing::info!(pool = %set.pool, scale_set = %set.name, id = made.id, "scale set made");
                self.look_at_labels(&made);
                Event::Created(made.id)
            }
            Action::Drop { set, session } => {
                *queue = None;
                calls::delete_session(admin, set, &session).await?;
                Event::Done
            }
            Action::Open { set } => {
                let session = calls::open_session(admin, set, &self.around.owner).await?;
                tracing::info!(pool = %self.set.pool, set, "session of the scale set opened");
                opened(session, queue, &*self.around.clock)?
            }
            Action::Renew { set, session } => opened(
                calls::renew_session(admin, set, &session).await?,
                queue,
                &*self.around.clock,
            )?,
            Action::Remember(memory) => {
                self.remember(&memory).await?;
                Event::Done
            }
            Action::Poll { last } => {
                let queue = queue.as_ref().ok_or_else(closed)?;
                let capacity = *self.capacity.borrow();
                let begin = tokio::time::Instant::now();
                match queue.poll(admin, &set.name, last, capacity).await? {
                    Some(mut message) => {
                        self.set.shut_out(&mut message, admin.github().names());
                        Event::Came { message, after: begin.elapsed() }
                    }
                    None => Event::Nothing,
                }
            }
            Action::Look { set } => {
                let waiting = calls::acquirable(admin, set).await?;
                Event::Acquirable(self.set.let_in(waiting, admin.github().names()))
            }
            Action::Acquire { set, requests } => {
                let queue = queue.as_ref().ok_or_else(closed)?;
                Event::Acquired(calls::acquire(admin, set, &requests, &queue.token).await?)
            }
            Action::Hear(message) => {
                self.hear(&message).await?;
                Event::Done
            }
            Action::Acknowledge { message } => {
                let queue = queue.as_ref().ok_or_else(closed)?;
                queue.acknowledge(admin, message).await?;
                self.seen.lock().status.messages += 1;
                Event::Done
            }
            Action::Wait { until } => {
                tokio::time::sleep(self.until(until)).await;
                Event::Done
            }
            Action::End => Event::Done,
        })
    }

    /// GitHub Enterprise Server drops labels that it does not take, without a word.
    fn look_at_labels(&self, set: &ScaleSet) {
        let missing = self.set.missing(&set.labels);
        if !missing.is_empty() {
            tracing::warn!(
                pool = %self.set.pool, scale_set = %self.set.name, ?missing,
                "the scale set lacks labels of its pool, and github changes none of an existing \
                 one; jobs that ask for them are not given to it"
            );
        }
    }

    async fn hear(&self, message: &Message) -> Result<(), Failed> {
        if message.unread > 0 {
            tracing::warn!(pool = %self.set.pool, message = message.id, unread = message.unread,
                "a message of the scale set holds what cannot be read");
        }
        if let Some(ears) = self.around.ears.get() {
            for (runner, said, became) in news::of_runners(message, &self.set.pool) {
                let word = match said {
                    // The scale set itself is proof that it is one of this pool's.
                    None => Word::Ours(None),
                    Some(_) => self.judge(&runner, said, ears.registration(&runner)),
                };
                match (word, became) {
                    (Word::Ours(number), Became::Busy(job)) => {
                        ears.job_started(&runner, number, job);
                    }
                    (Word::Ours(number), Became::Finished(end)) => {
                        ears.job_ended(&runner, number, end);
                    }
                    (word, _) => tracing::debug!(%runner, ?word, "a message names another runner"),
                }
            }
        }
        let news = news::of_message(message, &self.set.pool, self.now());
        if !news.is_empty() {
            let heard = self.around.hears.hear(news).await;
            heard.map_err(|error| not_kept(&error, "keep the news of jobs"))?;
        }
        Ok(())
    }

    /// Whether a message's number of a runner is that of its registration, as far as numbers prove it.
    fn judge(
        &self,
        runner: &RunnerName,
        said: Option<RegistrationId>,
        known: Option<RegistrationId>,
    ) -> Word {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let before = numbers.of_two_kinds().count();
        let word = numbers.compare(runner, true, said, known);
        if numbers.of_two_kinds().count() > before {
            tracing::warn!(
                pool = %self.set.pool,
                "the scale set's messages name runners by other numbers than their registrations \
                 have; they are believed by name"
            );
        }
        word
    }

    async fn recall(&self) -> Result<Memory, Failed> {
        let kept = self.around.marks.get(&self.set.mark()).await;
        let kept = kept.map_err(|error| not_kept(&error, "read what is known of the session"))?;
        let memory = kept.as_deref().map(serde_json::from_str).transpose();
        Ok(memory.unwrap_or_else(|error| {
            tracing::warn!(pool = %self.set.pool, %error, "what was kept of the session cannot be read");
            None
        }).unwrap_or_default())
    }

    async fn remember(&self, memory: &Memory) -> Result<(), Failed> {
        let text = serde_json::to_string(memory).unwrap_or_default();
        let kept = self.around.marks.keep(&self.set.mark(), &text).await;
        kept.map_err(|error| not_kept(&error, "keep what is known of the session"))
    }
}

fn opened(session: Session, queue: &mut Option<Queue>, clock: &dyn Clock) -> Result<Event, Failed> {
    *queue = Some(Queue::of(&session)?);
    // Said by the clock of GitHub, waited for on the timeline.
    let expires = super::wire::expiry(&session.token).map(|end| clock.on_timeline(end));
    Ok(Event::Opened { session: session.id, expires, statistics: session.statistics })
}

fn closed() -> Failed {
    let what = "the session has no queue any more; it is opened anew";
    PortError::certain(ErrorClass::NotFound, what).into()
}

fn not_kept(error: &NotKept, what: &str) -> Failed {
    let what = format!("{what} of a scale set: {error}; it is tried again");
    PortError::doubtful(ErrorClass::Transient, what).into()
}
