//! One call to LXD's REST API, and the wait for the operation that it may begin.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc, time::Duration};

use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use runner_fleet_actors::port::{Clock, ErrorClass, PortError, PortStatus, grounds};
use serde_json::Value;
use tokio::sync::OnceCell;
use url::form_urlencoded;

use super::{
    answer::{Answer, Purpose},
    transport::{Way, Wire},
};
use crate::{
    calls::Calls,
    config::{LxdAccess, LxdReach},
    pause::{self, Told},
    provider::text::tidy,
};

/// Longest answer that is read: a thousand instances with all their details take about 6 MB.
const BODY_MAX: usize = 64 << 20;
/// Sends LXD away from a wait a little before the call itself is given up.
const WAIT_SLICE: Duration = Duration::from_secs(20);

/// How long calls may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection to be made.
    pub connect: Duration,
    /// For one HTTP call as a whole.
    pub call: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), call: Duration::from_secs(60) }
    }
}

/// What is asked. No `Debug`: the body of a create holds a secret.
pub(super) struct Call<'a> {
    /// What is tried, on what: the beginning of the message should it fail.
    pub(super) tried: String,
    pub(super) purpose: Purpose,
    pub(super) method: Method,
    /// Below `/1.0`.
    pub(super) path: Vec<&'a str>,
    pub(super) query: Vec<(&'a str, String)>,
    pub(super) body: Option<Value>,
    /// Not in the fleet's project but in all of them.
    pub(super) all_projects: bool,
}

impl<'a> Call<'a> {
    pub(super) fn read(tried: impl Into<String>, path: impl Into<Vec<&'a str>>) -> Self {
        Self {
            tried: tried.into(),
            purpose: Purpose::Read,
            method: Method::GET,
            path: path.into(),
            query: Vec::new(),
            body: None,
            all_projects: false,
        }
    }

    pub(super) fn change(
        tried: impl Into<String>,
        method: Method,
        path: impl Into<Vec<&'a str>>,
        body: Option<Value>,
    ) -> Self {
        Self { purpose: Purpose::Change, method, body, ..Self::read(tried, path) }
    }

    pub(super) fn everywhere(self) -> Self {
        Self { all_projects: true, ..self }
    }

    pub(super) fn query(mut self, key: &'a str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }
}

/// How an operation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// LXD's own text.
    Failed(String),
    /// Not at its end yet.
    Running,
    /// LXD knows it no more: it keeps ended operations for a few seconds, and none over its restart.
    Forgotten,
}

fn outcome(operation: &Value) -> Outcome {
    let text = || operation.get("err").and_then(Value::as_str).unwrap_or_default();
    match operation.get("status_code").and_then(Value::as_u64) {
        Some(200) => Outcome::Done,
        Some(400..) => Outcome::Failed(text().to_owned()),
        _ => Outcome::Running,
    }
}

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) extensions: BTreeSet<String>,
    pub(super) clustered: bool,
    /// `lxc`, `qemu | lxc`: what it can make.
    pub(super) drivers: String,
    /// `lxd 5.0.2`, `incus 6.0`.
    pub(super) version: String,
}

impl Server {
    pub(super) fn has(&self, extension: &str) -> bool {
        self.extensions.contains(extension)
    }
}

/// The way to one project of one LXD.
pub(super) struct Api {
    way: Way,
    project: String,
    timeouts: Timeouts,
    clock: Arc<dyn Clock>,
    server: OnceCell<Server>,
    calls: Calls,
    /// What to do should LXD say that this client may not.
    if_refused: Arc<str>,
}

impl Api {
    /// Reads certificates and makes no call.
    pub(super) fn new(
        access: &LxdAccess,
        timeouts: Timeouts,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PortError> {
        let way = Way::new(&access.reach, timeouts.connect)?;
        let (server, calls) = (OnceCell::new(), Calls::default());
        let project = access.project.clone();
        let if_refused = match &access.reach {
            // Who may open the socket needs no certificate; Incus has one for each user's own project.
            LxdReach::Socket(_) => format!(
                ": through this socket this user may not use project {project:?}: write one that it may \
                 into `project` of the provider (Incus makes each user one of its own, user-UID: \
                 incus project list), or use the administrators' socket"
            ),
            LxdReach::Https { .. } => format!(
                ": the client's certificate must be trusted by LXD (lxc config trust add CERTIFICATE), \
                 and may be restricted to no other projects than {project:?}"
            ),
        };
        let if_refused = if_refused.into();
        Ok(Self { way, project, timeouts, clock, server, calls, if_refused })
    }

    pub(super) fn project(&self) -> &str {
        &self.project
    }

    pub(super) fn place(&self) -> String {
        self.way.place()
    }

    pub(super) fn host(&self) -> Cow<'_, str> {
        self.way.host()
    }

    /// The bare connection, for the stream of events.
    pub(super) async fn connect(&self) -> Result<Box<dyn Wire>, PortError> {
        self.way.connect().await
    }

    /// Where events are streamed.
    pub(super) fn events(&self) -> String {
        self.target(&Call::read("", ["events"]).query("type", "lifecycle"))
    }

    /// Makes the call and returns whatever was answered, also a failure.
    ///
    /// # Errors
    /// Where no answer came; doubtful unless it reads, or the connection was never made.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Answer, PortError> {
        let _under_way = self.calls.begin();
        let sent = self.attempt(call).await;
        let failed = match &sent {
            Err(error) if error.local => None,
            Err(error) => Some(error.what.clone()),
            Ok(answer) if answer.status >= 500 => {
                Some(format!("{}: HTTP {}", call.tried, answer.status))
            }
            Ok(_) => None,
        };
        if let Some(what) = failed {
            self.calls.count_failure();
            self.calls.keep_error(what, self.clock.now());
        }
        sent
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Answer, PortError> {
        let wire = self.way.connect().await.map_err(|error| {
            let what = format!("{}: {}", call.tried, error.what);
            PortError::certain(error.class, what).leaving_nothing(error.certain)
        })?;
        // The last that is done before the request is written.
        if call.purpose != Purpose::Read {
            grounds::check(&call.tried)?;
        }
        let doubt = |why: String| {
            let what = format!("{}: {}: {why}", call.tried, self.way.place());
            PortError::certain(ErrorClass::Transient, what)
                .leaving_nothing(call.purpose == Purpose::Read)
        };
        match tokio::time::timeout(self.timeouts.call, self.exchange(wire, call)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => Err(doubt(why)),
            Err(_) => Err(doubt(format!("no answer within {} s", self.timeouts.call.as_secs()))),
        }
    }

    async fn exchange(&self, wire: Box<dyn Wire>, call: &Call<'_>) -> Result<Answer, String> {
        let lost =
            |error: hyper::Error| format!("connection lost: {}", tidy(&error.to_string(), &[]));
        let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await.map_err(lost)?;
        let body = call.body.as_ref().map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(call.method.clone())
            .uri(self.target(call))
            .header(header::HOST, &*self.way.host())
            .header(header::USER_AGENT, concat!("runner-fleet/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(lost)?;
            let status = response.status().as_u16();
            let of = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
            let retry_after = of(header::RETRY_AFTER).map(str::to_owned);
            let location = of(header::LOCATION).map(|to| tidy(to, &[]));
            let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
            let body = body.map_err(|error| format!("connection lost: {error}"))?.to_bytes();
            let at = self.clock.now();
            let retry_at = retry_after.and_then(|t| pause::until(Told::RetryAfter(&t), at));
            // LXD moves nothing: somebody in between does, and the client's certificate is not theirs.
            if let (301 | 302 | 303 | 307 | 308, Some(to)) = (status, location) {
                let text =
                    format!("it has moved to {to}, which is not followed: correct the address");
                let body = serde_json::json!({ "error": text });
                let if_refused = self.if_refused.clone();
                return Ok(Answer { status, retry_at, body, at, if_refused });
            }
            match serde_json::from_slice::<Value>(&body) {
                Ok(body) => {
                    // Where LXD had begun to answer before it failed, the status is in the body.
                    let late = body.get("type").and_then(Value::as_str) == Some("error");
                    let code = body.get("error_code").and_then(Value::as_u64);
                    let code = code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
                    let status = if late && status < 400 { code } else { status };
                    Ok(Answer { status, retry_at, body, at, if_refused: self.if_refused.clone() })
                }
                // A proxy's page for a failure is an answer; nonsense for a success is none.
                Err(_) if status >= 400 => {
                    let text = tidy(&String::from_utf8_lossy(&body), &[]);
                    let body = serde_json::json!({ "error": text });
                    Ok(Answer { status, retry_at, body, at, if_refused: self.if_refused.clone() })
                }
                Err(error) => Err(format!("the answer is not LXD's: {error}")),
            }
        };
        // The connection is driven beside the exchange and ends with it.
        tokio::pin!(connection);
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = &mut connection => match ended {
                // The answer may be complete when the other side closes.
                Ok(()) => exchange.await,
                Err(error) => Err(lost(error)),
            },
        }
    }

    /// `/1.0/a/b?project=p&…`.
    fn target(&self, call: &Call<'_>) -> String {
        let mut target = String::from("/1.0");
        for segment in &call.path {
            target.push('/');
            target.extend(form_urlencoded::byte_serialize(segment.as_bytes()).map(|part| {
                // A plus is a space in a query only.
                if part == "+" { "%20" } else { part }
            }));
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        if call.all_projects {
            query.append_pair("all-projects", "true");
        } else {
            query.append_pair("project", &self.project);
        }
        for (key, value) in &call.query {
            query.append_pair(key, value);
        }
        format!("{target}?{}", query.finish())
    }

    /// What a synchronous call returns.
    ///
    /// # Errors
    /// Those of [`Api::send`], and whatever the status means.
    pub(super) async fn get(&self, call: Call<'_>) -> Result<Value, PortError> {
        let answer = self.send(&call).await?.success(&call.tried, call.purpose, &[])?;
        Ok(answer.metadata().clone())
    }

    /// As [`Api::get`]; `None` where what is named is not there.
    pub(super) async fn find(&self, call: Call<'_>) -> Result<Option<Value>, PortError> {
        let answer = self.send(&call).await?;
        if answer.is_not_found() {
            return Ok(None);
        }
        let answer = answer.success(&call.tried, call.purpose, &[])?;
        Ok(Some(answer.metadata().clone()))
    }

    /// Waits for an operation, at most `patience`, and no longer than a call may take: `Running` says
    /// that it is worth asking again.
    ///
    /// # Errors
    /// Where LXD cannot be asked.
    pub(super) async fn wait(
        &self,
        tried: &str,
        operation: &str,
        patience: Duration,
    ) -> Result<Outcome, PortError> {
        let slice = patience.min(WAIT_SLICE).min(self.timeouts.call / 2);
        let call = Call::read(tried, ["operations", operation, "wait"])
            .query("timeout", slice.as_secs().max(1).to_string());
        let waited = self.send(&call).await?;
        match outcome(waited.metadata()) {
            Outcome::Running => {}
            ended => return Ok(ended),
        }
        // A wait that is over without an end, and, in newer versions, one for an operation that
        // failed, is answered as an error of its own: the operation itself is what counts.
        let seen = self.find(Call::read(tried, ["operations", operation])).await?;
        Ok(seen.as_ref().map_or(Outcome::Forgotten, outcome))
    }

    /// What the server can do; asked once, as long as it trusts us.
    ///
    /// # Errors
    /// `Auth` where it does not trust us, `Invalid` where the project is not there.
    pub(super) async fn server(&self) -> Result<&Server, PortError> {
        self.server.get_or_try_init(|| self.introduce()).await
    }

    async fn introduce(&self) -> Result<Server, PortError> {
        let tried = "asking LXD what it can do";
        let info = self.get(Call::read(tried, [])).await?;
        if info.get("auth").and_then(Value::as_str) != Some("trusted") {
            let what = format!(
                "{}: it does not trust this client's certificate: lxc config trust add \
                 CERTIFICATE on its machine",
                self.place()
            );
            return Err(PortError::certain(ErrorClass::Auth, what));
        }
        let text = |key: &str| {
            let text = info.get("environment").and_then(|e| e.get(key)).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let extensions = info.get("api_extensions").and_then(Value::as_array);
        let extensions = extensions.into_iter().flatten().filter_map(Value::as_str);
        let clustered = info.get("environment").and_then(|e| e.get("server_clustered"));
        let server = Server {
            extensions: extensions.map(str::to_owned).collect(),
            clustered: clustered.and_then(Value::as_bool).unwrap_or(false),
            drivers: text("driver"),
            version: format!("{} {}", text("server"), text("server_version")),
        };
        self.look_for_project().await?;
        Ok(server)
    }

    /// LXD lists the instances of a project that does not exist as none at all; taken at its word,
    /// a slip of the pen would read as a fleet whose VMs have all vanished.
    async fn look_for_project(&self) -> Result<(), PortError> {
        let tried = format!("looking for project {:?}", self.project);
        if self.find(Call::read(tried, ["projects", self.project.as_str()])).await?.is_some() {
            return Ok(());
        }
        let names = self.names("listing projects", "projects").await.unwrap_or_default();
        let what = format!(
            "{}: project {:?}: {}",
            self.place(),
            self.project,
            crate::provider::text::candidates(names)
        );
        Err(PortError::certain(ErrorClass::Invalid, what))
    }

    /// The names of a collection's members: the last part of each address.
    pub(super) async fn names(&self, tried: &str, what: &str) -> Result<Vec<String>, PortError> {
        let list = self.get(Call::read(tried, [what])).await?;
        let addresses = list.as_array().into_iter().flatten().filter_map(Value::as_str);
        let last = |address: &str| {
            let path = address.split('?').next().unwrap_or_default();
            path.rsplit('/').next().unwrap_or_default().to_owned()
        };
        Ok(addresses.map(last).collect())
    }

    pub(super) fn status(&self) -> PortStatus {
        self.calls.status()
    }
}
