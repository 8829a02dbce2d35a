//! A planner on loopback that answers as Canonical's does (its `internal/planner/server.go`): who may
//! ask, the whole map of pressures in each line, at once, at each change that changes it, and as a
//! heartbeat that reaches one stream only.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

pub const TOKEN: &str = "planner_v0_very_secret_token";

type Pressures = BTreeMap<String, u32>;

struct Stream {
    flavor: String,
    sent: Pressures,
    bytes: mpsc::UnboundedSender<Bytes>,
}

#[derive(Default)]
struct World {
    pressures: Pressures,
    tokens: Vec<String>,
    streams: Vec<Stream>,
    opened: usize,
    asked: Vec<(String, StatusCode)>,
    failing: Option<StatusCode>,
    mute: bool,
}

impl World {
    fn of(&self, flavor: &str) -> Pressures {
        let wanted = |name: &&String| flavor == "_" || *name == flavor;
        self.pressures
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(n, p)| (n.clone(), *p))
            .collect()
    }
}

/// The planner; it ends when it is dropped.
pub struct Planner {
    world: Arc<Mutex<World>>,
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Planner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Planner {
    pub async fn start(pressures: &[(&str, u32)]) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), pressures).await
    }

    pub async fn start_at(address: SocketAddr, pressures: &[(&str, u32)]) -> Self {
        let pressures = pressures.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let tokens = vec![TOKEN.to_owned()];
        let world = Arc::new(Mutex::new(World { pressures, tokens, ..World::default() }));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .route("/api/v1/flavors/{name}/pressure", get(pressure))
            .with_state(Arc::clone(&world));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { world, address, task }
    }

    /// Somebody queues or ends jobs.
    pub fn set(&self, flavor: &str, pressure: u32) {
        let mut world = self.world.lock().unwrap();
        world.pressures.insert(flavor.to_owned(), pressure);
        tell_changes(&mut world);
    }

    /// Somebody deletes a flavor.
    pub fn forget(&self, flavor: &str) {
        let mut world = self.world.lock().unwrap();
        world.pressures.remove(flavor);
        tell_changes(&mut world);
    }

    /// A change that is told to nobody, as over a connection that died unseen.
    pub fn set_unheard(&self, flavor: &str, pressure: u32) {
        self.world.lock().unwrap().pressures.insert(flavor.to_owned(), pressure);
    }

    /// The one heartbeat of all streams: it reaches one of them.
    pub fn heartbeat(&self) {
        let mut world = self.world.lock().unwrap();
        world.streams.rotate_left(1);
        let Some(flavor) = world.streams.first().map(|stream| stream.flavor.clone()) else {
            return;
        };
        let line = line(&world.of(&flavor));
        let _closed = world.streams[0].bytes.send(line);
    }

    /// Bytes as they are, to every stream, in one piece each.
    pub fn say(&self, bytes: &[u8]) {
        for stream in &self.world.lock().unwrap().streams {
            let _closed = stream.bytes.send(Bytes::copy_from_slice(bytes));
        }
    }

    /// The database goes away: every stream ends.
    pub fn end_streams(&self) {
        self.world.lock().unwrap().streams.clear();
    }

    /// From now on every call gets this answer.
    pub fn fail(&self, status: Option<StatusCode>) {
        self.world.lock().unwrap().failing = status;
    }

    /// From now on new streams are taken and say nothing.
    pub fn mute(&self, mute: bool) {
        self.world.lock().unwrap().mute = mute;
    }

    /// Another token instead of the old one.
    pub fn rotate(&self, token: &str) {
        self.world.lock().unwrap().tokens = vec![token.to_owned()];
    }

    /// Streams opened so far.
    pub fn opened(&self) -> usize {
        self.world.lock().unwrap().opened
    }

    /// What was asked, and the answers' status.
    pub fn asked(&self) -> Vec<(String, StatusCode)> {
        self.world.lock().unwrap().asked.clone()
    }
}

fn line(pressures: &Pressures) -> Bytes {
    let mut text = serde_json::to_vec(pressures).unwrap();
    text.push(b'\n');
    text.into()
}

fn tell_changes(world: &mut World) {
    let mut streams = std::mem::take(&mut world.streams);
    for stream in &mut streams {
        let now = world.of(&stream.flavor);
        if now != stream.sent {
            let _closed = stream.bytes.send(line(&now));
            stream.sent = now;
        }
    }
    world.streams = streams;
}

async fn pressure(
    State(world): State<Arc<Mutex<World>>>,
    Path(flavor): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let mut world = world.lock().unwrap();
    let query = query.unwrap_or_default();
    let answer = answer(&mut world, &flavor, &query, &headers);
    world.asked.push((format!("{flavor}?{query}"), answer.status()));
    answer
}

fn answer(world: &mut World, flavor: &str, query: &str, headers: &HeaderMap) -> Response {
    let text = |status: StatusCode, text: &str| (status, format!("{text}\n")).into_response();
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(token) = header.and_then(|value| value.strip_prefix("Bearer ")) else {
        return text(StatusCode::BAD_REQUEST, "invalid authorization header");
    };
    if !world.tokens.iter().any(|known| known == token) {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, challenge, "unauthorized\n").into_response();
    }
    if let Some(status) = world.failing {
        return text(status, "internal server error");
    }
    let pressures = world.of(flavor);
    if pressures.is_empty() {
        return text(StatusCode::NOT_FOUND, "flavor not found");
    }
    if query != "stream=true" {
        return ([(header::CONTENT_TYPE, "application/json")], line(&pressures)).into_response();
    }
    let (bytes, received) = mpsc::unbounded_channel();
    if !world.mute {
        bytes.send(line(&pressures)).unwrap();
    }
    world.opened += 1;
    world.streams.push(Stream { flavor: flavor.to_owned(), sent: pressures, bytes });
    let body = futures::stream::unfold(received, |mut received| async move {
        let bytes: Bytes = received.recv().await?;
        Some((Ok::<_, Infallible>(bytes), received))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(body)).into_response()
}
