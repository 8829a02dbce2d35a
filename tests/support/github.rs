//! What the GitHub tests share: a fake, a client, names, a clock that is set by hand.

pub mod judge;
pub mod proxy;
pub mod receiver;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use runner_fleet::{
    fake::github::{App, FakeGithub, Options},
    github::{Auth, Github, GithubConfig, TokenSource},
};
use runner_fleet_actors::{
    name::{FleetId, RunnerName, Scope},
    port::{Clock, RegisterOrder, Secret, Time},
};

pub const TOKEN: &str = "github_pat_very_secret";
pub const APP_ID: &str = "Iv23liTESTclient";
pub const INSTALLATION: u64 = 77;
pub const APP_KEY: &str = include_str!("../data/github-app-key.pem");
pub const APP_PUBLIC_KEY: &str = include_str!("../data/github-app-key.pub.pem");

/// Stands still until it is moved.
pub struct HandClock(Mutex<Time>);

impl HandClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(chrono::Utc::now())))
    }
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
    pub fn set(&self, to: Time) {
        *self.0.lock().unwrap() = to;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Time {
        *self.0.lock().unwrap()
    }
}

pub fn fleet() -> FleetId {
    "ci".parse().unwrap()
}

pub fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

pub fn name(token: u64) -> RunnerName {
    RunnerName::new(&fleet(), &"small".parse().unwrap(), token)
}

pub fn labels() -> Vec<String> {
    ["self-hosted", "Linux", "small"].map(str::to_owned).to_vec()
}

pub fn order(in_scope: &Scope, token: u64) -> RegisterOrder {
    RegisterOrder { name: name(token), scope: in_scope.clone(), group: None, labels: labels() }
}

pub fn with_token(fake: &FakeGithub) -> GithubConfig {
    let auth = Auth::Token(TokenSource::fixed(Secret::new(TOKEN)));
    GithubConfig { url: fake.url(), ..GithubConfig::new(auth, fleet()) }
}

pub fn app() -> App {
    App {
        id: APP_ID.to_owned(),
        installation_id: INSTALLATION,
        public_key: APP_PUBLIC_KEY.to_owned(),
        token_life: Duration::from_secs(3600),
        permissions: BTreeMap::from(
            [("administration", "write"), ("organization_self_hosted_runners", "write")]
                .map(|(what, level)| (what.to_owned(), level.to_owned())),
        ),
    }
}

pub fn app_auth() -> Auth {
    Auth::App {
        id: APP_ID.to_owned(),
        installation_id: INSTALLATION,
        private_key: TokenSource::fixed(Secret::new(APP_KEY)),
    }
}

pub fn with_app(fake: &FakeGithub) -> GithubConfig {
    GithubConfig { url: fake.url(), ..GithubConfig::new(app_auth(), fleet()) }
}

pub fn client(config: GithubConfig) -> Github {
    Github::new(config, HandClock::new()).unwrap()
}

pub async fn start(options: Options) -> FakeGithub {
    FakeGithub::start(Options { tokens: vec![TOKEN.to_owned()], ..options }).await.unwrap()
}

/// A fake and a client with a personal token.
pub async fn pair() -> (FakeGithub, Github) {
    let fake = start(Options::default()).await;
    let github = client(with_token(&fake));
    (fake, github)
}
