//! The voice of a stand-in guest: reports home and orders from there, as the real guest's program
//! speaks them (protocol v1), with the address and the token from its user data.
//!
//! Reports go out in order, each tried again until it is taken or refused for good; one poll is kept
//! open. A guest that cannot reach its daemon lives on without.

use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Map, Value, json};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{guest, home::Order};

/// Pauses between tries: a tenth of the real guest's, as everything is quicker in a fake cloud.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long the last report may hold up the power-off.
const LAST_WORD: Duration = Duration::from_secs(2);
/// How often an answer is tried.
const TRIES: u32 = 10;
/// How long a poll is kept open, in seconds.
const POLL: u64 = 50;

/// Speaks for one guest. Dropped, it is silent at once, as a VM that is taken away.
pub(super) struct Voice {
    born: Instant,
    said: Map<String, Value>,
    times: Map<String, Value>,
    line: Option<Line>,
    reports: mpsc::UnboundedSender<Value>,
    orders: mpsc::UnboundedReceiver<Order>,
    reporting: JoinHandle<()>,
    listening: JoinHandle<()>,
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.reporting.abort();
        self.listening.abort();
    }
}

impl Voice {
    /// The voice of the guest with this user data. Where that names no home, nobody hears it.
    pub(super) fn of(user_data: &str) -> Self {
        let (reports, to_send) = mpsc::unbounded_channel();
        let (heard, orders) = mpsc::unbounded_channel();
        let line = guest::data_in(user_data).as_ref().and_then(Line::home);
        let reporting = tokio::spawn(report_all(line.clone(), to_send));
        let listening = tokio::spawn(hear_all(line.clone(), heard));
        Self {
            born: Instant::now(),
            said: Map::new(),
            times: Map::new(),
            line,
            reports,
            orders,
            reporting,
            listening,
        }
    }

    /// Something that every report tells from now on.
    pub(super) fn know(&mut self, what: &str, value: Value) {
        self.said.insert(what.to_owned(), value);
    }

    /// Reports that it has come to this. Never waits.
    pub(super) fn say(&mut self, report: &str) {
        self.times.insert(report.replace('-', "_"), json!(self.born.elapsed().as_secs_f64()));
        let mut document = self.said.clone();
        document.insert("report".to_owned(), json!(report));
        document.insert("times".to_owned(), json!(self.times));
        // Nobody hears a guest without a home.
        let _unheard = self.reports.send(Value::Object(document));
    }

    /// The last report; waits until it is taken, for a while.
    pub(super) async fn say_last(mut self, report: &str) {
        self.say(report);
        let (nobody, _) = mpsc::unbounded_channel();
        drop(std::mem::replace(&mut self.reports, nobody));
        let _late = tokio::time::timeout(LAST_WORD, &mut self.reporting).await;
    }

    /// The next order.
    pub(super) async fn order(&mut self) -> Order {
        match self.orders.recv().await {
            Some(order) => order,
            None => std::future::pending().await,
        }
    }

    /// Answers an order; false where it is withdrawn, or the daemon is away for long.
    pub(super) async fn answer(&self, number: u64, answer: &str) -> bool {
        let Some(line) = &self.line else { return false };
        let document = json!({"number": number, "answer": answer});
        let mut pause = FIRST_PAUSE;
        for _ in 0..TRIES {
            match line.status(line.http.post(line.path("answers")).json(&document)).await {
                Some(status) if status.is_success() => return true,
                Some(status) if !worth_another_try(status) => return false,
                _ => pause = wait(pause).await,
            }
        }
        false
    }
}

/// The way home.
#[derive(Clone)]
struct Line {
    base: String,
    token: String,
    http: Client,
}

impl Line {
    fn home(data: &Value) -> Option<Self> {
        let home = data.get("home")?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut http = Client::builder().no_proxy();
        if let Some(pem) = home.get("ca_pem").and_then(Value::as_str) {
            http = http.add_root_certificate(reqwest::Certificate::from_pem(pem.as_bytes()).ok()?);
        }
        let (url, runner) = (text(home.get("url")?)?, text(data.get("runner")?)?);
        let base = format!("{}/v1/guest/{runner}", url.trim_end_matches('/'));
        Some(Self { base, token: text(home.get("token")?)?, http: http.build().ok()? })
    }

    fn path(&self, what: &str) -> String {
        format!("{}/{what}", self.base)
    }

    /// The status of the answer, where one came.
    async fn status(&self, request: RequestBuilder) -> Option<StatusCode> {
        request.bearer_auth(&self.token).send().await.ok().map(|answer| answer.status())
    }

    /// The next order after one, where one came; an error where nobody can say.
    async fn next(&self, after: u64) -> reqwest::Result<Option<Order>> {
        let url = format!("{}?after={after}&wait={POLL}", self.path("orders"));
        let answer = self.http.get(url).bearer_auth(&self.token).send().await?;
        match answer.error_for_status()? {
            answer if answer.status() == StatusCode::OK => answer.json().await.map(Some),
            _ => Ok(None),
        }
    }
}

fn worth_another_try(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::NOT_FOUND | StatusCode::TOO_MANY_REQUESTS)
}

/// Waits, and says how long to wait the next time.
async fn wait(pause: Duration) -> Duration {
    tokio::time::sleep(pause).await;
    (pause * 2).min(LONGEST_PAUSE)
}

async fn report_all(line: Option<Line>, mut reports: mpsc::UnboundedReceiver<Value>) {
    let Some(line) = line else { return };
    while let Some(report) = reports.recv().await {
        let mut pause = FIRST_PAUSE;
        loop {
            match line.status(line.http.post(line.path("reports")).json(&report)).await {
                Some(status) if !worth_another_try(status) => break,
                _ => pause = wait(pause).await,
            }
        }
    }
}

async fn hear_all(line: Option<Line>, heard: mpsc::UnboundedSender<Order>) {
    let Some(line) = line else { return };
    let (mut newest, mut pause) = (0, FIRST_PAUSE);
    while !heard.is_closed() {
        match line.next(newest).await {
            Ok(Some(order)) => {
                (newest, pause) = (order.number, FIRST_PAUSE);
                // A guest that is gone needs no order.
                let _gone = heard.send(order);
            }
            Ok(None) => pause = FIRST_PAUSE,
            Err(_) => pause = wait(pause).await,
        }
    }
}
