//! The one server and callers who take what they can: silent, slow, many, large, and never reading.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::{get, post},
};
use runner_fleet::http::{
    serve_within,
    server::{Bounds, serve},
};
use runner_fleet_actors::port::Secret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UnixStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::fleet_api::FakeControl;

const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(300);
const BODY: usize = 1_000;

struct House {
    address: SocketAddr,
    _stop: DropGuard,
}

fn bounds() -> Bounds {
    Bounds { bodies: 2 * BODY, ..Bounds::operators(BODY).patient(PATIENCE) }
}

async fn open(bounds: Bounds) -> House {
    let large = || async { "x".repeat(32 * 1024 * 1024) };
    let thinking = || async {
        tokio::time::sleep(PATIENCE * 5).await;
        "well thought out"
    };
    let stream = || async {
        let pieces = futures::stream::unfold(0, |piece| async move {
            tokio::time::sleep(PATIENCE).await;
            (piece < 5).then(|| (Ok::<_, std::io::Error>(format!("piece {piece}\n")), piece + 1))
        });
        Body::from_stream(pieces)
    };
    let router = Router::new()
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/hello", get(|| async { "hello" }))
        .route("/large", get(large))
        .route("/thinking", get(thinking))
        .route("/stream", get(stream));
    let stop = CancellationToken::new();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let serving = serve("tests", any, None, router, bounds, stop.clone()).await.unwrap();
    House { address: serving.address, _stop: stop.drop_guard() }
}

impl House {
    /// A connection from one of loopback's many addresses.
    async fn from(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = self.from(1).await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn answer(&self, text: &str) -> String {
        all_of(&mut self.send(text).await).await
    }
}

async fn all_of(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end as well.
    let _reset = tokio::time::timeout(SOON, stream.read_to_end(&mut text)).await.expect("it ends");
    String::from_utf8_lossy(&text).into_owned()
}

fn posting(length: usize, body: &str) -> String {
    format!(
        "POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

const HELLO: &str = "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_client_that_never_reads_gives_its_place_back() {
    let house = open(Bounds { connections: 2, of_one_peer: 2, ..bounds() }).await;
    let large = "GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
    let _unread = [house.send(large).await, house.send(large).await];
    // There is no third place: it is answered once one of them was cut.
    assert!(house.answer(HELLO).await.ends_with("hello"));
}

#[tokio::test]
async fn a_client_that_reads_at_its_own_pace_gets_everything() {
    let house = open(bounds()).await;
    let mut stream =
        house.send("GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let mut piece = vec![0; 1024 * 1024];
    let mut all = 0;
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        all += read;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(all > 32 * 1024 * 1024, "{all}");
}

#[tokio::test]
async fn an_answer_may_be_thought_about_and_streamed_for_longer_than_the_wire_has() {
    let house = open(bounds()).await;
    let ask = |path| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let (thinking, stream) = (ask("/thinking"), ask("/stream"));
    let (thought, streamed) = tokio::join!(house.answer(&thinking), house.answer(&stream));
    assert!(thought.ends_with("well thought out"), "{thought}");
    assert!(streamed.contains("piece 4") && streamed.ends_with("0\r\n\r\n"), "{streamed}");
}

#[tokio::test]
async fn one_peer_never_has_all_connections() {
    let house = open(Bounds { connections: 8, of_one_peer: 4, ..bounds() }.patient(SOON)).await;
    let mut crowd = Vec::new();
    for _ in 0..12 {
        crowd.push(house.from(1).await);
    }
    let mut closed = 0;
    for stream in &mut crowd[4..] {
        // Whichever of them came first, eight are too many.
        closed += u32::from(all_of(stream).await.is_empty());
    }
    assert_eq!(closed, 8);
    let mut other = house.from(2).await;
    other.write_all(HELLO.as_bytes()).await.unwrap();
    assert!(all_of(&mut other).await.ends_with("hello"), "another peer has its place");
}

#[tokio::test]
async fn bodies_that_are_held_have_a_bound_together_and_go_back() {
    let house = open(bounds().patient(SOON)).await;
    // Each holds 900 of the 2,000 bytes that there are; one peer may have 1,000 of them.
    let begun = posting(BODY, &"x".repeat(900));
    let mut first = house.from(1).await;
    first.write_all(begun.as_bytes()).await.unwrap();
    let mut second = house.from(2).await;
    second.write_all(begun.as_bytes()).await.unwrap();
    for peer in [1, 2, 3] {
        // As soon as the others have arrived.
        let refused = tokio::time::timeout(SOON, async {
            loop {
                let mut stream = house.from(peer).await;
                stream.write_all(posting(500, &"y".repeat(500)).as_bytes()).await.unwrap();
                let answer = all_of(&mut stream).await;
                if answer.starts_with("HTTP/1.1 503") {
                    return answer;
                }
            }
        });
        let answer = refused.await.expect("refused for want of room").to_lowercase();
        assert!(
            answer.contains("retry-after: 10") && answer.contains("connection: close"),
            "{answer}"
        );
        assert!(answer.contains("try again later"), "{answer}");
    }
    for stream in [&mut first, &mut second] {
        stream.write_all("x".repeat(100).as_bytes()).await.unwrap();
        assert!(all_of(stream).await.starts_with("HTTP/1.1 200"), "what was begun is answered");
    }
    let answer = house.answer(&posting(BODY, &"z".repeat(BODY))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "there is room again: {answer}");
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_not_waited_for_and_one_that_hides_it_is_cut() {
    let house = open(bounds()).await;
    let answer = house.answer(&posting(BODY + 1, "")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let asks_first = posting(4_900_000, "").replace("host: x", "host: x\r\nexpect: 100-continue");
    let answer = house.answer(&asks_first).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "it is not told to go on: {answer}");
    let chunk = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600));
    let chunked = format!(
        "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"
    );
    let answer = house.answer(&chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn heads_bodies_and_silence_have_their_time() {
    let house = open(bounds()).await;
    for begun in ["", "GET /hel", "GET /hello HTTP/1.1\r\nhost: x\r\nx-", "\x16\x03\x01\x02"] {
        let answer = house.answer(begun).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{begun:?}: {answer}");
    }
    let answer = house.answer(&posting(100, "half of")).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let answer = house.answer("GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "and it ended after a silence: {answer}");
}

/// The API's TCP port has the same server, and a crowd there takes nothing from the socket.
#[tokio::test]
async fn silence_and_slow_heads_on_the_operators_port_end_and_the_socket_answers_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let stop = CancellationToken::new();
    let listen = Some(("127.0.0.1:0".parse().unwrap(), Secret::new("s3cr3t")));
    let bounds = Bounds { connections: 40, of_one_peer: 20, ..bounds() };
    let control = Arc::new(FakeControl::with_pools());
    let serving = serve_within(control, &socket, listen, stop.clone(), bounds).await.unwrap();
    let tcp = serving.tcp.unwrap();
    let ended = Arc::new(AtomicU32::new(0));
    let mut crowd = tokio::task::JoinSet::new();
    for number in 0..60_u8 {
        let ended = Arc::clone(&ended);
        crowd.spawn(async move {
            let mut stream = TcpStream::connect(tcp).await.unwrap();
            let begun: &[u8] = if number % 2 == 0 { b"" } else { b"GET /v1/status HTTP/1.1\r\n" };
            // One that was closed at once cannot be written to.
            let _closed = stream.write_all(begun).await;
            let _answer = all_of(&mut stream).await;
            ended.fetch_add(1, Ordering::Relaxed);
        });
    }
    let mut operator = UnixStream::connect(&socket).await.unwrap();
    operator
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    operator.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    while let Some(done) = crowd.join_next().await {
        done.unwrap();
    }
    assert_eq!(ended.load(Ordering::Relaxed), 60, "all of them end");
    stop.cancel();
    tokio::time::timeout(SOON, serving.task).await.expect("it stops").unwrap();
}

#[test]
fn what_the_system_lets_be_opened_is_shared_out_with_a_reserve() {
    let all = [Bounds::guests(1), Bounds::webhooks(1), Bounds::operators(1), Bounds::socket(1)];
    let connections: u64 = all.iter().map(|bounds| bounds.connections as u64).sum();
    let files = runner_fleet::process::open_files();
    assert!(connections < files, "{connections} of {files}");
    assert!(all.iter().all(|bounds| bounds.of_one_peer <= bounds.connections));
}
