//! The connections that guests speak over: slow ones, too many, and TLS.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::support::guest_door::{Door, Guest, SOON, name};
use runner_fleet::{
    config::Certificate,
    home::{BODY_MAX, Bounds, Tls},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

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
    let bounds = Bounds {
        connections: 6,
        of_one_peer: 6,
        ..Bounds::guests(BODY_MAX).patient(Duration::from_millis(400))
    };
    let door = Door::open_with(tempfile::tempdir().unwrap(), None, bounds).await;
    // A connection for each call, as the program in a VM has: a kept one may be cut the moment it is used.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let guest = Guest { http, ..door.guest(1) };
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
    let mut door = Door::open_with(state, Some(Arc::clone(&tls)), Bounds::guests(BODY_MAX)).await;
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
    let refused = tls.renew().err().unwrap();
    assert!(refused.contains("guests.pem") && refused.contains("guests.key"), "{refused}");
    let again = over("127.0.0.1", "guests-tls-cert.pem");
    assert_eq!(again.report(booted.clone()).await, 204, "the old one stays");
    put("github-tls-cert.pem", "github-tls-key.pem");
    tls.renew().unwrap()();
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

fn poll_of(guest: &Guest, wait: u64) -> String {
    let (runner, token) = (&guest.runner, &guest.token);
    format!(
        "GET /v1/guest/{runner}/orders?after=0&wait={wait} HTTP/1.1\r\nhost: x\r\n\
         authorization: Bearer {token}\r\n\r\n"
    )
}

async fn heard(door: &Door, guest: &Guest, whether: bool) {
    let look = async {
        while door.hub.hears(&guest.runner) != whether {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, look).await.expect("its poll is seen to begin or end");
}

#[tokio::test]
async fn a_guest_that_hangs_up_while_its_poll_waits_is_no_longer_heard() {
    let door = Door::open().await;
    let guest = door.guest(1);
    let stream = raw(&door, &poll_of(&guest, 50)).await;
    heard(&door, &guest, true).await;
    drop(stream);
    heard(&door, &guest, false).await;
    door.close().await;
}

#[tokio::test]
async fn calls_that_come_while_a_poll_waits_are_answered_after_it_on_the_same_connection() {
    let door = Door::open().await;
    let guest = door.guest(1);
    let mut stream = raw(&door, &poll_of(&guest, 1)).await;
    heard(&door, &guest, true).await;
    let last = poll_of(&guest, 0).replace("host: x", "host: x\r\nconnection: close");
    let next = format!("{}GET /elsewhere HTTP/1.1\r\nhost: x\r\n\r\n{last}", poll_of(&guest, 1));
    stream.write_all(next.as_bytes()).await.unwrap();
    let said = all_of(&mut stream).await;
    let answers: Vec<_> =
        said.split("HTTP/1.1 ").skip(1).map(|answer| answer.split(' ').next().unwrap()).collect();
    assert_eq!(answers, ["204", "204", "404", "204"], "{said}");
    door.close().await;
}

#[tokio::test]
async fn polls_that_wait_are_answered_at_the_stop() {
    let door = Door::open().await;
    let guest = door.guest(1);
    let mut stream = raw(&door, &poll_of(&guest, 50)).await;
    heard(&door, &guest, true).await;
    door.close().await;
    assert!(all_of(&mut stream).await.starts_with("HTTP/1.1 503"));
}
