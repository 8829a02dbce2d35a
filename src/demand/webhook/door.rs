//! `POST /webhooks/github`: where GitHub's deliveries arrive.
//!
//! The order of things is the point: bounds, signature, then the body, then the disk, then the answer.
//! A 2xx says "known for good"; whatever is not, GitHub lists as failed, and [repair] asks for it again.
//! An event that says nothing about demand is answered with 202, so that a hook that sends everything
//! does no harm.
//!
//! [repair]: super::repair

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State, rejection::BytesRejection},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderMap, Method, StatusCode};
use runner_fleet_actors::{
    event::{Job, JobEnd},
    foreign::Words,
    job::{
        JobNews, JobRecord, JobWord, concerns,
        speech::{Numbers, Word},
    },
    name::PoolName,
    port::{Clock, Time},
};
use serde::Serialize;

use super::{
    faults::{Blame, Blames},
    hooks::Hooks,
    payload::{self, Said},
    repair::Hook,
    signature::Secrets,
    unsigned,
};
use crate::{
    demand::{JobEars, desk::Desk, ledger::Entry},
    http::{api::Problem, server::Explained},
    log::noise::{Noise, quoted},
};

/// Largest delivery that is read. One about a job holds the job with its steps and labels, its
/// repository, its organisation, its enterprise and its sender: 7 to 11 KB in GitHub's own examples
/// (`tests/data/webhooks`), 20 to 30 KB as operators see them. A step has some 200 bytes there, so
/// that a thousand steps and a thousand labels more have room, also form-encoded, where these examples grow by
/// 40 %. GitHub caps payloads at 25 MB ("Webhook events and payloads"); what is as large is about
/// something else, such as a push, and no demand is lost with it.
pub const BODY_MAX: usize = 1024 * 1024;

/// What the door needs.
pub struct Door {
    /// Where news go.
    pub desk: Arc<Desk>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    ears: OnceLock<Arc<dyn JobEars>>,
    secrets: RwLock<Secrets>,
    hooks: Arc<Hooks>,
    counts: Counts,
    numbers: Mutex<Numbers>,
    blames: Blames,
    unsigned: Noise,
    wrong: Noise,
    unkept: Noise,
}

#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU64,
    repeated: AtomicU64,
    foreign: AtomicU64,
    ignored: AtomicU64,
    refused: AtomicU64,
    unproven: AtomicU64,
    /// Milliseconds since 1970; 0 = never.
    last_at: AtomicU64,
}

/// What the door has seen, for the status page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct DoorStatus {
    /// News of jobs that were taken.
    pub taken: u64,
    /// Deliveries that had been taken before.
    pub repeated: u64,
    /// News of jobs that are for GitHub's own machines, or of repositories outside of all pools' scopes.
    pub foreign: u64,
    /// Words about runners of this fleet that were not believed: from a repository outside of the
    /// pool's scope, or about another registration of that name.
    #[serde(default)]
    pub unproven: u64,
    /// Pools whose runners webhooks name by numbers of another kind than their registrations have.
    #[serde(default)]
    pub other_numbers: Vec<PoolName>,
    /// Deliveries of other events, pings among them.
    pub ignored: u64,
    /// Deliveries that were refused: no good signature, not readable, not kept.
    pub refused: u64,
    /// When the last one with a good signature came.
    pub last_at: Option<Time>,
    /// Deliveries that were refused though their signature was good, by what was wrong with them.
    #[serde(default)]
    pub faults: BTreeMap<String, u64>,
    /// What was wrong with the last of them.
    #[serde(default)]
    pub last_fault: Option<Words>,
}

impl Door {
    /// A door to `desk` for whoever knows one of `secrets`.
    #[must_use]
    pub fn new(desk: Arc<Desk>, secrets: Secrets, clock: Arc<dyn Clock>) -> Self {
        Self {
            desk,
            clock,
            ears: OnceLock::new(),
            secrets: RwLock::new(secrets),
            hooks: Arc::default(),
            counts: Counts::default(),
            numbers: Mutex::default(),
            blames: Blames::default(),
            unsigned: Noise::new("webhooks", "deliveries without a signature"),
            wrong: Noise::new("webhooks", "deliveries with a wrong signature"),
            unkept: Noise::new("webhooks", "deliveries that cannot be kept"),
        }
    }

    /// From now on these are told what runners of the fleet do. The first to call this stays.
    pub fn listen_for(&self, ears: Arc<dyn JobEars>) {
        if self.ears.set(ears).is_err() {
            tracing::debug!("somebody hears of jobs already");
        }
    }

    /// Whether what news say of a runner is about one of this fleet's.
    fn judge(&self, news: &JobNews) -> Word {
        let runner = news.facts.runner.as_deref().and_then(|name| name.parse().ok());
        let (Some(ears), Some(runner)) = (self.ears.get(), runner) else { return Word::NotOurs };
        let known = ears.registration(&runner);
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let before = numbers.of_two_kinds().count();
        let word = self.desk.serves(|pools| numbers.judge(&runner, &news.facts, pools, known));
        if numbers.of_two_kinds().count() > before {
            tracing::warn!(
                pool = %runner.pool(),
                "webhooks name this pool's runners by other numbers than their registrations have; \
                 they are believed by repository, name and labels"
            );
        }
        drop(numbers);
        if matches!(word, Word::OutOfScope | Word::OtherRunner) {
            let earlier = self.counts.unproven.fetch_add(1, Ordering::Relaxed);
            let (repository, number) = (news.facts.repository.as_deref(), news.facts.runner_id);
            if earlier == 0 {
                tracing::warn!(
                    %runner, repository, ?number, ?word,
                    "a webhook names a runner of this fleet and is not believed; further ones are \
                     counted in the status"
                );
            } else {
                tracing::debug!(%runner, repository, ?number, ?word, "a webhook is not believed");
            }
        }
        word
    }

    /// Tells what a runner does, where that was judged to be about one of this fleet's.
    fn tell(&self, news: &JobNews, word: Word) {
        let runner = news.facts.runner.as_deref().and_then(|name| name.parse().ok());
        let (Some(ears), Some(runner)) = (self.ears.get(), runner) else { return };
        let Word::Ours(number) = word else { return };
        let facts = news.facts.clone();
        match news.word {
            JobWord::Running => ears.job_started(
                &runner,
                number,
                Job {
                    id: news.key.id(),
                    repository: facts.repository,
                    workflow: facts.workflow,
                    event: facts.event,
                    run_id: facts.run_id,
                },
            ),
            JobWord::Done => {
                let end = JobEnd { conclusion: facts.conclusion, exit_code: None };
                ears.job_ended(&runner, number, end);
            }
            JobWord::Blocked | JobWord::Queued => {}
        }
    }

    /// The hooks that deliveries were told to come through.
    #[must_use]
    pub fn hooks(&self) -> &Arc<Hooks> {
        &self.hooks
    }

    /// Other secrets from now on.
    pub fn renew(&self, secrets: Secrets) {
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = secrets;
    }

    /// What it has seen.
    #[must_use]
    pub fn status(&self) -> DoorStatus {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let last = i64::try_from(count(&self.counts.last_at)).ok().filter(|last| *last > 0);
        DoorStatus {
            taken: count(&self.counts.taken),
            repeated: count(&self.counts.repeated),
            foreign: count(&self.counts.foreign),
            unproven: count(&self.counts.unproven),
            other_numbers: {
                let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
                numbers.of_two_kinds().cloned().collect()
            },
            ignored: count(&self.counts.ignored),
            refused: count(&self.counts.refused),
            last_at: last.and_then(Time::from_timestamp_millis),
            faults: self.blames.counted(),
            last_fault: self.blames.last(),
        }
    }

    /// A delivery is refused unread. `given`: it has a signature that is none.
    pub(super) fn unsigned(&self, given: bool) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        self.unsigned.say(|and| {
            tracing::info!(
                malformed = given,
                and,
                "a webhook delivery without a signature is refused; has the webhook on github a secret?"
            );
        });
    }

    fn signed(&self, signature: &str, body: &[u8]) -> bool {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).sign(signature, body)
    }
}

/// Everything that GitHub may call, and nothing else. A call may take `patience`, its body's arrival
/// included; GitHub itself waits ten seconds.
pub fn router(door: Arc<Door>, patience: Duration) -> Router {
    let unsigned = from_fn_with_state(Arc::clone(&door), unsigned::refuse);
    Router::new()
        .route("/webhooks/github", post(deliver).route_layer(unsigned))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(door)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn_with_state(patience, in_time))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|text| !text.is_empty())
}

async fn deliver(
    State(door): State<Arc<Door>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let answer = take(&door, &headers, body).await;
    match answer {
        Ok(status) => status.into_response(),
        Err(problem) => {
            door.counts.refused.fetch_add(1, Ordering::Relaxed);
            let mut response = problem.into_response();
            response.extensions_mut().insert(Explained);
            response
        }
    }
}

async fn take(
    door: &Door,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a delivery may have {BODY_MAX} bytes; those about one job have some 20,000"),
        ),
        _ => Problem::new(StatusCode::BAD_REQUEST, "the body did not arrive whole"),
    })?;
    let signature = text(headers, "x-hub-signature-256").ok_or_else(|| {
        let detail = "the delivery has no X-Hub-Signature-256: give the webhook on GitHub the secret \
                      that this daemon has";
        Problem::new(StatusCode::UNAUTHORIZED, detail)
    })?;
    if !door.signed(signature, &body) {
        let hook = text(headers, "x-github-hook-id").map(quoted);
        door.wrong.say(|and| {
            tracing::warn!(
                hook,
                and,
                "a webhook delivery with a wrong signature is refused; do GitHub's secret and the configured one agree?"
            );
        });
        let detail = "the signature is wrong: the webhook's secret on GitHub is not one that this \
                      daemon has";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let missing = |name: &str| {
        let detail = format!("the delivery has no {name}, which GitHub sends with every one");
        door.blames.blame(Blame::Headers, &detail);
        Problem::new(StatusCode::BAD_REQUEST, detail)
    };
    let event = text(headers, "x-github-event").ok_or_else(|| missing("X-GitHub-Event"))?;
    let delivery = text(headers, "x-github-delivery")
        .filter(|id| id.len() <= 100)
        .ok_or_else(|| missing("X-GitHub-Delivery"))?;
    let now = door.clock.now();
    let millis = u64::try_from(door.clock.wall().timestamp_millis()).unwrap_or_default();
    door.counts.last_at.store(millis, Ordering::Relaxed);
    let unreadable = |why: payload::Unreadable| {
        door.blames.blame(Blame::Unreadable, &format!("delivery {delivery} of {event}: {why}"));
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why.to_string())
    };
    let body = payload::json(text(headers, "content-type"), &body).map_err(unreadable)?;
    let said = payload::read(event, &body, now).map_err(unreadable)?;
    let news = match said {
        Said::Job(mut news) => {
            let word = door.judge(&news);
            if matches!(word, Word::OutOfScope | Word::OtherRunner) {
                // It runs on a namesake; the books must not take that for the one that is known here.
                news.facts.runner = None;
            }
            Some((*news, word))
        }
        Said::Ping => None,
        Said::Nothing => {
            door.counts.ignored.fetch_add(1, Ordering::Relaxed);
            return Ok(StatusCode::ACCEPTED);
        }
    };
    let taken = keep(door, news, delivery).await?;
    if let Some(hook) = Hook::of(headers, &body) {
        door.hooks.heard(hook);
    }
    Ok(taken)
}

async fn keep(
    door: &Door,
    news: Option<(JobNews, Word)>,
    delivery: &str,
) -> Result<StatusCode, Problem> {
    let unkept = |error: crate::demand::ledger::LedgerError| {
        // Said in the log when it began, and in the status while it lasts.
        door.unkept.say(|and| {
            tracing::debug!(%error, and, "a delivery cannot be kept; github will be asked for it again");
        });
        let detail = "the delivery cannot be kept now; it will be asked for again";
        door.blames.count(Blame::NotKept, detail);
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    };
    let desk = &door.desk;
    let repeated = desk.ledger().took(delivery).await.map_err(unkept)?;
    let counted = if repeated {
        &door.counts.repeated
    } else if news.is_none() {
        &door.counts.ignored
    } else {
        &door.counts.taken
    };
    let known = |news: &JobNews| {
        let same = |job: &JobRecord| !job.facts.is_of_another_repository(&news.facts);
        desk.book(|book| book.get(&news.key).is_some_and(same))
    };
    let ours = |news: &JobNews| known(news) || desk.serves(|pools| concerns(&news.facts, pools));
    let foreign = news.as_ref().is_some_and(|(news, _)| !ours(news));
    let at = door.clock.wall();
    let with = vec![Entry::Delivery { id: delivery.to_owned(), at }];
    let told =
        news.iter().filter(|_| !foreign && !repeated).map(|(news, _)| news.clone()).collect();
    desk.hear_with(told, with).await.map_err(unkept)?;
    if let Some((news, word)) = news.as_ref().filter(|_| !repeated) {
        // After the desk, for the reason that is told there.
        door.tell(news, *word);
    }
    let counted = if foreign && !repeated { &door.counts.foreign } else { counted };
    counted.fetch_add(1, Ordering::Relaxed);
    Ok(StatusCode::OK)
}

async fn in_time(State(patience): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(patience, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail =
                "the delivery took too long to arrive or to be kept; it will be asked for again";
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response()
        }
    }
}

async fn no_such_path(request: Request) -> Problem {
    let detail = format!("there is no {}; deliveries go to /webhooks/github", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, detail)
}

async fn no_such_method(method: Method, request: Request) -> Problem {
    let detail = format!("{method} is not possible on {}; POST is", request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
