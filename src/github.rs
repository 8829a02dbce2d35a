//! GitHub as the forge: github.com, data residency and GitHub Enterprise Server.
//!
//! Registers single-use runners by JIT config, removes and lists registrations, for repositories,
//! organisations and enterprises. The rules:
//!
//! - A call is sent once; the brain owns retries. The only second tries are those that cannot have
//!   taken effect (a refused token, a redirect) and the one that the port's contract asks for (the
//!   name is taken because an earlier answer was lost).
//! - A listing tells the truth about itself: what it could not read makes it incomplete.
//! - Nothing is asked while GitHub asks for silence ([`budget`]).
//! - No token, JWT or JIT config gets into a log line, an error or a `Debug` text.
//!
//! Registration tokens and `config.sh` are the alternative to JIT configs: they are good for any
//! number of runners for an hour, so a job that reads one can register runners of its own. They are
//! not supported.

pub mod app_key;
pub mod applications;
pub mod auth;
pub mod budget;
mod check;
pub(crate) mod client;
pub mod cordon;
pub mod downloads;
pub mod freshness;
mod groups;
mod listing;
pub(crate) mod look_up;
pub mod names;
pub(crate) mod reading;
pub mod records;
pub mod refusal;
mod register;
pub mod route;
pub(crate) mod transport;
mod turns;
mod wire;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use runner_fleet_actors::{
    event::Job,
    job::Identity,
    name::{FleetId, PoolName, RegistrationId, RunnerName, Scope},
    port::{
        Clock, Door, Finding, Forge, Listing, PortError, PortStatus, RegisterOrder, Registered,
        Registration,
    },
};
use serde::{Deserialize, Serialize};

pub use auth::{Auth, TokenSource};
pub use check::Access;

use crate::redirect;

use self::{
    applications::Offer,
    budget::{Budget, CallKind, pace::Lesson},
    downloads::Catalogue,
    freshness::{Deprecation, Version},
    names::{Names, Question},
    route::Endpoint,
};

/// How long a call may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until the answer is read to its end.
    pub whole: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), whole: Duration::from_secs(30) }
    }
}

/// Which GitHub, and who the fleet is there.
#[derive(Debug, Clone)]
pub struct GithubConfig {
    /// The web address or the API's base; see [`route::api_base`].
    pub url: String,
    /// The credentials.
    pub auth: Auth,
    /// Whose runners are listed.
    pub fleet: FleetId,
    /// Certificates to trust in addition to the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// How long a call may take.
    pub timeouts: Timeouts,
    /// GitHub's minute: [`budget::MINUTE`], or less where time runs faster.
    pub minute: Duration,
    /// A runner group that no repository may use: where set, runners of organisations and enterprises are moved
    /// there instead of losing their labels.
    pub cordon_group: Option<String>,
    /// What scopes are called now; whoever takes this client's place goes on with it.
    pub names: Arc<Names>,
    /// What was learnt before of how fast this GitHub may be asked.
    pub lessons: Lessons,
}

/// What was learnt of how fast one GitHub may be asked, by the wall: kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lessons {
    /// The address of its API: another GitHub is another one.
    pub of: String,
    /// By endpoint.
    pub endpoints: BTreeMap<Endpoint, Lesson>,
}

impl GithubConfig {
    /// github.com with the default timeouts.
    #[must_use]
    pub fn new(auth: Auth, fleet: FleetId) -> Self {
        Self {
            url: "https://github.com".to_owned(),
            auth,
            fleet,
            ca_file: None,
            timeouts: Timeouts::default(),
            minute: budget::MINUTE,
            cordon_group: None,
            names: Arc::default(),
            lessons: Lessons::default(),
        }
    }
}

/// The forge over GitHub's REST API.
pub struct Github {
    pub(crate) client: client::Client,
    /// For what is not the REST API: GitHub's actions service.
    pub(crate) http: reqwest::Client,
    pub(crate) moves: redirect::Said,
    pub(crate) timeouts: Timeouts,
    pub(crate) fleet: FleetId,
    groups: groups::Groups,
    cordon_group: Option<String>,
    pages: listing::Pages,
}

impl std::fmt::Debug for Github {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Github")
            .field("api", &self.client.base.as_str())
            .field("fleet", &self.fleet)
            .finish_non_exhaustive()
    }
}

impl Github {
    /// Prepares the client; makes no call. The proxy comes from the environment at this moment.
    ///
    /// Must be called inside the tokio runtime that outlives the forge.
    ///
    /// # Errors
    /// `Invalid` where address, CA file or private key cannot be used.
    pub fn new(config: GithubConfig, clock: Arc<dyn Clock>) -> Result<Self, PortError> {
        let base = route::api_base(&config.url)?;
        let credentials = auth::Credentials::new(&config.auth)?;
        let http = transport::http_client(&base, config.ca_file.as_deref(), &config.timeouts)?;
        let patience = config.timeouts.whole;
        let ahead = clock.ahead();
        let known = config.lessons.endpoints.into_iter();
        let known = known.filter(|_| config.lessons.of == base.as_str());
        let known = known.map(|(at, lesson)| (at, lesson.shifted(-ahead))).collect();
        let budget = Budget::with_minute(config.minute).knowing(known);
        let transport = transport::Transport::new(&base, http.clone(), patience)?;
        Ok(Self {
            client: client::Client::new(
                transport,
                credentials,
                base,
                clock,
                config.names,
                (patience, budget),
            ),
            http,
            moves: redirect::Said::default(),
            timeouts: config.timeouts,
            fleet: config.fleet,
            groups: groups::Groups::default(),
            cordon_group: config.cordon_group,
            pages: listing::Pages::default(),
        })
    }

    /// What scopes are called now.
    #[must_use]
    pub fn names(&self) -> &Arc<Names> {
        &self.client.names
    }

    /// What was learnt of how fast this GitHub may be asked.
    #[must_use]
    pub fn lessons(&self) -> Lessons {
        self.client.lessons()
    }

    /// Who a scope is; see [`Records::identity`].
    ///
    /// # Errors
    /// As the forge's calls.
    ///
    /// [`Records::identity`]: records::Records::identity
    pub async fn identity(&self, question: &Question) -> Result<Option<Identity>, PortError> {
        self.client.noted(names::ask(&self.client, question).await)
    }

    /// Whether the fleet can work in `scope`: credentials, permission, and the runner group if one
    /// is named. Registers nothing.
    ///
    /// # Errors
    /// What is missing and how to provide it.
    pub async fn check(&self, scope: &Scope, group: Option<&str>) -> Result<Access, PortError> {
        let checked = check::check(&self.client, &self.groups, scope, group).await;
        let closed = match &checked {
            Ok(_) => self.check_closed(scope).await,
            Err(_) => Ok(()),
        };
        self.client.noted(checked.and_then(|access| closed.map(|()| access)))
    }

    /// Whether the group of cordoned runners is there, and is none that every repository may use.
    async fn check_closed(&self, scope: &Scope) -> Result<(), PortError> {
        match self.cordon_group.as_deref().filter(|_| cordon::has_groups(scope)) {
            Some(group) => self.groups.check_closed(&self.client, scope, group).await,
            None => Ok(()),
        }
    }

    fn keeper(&self) -> cordon::Keeper<'_> {
        let closed = self.cordon_group.as_deref();
        cordon::Keeper { client: &self.client, groups: &self.groups, closed }
    }

    /// The number of the group of cordoned runners, where it can be known.
    async fn closed(&self, scope: &Scope) -> Option<u64> {
        let group = self.cordon_group.as_deref().filter(|_| cordon::has_groups(scope))?;
        self.groups.last_seen(&self.client, scope, group).await
    }
}

#[async_trait]
impl Forge for Github {
    async fn register(&self, order: &RegisterOrder) -> Result<Registered, PortError> {
        self.client.noted(register::register(&self.client, &self.groups, order).await)
    }

    async fn deregister(
        &self,
        scope: &Scope,
        name: &RunnerName,
        id: Option<RegistrationId>,
    ) -> Result<(), PortError> {
        self.client.noted(register::deregister(&self.client, scope, name, id).await)
    }

    async fn cordon(&self, order: &RegisterOrder, id: RegistrationId) -> Result<(), PortError> {
        self.client.noted(cordon::cordon(self.keeper(), order, id).await)
    }

    async fn uncordon(&self, order: &RegisterOrder, id: RegistrationId) -> Result<(), PortError> {
        self.client.noted(cordon::uncordon(self.keeper(), order, id).await)
    }

    async fn list(&self, scope: &Scope) -> Result<Listing<Registration>, PortError> {
        let closed = self.closed(scope).await;
        self.client.noted(self.pages.list(&self.client, &self.fleet, scope, closed).await)
    }

    async fn look_up(
        &self,
        scope: &Scope,
        name: &RunnerName,
        id: Option<RegistrationId>,
        job: Option<&Job>,
    ) -> Result<Finding, PortError> {
        self.client.noted(look_up::look_up(&self.client, scope, name, id, job).await)
    }

    fn status(&self) -> PortStatus {
        self.client.status()
    }

    fn door(&self, _pool: &PoolName) -> Door {
        self.client.door()
    }
}

#[async_trait]
impl Catalogue for Github {
    async fn offer(&self, scope: &Scope, kind: CallKind) -> Result<Offer, PortError> {
        self.client.noted(applications::offer(&self.client, scope, kind).await)
    }

    async fn deprecation(
        &self,
        scope: &Scope,
        version: Version,
    ) -> Result<Option<Deprecation>, PortError> {
        self.client.noted(applications::deprecation(&self.client, scope, version).await)
    }
}
