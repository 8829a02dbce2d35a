//! A real daemon process and the command line that talks to it, in a folder of their own.

use std::{
    fs::{self, OpenOptions},
    future::Future,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::process::{Child, Command};

/// How long anything may take that the test waits for: generous, for it is only used up by a failure.
pub const PATIENCE: Duration = Duration::from_secs(90);

const PROGRAM: &str = env!("CARGO_BIN_EXE_runner-fleet");

/// Looks until there is something to see. A look that starts processes or asks a cloud takes from what
/// is waited for, so the next one leaves it some time; not too much, as some states are short, and some
/// looks have a daemon look too.
///
/// # Panics
/// When `patience` is used up.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + patience;
    loop {
        let began = Instant::now();
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < end, "not within {} s: {what}", patience.as_secs());
        let pause =
            (began.elapsed() * 4).clamp(Duration::from_millis(20), Duration::from_millis(250));
        tokio::time::sleep(pause).await;
    }
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    /// The answer of a command that must succeed.
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// The complaint of a command that must end with `code`, and must say nothing on stdout.
    pub fn bad(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert_eq!(self.out, "", "a refusal goes to stderr");
        assert!(!self.err.trim().is_empty(), "a refusal says why");
        self.err
    }

    pub fn json(self) -> Value {
        serde_json::from_str(&self.good()).expect("--output json prints JSON")
    }
}

/// The folder of one fleet: its configuration, secrets, state, socket, journal, and all that its
/// programs ever said. It is kept where the test fails.
pub struct Home {
    folder: Option<tempfile::TempDir>,
    runs: AtomicU32,
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("what the daemon said is kept in {}", folder.keep().display());
        }
    }
}

impl Home {
    pub fn new() -> Self {
        let home = Self { folder: Some(tempfile::tempdir().unwrap()), runs: AtomicU32::new(0) };
        fs::create_dir(home.path("said")).unwrap();
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.as_ref().unwrap().path().join(name)
    }

    /// Writes a file that only its owner may read.
    pub fn secret(&self, name: &str, text: &str) {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(self.path(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Writes the configuration that `start` starts with.
    pub fn configure(&self, text: &str) {
        fs::write(self.path("fleet.toml"), text).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        for (key, _) in std::env::vars_os() {
            let key = key.to_string_lossy().into_owned();
            if key.starts_with("OS_") || key.starts_with("RUNNER_FLEET_") {
                command.env_remove(key);
            }
        }
        command
            .env("RUNNER_FLEET_CONFIG", self.path("fleet.toml"))
            .env("RUNNER_FLEET_SOCKET", self.path("api.sock"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Starts a daemon. Everything that it says is kept.
    pub fn start(&self) -> Daemon {
        self.start_with("fleet.toml")
    }

    /// Starts a daemon with another configuration of this folder.
    pub fn start_with(&self, config: &str) -> Daemon {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let path = self.path(&format!("said/daemon-{run:03}.log"));
        let said = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        let child = self
            .command()
            .args(["run", "--config"])
            .arg(self.path(config))
            .env("RUNNER_FLEET_LOG", "trace")
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        Daemon { child, said: path }
    }

    /// Runs a command to its end.
    pub async fn cli(&self, arguments: &[&str]) -> Answer {
        let run = self.command().args(arguments).output();
        let output = tokio::time::timeout(PATIENCE, run).await.expect("a command ends").unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let answer = Answer {
            code: output.status.code().expect("no command dies of a signal"),
            out: text(&output.stdout),
            err: text(&output.stderr),
        };
        self.note("commands.log", &format!("{arguments:?}\n{}{}\n", answer.out, answer.err));
        answer
    }

    /// Keeps something that was said outside of the daemon's own output.
    pub fn note(&self, name: &str, text: &str) {
        let path = self.path("said").join(name);
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// The answer of `runner-fleet status`, where a daemon answers.
    pub async fn status(&self) -> Option<Value> {
        let answer = self.cli(&["status", "--output", "json"]).await;
        (answer.code == 0).then(|| answer.json())
    }

    /// What the status says of one pool.
    pub async fn pool(&self, name: &str) -> Option<Value> {
        let status = self.status().await?;
        status["pools"].as_array()?.iter().find(|pool| pool["name"] == name).cloned()
    }

    /// Runners by name and state.
    pub async fn runners(&self) -> Vec<(String, String)> {
        let answer = self.cli(&["runners", "--output", "json"]).await.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = answer["runners"].as_array().unwrap();
        all.iter().map(|one| (text(&one["name"]), text(&one["state"]))).collect()
    }

    /// Waits until the daemon has seen cloud and GitHub whole.
    pub async fn ready(&self) {
        eventually(PATIENCE, "the daemon is ready", || async {
            self.status().await.filter(|status| status["ready"] == true)
        })
        .await;
    }

    /// Waits until so many runners of a pool are in a state.
    pub async fn holds(&self, pool: &str, state: &str, wanted: u64) {
        let what = format!("pool {pool} has {wanted} {state} runners");
        eventually(PATIENCE, &what, || async {
            self.pool(pool).await.filter(|pool| pool["counts"][state] == wanted)
        })
        .await;
    }

    /// All that daemons and commands said, and the journal, each with its name.
    pub fn everything_said(&self) -> Vec<(PathBuf, String)> {
        let mut found: Vec<PathBuf> =
            fs::read_dir(self.path("said")).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.extend(["journal.log", "journal.log.1"].map(|name| self.path(name)));
        found.retain(|path| path.exists());
        found.sort();
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        found.into_iter().map(|path| (path.clone(), text(&path))).collect()
    }

    pub fn journal(&self) -> String {
        fs::read_to_string(self.path("journal.log")).unwrap_or_default()
    }
}

/// The process of a daemon that runs.
#[derive(Debug, Clone, Copy)]
pub struct Process(u32);

impl Process {
    /// Sends it a signal by name.
    pub fn signal(self, name: &str) {
        let process = self.0.to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &process]).status();
        assert!(sent.unwrap().success(), "kill -s {name}");
    }
}

/// A daemon process. It dies with the test.
pub struct Daemon {
    child: Child,
    said: PathBuf,
}

impl Daemon {
    /// `kill -9`.
    pub async fn kill(mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "it runs until it is killed");
        self.child.kill().await.unwrap();
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        self.process().signal(name);
    }

    /// Its process, for whoever has to send it a signal from elsewhere.
    pub fn process(&self) -> Process {
        Process(self.child.id().expect("it runs"))
    }

    /// Its exit, which must come within `patience`.
    pub async fn exit(mut self, patience: Duration) -> (ExitStatus, String) {
        let ended = tokio::time::timeout(patience, self.child.wait()).await;
        let status = ended.expect("the daemon ends within its time").unwrap();
        (status, self.said())
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.said).unwrap()).into_owned()
    }
}
