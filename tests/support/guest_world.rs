//! The outside of a guest, served to real containers: a daemon's guest protocol and a GitHub's jobs.
//!
//! Both are as small as they can be and both keep the truth of what happened, so that a test can
//! ask whether a job was lost. The fake GitHub of the library is not used: a guest's tests must not
//! fail because of it.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// A job's life, as the GitHub of this world saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    Assigned,
    Acquired,
    Completed,
    Cancelled,
}

#[derive(Debug, Clone)]
pub struct Job {
    pub runner: String,
    pub runs_for: f64,
    pub state: JobState,
    pub renewed: Option<tokio::time::Instant>,
}

#[derive(Default)]
pub struct Known {
    /// Reports as they came, by runner.
    pub reports: BTreeMap<String, Vec<Value>>,
    /// Answers as they came: runner, number, answer.
    pub answers: Vec<(String, u64, String)>,
    /// The newest order of each runner.
    orders: BTreeMap<String, (u64, String)>,
    /// Polls that are open or were opened, by runner.
    pub polls: BTreeMap<String, u64>,
    /// Whether answers are refused as withdrawn.
    pub withdrawn: bool,
    /// What the daemon answers instead of taking anything.
    pub away: Option<u16>,
    /// Calls without the runner's token.
    pub strangers: u64,
    pub jobs: BTreeMap<u64, Job>,
    waiting: BTreeMap<String, VecDeque<u64>>,
    /// Runners whose registration is gone.
    pub gone: Vec<String>,
    /// Runners online now.
    pub online: BTreeMap<String, u64>,
    number: u64,
}

/// Serves, and knows.
#[derive(Clone)]
pub struct World {
    known: Arc<Mutex<Known>>,
    bell: Arc<Notify>,
    archive: Arc<Vec<u8>>,
    pub address: SocketAddr,
}

pub fn token(runner: &str) -> String {
    format!("token-of-{runner}")
}

/// A JIT config in GitHub's form.
pub fn jit_config(runner: &str) -> String {
    let inner = |value: Value| BASE64.encode(value.to_string());
    let files = json!({
        ".runner": inner(json!({"AgentId": 1, "AgentName": runner, "Ephemeral": true})),
        ".credentials": inner(json!({"Scheme": "OAuth", "Data": {"ClientId": runner}})),
    });
    inner(files)
}

fn runner_of(config: &str) -> Option<String> {
    let open =
        |text: &str| -> Option<Value> { serde_json::from_slice(&BASE64.decode(text).ok()?).ok() };
    let runner = open(open(config)?.get(".runner")?.as_str()?)?;
    Some(runner.get("AgentName")?.as_str()?.to_owned())
}

impl World {
    /// Listens on `host` and hands out `archive` as the runner application.
    pub async fn start(host: &str, archive: Vec<u8>) -> Self {
        let listener = tokio::net::TcpListener::bind((host, 0)).await.unwrap();
        let world = Self {
            known: Arc::default(),
            bell: Arc::default(),
            archive: Arc::new(archive),
            address: listener.local_addr().unwrap(),
        };
        let routes = Router::new()
            .route("/v1/guest/{runner}/reports", post(reports))
            .route("/v1/guest/{runner}/orders", get(orders))
            .route("/v1/guest/{runner}/answers", post(answers))
            .route("/_jobs/connect", post(connect))
            .route("/_jobs/message", get(message))
            .route("/_jobs/acquire", post(acquire))
            .route("/_jobs/renew", post(renew))
            .route("/_jobs/complete", post(complete))
            .route("/_jobs/disconnect", post(disconnect))
            .route("/application.tar.gz", get(application))
            .with_state(world.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        world
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// Gives `runner` a job; it is assigned when its listener next asks.
    pub fn queue(&self, runner: &str, runs_for: f64) -> u64 {
        let mut known = self.known();
        let id = 1 + known.jobs.len() as u64;
        let (runner, state) = (runner.to_owned(), JobState::Assigned);
        known.waiting.entry(runner.clone()).or_default().push_back(id);
        known.jobs.insert(id, Job { runner, runs_for, state, renewed: None });
        drop(known);
        self.bell.notify_waiters();
        id
    }

    /// A job that nobody has acquired goes to a runner of somebody else.
    pub fn take_back(&self, job: u64) {
        let mut known = self.known();
        let Job { runner, state, .. } = known.jobs[&job].clone();
        if state != JobState::Assigned || runner.is_empty() {
            return;
        }
        known.waiting.get_mut(&runner).unwrap().retain(|one| *one != job);
        known.jobs.get_mut(&job).unwrap().runner.clear();
    }

    /// Orders `word` of `runner`; returns the order's number.
    pub fn order(&self, runner: &str, word: &str) -> u64 {
        let mut known = self.known();
        known.number += 1;
        let number = known.number;
        known.orders.insert(runner.to_owned(), (number, word.to_owned()));
        drop(known);
        self.bell.notify_waiters();
        number
    }

    /// The registration of `runner` is gone from now on.
    pub fn deregister(&self, runner: &str) {
        self.known().gone.push(runner.to_owned());
        self.bell.notify_waiters();
    }

    /// The reports' words that `runner` sent, in order, each once.
    pub fn words(&self, runner: &str) -> Vec<String> {
        let known = self.known();
        let mut words: Vec<String> = Vec::new();
        for report in known.reports.get(runner).into_iter().flatten() {
            let word = report["report"].as_str().unwrap().to_owned();
            if !words.contains(&word) {
                words.push(word);
            }
        }
        words
    }

    /// The last report `word` of `runner`.
    pub fn report(&self, runner: &str, word: &str) -> Option<Value> {
        let known = self.known();
        known.reports.get(runner)?.iter().rev().find(|one| one["report"] == word).cloned()
    }

    /// Waits until `test` holds, at most `limit`.
    pub async fn until(
        &self,
        limit: Duration,
        what: &str,
        mut test: impl FnMut(&mut Known) -> bool,
    ) {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let rung = self.bell.notified();
            if test(&mut self.known()) {
                return;
            }
            let nap = Duration::from_millis(50);
            assert!(tokio::time::Instant::now() < deadline, "not within {limit:?}: {what}");
            let _ = tokio::time::timeout(nap, rung).await;
        }
    }

    /// Waits for the answer to order `number`, at most `limit`; `None` where there was none.
    pub async fn answer(&self, number: u64, limit: Duration) -> Option<String> {
        let deadline = tokio::time::Instant::now() + limit;
        while tokio::time::Instant::now() < deadline {
            let rung = self.bell.notified();
            let found = self.known().answers.iter().find(|one| one.1 == number).cloned();
            if let Some((_, _, answer)) = found {
                return Some(answer);
            }
            let _ = tokio::time::timeout(Duration::from_millis(50), rung).await;
        }
        None
    }

    /// The daemon's answer to a call of `runner` that it does not take.
    fn refusal(&self, runner: &str, headers: &HeaderMap) -> Option<Response> {
        let mut known = self.known();
        let wanted = format!("Bearer {}", token(runner));
        if headers.get("authorization").and_then(|value| value.to_str().ok()) != Some(&wanted) {
            known.strangers += 1;
            return Some(StatusCode::FORBIDDEN.into_response());
        }
        known.away.map(|status| StatusCode::from_u16(status).unwrap().into_response())
    }
}

async fn reports(
    State(world): State<World>,
    Path(runner): Path<String>,
    headers: HeaderMap,
    Json(report): Json<Value>,
) -> Response {
    if let Some(refusal) = world.refusal(&runner, &headers) {
        return refusal;
    }
    world.known().reports.entry(runner).or_default().push(report);
    world.bell.notify_waiters();
    StatusCode::NO_CONTENT.into_response()
}

async fn orders(
    State(world): State<World>,
    Path(runner): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = world.refusal(&runner, &headers) {
        return refusal;
    }
    *world.known().polls.entry(runner.clone()).or_default() += 1;
    let after: u64 = query["after"].parse().unwrap();
    let wait = Duration::from_secs(query["wait"].parse().unwrap());
    let newer = async {
        loop {
            let rung = world.bell.notified();
            let newest = world.known().orders.get(&runner).cloned();
            if let Some((number, order)) = newest.filter(|(number, _)| *number > after) {
                return Json(json!({"number": number, "order": order}));
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), rung).await;
        }
    };
    match tokio::time::timeout(wait, newer).await {
        Ok(order) => order.into_response(),
        Err(_) => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn answers(
    State(world): State<World>,
    Path(runner): Path<String>,
    headers: HeaderMap,
    Json(answer): Json<Value>,
) -> Response {
    if let Some(refusal) = world.refusal(&runner, &headers) {
        return refusal;
    }
    let mut known = world.known();
    let number = answer["number"].as_u64().unwrap();
    let newest = known.orders.get(&runner).is_some_and(|(newest, _)| *newest == number);
    if known.withdrawn || !newest {
        return StatusCode::CONFLICT.into_response();
    }
    let answer = answer["answer"].as_str().unwrap().to_owned();
    known.answers.push((runner, number, answer));
    drop(known);
    world.bell.notify_waiters();
    StatusCode::NO_CONTENT.into_response()
}

async fn connect(State(world): State<World>, Json(body): Json<Value>) -> Response {
    let Some(runner) = runner_of(body["jit_config"].as_str().unwrap_or_default()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut known = world.known();
    if known.gone.contains(&runner) {
        return StatusCode::NOT_FOUND.into_response();
    }
    *known.online.entry(runner.clone()).or_default() += 1;
    drop(known);
    world.bell.notify_waiters();
    Json(json!({"session": runner})).into_response()
}

async fn message(
    State(world): State<World>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let runner = query["session"].clone();
    let wait = Duration::from_secs(query["wait"].parse().unwrap());
    let next = async {
        loop {
            let rung = world.bell.notified();
            {
                let known = world.known();
                if known.gone.contains(&runner) {
                    return StatusCode::GONE.into_response();
                }
                if let Some(id) = known.waiting.get(&runner).and_then(|jobs| jobs.front()) {
                    return Json(json!({
                        "job": id, "runs_for": known.jobs[id].runs_for, "repository": "o/r",
                        "workflow": "CI \"quoted\" 'twice' $(reboot) \u{1F600}",
                        "run_id": 123, "event": "push",
                    }))
                    .into_response();
                }
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), rung).await;
        }
    };
    match tokio::time::timeout(wait, next).await {
        Ok(answer) => answer,
        Err(_) => StatusCode::NO_CONTENT.into_response(),
    }
}

/// The job of a call, if it is this runner's and still there.
fn job_of(known: &Known, body: &Value) -> Option<(u64, JobState)> {
    let id = body["job"].as_u64()?;
    let job = known.jobs.get(&id)?;
    (body["session"] == job.runner.as_str()).then_some((id, job.state))
}

async fn acquire(State(world): State<World>, Json(body): Json<Value>) -> Response {
    let mut known = world.known();
    let answer = match job_of(&known, &body) {
        Some((id, JobState::Assigned)) if !known.gone.iter().any(|one| body["session"] == *one) => {
            let runner = body["session"].as_str().unwrap();
            known.waiting.get_mut(runner).unwrap().retain(|one| *one != id);
            known.jobs.get_mut(&id).unwrap().state = JobState::Acquired;
            StatusCode::OK
        }
        _ => StatusCode::CONFLICT,
    };
    drop(known);
    world.bell.notify_waiters();
    answer.into_response()
}

async fn renew(State(world): State<World>, Json(body): Json<Value>) -> Response {
    let mut known = world.known();
    match job_of(&known, &body) {
        Some((id, JobState::Acquired)) => {
            let cancelled = known.gone.iter().any(|one| body["session"] == *one);
            let job = known.jobs.get_mut(&id).unwrap();
            if cancelled {
                job.state = JobState::Cancelled;
                return StatusCode::GONE.into_response();
            }
            job.renewed = Some(tokio::time::Instant::now());
            Json(json!({})).into_response()
        }
        _ => StatusCode::GONE.into_response(),
    }
}

async fn complete(State(world): State<World>, Json(body): Json<Value>) -> StatusCode {
    let mut known = world.known();
    if let Some((id, JobState::Acquired)) = job_of(&known, &body) {
        known.jobs.get_mut(&id).unwrap().state = JobState::Completed;
    }
    drop(known);
    world.bell.notify_waiters();
    StatusCode::NO_CONTENT
}

async fn disconnect(State(world): State<World>, Json(body): Json<Value>) -> StatusCode {
    let session = body["session"].as_str().unwrap().to_owned();
    world.known().online.remove(&session);
    StatusCode::NO_CONTENT
}

async fn application(State(world): State<World>) -> Bytes {
    Bytes::from(world.archive.as_ref().clone())
}
