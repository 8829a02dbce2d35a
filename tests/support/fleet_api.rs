//! A fleet that only remembers what it was asked, behind the real router.

use std::sync::{Arc, Mutex, OnceLock};

use axum::body::Body;
use chrono::{TimeZone, Utc};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use runner_fleet::{
    demand::desk::Desk,
    http::{
        Control, Refusal,
        api::{FleetInfo, Readiness, Reload},
        router,
    },
};
use runner_fleet_actors::{
    event::{Counts, Job, Phase, PoolSnapshot, ReadModel, RunnerSnapshot},
    name::{PoolName, RunnerName, VmId},
    port::{PortStatus, Secret, Time},
};
use serde_json::Value;
use tower::ServiceExt;

/// An order that arrived.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    Target(PoolName, Option<u32>),
    Drain(RunnerName),
    Delete(RunnerName, bool),
    Flush(PoolName),
    Reconcile,
    Reload,
}

#[derive(Default)]
pub struct FakeControl {
    model: ReadModel,
    asked: Mutex<Vec<Asked>>,
    refusal: Mutex<Option<Refusal>>,
    ready: Mutex<bool>,
    desk: OnceLock<Arc<Desk>>,
}

pub fn then() -> Time {
    Utc.timestamp_opt(1_718_000_000, 0).unwrap()
}

pub fn pool(name: &str, max: u32) -> PoolSnapshot {
    PoolSnapshot {
        name: name.parse().unwrap(),
        scope: "o/r".parse().unwrap(),
        provider: "east".into(),
        min: 0,
        spare: 1,
        max,
        target: 2,
        target_because: "1 busy and 1 spare".into(),
        target_override: None,
        demand_unknown: false,
        counts: Counts { idle: 1, busy: 1, ..Counts::default() },
        because: vec!["nothing to do".into()],
        holds: Vec::new(),
        boots: None,
        late: 0,
        habits: runner_fleet_actors::pool::Habits::default(),
        cloud_seen_at: Some(then()),
        forge_seen_at: Some(then()),
        forge_shows_from: None,
        absence_awaited: false,
        retiring: false,
    }
}

pub fn runner(name: &str, state: Phase) -> RunnerSnapshot {
    let name: RunnerName = name.parse().unwrap();
    RunnerSnapshot {
        pool: name.pool(),
        name,
        state,
        since: then(),
        created_at: then(),
        why: "seen online".into(),
        last_error: None,
        vm_id: Some(VmId("vm-1".into())),
        registration_id: None,
        job: (state == Phase::Busy)
            .then(|| Job { repository: Some("o/r".into()), ..Job::default() }),
        step: None,
        step_since: None,
        tries: 0,
        task: None,
        deadline: None,
        shape: None,
        version: None,
    }
}

impl FakeControl {
    pub fn with_pools() -> Self {
        let control = Self::default();
        for pool in [pool("small", 10), pool("large", 40)] {
            control.model.pools.insert(pool.name.clone(), pool);
        }
        let runners =
            [(Fleet::OTHER, Phase::Idle), (Fleet::BUSY, Phase::Busy), (Fleet::IDLE, Phase::Idle)];
        for (name, state) in runners {
            control.model.runners.insert(name.parse().unwrap(), runner(name, state));
        }
        let port = PortStatus { remaining: Some(4000), ..PortStatus::default() };
        control.model.ports.insert("github".into(), port);
        control
    }

    fn take(&self, asked: Asked) -> Result<(), Refusal> {
        if let Some(refusal) = self.refusal.lock().unwrap().take() {
            return Err(refusal);
        }
        self.asked.lock().unwrap().push(asked);
        Ok(())
    }

    /// What was asked since the last look.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    pub fn refuse_with(&self, refusal: Refusal) {
        *self.refusal.lock().unwrap() = Some(refusal);
    }

    /// From now on it keeps jobs.
    pub fn keep_jobs(&self, desk: Arc<Desk>) {
        assert!(self.desk.set(desk).is_ok(), "it has a desk");
    }

    pub fn become_ready(&self) {
        *self.ready.lock().unwrap() = true;
    }
}

#[async_trait::async_trait]
impl Control for FakeControl {
    fn model(&self) -> &ReadModel {
        &self.model
    }
    fn desk(&self) -> Option<&Desk> {
        self.desk.get().map(Arc::as_ref)
    }
    fn fleet(&self) -> FleetInfo {
        FleetInfo {
            id: "ci".parse().unwrap(),
            version: "1.2.3".into(),
            started_at: then(),
            last_reload: Some(Reload { at: then(), ok: true, what: "nothing changed".into() }),
            notes: Vec::new(),
        }
    }
    fn readiness(&self) -> Readiness {
        if *self.ready.lock().unwrap() {
            return Readiness { ready: true, ..Readiness::default() };
        }
        Readiness {
            ready: false,
            reasons: vec!["provider east: held".into()],
            attention: Vec::new(),
        }
    }
    async fn set_target(&self, pool: &PoolName, runners: Option<u32>) -> Result<(), Refusal> {
        self.take(Asked::Target(pool.clone(), runners))
    }
    async fn drain(&self, runner: &RunnerName) -> Result<(), Refusal> {
        self.take(Asked::Drain(runner.clone()))
    }
    async fn delete(&self, runner: &RunnerName, force: bool) -> Result<(), Refusal> {
        self.take(Asked::Delete(runner.clone(), force))
    }
    async fn flush(&self, pool: &PoolName) -> Result<u32, Refusal> {
        self.take(Asked::Flush(pool.clone())).map(|()| 1)
    }
    async fn reconcile(&self) -> Result<(), Refusal> {
        self.take(Asked::Reconcile)
    }
    async fn reload(&self) -> Result<String, Refusal> {
        self.take(Asked::Reload).map(|()| "pool large changed".into())
    }
}

/// The API over a fake control, called without a wire.
pub struct Fleet {
    pub control: Arc<FakeControl>,
    token: Option<Secret>,
}

impl Fleet {
    pub const IDLE: &str = "ci--large--00000000000a";
    pub const BUSY: &str = "ci--large--00000000000b";
    pub const OTHER: &str = "ci--small--00000000000c";

    pub fn new() -> Self {
        Self { control: Arc::new(FakeControl::with_pools()), token: None }
    }

    pub fn with_token(token: &str) -> Self {
        Self { token: Some(Secret::new(token)), ..Self::new() }
    }

    pub async fn send(&self, request: Request<Body>) -> http::Response<Body> {
        let router = router(self.control.clone(), self.token.as_ref());
        router.oneshot(request).await.unwrap()
    }

    pub async fn call(&self, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
        let request =
            Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
        let response = self.send(request).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, "").await
    }

    /// The detail of a refusal, which is a problem document and reached nobody.
    pub async fn refused(&self, method: Method, path: &str, body: &str, status: u16) -> String {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = self.send(request).await;
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let problem: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(problem["status"], status, "{path}");
        assert_eq!(self.control.asked(), [], "{method} {path} changed something");
        problem["detail"].as_str().unwrap().to_owned()
    }
}
