//! What no good client sends: each kind of it is refused or taken for what it is, no request hides in
//! another, and the next caller is served.

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
    body::Bytes,
    routing::{get, post},
};
use runner_fleet::http::server::{Bounds, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

/// What is sent, and the statuses that may come of it, in their order; none: the connection is closed
/// without a word.
struct Trick {
    name: &'static str,
    sent: Vec<u8>,
    right: &'static [&'static [u16]],
}

fn trick(name: &'static str, sent: impl Into<Vec<u8>>, right: &'static [&'static [u16]]) -> Trick {
    Trick { name, sent: sent.into(), right }
}

fn with(headers: &str, body: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}")
}

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n";

fn tricks() -> Vec<Trick> {
    let hello = "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let many = "x: y\r\n".repeat(200);
    vec![
        // Heads.
        trick(
            "a head of 100 KB",
            with(&format!("x: {}\r\n", "y".repeat(100_000)), ""),
            &[&[431], &[]],
        ),
        trick("200 headers", with(&many, ""), &[&[431], &[400], &[]]),
        trick(
            "a path of 70 KB",
            format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(70_000)),
            &[&[414], &[431], &[]],
        ),
        trick("a blank before the colon", "GET /hidden HTTP/1.1\r\nhost : x\r\n\r\n", &[&[400]]),
        trick(
            "a folded header",
            "GET /hidden HTTP/1.1\r\nhost: x\r\nx: a\r\n b\r\n\r\n",
            &[&[400]],
        ),
        trick(
            "a zero in a header",
            b"GET /hidden HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n".to_vec(),
            &[&[400]],
        ),
        trick(
            "a bare return in a header",
            "GET /hidden HTTP/1.1\r\nhost: x\r\nx: a\rb\r\n\r\n",
            &[&[400]],
        ),
        trick("a header without a name", "GET /hidden HTTP/1.1\r\n: x\r\n\r\n", &[&[400]]),
        trick("a header without a colon", "GET /hidden HTTP/1.1\r\nhost\r\n\r\n", &[&[400]]),
        trick("a method that is none", "G@T{} /hidden HTTP/1.1\r\nhost: x\r\n\r\n", &[&[400]]),
        trick(
            "a version that is none",
            "GET /hidden HTTP/9.9\r\nhost: x\r\n\r\n",
            &[&[400], &[505]],
        ),
        trick("no version", "GET /hidden\r\n\r\n", &[&[400], &[]]),
        trick("garbage", b"\xff\xfe\xfd\xfc\r\n\r\n".to_vec(), &[&[400], &[]]),
        trick(
            "the hello of TLS",
            b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n".to_vec(),
            &[&[400], &[]],
        ),
        trick("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[&[400], &[505], &[]]),
        // Lengths.
        trick(
            "two lengths",
            with("content-length: 0\r\ncontent-length: 36\r\n", HIDDEN),
            &[&[400]],
        ),
        trick("two lengths in one", with("content-length: 0, 36\r\n", HIDDEN), &[&[400]]),
        trick("a length with a sign", with("content-length: +0\r\n", HIDDEN), &[&[400]]),
        trick("a negative length", with("content-length: -1\r\n", HIDDEN), &[&[400]]),
        trick("a hexadecimal length", with("content-length: 0x0\r\n", HIDDEN), &[&[400]]),
        trick("a length of 2^64", with("content-length: 18446744073709551616\r\n", ""), &[&[400]]),
        trick(
            "a length of 2^64-1",
            with("content-length: 18446744073709551615\r\n", ""),
            &[&[400], &[413], &[431]],
        ),
        trick("an empty length", with("content-length: \r\n", HIDDEN), &[&[400]]),
        // Encodings.
        trick("an unknown encoding", with("transfer-encoding: cunked\r\n", HIDDEN), &[&[400]]),
        trick(
            "chunked, but not at last",
            with("transfer-encoding: chunked, identity\r\n", HIDDEN),
            &[&[400]],
        ),
        trick(
            "an encoding in HTTP/1.0",
            format!("POST /echo HTTP/1.0\r\n{chunked}\r\n0\r\n\r\n{HIDDEN}"),
            &[&[400]],
        ),
        trick("a chunk of no size", with(chunked, "\r\nxx\r\n0\r\n\r\n"), &[&[400]]),
        trick("a chunk of a word's size", with(chunked, "zz\r\nxx\r\n0\r\n\r\n"), &[&[400]]),
        trick("a chunk of a negative size", with(chunked, "-2\r\nxx\r\n0\r\n\r\n"), &[&[400]]),
        trick("a chunk of 2^68", with(chunked, "fffffffffffffffff\r\nxx\r\n0\r\n\r\n"), &[&[400]]),
        trick(
            "a chunk that is longer than it says",
            with(chunked, "2\r\nxxxx\r\n0\r\n\r\n"),
            &[&[400]],
        ),
        trick(
            "an endless chunk extension",
            with(chunked, &format!("2;{}\r\nxx\r\n0\r\n\r\n", "x".repeat(100_000))),
            &[&[400], &[]],
        ),
        trick(
            "a length behind a chunked body",
            with(
                &format!("content-length: 4\r\n{chunked}connection: close\r\n"),
                &format!("0\r\n\r\n{HIDDEN}"),
            ),
            &[&[200], &[400]],
        ),
        trick(
            "a chunked body behind a length",
            with(
                &format!("{chunked}content-length: 4\r\nconnection: close\r\n"),
                &format!("0\r\n\r\n{HIDDEN}"),
            ),
            &[&[200], &[400]],
        ),
        // Forms that are legal and rare.
        trick(
            "an absolute address",
            "GET http://elsewhere.example/hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            &[&[200]],
        ),
        trick(
            "a tunnel",
            "CONNECT elsewhere.example:443 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            &[&[404], &[400], &[405]],
        ),
        trick(
            "options of everything",
            "OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            &[&[404], &[400], &[405]],
        ),
        trick("HTTP/1.0", "GET /hello HTTP/1.0\r\n\r\n", &[&[200]]),
        trick("three at once", format!("{hello}{hello}{last}"), &[&[200, 200, 200]]),
        trick("one more behind the last", format!("{last}{HIDDEN}"), &[&[200]]),
        trick(
            "an upgrade to HTTP/2",
            "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings, close\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n",
            &[&[200]],
        ),
        trick(
            "an upgrade to a web socket",
            "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            &[&[200]],
        ),
        trick(
            "a body that asks first",
            with("content-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n", "xx"),
            &[&[100, 200]],
        ),
        trick(
            "an expectation that is none",
            with("content-length: 2\r\nexpect: wonders\r\nconnection: close\r\n", "xx"),
            &[&[200], &[417]],
        ),
        trick(
            "a path of odd bytes",
            "GET /%00%ff/..%2f HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            &[&[404], &[400]],
        ),
        trick(
            "a body where none is read",
            format!(
                "GET /hello HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{HIDDEN}",
                HIDDEN.len()
            ),
            &[&[200]],
        ),
        trick(
            "trailers",
            with(
                &format!("{chunked}connection: close\r\n"),
                "2\r\nxx\r\n0\r\ncontent-length: 99\r\n\r\n",
            ),
            &[&[200]],
        ),
    ]
}

/// The statuses in what was answered.
fn statuses(answer: &str) -> Vec<u16> {
    answer
        .match_indices("HTTP/1.1 ")
        .chain(answer.match_indices("HTTP/1.0 "))
        .map(|(at, version)| answer[at + version.len()..][..3].parse().unwrap())
        .collect()
}

#[tokio::test]
async fn no_trick_of_the_wire_reaches_what_it_hides_or_harms_the_next_caller() {
    let reached = Arc::new(AtomicU32::new(0));
    let hidden = Arc::clone(&reached);
    let router = Router::new()
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/hello", get(|| async { "hello" }))
        .route(
            "/hidden",
            get(move || async move {
                hidden.fetch_add(1, Ordering::Relaxed);
            }),
        );
    let stop = CancellationToken::new();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let bounds = Bounds::webhooks(64 * 1024).patient(Duration::from_secs(2));
    let serving = serve("tests", any, None, router, bounds, stop.clone()).await.unwrap();
    let mut wrong = Vec::new();
    for Trick { name, sent, right } in tricks() {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        // What is refused in its middle cannot be sent to its end.
        let _refused = stream.write_all(&sent).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
        let _reset_is_an_end = read.unwrap_or_else(|_| panic!("{name}: the connection never ends"));
        let said = statuses(&String::from_utf8_lossy(&answer));
        if !right.contains(&said.as_slice()) {
            wrong.push(format!("{name}: {said:?} instead of {right:?}"));
        }
        if reached.swap(0, Ordering::Relaxed) > 0 {
            wrong.push(format!("{name}: what it hides was reached"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let answer = reqwest::get(format!("http://{}/hello", serving.address)).await.unwrap();
    assert_eq!(answer.status(), 200, "the next caller");
    stop.cancel();
    tokio::time::timeout(SOON, serving.task).await.expect("it stops").unwrap();
}
