//! One call over the daemon's socket.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::http::api::Problem;

/// A little more than the daemon gives itself for a call, so that its own answer arrives first.
const PATIENCE: Duration = Duration::from_secs(35);

/// Why there is no answer, or not the one hoped for.
#[derive(Debug)]
pub(super) enum CallError {
    /// Nobody answers at the socket, or we may not ask.
    Unreachable(String),
    /// The daemon refuses.
    Refused(Problem),
    /// It answered, but not in words of this version.
    Broken(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(text) | Self::Broken(text) => f.write_str(text),
            Self::Refused(problem) => f.write_str(&problem.detail),
        }
    }
}

/// Calls the daemon at `socket`.
pub(super) async fn call(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<Value, CallError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    match tokio::time::timeout(PATIENCE, exchange(stream, method, path, body)).await {
        Ok(Ok((status, bytes))) => understand(status, &bytes),
        Ok(Err(error)) => Err(CallError::Unreachable(format!(
            "the daemon at {} broke off: {error}; did it stop? (journalctl -u runner-fleet)",
            socket.display()
        ))),
        Err(_) => Err(CallError::Unreachable(format!(
            "the daemon at {} gives no answer within {} s (journalctl -u runner-fleet)",
            socket.display(),
            PATIENCE.as_secs()
        ))),
    }
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let body = body.map(|document| Bytes::from(document.to_string())).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "runner-fleet")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok::<_, hyper::Error>((status, bytes))
    };
    // The connection must be driven while the answer is awaited; its own error, if there is one,
    // also reaches the answer.
    let drive = async {
        let _reaches_the_answer = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => Ok(answer?),
        () = drive => Err("the connection ended".into()),
    }
}

fn understand(status: StatusCode, bytes: &Bytes) -> Result<Value, CallError> {
    let document: Result<Value, _> = serde_json::from_slice(bytes);
    match document {
        Ok(document) if status.is_success() => Ok(document),
        Ok(document) => match serde_json::from_value::<Problem>(document) {
            Ok(problem) => Err(CallError::Refused(problem)),
            Err(_) => Err(CallError::Broken(format!("the daemon answered {status}"))),
        },
        Err(error) => {
            Err(CallError::Broken(format!("the daemon answered {status}, and no JSON: {error}")))
        }
    }
}

fn unreachable(socket: &Path, error: &io::Error) -> CallError {
    let name = PathBuf::from(socket);
    let name = name.display();
    CallError::Unreachable(match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "the socket {name} is not for this user: {error}; \
             use sudo, or join the group that owns it (ls -l {name})"
        ),
        _ => format!(
            "the daemon does not answer at {name}: {error}; is it running? \
             (systemctl status runner-fleet; another path: --socket or RUNNER_FLEET_SOCKET)"
        ),
    })
}
