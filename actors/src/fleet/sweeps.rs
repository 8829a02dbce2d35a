//! From listings to pools: the loops that list, and who gets which part of what they bring.
//!
//! A VM belongs to the pool that its name and its scope tag say, a registration to the pool that has
//! its VM. Whatever belongs to no configured pool gets a retiring one, so that nothing is nobody's.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use actix::{AsyncContext, Context, Handler, Message};

use super::{FleetActor, PoolChild};
use crate::{
    name::{RunnerName, Scope, VmId},
    pool::{Survey, actor::PoolKey},
    port::{Listing, PortStatus, Recent, Registration, Vm},
    sight::{Side, Sight},
    sweep::{Look, Means, Purse, Seen, of_cloud, of_forge, task::Sweeper},
};

/// How long a call of a daemon that was killed may take to show.
const LATE_CALL: Duration = Duration::from_secs(120);

impl FleetActor {
    /// One sweeping loop a provider and a scope; loops that nobody needs any more end.
    pub(super) fn sweep_what_is_needed(&mut self, ctx: &mut Context<Self>) {
        let mut wanted: BTreeSet<Side> =
            self.setup.providers.keys().map(|name| Side::Provider(name.clone())).collect();
        let pools = self.pools.keys().map(|key| &key.scope);
        wanted.extend(pools.chain(&self.setup.remembered).cloned().map(Side::Scope));
        let model = Arc::clone(&self.setup.model);
        self.sweeps.retain(|side, task| {
            let keep = wanted.contains(side);
            if !keep {
                task.abort();
                model.sights.remove(side);
            }
            keep
        });
        for side in wanted {
            if self.sweeps.contains_key(&side) {
                continue;
            }
            let (cadence, port): (_, (_, Box<dyn Fn() -> PortStatus>)) = match &side {
                Side::Scope(_) => {
                    let forge = Arc::clone(&self.setup.forge);
                    (self.setup.forge_cadence, ("github".into(), Box::new(move || forge.status())))
                }
                Side::Provider(name) => {
                    let Some(provider) = self.setup.providers.get(name).cloned() else { continue };
                    let status = Box::new(move || provider.status());
                    (self.setup.cloud_cadence, (name.clone(), status))
                }
            };
            // The row is there before the first listing is.
            model.sights.insert(side.clone(), Sight::new(self.setup.clock.now()));
            let sweeper = Sweeper {
                side: side.clone(),
                port,
                model: Arc::clone(&model),
                cadence,
                clock: Arc::clone(&self.setup.clock),
                observer: Arc::clone(&self.setup.observer),
                stir: self.stir.subscribe(),
                io: self.setup.io.clone(),
            };
            let fleet = ctx.address();
            let model = Arc::clone(&self.setup.model);
            let task = match side.clone() {
                Side::Scope(scope) => {
                    let forge = Arc::clone(&self.setup.forge);
                    let (asked, concerned) = (scope.clone(), scope.clone());
                    let mut purse = Purse::default();
                    let expect =
                        move || of_forge(model.pools.iter().filter(|pool| pool.scope == concerned));
                    let expect_now = expect.clone();
                    actix_rt::spawn(sweeper.run(
                        move |_| {
                            let (forge, scope) = (Arc::clone(&forge), asked.clone());
                            async move { forge.list(&scope).await.map(Seen::Listed) }
                        },
                        move |seen, back| {
                            let Seen::Listed(listing) = seen else { return Means::Enough };
                            let listing = Arc::new(listing);
                            let means = purse.pay(&listing, expect_now().by);
                            fleet.do_send(SweptForge { scope: scope.clone(), listing, back });
                            means
                        },
                        expect,
                    ))
                }
                Side::Provider(name) => {
                    let Some(provider) = self.setup.providers.get(&name).cloned() else { continue };
                    let (concerned, clock) = (name.clone(), Arc::clone(&self.setup.clock));
                    actix_rt::spawn(sweeper.run(
                        move |look| {
                            let provider = Arc::clone(&provider);
                            async move {
                                if look == Look::Recent
                                    && provider.tells_recent()
                                    && let Some(recent) = provider.recent().await?
                                {
                                    return Ok(Seen::Changed(recent));
                                }
                                provider.list().await.map(Seen::Listed)
                            }
                        },
                        move |seen, back| {
                            let provider = name.clone();
                            match seen {
                                Seen::Listed(listing) => {
                                    let listing = Arc::new(listing);
                                    fleet.do_send(SweptCloud { provider, listing, back });
                                }
                                Seen::Changed(recent) => {
                                    fleet.do_send(SweptRecent { provider, recent });
                                }
                            }
                            Means::Enough
                        },
                        move || {
                            let pools = model.pools.iter();
                            of_cloud(pools.filter(|pool| pool.provider == concerned), clock.now())
                        },
                    ))
                }
            };
            self.sweeps.insert(side, task);
        }
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
}

/// A cloud was listed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SweptCloud {
    /// Which.
    pub provider: String,
    /// What was seen.
    pub listing: Arc<Listing<Vm>>,
    /// Whether it could not be listed the time before.
    pub back: bool,
}

impl Handler<SweptCloud> for FleetActor {
    type Result = ();

    fn handle(&mut self, swept: SweptCloud, ctx: &mut Self::Context) {
        let SweptCloud { provider, listing, back } = swept;
        if self.stopping.is_some() {
            return;
        }
        let ahead = self.setup.clock.ahead();
        let mut shares: BTreeMap<PoolKey, Vec<Vm>> = BTreeMap::new();
        for vm in &listing.entries {
            match Self::owner(&provider, vm, &self.pools) {
                Some(key) => shares.entry(key).or_default().push(vm.clone().on_timeline(ahead)),
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
            child.addr.do_send(Survey {
                vms: Some(Arc::new(share)),
                cloud_back: back,
                ..Survey::default()
            });
        }
        self.clouds.insert(provider, listing);
    }
}

/// A cloud told what has changed. Not a listing, and never taken for one.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SweptRecent {
    /// Which.
    pub provider: String,
    /// What it told.
    pub recent: Recent,
}

impl Handler<SweptRecent> for FleetActor {
    type Result = ();

    fn handle(&mut self, swept: SweptRecent, _ctx: &mut Self::Context) {
        let SweptRecent { provider, recent } = swept;
        if self.stopping.is_some() || recent.is_empty() {
            return;
        }
        let lives = |(name, vm): &(RunnerName, VmId)| {
            self.setup.model.runners.get(name).is_some_and(|runner| runner.lives_in(vm))
        };
        if recent.deleted.iter().any(lives) {
            // Somebody else has deleted it, or that is not true: listings tell.
            self.look_at_once();
        }
        let ahead = self.setup.clock.ahead();
        let mut shares: BTreeMap<PoolKey, Recent> = BTreeMap::new();
        let as_of = recent.as_of;
        for vm in recent.changed {
            // Of a pool that is not there yet, the next listing tells.
            if let Some(key) = Self::owner(&provider, &vm, &self.pools) {
                let share = shares.entry(key).or_insert_with(|| Recent::nothing(as_of));
                share.changed.push(vm.on_timeline(ahead));
            }
        }
        for (name, vm) in recent.deleted {
            let pool = name.pool();
            // A pool that moves leaves a twin of its name at the same provider; the runner is with one.
            for key in self.pools.keys().filter(|key| key.pool == pool && key.provider == provider)
            {
                let share = shares.entry(key.clone()).or_insert_with(|| Recent::nothing(as_of));
                share.deleted.push((name.clone(), vm.clone()));
            }
        }
        for (key, share) in shares {
            if let Some(child) = self.pools.get(&key) {
                let recent = Some(Arc::new(share));
                child.addr.do_send(Survey { recent, ..Survey::default() });
            }
        }
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
    /// Whether it could not be listed the time before.
    pub back: bool,
}

impl Handler<SweptForge> for FleetActor {
    type Result = ();

    fn handle(&mut self, swept: SweptForge, ctx: &mut Self::Context) {
        let SweptForge { scope, listing, back } = swept;
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
            child.addr.do_send(Survey {
                registrations: Some(Arc::new(share)),
                forge_back: back,
                ..Survey::default()
            });
        }
        for key in homeless {
            if !self.pools.contains_key(&key) {
                self.retire(key, ctx);
            }
        }
        // What was under way when the last daemon died may take effect after this one's first look.
        let late = listing.as_of >= self.begun + LATE_CALL;
        let clean = late && listing.complete && listing.entries.is_empty();
        if clean && self.setup.remembered.remove(&scope) {
            tracing::info!(%scope, "nothing is left in a scope that no pool has any more");
            self.sweep_what_is_needed(ctx);
        }
    }
}
