//! Webhooks: what GitHub posts when something happens to a job, and what it remembers of that.
//!
//! As at GitHub: each post has its time and is never repeated by GitHub itself; whoever missed one
//! finds it in the hook's deliveries and asks for it again. News of one job are posted one after the
//! other, news of different jobs side by side; what comes late is overtaken.
//!
//! A receiver that polls the fake's world is the alternative; it would never meet what makes
//! webhooks hard: loss, doubles, and an order that is none.

pub(super) mod payload;
mod post;
mod replies;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use runner_fleet_actors::{
    name::Scope,
    port::{Secret, Time},
};
use tokio::sync::{
    Semaphore,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use uuid::Uuid;

use super::{
    FakeGithub, JobId, JobRecord,
    world::{Action, News},
};

pub(super) use post::post_all;
pub(super) use replies::{list, redeliver};

/// What one hook keeps at most; GitHub forgets by age.
const KEPT: usize = 50_000;

/// How many posts to one hook are under way at most.
const AT_ONCE: usize = 100;

/// Above 2^53, as GitHub's are: whoever reads them as floating point numbers asks for others.
const FIRST_DELIVERY: u64 = 149_866_212_330_471_424;

/// Whose jobs a hook hears of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookTarget {
    /// A repository's, or those of all repositories of an organisation; of an enterprise those that
    /// were queued in its scope.
    Scope(Scope),
    /// The App's: every job's. Its payloads tell the installation where there is an App.
    App,
}

/// A hook.
#[derive(Debug, Clone)]
pub struct HookOptions {
    /// Where its deliveries are posted. A certificate is not looked at.
    pub url: String,
    /// What they are signed with; `None`: they are not.
    pub secret: Option<Secret>,
    /// Its number.
    pub id: u64,
    /// Whose jobs it hears of.
    pub target: HookTarget,
}

/// A delivery, as its hook remembers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Its number: of two deliveries the later one has the greater number.
    pub id: u64,
    /// `X-GitHub-Delivery`: the same for all deliveries of one event to one hook.
    pub guid: String,
    /// When it was posted.
    pub delivered_at: Time,
    /// Whether somebody asked for it to be made again.
    pub redelivery: bool,
    /// How long it took.
    pub duration: Duration,
    /// `OK`, or what went wrong.
    pub status: String,
    /// What the receiver answered; GitHub's own idea of it where it did not.
    pub status_code: u16,
    /// `X-GitHub-Event`.
    pub event: &'static str,
    /// What happened; a ping has none.
    pub action: Option<&'static str>,
    /// The App's installation, for its hooks.
    pub installation_id: Option<u64>,
    /// The number of the job's repository.
    pub repository_id: Option<u64>,
    /// The job; GitHub's API does not tell it.
    pub job: Option<JobId>,
}

impl Delivery {
    /// Whether the receiver answered with success.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.status_code)
    }
}

/// What happened, to be posted.
#[derive(Debug, Clone)]
enum Event {
    Ping,
    Job {
        news: Box<News>,
        /// See [`Faults::approvals_look_waiting`](super::Faults::approvals_look_waiting).
        looks_waiting: bool,
    },
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Job { .. } => "workflow_job",
        }
    }

    fn action(&self) -> Option<Action> {
        self.news().map(|news| news.action)
    }

    fn news(&self) -> Option<&News> {
        match self {
            Self::Ping => None,
            Self::Job { news, .. } => Some(news),
        }
    }
}

/// A post that is to be made, for the first time or again.
#[derive(Debug, Clone)]
pub(super) struct Errand {
    hook: u64,
    guid: Uuid,
    event: Event,
    redelivery: bool,
}

#[derive(Debug)]
struct Hook {
    options: HookOptions,
    /// It hears of what happens after this change of the world.
    since: u64,
    added: Time,
    slots: Arc<Semaphore>,
    log: VecDeque<(Delivery, Errand)>,
}

impl Hook {
    fn hears(&self, news: &News) -> bool {
        let JobRecord { repository, scope, .. } = &news.record;
        let owner = repository.split('/').next().unwrap_or_default();
        let its = match &self.options.target {
            HookTarget::App => true,
            HookTarget::Scope(own @ Scope::Enterprise(_)) => own == scope,
            HookTarget::Scope(Scope::Organisation(own)) => own.eq_ignore_ascii_case(owner),
            HookTarget::Scope(own) => own.to_string().eq_ignore_ascii_case(repository),
        };
        its && news.number > self.since
    }
}

/// The hooks that there are.
#[derive(Debug)]
pub(super) struct Hooks {
    hooks: BTreeMap<u64, Hook>,
    made: u64,
    delivered: u64,
    errands: UnboundedSender<Errand>,
}

impl Hooks {
    pub(super) fn new() -> (Self, UnboundedReceiver<Errand>) {
        let (errands, from) = unbounded_channel();
        (Self { hooks: BTreeMap::new(), made: 0, delivered: 0, errands }, from)
    }

    /// Deliveries that were answered with success, and those that were not.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.delivered, self.made - self.delivered)
    }

    fn add(&mut self, options: HookOptions, since: u64) {
        let ping = Errand {
            hook: options.id,
            guid: Uuid::new_v4(),
            event: Event::Ping,
            redelivery: false,
        };
        let hook = self.hooks.entry(options.id).or_insert_with(|| Hook {
            options: options.clone(),
            since,
            added: chrono::Utc::now(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            log: VecDeque::new(),
        });
        hook.options = options;
        self.send(ping);
    }

    /// Does something to whose hook each is.
    pub(super) fn each_target(&mut self, change: impl Fn(&mut HookTarget)) {
        self.hooks.values_mut().for_each(|hook| change(&mut hook.options.target));
    }

    fn send(&self, errand: Errand) {
        // Nobody posts any more: the fake is ending.
        let _ = self.errands.send(errand);
    }

    /// What is to be posted when that happens.
    fn of_news(&self, news: &News, looks_waiting: bool) -> Vec<Errand> {
        let errand = |(hook, _): (&u64, &Hook)| Errand {
            hook: *hook,
            guid: Uuid::new_v4(),
            event: Event::Job { news: Box::new(news.clone()), looks_waiting },
            redelivery: false,
        };
        self.hooks.iter().filter(|(_, hook)| hook.hears(news)).map(errand).collect()
    }

    fn note(&mut self, mut delivery: Delivery, errand: Errand) {
        let Some(hook) = self.hooks.get_mut(&errand.hook) else { return };
        delivery.id = FIRST_DELIVERY + self.made;
        self.made += 1;
        self.delivered += u64::from(delivery.succeeded());
        hook.log.push_back((delivery, errand));
        if hook.log.len() > KEPT {
            hook.log.pop_front();
        }
    }
}

impl FakeGithub {
    /// Adds a hook: it gets a `ping`, and from now on a `workflow_job` whenever a job of its target
    /// is queued, held, approved, acquired or over. One with the number of another replaces it and
    /// keeps its deliveries.
    pub fn add_hook(&self, options: HookOptions) {
        let since = self.shared.world().told();
        self.shared.hooks().add(options, since);
    }

    /// What a hook remembers of its deliveries, oldest first: the ping too, and what was lost.
    #[must_use]
    pub fn deliveries(&self, hook: u64) -> Vec<Delivery> {
        let hooks = self.shared.hooks();
        let log = hooks.hooks.get(&hook).into_iter().flat_map(|hook| &hook.log);
        log.map(|(delivery, _)| delivery.clone()).collect()
    }
}
