//! The way to GitHub: time-outs, dead peers, proxies from the environment, a private CA.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::support::github::proxy::Proxy;
use crate::support::github::*;
use runner_fleet::{
    fake::github::Options,
    github::{GithubConfig, Timeouts},
};
use runner_fleet_actors::port::{ErrorClass, Forge, PortError};

fn data(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file)
}

#[tokio::test]
async fn a_peer_that_never_answers_is_given_up() {
    let fake = start(Options::default()).await;
    let timeouts = Timeouts { whole: Duration::from_millis(200), ..Timeouts::default() };
    let github = client(GithubConfig { timeouts, ..with_token(&fake) });
    let repo = scope("octo-org/octo-repo");
    fake.faults().hang(true);
    let listing = github.list(&repo).await.unwrap_err();
    assert_eq!((listing.class, listing.certain), (ErrorClass::Transient, true));
    let register = github.register(&order(&repo, 1)).await.unwrap_err();
    assert_eq!((register.class, register.certain), (ErrorClass::Transient, false));
    assert!(register.what.contains("0.2 s"), "{register}");
    fake.faults().hang(false);
    github.list(&repo).await.unwrap();
    assert_eq!(github.status().in_flight, 0);
}

#[tokio::test]
async fn a_peer_that_is_not_there_got_nothing() {
    // Bound and never listening: the port stays taken, and whoever connects is refused.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = socket.local_addr().unwrap();
    let fake = start(Options::default()).await;
    let github = client(GithubConfig { url: format!("http://{closed}"), ..with_token(&fake) });
    let error = github.register(&order(&scope("octo-org/octo-repo"), 1)).await.unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Transient, true));
    assert!(error.what.contains("refused") && error.what.contains("proxy"), "{error}");
}

#[tokio::test]
async fn many_calls_to_a_dead_peer_wait_for_it_together() {
    let fake = start(Options { app: Some(app()), ..Options::default() }).await;
    let timeouts = Timeouts { whole: Duration::from_millis(500), ..Timeouts::default() };
    let org = "octo-org";
    // With a personal token they wait for the runner groups, with an App for its token.
    for config in [with_token(&fake), with_app(&fake)] {
        let github = Arc::new(client(GithubConfig { timeouts: timeouts.clone(), ..config }));
        let before: u64 = fake.stats().calls.values().sum();
        fake.faults().hang(true);
        let calls = (0..20).map(|token| {
            let github = Arc::clone(&github);
            tokio::spawn(async move { github.register(&order(&scope(org), token)).await })
        });
        for call in futures::future::join_all(calls).await {
            let error = call.unwrap().unwrap_err();
            assert_eq!((error.class, error.certain), (ErrorClass::Transient, true));
        }
        let calls: u64 = fake.stats().calls.values().sum();
        assert_eq!(calls - before, 1);
        fake.faults().hang(false);
        github.register(&order(&scope(org), before)).await.unwrap();
    }
}

#[tokio::test]
async fn more_calls_than_may_be_under_way_at_once_all_end() {
    let fake = start(Options::default()).await;
    let timeouts = Timeouts { whole: Duration::from_millis(300), ..Timeouts::default() };
    let github = Arc::new(client(GithubConfig { timeouts, ..with_token(&fake) }));
    fake.faults().hang(true);
    let calls = (0..200).map(|token| {
        let github = Arc::clone(&github);
        let order = order(&scope("octo-org/octo-repo"), token);
        tokio::spawn(async move { github.register(&order).await.unwrap_err() })
    });
    let mut unanswered = 0;
    for call in futures::future::join_all(calls).await {
        match call.unwrap() {
            PortError { class: ErrorClass::Transient, .. } => unanswered += 1,
            // Not for an answer, but for a place: it was never sent.
            error => assert!(
                matches!(error.class, ErrorClass::RateLimited { .. }) && error.certain,
                "{error}"
            ),
        }
    }
    assert!((1..=50).contains(&unanswered), "{unanswered} were sent");
    assert_eq!(github.status().in_flight, 0);
}

#[test]
fn a_ca_file_that_is_none_is_refused_with_its_name() {
    for (file, why) in [("nowhere.pem", "No such file"), ("github-runners.schema.json", "")] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _inside = runtime.enter();
        let config =
            GithubConfig { ca_file: Some(data(file)), ..GithubConfig::new(app_auth(), fleet()) };
        let error = runner_fleet::github::Github::new(config, HandClock::new()).unwrap_err();
        assert_eq!(error.class, ErrorClass::Invalid);
        assert!(error.what.contains(file) && error.what.contains(why), "{error}");
    }
}

/// The environment belongs to the whole process, so each case runs in a process of its own: this
/// test binary again, with only the case below.
async fn in_own_process(url: &str, env: &[(&str, &str)]) -> bool {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "github_network::lists_what_the_environment_leads_to", "--ignored"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"] {
        child.env_remove(name).env_remove(name.to_lowercase());
    }
    child.env("TEST_GITHUB_URL", url).envs(env.iter().copied());
    child.output().await.unwrap().status.success()
}

#[tokio::test]
#[ignore = "run by the tests below, in a process with an environment of its own"]
async fn lists_what_the_environment_leads_to() {
    let fake = start(Options::default()).await;
    let url = std::env::var("TEST_GITHUB_URL").unwrap();
    let ca_file = std::env::var_os("TEST_GITHUB_CA").map(PathBuf::from);
    let github = client(GithubConfig { url, ca_file, ..with_token(&fake) });
    github.list(&scope("octo-org")).await.unwrap();
}

#[tokio::test]
async fn an_http_proxy_from_the_environment_is_used_in_either_case() {
    let fake = start(Options::default()).await;
    let upstream: SocketAddr = fake.url().strip_prefix("http://").unwrap().parse().unwrap();
    for name in ["HTTP_PROXY", "http_proxy"] {
        let proxy = Proxy::start(upstream).await;
        let address = format!("http://user:hunter2@{}", proxy.address);
        assert!(in_own_process("http://ghes.test", &[(name, &address)]).await);
        let heads = proxy.heads();
        assert!(heads[0].starts_with("GET http://ghes.test/api/v3/orgs/octo-org/"), "{heads:?}");
        // "user:hunter2" in base64 (RFC 7617).
        let password = "proxy-authorization: basic dxnlcjpodw50zxiy";
        assert!(heads[0].to_lowercase().contains(password), "{heads:?}");
    }
    assert_eq!(fake.stats().counted, 2);
}

#[tokio::test]
async fn a_host_in_no_proxy_is_reached_directly() {
    let fake = start(Options::default()).await;
    let upstream: SocketAddr = fake.url().strip_prefix("http://").unwrap().parse().unwrap();
    let proxy = Proxy::start(upstream).await;
    let address = format!("http://{}", proxy.address);
    for name in ["NO_PROXY", "no_proxy"] {
        let env = [("HTTP_PROXY", address.as_str()), (name, "example.net,127.0.0.0/8")];
        assert!(in_own_process(&fake.url(), &env).await);
    }
    assert_eq!(proxy.heads(), Vec::<String>::new());
    assert_eq!(fake.stats().counted, 2);
}

/// A GitHub Enterprise Server with a certificate of the test's CA, which has no runners.
fn tls_github() -> SocketAddr {
    let read = |file: &str| std::io::BufReader::new(std::fs::File::open(data(file)).unwrap());
    let chain: Result<Vec<_>, _> =
        rustls_pemfile::certs(&mut read("github-tls-cert.pem")).collect();
    let key = rustls_pemfile::private_key(&mut read("github-tls-key.pem")).unwrap().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.unwrap(), key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream.unwrap());
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.extend(byte);
            }
            let body = r#"{"total_count": 0, "runners": []}"#;
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            let _ = stream.flush();
        }
    });
    address
}

#[tokio::test]
async fn a_tunnel_through_the_proxy_ends_at_a_github_with_a_private_ca() {
    let upstream = tls_github();
    let ca = data("github-tls-ca.pem");
    let ca = ca.to_str().unwrap();
    for name in ["HTTPS_PROXY", "https_proxy"] {
        let proxy = Proxy::start(upstream).await;
        let address = format!("http://user:hunter2@{}", proxy.address);
        let env = [(name, address.as_str()), ("TEST_GITHUB_CA", ca)];
        assert!(in_own_process("https://ghes.test", &env).await);
        let heads = proxy.heads();
        assert!(heads[0].starts_with("CONNECT ghes.test:443 "), "{heads:?}");
        assert!(!heads[0].to_lowercase().contains("bearer"), "the token is for GitHub only");
    }
    let proxy = Proxy::start(upstream).await;
    let address = format!("http://{}", proxy.address);
    let env = [("HTTPS_PROXY", address.as_str())];
    assert!(!in_own_process("https://ghes.test", &env).await, "without the CA nobody is trusted");
}
