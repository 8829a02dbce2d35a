//! A cloud and a forge in memory, on paused time, for tests of the real actors.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::type_complexity,
    clippy::new_without_default,
    missing_docs,
    reason = "a test stops where its set-up fails, and says what it is about"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{Actor, Addr, System};
use async_trait::async_trait;
use runner_fleet_actors::{
    event::{FleetEvent, Job, Phase, ReadModel, SharedModel},
    fleet::{Ending, FleetActor, FleetSetup, PoolSetup, Stop},
    hands::Blueprint,
    name::{FleetId, RegistrationId, RunnerName, Scope, VmId},
    pool::{Policy, SharedBoots, SharedHabits, actor::Configure},
    port::{
        Change, Clock, Deletion, Door, Finding, Forge, Guests, LaunchOrder, Listing, Observer,
        PortError, PortStatus, Provider, RegisterOrder, Registered, Registration, Secret, Shape,
        StandDown, Time, TokioClock, UserData, Vm, VmStatus, grounds,
    },
    runner::Limits,
    scaler,
    supervision::Intensity,
    sweep::Cadence,
};
use tokio::sync::{broadcast, oneshot};

mod running;

pub use running::*;

/// Runs `test` on an actix system whose time is paused: it jumps to the next timer when all wait.
pub fn on_paused_time<F: Future + 'static>(test: F) -> F::Output {
    System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    })
    .block_on(test)
}

#[derive(Default)]
pub struct Outside {
    pub vms: BTreeMap<RunnerName, Vm>,
    pub registrations: BTreeMap<RunnerName, Registration>,
    pub scopes: BTreeMap<RunnerName, Scope>,
    pub launches: Vec<(Time, RunnerName)>,
    pub deletes: Vec<RunnerName>,
    pub events: Vec<FleetEvent>,
    pub refuse_launches: Option<PortError>,
    /// What the cloud's side says of launches before anything is asked.
    pub door: Option<Door>,
    /// So many listings of the cloud are never answered.
    pub listings_hang: u32,
    pub panic_on: Option<Box<dyn Fn(&FleetEvent) -> bool + Send>>,
    pub next_id: u64,
    pub calls: u64,
    pub keep_events: bool,
    /// What the cloud tells by itself, where it does.
    pub changes: Option<broadcast::Sender<Change>>,
    /// The orders that guests were given, in their order.
    pub orders: Vec<(RunnerName, &'static str)>,
    pub forge: ForgeCalls,
    /// The forge does not have the call that keeps jobs off a runner.
    pub no_cordons: bool,
    /// Runners that listings of the forge lack.
    pub unlisted: BTreeSet<RunnerName>,
    listed: Vec<Registration>,
}

impl Outside {
    fn cordon(&mut self, name: &RunnerName, on: bool) -> Result<(), PortError> {
        self.forge.cordons += u64::from(on);
        let registration = self.registrations.get_mut(name).filter(|_| !self.no_cordons);
        let registration = registration.ok_or_else(|| {
            PortError::certain(runner_fleet_actors::port::ErrorClass::Invalid, "404: not found")
        })?;
        registration.cordoned = Some(on);
        Ok(())
    }
}

/// What the forge was asked, and the jobs that it gave out and that came to their end.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForgeCalls {
    pub registers: u64,
    pub deregisters: u64,
    pub lists: u64,
    pub look_ups: u64,
    pub cordons: u64,
    /// Listings that showed the same as the one before.
    pub unchanged: u64,
    pub jobs: u64,
}

impl ForgeCalls {
    /// What happened from here to `later`.
    pub fn until(&self, later: &Self) -> Self {
        Self {
            registers: later.registers - self.registers,
            deregisters: later.deregisters - self.deregisters,
            lists: later.lists - self.lists,
            look_ups: later.look_ups - self.look_ups,
            cordons: later.cordons - self.cordons,
            unchanged: later.unchanged - self.unchanged,
            jobs: later.jobs - self.jobs,
        }
    }
}

/// Cloud, forge and observer in one: a VM boots, registers and idles until told otherwise.
#[derive(Clone)]
pub struct World {
    pub outside: Arc<Mutex<Outside>>,
    pub clock: Arc<TokioClock>,
    pub boot: Duration,
    pub call: Duration,
    /// Where set, a runner gets a job as soon as it is online, of about this length.
    pub jobs: Option<Duration>,
    /// How long boots took, kept from one fleet to the next.
    pub boots: SharedBoots,
    pub habits: SharedHabits,
}

impl World {
    pub fn new() -> Self {
        let origin = "2026-01-01T00:00:00Z".parse().unwrap();
        Self {
            outside: Arc::new(Mutex::new(Outside { keep_events: true, ..Outside::default() })),
            clock: Arc::new(TokioClock::starting_at(origin)),
            boot: Duration::from_secs(20),
            call: Duration::from_millis(200),
            jobs: None,
            boots: SharedBoots::default(),
            habits: SharedHabits::default(),
        }
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut Outside) -> T) -> T {
        look(&mut self.outside.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The runner takes a job.
    pub fn take_job(&self, name: &RunnerName) {
        self.with(|outside| outside.registrations.get_mut(name).unwrap().busy = Some(true));
    }

    /// The job ends: the registration vanishes and the guest powers off.
    pub fn finish_job(&self, name: &RunnerName) {
        self.with(|outside| {
            outside.registrations.remove(name);
            outside.vms.get_mut(name).unwrap().status = VmStatus::Stopped;
        });
    }

    /// A job of half to one and a half times `length`, by the runner's number.
    async fn serve_a_job(&self, name: &RunnerName, length: Duration) {
        let Some(number) = self.with(|outside| {
            let registration = outside.registrations.get_mut(name)?;
            registration.busy = Some(true);
            Some(registration.id.0)
        }) else {
            return;
        };
        let spread =
            (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as f64 / f64::from(u32::MAX);
        tokio::time::sleep(length.mul_f64(0.5 + spread)).await;
        self.with(|outside| {
            outside.forge.jobs += 1;
            outside.registrations.remove(name);
            if let Some(vm) = outside.vms.get_mut(name) {
                vm.status = VmStatus::Stopped;
            }
        });
    }

    /// The guest powers off, and the cloud removes its VM and says so.
    pub fn vanish(&self, name: &RunnerName) {
        let as_of = self.clock.now();
        self.with(|outside| {
            outside.registrations.remove(name);
            outside.vms.remove(name);
            if let Some(changes) = &outside.changes {
                let status = VmStatus::Stopped;
                changes.send(Change { name: name.clone(), status, as_of }).unwrap();
            }
        });
    }

    async fn pass(&self) {
        self.with(|outside| outside.calls += 1);
        tokio::time::sleep(self.call).await;
    }
}

#[async_trait]
impl Provider for World {
    async fn launch(&self, order: LaunchOrder) -> Result<VmId, PortError> {
        self.pass().await;
        if let Some(error) = self.with(|outside| outside.refuse_launches.clone()) {
            return Err(error);
        }
        let id = self.with(|outside| {
            outside.next_id += 1;
            let id = VmId(format!("vm-{}", outside.next_id));
            outside.launches.push((self.clock.now(), order.name.clone()));
            let vm = Vm {
                name: order.name.clone(),
                id: id.clone(),
                status: VmStatus::Building,
                created_at: Some(order.created_at),
                shape: Some(order.shape.digest()),
                scope: Some(order.scope.clone()),
                address: None,
                task: None,
            };
            outside.vms.insert(order.name.clone(), vm);
            id
        });
        let world = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(world.boot).await;
            world.with(|outside| {
                if let Some(vm) = outside.vms.get_mut(&order.name) {
                    vm.status = VmStatus::Active;
                    if let Some(registration) = outside.registrations.get_mut(&order.name) {
                        registration.online = true;
                    }
                }
            });
            if let Some(length) = world.jobs {
                world.serve_a_job(&order.name, length).await;
            }
        });
        Ok(id)
    }

    async fn delete(&self, name: &RunnerName, _id: Option<&VmId>) -> Result<Deletion, PortError> {
        self.pass().await;
        Ok(self.with(|outside| {
            outside.deletes.push(name.clone());
            match outside.vms.remove(name) {
                Some(_) => Deletion::Accepted,
                None => Deletion::Gone,
            }
        }))
    }

    async fn list(&self) -> Result<Listing<Vm>, PortError> {
        let as_of = self.clock.now();
        self.pass().await;
        let hangs = self.with(|outside| {
            let hangs = outside.listings_hang > 0;
            outside.listings_hang = outside.listings_hang.saturating_sub(1);
            hangs
        });
        if hangs {
            std::future::pending::<()>().await;
        }
        let entries = self.with(|outside| outside.vms.values().cloned().collect());
        Ok(Listing { entries, complete: true, as_of, faults: Vec::new() })
    }

    fn status(&self) -> PortStatus {
        PortStatus::default()
    }

    fn door(&self) -> Door {
        self.with(|outside| outside.door.clone().unwrap_or_default())
    }

    fn changes(&self) -> Option<broadcast::Receiver<Change>> {
        self.with(|outside| outside.changes.as_ref().map(broadcast::Sender::subscribe))
    }
}

/// Guests that stand down whenever they are asked, and power off when they are told to end.
#[async_trait]
impl Guests for World {
    async fn stand_down(&self, name: &RunnerName) -> Result<StandDown, PortError> {
        self.pass().await;
        self.with(|outside| outside.orders.push((name.clone(), "stand down")));
        Ok(StandDown::StandingDown)
    }

    async fn go_on(&self, name: &RunnerName) {
        self.with(|outside| outside.orders.push((name.clone(), "go on")));
    }

    async fn end(&self, name: &RunnerName) {
        self.with(|outside| outside.orders.push((name.clone(), "end")));
        self.vanish(name);
    }
}

#[async_trait]
impl Forge for World {
    async fn register(&self, order: &RegisterOrder) -> Result<Registered, PortError> {
        self.pass().await;
        Ok(self.with(|outside| {
            outside.forge.registers += 1;
            outside.next_id += 1;
            let id = RegistrationId(outside.next_id);
            let registration = Registration {
                name: order.name.clone(),
                id,
                online: false,
                busy: Some(false),
                cordoned: None,
            };
            outside.registrations.insert(order.name.clone(), registration);
            outside.scopes.insert(order.name.clone(), order.scope.clone());
            Registered { id, jit_config: Secret::new("jit") }
        }))
    }

    async fn deregister(
        &self,
        _scope: &Scope,
        name: &RunnerName,
        _id: Option<RegistrationId>,
    ) -> Result<(), PortError> {
        self.pass().await;
        grounds::check("deregister")?;
        self.with(|outside| outside.forge.deregisters += 1);
        self.with(|outside| match outside.registrations.get(name) {
            Some(registration) if registration.busy == Some(true) => Err(PortError::certain(
                runner_fleet_actors::port::ErrorClass::Busy,
                "it runs a job",
            )),
            _ => {
                outside.registrations.remove(name);
                Ok(())
            }
        })
    }

    async fn cordon(&self, order: &RegisterOrder, _id: RegistrationId) -> Result<(), PortError> {
        self.pass().await;
        self.with(|outside| outside.cordon(&order.name, true))
    }

    async fn uncordon(&self, order: &RegisterOrder, _id: RegistrationId) -> Result<(), PortError> {
        self.pass().await;
        self.with(|outside| outside.cordon(&order.name, false))
    }

    async fn list(&self, scope: &Scope) -> Result<Listing<Registration>, PortError> {
        let as_of = self.clock.now();
        self.pass().await;
        let entries = self.with(|outside| {
            let here = |name: &RunnerName| outside.scopes.get(name) == Some(scope);
            let entries: Vec<_> = outside
                .registrations
                .values()
                .filter(|r| here(&r.name) && !outside.unlisted.contains(&r.name))
                .cloned()
                .collect();
            outside.forge.lists += 1;
            outside.forge.unchanged += u64::from(outside.listed == entries);
            outside.listed.clone_from(&entries);
            entries
        });
        Ok(Listing { entries, complete: true, as_of, faults: Vec::new() })
    }

    async fn look_up(
        &self,
        _scope: &Scope,
        name: &RunnerName,
        _id: Option<RegistrationId>,
        _job: Option<&Job>,
    ) -> Result<Finding, PortError> {
        self.pass().await;
        let registration = self.with(|outside| {
            outside.forge.look_ups += 1;
            outside.registrations.get(name).cloned()
        });
        Ok(Finding { registration, at_work: None })
    }

    fn status(&self) -> PortStatus {
        PortStatus::default()
    }
}

impl Observer for World {
    fn observe(&self, event: &FleetEvent) {
        let panics = self.with(|outside| {
            if outside.keep_events {
                outside.events.push(event.clone());
            }
            outside.panic_on.as_ref().is_some_and(|panics| panics(event))
        });
        assert!(!panics, "this observer was told to panic");
    }
}

struct Plain;

impl UserData for Plain {
    fn render(&self, _name: &RunnerName, jit_config: &Secret) -> Result<Secret, PortError> {
        Ok(jit_config.clone())
    }
}
