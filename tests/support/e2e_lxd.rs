//! A real LXD, seen from beside the daemon: through its own command line client, so that what the
//! tests see does not come from the code that they test.

use std::{net::Ipv4Addr, path::PathBuf, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{process::Command, sync::OnceCell};

/// How long one call of the client may take.
const CALL: Duration = Duration::from_secs(120);

/// Where the LXD for tests listens.
pub fn socket() -> PathBuf {
    std::env::var_os("RUNNER_FLEET_TEST_LXD_SOCKET").expect(super::lxd::NAMED).into()
}

/// An instance as LXD shows it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub name: String,
    pub status: String,
}

/// The client.
#[derive(Debug, Clone)]
pub struct Lxd {
    /// The ownership tag of what it sees.
    pub fleet: String,
}

/// What a client's call printed, where it went well.
async fn lxc(arguments: &[&str]) -> Result<String, String> {
    // It reads stdin where it has one.
    let run = Command::new("lxc").args(arguments).stdin(Stdio::null()).output();
    let output = tokio::time::timeout(CALL, run).await.expect("lxc answers").expect("lxc runs");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Lxd {
    /// The client of a fleet that nobody else has.
    pub fn new() -> Self {
        Self { fleet: format!("x{}", &uuid::Uuid::new_v4().simple().to_string()[..10]) }
    }

    /// The host's address on the bridge that the containers are on.
    pub async fn bridge(&self) -> Ipv4Addr {
        let text = lxc(&["network", "get", "lxdbr0", "ipv4.address"]).await.unwrap();
        text.trim().split('/').next().unwrap().parse().unwrap()
    }

    /// Everything of the fleet that there is.
    pub async fn instances(&self) -> Vec<Seen> {
        let text = lxc(&["query", "/1.0/instances?recursion=1"]).await.unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        all.as_array()
            .unwrap()
            .iter()
            .filter(|one| one["config"]["user.runner-fleet.fleet"] == self.fleet.as_str())
            .map(|one| Seen {
                name: one["name"].as_str().unwrap().to_owned(),
                status: one["status"].as_str().unwrap_or_default().to_owned(),
            })
            .collect()
    }

    /// Takes one away under the fleet's eyes.
    pub async fn delete(&self, name: &str) {
        // One that has just gone by itself is gone as well.
        let _gone = lxc(&["delete", "-f", name]).await;
    }

    /// Runs a command as root inside of one.
    pub async fn exec(&self, name: &str, command: &[&str]) -> Result<String, String> {
        let mut arguments = vec!["exec", name, "--"];
        arguments.extend(command);
        lxc(&arguments).await
    }

    /// Takes everything of the fleet away.
    pub async fn clean_up(&self) {
        for one in self.instances().await {
            self.delete(&one.name).await;
        }
        // A disk with a size switches the quotas of a btrfs pool on for good, and with them every
        // launch and deletion takes a multiple of its time: off again, for whoever comes next.
        let lxd = std::env::var("LXD_DIR").unwrap_or_else(|_| "/var/lib/lxd".to_owned());
        let pool = format!("{lxd}/storage-pools/default");
        let off = Command::new("btrfs").args(["quota", "disable", &pool]).output();
        // Another kind of pool has none to switch off.
        let _off = off.await;
    }
}

/// Makes the image `runner` where it is not there: a Debian with the stand-in for the runner
/// application. One caller makes it, the others wait.
pub async fn runner_image() {
    static MADE: OnceCell<()> = OnceCell::const_new();
    let make = || async {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = root.join("tests/lxd/runner-image.sh");
        let made = Command::new(script).stdin(Stdio::null()).output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    MADE.get_or_init(make).await;
}
