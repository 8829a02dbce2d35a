//! The real daemon under what strangers can do to it: what it holds of them, what it writes about them,
//! and whether its operator still gets an answer.
//!
//! Run with `--nocapture` for the figures that it measures.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    process::{Child, Command},
    task::JoinSet,
};

use crate::support::{
    e2e::{Home, PATIENCE, eventually},
    e2e_fakes::{API_TOKEN, Outside, pool},
};

/// A user who has nothing.
const NOBODY: u32 = 65_534;
/// Open files that the daemon may have at most, and those that it starts with.
const FILES: (u32, u32) = (1024, 256);
const MIB: u64 = 1024 * 1024;

struct Besieged {
    home: Home,
    daemon: Child,
    webhooks: SocketAddr,
    api: SocketAddr,
    _outside: Outside,
}

async fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

fn give(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), user);
        }
    }
}

impl Besieged {
    /// A daemon with few files, at its usual log level; by another user where this one is root, for root
    /// owns what it must not.
    async fn begin() -> Self {
        let outside = Outside::start_with(23, Duration::ZERO).await;
        let home = Home::new();
        outside.furnish(&home);
        home.secret("hook-secret", "shared by github and the daemon");
        let (webhooks, api) = (free().await, free().await);
        let head = outside.head("token_file = \"token\"").replace("127.0.0.1:0", &api.to_string());
        let hooks = format!("[webhooks]\nlisten = \"{webhooks}\"\nsecret_file = \"hook-secret\"\n");
        home.configure(&format!("{head}\n{hooks}{}", pool("small", "octo-org", "max = 2")));
        let said = fs::File::create(home.path("said/daemon.log")).unwrap();
        let (hard, soft) = FILES;
        let limits = format!("ulimit -Sn {soft}; ulimit -Hn {hard}; exec \"$@\"");
        let mut command = Command::new("sh");
        command
            .args(["-c", &limits, "sh", env!("CARGO_BIN_EXE_runner-fleet"), "run", "--config"])
            .arg(home.path("fleet.toml"))
            .env_remove("RUNNER_FLEET_LOG")
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .kill_on_drop(true);
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            let folder = home.path("");
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
            give(&folder, NOBODY);
            command.uid(NOBODY).gid(NOBODY);
        }
        let daemon = command.spawn().unwrap();
        home.ready().await;
        Self { home, daemon, webhooks, api, _outside: outside }
    }

    fn proc(&self, file: &str) -> std::path::PathBuf {
        Path::new("/proc").join(self.daemon.id().expect("it runs").to_string()).join(file)
    }

    /// Bytes of memory that it has.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    fn said(&self) -> String {
        fs::read_to_string(self.home.path("said/daemon.log")).unwrap()
    }
}

/// A connection from one of loopback's addresses.
async fn from(last: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0)))?;
    socket.connect(to).await
}

async fn all_of(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end as well.
    let _reset = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("ends");
    String::from_utf8_lossy(&text).into_owned()
}

fn delivery(signature: &str, length: usize) -> String {
    format!(
        "POST /webhooks/github HTTP/1.1\r\nhost: x\r\nx-github-event: workflow_job\r\n\
         x-github-delivery: g\r\n{signature}content-length: {length}\r\n\r\n"
    )
}

fn forged() -> String {
    format!("x-hub-signature-256: sha256={}\r\n", "0".repeat(64))
}

/// Posts bodies of `length` bytes but for their last one, each on its connection and from ten peers, and
/// keeps the connections. The answers of those that were refused.
async fn post(
    to: SocketAddr,
    signature: &str,
    length: usize,
    many: u8,
) -> (Vec<TcpStream>, Vec<String>) {
    let mut posts = JoinSet::new();
    for number in 0..many {
        let head = delivery(signature, length);
        posts.spawn(async move {
            let mut stream = from(1 + number % 10, to).await.unwrap();
            let piece = vec![b' '; 64 * 1024];
            let mut left = length - 1;
            let mut sent = stream.write_all(head.as_bytes()).await;
            while sent.is_ok() && left > 0 {
                let now = left.min(piece.len());
                sent = stream.write_all(&piece[..now]).await;
                left -= now;
            }
            stream
        });
    }
    let mut kept = Vec::new();
    while let Some(stream) = posts.join_next().await {
        kept.push(stream.unwrap());
    }
    let mut answers = Vec::new();
    for stream in &mut kept {
        answers.push(all_of(stream).await);
    }
    (kept, answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_take_neither_memory_nor_disk_nor_the_operators_place() {
    let fleet = Besieged::begin().await;

    // Its memory holds secrets, and is nobody else's.
    let limits = fs::read_to_string(fleet.proc("limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line[name.len()..].split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    let hard = FILES.0.to_string();
    assert_eq!(limit("Max open files"), [hard.as_str(), hard.as_str()], "all that it may have");
    let status = fs::read_to_string(fleet.proc("status")).unwrap();
    let user = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    assert_ne!(user.split_whitespace().nth(1), Some("0"), "it runs by a user of its own");
    for file in ["mem", "environ", "maps"] {
        // The kernel gives what belongs to a process that is not dumpable to root (proc(5)).
        let owner = fs::metadata(fleet.proc(file)).unwrap().uid();
        assert_eq!(owner, 0, "{file} is not for the user's other processes");
    }

    let before = fleet.resident();
    // Without a signature header: refused at the head, whatever it says to come.
    let (_kept, answers) = post(fleet.webhooks, "", 4_900_000, 60).await;
    assert!(answers.iter().all(|text| text.is_empty() || text.starts_with("HTTP/1.1 4")));
    let (_kept, answers) = post(fleet.webhooks, "", 900_000, 60).await;
    assert!(answers.iter().all(|text| text.is_empty() || text.starts_with("HTTP/1.1 401")));
    assert!(answers.iter().any(|text| text.starts_with("HTTP/1.1 401")), "somebody is told why");
    let unsigned = fleet.resident();
    // With a header that only looks like one: as much as the listener's budget.
    let (_kept, answers) = post(fleet.webhooks, &forged(), 1_000_000, 120).await;
    let refused = answers.iter().filter(|text| text.starts_with("HTTP/1.1 503")).count();
    let late = answers.iter().filter(|text| text.starts_with("HTTP/1.1 408")).count();
    let signed = fleet.resident();
    println!(
        "memory: {} MiB; {} MiB after 120 unsigned bodies of 4.9 and 0.9 MB; {} MiB after 120 forged ones of \
         1 MB, of which {refused} found no room and {late} were cut off",
        before / MIB,
        unsigned / MIB,
        signed / MIB,
    );
    assert!(unsigned < before + 32 * MIB, "{unsigned} after {before}");
    // The budget has room for 33 of these, whatever connections cost besides.
    assert!(refused > 0, "all of 120 MB found room");
    assert!(signed < before + 96 * MIB, "{signed} after {before}");

    // More silent connections than there are files: socket and webhooks have theirs.
    let mut crowd = Vec::new();
    for number in 0..1_100_u32 {
        let last = 1 + u8::try_from(number % 100).unwrap();
        // A full backlog lets nobody in, which is as good.
        let connect = tokio::time::timeout(Duration::from_millis(200), from(last, fleet.api));
        match connect.await {
            Ok(Ok(stream)) => crowd.push(stream),
            _ => break,
        }
    }
    assert!(fleet.home.status().await.is_some(), "the socket answers beside {}", crowd.len());
    let mut hook = from(1, fleet.webhooks).await.unwrap();
    hook.write_all(delivery(&forged(), 0).as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    hook.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 403", "webhooks are heard beside them");
    drop(crowd);

    // A flood of what is refused, of every kind.
    let written = fleet.said().len();
    let hook_id = format!("x-github-hook-id: {}\r\n", "7".repeat(4_000));
    let kinds = [
        (fleet.webhooks, delivery(&format!("{}{hook_id}", forged()), 0)),
        (fleet.webhooks, delivery("", 0)),
        (fleet.webhooks, format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(4_000))),
        // Before the wrong tokens, which must be heard of beside it.
        (
            fleet.api,
            format!(
                "GET /v1/nothing HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {API_TOKEN}\r\n\r\n"
            ),
        ),
        (
            fleet.api,
            "GET /v1/status HTTP/1.1\r\nhost: x\r\nauthorization: Bearer wrong\r\n\r\n".into(),
        ),
    ];
    for (to, request) in kinds {
        let mut stream = from(1, to).await.unwrap();
        let (mut read, mut write) = stream.split();
        let answers = async {
            let mut answers = 0;
            let mut text = vec![0; 64 * 1024];
            while answers < 500 {
                let got = read.read(&mut text).await.unwrap();
                assert!(got > 0, "ended after {answers} answers");
                answers += String::from_utf8_lossy(&text[..got]).matches("HTTP/1.1 4").count();
            }
        };
        let requests = async {
            for _ in 0..500 {
                write.write_all(request.as_bytes()).await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, async { tokio::join!(answers, requests) }).await.unwrap();
    }
    for _ in 0..200 {
        let mut stream = from(1, fleet.webhooks).await.unwrap();
        stream.write_all(b"\x16\x03\x01\x02\r\n\r\n").await.unwrap();
        let _refused = all_of(&mut stream).await;
    }
    let said = fleet.said();
    println!("log: {} bytes for 2,700 refusals", said.len() - written);
    assert!(said.len() - written < 30_000, "{}", &said[written..]);
    assert!(said.contains("a webhook delivery with a wrong signature is refused"), "{said}");
    let untrusted = |line: &str| line.contains("a call is refused") && line.contains("/v1/status");
    assert!(said.lines().any(untrusted), "wrong tokens are told: {said}");
    assert!(!said.contains(&"7".repeat(200)), "what is quoted is cut");

    eventually(PATIENCE, "the fleet is as it was", || async {
        fleet.home.status().await.filter(|status| status["ready"] == true)
    })
    .await;
}
