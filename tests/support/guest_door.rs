//! The door that guests speak through, over real sockets: the daemon's side and a guest's.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use runner_fleet::home::{
    BODY_MAX, Bounds, Deaf, Ears, GuestKey, Home, Hub, Serving, Standing, Tls, Told, serve,
};
use runner_fleet_actors::name::RunnerName;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub const SOON: Duration = Duration::from_secs(20);

pub fn name(token: u64) -> RunnerName {
    format!("ci--small--{token:012x}").parse().unwrap()
}

/// Knows some runners, and notes what they say.
pub struct FakeEars {
    pub known: Mutex<BTreeSet<RunnerName>>,
    pub away: Mutex<bool>,
    /// Nothing was listed since the start.
    pub unlisted: Mutex<bool>,
    pub told: mpsc::UnboundedSender<(RunnerName, Told)>,
    pub logs: Mutex<Vec<(RunnerName, String)>>,
}

#[async_trait::async_trait]
impl Ears for FakeEars {
    fn standing(&self, runner: &RunnerName) -> Standing {
        match self.known.lock().unwrap().contains(runner) {
            true => Standing::Alive,
            false if *self.unlisted.lock().unwrap() => Standing::Unlisted,
            false => Standing::Gone,
        }
    }

    async fn tell(&self, runner: &RunnerName, told: Told) -> Result<(), Deaf> {
        if *self.away.lock().unwrap() {
            return Err(Deaf::Away);
        }
        self.told.send((runner.clone(), told)).unwrap();
        Ok(())
    }

    fn log(&self, runner: &RunnerName, lines: String) {
        self.logs.lock().unwrap().push((runner.clone(), lines));
    }
}

/// The daemon's side.
pub struct Door {
    pub state: tempfile::TempDir,
    pub ears: Arc<FakeEars>,
    pub told: mpsc::UnboundedReceiver<(RunnerName, Told)>,
    pub hub: Arc<Hub>,
    pub stop: CancellationToken,
    pub serving: Serving,
}

impl Door {
    pub async fn open() -> Self {
        Self::open_with(tempfile::tempdir().unwrap(), None, Bounds::guests(BODY_MAX)).await
    }

    pub async fn open_with(
        state: tempfile::TempDir,
        tls: Option<Arc<Tls>>,
        bounds: Bounds,
    ) -> Self {
        let (noted, told) = mpsc::unbounded_channel();
        let ears = Arc::new(FakeEars {
            known: Mutex::new([name(1), name(2)].into()),
            away: Mutex::default(),
            unlisted: Mutex::default(),
            told: noted,
            logs: Mutex::default(),
        });
        let (hub, stop) = (Arc::new(Hub::default()), CancellationToken::new());
        let home = Home {
            key: GuestKey::open(state.path()).unwrap(),
            hub: Arc::clone(&hub),
            ears: Arc::clone(&ears) as Arc<dyn Ears>,
            stop: stop.clone(),
        };
        let address = "127.0.0.1:0".parse().unwrap();
        let serving = serve(address, tls, Arc::new(home), bounds).await.unwrap();
        Self { state, ears, told, hub, stop, serving }
    }

    pub async fn close(self) -> tempfile::TempDir {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.serving.task).await.expect("it stops").unwrap();
        self.state
    }

    pub fn guest(&self, token: u64) -> Guest {
        let runner = name(token);
        let key = GuestKey::open(self.state.path()).unwrap();
        Guest {
            base: format!("http://{}/v1/guest", self.serving.address),
            token: key.token(&runner).expose().to_owned(),
            runner,
            http: reqwest::Client::new(),
        }
    }

    pub async fn heard(&mut self) -> (RunnerName, Told) {
        tokio::time::timeout(SOON, self.told.recv()).await.expect("told").unwrap()
    }
}

/// A guest's side.
#[derive(Clone)]
pub struct Guest {
    pub base: String,
    pub runner: RunnerName,
    pub token: String,
    pub http: reqwest::Client,
}

impl Guest {
    pub fn url(&self, what: &str) -> String {
        format!("{}/{}/{what}", self.base, self.runner)
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let answer = request.bearer_auth(&self.token).send().await.unwrap();
        let status = answer.status().as_u16();
        if status >= 400 {
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub async fn report(&self, document: Value) -> u16 {
        self.send(self.http.post(self.url("reports")).json(&document)).await.0
    }

    pub async fn poll(&self, after: u64, wait: u64) -> Option<(u64, String)> {
        let url = self.url(&format!("orders?after={after}&wait={wait}"));
        let (status, order) = self.send(self.http.get(url)).await;
        match status {
            200 => Some((
                order["number"].as_u64().unwrap(),
                order["order"].as_str().unwrap().to_owned(),
            )),
            204 => None,
            other => panic!("{other}: {order}"),
        }
    }

    pub async fn answer(&self, number: u64, answer: &str) -> u16 {
        let document = json!({"number": number, "answer": answer});
        self.send(self.http.post(self.url("answers")).json(&document)).await.0
    }
}
