//! A gate before the LXD of the tests: a Unix socket that passes everything on, and can lose an
//! answer, or cut every connection, when a test says so.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

use super::lxd::RealLxd;

#[derive(Default)]
struct Settings {
    /// Requests that begin so get no answer, although LXD does what they ask.
    lose: Mutex<Option<String>>,
    /// What is answered to requests that begin so, instead of asking LXD.
    instead: Mutex<Option<(String, String)>>,
    /// Streams of events that LXD has opened.
    streams: AtomicUsize,
    open: tokio::sync::Mutex<JoinSet<()>>,
}

pub struct Gate {
    pub socket: PathBuf,
    settings: Arc<Settings>,
    accepting: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Gate {
    pub fn before(lxd: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("gate.socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let settings = Arc::new(Settings::default());
        let accepting = tokio::spawn({
            let settings = Arc::clone(&settings);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let passing = pass(stream, lxd.clone(), Arc::clone(&settings));
                    settings.open.lock().await.spawn(passing);
                }
            }
        });
        Self { socket, settings, accepting, _folder: folder }
    }

    pub fn lose_answers_to(&self, request: Option<&str>) {
        *self.settings.lose.lock().unwrap() = request.map(str::to_owned);
    }

    pub fn answer(&self, request: &str, with: &str) {
        *self.settings.instead.lock().unwrap() = Some((request.to_owned(), with.to_owned()));
    }

    /// Says of every start that it is done, and LXD hears of none: what it has made stays as it is
    /// before its start.
    pub fn keep_starts_back(&self) {
        let done = r#"{"type": "sync", "status": "Success", "status_code": 200, "metadata": {}}"#;
        self.answer("PUT /1.0/instances/", done);
    }

    pub fn answer_nothing_instead(&self) {
        *self.settings.instead.lock().unwrap() = None;
    }

    /// The same LXD as it is reached through the gate.
    pub fn reached(&self, lxd: &RealLxd) -> RealLxd {
        RealLxd { socket: self.socket.clone(), ..lxd.clone() }
    }

    /// Streams of events opened so far.
    pub fn streams(&self) -> usize {
        self.settings.streams.load(Ordering::SeqCst)
    }

    /// Ends every connection that is open now.
    pub async fn cut(&self) {
        self.settings.open.lock().await.shutdown().await;
    }
}

async fn pass(mut client: UnixStream, lxd: PathBuf, settings: Arc<Settings>) {
    let mut first = vec![0; 64 << 10];
    let Ok(length) = client.read(&mut first).await else { return };
    first.truncate(length);
    let begins = |with: &str| first.starts_with(with.as_bytes());
    let instead = settings.instead.lock().unwrap().clone();
    if let Some((_, body)) = instead.filter(|(request, _)| begins(request)) {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let _gone = client.write_all(format!("{head}{body}").as_bytes()).await;
        return;
    }
    let lost = settings.lose.lock().unwrap().as_deref().is_some_and(begins);
    let mut server = UnixStream::connect(lxd).await.unwrap();
    server.write_all(&first).await.unwrap();
    let mut answer = vec![0; 64 << 10];
    let Ok(length) = server.read(&mut answer).await else { return };
    if lost {
        return;
    }
    if answer.starts_with(b"HTTP/1.1 101") {
        settings.streams.fetch_add(1, Ordering::SeqCst);
    }
    let _gone = client.write_all(&answer[..length]).await;
    let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}
