//! The pressure that Canonical's planner tells, as demand.
//!
//! The planner hears GitHub's webhooks for many applications and answers each with one number a
//! flavor: how many runners there should be in all, those with a job included
//! (`GET /api/v1/flavors/{name|_}/pressure?stream=true`, one JSON object a line, at once and at each
//! change). The rules here:
//!
//! - One stream for all pools, under the name `_`: each stream holds a connection of the planner's
//!   database, and tells each change once.
//! - Pressure counts running jobs. They are taken off by the busy runners that the fleet itself
//!   knows of, in one step with their coming and going ([`share`](self::share())).
//! - What the planner does not tell is unknown, never zero: a stream that is broken, a flavor that
//!   it does not know, a number that is none.
//! - Silence is no failure and no proof of life. The planner sends a heartbeat every 30 s to *one*
//!   of its clients, so that of ten each may wait five minutes for one, and a network that drops
//!   packets closes nothing. After 90 s without a word the stream is opened anew, for it begins with
//!   the present pressures; the old ones stand until the new connection tells others or fails. So
//!   no pressure is believed for longer than two minutes after a connection died unseen, and a
//!   planner with many clients does not make demand flicker. Waiting for the heartbeat instead, as
//!   the planner's own client does for 300 s, would call a healthy stream dead where there are many
//!   units, and believe a dead one for five minutes.
//!
//! The alternative, asking for the number again and again, is later for each job, and costs the
//! planner a query each time.

mod board;
mod lines;
mod share;
pub mod source;
mod stream;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use runner_fleet_actors::{
    demand::Demand,
    event::FleetEvent,
    foreign::Foreign,
    name::PoolName,
    port::{Clock, DemandSource, ErrorClass, Observer, PortError, Time},
};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use url::Url;

use self::board::Board;
pub use self::{
    share::{demand, share},
    stream::Pace,
};
use crate::{
    config::{Env, PlannerAccess, SecretSource},
    github::transport::{causes, trusting},
    redirect,
};

/// What the planner's source says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PlannerStatus {
    /// Since when pressures are known without a gap; `None` while they are not.
    pub connected_since: Option<Time>,
    /// When pressures were last told.
    pub last_word_at: Option<Time>,
    /// Lines that told pressures since the start.
    pub lines: u64,
    /// Lines that said nothing.
    pub malformed: u64,
    /// Connections that failed or broke.
    pub failures: u64,
    /// Since when there is no connection or no good word for a failure; `None` while it works.
    pub failing_since: Option<Time>,
    /// The last failure, for a person.
    pub last_error: Option<String>,
    /// Runners in all, by flavor, as last told; empty while nothing is known.
    pub pressures: BTreeMap<Foreign, u32>,
    /// Flavors whose pressure is no number of runners.
    pub unreadable: Vec<Foreign>,
    /// Pools whose flavor the planner does not tell: their demand is unknown.
    pub without_flavor: BTreeMap<PoolName, String>,
}

/// Follows one planner for all pools that want it. [`Planner::run`] must be running, and the fleet's
/// events must reach it as an [`Observer`].
pub struct Planner {
    url: Url,
    way: RwLock<Way>,
    /// Another way was set.
    renewed: Notify,
    env: Env,
    clock: Arc<dyn Clock>,
    pace: Pace,
    seed: u64,
    board: Mutex<Board>,
    moves: redirect::Said,
    /// A job may have ended.
    ended: Notify,
    notes: Mutex<PlannerStatus>,
}

/// How the planner is reached.
#[derive(Clone)]
struct Way {
    token: SecretSource,
    client: reqwest::Client,
}

fn client(access: &PlannerAccess, pace: &Pace) -> Result<reqwest::Client, PortError> {
    let mut client = reqwest::Client::builder()
        .user_agent(concat!("runner-fleet/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(pace.patience)
        .tcp_keepalive(Duration::from_secs(30))
        // Followed by `redirect`: a token is for the host that it was given for.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never());
    if let Some(ca) = &access.ca_file {
        client = trusting(client, ca)?;
    }
    client.build().map_err(|error| {
        let url = &access.url;
        let what = format!("the client for {url} cannot be built: {}", causes(&error));
        PortError::certain(ErrorClass::Invalid, what)
    })
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl Planner {
    /// Prepares the source; makes no call.
    ///
    /// # Errors
    /// `Invalid` where the CA file cannot be used.
    pub fn new(
        access: &PlannerAccess,
        env: Env,
        clock: Arc<dyn Clock>,
        pace: Pace,
    ) -> Result<Arc<Self>, PortError> {
        let url = stream_of(&access.url);
        let client = client(access, &pace)?;
        Ok(Arc::new(Self {
            url,
            way: RwLock::new(Way { token: access.token.clone(), client }),
            renewed: Notify::new(),
            env,
            clock,
            pace,
            // Units that lose their planner together must not come back together.
            seed: rand::random(),
            board: Mutex::new(Board::new(access.unit, access.units)),
            moves: redirect::Said::default(),
            ended: Notify::new(),
            notes: Mutex::default(),
        }))
    }

    /// Prepares another token and other authorities; what comes back takes them up. The stream is opened
    /// anew then, and what it told stands until it is.
    ///
    /// # Errors
    /// `Invalid` where the CA file cannot be used.
    pub fn renew<'a>(
        &'a self,
        access: &PlannerAccess,
    ) -> Result<impl FnOnce() + Send + use<'a>, PortError> {
        let way = Way { token: access.token.clone(), client: client(access, &self.pace)? };
        Ok(move || {
            *self.way.write().unwrap_or_else(PoisonError::into_inner) = way;
            self.renewed.notify_one();
        })
    }

    fn way(&self) -> Way {
        self.way.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on `pool` follows `flavor` instead of the one of its own name.
    pub fn follow(&self, pool: &PoolName, flavor: &str) {
        self.board().follow(pool, flavor);
    }

    /// What it says of itself. Never blocks for long.
    #[must_use]
    pub fn status(&self) -> PlannerStatus {
        let mut status = self.notes().clone();
        let board = self.board();
        status.pressures = board.pressures();
        status.without_flavor = board.without_flavor();
        status
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notes(&self) -> MutexGuard<'_, PlannerStatus> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DemandSource for Planner {
    fn watch(&self, pool: &PoolName) -> watch::Receiver<Option<Demand>> {
        self.board().watch(pool)
    }
}

impl Observer for Planner {
    fn observe(&self, event: &FleetEvent) {
        if let FleetEvent::Transition { at, transition } = event {
            self.board().moved(transition, *at);
            self.ended.notify_one();
        }
    }
}

/// The stream of all flavors of the planner at `base`.
fn stream_of(base: &Url) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(["api", "v1", "flavors", "_", "pressure"]);
    }
    url.set_query(Some("stream=true"));
    url
}

#[cfg(test)]
mod tests;
