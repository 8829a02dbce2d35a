//! The outside of a fleet on loopback: a GitHub, a cloud, and guests that run jobs in its VMs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use runner_fleet::fake::{
    github::{self, App, FakeGithub, Group},
    guest::StandIns,
    openstack::{self, FakeOpenstack},
};
use serde_json::Value;

use super::e2e::Home;

pub const TOKEN: &str = "github_pat_of_the_end_to_end_tests";
pub const PASSWORD: &str = "fake-cloud-password";
pub const API_TOKEN: &str = "bearer-of-the-end-to-end-tests";
pub const HOOK_SECRET: &str = "shared-by-github-and-the-daemon";
pub const APP_ID: u64 = 4711;
pub const INSTALLATION: u64 = 77;
pub const APP_KEY: &str = include_str!("../data/github-app-key.pem");
const APP_PUBLIC_KEY: &str = include_str!("../data/github-app-key.pub.pem");

/// The fakes.
pub struct Outside {
    pub github: FakeGithub,
    pub cloud: FakeOpenstack,
    pub guests: StandIns,
    /// JIT configs and installation tokens, as GitHub handed them out.
    handed_out: Arc<Mutex<BTreeSet<String>>>,
}

impl Outside {
    pub async fn start(seed: u64) -> Self {
        Self::start_with(seed, Duration::from_millis(20)).await
    }

    /// Both sides answer after `latency`.
    pub async fn start_with(seed: u64, latency: Duration) -> Self {
        let handed_out: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let noted = Arc::clone(&handed_out);
        let permissions = ["administration", "organization_self_hosted_runners"]
            .map(|what| (what.to_owned(), "write".to_owned()));
        let github = FakeGithub::start(github::Options {
            tokens: vec![TOKEN.to_owned()],
            app: Some(App {
                id: APP_ID.to_string(),
                installation_id: INSTALLATION,
                public_key: APP_PUBLIC_KEY.to_owned(),
                token_life: Duration::from_secs(3600),
                permissions: BTreeMap::from(permissions),
            }),
            groups: vec![
                Group { id: 1, name: "Default".to_owned(), default: true, closed: false },
                Group { id: 7, name: "Builders".to_owned(), default: false, closed: false },
            ],
            rate_limit: None,
            // Minutes at GitHub. A daemon that is killed before it has noted its session waits for it.
            scale_sets: github::SetOptions {
                session_lapses: Duration::from_secs(5),
                ..github::SetOptions::default()
            },
            latency,
            seed,
            recorder: Some(Arc::new(move |exchange| {
                let Some(answer) = &exchange.response else { return };
                for key in ["encoded_jit_config", "token"] {
                    if let Some(secret) = answer.get(key).and_then(Value::as_str) {
                        noted.lock().unwrap().insert(secret.to_owned());
                    }
                }
            })),
            ..github::Options::default()
        })
        .await
        .unwrap();
        let millis = Duration::from_millis;
        let guests = StandIns::new(github.clone(), millis(100)..=millis(600), seed);
        let cloud = FakeOpenstack::start(openstack::Options {
            boot: millis(200)..=millis(900),
            delete: millis(100)..=millis(500),
            api_latency: latency,
            seed,
            guest: Some(Arc::new(guests.clone())),
            ..openstack::Options::default()
        })
        .await
        .unwrap();
        Self { github, cloud, guests, handed_out }
    }

    /// Lays down the secrets that a configuration of these tests names.
    pub fn furnish(&self, home: &Home) {
        home.secret("token", TOKEN);
        home.secret("app.pem", APP_KEY);
        home.secret("api-token", API_TOKEN);
        home.secret("clouds.yaml", &self.cloud.clouds_yaml());
    }

    /// The configuration up to its pools. `auth` is what `[github]` has besides its address.
    pub fn head(&self, auth: &str) -> String {
        format!(
            r#"[fleet]
id = "ci"
state_dir = "state"
journal = "journal.log"
stop_deadline = "20s"

[api]
socket = "api.sock"
listen = "127.0.0.1:0"
token_file = "api-token"

[github]
url = "{}"
{auth}

[providers.fake]
kind = "openstack"
cloud = "fake"
clouds_file = "clouds.yaml"
concurrency = 20
rate = 200
"#,
            self.github.url()
        )
    }

    /// All secrets so far, or how they begin: none of it may ever be shown.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets: Vec<String> = self.handed_out.lock().unwrap().iter().cloned().collect();
        // As the user data holds them.
        let encoded: Vec<_> = secrets.iter().map(|secret| BASE64.encode(secret)).collect();
        secrets.extend(encoded);
        // The user data itself, plain and as it goes over the wire.
        secrets.extend(["ACTIONS_RUNNER_INPUT_JITCONFIG=", "IyEvYmluL3No"].map(str::to_owned));
        secrets.extend([TOKEN, PASSWORD, API_TOKEN].map(str::to_owned));
        secrets.extend(self.cloud.tokens());
        secrets.push(APP_KEY.lines().nth(3).unwrap().to_owned());
        // How every JWT begins: {"alg": or {"typ": in base64.
        secrets.extend(["eyJhbGci", "eyJ0eXAi"].map(str::to_owned));
        secrets
    }

    pub fn vms_of(&self, pool: &str) -> usize {
        let prefix = format!("ci--{pool}--");
        self.cloud.vms().iter().filter(|vm| vm.name.starts_with(&prefix)).count()
    }
}

/// The section of a daemon that takes webhooks, their secret laid down; and the address for GitHub.
pub fn webhooks(home: &Home) -> (String, String) {
    home.secret("hook-secret", HOOK_SECRET);
    // Free now, and nobody else on loopback asks for one.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let section = format!("[webhooks]\nlisten = \"{free}\"\nsecret_file = \"hook-secret\"\n\n");
    (section, format!("http://{free}/webhooks/github"))
}

/// A pool with short limits.
pub fn pool(name: &str, scope: &str, sizes: &str) -> String {
    format!(
        r#"
[[pools]]
name = "{name}"
scope = "{scope}"
labels = ["self-hosted", "{name}"]
provider = "fake"
image = "debian-12"
flavor = "m1.small"
network = "demo-net"
{sizes}
limits = {{ launch = "20s", register = "20s", idle_proof = "1s", watch = "2s", idle_alone = "4s", settle = "1s", ask = "20s" }}
"#
    )
}

/// Fails if any of the secrets is in anything that was said.
pub fn nothing_secret_was_said(home: &Home, secrets: &[String]) {
    let said = home.everything_said();
    assert!(
        said.iter().map(|(_, text)| text.len()).sum::<usize>() > 10_000,
        "there is much to read"
    );
    for (path, text) in said {
        for secret in secrets {
            if let Some(at) = text.find(secret) {
                let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
                let around: String = text[line..at].chars().take(300).collect();
                panic!("a secret is in {} after {around:?}", path.display());
            }
        }
    }
}
