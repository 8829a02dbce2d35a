//! Runner scale sets: demand and runners through GitHub's actions service, with no way in from outside.
//!
//! GitHub keeps the queue: it gives jobs to a scale set, says how many there are, and tells of each
//! job's begin and end in answers to a long poll. So a pool behind a firewall knows its demand within a
//! second, spends next to nothing of the REST API's rate limit, and loses nothing while the daemon is
//! away. The price: one listener a scale set, and a protocol that is described nowhere but in the
//! sources of actions/scaleset, actions-runner-controller and GARM, on which this is built.
//!
//! The parts: [`listener`] decides (pure), `talk` does, `admin` and `calls` speak to the actions
//! service, `queue` to the messages, `forge` registers and lists runners. The rules are told at
//! [`listener`].
//!
//! The official client in Go as a process beside the daemon would be the alternative; it acknowledges
//! before it handles, and ends at the first conflict.

mod address;
mod admin;
mod calls;
mod exchange;
mod forge;
pub mod listener;
mod news;
mod outside;
mod queue;
pub mod source;
mod talk;
pub mod wire;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use futures::FutureExt;
use runner_fleet_actors::{
    backoff::{self, Curve},
    demand::Demand,
    foreign::Foreign,
    job::{JobFacts, Repositories, Serves},
    name::{PoolName, Scope},
    port::{Clock, DemandSource, Forge, PortError},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{
    admin::{Admin, Current},
    talk::{Around, Seen, Talk},
};
pub use self::{
    outside::{Hears, Marks, MarksInMemory, NotKept},
    talk::Status,
};
use crate::{
    config,
    demand::JobEars,
    github::{Github, names::Names},
    tasks::Tasks,
};

/// After a listener's death, which is a fault of this program.
const DEATH: Curve = Curve { base: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// A pool that is served by a scale set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSet {
    /// The pool.
    pub pool: PoolName,
    /// Where the scale set is.
    pub scope: Scope,
    /// The scale set's name, unique in its group. Jobs may ask for it as a label.
    pub name: String,
    /// Runner group by name; `None` = the default group.
    pub group: Option<String>,
    /// Labels of the pool; the scale set has them besides its name.
    pub labels: Vec<String>,
    /// Runners at most: GitHub gives no more jobs at once.
    pub max: u32,
    /// Of which repositories it takes jobs.
    pub repositories: Repositories,
}

impl PoolSet {
    /// What the configuration says of a pool; `None` where it has no scale set.
    #[must_use]
    pub fn of(pool: &config::Pool) -> Option<Self> {
        let config::ScaleSet { name, group } = pool.scale_set.clone()?;
        Some(Self {
            pool: pool.name.clone(),
            scope: pool.scope.clone(),
            name,
            group,
            labels: pool.labels.clone(),
            max: pool.max,
            repositories: pool.repositories.clone(),
        })
    }

    /// The name first, as actions-runner-controller has it; each label once.
    #[must_use]
    pub fn all_labels(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let all = std::iter::once(&self.name).chain(&self.labels);
        all.filter(|label| seen.insert(label.to_lowercase())).cloned().collect()
    }

    /// Labels of the pool that a scale set with these labels lacks. None where it tells no labels.
    fn missing(&self, labels: &[Foreign]) -> Vec<String> {
        let has = |wanted: &String| labels.iter().any(|one| one.eq_ignore_ascii_case(wanted));
        let all = if labels.is_empty() { Vec::new() } else { self.all_labels() };
        all.into_iter().filter(|one| !has(one)).collect()
    }

    /// Takes from a message the numbers by which jobs of repositories that are shut out could be acquired:
    /// they are told of, and left to others.
    fn shut_out(&self, message: &mut wire::Message, names: &Names) {
        let available =
            message.jobs.iter_mut().filter(|job| job.happened == wire::Happened::Available);
        let serves = self.serves(names);
        for job in available.filter(|job| !takes(&serves, job.repository.as_ref())) {
            job.request = 0;
        }
    }

    /// Of the jobs that wait to be acquired, the numbers of those that its pool takes.
    fn let_in(&self, waiting: Vec<wire::Waiting>, names: &Names) -> Vec<u64> {
        let serves = self.serves(names);
        let ours = waiting.into_iter().filter(|job| takes(&serves, job.repository.as_ref()));
        ours.map(|job| job.request).collect()
    }

    /// Of which repositories it takes jobs, whatever its scope is called now.
    fn serves(&self, names: &Names) -> Serves {
        Serves {
            identity: names.identity(&self.scope),
            repositories: self.repositories.clone(),
            ..Serves::new(self.pool.clone(), self.scope.clone(), self.all_labels())
        }
    }

    /// The name under which its session is kept.
    fn mark(&self) -> String {
        let group = self.group.as_deref().unwrap_or_default();
        format!("scale-set {} {group:?} {:?}", self.scope, self.name)
    }
}

fn takes(serves: &Serves, repository: Option<&Foreign>) -> bool {
    let facts = JobFacts { repository: repository.cloned(), ..JobFacts::default() };
    serves.refuses(&facts).is_none()
}

/// What scale sets need of the rest of the daemon.
pub struct Setup {
    /// The GitHub and its credentials.
    pub github: Arc<Github>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where sessions are kept over a restart.
    pub marks: Arc<dyn Marks>,
    /// Who keeps the books of jobs.
    pub hears: Arc<dyn Hears>,
    /// Who this is, for people who look at GitHub's sessions: fleet and host.
    pub owner: String,
}

struct Running {
    set: PoolSet,
    seen: Arc<Seen>,
    capacity: watch::Sender<u32>,
    stop: CancellationToken,
}

impl Running {
    fn end(&self) {
        self.seen.retire();
        self.stop.cancel();
    }
}

/// All scale sets of a fleet: a source of demand, and a way to register runners.
pub struct ScaleSets {
    github: Current,
    around: Around,
    running: Mutex<BTreeMap<PoolName, Running>>,
    /// Listeners that begin with [`ScaleSets::start`].
    waiting: Mutex<Vec<(Talk, CancellationToken)>>,
    /// By scope, and never fewer: runners of a set that left the configuration are still listed.
    admins: Mutex<BTreeMap<Scope, Arc<Admin>>>,
    demand: Mutex<HashMap<PoolName, watch::Sender<Option<Demand>>>>,
    tasks: Tasks,
}

impl std::fmt::Debug for ScaleSets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScaleSets").field("status", &self.status()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ScaleSets {
    /// None yet; see [`configure`](Self::configure).
    #[must_use]
    pub fn new(setup: Setup) -> Arc<Self> {
        let Setup { github, clock, marks, hears, owner } = setup;
        let ears = Arc::default();
        Arc::new(Self {
            github: Arc::new(RwLock::new(github)),
            around: Around { clock, marks, hears, ears, owner },
            waiting: Mutex::default(),
            running: Mutex::default(),
            admins: Mutex::default(),
            demand: Mutex::default(),
            tasks: Tasks::default(),
        })
    }

    /// Begins to listen. `ears` hear what becomes of runners; a second pair is of no use. Must be called
    /// inside the I/O runtime.
    pub fn start(&self, ears: Arc<dyn JobEars>) {
        // Under the lock, so that no listener is put among those that wait after they have begun.
        let mut waiting = lock(&self.waiting);
        if self.around.ears.set(ears).is_ok() {
            waiting.drain(..).for_each(|(talk, stop)| {
                self.tasks.spawn(listen(talk, stop));
            });
        }
    }

    /// Takes up other credentials; open sessions go on.
    pub fn renew(&self, github: Arc<Github>) {
        *self.github.write().unwrap_or_else(PoisonError::into_inner) = github;
    }

    /// These pools are served by scale sets from now on: new ones begin, those that are gone close
    /// their sessions, a changed maximum is told to GitHub at once. Before [`start`](Self::start) it is
    /// only noted. Must be called inside the I/O runtime.
    pub fn configure(&self, wanted: Vec<PoolSet>) {
        let mut running = lock(&self.running);
        let mut before = std::mem::take(&mut *running);
        for set in wanted {
            let same = |one: &Running| PoolSet { max: set.max, ..one.set.clone() } == set;
            let kept = match before.remove(&set.pool) {
                Some(one) if same(&one) => {
                    one.capacity.send_if_modified(|max| std::mem::replace(max, set.max) != set.max);
                    Running { set: set.clone(), ..one }
                }
                other => {
                    other.iter().for_each(Running::end);
                    self.begin(&set)
                }
            };
            running.insert(set.pool, kept);
        }
        before.values().for_each(Running::end);
    }

    fn begin(&self, set: &PoolSet) -> Running {
        let seen = Arc::new(Seen::new(set, self.sender(&set.pool)));
        let (capacity, receiver) = watch::channel(set.max);
        let stop = self.tasks.stop().child_token();
        let talk = Talk {
            admin: self.admin(&set.scope),
            set: set.clone(),
            around: self.around.clone(),
            seen: Arc::clone(&seen),
            capacity: receiver,
            numbers: Mutex::default(),
        };
        let mut waiting = lock(&self.waiting);
        match self.around.ears.get() {
            Some(_) => {
                self.tasks.spawn(listen(talk, stop.clone()));
            }
            None => waiting.push((talk, stop.clone())),
        }
        drop(waiting);
        Running { set: set.clone(), seen, capacity, stop }
    }

    /// Closes every session and waits until they are closed, however long that takes.
    pub async fn stop(&self) {
        self.tasks.end().await;
    }

    /// A forge that takes runners of these pools to the actions service, all others to `rest`.
    #[must_use]
    pub fn forge(self: &Arc<Self>, rest: Arc<dyn Forge>) -> Arc<dyn Forge> {
        Arc::new(forge::Routed::new(rest, Arc::clone(self)))
    }

    /// What each listener says of itself.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        lock(&self.running).values().map(|one| one.seen.status()).collect()
    }

    /// The way to a pool's scale set, if it has one, and the number of it where that is known.
    fn route(&self, pool: &PoolName) -> Option<(Arc<Admin>, Option<u64>)> {
        let running = lock(&self.running);
        let one = running.get(pool)?;
        Some((self.admin(&one.set.scope), one.seen.set()))
    }

    /// The actions service of a scope that has or had scale sets.
    fn admin_of(&self, scope: &Scope) -> Option<Arc<Admin>> {
        lock(&self.admins).get(scope).cloned()
    }

    /// Somebody says that what failed is mended: each way to the actions service is tried at once.
    pub fn end_hold(&self) {
        lock(&self.admins).values().for_each(|admin| admin.end_hold());
    }

    fn admin(&self, scope: &Scope) -> Arc<Admin> {
        let mut admins = lock(&self.admins);
        let new = || Arc::new(Admin::new(Arc::clone(&self.github), scope.clone()));
        Arc::clone(admins.entry(scope.clone()).or_insert_with(new))
    }

    fn sender(&self, pool: &PoolName) -> watch::Sender<Option<Demand>> {
        lock(&self.demand).entry(pool.clone()).or_default().clone()
    }
}

impl DemandSource for ScaleSets {
    fn watch(&self, pool: &PoolName) -> watch::Receiver<Option<Demand>> {
        self.sender(pool).subscribe()
    }
}

impl Drop for ScaleSets {
    fn drop(&mut self) {
        lock(&self.running).values().for_each(|one| one.stop.cancel());
    }
}

/// What there is of a pool's scale set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// None yet: it is made when the daemon starts.
    None,
    /// It is there.
    Set {
        /// GitHub's number of it.
        id: u64,
        /// Labels of its pool that it lacks; GitHub changes none of an existing one.
        missing: Vec<String>,
    },
}

/// Looks for a pool's scale set, and whether its group is there. Makes nothing but the token that the
/// actions service wants.
///
/// # Errors
/// As a listener's first calls.
pub async fn look(github: Arc<Github>, set: &PoolSet) -> Result<Found, PortError> {
    let admin = Admin::new(Arc::new(RwLock::new(github)), set.scope.clone());
    let group = calls::group(&admin, set.group.as_deref()).await?;
    let found = calls::find(&admin, group, &set.name).await?;
    Ok(found.map_or(Found::None, |found| Found::Set {
        id: found.id,
        missing: set.missing(&found.labels),
    }))
}

/// Listens until `stop`, also over a death of the listener.
async fn listen(talk: Talk, stop: CancellationToken) {
    for deaths in 1.. {
        let run = AssertUnwindSafe(talk.run(&stop)).catch_unwind();
        if run.await.is_ok() {
            return;
        }
        talk.seen.unknown();
        tracing::error!(pool = %talk.set.pool, deaths, "the scale set's listener died, starting it anew");
        tokio::select! {
            () = tokio::time::sleep(backoff::delay(deaths, 0, DEATH)) => {}
            () = stop.cancelled() => return,
        }
    }
}
