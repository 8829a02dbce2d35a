//! The fleet: all pools of one daemon, started top-down, stopped bottom-up.
//!
//! It supervises the pool actors, routes listings to the pool that owns each name, gives a retiring
//! pool to runners whose pool left the configuration, and takes the daemon down when a pool cannot
//! be kept alive: the init system starts it again, and adoption does the rest. A pool that is
//! silently missing would be worse than a restart that everybody sees.

mod changes;
mod orders;
mod signs;
mod sweeps;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, RwLock},
};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler};
use tokio::sync::{oneshot, watch};

use crate::{
    demand::Demand,
    event::{FleetEvent, SharedModel},
    guard::Died,
    hands::{Blueprint, Hands, NoUserData},
    name::{FleetId, PoolName, Scope},
    pool::{
        Policy, SharedBoots, SharedHabits,
        actor::{Configure, Emptied, Order, Outfit, PoolActor, PoolKey, Stir, Woke},
    },
    port::{
        BEAT, Clock, DemandSource, ErrorClass, Forge, Guests, Heard, Listing, Observer, PortError,
        Provider, Shape, Time, Vm,
    },
    runner::{
        Limits,
        actor::{Halt, Shared},
    },
    scaler::{
        self,
        actor::{ScalerActor, Serve},
    },
    sight::Side,
    supervision::{self, Intensity, Restart},
    sweep::Cadence,
};

pub use orders::{Fix, Reconcile, Reload, Route, RouteError, Stop};
pub use sweeps::{SweptCloud, SweptForge};

/// One pool as the configuration wants it.
#[derive(Clone)]
pub struct PoolSetup {
    /// How it is set up.
    pub configure: Configure,
    /// Who knows of its demand besides the pool itself; nobody = its busy runners are all of it.
    pub demand: Vec<Arc<dyn DemandSource>>,
}

/// What a fleet is given to live.
#[derive(Clone)]
pub struct FleetSetup {
    /// Its identity: the ownership tag.
    pub id: FleetId,
    /// Providers by name.
    pub providers: BTreeMap<String, Arc<dyn Provider>>,
    /// Hands out jobs.
    pub forge: Arc<dyn Forge>,
    /// The way to the guests.
    pub guests: Arc<dyn Guests>,
    /// The pools.
    pub pools: Vec<PoolSetup>,
    /// Scopes that no pool has, where registrations of an earlier start may be left. Each is listed
    /// until a whole listing shows none.
    pub remembered: BTreeSet<Scope>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who is told of everything.
    pub observer: Arc<dyn Observer>,
    /// The read model.
    pub model: SharedModel,
    /// How long boots took before, and from now on.
    pub boots: SharedBoots,
    /// What its scopes have shown of the forge's habits before, and from now on.
    pub habits: SharedHabits,
    /// Where I/O runs.
    pub io: tokio::runtime::Handle,
    /// How often clouds are listed.
    pub cloud_cadence: Cadence,
    /// How often the forge is listed.
    pub forge_cadence: Cadence,
    /// How often an actor may die.
    pub intensity: Intensity,
}

/// How a fleet came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to stop, and did.
    Stopped,
    /// A pool could not be kept alive.
    Escalated(String),
}

struct PoolChild {
    addr: Addr<PoolActor>,
    scaler: Option<Addr<ScalerActor>>,
    start: u64,
    deaths: Vec<Time>,
    setup: PoolSetup,
    occupancy: Arc<watch::Sender<Option<Demand>>>,
    shadow: bool,
}

/// Who speaks for the jobs of a pool.
fn sources(setup: &PoolSetup) -> Vec<watch::Receiver<Option<Demand>>> {
    let pool = &setup.configure.blueprint.pool;
    setup.demand.iter().map(|source| source.watch(pool)).collect()
}

/// The actor over all pools.
pub struct FleetActor {
    setup: FleetSetup,
    pools: BTreeMap<PoolKey, PoolChild>,
    starts: u64,
    begun: Time,
    heard_of_gaps: Heard,
    stir: Arc<watch::Sender<Stir>>,
    clouds: BTreeMap<String, Arc<Listing<Vm>>>,
    sweeps: BTreeMap<Side, actix_rt::task::JoinHandle<()>>,
    listeners: BTreeMap<String, actix_rt::task::JoinHandle<()>>,
    ended: Option<oneshot::Sender<Ending>>,
    stopping: Option<oneshot::Sender<()>>,
}

impl FleetActor {
    /// A fleet, and the news of its end.
    #[must_use]
    pub fn new(setup: FleetSetup) -> (Self, oneshot::Receiver<Ending>) {
        let (ended, ending) = oneshot::channel();
        let begun = setup.clock.now();
        let heard_of_gaps = Heard::up_to(setup.clock.awake_since());
        let fleet = Self {
            setup,
            pools: BTreeMap::new(),
            starts: 0,
            begun,
            heard_of_gaps,
            stir: Arc::new(watch::Sender::new(Stir::default())),
            clouds: BTreeMap::new(),
            sweeps: BTreeMap::new(),
            listeners: BTreeMap::new(),
            ended: Some(ended),
            stopping: None,
        };
        (fleet, ending)
    }

    fn key(setup: &PoolSetup) -> PoolKey {
        PoolKey {
            pool: setup.configure.blueprint.pool.clone(),
            provider: setup.configure.provider.clone(),
            scope: setup.configure.blueprint.scope.clone(),
        }
    }

    fn start_pool(
        &mut self,
        setup: PoolSetup,
        deaths: Vec<Time>,
        before: Option<PoolChild>,
        ctx: &mut Context<Self>,
    ) {
        let key = Self::key(&setup);
        let Some(provider) = self.setup.providers.get(&key.provider) else {
            tracing::error!(pool = %key.pool, provider = %key.provider, "a pool names a provider that is not there");
            return;
        };
        self.starts += 1;
        let occupancy = match &before {
            Some(child) => Arc::clone(&child.occupancy),
            None => Arc::new(watch::Sender::new(None)),
        };
        let hands = Arc::new(Hands {
            provider: Arc::clone(provider),
            forge: Arc::clone(&self.setup.forge),
            guests: Arc::clone(&self.setup.guests),
            clock: Arc::clone(&self.setup.clock),
            io: self.setup.io.clone(),
        });
        let shared = Arc::new(Shared {
            pool: key.pool.clone(),
            hands,
            limits: RwLock::new(Arc::new(setup.configure.limits.clone())),
            habits: Arc::clone(&self.setup.habits),
            model: Arc::clone(&self.setup.model),
            observer: Arc::clone(&self.setup.observer),
        });
        let namesake = self.pools.keys().any(|other| other.pool == key.pool && *other != key);
        let shadow = setup.configure.policy.retiring && namesake;
        let outfit = Outfit {
            fleet: self.setup.id.clone(),
            shared,
            configure: setup.configure.clone(),
            occupancy: Arc::clone(&occupancy),
            works: ctx.address().recipient(),
            boots: Arc::clone(&self.setup.boots),
            stir: Arc::clone(&self.stir),
            shadow,
            intensity: self.setup.intensity,
        };
        let actor = PoolActor::new(
            outfit,
            self.starts,
            ctx.address().recipient(),
            Some(ctx.address().recipient()),
        );
        let addr = actor.start();
        let scaler = match before.and_then(|child| child.scaler) {
            Some(scaler) if scaler.connected() => {
                scaler.do_send(Serve(addr.clone()));
                scaler
            }
            _ => {
                let sources = sources(&setup);
                let busy = occupancy.subscribe();
                let clock = Arc::clone(&self.setup.clock);
                let scaling = setup.configure.scaling;
                ScalerActor::new(addr.clone(), scaling, busy, sources, clock).start()
            }
        };
        let child = PoolChild {
            addr,
            scaler: Some(scaler),
            start: self.starts,
            deaths,
            setup,
            occupancy,
            shadow,
        };
        self.pools.insert(key, child);
        self.sweep_what_is_needed(ctx);
        self.hear_every_cloud(ctx);
        self.look_at_once();
    }

    /// An operator says that something was mended: whoever holds back by its own judgement tries once.
    fn end_holds(&self) {
        self.setup.forge.end_hold();
        for provider in self.setup.providers.values() {
            provider.end_hold();
        }
        for child in self.pools.values() {
            child.addr.do_send(Order::EndHold);
        }
        self.look_at_once();
    }

    fn look_at_once(&self) {
        self.stir.send_modify(|stir| {
            stir.at_once += 1;
            stir.changes += 1;
        });
    }

    /// Asks whether the process stood still, and by that keeps it from looking as if it did. Then both sides
    /// are listed at once, and until they are, nothing is done on the strength of what was seen before.
    fn beat(&mut self) {
        let news = self.heard_of_gaps.news(self.setup.clock.awake_since());
        let Some(awake_since) = news else { return };
        tracing::warn!(
            %awake_since,
            "this process stood still for a while (stopped, suspended or starved); everything is looked at anew"
        );
        for child in self.pools.values() {
            child.addr.do_send(Woke);
        }
        self.look_at_once();
    }

    /// A pool for runners whose pool is not in the configuration (any more).
    fn retire(&mut self, key: PoolKey, ctx: &mut Context<Self>) {
        tracing::warn!(pool = %key.pool, provider = %key.provider, scope = %key.scope,
            "runners of a pool that is not configured were found; they are drained");
        // Whether its guests answer is not known any more. Asking some in vain costs minutes, not asking
        // one that could have answered may cost its job.
        let guests_report =
            self.pools.values().any(|child| child.setup.configure.limits.guests_report);
        let setup = PoolSetup {
            configure: Configure {
                blueprint: Arc::new(Blueprint {
                    pool: key.pool.clone(),
                    scope: key.scope.clone(),
                    group: None,
                    labels: Vec::new(),
                    shape: Shape::default(),
                    user_data: Arc::new(NoUserData),
                }),
                policy: Policy { max: 0, replace_at_once: 1, shape: None, retiring: true },
                scaling: EMPTY,
                limits: Limits { guests_report, ..Limits::default() },
                provider: key.provider,
            },
            demand: Vec::new(),
        };
        self.start_pool(setup, Vec::new(), None, ctx);
    }

    fn fault(&self, pool: Option<PoolName>, what: String) {
        tracing::error!("{what}");
        self.setup.observer.observe(&FleetEvent::Fault {
            at: self.setup.clock.now(),
            pool,
            runner: None,
            error: PortError::certain(ErrorClass::Invalid, what),
        });
    }

    fn end(&mut self, ending: Ending, ctx: &mut Context<Self>) {
        for (_, task) in std::mem::take(&mut self.sweeps) {
            task.abort();
        }
        self.hear_nobody();
        if let Some(ended) = self.ended.take() {
            // Nobody listens any more: then nobody needs the news.
            let _unheard = ended.send(ending);
        }
        if let Some(stopped) = self.stopping.take() {
            let _unheard = stopped.send(());
        }
        ctx.stop();
    }
}

const EMPTY: scaler::Policy = scaler::Policy {
    min: 0,
    spare: 0,
    max: 0,
    shrink_after: std::time::Duration::ZERO,
    fixed: None,
};

impl Actor for FleetActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for pool in std::mem::take(&mut self.setup.pools) {
            self.start_pool(pool, Vec::new(), None, ctx);
        }
        ctx.run_interval(BEAT, |fleet, _| fleet.beat());
    }
}

impl Handler<Died<PoolKey>> for FleetActor {
    type Result = ();

    fn handle(&mut self, died: Died<PoolKey>, ctx: &mut Self::Context) {
        if self.pools.get(&died.key).is_none_or(|child| child.start != died.start) {
            return;
        }
        let Some(mut child) = self.pools.remove(&died.key) else { return };
        if died.orderly || self.stopping.is_some() {
            if self.stopping.is_none() && !child.setup.configure.policy.retiring {
                // It came back into the configuration while it was ending.
                self.start_pool(child.setup, Vec::new(), None, ctx);
                return;
            }
            if !child.shadow {
                self.setup.model.pools.remove(&died.key.pool);
            }
            if self.stopping.is_some() && self.pools.is_empty() {
                self.end(Ending::Stopped, ctx);
            }
            return;
        }
        let now = self.setup.clock.now();
        let intensity = self.setup.intensity;
        supervision::forget_old(&mut child.deaths, now, &intensity);
        child.deaths.push(now);
        let deaths = child.deaths.clone();
        let name = died.key.pool.clone();
        // Whatever the dead actor had put up is no longer anybody's word.
        self.setup.model.runners.retain(|_, runner| runner.pool != name);
        match supervision::decide(&deaths, now, &intensity) {
            Restart::At(at) => {
                self.fault(
                    Some(name),
                    format!(
                        "the actor of pool {} died; it is started again and adopts",
                        died.key.pool
                    ),
                );
                let wait = (at - now).to_std().unwrap_or_default();
                ctx.run_later(wait, move |fleet, ctx| {
                    let setup = child.setup.clone();
                    fleet.start_pool(setup, deaths, Some(child), ctx);
                });
            }
            Restart::Escalate => {
                let what = format!(
                    "the actor of pool {} died {} times within {} s; the daemon gives up, so that it is \
                     started afresh and adopts what is there. The panic messages above name the defect",
                    died.key.pool,
                    deaths.len(),
                    intensity.within.as_secs()
                );
                self.fault(Some(name), what.clone());
                self.end(Ending::Escalated(what), ctx);
            }
        }
    }
}

impl Handler<Emptied> for FleetActor {
    type Result = ();

    fn handle(&mut self, Emptied(key): Emptied, ctx: &mut Self::Context) {
        if let Some(child) = self.pools.get_mut(&key) {
            // Without its scaler and told to halt, the pool ends orderly.
            child.scaler = None;
            child.addr.do_send(Halt);
            tracing::info!(pool = %key.pool, "a retired pool is empty and ends");
        }
        self.sweep_what_is_needed(ctx);
    }
}
