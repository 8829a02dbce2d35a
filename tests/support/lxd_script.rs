//! An LXD on a socket that answers by a table: what a real one says in situations that no real one
//! here can be brought into.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A socket, and what was asked through it.
pub struct ScriptedLxd {
    folder: TempDir,
    script: Arc<Script>,
    serving: tokio::task::JoinHandle<()>,
}

struct Script {
    /// By `METHOD /path`.
    answers: BTreeMap<String, (u16, Value)>,
    asked: Mutex<Vec<String>>,
}

impl Drop for ScriptedLxd {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A synchronous answer.
pub fn sync(metadata: &Value) -> (u16, Value) {
    (200, json!({ "type": "sync", "status_code": 200, "metadata": metadata }))
}

/// A failure.
pub fn error(status: u16, text: &str) -> (u16, Value) {
    (status, json!({ "type": "error", "error_code": status, "error": text }))
}

impl ScriptedLxd {
    /// A good server that knows the project `default` and its profile, and then these answers.
    pub fn start(answers: impl IntoIterator<Item = (&'static str, (u16, Value))>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(folder.path().join("unix.socket")).unwrap();
        let server = json!({
            "auth": "trusted", "api_extensions": ["instance_create_start"],
            "environment": { "driver": "lxc", "server": "incus", "server_version": "6.0",
                             "server_clustered": false },
        });
        let mut all = BTreeMap::from([
            ("GET /1.0".to_owned(), sync(&server)),
            ("GET /1.0/projects/default".to_owned(), sync(&json!({ "name": "default" }))),
            ("GET /1.0/instances".to_owned(), sync(&json!([]))),
            ("GET /1.0/profiles/default".to_owned(), sync(&json!({ "devices": {} }))),
        ]);
        all.extend(answers.into_iter().map(|(call, answer)| (call.to_owned(), answer)));
        let script = Arc::new(Script { answers: all, asked: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { folder, script, serving }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("unix.socket")
    }

    /// How often it was asked for that.
    pub fn asked(&self, call: &str) -> usize {
        self.script.asked.lock().unwrap().iter().filter(|asked| *asked == call).count()
    }
}

async fn answer(State(script): State<Arc<Script>>, method: Method, uri: Uri) -> Response {
    let call = format!("{method} {}", uri.path());
    let found = script.answers.get(&call).cloned();
    script.asked.lock().unwrap().push(call);
    let (status, body) = found.unwrap_or_else(|| error(404, "not found"));
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}
