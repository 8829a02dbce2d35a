//! What guests may say and hear, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in what its tests share"
)]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use runner_fleet::{
    config::Certificate,
    home::{Bounds, Deaf, Ears, GuestKey, Home, Hub, Serving, Tls, Told, serve},
};
use runner_fleet_actors::{
    name::RunnerName,
    port::{ErrorClass, Guests, StandDown},
    runner::Report,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

fn name(token: u64) -> RunnerName {
    format!("ci--small--{token:012x}").parse().unwrap()
}

/// Knows some runners, and notes what they say.
struct FakeEars {
    known: Mutex<BTreeSet<RunnerName>>,
    away: Mutex<bool>,
    told: mpsc::UnboundedSender<(RunnerName, Told)>,
    logs: Mutex<Vec<(RunnerName, String)>>,
}

#[async_trait::async_trait]
impl Ears for FakeEars {
    fn knows(&self, runner: &RunnerName) -> bool {
        self.known.lock().unwrap().contains(runner)
    }

    async fn tell(&self, runner: &RunnerName, told: Told) -> Result<(), Deaf> {
        if *self.away.lock().unwrap() {
            return Err(Deaf::Away);
        }
        if !self.knows(runner) {
            return Err(Deaf::Unknown);
        }
        self.told.send((runner.clone(), told)).unwrap();
        Ok(())
    }

    fn log(&self, runner: &RunnerName, lines: String) {
        self.logs.lock().unwrap().push((runner.clone(), lines));
    }
}

/// The daemon's side.
struct Door {
    state: tempfile::TempDir,
    ears: Arc<FakeEars>,
    told: mpsc::UnboundedReceiver<(RunnerName, Told)>,
    hub: Arc<Hub>,
    stop: CancellationToken,
    serving: Serving,
}

impl Door {
    async fn open() -> Self {
        Self::open_with(tempfile::tempdir().unwrap(), None, Bounds::default()).await
    }

    async fn open_with(state: tempfile::TempDir, tls: Option<Arc<Tls>>, bounds: Bounds) -> Self {
        let (noted, told) = mpsc::unbounded_channel();
        let ears = Arc::new(FakeEars {
            known: Mutex::new([name(1), name(2)].into()),
            away: Mutex::default(),
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

    async fn close(self) -> tempfile::TempDir {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.serving.task).await.expect("it stops").unwrap();
        self.state
    }

    fn guest(&self, token: u64) -> Guest {
        let runner = name(token);
        let key = GuestKey::open(self.state.path()).unwrap();
        Guest {
            base: format!("http://{}/v1/guest", self.serving.address),
            token: key.token(&runner).expose().to_owned(),
            runner,
            http: reqwest::Client::new(),
        }
    }

    async fn heard(&mut self) -> (RunnerName, Told) {
        tokio::time::timeout(SOON, self.told.recv()).await.expect("told").unwrap()
    }
}

/// A guest's side.
#[derive(Clone)]
struct Guest {
    base: String,
    runner: RunnerName,
    token: String,
    http: reqwest::Client,
}

impl Guest {
    fn url(&self, what: &str) -> String {
        format!("{}/{}/{what}", self.base, self.runner)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let answer = request.bearer_auth(&self.token).send().await.unwrap();
        let status = answer.status().as_u16();
        if status >= 400 {
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn report(&self, document: Value) -> u16 {
        self.send(self.http.post(self.url("reports")).json(&document)).await.0
    }

    async fn poll(&self, after: u64, wait: u64) -> Option<(u64, String)> {
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

    async fn answer(&self, number: u64, answer: &str) -> u16 {
        let document = json!({"number": number, "answer": answer});
        self.send(self.http.post(self.url("answers")).json(&document)).await.0
    }
}

#[tokio::test]
async fn a_guest_speaks_for_its_own_runner_only() {
    let mut door = Door::open().await;
    let (one, two) = (door.guest(1), door.guest(2));
    let booted = json!({"report": "booted", "times": {"booted": 3.5}});
    assert_eq!(one.report(booted.clone()).await, 204);
    let (runner, told) = door.heard().await;
    assert_eq!((runner, told.reports), (name(1), vec![Report::Booted]));
    assert_eq!(told.times.booted, Some(Duration::from_millis(3_500)));

    let stolen = Guest { token: one.token.clone(), ..two.clone() };
    let nonsense = Guest { token: "0".repeat(64), ..one.clone() };
    for guest in [&stolen, &nonsense] {
        assert_eq!(guest.report(booted.clone()).await, 403);
        assert_eq!(guest.answer(1, "busy").await, 403);
        assert_eq!(guest.send(guest.http.get(guest.url("orders?wait=50"))).await.0, 403);
    }
    let odd = format!("{}/not-a-name/reports", one.base);
    assert_eq!(one.send(one.http.post(odd)).await.0, 403);
    for token in ["", "short", &one.token.to_uppercase()] {
        let malformed = Guest { token: token.to_owned(), ..one.clone() };
        assert_eq!(malformed.report(booted.clone()).await, 401, "{token:?}");
    }
    let bare = one.http.post(one.url("reports")).json(&booted).send().await.unwrap();
    assert_eq!(bare.status(), 401, "without a token");
    door.close().await;
}

#[tokio::test]
async fn the_operators_paths_are_not_here() {
    let door = Door::open().await;
    let guest = door.guest(1);
    for path in ["/v1/status", "/v1/runners", "/healthz", "/v1/guest"] {
        let url = format!("http://{}{path}", door.serving.address);
        assert_eq!(guest.send(guest.http.get(url)).await.0, 404, "{path}");
    }
    assert_eq!(guest.send(guest.http.delete(guest.url("orders"))).await.0, 405);
    door.close().await;
}

#[tokio::test]
async fn a_report_is_told_once_more_when_it_comes_once_more_and_its_log_only_once() {
    let mut door = Door::open().await;
    let guest = door.guest(1);
    let stopped = json!({
        "report": "stopped", "times": {"booted": 1, "stopped": 9.5}, "exit_code": 7,
        "runner_version": "2.330.0", "log": "no space left on device",
    });
    for _ in 0..2 {
        assert_eq!(guest.report(stopped.clone()).await, 204);
    }
    let (first, again) = (door.heard().await, door.heard().await);
    assert_eq!(first, again, "the brain is told the same, and takes nothing twice");
    assert_eq!(first.1.version.as_deref(), Some("2.330.0"));
    let log = (name(1), "no space left on device".to_owned());
    assert_eq!(*door.ears.logs.lock().unwrap(), [log]);
    door.close().await;
}

/// A 404 or a 503 is worth another try, and nothing of the report is lost by it.
#[tokio::test]
async fn a_daemon_that_knows_no_such_runner_yet_is_asked_again() {
    let mut door = Door::open().await;
    let guest = door.guest(3);
    let stopped = json!({"report": "stopped", "exit_code": 1, "log": "the reason"});
    assert_eq!(guest.report(stopped.clone()).await, 404);
    assert_eq!(guest.send(guest.http.get(guest.url("orders"))).await.0, 404);
    door.ears.known.lock().unwrap().insert(name(3));
    *door.ears.away.lock().unwrap() = true;
    assert_eq!(guest.report(stopped.clone()).await, 503);
    *door.ears.away.lock().unwrap() = false;
    assert_eq!(guest.report(stopped).await, 204);
    assert_eq!(door.heard().await.0, name(3));
    assert_eq!(door.ears.logs.lock().unwrap().len(), 1);
    door.close().await;
}

#[tokio::test]
async fn what_is_no_report_is_refused_for_good() {
    let door = Door::open().await;
    let guest = door.guest(1);
    assert_eq!(guest.report(json!({"report": "exploded"})).await, 422);
    assert_eq!(guest.report(json!({"report": "booted", "times": {"booted": "3"}})).await, 422);
    let torn = guest.http.post(guest.url("reports")).body("{\"report\": ");
    assert_eq!(guest.send(torn).await.0, 400);
    assert_eq!(guest.send(guest.http.get(guest.url("orders?after=x"))).await.0, 422);
    let huge = json!({"report": "stopped", "log": "x".repeat(20_000)});
    assert_eq!(guest.report(huge).await, 413);
    let more = json!({"report": "booted", "mood": {"of": "a newer guest"}});
    assert_eq!(guest.report(more).await, 204);
    door.close().await;
}

#[tokio::test]
async fn an_order_reaches_the_open_poll_and_its_answer_the_fleet() {
    let door = Door::open().await;
    let guest = door.guest(1);
    let mut after = 0;
    for (word, meant) in [("standing-down", StandDown::StandingDown), ("busy", StandDown::Busy)] {
        let polling = tokio::spawn({
            let guest = guest.clone();
            async move { guest.poll(after, 50).await }
        });
        let asked = ask_until_heard(&door.hub, 1).await;
        let (number, order) = polling.await.unwrap().expect("an order");
        assert_eq!(order, "stand-down");
        assert_eq!(guest.answer(number, word).await, 204);
        assert_eq!(guest.answer(number, word).await, 204, "a replay of the answer");
        assert_eq!(asked.await.unwrap().unwrap(), meant);
        after = number;
    }
    door.close().await;
}

/// Asks, as soon as the guest's poll has arrived.
async fn ask_until_heard(
    hub: &Arc<Hub>,
    token: u64,
) -> tokio::task::JoinHandle<Result<StandDown, runner_fleet_actors::port::PortError>> {
    let end = tokio::time::Instant::now() + SOON;
    while !hub.hears(&name(token)) {
        assert!(tokio::time::Instant::now() < end, "no poll arrived");
        tokio::task::yield_now().await;
    }
    let hub = Arc::clone(hub);
    tokio::spawn(async move { hub.stand_down(&name(token)).await })
}

#[tokio::test]
async fn the_newest_order_is_the_only_one_and_an_answer_to_an_older_one_comes_too_late() {
    let door = Door::open().await;
    let guest = door.guest(1);
    let polling = {
        let guest = guest.clone();
        tokio::spawn(async move { guest.poll(0, 50).await })
    };
    let asked = ask_until_heard(&door.hub, 1).await;
    let (down, _) = polling.await.unwrap().unwrap();
    door.hub.go_on(&name(1)).await;
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Transient, false));
    assert_eq!(guest.answer(down, "standing-down").await, 409, "it is withdrawn: go on");
    let (on, order) = guest.poll(down, 50).await.expect("the newer order waits");
    assert_eq!((order.as_str(), on > down), ("go-on", true));
    assert_eq!(guest.poll(down, 0).await, Some((on, order)), "the answer to the poll may be lost");
    assert_eq!(guest.poll(on, 0).await, None, "nothing newer");
    door.hub.go_on(&name(1)).await;
    door.hub.end(&name(1)).await;
    assert_eq!(guest.poll(on, 50).await.unwrap().1, "end", "what was not fetched is void");
    assert_eq!(door.guest(2).poll(0, 0).await, None, "orders are for one guest");
    door.close().await;
}

#[tokio::test]
async fn a_newer_poll_ends_the_older() {
    let door = Door::open().await;
    let guest = door.guest(1);
    let older = {
        let guest = guest.clone();
        tokio::spawn(async move { guest.poll(0, 50).await })
    };
    while !door.hub.hears(&name(1)) {
        tokio::task::yield_now().await;
    }
    let newer = {
        let guest = guest.clone();
        tokio::spawn(async move { guest.poll(0, 50).await })
    };
    let ended = tokio::time::timeout(SOON, older).await.expect("long before its time").unwrap();
    assert_eq!(ended, None);
    door.hub.end(&name(1)).await;
    assert_eq!(newer.await.unwrap().unwrap().1, "end");
    door.close().await;
}

#[tokio::test]
async fn a_restarted_daemon_knows_the_tokens_and_its_orders_are_newer() {
    let door = Door::open().await;
    let before = door.guest(1);
    door.hub.go_on(&name(1)).await;
    let (number, _) = before.poll(0, 0).await.unwrap();
    let polling = {
        let guest = before.clone();
        tokio::spawn(async move {
            guest.send(guest.http.get(guest.url(&format!("orders?after={number}&wait=50")))).await
        })
    };
    while !door.hub.hears(&name(1)) {
        tokio::task::yield_now().await;
    }
    let state = door.close().await;
    assert_eq!(polling.await.unwrap().0, 503, "an open poll ends with the daemon");

    let mut door = Door::open_with(state, None, Bounds::default()).await;
    let after = Guest { token: before.token.clone(), ..door.guest(1) };
    assert_eq!(after.report(json!({"report": "runner-started"})).await, 204);
    assert_eq!(door.heard().await.1.reports, [Report::RunnerStarted]);
    door.hub.end(&name(1)).await;
    let (newer, order) = after.poll(number, 50).await.unwrap();
    assert_eq!((order.as_str(), newer > number), ("end", true));
    // The clock was set back: what the guest has seen lies in the future.
    let future = newer + 3_600_000_000;
    assert_eq!(after.poll(future, 0).await, None);
    door.hub.go_on(&name(1)).await;
    assert_eq!(after.poll(future, 0).await.unwrap().1, "go-on");
    door.close().await;
}

#[tokio::test]
async fn a_guest_that_calls_all_the_time_is_slowed_down_alone() {
    let door = Door::open().await;
    let (loud, quiet) = (door.guest(1), door.guest(2));
    let booted = json!({"report": "booted"});
    let mut taken = 0;
    while loud.report(booted.clone()).await == 204 {
        taken += 1;
        assert!(taken < 1_000, "it is never slowed down");
    }
    assert!(taken >= 60, "a whole life fits: {taken}");
    assert_eq!(loud.report(booted.clone()).await, 429);
    assert_eq!(quiet.report(booted).await, 204);
    door.close().await;
}

async fn raw(door: &Door, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(door.serving.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

async fn all_of(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end as well.
    let _reset = tokio::time::timeout(SOON, stream.read_to_end(&mut text)).await.expect("it ends");
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn slow_clients_are_cut_off_and_block_nobody() {
    let bounds = Bounds { connections: 6, patience: Duration::from_millis(400) };
    let door = Door::open_with(tempfile::tempdir().unwrap(), None, bounds).await;
    let guest = door.guest(1);
    let mut nothing = raw(&door, "").await;
    let mut half_a_head = raw(&door, "POST /v1/guest/").await;
    let head = format!(
        "POST /v1/guest/{}/reports HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-length: 100\r\n\r\n{{",
        guest.runner, guest.token
    );
    let mut half_a_body = raw(&door, &head).await;
    let idle = format!("GET /v1/guest/{}/orders HTTP/1.1\r\nhost: x\r\n\r\n", guest.runner);
    let mut idle = raw(&door, &idle).await;
    assert_eq!(guest.report(json!({"report": "booted"})).await, 204, "beside four slow ones");
    assert_eq!(all_of(&mut nothing).await, "");
    let _timed_out = all_of(&mut half_a_head).await;
    assert!(all_of(&mut half_a_body).await.starts_with("HTTP/1.1 503"));
    assert!(all_of(&mut idle).await.starts_with("HTTP/1.1 401"));
    assert_eq!(guest.poll(0, 1).await, None, "a poll waits its own time");

    // As many connections as there may be, all silent: the next guest waits for one of them to be cut.
    let mut crowd = Vec::new();
    for _ in 0..6 {
        crowd.push(raw(&door, "").await);
    }
    let fresh = door.guest(2);
    assert_eq!(fresh.report(json!({"report": "booted"})).await, 204);
    door.close().await;
}

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file)
}

fn pem(file: &str) -> reqwest::Certificate {
    reqwest::Certificate::from_pem(&std::fs::read(data(file)).unwrap()).unwrap()
}

#[tokio::test]
async fn over_tls_a_guest_sees_the_certificate_and_a_renewed_one_after_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let files = Certificate {
        certificate: folder.path().join("guests.pem"),
        key: folder.path().join("guests.key"),
    };
    let put = |certificate: &str, key: &str| {
        std::fs::copy(data(certificate), &files.certificate).unwrap();
        std::fs::copy(data(key), &files.key).unwrap();
    };
    put("guests-tls-cert.pem", "guests-tls-key.pem");
    let tls = Arc::new(Tls::read(files.clone()).unwrap());
    let state = tempfile::tempdir().unwrap();
    let mut door = Door::open_with(state, Some(Arc::clone(&tls)), Bounds::default()).await;
    let plain = door.guest(1);
    let booted = json!({"report": "booted"});
    let over = |host: &str, authority: &str| {
        let trusting = reqwest::Client::builder()
            .add_root_certificate(pem(authority))
            .resolve("ghes.test", door.serving.address)
            .build()
            .unwrap();
        let base = format!("https://{host}:{}/v1/guest", door.serving.address.port());
        Guest { base, http: trusting, ..plain.clone() }
    };
    let secure = over("127.0.0.1", "guests-tls-cert.pem");
    assert_eq!(
        secure.report(booted.clone()).await,
        204,
        "trusting the certificate itself is enough"
    );

    put("github-tls-cert.pem", "guests-tls-key.pem");
    let refused = tls.renew().unwrap_err();
    assert!(refused.contains("guests.pem") && refused.contains("guests.key"), "{refused}");
    let again = over("127.0.0.1", "guests-tls-cert.pem");
    assert_eq!(again.report(booted.clone()).await, 204, "the old one stays");
    put("github-tls-cert.pem", "github-tls-key.pem");
    tls.renew().unwrap();
    let renewed = over("ghes.test", "github-tls-ca.pem");
    assert_eq!(renewed.report(booted.clone()).await, 204, "new connections see the new one");
    assert_eq!(secure.report(booted.clone()).await, 204, "the old connection stands");

    let unencrypted = plain.http.post(plain.url("reports")).json(&booted).send().await;
    assert!(unencrypted.is_err(), "no answer without TLS");
    for _ in 0..4 {
        assert_eq!(door.heard().await.0, name(1));
    }
    door.close().await;
}

#[test]
fn a_certificate_that_is_none_is_named() {
    let files = |certificate: &str, key: &str| Certificate {
        certificate: data(certificate),
        key: data(key),
    };
    for (certificate, key, expected) in [
        ("nowhere.pem", "guests-tls-key.pem", "nowhere.pem cannot be read"),
        ("guests-tls-key.pem", "guests-tls-key.pem", "there is no certificate in PEM"),
        ("guests-tls-cert.pem", "guests-tls-cert.pem", "there is no private key in PEM"),
        ("guests-tls-cert.pem", "github-tls-key.pem", "with the key"),
    ] {
        let refused = Tls::read(files(certificate, key)).unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
}
