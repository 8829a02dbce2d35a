//! The cloud that is real: an LXD or Incus on this machine. The guests are containers that run the
//! real user data; only the runner application in them is a stand-in, downloaded from the fake GitHub
//! as the real one would be from the real one.
//!
//! Rules. Each demo has a fleet id of its own, and touches nothing without that mark. What is counted
//! as left behind is what LXD itself shows under the mark, before anything is cleared away. The
//! containers are cleared away in any case: after a good end, a bad one, and Ctrl-C.
//!
//! Time is real here, so `--speed` shortens only the jobs. There is no outage of the cloud: other
//! people may be using this LXD.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use runner_fleet_actors::{
    name::RunnerName,
    port::{ErrorClass, PortError, Provider, TokioClock},
};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    Plan, TOKEN,
    outside::{Cloud, Outside, Tally, Terms},
    source::Source,
    story::Fault,
};
use crate::{
    cli::{DemoArgs, DemoDemand},
    config::{LxdAccess, LxdReach, Pool},
    daemon::Pace,
    fake::{
        github::{self, FakeGithub},
        stand_in,
    },
    provider::{
        Finding, Grade,
        lxd::{Lxd, LxdConfig, Marked},
    },
};

/// Where LXD and Incus have their sockets: Debian's LXD, the snap, Incus.
const SOCKETS: [&str; 3] = [
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    "/var/lib/incus/unix.socket",
];
/// What guests boot from unless somebody names an image: cloud-init and Python are in it.
const IMAGE: &str = "24.04";
const IMAGE_SERVER: &str = "https://cloud-images.ubuntu.com/releases";
/// How often LXD is asked what there is.
const LOOK: Duration = Duration::from_millis(500);
/// How long the clearing away may take: LXD stops a container in seconds, but not while it makes it.
const CLEARING: Duration = Duration::from_secs(180);
/// How long the story looks for a running container to take away.
const CHOICE: Duration = Duration::from_secs(20);

struct Containers {
    lxd: Arc<Lxd>,
    socket: PathBuf,
    fleet: String,
    sight: Arc<Sight>,
    seed: u64,
    io: tokio::runtime::Handle,
    watch: JoinHandle<()>,
}

/// What was seen on the LXD so far.
#[derive(Debug, Default)]
struct Sight {
    present: AtomicU64,
    peak: AtomicU64,
    vanished: Mutex<BTreeSet<String>>,
}

impl Drop for Containers {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Finds the LXD, asks it what the demo needs to know, and starts the outside. Launches nothing.
pub(super) async fn start(
    plan: &Plan,
    args: &DemoArgs,
    folder: &Path,
) -> Result<(Outside, Terms), String> {
    let socket = match &args.lxd_socket {
        Some(socket) => socket.clone(),
        None => found_socket(&SOCKETS.map(Path::new))?,
    };
    // Another demo may run beside this one, and what it makes is none of this one's business.
    let fleet = format!("demo-{}", &uuid::Uuid::new_v4().simple().to_string()[..6]);
    let access =
        LxdAccess { reach: LxdReach::Socket(socket.clone()), project: "default".to_owned() };
    let id = fleet.parse().map_err(|error| format!("{fleet}: {error}"))?;
    let clock = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
    let lxd = Lxd::connect(LxdConfig::new(access, id), clock).map_err(|error| error.to_string())?;
    let lxd = Arc::new(lxd);
    let address = match args.address {
        Some(address) => address,
        None => lxd.host_address("default").await.map_err(|error| match error.class {
            // LXD has answered: somebody may know better.
            ErrorClass::Invalid | ErrorClass::NotFound => format!(
                "{error}\nName the address at which containers reach this machine by --address"
            ),
            _ => error.to_string(),
        })?,
    };
    let unheard = |error: io::Error| {
        format!(
            "nothing can listen on {address}: {error}\nName an address of this machine that \
             containers reach by --address"
        )
    };
    let github = FakeGithub::start(github::Options {
        tokens: vec![TOKEN.to_owned()],
        listen: SocketAddr::from((address, 0)),
        // Two cores with many containers on them are slow to say that a job goes on.
        silence: Duration::from_secs(20),
        seed: plan.seed,
        ..github::Options::default()
    })
    .await
    .map_err(unheard)?;
    github.offer(stand_in::offered().map_err(|error| format!("the stand-in: {error}"))?);
    let home = free_port(address).map_err(unheard)?;
    let terms = terms(plan, args, &fleet, &socket, &github.url_for_guests(), home);
    let sight = Arc::new(Sight::default());
    let watch = tokio::spawn(look_on(Arc::clone(&lxd), Arc::clone(&sight)));
    let io = tokio::runtime::Handle::current();
    let cloud = Containers { lxd, socket, fleet, sight, seed: plan.seed, io, watch };
    let news = vec![format!("        on {}; guests call {address}", cloud.what())];
    let source = Source::new(plan.demand, folder).map_err(|error| error.to_string())?;
    Ok((Outside { github, source, cloud: Box::new(cloud), news }, terms))
}

/// The first socket that there is.
fn found_socket(places: &[&Path]) -> Result<PathBuf, String> {
    let is_there = |place: &&&Path| match place.symlink_metadata() {
        Ok(_) => true,
        // There, and closed to this user: whoever connects says what to do about that.
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    };
    places.iter().find(is_there).map(|place| place.to_path_buf()).ok_or_else(|| {
        let tried: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        format!(
            "there is no LXD on this machine: no socket at {}.\nInstall one (\"snap install lxd\", \
             \"apt install lxd\" or \"apt install incus\", then \"lxd init --auto\" or \"incus admin \
             init --auto\"), or name its socket by --lxd-socket",
            tried.join(", ")
        )
    })
}

/// A port that is free now; on this address nobody else is likely to ask for one.
fn free_port(address: IpAddr) -> io::Result<SocketAddr> {
    std::net::TcpListener::bind((address, 0))?.local_addr()
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn terms(
    plan: &Plan,
    args: &DemoArgs,
    fleet: &str,
    socket: &Path,
    github: &str,
    home: SocketAddr,
) -> Terms {
    let image = match &args.image {
        Some(image) => format!("image = {}", quoted(image)),
        None => format!("image = \"{IMAGE}\"\nimage_server = \"{IMAGE_SERVER}\""),
    };
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    // A remote image is fetched once, by the first launch.
    let launch = if args.image.is_some() { 3 } else { 15 };
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    Terms {
        fleet: fleet.to_owned(),
        sections: format!(
            r#"[guests]
listen = "{home}"

[providers.cloud]
kind = "lxd"
socket = {socket}
rate = 100
"#,
            socket = quoted(&socket.display().to_string()),
        ),
        vms: format!("type = \"container\"\n{image}"),
        limits: format!(
            r#"launch = "{launch}m", register = "3m", idle_proof = "3s", watch = "5s", idle_alone = "10s", settle = "10s", ask = "1m""#
        ),
        tables: format!(
            r#"[pools.guest]
application = "download"
architecture = "{architecture}"

[pools.guest.env]
STAND_IN_GITHUB = "{github}"
"#
        ),
        // The story begins with the first runner, so there is one before there is any job.
        spare: if plan.demand == DemoDemand::Static { plan.max.div_ceil(2) } else { 1 },
        // Nobody wants to watch GitHub's page for two minutes and a half, nor wait ten minutes for
        // what a webhook has lost.
        pace: Pace {
            registration_grace: Duration::from_secs(10),
            repair: Pace::default().repair.faster(60),
            ..Pace::default()
        },
        first_runner: Some(minutes(launch + 3)),
        patience: minutes(5),
    }
}

async fn look_on(lxd: Arc<Lxd>, sight: Arc<Sight>) {
    loop {
        // An LXD that does not answer shows at the end, when the count must be true.
        if let Ok(there) = lxd.marked().await {
            sight.note(there.len() as u64);
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Sight {
    fn note(&self, present: u64) {
        self.present.store(present, Ordering::Relaxed);
        self.peak.fetch_max(present, Ordering::Relaxed);
    }

    fn vanished(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.vanished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes away one container that runs, as somebody beside the fleet would.
async fn take_one(lxd: Arc<Lxd>, sight: Arc<Sight>, seed: u64) {
    let until = Instant::now() + CHOICE;
    while Instant::now() < until {
        let mut running = lxd.marked().await.unwrap_or_default();
        running.retain(|one| one.runs);
        // A remainder is below the length; with nothing to choose from, nothing is at any place.
        let chosen = seed.checked_rem(running.len() as u64).unwrap_or_default() as usize;
        let name = running.get(chosen).and_then(|one| one.name.parse::<RunnerName>().ok());
        if let Some(name) = name {
            // Noted first: whatever is lost from here on is lost with it.
            sight.vanished().insert(name.to_string());
            let _or_it_went_by_itself = lxd.delete(&name, None).await;
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[async_trait]
impl Cloud for Containers {
    fn what(&self) -> String {
        format!("LXD at {}, as fleet {}", self.socket.display(), self.fleet)
    }

    async fn check(&self, pools: &[Pool]) -> Result<(), String> {
        let shapes: Vec<_> = pools.iter().map(|pool| pool.shape.clone()).collect();
        let mut findings = self.lxd.check_online(&shapes).await;
        findings.retain(|finding| finding.grade == Grade::Fault);
        let told = |finding: &Finding| format!("{}: {}", finding.about, finding.what);
        match findings.is_empty() {
            true => Ok(()),
            false => Err(findings.iter().map(told).collect::<Vec<_>>().join("\n")),
        }
    }

    fn perform(&self, fault: Fault) {
        if fault == Fault::VanishedVm {
            let (lxd, sight) = (Arc::clone(&self.lxd), Arc::clone(&self.sight));
            self.io.spawn(take_one(lxd, sight, self.seed));
        }
    }

    fn present(&self) -> u64 {
        self.sight.present.load(Ordering::Relaxed)
    }

    async fn tally(&self) -> Tally {
        if let Ok(there) = self.lxd.marked().await {
            self.sight.note(there.len() as u64);
        }
        Tally {
            left: self.present(),
            peak: self.sight.peak.load(Ordering::Relaxed),
            vanished: self.sight.vanished().clone(),
            taken: Vec::new(),
        }
    }

    async fn clear(&self) -> Result<(), String> {
        let until = Instant::now() + CLEARING;
        // Looked at twice: a launch that was broken off may come into sight late.
        let mut empty = 0;
        loop {
            let trouble = match self.lxd.marked().await {
                Ok(there) if there.is_empty() && empty > 0 => return Ok(()),
                Ok(there) if there.is_empty() => {
                    empty += 1;
                    None
                }
                Ok(there) => {
                    empty = 0;
                    self.delete(&there).await.err()
                }
                Err(error) => Some(error),
            };
            if Instant::now() > until {
                let why = trouble.map_or_else(String::new, |error| format!("{error}\n"));
                return Err(why + &self.left_alone());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn left_alone(&self) -> String {
        format!(
            "containers of the demo may be left: \"lxc list user.runner-fleet.fleet={}\" shows them, \
             \"lxc delete --force NAME\" removes them",
            self.fleet
        )
    }
}

impl Containers {
    async fn delete(&self, there: &[Marked]) -> Result<(), PortError> {
        let names = there.iter().filter_map(|one| one.name.parse::<RunnerName>().ok());
        let deletions = names.map(|name| async move { self.lxd.delete(&name, None).await });
        let outcomes = futures::future::join_all(deletions).await;
        outcomes.into_iter().try_for_each(|outcome| outcome.map(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_socket_that_is_there_is_taken_and_where_there_is_none_it_says_where_it_looked() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one.socket"), folder.path().join("two.socket"));
        let none = found_socket(&[&one, &two]).unwrap_err();
        for part in ["one.socket", "two.socket", "--lxd-socket", "lxd init"] {
            assert!(none.contains(part), "{none}");
        }
        std::fs::write(&two, "").unwrap();
        assert_eq!(found_socket(&[&one, &two]).unwrap(), two);
    }

    #[test]
    fn whatever_an_image_is_called_the_configuration_is_read_as_it_was_meant() {
        let odd = "a\"b\\c\nd";
        let text = format!("image = {}", quoted(odd));
        let read: toml::Table = text.parse().unwrap();
        assert_eq!(read["image"].as_str(), Some(odd));
    }
}
