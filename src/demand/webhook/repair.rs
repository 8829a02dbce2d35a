//! What nobody told, or was lost on its way, asked for.
//!
//! Two nets. *Deliveries*: GitHub logs each attempt for three days; on the start and on a period every
//! hook that has ever delivered here is looked through, from a while before the last complete look (so
//! that looks overlap), and what never arrived is asked for again. *Jobs*: one that stays queued or
//! running for too long, or whose runner is gone, is looked up by its id ([`Book::doubtful`]). The second
//! serves queues as well: their senders tell of jobs that wait, and not of their ends.
//!
//! Hooks make themselves known: each delivery says whose it is, and once GitHub confirms it ([`Hooks`]) it
//! is kept, so nothing has to be configured. Where the credentials may not read a hook's deliveries that
//! is said once, and the second net is left.
//!
//! Look-ups of jobs have one budget, a part of what GitHub takes in an hour, for a burst of jobs must not
//! cost the launches their calls. The newest doubt goes first: it is a runner that is gone or a job that
//! just began, and an old one has waited before.
//!
//! [`Book::doubtful`]: runner_fleet_actors::job::Book::doubtful

mod confirm;
mod looks;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::HeaderMap;
use runner_fleet_actors::{
    demand::Sure,
    job::{JobFacts, JobNews, JobRecord, JobWord},
    name::Scope,
    port::{Clock, ErrorClass, PortError, Time},
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use looks::{LookUps, Looks, Next, Row, Tried, Tries, after, chosen, lost, since};

use super::hooks::Hooks;

use crate::{
    demand::{
        desk::Desk,
        ledger::{Entry, LedgerError},
    },
    github::records::{Delivery, Records},
};

/// Pages of one look: 100,000 deliveries.
const PAGES: usize = 1000;
/// How often is looked for what was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between two looks through the deliveries.
    pub period: Duration,
    /// How long what was asked for again may take to arrive.
    pub arrival: Duration,
    /// Between two turns of looking jobs up; six of these where there is no doubt about any.
    pub turn: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(10 * 60),
            arrival: Duration::from_secs(20),
            turn: Duration::from_secs(5),
        }
    }
}

impl Pace {
    /// All pauses divided by `factor`, for a demo in which time runs faster.
    #[must_use]
    pub fn faster(self, factor: u32) -> Self {
        let factor = factor.max(1);
        Self {
            period: self.period / factor,
            arrival: self.arrival / factor,
            turn: self.turn / factor,
        }
    }
}

/// A webhook on GitHub's side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hook {
    id: u64,
    /// The repository or organisation that has it; `None` = a GitHub App.
    scope: Option<Scope>,
}

impl Hook {
    /// A webhook of a repository or organisation; of a GitHub App where `scope` is `None`.
    #[must_use]
    pub fn new(id: u64, scope: Option<Scope>) -> Self {
        Self { id, scope }
    }

    /// GitHub's number of it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Who has it; `None` = a GitHub App.
    #[must_use]
    pub fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// Whose hook a delivery came through: the headers say which kind (GitHub docs, "Delivery
    /// headers"), the body has the name. `None` for kinds whose deliveries cannot be listed
    /// (enterprises, marketplace).
    #[must_use]
    pub fn of(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            repository: Option<Repository>,
            organization: Option<Organisation>,
        }
        #[derive(Deserialize)]
        struct Repository {
            full_name: String,
        }
        #[derive(Deserialize)]
        struct Organisation {
            login: String,
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let id: u64 = text("x-github-hook-id")?.parse().ok()?;
        let body = || serde_json::from_slice::<Body>(body).ok();
        let scope = match text("x-github-hook-installation-target-type")? {
            "repository" => Some(body()?.repository?.full_name.parse().ok()?),
            "organization" => Some(body()?.organization?.login.parse().ok()?),
            // There is one, whatever number it is told under.
            "integration" => return Some(Self { id: 0, scope: None }),
            _ => return None,
        };
        Some(Self { id, scope })
    }

    /// What the ledger keeps of it.
    fn mark(&self) -> Option<Entry> {
        let value = serde_json::to_string(self).ok()?;
        Some(Entry::Mark { name: format!("{HOOKS}{}", self.id), value: Some(value) })
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Some(scope) => write!(f, "webhook {} of {scope}", self.id),
            None => write!(f, "the App's webhook"),
        }
    }
}

const HOOKS: &str = "webhook/";
const LOOKED: &str = "webhook-looked/";

/// Whether the same call would be refused again.
fn is_refusal(error: &PortError) -> bool {
    matches!(error.class, ErrorClass::Auth | ErrorClass::Invalid)
}

/// The news that a job which GitHub does not have any more is over.
fn vanished(job: &JobRecord, at: Time, ended_at: Time) -> JobNews {
    let (ended_at, conclusion) = (Some(ended_at), Some("gone".into()));
    let facts = JobFacts { ended_at, conclusion, ..JobFacts::default() };
    JobNews { key: job.key.clone(), word: JobWord::Done, at, facts }
}

/// Whether "no such job" ends a job. GitHub says so, too, to credentials that may not read the
/// repository, and for a moment of what it has just made; a job that waits would then never get a
/// runner, so it must be said twice, by a GitHub that has told of other jobs there.
fn is_gone(job: &JobRecord, readable: bool) -> bool {
    job.word == JobWord::Running || (readable && job.checks > 0)
}

/// Keeps what is known of jobs honest. To be spawned.
pub struct Repair {
    desk: Arc<Desk>,
    records: Arc<dyn Records>,
    clock: Arc<dyn Clock>,
    pace: Pace,
    hooks: Arc<Hooks>,
    /// Repositories of which some job could be looked up.
    readable: Mutex<BTreeSet<String>>,
}

impl Repair {
    /// `desk` is where news go, `records` who knows what was lost.
    #[must_use]
    pub fn new(
        desk: Arc<Desk>,
        records: Arc<dyn Records>,
        clock: Arc<dyn Clock>,
        pace: Pace,
    ) -> Self {
        let hooks = Arc::default();
        Self { desk, records, clock, pace, hooks, readable: Mutex::default() }
    }

    /// Asks GitHub about the hooks that these are heard of.
    #[must_use]
    pub fn hearing_of(self, hooks: Arc<Hooks>) -> Self {
        Self { hooks, ..self }
    }

    /// Looks for what webhooks have lost, now and on a period, until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let both = async { tokio::join!(self.deliveries(), self.jobs(), self.confirm()) };
        stop.run_until_cancelled(both).await;
    }

    /// The second net alone: for a daemon without webhooks whose queues tell of jobs that begin, and of
    /// none that ends.
    pub async fn run_jobs(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.jobs()).await;
    }

    async fn deliveries(&self) {
        let begun = self.clock.now();
        let (mut tries, mut silent) = (BTreeMap::new(), BTreeSet::new());
        let (mut failures, mut sure) = (0_u32, false);
        loop {
            let whole = self.look(&mut tries, &mut silent).await.unwrap_or_else(|error| {
                tracing::error!(%error, "deliveries cannot be looked through");
                false
            });
            failures = if whole { 0 } else { failures.saturating_add(1) };
            let since_start = (self.clock.now() - begun).to_std().unwrap_or_default();
            let next = after(Looks { failures, sure, since_start }, self.pace);
            if let Some(wait) = next.sure_in {
                tokio::time::sleep(wait).await;
                sure = true;
                self.desk.now_sure(Sure::Exact);
            }
            tokio::time::sleep(next.pause).await;
        }
    }

    /// Looks through the deliveries of every hook that is known. Whether all of it could be done; a
    /// hook that may not be looked through counts as none.
    async fn look(
        &self,
        tries: &mut Tries,
        silent: &mut BTreeSet<u64>,
    ) -> Result<bool, LedgerError> {
        let mut whole = true;
        for hook in self.kept().await? {
            match self.look_at(&hook, tries).await? {
                Ok(asked) => {
                    silent.remove(&hook.id);
                    if asked > 0 {
                        tracing::info!(%hook, asked, "lost deliveries are asked for again");
                    }
                }
                Err(error) if is_refusal(&error) => {
                    if silent.insert(hook.id) {
                        tracing::warn!(%hook, %error, "lost deliveries cannot be asked for again; jobs are looked up one by one instead");
                    }
                }
                Err(error) => {
                    tracing::warn!(%hook, %error, "lost deliveries are looked for again later");
                    whole = false;
                }
            }
        }
        Ok(whole)
    }

    async fn look_at(
        &self,
        hook: &Hook,
        tries: &mut Tries,
    ) -> Result<Result<usize, PortError>, LedgerError> {
        // GitHub's log is by its clock, and the next process goes on from here.
        let now = self.clock.wall();
        let mark = format!("{LOOKED}{}", hook.id);
        let last = self.desk.ledger().mark(&mark).await?;
        let last = last.and_then(|text| text.parse().ok());
        let since = since(last, now);
        let logged = match self.logged(hook, since).await {
            Ok(logged) => logged,
            Err(error) => return Ok(Err(error)),
        };
        let lost = lost(&logged, since, tries);
        let (asked, failed) = self.ask_again(hook, &lost, tries).await;
        // What left the window is never asked for again.
        let near: BTreeSet<_> = logged.iter().map(|delivery| delivery.guid.as_str()).collect();
        tries.retain(|guid, _| near.contains(guid.as_str()));
        match failed {
            // Where others of this hook were not refused, it is about that delivery.
            Some(error) if !(asked > 0 && is_refusal(&error)) => return Ok(Err(error)),
            _ => {}
        }
        let looked = Entry::Mark { name: mark, value: Some(now.to_rfc3339()) };
        self.desk.ledger().write(&[looked]).await?;
        Ok(Ok(asked))
    }

    /// Asks for deliveries again. How many, and what failed where something did; a refusal counts less
    /// than what may be tried again.
    async fn ask_again(
        &self,
        hook: &Hook,
        lost: &[(String, u64)],
        tries: &mut Tries,
    ) -> (usize, Option<PortError>) {
        let (mut asked, mut row, mut failed) = (0, Row::default(), None);
        for (guid, id) in lost {
            let error = match self.records.redeliver(hook, *id).await {
                Ok(()) => {
                    asked += 1;
                    row.answered();
                    tries.entry(guid.clone()).or_default().asked += 1;
                    continue;
                }
                Err(error) => error,
            };
            tracing::debug!(%hook, guid, %error, "a delivery is not asked for again");
            let enough = row.failed(error.class);
            if !matches!(error.class, ErrorClass::RateLimited { .. }) {
                tries.entry(guid.clone()).or_default().failed += 1;
            }
            if failed.as_ref().is_none_or(is_refusal) {
                failed = Some(error);
            }
            if enough {
                break;
            }
        }
        (asked, failed)
    }

    async fn logged(&self, hook: &Hook, since: Time) -> Result<Vec<Delivery>, PortError> {
        let mut logged = Vec::new();
        let mut cursor = None;
        for _ in 0..PAGES {
            let page = self.records.deliveries(hook, cursor.as_deref()).await?;
            let old = page.deliveries.last().is_some_and(|d| d.delivered_at < since);
            logged.extend(page.deliveries);
            cursor = page.next;
            if old || cursor.is_none() {
                break;
            }
        }
        Ok(logged)
    }

    async fn jobs(&self) {
        let turn = self.pace.turn;
        let mut purse = LookUps::of_jobs(self.clock.now());
        loop {
            let now = self.clock.now();
            let (due, next, more) = self.desk.book(|book| {
                let (due, next) = book.doubtful(now);
                let made = purse.made();
                let may = purse.take(due.len(), turn, now);
                let more = due.len() > may;
                (chosen(&due, may, made).into_iter().cloned().collect::<Vec<_>>(), next, more)
            });
            self.look_up_all(&due).await;
            let wait = next.and_then(|next| (next - now).to_std().ok()).filter(|_| !more);
            let wait = if more { turn } else { wait.unwrap_or(turn * 6) };
            tokio::time::sleep(wait.clamp(turn, turn * 6)).await;
        }
    }

    async fn look_up_all(&self, due: &[JobRecord]) {
        let mut row = Row::default();
        for job in due {
            let Err(error) = self.look_up(job).await else {
                row.answered();
                continue;
            };
            tracing::debug!(job = %job.key, %error, "a job is looked up again later");
            self.desk.unanswered(&job.key);
            if row.failed(error.class) {
                return;
            }
        }
    }

    /// Looks up at once what the book has doubts about.
    pub async fn look_up_doubtful(&self) {
        let now = self.clock.now();
        let due: Vec<_> =
            self.desk.book(|book| book.doubtful(now).0.into_iter().cloned().collect());
        self.look_up_all(&due).await;
    }

    async fn look_up(&self, job: &JobRecord) -> Result<(), PortError> {
        let (Some(id), Some(repository)) = (job.key.id(), &job.facts.repository) else {
            self.desk.checked(&job.key);
            return Ok(());
        };
        let readable = || self.readable.lock().unwrap_or_else(PoisonError::into_inner);
        let news = match self.records.job(repository, id).await {
            Ok(Some(news)) => {
                readable().insert(repository.to_ascii_lowercase());
                news
            }
            Ok(None) if is_gone(job, readable().contains(&repository.to_ascii_lowercase())) => {
                vanished(job, self.clock.now(), self.clock.wall())
            }
            Ok(None) => {
                self.desk.checked(&job.key);
                return Ok(());
            }
            Err(error) if is_refusal(&error) => {
                tracing::debug!(job = %job.key, %error, "a job cannot be looked up");
                self.desk.checked(&job.key);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let said = news.word;
        if said > job.word {
            tracing::info!(job = %job.key, was = job.word.as_str(), is = said.as_str(), "what nobody told");
        }
        // The disk has said why in the log; the job stays doubtful.
        if self.desk.hear(vec![news]).await.is_ok() {
            self.desk.checked(&job.key);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "repair/tests.rs"]
mod tests;
