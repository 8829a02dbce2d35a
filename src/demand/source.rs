//! What a source of demand is to the daemon.
//!
//! Each source is a folder here and a line in [`SOURCES`](super::SOURCES); the daemon goes through that
//! list and names none of them (what the keys of a configuration mean is read in [`config`](crate::config),
//! as for everything else). So there are two traits. A [`Kind`] is what a source is before there is
//! one: it looks at a configuration, is asked by `check`, and makes a [`Source`], which is what it is
//! while a daemon runs. One enum of all sources would be the alternative; with it each new one was named
//! in seven places, and forgotten in one of them.
//!
//! Whatever may fail is read and made first, and what is made is put in place afterwards ([`Change`]):
//! a configuration that one source cannot take over changes none.

use std::sync::Arc;

use async_trait::async_trait;
use runner_fleet_actors::{
    event::FleetEvent,
    job::Serves,
    port::{Clock, DemandSource, Forge, Observer},
};

use super::{JobEars, desk::Desk, queue::line::Broker, webhook::repair};
use crate::{
    config::{Config, Mark, Pool, SecretSource},
    github::{Github, records::Records},
    http::api::SourceStatus,
    provider::Finding,
};

/// How sources live, besides what the configuration says.
#[derive(Clone, Default)]
pub struct Terms {
    /// How often is looked for what webhooks have lost.
    pub repair: repair::Pace,
    /// Whose queues they are. `None`: those of the broker in `[queue]`.
    pub broker: Option<Arc<dyn Broker>>,
}

/// What a source may use of the rest of the daemon.
#[derive(Clone)]
pub struct House {
    /// Keeps and counts the jobs.
    pub desk: Arc<Desk>,
    /// The GitHub of the present configuration: a reload may replace it.
    pub github: Arc<dyn Fn() -> Arc<Github> + Send + Sync>,
    /// Whom to ask about jobs and deliveries.
    pub records: Arc<dyn Records>,
    /// Gets a line for the journal of whatever fails.
    pub observer: Arc<dyn Observer>,
    /// The one way to the time of day.
    pub clock: Arc<dyn Clock>,
    /// How sources live.
    pub terms: Terms,
}

/// What was read or made for another configuration; to be called when all else that may fail is done.
pub type Change<'a> = Box<dyn FnOnce() + Send + 'a>;

/// There is nothing to change.
#[must_use]
pub fn no_change<'a>() -> Change<'a> {
    Box::new(|| {})
}

/// A source of demand before there is one.
#[async_trait]
pub trait Kind: Send + Sync {
    /// What it is called, among all sources: in `check`, and where its secrets are compared.
    fn name(&self) -> &'static str;

    /// Makes the source for a daemon; `None` where `config` wants none, and a reload cannot want one.
    /// Listens to nobody and connects to nothing yet. Must be called inside the I/O runtime.
    ///
    /// # Errors
    /// What is not to be had, for the person who must provide it.
    fn make(&self, config: &Config, house: &House) -> Result<Option<Box<dyn Source>>, String>;

    /// What the places hold that `config` names for it; `None` where it names none.
    fn held(&self, config: &Config) -> Option<Mark> {
        let _nowhere = config;
        None
    }

    /// What those places hold, for a person: "the planner's token and authorities".
    fn holdings(&self) -> &'static str {
        "what it is reached with"
    }

    /// The keys of `config` that say where its secrets lie, without their endings for the kind of place.
    fn secrets<'a>(&self, config: &'a Config) -> Vec<(&'static str, &'a SecretSource)> {
        let _none = config;
        Vec::new()
    }

    /// Whether it names the jobs of a pool. Jobs that nobody names are recorded as the pool's runners show
    /// them ([`OwnJobs`](super::own::OwnJobs)).
    fn names_jobs_of(&self, pool: &Pool, config: &Config) -> bool {
        let _nobodys = (pool, config);
        false
    }

    /// What a pool serves, where it is another thing to this source than its own keys say.
    fn serves(&self, pool: &Pool, serves: Serves) -> Serves {
        let _same = pool;
        serves
    }

    /// Asks whether a daemon of `config` can be told of demand. Takes nothing, opens no session and makes
    /// nothing: another daemon may be at work with the same queue or scale set. Without a `github` nothing
    /// is said of what needs one: why there is none is said already.
    async fn ask(
        &self,
        config: &Config,
        github: Option<&Arc<Github>>,
        clock: &Arc<dyn Clock>,
    ) -> Vec<Finding> {
        let _nobody = (config, github, clock);
        Vec::new()
    }
}

/// A source of demand in a daemon.
#[async_trait]
pub trait Source: Send + Sync {
    /// Reads which of the pools are its own, at the start and at each reload. The change is made inside
    /// the I/O runtime, before the pools ask for [`Source::of`].
    ///
    /// # Errors
    /// What cannot be used; the old configuration stays.
    fn configure<'a>(&'a self, config: &Config) -> Result<Change<'a>, String> {
        let _whatever = config;
        Ok(no_change())
    }

    /// Reads secrets and certificates again, before [`Source::configure`]. `anew`: some of them, or where
    /// they lie, is another than before.
    ///
    /// # Errors
    /// What is wrong with which place; what was read before stays.
    fn renew<'a>(&'a self, config: &Config, anew: bool) -> Result<Change<'a>, String> {
        let _nothing = (config, anew);
        Ok(no_change())
    }

    /// What it knows of a pool's demand; `None` where it does not speak for that pool.
    fn of(&self, pool: &Pool) -> Option<Arc<dyn DemandSource>>;

    /// The forge for every pool: `rest`, but where runners of this source's pools are registered in a way
    /// of their own.
    fn forge(&self, rest: Arc<dyn Forge>) -> Arc<dyn Forge> {
        rest
    }

    /// What it says of itself, for the status.
    fn status(&self) -> Vec<SourceStatus>;

    /// What the fleet does. Called on the fleet's own thread: must not block and must not fail.
    fn observe(&self, event: &FleetEvent) {
        let _unheard = event;
    }

    /// Begins to listen, inside the I/O runtime. `ears` hear what becomes of runners.
    ///
    /// # Errors
    /// What is not to be had, such as an address; for the person who must provide it.
    async fn start(&self, ears: &Arc<dyn JobEars>) -> Result<(), String> {
        let _deaf = ears;
        Ok(())
    }

    /// Listens to nobody any more, and returns when all that it had begun is at its end. Harmless where it
    /// was never started, and where a start has failed.
    async fn stop(&self) {}
}

/// What a source says of itself as a document.
pub(super) fn details(status: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(status).unwrap_or_default()
}
