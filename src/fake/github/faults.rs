//! How the fake fails: as GitHub and the way to it do.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use runner_fleet_actors::{name::Scope, port::Time};
use serde_json::Value;
use tokio::time::Instant;

use super::{JobId, Operation, Options, Shared};

/// A fault that happens once, at the next call of its operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once {
    /// Refused with this status; nothing is done.
    Refuse(u16),
    /// Done, then answered with this status.
    DoAndSay(u16),
    /// Done, then the connection breaks before the answer is there.
    DoAndHangUp,
    /// Done, but there is never an answer.
    DoAndHang,
    /// Never done, never answered.
    Hang,
    /// Answered by a redirect to this place.
    Redirect(String),
    /// Not done; answered with this status and body.
    Say(u16, String),
}

/// What can become of a delivery to a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// It never comes; GitHub notes that it could not connect.
    Lost,
    /// It comes, but GitHub hears no answer and notes a time-out.
    Unheard,
    /// It comes twice.
    Twice,
    /// It comes that much later; what is younger overtakes it.
    Late(Duration),
}

/// About which jobs GitHub's busy flag lies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lies {
    always: bool,
    /// How long after its assignment the flag shows a job.
    late: Duration,
    until: Option<Instant>,
    jobs: HashSet<u64>,
}

impl Lies {
    pub(crate) fn about(&self, job: u64) -> bool {
        self.always
            || self.until.is_some_and(|until| Instant::now() < until)
            || self.jobs.contains(&job)
    }

    /// Whether it does not show a job yet that was assigned then.
    pub(crate) fn hide(&self, given: Option<Instant>) -> bool {
        given.is_some_and(|given| given.elapsed() < self.late)
    }
}

/// The faults' settings.
pub(crate) struct State {
    pub(crate) latency: Duration,
    /// Shares of calls that end in a 502 before and after they take effect.
    pub(crate) errors: (f64, f64),
    pub(crate) outage: bool,
    pub(crate) hang: bool,
    pub(crate) forbidden: bool,
    pub(crate) lies: Lies,
    pub(crate) misses_one: bool,
    pub(crate) failing_page: Option<u64>,
    pub(crate) odd: Vec<Value>,
    pub(crate) stale: HashMap<Scope, Vec<Value>>,
    pub(crate) is_stale: bool,
    pub(crate) once: HashMap<Operation, VecDeque<Once>>,
    pub(crate) rng: SmallRng,
    pub(crate) refused_tokens: HashSet<String>,
    pub(crate) added_tokens: HashSet<String>,
    pub(crate) installation_tokens: HashMap<String, Time>,
    /// What becomes of the next deliveries.
    next_deliveries: VecDeque<Mishap>,
    /// What becomes of any delivery, with its share of them.
    deliveries: Vec<(Mishap, f64)>,
    pub(crate) stale_approvals: bool,
    /// The App's public key, where it was replaced.
    pub(crate) app_key: Option<String>,
}

impl State {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            latency: options.latency,
            errors: (0.0, 0.0),
            outage: false,
            hang: false,
            forbidden: false,
            lies: Lies::default(),
            misses_one: false,
            failing_page: None,
            odd: Vec::new(),
            stale: HashMap::new(),
            is_stale: false,
            once: HashMap::new(),
            rng: SmallRng::seed_from_u64(options.seed ^ 0x5eed),
            refused_tokens: HashSet::new(),
            added_tokens: HashSet::new(),
            installation_tokens: HashMap::new(),
            next_deliveries: VecDeque::new(),
            deliveries: Vec::new(),
            stale_approvals: false,
            app_key: None,
        }
    }

    /// What becomes of this delivery; `None`: it comes as it should.
    pub(crate) fn mishap(&mut self) -> Option<Mishap> {
        if let Some(next) = self.next_deliveries.pop_front() {
            return Some(next);
        }
        let mut luck: f64 = if self.deliveries.is_empty() { 1.0 } else { self.rng.random() };
        let unlucky = self.deliveries.iter().find(|(_, share)| {
            luck -= share;
            luck < 0.0
        });
        unlucky.map(|(mishap, _)| *mishap)
    }

    pub(crate) fn unreachable(&self) -> bool {
        self.outage || self.hang
    }
}

/// Makes the fake fail; each setting holds until it is set again.
#[derive(Clone)]
pub struct Faults(Arc<Shared>);

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faults(..)")
    }
}

impl Faults {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Shares (0 to 1) of calls that end in a 502: before they take effect, and after.
    pub fn error_rate(&self, before: f64, after: f64) {
        self.0.faults().errors = (before, after);
    }

    /// How long each answer takes.
    pub fn latency(&self, latency: Duration) {
        self.0.faults().latency = latency;
    }

    /// Every call is answered with 503, those of runner applications included, and no runner can
    /// connect. Sessions and jobs outlive it.
    pub fn outage(&self, on: bool) {
        self.0.faults().outage = on;
        self.weather_changes();
    }

    /// No call is answered at all, and no runner can connect. Sessions and jobs outlive it.
    pub fn hang(&self, on: bool) {
        self.0.faults().hang = on;
        self.weather_changes();
    }

    fn weather_changes(&self) {
        let away = self.0.faults().unreachable();
        self.0.world().set_away(away);
        self.0.weather.notify_waiters();
    }

    /// Something goes wrong once, at the next call of that operation. Several queue up.
    pub fn once(&self, operation: Operation, fault: Once) {
        self.0.faults().once.entry(operation).or_default().push_back(fault);
    }

    /// What was to go wrong at that operation's next calls does not.
    pub fn forget(&self, operation: Operation) {
        self.0.faults().once.remove(&operation);
    }

    /// The primary rate limit is used up for that long.
    pub fn primary_limit(&self, lasts: Duration) {
        self.0.limits().exhaust(lasts);
    }

    /// So many calls are left in this hour.
    pub fn set_remaining(&self, remaining: u64) {
        self.0.limits().set_remaining(remaining);
    }

    /// A secondary rate limit for that long, told in a `retry-after` header or only in words.
    pub fn secondary_limit(&self, lasts: Duration, tells_how_long: bool) {
        self.0.limits().secondary(lasts, tells_how_long);
    }

    /// Each endpoint gives so many points in any minute from now on, as GitHub's do: a call that writes
    /// costs 5 and another one 1. Whatever was spent is forgotten.
    pub fn points_a_minute(&self, points: Option<u32>) {
        let mut limits = self.0.limits();
        limits.points.of_endpoint = points;
        limits.points.turn();
    }

    /// So many calls that create something are taken in any minute from now on. Those of before are
    /// forgotten.
    pub fn creations_a_minute(&self, creations: Option<u32>) {
        let mut limits = self.0.limits();
        limits.points.creations = creations;
        limits.points.turn();
    }

    /// Refuses a token with 401 from now on.
    pub fn revoke(&self, token: &str) {
        self.0.faults().refused_tokens.insert(token.to_owned());
    }

    /// The App has another key from now on, whose public half this is, and no longer the one before.
    pub fn replace_app_key(&self, public_key: &str) {
        self.0.faults().app_key = Some(public_key.to_owned());
    }

    /// Accepts one more token.
    pub fn accept(&self, token: &str) {
        let mut faults = self.0.faults();
        faults.refused_tokens.remove(token);
        faults.added_tokens.insert(token.to_owned());
    }

    /// Refuses every installation token that was made so far with 401.
    pub fn revoke_installation_tokens(&self) {
        self.0.faults().installation_tokens.clear();
    }

    /// Refuses everything with 403 for want of a permission.
    pub fn forbid(&self, on: bool) {
        self.0.faults().forbidden = on;
    }

    /// The busy flag is false in mid-job, and a deregistration then succeeds and kills the job, as
    /// seen in actions/runner#4422.
    pub fn busy_lies(&self, on: bool) {
        let mut faults = self.0.faults();
        faults.lies.always = on;
        if !on {
            faults.lies = Lies::default();
        }
    }

    /// The same for that long from now.
    pub fn busy_lies_for(&self, lasts: Duration) {
        self.0.faults().lies.until = Some(Instant::now() + lasts);
    }

    /// The same for the runners of these jobs only, from their assignment to their end.
    pub fn busy_lies_about(&self, jobs: &[JobId]) {
        self.0.faults().lies.jobs.extend(jobs.iter().map(|job| job.0));
    }

    /// The busy flag shows a job that much after its assignment, and a deregistration before succeeds.
    pub fn busy_is_late(&self, by: Duration) {
        self.0.faults().lies.late = by;
    }

    /// Jobs are given by the labels and group that a runner was registered with, whatever was changed since;
    /// of labels that a runner no longer had tells actions/runner#4225.
    pub fn forget_changes(&self, on: bool) {
        self.0.world().forgets_changes = on;
    }

    /// Each listing misses one runner and does not say so.
    pub fn listings_miss_one(&self, on: bool) {
        self.0.faults().misses_one = on;
    }

    /// Listings show the world as it is at this moment, until it is switched off.
    pub fn listings_are_stale(&self, on: bool) {
        let mut faults = self.0.faults();
        faults.is_stale = on;
        faults.stale.clear();
    }

    /// That page of every listing ends in a 502.
    pub fn failing_page(&self, page: Option<u64>) {
        self.0.faults().failing_page = page;
    }

    /// Elements that are put in front of every listing of runners as they are.
    pub fn odd_elements(&self, elements: Vec<Value>) {
        self.0.faults().odd = elements;
    }

    /// What becomes of so many deliveries to hooks from now on, redeliveries included; the second
    /// call of this queues up behind the first. Pings always come.
    pub fn next_deliveries(&self, mishap: Mishap, count: usize) {
        self.0.faults().next_deliveries.extend(std::iter::repeat_n(mishap, count));
    }

    /// What becomes of each delivery to a hook, with shares (0 to 1) of them all; the rest comes as
    /// it should. Each call replaces all shares.
    pub fn deliveries(&self, shares: &[(Mishap, f64)]) {
        self.0.faults().deliveries = shares.to_vec();
    }

    /// The `queued` of a job that was just approved still says `"status": "waiting"`, as in a payload
    /// that GitHub has sent.
    pub fn approvals_look_waiting(&self, on: bool) {
        self.0.faults().stale_approvals = on;
    }
}
