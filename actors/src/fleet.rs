//! The fleet: all pools of one daemon, started top-down, stopped bottom-up.
//!
//! It supervises the pool actors, routes listings to the pool that owns each name, gives a retiring
//! pool to runners whose pool left the configuration, and takes the daemon down when a pool cannot
//! be kept alive: the init system starts it again, and adoption does the rest. A pool that is
//! silently missing would be worse than a restart that everybody sees.

mod orders;

use std::{collections::BTreeMap, sync::Arc, sync::RwLock};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message};
use tokio::sync::{oneshot, watch};

use crate::{
    event::{FleetEvent, SharedModel},
    guard::Died,
    hands::{Blueprint, Hands, NoUserData},
    name::{FleetId, PoolName, RunnerName, Scope},
    pool::{
        Policy, Survey,
        actor::{Configure, Emptied, Outfit, PoolActor, PoolKey, Stir},
    },
    port::{
        Clock, DemandSource, ErrorClass, Forge, Guests, Listing, Observer, PortError, Provider,
        Registration, Shape, Time, Vm,
    },
    runner::{
        Limits,
        actor::{Halt, Shared},
    },
    scaler::{
        self,
        actor::{ScalerActor, Serve},
    },
    supervision::{self, Intensity, Restart},
    sweep::{Cadence, Expectation, Means, Purse, expectation, task::Sweeper},
};

pub use orders::{Fix, Reconcile, Reload, Route, RouteError, Stop};

/// One pool as the configuration wants it.
#[derive(Clone)]
pub struct PoolSetup {
    /// How it is set up.
    pub configure: Configure,
    /// Where its demand comes from; `None` = its own busy runners.
    pub demand: Option<Arc<dyn DemandSource>>,
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
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who is told of everything.
    pub observer: Arc<dyn Observer>,
    /// The read model.
    pub model: SharedModel,
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
    occupancy: Arc<watch::Sender<Option<crate::port::Demand>>>,
    shadow: bool,
}

/// The actor over all pools.
pub struct FleetActor {
    setup: FleetSetup,
    pools: BTreeMap<PoolKey, PoolChild>,
    starts: u64,
    stir: Arc<watch::Sender<Stir>>,
    clouds: BTreeMap<String, Arc<Listing<Vm>>>,
    sweeps: BTreeMap<String, actix_rt::task::JoinHandle<()>>,
    ended: Option<oneshot::Sender<Ending>>,
    stopping: Option<oneshot::Sender<()>>,
}

impl FleetActor {
    /// A fleet, and the news of its end.
    #[must_use]
    pub fn new(setup: FleetSetup) -> (Self, oneshot::Receiver<Ending>) {
        let (ended, ending) = oneshot::channel();
        let fleet = Self {
            setup,
            pools: BTreeMap::new(),
            starts: 0,
            stir: Arc::new(watch::Sender::new(Stir::default())),
            clouds: BTreeMap::new(),
            sweeps: BTreeMap::new(),
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
                let demand = match &setup.demand {
                    Some(source) => source.watch(&key.pool),
                    None => occupancy.subscribe(),
                };
                let clock = Arc::clone(&self.setup.clock);
                ScalerActor::new(addr.clone(), setup.configure.scaling, demand, clock).start()
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
        self.look_at_once();
    }

    fn look_at_once(&self) {
        self.stir.send_modify(|stir| {
            stir.at_once += 1;
            stir.changes += 1;
        });
    }

    /// One sweeping loop a provider and a scope; loops that nobody needs any more end.
    fn sweep_what_is_needed(&mut self, ctx: &mut Context<Self>) {
        let mut wanted: BTreeMap<String, Option<Scope>> =
            self.setup.providers.keys().map(|name| (format!("provider {name}"), None)).collect();
        for key in self.pools.keys() {
            wanted.insert(format!("scope {}", key.scope), Some(key.scope.clone()));
        }
        self.sweeps.retain(|side, task| {
            let keep = wanted.contains_key(side);
            if !keep {
                task.abort();
            }
            keep
        });
        for (side, scope) in wanted {
            if self.sweeps.contains_key(&side) {
                continue;
            }
            let cadence = match scope {
                Some(_) => self.setup.forge_cadence,
                None => self.setup.cloud_cadence,
            };
            let sweeper = Sweeper {
                side: side.clone(),
                cadence,
                clock: Arc::clone(&self.setup.clock),
                observer: Arc::clone(&self.setup.observer),
                stir: self.stir.subscribe(),
                io: self.setup.io.clone(),
            };
            let fleet = ctx.address();
            let model = Arc::clone(&self.setup.model);
            let task = match scope {
                Some(scope) => {
                    let forge = Arc::clone(&self.setup.forge);
                    let (asked, concerned) = (scope.clone(), scope.clone());
                    let mut purse = Purse::default();
                    let expect = move || expected(&model, |pool| pool.scope == concerned);
                    let expect_now = expect.clone();
                    actix_rt::spawn(sweeper.run(
                        move || {
                            let (forge, scope) = (Arc::clone(&forge), asked.clone());
                            async move { forge.list(&scope).await }
                        },
                        move |listing| {
                            let means = purse.pay(&listing, expect_now());
                            fleet.do_send(SweptForge { scope: scope.clone(), listing });
                            means
                        },
                        expect,
                    ))
                }
                None => {
                    let name = side.trim_start_matches("provider ").to_owned();
                    let Some(provider) = self.setup.providers.get(&name).cloned() else { continue };
                    let concerned = name.clone();
                    actix_rt::spawn(sweeper.run(
                        move || {
                            let provider = Arc::clone(&provider);
                            async move { provider.list().await }
                        },
                        move |listing| {
                            fleet.do_send(SweptCloud { provider: name.clone(), listing });
                            Means::Enough
                        },
                        move || expected(&model, |pool| pool.provider == concerned),
                    ))
                }
            };
            self.sweeps.insert(side, task);
        }
    }

    /// A pool for runners whose pool is not in the configuration (any more).
    fn retire(&mut self, key: PoolKey, ctx: &mut Context<Self>) {
        tracing::warn!(pool = %key.pool, provider = %key.provider, scope = %key.scope,
            "runners of a pool that is not configured were found; they are drained");
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
                limits: Limits::default(),
                provider: key.provider,
            },
            demand: None,
        };
        self.start_pool(setup, Vec::new(), None, ctx);
    }

    /// Which pool a VM belongs to: its name says which pool, its tag where it is registered.
    fn owner(provider: &str, vm: &Vm, pools: &BTreeMap<PoolKey, PoolChild>) -> Option<PoolKey> {
        let pool = vm.name.pool();
        let scope = vm.scope.clone().or_else(|| {
            pools
                .keys()
                .find(|key| key.pool == pool && key.provider == provider)
                .map(|key| key.scope.clone())
        })?;
        Some(PoolKey { pool, provider: provider.to_owned(), scope })
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

fn expected(
    model: &SharedModel,
    concerns: impl Fn(&crate::event::PoolSnapshot) -> bool,
) -> Expectation {
    model
        .pools
        .iter()
        .filter(|pool| concerns(pool))
        .map(|pool| expectation(&pool))
        .max()
        .unwrap_or(Expectation::Quiet)
}

impl Actor for FleetActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for pool in std::mem::take(&mut self.setup.pools) {
            self.start_pool(pool, Vec::new(), None, ctx);
        }
    }
}

/// A cloud was listed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SweptCloud {
    /// Which.
    pub provider: String,
    /// What was seen.
    pub listing: Arc<Listing<Vm>>,
}

impl Handler<SweptCloud> for FleetActor {
    type Result = ();

    fn handle(&mut self, SweptCloud { provider, listing }: SweptCloud, ctx: &mut Self::Context) {
        if self.stopping.is_some() {
            return;
        }
        let mut shares: BTreeMap<PoolKey, Vec<Vm>> = BTreeMap::new();
        for vm in &listing.entries {
            match Self::owner(&provider, vm, &self.pools) {
                Some(key) => shares.entry(key).or_default().push(vm.clone()),
                None => self.fault(
                    Some(vm.name.pool()),
                    format!(
                        "VM {} of a pool that is not configured does not say where it is registered; \
                         delete it by hand, or configure a pool {} on provider {provider}",
                        vm.name,
                        vm.name.pool()
                    ),
                ),
            }
        }
        let unknown: Vec<_> =
            shares.keys().filter(|key| !self.pools.contains_key(key)).cloned().collect();
        for key in unknown {
            self.retire(key, ctx);
        }
        for (key, child) in self.pools.iter().filter(|(key, _)| key.provider == provider) {
            let share = Listing {
                entries: shares.remove(key).unwrap_or_default(),
                complete: listing.complete,
                as_of: listing.as_of,
                faults: Vec::new(),
            };
            child.addr.do_send(Survey { vms: Some(Arc::new(share)), registrations: None });
        }
        if let Some(port) = self.setup.providers.get(&provider) {
            self.setup.model.ports.insert(provider.clone(), port.status());
        }
        self.clouds.insert(provider, listing);
    }
}

/// A scope of the forge was listed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SweptForge {
    /// Which.
    pub scope: Scope,
    /// What was seen.
    pub listing: Arc<Listing<Registration>>,
}

impl Handler<SweptForge> for FleetActor {
    type Result = ();

    fn handle(&mut self, SweptForge { scope, listing }: SweptForge, ctx: &mut Self::Context) {
        if self.stopping.is_some() {
            return;
        }
        // A registration goes to the pool that has its VM; one without a VM to the configured pool
        // of that name. Only once every cloud was seen can "without a VM" be said at all.
        let clouds_known = self.setup.providers.keys().all(|name| self.clouds.contains_key(name));
        let mut at: BTreeMap<&RunnerName, PoolKey> = BTreeMap::new();
        for (provider, cloud) in &self.clouds {
            for vm in &cloud.entries {
                if let Some(key) = Self::owner(provider, vm, &self.pools) {
                    at.insert(&vm.name, key);
                }
            }
        }
        let mut shares: BTreeMap<PoolKey, Vec<Registration>> = BTreeMap::new();
        let mut homeless: Vec<PoolKey> = Vec::new();
        for registration in &listing.entries {
            let pool = registration.name.pool();
            let key = at.get(&registration.name).cloned().or_else(|| {
                let mut keys =
                    self.pools.iter().filter(|(k, _)| k.pool == pool && k.scope == scope);
                let first = keys.next();
                keys.find(|(_, child)| !child.shadow).or(first).map(|(key, _)| key.clone())
            });
            match key {
                Some(key) => shares.entry(key).or_default().push(registration.clone()),
                None if clouds_known => {
                    if let Some(provider) = self.setup.providers.keys().next() {
                        homeless.push(PoolKey {
                            pool,
                            provider: provider.clone(),
                            scope: scope.clone(),
                        });
                    }
                }
                None => {}
            }
        }
        for (key, child) in self.pools.iter().filter(|(key, _)| key.scope == scope) {
            let share = Listing {
                entries: shares.remove(key).unwrap_or_default(),
                complete: listing.complete,
                as_of: listing.as_of,
                faults: Vec::new(),
            };
            child.addr.do_send(Survey { vms: None, registrations: Some(Arc::new(share)) });
        }
        for key in homeless {
            if !self.pools.contains_key(&key) {
                self.retire(key, ctx);
            }
        }
        self.setup.model.ports.insert("github".to_owned(), self.setup.forge.status());
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
