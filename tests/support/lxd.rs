//! The real LXD of the tests, asked directly: what a provider does is judged by what LXD shows.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use runner_fleet::{
    config::{LxdAccess, LxdReach},
    provider::lxd::{Lxd, LxdConfig},
};
use runner_fleet_actors::{
    name::FleetId,
    port::{Clock, LxdKind, LxdShape, Shape, TokioClock},
};
use serde_json::{Value, json};
use tokio::net::UnixStream;

/// The line that says that there is none.
/// What who runs these tests has to do.
pub const NAMED: &str =
    "RUNNER_FLEET_TEST_LXD_SOCKET names the socket of an LXD; tests/lxd/up.sh starts one";

/// How long a busy machine may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The time of providers.
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(TokioClock::starting_at(chrono::Utc::now()))
}

/// An LXD with images `tiny`, `deb12` and, where it makes virtual machines, `blank`, profile
/// `default`, bridge `lxdbr0`, storage pools `default` and `memory`: what `tests/lxd/up.sh` makes.
#[derive(Clone)]
pub struct RealLxd {
    pub socket: PathBuf,
    pub project: String,
}

impl RealLxd {
    /// The one that the environment names.
    pub fn found() -> Self {
        let socket = std::env::var_os("RUNNER_FLEET_TEST_LXD_SOCKET").expect(NAMED);
        Self { socket: socket.into(), project: "default".to_owned() }
    }

    pub fn access(&self) -> LxdAccess {
        let reach = LxdReach::Socket(self.socket.clone());
        LxdAccess { reach, project: self.project.clone() }
    }

    /// A provider for it, as another process would have it. However busy the machine is, a launch is
    /// waited for.
    pub fn provider(&self, fleet: &FleetId) -> Lxd {
        self.provider_that_waits(fleet, PATIENCE)
    }

    /// One that waits for so long after LXD's word that it has taken an order.
    pub fn provider_that_waits(&self, fleet: &FleetId, follow: Duration) -> Lxd {
        let config = LxdConfig { follow, ..LxdConfig::new(self.access(), fleet.clone()) };
        Lxd::connect(config, clock()).unwrap()
    }

    /// A profile whose device is looked for at the start only, and is not there.
    pub async fn broken_profile(&self, fleet: &FleetId) -> String {
        let profile = format!("broken-{fleet}");
        let devices = json!({
            "bad": { "type": "unix-char", "source": "/dev/no-such-device", "path": "/dev/x" },
        });
        let body = json!({ "name": profile, "devices": devices });
        self.ask("POST", "profiles", Some(body)).await;
        profile
    }

    /// The small image with these profiles.
    pub fn shape_of(&self, profiles: &[&str]) -> Shape {
        let profiles = profiles.iter().map(|profile| (*profile).to_owned()).collect();
        let lxd = LxdShape { profiles, ..LxdShape::default() };
        Shape { lxd: Some(lxd), ..self.shape() }
    }

    /// The small image as a container.
    pub fn shape(&self) -> Shape {
        let lxd = LxdShape { memory: Some(64 << 20), ..LxdShape::default() };
        Shape { image: "tiny".into(), lxd: Some(lxd), ..Shape::default() }
    }

    /// A virtual machine with nothing on its disk. That disk is larger than the image's in its storage
    /// pool (10 GiB, if nothing else is said), of which it is cloned then: for a smaller one LXD would
    /// unpack the image again.
    pub fn vm_shape(&self) -> Shape {
        let lxd = LxdShape {
            kind: LxdKind::VirtualMachine,
            cpu: Some(1),
            memory: Some(64 << 20),
            disk: Some(12 << 30),
            ..LxdShape::default()
        };
        Shape { image: "blank".into(), lxd: Some(lxd), ..Shape::default() }
    }

    /// Whether it makes virtual machines, or a word that this test is skipped.
    pub async fn makes_vms(&self) -> bool {
        let server = self.ask("GET", "", None).await;
        let driver = server["metadata"]["environment"]["driver"].as_str().unwrap_or_default();
        if driver.contains("qemu") {
            return true;
        }
        // Without these LXD does not even ask for QEMU, and nothing that up.sh can do helps.
        let missing = ["/dev/kvm", "/dev/vsock"].into_iter().find(|file| !Path::new(file).exists());
        let why = match missing {
            Some(file) => format!("no {file}"),
            None => format!("driver {driver}"),
        };
        eprintln!("skipped, because this machine's LXD makes no virtual machines ({why})");
        false
    }

    /// One call; the answer whatever it is. `path` is what follows `/1.0/`.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driven = tokio::spawn(connection);
        let mark = if path.contains('?') { '&' } else { '?' };
        let slash = if path.is_empty() { "" } else { "/" };
        let request = Request::builder()
            .method(method)
            .uri(format!("/1.0{slash}{path}{mark}project={}", self.project))
            .header("host", "lxd")
            .body(Full::new(Bytes::from(body.unwrap_or(Value::Null).to_string())))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        drop(sender);
        let _ended = driven.await;
        serde_json::from_slice(&bytes).unwrap()
    }

    /// A call whose operation is waited for.
    pub async fn done(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let answer = self.ask(method, path, body).await;
        let Some(operation) = answer["operation"].as_str().filter(|o| !o.is_empty()) else {
            return answer;
        };
        let id = operation.split('?').next().unwrap().rsplit('/').next().unwrap();
        self.ask("GET", &format!("operations/{id}/wait?timeout=60"), None).await
    }

    /// Names of all instances, whosever they are.
    pub async fn names(&self) -> Vec<String> {
        let answer = self.ask("GET", "instances", None).await;
        let last = |v: &Value| v.as_str()?.split('?').next()?.rsplit('/').next().map(str::to_owned);
        answer["metadata"].as_array().into_iter().flatten().filter_map(last).collect()
    }

    /// Makes a stopped instance by hand.
    pub async fn plant(&self, name: &str, owner: Option<&FleetId>) -> bool {
        let config = match owner {
            Some(owner) => json!({ "user.runner-fleet.fleet": owner.as_str() }),
            None => json!({}),
        };
        let body = json!({
            "name": name, "config": config, "source": { "type": "image", "alias": "tiny" },
        });
        let answer = self.done("POST", "instances", Some(body)).await;
        answer["metadata"]["status_code"] == 200
    }

    pub async fn delete(&self, name: &str) {
        let stop = json!({ "action": "stop", "force": true });
        self.done("PUT", &format!("instances/{name}/state"), Some(stop)).await;
        self.done("DELETE", &format!("instances/{name}"), None).await;
    }
}

/// A fleet id that no other test and no earlier run uses.
pub fn fleet() -> FleetId {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("t{}", &random[..10]).parse().unwrap()
}
