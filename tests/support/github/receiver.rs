//! A hook's receiving end: remembers what was posted to it and answers as it is told to.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use hmac::{Hmac, Mac};
use runner_fleet::fake::github::{HookOptions, HookTarget};
use runner_fleet_actors::port::Secret;
use serde_json::Value;
use sha2::Sha256;

const PATIENCE: Duration = Duration::from_secs(30);

/// The secret of GitHub's documentation.
pub const SECRET: &str = "It's a Secret to Everybody";

/// One post.
#[derive(Debug, Clone)]
pub struct Post {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Post {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
    pub fn event(&self) -> &str {
        self.header("x-github-event")
    }
    pub fn guid(&self) -> &str {
        self.header("x-github-delivery")
    }
    /// The action and the job's status; a ping has neither.
    pub fn word(&self) -> (String, String) {
        let body = self.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&body["action"]), text(&body["workflow_job"]["status"]))
    }
    pub fn action(&self) -> String {
        self.word().0
    }
    pub fn job(&self) -> u64 {
        self.json()["workflow_job"]["id"].as_u64().unwrap()
    }
}

/// What a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    Never,
}

#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    posts: Arc<Mutex<Vec<Post>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhooks/github", socket.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(Answer::Status(200)));
        let receiver = Self { url, posts: Arc::default(), answer };
        let router = Router::new()
            .route("/webhooks/github", axum::routing::post(receive))
            .with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
        receiver
    }

    /// A hook that posts here, signed with [`SECRET`].
    pub fn hook(&self, id: u64, target: HookTarget) -> HookOptions {
        HookOptions { url: self.url.clone(), secret: Some(Secret::new(SECRET)), id, target }
    }

    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// What was posted so far, without pings.
    pub fn posts(&self) -> Vec<Post> {
        let posts = self.posts.lock().unwrap();
        posts.iter().filter(|post| post.event() != "ping").cloned().collect()
    }

    pub fn pings(&self) -> Vec<Post> {
        let posts = self.posts.lock().unwrap();
        posts.iter().filter(|post| post.event() == "ping").cloned().collect()
    }

    /// Waits for that many posts, pings apart; there must not be more.
    pub async fn wait(&self, count: usize) -> Vec<Post> {
        until(&format!("{count} posts"), || self.posts().len() >= count).await;
        let posts = self.posts();
        assert_eq!(posts.len(), count);
        posts
    }
}

/// Waits until the world is so.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    receiver.posts.lock().unwrap().push(Post { headers, body });
    let answer = *receiver.answer.lock().unwrap();
    match answer {
        Answer::Status(status) => StatusCode::from_u16(status).unwrap(),
        Answer::Never => std::future::pending().await,
    }
}

/// `X-Hub-Signature-256` by GitHub's documented algorithm.
pub fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={hex}")
}
