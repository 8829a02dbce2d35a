//! The API on its listeners: socket file, token, stop; and the command line against it.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::support::fleet_api::{Asked, FakeControl, Fleet};
use axum::body::Body;
use http::{Request, StatusCode};
use runner_fleet::http::{Serving, serve};
use runner_fleet_actors::port::Secret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

struct Api {
    folder: tempfile::TempDir,
    control: Arc<FakeControl>,
    stop: CancellationToken,
    serving: Serving,
}

impl Api {
    async fn start(token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let control = Arc::new(FakeControl::with_pools());
        let stop = CancellationToken::new();
        let listen = token.map(|token| ("127.0.0.1:0".parse().unwrap(), Secret::new(token)));
        let socket = folder.path().join("api.sock");
        let serving = serve(control.clone(), &socket, listen, stop.clone()).await.unwrap();
        Self { folder, control, stop, serving }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.serving.task).await.expect("it stops").unwrap();
    }

    /// The command line against this daemon: exit code, stdout, stderr.
    async fn command(&self, args: &[&str]) -> (i32, String, String) {
        command(&self.socket(), args).await
    }
}

async fn command(socket: &Path, args: &[&str]) -> (i32, String, String) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_runner-fleet"))
        .args(args)
        .env("RUNNER_FLEET_SOCKET", socket)
        .output()
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn refused(socket: &Path) -> std::io::Error {
    let control = Arc::new(FakeControl::default());
    serve(control, socket, None, CancellationToken::new()).await.expect_err("not served")
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group_and_goes_with_the_daemon() {
    let api = Api::start(None).await;
    let socket = api.socket();
    let meta = fs::metadata(&socket).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    let (folder, stop, task) = (api.folder, api.stop, api.serving.task);
    stop.cancel();
    tokio::time::timeout(SOON, task).await.unwrap().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn the_socket_of_a_dead_daemon_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let stop = CancellationToken::new();
    let control = Arc::new(FakeControl::default());
    let serving = serve(control, &socket, None, stop.clone()).await.unwrap();
    UnixStream::connect(&socket).await.unwrap();
    stop.cancel();
    tokio::time::timeout(SOON, serving.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_socket_of_a_living_daemon_is_left_alone() {
    let api = Api::start(None).await;
    let error = refused(&api.socket()).await;
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("another daemon answers at"), "{error}");
    assert_eq!(api.command(&["reconcile"]).await.0, 0, "the first one still answers");
    api.end().await;
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    fs::write(&path, "data").unwrap();
    let error = refused(&path).await;
    assert!(error.to_string().contains("is no socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    let nowhere = refused(Path::new("/nowhere/api.sock")).await.to_string();
    assert!(nowhere.contains("/nowhere/api.sock"), "{nowhere}");
}

/// One request over TCP as it is on the wire; the status line of the answer.
async fn over_tcp(api: &Api, path: &str, authorization: Option<&str>) -> String {
    let mut stream = TcpStream::connect(api.serving.tcp.unwrap()).await.unwrap();
    let header =
        authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn over_tcp_every_call_but_the_health_probe_needs_the_token() {
    let api = Api::start(Some("s3cr3t")).await;
    for (path, authorization, status) in [
        ("/v1/status", Some("Bearer s3cr3t"), "200"),
        ("/v1/status", Some("bearer s3cr3t"), "200"),
        ("/v1/status", None, "401"),
        ("/v1/status", Some("Bearer"), "401"),
        ("/v1/status", Some("Bearer s3cr3"), "401"),
        ("/v1/status", Some("Bearer s3cr3tt"), "401"),
        ("/v1/status", Some("Basic s3cr3t"), "401"),
        ("/v1/nope", None, "401"),
        ("/readyz", None, "401"),
        ("/healthz", None, "200"),
    ] {
        let line = over_tcp(&api, path, authorization).await;
        assert!(line.contains(status), "{path} {authorization:?}: {line}");
    }
    api.end().await;
}

#[tokio::test]
async fn a_refused_caller_learns_the_scheme_and_nothing_happens() {
    let fleet = Fleet::with_token("s3cr3t");
    let request = Request::post("/v1/reconcile").body(Body::empty()).unwrap();
    let response = fleet.send(request).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(fleet.control.asked(), []);
}

#[tokio::test]
async fn half_a_request_does_not_hold_up_the_stop() {
    let api = Api::start(None).await;
    let mut stream = UnixStream::connect(api.socket()).await.unwrap();
    // A whole one first: once it is answered, the connection is certainly taken.
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
    stream.write_all(b"POST /v1/reconcile HTTP/1.1\r\nHost: x\r\nContent-Le").await.unwrap();
    api.end().await;
    drop(stream);
}

#[tokio::test]
async fn the_command_line_shows_and_orders() {
    let api = Api::start(None).await;
    let (code, out, err) = api.command(&["status"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("fleet ci  version 1.2.3") && out.contains("NOT READY"), "{out}");
    assert!(out.contains("provider east: held") && out.contains("1 busy and 1 spare"), "{out}");

    let (_, out, _) = api.command(&["runners", "--pool", "large", "--state", "busy"]).await;
    assert!(out.contains(Fleet::BUSY) && !out.contains(Fleet::IDLE), "{out}");
    let (_, out, _) = api.command(&["runners", Fleet::BUSY]).await;
    assert!(out.contains("repository    o/r"), "{out}");
    let (_, out, _) = api.command(&["pools", "--output", "json"]).await;
    let pools: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(pools["pools"][0]["name"], "large");

    let (large, idle) = ("large".parse().unwrap(), Fleet::IDLE.parse().unwrap());
    let orders: [(&[&str], Vec<Asked>); 8] = [
        (&["target", "large", "7"], vec![Asked::Target("large".parse().unwrap(), Some(7))]),
        (&["target", "large", "clear"], vec![Asked::Target("large".parse().unwrap(), None)]),
        (&["drain", Fleet::IDLE], vec![Asked::Drain(Fleet::IDLE.parse().unwrap())]),
        (&["delete", Fleet::IDLE, "--force"], vec![Asked::Delete(idle, true)]),
        (&["flush", "large"], vec![Asked::Flush("large".parse().unwrap())]),
        (
            &["flush", "large", "--busy", "--force"],
            vec![Asked::Flush(large), Asked::Delete(Fleet::BUSY.parse().unwrap(), true)],
        ),
        (&["reconcile"], vec![Asked::Reconcile]),
        (&["reload"], vec![Asked::Reload]),
    ];
    for (args, asked) in orders {
        let (code, out, err) = api.command(args).await;
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(!out.trim().is_empty(), "{args:?} says what happens");
        assert_eq!(api.control.asked(), asked, "{args:?}");
    }
    api.end().await;
}

#[tokio::test]
async fn exit_codes_say_whose_turn_it_is() {
    let api = Api::start(None).await;
    let (code, out, err) = api.command(&["drain", "nobody/../.."]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("there is no runner \"nobody/../..\""), "{err}");
    let (code, _, err) = api.command(&["delete", Fleet::BUSY]).await;
    assert_eq!(code, 1);
    assert!(err.contains("would kill its job"), "{err}");
    assert_eq!(api.control.asked(), []);
    assert_eq!(api.command(&["target", "large", "many"]).await.0, 2);
    assert_eq!(api.command(&["flush", "large", "--busy"]).await.0, 2);
    assert_eq!(api.command(&["--help"]).await.0, 0);
    let socket = api.socket();
    let folder = tempfile::tempdir().unwrap();
    api.end().await;
    for path in [socket, folder.path().join("api.sock")] {
        let (code, _, err) = command(&path, &["status"]).await;
        assert_eq!(code, 3);
        assert!(err.contains("the daemon does not answer at"), "{err}");
        assert!(err.contains("systemctl status runner-fleet"), "{err}");
    }
}

#[tokio::test]
async fn check_reports_every_fault_and_ends_with_two() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.toml");
    fs::write(&path, "[fleet]\nid = \"CI\"\n[github]\ntoken = \"s3cr3t\"\n").unwrap();
    let path = path.to_str().unwrap();
    let nowhere = Path::new("/nowhere");
    let (code, _, err) = command(nowhere, &["check", "--config", path]).await;
    assert_eq!(code, 2);
    assert!(err.contains(&format!("{path}:2: fleet.id: ")), "{err}");
    assert!(err.contains(&format!("{path}:4: github.token: ")), "{err}");
    assert!(!err.contains("s3cr3t"), "{err}");
    let (code, out, _) = command(nowhere, &["check", "--config", path, "--output", "json"]).await;
    assert_eq!(code, 2);
    let faults: serde_json::Value = serde_json::from_str(&out).unwrap();
    let keys: Vec<_> = faults["faults"].as_array().unwrap().iter().map(|f| &f["key"]).collect();
    assert_eq!(keys, ["providers", "fleet.id", "github.token"]);
    assert_eq!(faults["faults"][1]["line"], 2);
    assert_eq!(command(nowhere, &["run", "--config", path]).await.0, 2);
}

#[tokio::test]
async fn completions_are_for_the_named_shell() {
    let (code, out, _) = command(Path::new("/nowhere"), &["completions", "bash"]).await;
    assert_eq!(code, 0);
    assert!(out.contains("complete -F") && out.contains("runner-fleet"), "{out}");
}
