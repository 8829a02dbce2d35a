use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use runner_fleet_actors::{demand::Demand, port::Secret, port::TokioClock};
use tokio::sync::watch;

use super::*;
use crate::{
    config::{Env, Mark, Marker},
    daemon::held::{self, Held},
    demand::{
        SOURCES,
        source::{self, Terms},
    },
    github::{Auth, Github, GithubConfig, TokenSource},
    journal::Journal,
};

/// A sixth source: a box into which people put how many runners they would like, for every pool with the
/// label `wished`. It is reached with a key.
struct OfBox {
    name: &'static str,
    key: PathBuf,
    starts: bool,
    log: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Kind for OfBox {
    fn name(&self) -> &'static str {
        self.name
    }

    fn make(&self, _: &Config, _: &House) -> Result<Option<Box<dyn Source>>, String> {
        let wishes = Arc::new(Wishes(watch::Sender::new(None)));
        Ok(Some(Box::new(Opened {
            name: self.name,
            key: self.key.clone(),
            starts: self.starts,
            log: Arc::clone(&self.log),
            wishes,
            pools: Mutex::default(),
            seen: AtomicU64::new(0),
        })))
    }

    fn held(&self, _: &Config) -> Option<Mark> {
        Some(Marker::default().file(&self.key).done())
    }

    fn holdings(&self) -> &'static str {
        "the keys of the box"
    }
}

struct Wishes(watch::Sender<Option<Demand>>);

impl DemandSource for Wishes {
    fn watch(&self, _: &PoolName) -> watch::Receiver<Option<Demand>> {
        self.0.subscribe()
    }
}

struct Opened {
    name: &'static str,
    key: PathBuf,
    starts: bool,
    log: Arc<Mutex<Vec<String>>>,
    wishes: Arc<Wishes>,
    pools: Mutex<Vec<PoolName>>,
    seen: AtomicU64,
}

impl Opened {
    fn note(&self, what: &str) {
        self.log.lock().unwrap().push(format!("{} {what}", self.name));
    }
}

#[async_trait]
impl Source for Opened {
    fn configure<'a>(&'a self, config: &Config) -> Result<source::Change<'a>, String> {
        let wished = |pool: &&Pool| pool.labels.iter().any(|label| label == "wished");
        let pools = config.pools.iter().filter(wished).map(|pool| pool.name.clone()).collect();
        Ok(Box::new(move || *self.pools.lock().unwrap() = pools))
    }

    fn renew<'a>(&'a self, _: &Config, anew: bool) -> Result<source::Change<'a>, String> {
        let key = std::fs::read_to_string(&self.key).map_err(|error| error.to_string())?;
        Ok(Box::new(move || self.note(&format!("opened by {key}, which is new: {anew}"))))
    }

    fn of(&self, pool: &Pool) -> Option<Arc<dyn DemandSource>> {
        let pools = self.pools.lock().unwrap();
        pools.contains(&pool.name).then(|| Arc::clone(&self.wishes) as Arc<dyn DemandSource>)
    }

    fn status(&self) -> Vec<SourceStatus> {
        vec![SourceStatus {
            source: self.name.to_owned(),
            connected_since: None,
            last_word_at: None,
            signals: self.seen.load(Ordering::Relaxed),
            last_error: None,
            failing_since: None,
            details: serde_json::Value::Null,
        }]
    }

    fn observe(&self, _: &FleetEvent) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    async fn start(&self, _: &Arc<dyn JobEars>) -> Result<(), String> {
        if !self.starts {
            return Err(format!("the {} is locked", self.name));
        }
        self.note("opened");
        self.wishes.0.send_replace(Some(Demand::exact(7, 0, chrono::Utc::now())));
        Ok(())
    }

    async fn stop(&self) {
        self.note("closed");
    }
}

struct Deaf;

impl JobEars for Deaf {
    fn job_started(&self, _: &RunnerName, _: Option<RegistrationId>, _: Job) {}

    fn job_ended(&self, _: &RunnerName, _: Option<RegistrationId>, _: JobEnd) {}
}

/// A state folder, what happened to the boxes, and the key of all of them.
struct Place {
    folder: tempfile::TempDir,
    log: Arc<Mutex<Vec<String>>>,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), log: Arc::default() };
        place.key("iron");
        place
    }

    fn key(&self, text: &str) {
        std::fs::write(self.folder.path().join("key"), text).unwrap();
    }

    /// A box, for as long as the tests last: a list of sources is made for the whole life of a process.
    fn a_box(&self, name: &'static str, starts: bool) -> &'static dyn Kind {
        let (key, log) = (self.folder.path().join("key"), Arc::clone(&self.log));
        Box::leak(Box::new(OfBox { name, key, starts, log }))
    }

    async fn prepare(&self, kinds: &[&'static dyn Kind], config: &Config) -> Sources {
        let state = StateFolder::open(&self.folder.path().join("state")).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::of_system());
        let auth = Auth::Token(TokenSource::fixed(Secret::new("t")));
        let github = GithubConfig {
            url: "http://127.0.0.1:1".to_owned(),
            ..GithubConfig::new(auth, "ci".parse().unwrap())
        };
        let github = Arc::new(Github::new(github, Arc::clone(&clock)).unwrap());
        let journal = Journal::open(&self.folder.path().join("journal"), 1 << 20).unwrap();
        let house = |desk| House {
            desk,
            records: Arc::clone(&github) as _,
            github: Arc::new(move || Arc::clone(&github)),
            observer: Arc::new(journal),
            clock: Arc::clone(&clock),
            terms: Terms::default(),
        };
        Sources::prepare(kinds, config, &state, &clock, house).await.unwrap()
    }

    fn news(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

fn config(labels: [&str; 2]) -> Config {
    let head = "[fleet]\nid = \"ci\"\n[github]\ntoken_file = \"token\"\n[providers.lxd]\n\
                kind = \"lxd\"\nsocket = \"/run/lxd/unix.socket\"\n";
    let pool = |(name, label): (&str, &str)| {
        format!(
            "[[pools]]\nname = \"{name}\"\nscope = \"org/repo\"\nlabels = [\"{label}\"]\n\
             provider = \"lxd\"\nimage = \"noble\"\nmax = 5\n"
        )
    };
    let pools = ["small", "large"].into_iter().zip(labels).map(pool).collect::<String>();
    let path = Path::new("/etc/fleet.toml");
    Config::parse(&(head.to_owned() + &pools), path, &Env::default()).unwrap()
}

fn ears() -> Arc<dyn JobEars> {
    Arc::new(Deaf)
}

/// What all sources together say of a pool.
fn demand(sources: &Sources, pool: &Pool) -> Vec<Option<u32>> {
    let of = |source: Arc<dyn DemandSource>| *source.watch(&pool.name).borrow();
    sources.of(pool).into_iter().map(|source| of(source).map(|demand| demand.waiting)).collect()
}

#[tokio::test]
async fn a_sixth_source_is_configured_asked_shown_renewed_and_stopped_by_being_in_the_list() {
    let place = Place::new();
    let kinds = [SOURCES, &[place.a_box("box", true)]].concat();
    let old = config(["wished", "other"]);
    let sources = place.prepare(&kinds, &old).await;
    assert_eq!(demand(&sources, &old.pools[0]), [None], "nobody has looked into it yet");
    assert_eq!(demand(&sources, &old.pools[1]), [], "that pool is none of its own");
    sources.listen(&ears()).await.unwrap();
    assert_eq!(place.news(), ["box opened"]);
    assert_eq!(demand(&sources, &old.pools[0]), [Some(7)]);

    let runner = RunnerName::new(&"ci".parse().unwrap(), &old.pools[0].name, 1);
    let (at, pool) = (chrono::Utc::now(), old.pools[0].name.clone());
    sources.observe(&FleetEvent::GuestLog { at, pool, runner, log: String::new() });
    let shown = sources.status();
    let shown: Vec<_> = shown.iter().map(|one| (one.source.as_str(), one.signals)).collect();
    assert_eq!(shown, [("box", 1)], "none of the others is configured");

    let was = Held::read(&old, &kinds);
    place.key("brass");
    let new = config(["other", "wished"]);
    let changes = held::changes(&was, &Held::read(&new, &kinds), &old, &new);
    let renewed = sources.renew(&new, &changes.sources).unwrap();
    assert_eq!(place.news(), Vec::<String>::new());
    assert_eq!(demand(&sources, &old.pools[0]), [Some(7)], "nothing is in place yet");
    assert_eq!(renewed(), ["the keys of the box are renewed"]);
    assert_eq!(place.news(), ["box opened by brass, which is new: true"]);
    assert_eq!(demand(&sources, &new.pools[0]), []);
    assert_eq!(demand(&sources, &new.pools[1]), [Some(7)]);

    sources.leave().await;
    assert_eq!(place.news(), ["box closed"]);
}

#[tokio::test]
async fn what_one_source_cannot_take_over_changes_none() {
    let place = Place::new();
    let other = Place::new();
    let kinds = [place.a_box("box", true), other.a_box("chest", true)];
    let old = config(["wished", "other"]);
    let sources = place.prepare(&kinds, &old).await;
    std::fs::remove_file(other.folder.path().join("key")).unwrap();
    let new = config(["other", "wished"]);
    assert!(sources.renew(&new, &BTreeSet::new()).is_err());
    assert_eq!(place.news(), Vec::<String>::new());
    assert_eq!(demand(&sources, &old.pools[0]), [None, None], "both speak for it as before");
}

#[tokio::test]
async fn where_one_source_cannot_start_those_before_it_are_stopped() {
    let place = Place::new();
    let kinds = [place.a_box("box", true), place.a_box("chest", false)];
    let sources = place.prepare(&kinds, &config(["wished", "other"])).await;
    assert_eq!(sources.listen(&ears()).await, Err("the chest is locked".to_owned()));
    assert_eq!(place.news(), ["box opened", "chest closed", "box closed"]);
}
