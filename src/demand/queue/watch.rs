//! One queue, from its connection to its demand: the shell round `verdict.rs` and `held.rs`.
//!
//! One task a queue. News reach the desk before a message is held or settled, so whatever this task
//! does last before it is killed, either the desk knows of the job or the message is still in the queue,
//! or both. Where the desk cannot keep them, the line is given up: every message goes back, and
//! nothing is known until it works again.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::select_all};
use runner_fleet_actors::{
    backoff::{self, Curve},
    demand::Demand,
    event::FleetEvent,
    job::{JobFacts, JobKey, JobNews, JobWord, Serves},
    name::PoolName,
    port::{DemandSource, ErrorClass, PortError, Time},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use super::{
    QueuePool, Surroundings,
    held::{Held, Question, Tag},
    line::{Arrival, Broker, Line},
    message::{self, Origin},
    status::Shared,
    verdict::{Intake, Said, Verdict, intake},
};
use crate::config::QueueKind;

/// Connections to a broker that is away.
const CONNECT: Curve = Curve { base: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// Messages that are taken in together: one durable write for all of them.
const BATCH: usize = 100;
/// Jobs that are asked about at the same time.
const AT_ONCE: usize = 4;
/// Messages that are held beyond `max`, for jobs that others run or that are over.
const MARGIN: u32 = 16;
/// From this age a message may stand for a job that is over already.
const OLD: Duration = Duration::from_secs(120);
/// Hints that wait to be looked at; more say nothing new.
const HINTS: usize = 16;

/// What the outside sees of one pool's share of a queue.
#[derive(Debug, Clone)]
pub struct Outlet {
    demand: Arc<watch::Sender<Option<Demand>>>,
    hints: mpsc::Sender<Option<String>>,
}

impl Outlet {
    pub fn demand(&self) -> watch::Receiver<Option<Demand>> {
        self.demand.subscribe()
    }

    pub fn hurry(&self, repository: Option<&str>) {
        // A full channel holds hints enough.
        let _full = self.hints.try_send(repository.map(str::to_owned));
    }
}

struct Share {
    pool: PoolName,
    counted: watch::Receiver<Option<Demand>>,
    demand: Arc<watch::Sender<Option<Demand>>>,
}

pub struct Watch {
    queue: String,
    kind: QueueKind,
    most: u16,
    serves: Vec<Serves>,
    shares: Vec<Share>,
    hints: mpsc::Receiver<Option<String>>,
    broker: Arc<dyn Broker>,
    origin: Origin,
    around: Surroundings,
    status: Shared,
    held: Held,
}

/// What came of asking about one job.
type Answer = (Question, Result<Option<JobNews>, PortError>);

impl Watch {
    pub fn new(
        kind: QueueKind,
        queue: &str,
        pools: &[&QueuePool],
        broker: Arc<dyn Broker>,
        origin: Origin,
        around: &Surroundings,
    ) -> (Self, Vec<(PoolName, Outlet)>) {
        let (hint, hints) = mpsc::channel(HINTS);
        let max = pools.iter().map(|pool| pool.max).fold(MARGIN, u32::saturating_add);
        let mut outlets = Vec::new();
        let mut shares = Vec::new();
        for pool in pools {
            let name = pool.serves.pool.clone();
            let demand = Arc::new(watch::Sender::new(None));
            let outlet = Outlet { demand: Arc::clone(&demand), hints: hint.clone() };
            outlets.push((name.clone(), outlet));
            let counted = around.desk.watch(&name);
            shares.push(Share { pool: name, counted, demand });
        }
        let watch = Self {
            queue: queue.to_owned(),
            kind,
            most: u16::try_from(max).unwrap_or(u16::MAX),
            serves: pools.iter().map(|pool| pool.serves.clone()).collect(),
            shares,
            hints,
            broker,
            origin,
            around: around.clone(),
            status: Shared::new(queue, kind.as_str()),
            held: Held::default(),
        };
        (watch, outlets)
    }

    pub fn status(&self) -> Shared {
        self.status.clone()
    }

    fn now(&self) -> Time {
        self.around.clock.now()
    }

    /// Until `stop`: connects, serves, and waits where neither can be done.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0_u32;
        loop {
            let Err(error) = self.connect_and_serve(&stop, &mut failures).await else { return };
            failures = failures.saturating_add(1);
            let wait = backoff::delay(failures, u64::from(self.most), CONNECT);
            let (queue, kind) = (&self.queue, self.kind.as_str());
            tracing::warn!(queue, kind, %error, ?wait, "the queue is not read, demand is unknown");
            if failures == 1 {
                self.tell_fault(error);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn connect_and_serve(
        &mut self,
        stop: &CancellationToken,
        failures: &mut u32,
    ) -> Result<(), PortError> {
        let opened = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            line = self.broker.open(&self.queue, self.most) => line,
        };
        let mut line = opened.inspect_err(|error| self.is_away(Some(error)))?;
        let now = self.now();
        tracing::info!(queue = self.queue, kind = self.kind.as_str(), "the queue is read");
        self.status.write(|status| {
            status.connected_since = Some(now);
            status.failing_since = None;
        });
        let served = self.serve(line.as_mut(), stop, failures).await;
        // Not after the leave: a broker that is away is waited for.
        self.is_away(served.as_ref().err());
        line.close().await;
        served
    }

    /// Nothing is known any more. Whoever is woken by that finds the reason in the status.
    fn is_away(&mut self, error: Option<&PortError>) {
        let now = self.now();
        self.held.lost(now);
        self.status.write(|status| {
            status.connected_since = None;
            if let Some(error) = error {
                status.failing_since.get_or_insert(now);
                status.last_error = Some(error.what.clone());
            }
        });
        self.publish(None);
    }

    async fn serve(
        &mut self,
        line: &mut dyn Line,
        stop: &CancellationToken,
        failures: &mut u32,
    ) -> Result<(), PortError> {
        let mut beats = tokio::time::interval(line.period());
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked: JoinSet<Answer> = JoinSet::new();
        let mut ready = None;
        loop {
            self.publish(ready);
            let wait = self.until_next_check(asked.len());
            let counted = counted(&mut self.shares);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                arrival = line.next() => {
                    let mut batch = vec![arrival?];
                    while batch.len() < BATCH && let Some(more) = line.next().now_or_never() {
                        batch.push(more?);
                    }
                    self.take_in(line, batch, &mut ready).await?;
                }
                _ = beats.tick() => {
                    let mut batch = line.beat().await?;
                    // What a broker sent before it counted is here by now, and is not in the count.
                    while let Some(more) = line.next().now_or_never() {
                        batch.push(more?);
                    }
                    self.take_in(line, batch, &mut ready).await?;
                    *failures = 0;
                }
                Some(first) = asked.join_next() => {
                    let mut answers = vec![first];
                    while let Some(more) = asked.try_join_next() {
                        answers.push(more);
                    }
                    // A question that panicked is asked again after the next connection.
                    self.answered(line, answers.into_iter().flatten().collect()).await?;
                }
                () = wait => self.ask(line, &mut asked).await?,
                Some(repository) = self.hints.recv() => {
                    let now = self.around.clock.now();
                    self.held.hurry(repository.as_deref(), now);
                }
                () = counted => {}
            }
        }
    }

    /// Messages that came together.
    async fn take_in(
        &mut self,
        line: &mut dyn Line,
        batch: Vec<Arrival>,
        ready: &mut Option<u32>,
    ) -> Result<(), PortError> {
        let now = self.now();
        self.around.desk.identify(&mut self.serves);
        let (mut tell, mut hold, mut done, mut reject) = (vec![], vec![], vec![], vec![]);
        for arrival in batch {
            match arrival {
                Arrival::Ready(count) => *ready = Some(count),
                Arrival::Withdrawn(tag) => self.held.withdraw(tag, now),
                Arrival::Message { tag, raw, again, sent_at } => {
                    self.status.write(|status| {
                        status.received += 1;
                        status.last_message_at = Some(now);
                    });
                    let old = again || sent_at.is_some_and(|at| at + OLD < now);
                    let read = raw.and_then(|raw| message::read(&raw, &self.origin, now));
                    match intake(read, &self.serves) {
                        Intake::Hold(news) => {
                            hold.extend(question(&news).map(|question| (tag, question, old)));
                            tell.push(news);
                        }
                        Intake::Tell(news) => {
                            done.push(tag);
                            tell.push(news);
                        }
                        Intake::Drop => done.push(tag),
                        Intake::Reject(why) => reject.push((tag, why)),
                    }
                }
            }
        }
        self.tell(tell).await?;
        for (tag, question, old) in hold {
            self.held.take(tag, question, old, now);
        }
        self.settle(line, &done).await?;
        for (tag, why) in reject {
            self.reject(line, &[tag], &why).await?;
        }
        Ok(())
    }

    /// Asks about the jobs that are due, as far as there is room; those that the desk knows more of
    /// than their messages need no question.
    async fn ask(
        &mut self,
        line: &mut dyn Line,
        asked: &mut JoinSet<Answer>,
    ) -> Result<(), PortError> {
        let room = AT_ONCE.saturating_sub(asked.len());
        let now = self.now();
        let mut done = Vec::new();
        for question in self.held.due(room, now) {
            let id = question.id;
            let key = JobKey::from(id);
            let word = self.around.desk.book(|book| book.get(&key).map(|job| job.word));
            if let Some(word) = word.filter(|word| *word >= JobWord::Running) {
                done.extend(self.held.answered(id, Said::Word(word), now).1);
                continue;
            }
            let forge = Arc::clone(&self.around.forge);
            asked.spawn(async move {
                let answer = forge.job(&question.repository, id).await;
                (question, answer)
            });
        }
        self.settle(line, &done).await
    }

    /// Answers that came together: one durable write for all of them.
    async fn answered(
        &mut self,
        line: &mut dyn Line,
        answers: Vec<Answer>,
    ) -> Result<(), PortError> {
        let now = self.now();
        let (mut tell, mut said) = (Vec::new(), Vec::new());
        for (Question { id, pool, .. }, answer) in answers {
            said.push((id, self.read_answer(id, &answer)));
            if let Ok(Some(mut news)) = answer {
                // That is decided by the queue.
                news.facts.pool = Some(pool);
                tell.push(news);
            }
        }
        self.tell(tell).await?;
        let mut done = Vec::new();
        for (id, said) in said {
            let (verdict, tags) = self.held.answered(id, said, now);
            if said == Said::Gone && !matches!(verdict, Verdict::CheckAt(_)) {
                let (word, facts) = (JobWord::Done, JobFacts::default());
                self.tell(vec![JobNews { key: JobKey::from(id), word, at: now, facts }]).await?;
            }
            match verdict {
                Verdict::CheckAt(_) => {}
                Verdict::Done => done.extend(tags),
                Verdict::Reject(why) => {
                    self.reject(line, &tags, &format!("job {id}: {why}")).await?;
                }
            }
        }
        self.settle(line, &done).await
    }

    fn read_answer(&self, id: u64, answer: &Result<Option<JobNews>, PortError>) -> Said {
        match answer {
            Ok(Some(news)) => Said::Word(news.word),
            Ok(None) => Said::Gone,
            Err(error) => {
                tracing::debug!(queue = self.queue, job = id, %error, "nothing is said of the job");
                self.status.write(|status| status.last_error = Some(error.what.clone()));
                let until = match error.class {
                    ErrorClass::RateLimited { until } => Some(until),
                    _ => None,
                };
                Said::Unknown { until }
            }
        }
    }

    /// Lays news on the desk; they are durable when this returns.
    async fn tell(&self, news: Vec<JobNews>) -> Result<(), PortError> {
        if news.is_empty() {
            return Ok(());
        }
        let kept = self.around.desk.hear(news).await;
        kept.map_err(|error| PortError::certain(ErrorClass::Transient, error.to_string()))
    }

    async fn settle(&mut self, line: &mut dyn Line, tags: &[Tag]) -> Result<(), PortError> {
        line.done(tags).await?;
        let count = u64::try_from(tags.len()).unwrap_or(u64::MAX);
        self.status.write(|status| status.done += count);
        Ok(())
    }

    async fn reject(
        &mut self,
        line: &mut dyn Line,
        tags: &[Tag],
        why: &str,
    ) -> Result<(), PortError> {
        for tag in tags {
            line.reject(*tag, why).await?;
            self.status.write(|status| status.rejected += 1);
        }
        tracing::warn!(queue = self.queue, why, "a message is rejected");
        let what = format!("a message in queue {:?} goes to the dead letters: {why}", self.queue);
        self.tell_fault(PortError::certain(ErrorClass::Invalid, what));
        Ok(())
    }

    fn tell_fault(&self, error: PortError) {
        let pool = match self.shares.as_slice() {
            [only] => Some(only.pool.clone()),
            _ => None,
        };
        let event = FleetEvent::Fault { at: self.now(), pool, runner: None, error };
        self.around.observer.observe(&event);
    }

    /// `ready` = messages in the queue that are not held; `None` = not known, and so nothing is.
    fn publish(&mut self, ready: Option<u32>) {
        let held = self.held.messages();
        // Below its limit the broker is about to hand them out; they would be counted twice.
        let beyond = ready.map(|ready| if held < usize::from(self.most) { 0 } else { ready });
        self.status.write(|status| {
            status.held = held;
            status.ready = ready.unwrap_or_default();
        });
        let alone = self.shares.len() == 1;
        for share in &mut self.shares {
            let counted = *share.counted.borrow_and_update();
            let demand = beyond.zip(counted).map(|(beyond, counted)| {
                let Demand { waiting, running, as_of, .. } = counted;
                // Whose the messages are that nobody has read can be said of one pool's queue only.
                if alone || beyond == 0 {
                    Demand::exact(waiting.saturating_add(beyond), running, as_of)
                } else {
                    Demand::at_least(waiting, running, as_of)
                }
            });
            share.demand.send_if_modified(|last| std::mem::replace(last, demand) != demand);
        }
    }

    fn until_next_check(&self, asked: usize) -> impl Future<Output = ()> + use<> {
        let next = self.held.next_check().filter(|_| asked < AT_ONCE);
        let wait = next.map(|at| (at - self.now()).to_std().unwrap_or_default());
        async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }
}

/// When the desk counts anew for one of the pools.
async fn counted(shares: &mut [Share]) {
    let changes = shares.iter_mut().map(|share| {
        async {
            if share.counted.changed().await.is_err() {
                // The desk is gone; the fleet stops.
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    });
    select_all(changes).await;
}

fn question(news: &JobNews) -> Option<Question> {
    let JobFacts { repository, pool, .. } = &news.facts;
    let repository = repository.as_deref()?.to_owned();
    Some(Question { id: news.key.id()?, repository, pool: pool.clone()? })
}
