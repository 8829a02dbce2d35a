//! Real containers, by LXD's own client.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

/// The longest that a call of the client may take, a launch with all its containers beside it included.
const CLIENT_SECONDS: &str = "240";

/// The LXD of the tests.
pub struct Lxd {
    pub socket: String,
    /// The address that containers reach this machine at.
    pub bridge: String,
}

impl Lxd {
    /// The one that the environment names.
    pub fn found() -> Self {
        let socket = std::env::var("RUNNER_FLEET_TEST_LXD_SOCKET").expect(super::lxd::NAMED);
        let mut lxd = Self { socket, bridge: String::new() };
        let address = lxd.said(&["network", "get", "lxdbr0", "ipv4.address"]);
        address.split('/').next().unwrap().clone_into(&mut lxd.bridge);
        lxd
    }

    /// Runs the client to its end. An `exec` in a container that powers off, or an LXD that hangs, would keep
    /// it for ever: that is a failure like any other (124), and the test says where.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new("timeout")
            .args(["--kill-after=5", CLIENT_SECONDS, "lxc"])
            .args(arguments)
            .env("LXD_SOCKET", &self.socket)
            .stdin(Stdio::null())
            .output()
            .expect("LXD's client is installed")
    }

    /// What the client says, where it must succeed.
    pub fn said(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        let errors = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "lxc {arguments:?}: {}: {errors}", done.status);
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// Starts an ephemeral container with this user data.
    pub fn launch<'a>(&'a self, name: &'a str, user_data: &str) -> Container<'a> {
        let container = Container { lxd: self, name };
        let setting = format!("cloud-init.user-data={user_data}");
        self.said(&["launch", "deb12", name, "--ephemeral", "--config", &setting]);
        container
    }
}

/// A container that goes with the test.
pub struct Container<'a> {
    lxd: &'a Lxd,
    pub name: &'a str,
}

impl<'a> Container<'a> {
    /// A container that was made elsewhere; it goes with the test as well.
    pub fn of(lxd: &'a Lxd, name: &'a str) -> Self {
        Self { lxd, name }
    }

    pub fn exists(&self) -> bool {
        // Without its state, for which LXD would look into its disk and its network.
        self.lxd.run(&["query", &format!("/1.0/instances/{}", self.name)]).status.success()
    }

    /// Runs a command inside, as root.
    pub fn exec(&self, command: &str) -> Output {
        self.lxd.run(&["exec", self.name, "--", "sh", "-c", command])
    }

    /// Whether it is gone within `limit`: a guest that powers off takes its container along.
    pub fn gone_within(&self, limit: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < limit {
            if !self.exists() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        false
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.exec("tail -n 60 /var/log/runner-fleet-guest.log; journalctl -u runner-fleet-guest -n 20 --no-pager");
            eprintln!("{}:\n{}", self.name, String::from_utf8_lossy(&log.stdout));
        }
        self.lxd.run(&["delete", "--force", self.name]);
    }
}

/// A runner name that no earlier run, killed perhaps, has left a container of.
pub fn fresh(pool: &str) -> String {
    let token = uuid::Uuid::new_v4().as_u64_pair().0 & 0xffff_ffff_ffff;
    format!("gt--{pool}--{token:012x}")
}

/// The stand-in runner application, copied to the folder `to`.
pub fn copy_stand_in(to: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fake/stand-in");
    let copied = Command::new("cp").arg("-r").arg(source).arg(to).status();
    assert!(copied.unwrap().success());
}

/// The stand-in runner application as an archive, with `wish` as its `stand-in.json`, and the
/// archive's SHA-256.
pub fn stand_in(wish: &serde_json::Value) -> (Vec<u8>, String) {
    let folder = tempfile::tempdir().unwrap();
    copy_stand_in(&folder.path().join("app"));
    std::fs::write(folder.path().join("app/stand-in.json"), wish.to_string()).unwrap();
    let done = Command::new("tar")
        .args(["--create", "--gzip", "--directory"])
        .arg(folder.path().join("app"))
        .arg(".")
        .output()
        .unwrap();
    assert!(done.status.success());
    let sum = Sha256::digest(&done.stdout);
    (done.stdout, sum.iter().map(|byte| format!("{byte:02x}")).collect())
}
