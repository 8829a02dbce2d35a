//! The desk: where news of jobs arrive, are kept, and become the demand of pools.
//!
//! One task owns the order of things. It takes whatever has arrived as one batch, looks up jobs that it
//! does not remember, applies the news to the [`Book`], publishes the demand that follows, and writes
//! the batch to the [`Ledger`] in one transaction; only then is anybody told that news were taken.
//! Demand is published before the sync, because a pool that grows for news that the disk then refuses
//! has grown for a job that GitHub will tell of again; the answer waits for the sync, because what was
//! answered for is never told again.
//!
//! What the disk refused stays marked and goes along with the next batch, so that memory and ledger
//! agree again. What
//! guests say of their jobs is applied at once and not kept: after a restart the forge says the same a
//! moment later.
//!
//! In memory times are on the timeline, in the ledger and outside by the wall ([`Clock`]): a record that was
//! made under a wrong clock is written rightly once the clock is mended.

mod identities;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runner_fleet_actors::{
    demand::{Demand, Sure},
    event::{FleetEvent, Phase},
    job::{Book, JobKey, JobNews, JobRecord, Serves},
    name::{PoolName, Scope},
    port::{Clock, DemandSource, Time},
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::ledger::{Entry, Ledger, LedgerError};

/// News that may wait for the desk; a sender waits where there are more.
const INBOX: usize = 4096;
/// News that go into one transaction.
const BATCH: usize = 1024;
/// How often is looked whether the disk takes again what it has refused.
const MEND: Duration = Duration::from_secs(1);
/// How often what is over is forgotten.
const TIDY: Duration = Duration::from_secs(600);

/// What is laid on the desk.
#[derive(Debug)]
enum Letter {
    News { news: Vec<JobNews>, with: Vec<Entry>, taken: oneshot::Sender<Result<(), LedgerError>> },
    Checked { key: JobKey },
    Unanswered { key: JobKey },
}

/// The desk itself. Cheap to share; ends with the task that serves it.
pub struct Desk {
    inbox: mpsc::Sender<Letter>,
    ledger: Arc<Ledger>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Rung when [`State::renamed`] has something.
    renamed: Notify,
}

struct State {
    book: Book,
    serves: Vec<Serves>,
    sure: Sure,
    demand: BTreeMap<PoolName, watch::Sender<Option<Demand>>>,
    /// What was published last: jobs that wait and run, by pool.
    counted: BTreeMap<PoolName, (u32, u32)>,
    /// Jobs whose newest word the disk has refused so far.
    unkept: BTreeSet<JobKey>,
    /// Whether what an earlier daemon left open is in the book. Until then nobody may say that these
    /// are all.
    recalled: bool,
    /// The ledger that is written, counted from the first.
    ledgers: u64,
    /// Scopes that news call otherwise than GitHub's API last did. Bounded by the number of pools.
    renamed: BTreeSet<Scope>,
}

impl State {
    fn tell(&self, pool: &PoolName, sender: &watch::Sender<Option<Demand>>, now: Time) {
        let (waiting, running) = self.counted.get(pool).copied().unwrap_or_default();
        let sure = if self.recalled { self.sure } else { Sure::AtLeast };
        let news = Demand { waiting, running, as_of: now, sure };
        sender.send_if_modified(|demand| {
            let same = demand.is_some_and(|old| Demand { as_of: now, ..old } == news);
            *demand = if same { *demand } else { Some(news) };
            !same
        });
    }
}

/// What serves the desk; to be spawned.
pub struct Serving {
    desk: Arc<Desk>,
    inbox: mpsc::Receiver<Letter>,
}

impl Desk {
    /// A desk with the jobs that an earlier daemon left open. What it knows is *at least*, until
    /// [`Desk::now_sure`] says that nothing was missed meanwhile. Where the ledger cannot be read now,
    /// they are recalled when it can.
    pub async fn open(
        ledger: Arc<Ledger>,
        serves: Vec<Serves>,
        clock: Arc<dyn Clock>,
    ) -> (Arc<Self>, Serving) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let state = State {
            book: Book::default(),
            serves,
            sure: Sure::AtLeast,
            demand: BTreeMap::new(),
            counted: BTreeMap::new(),
            unkept: BTreeSet::new(),
            recalled: false,
            ledgers: ledger.begun_anew(),
            renamed: BTreeSet::new(),
        };
        let (state, renamed) = (Mutex::new(state), Notify::new());
        let desk = Arc::new(Self { inbox: sender, ledger, clock, state, renamed });
        desk.recall().await;
        let serving = Serving { desk: Arc::clone(&desk), inbox };
        (desk, serving)
    }

    /// Takes what an earlier daemon left open into the book, where that has not been possible yet.
    async fn recall(&self) {
        if self.state().recalled {
            return;
        }
        let open = match self.ledger.open_jobs().await {
            Ok(open) => open,
            Err(error) => {
                tracing::debug!(%error, "jobs of an earlier daemon are recalled later");
                return;
            }
        };
        let mut state = self.state();
        let State { book, serves, unkept, recalled, .. } = &mut *state;
        let (now, ahead) = (self.clock.now(), self.clock.ahead());
        for mut job in open.into_iter().map(|job| job.moved(-ahead)) {
            // Noted by a clock that was ahead: nothing would be asked about it before that time.
            job.last_at = job.last_at.min(now);
            job.heard_at = job.heard_at.min(now);
            book.recall(job);
        }
        unkept.extend(book.rematch(serves).into_iter().map(|job| job.key));
        *recalled = true;
        self.publish(&mut state);
    }

    /// Takes in news. They are on the disk when it returns.
    ///
    /// # Errors
    /// Where they are not: whoever sent them must be told so, and will send them again.
    pub async fn hear(&self, news: Vec<JobNews>) -> Result<(), LedgerError> {
        self.hear_with(news, Vec::new()).await
    }

    /// Takes in news together with what must be kept in the same transaction.
    ///
    /// # Errors
    /// As [`Desk::hear`].
    pub async fn hear_with(&self, news: Vec<JobNews>, with: Vec<Entry>) -> Result<(), LedgerError> {
        let (taken, answer) = oneshot::channel();
        let ended = || self.ledger.fault("the desk has ended; the daemon is stopping".to_owned());
        self.inbox.send(Letter::News { news, with, taken }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// A guest has begun a job. To be told before its runner is: else the runner is busy with one job
    /// while the desk still has it waiting, and a VM is made for nobody.
    pub fn guest_started(&self, runner: &str, pool: &PoolName, run_id: Option<u64>) {
        let now = self.clock.now();
        let mut state = self.state();
        state.book.guest_started(runner, pool, run_id, now);
        self.publish(&mut state);
    }

    /// A guest has ended its job, or its VM is gone. To be told before its runner is, as
    /// [`Desk::guest_started`].
    pub fn runner_ended(&self, runner: &str) {
        let now = self.clock.now();
        let mut state = self.state();
        state.book.runner_ended(runner, now);
        self.publish(&mut state);
    }

    /// There is no such runner: what it said last was not taken, and is not to count.
    pub fn runner_gone(&self, runner: &str) {
        let mut state = self.state();
        state.book.runner_forgotten(runner);
        state.book.start_withdrawn(runner);
        self.publish(&mut state);
    }

    /// What the fleet's own events say of jobs and of the runners that will have them.
    pub fn observe(&self, event: &FleetEvent) {
        match event {
            FleetEvent::Transition { at, transition } => {
                let runner = transition.runner.as_str();
                let mut state = self.state();
                match transition.to {
                    Phase::Creating => state.book.runner_launched(runner, *at),
                    Phase::Registering => state.book.runner_booted(runner, *at),
                    Phase::Deleted => {
                        state.book.runner_forgotten(runner);
                        state.book.runner_ended(runner, *at);
                        self.publish(&mut state);
                    }
                    Phase::Idle | Phase::Busy | Phase::Draining => {}
                }
            }
            FleetEvent::Plan { pool, create: 0, because, .. } if !because.is_empty() => {
                let mut state = self.state();
                let State { book, unkept, .. } = &mut *state;
                unkept.extend(book.delayed(pool, &because.join("; ")));
            }
            _ => {}
        }
    }

    /// A job was looked up, and there was nothing new. A hint: never waits, and may
    /// be dropped.
    pub fn checked(&self, key: &JobKey) {
        self.hint(Letter::Checked { key: key.clone() });
    }

    /// A job was asked about, and no answer came. A hint, as [`Desk::checked`].
    pub fn unanswered(&self, key: &JobKey) {
        self.hint(Letter::Unanswered { key: key.clone() });
    }

    fn hint(&self, letter: Letter) {
        if let Err(error) = self.inbox.try_send(letter) {
            tracing::debug!(%error, "a hint for the desk is dropped; the forge tells the same");
        }
    }

    /// Whether all jobs are known from now on.
    pub fn now_sure(&self, sure: Sure) {
        let mut state = self.state();
        if state.sure != sure {
            state.sure = sure;
            self.publish(&mut state);
        }
    }

    /// A new configuration: which pools there are, and what they serve.
    pub fn configure(&self, serves: Vec<Serves>) {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.serves, serves);
        for new in &mut state.serves {
            // What GitHub told of a scope holds for each pool that has it.
            let known = before.iter().find(|old| old.scope == new.scope);
            new.identity = known.and_then(|old| old.identity.clone());
        }
        self.rematch(&mut state);
    }

    fn rematch(&self, state: &mut State) {
        let State { book, serves, unkept, .. } = state;
        unkept.extend(book.rematch(serves).into_iter().map(|job| job.key));
        self.publish(state);
    }

    /// The record of a job, from memory or from the ledger, by the wall.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub async fn job(&self, key: &JobKey) -> Result<Option<JobRecord>, LedgerError> {
        let known = self.state().book.get(key).cloned();
        match known {
            Some(job) => Ok(Some(job.moved(self.clock.ahead()))),
            None => Ok(self.ledger.jobs_of(std::slice::from_ref(key)).await?.pop()),
        }
    }

    /// Looks into the book.
    pub fn book<R>(&self, look: impl FnOnce(&Book) -> R) -> R {
        look(&self.state().book)
    }

    /// Looks at what the pools serve.
    pub fn serves<R>(&self, look: impl FnOnce(&[Serves]) -> R) -> R {
        look(&self.state().serves)
    }

    /// What keeps the jobs.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &mut State) {
        let counts = state.book.demands();
        state.counted = counts.into_iter().map(|(pool, count)| (pool.clone(), count)).collect();
        let now = self.clock.now();
        for (pool, sender) in &state.demand {
            state.tell(pool, sender, now);
        }
    }

    async fn take(&self, letters: Vec<Letter>) {
        let unknown = self.unknown(&letters);
        let recalled =
            if unknown.is_empty() { Ok(Vec::new()) } else { self.ledger.jobs_of(&unknown).await };
        let recalled = match recalled {
            Ok(recalled) => recalled,
            Err(error) => return refuse(letters, &error),
        };
        let (mut told, mut entries) = (Vec::new(), Vec::new());
        let (now, ahead) = (self.clock.now(), self.clock.ahead());
        let changed: Vec<JobRecord> = {
            let mut state = self.state();
            let State { book, serves, unkept, ledgers, renamed, .. } = &mut *state;
            for job in recalled {
                book.recall(job.moved(-ahead));
            }
            for letter in letters {
                match letter {
                    Letter::News { news, with, taken } => {
                        for one in news {
                            let of = serves.iter().filter(|pool| pool.is_renamed_by(&one.facts));
                            renamed.extend(of.map(|pool| pool.scope.clone()));
                            let key = one.key.clone();
                            if book.apply(one, serves).is_some() {
                                unkept.insert(key);
                            }
                        }
                        entries.extend(with);
                        told.push(taken);
                    }
                    Letter::Checked { key } => book.checked(&key, now),
                    Letter::Unanswered { key } => book.unanswered(&key, now),
                }
            }
            let begun = self.ledger.begun_anew();
            if *ledgers != begun {
                // The one that is written now knows nothing of what was kept in the old one.
                *ledgers = begun;
                unkept.extend(book.jobs().map(|job| job.key.clone()));
            }
            if !renamed.is_empty() {
                self.renamed.notify_one();
            }
            let changed = unkept.iter().filter_map(|key| book.get(key)).cloned().collect();
            self.publish(&mut state);
            changed
        };
        let by_the_wall = changed.iter().cloned().map(|job| job.moved(ahead));
        entries.extend(by_the_wall.map(|job| Entry::Job(Box::new(job))));
        let kept = self.ledger.write(&entries).await;
        match &kept {
            Ok(()) => {
                let mut state = self.state();
                for job in &changed {
                    if state.book.get(&job.key) == Some(job) {
                        state.unkept.remove(&job.key);
                    }
                }
            }
            // Said in the log when it began, and in the status while it lasts.
            Err(error) => tracing::debug!(%error, "news of jobs could not be kept"),
        }
        for taken in told {
            // A sender that went away does not want to know.
            let _gone = taken.send(kept.clone());
        }
    }

    /// Tries again what the disk has refused, so that it is known when it takes it.
    async fn mend(&self) {
        if self.ledger.is_in_trouble()
            && let Err(error) = self.ledger.prove().await
        {
            tracing::debug!(%error, "the ledger is still in trouble");
            return;
        }
        self.recall().await;
        let behind = {
            let state = self.state();
            !state.unkept.is_empty() || state.ledgers != self.ledger.begun_anew()
        };
        if behind {
            self.take(Vec::new()).await;
        }
    }

    fn unknown(&self, letters: &[Letter]) -> Vec<JobKey> {
        let state = self.state();
        let told = letters.iter().filter_map(|letter| match letter {
            Letter::News { news, .. } => Some(news),
            _ => None,
        });
        let keys: BTreeSet<_> = told.flatten().map(|one| &one.key).collect();
        keys.into_iter().filter(|key| state.book.get(key).is_none()).cloned().collect()
    }

    async fn tidy(&self) {
        let now = self.clock.now();
        {
            let mut state = self.state();
            let State { book, unkept, .. } = &mut *state;
            book.tidy(now);
            unkept.retain(|key| book.get(key).is_some());
        }
        match self.ledger.forget(self.clock.wall()).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "old jobs and deliveries are forgotten"),
            Err(error) => tracing::warn!(%error, "old jobs could not be forgotten"),
        }
    }
}

fn refuse(letters: Vec<Letter>, error: &LedgerError) {
    tracing::debug!(%error, "news of jobs could not be taken");
    for letter in letters {
        if let Letter::News { taken, .. } = letter {
            let _gone = taken.send(Err(error.clone()));
        }
    }
}

impl DemandSource for Desk {
    fn watch(&self, pool: &PoolName) -> watch::Receiver<Option<Demand>> {
        let mut state = self.state();
        let sender =
            state.demand.entry(pool.clone()).or_insert_with(|| watch::Sender::new(None)).clone();
        let receiver = sender.subscribe();
        // Counted when the book last changed: a fleet of many pools asks for each of them.
        state.tell(pool, &sender, self.clock.now());
        receiver
    }
}

impl Serving {
    /// Serves the desk until it is told to stop; what arrived before is taken in first.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tidy = tokio::time::interval(TIDY);
        tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut mend = tokio::time::interval(MEND);
        mend.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                first = self.inbox.recv() => {
                    let Some(first) = first else { return };
                    let mut letters = vec![first];
                    while letters.len() < BATCH && let Ok(next) = self.inbox.try_recv() {
                        letters.push(next);
                    }
                    self.desk.take(letters).await;
                }
                _ = tidy.tick() => self.desk.tidy().await,
                _ = mend.tick() => self.desk.mend().await,
                () = stop.cancelled() => {
                    self.inbox.close();
                    if self.inbox.is_empty() {
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "desk/tests.rs"]
mod tests;
