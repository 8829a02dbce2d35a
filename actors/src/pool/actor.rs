//! The pool's actor: supervises its runners and carries out plans.
//!
//! Besides the house's four messages it takes four more, each with its reason: `Survey`, because a
//! listing must arrive as one message a pool and not as one a runner (a mailbox has no bound);
//! `Changed`, because what a cloud tells of one VM must not wait for a listing; `Order`, because an
//! operator's wish needs an answer; `Configure`, because a reload must not restart a pool. Plans are coalesced: any number of transitions in one turn make one plan.

mod deaths;
mod gaps;
mod orders;
mod outfit;
mod signs;
mod telling;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, Recipient, SpawnHandle,
};

use self::telling::Later;
use super::{Roster, Survey, plan};
use crate::{
    demand::Demand,
    event::{FleetEvent, Phase, PoolSnapshot},
    guard::{Died, Guard},
    invariant,
    name::{PoolName, RunnerName},
    port::{Change, Doors, Heard, Time},
    runner::{
        Event, State,
        actor::{Apply, Beginning, Halt, RunnerActor, Transitioned},
    },
    scaler::Target,
    sweep::stirs,
};

pub use gaps::Woke;
pub use orders::{Order, Refused};
pub use outfit::{Configure, Outfit, PoolKey, Stir};
pub use signs::{Sign, Works};

/// The scaler's word: how many runners the pool should have.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SetTarget(pub Target);

/// A VM of this pool has another condition, told by its cloud between two listings.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Changed(pub Change);

impl Message for Survey {
    type Result = ();
}

/// Plan once more; many wishes to plan make one.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct PlanNow;

struct Child {
    addr: Addr<RunnerActor>,
    start: u64,
    deaths: Vec<Time>,
}

/// How long a pool waits for its scaler's word after a job has ended: it comes within a millisecond
/// unless the scaler has died.
const TARGET_DUE: Duration = Duration::from_millis(20);

/// The actor of one pool.
pub struct PoolActor {
    outfit: Outfit,
    roster: Roster,
    target: Option<Target>,
    children: BTreeMap<RunnerName, Child>,
    starts: u64,
    guard: Guard<PoolKey>,
    key: PoolKey,
    plan_due: bool,
    /// A busy runner has ended: its pool's target is about to be another.
    target_due: Option<SpawnHandle>,
    timer: Option<(Time, SpawnHandle)>,
    because: Vec<String>,
    crashed: u32,
    told_later: Later,
    halting: bool,
    emptied: Option<Recipient<Emptied>>,
    heard_of_gaps: Heard,
}

/// A retiring pool has no runner left.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Emptied(pub PoolKey);

impl PoolActor {
    /// A pool that reports its end to `fleet`.
    #[must_use]
    pub fn new(
        outfit: Outfit,
        start: u64,
        fleet: Recipient<Died<PoolKey>>,
        emptied: Option<Recipient<Emptied>>,
    ) -> Self {
        let key = outfit.key();
        let roster = Roster::knowing(outfit.kept());
        let guard = Guard::new(key.clone(), start, fleet);
        let heard_of_gaps = Heard::up_to(outfit.shared.hands.clock.awake_since());
        Self {
            key,
            outfit,
            roster,
            target: None,
            children: BTreeMap::new(),
            starts: 0,
            guard,
            plan_due: false,
            target_due: None,
            timer: None,
            because: Vec::new(),
            crashed: 0,
            told_later: Later::default(),
            halting: false,
            emptied,
            heard_of_gaps,
        }
    }

    fn now(&self) -> Time {
        self.outfit.shared.hands.clock.now()
    }

    fn observe(&self, event: FleetEvent) {
        self.outfit.shared.observer.observe(&event);
    }

    fn name(&self) -> &PoolName {
        &self.outfit.shared.pool
    }

    fn plan_soon(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.plan_due, true) {
            ctx.notify(PlanNow);
        }
    }

    /// Plans once the scaler has said what the end of a job means for the target. With the old target
    /// each end would make a runner that the new one drains again.
    fn plan_with_new_target(&mut self, ctx: &mut Context<Self>) {
        self.show();
        if self.target_due.is_none() {
            let late = ctx.run_later(TARGET_DUE, |actor, ctx| {
                actor.target_due = None;
                actor.plan_soon(ctx);
            });
            self.target_due = Some(late);
        }
    }

    fn start_runner(&mut self, beginning: Beginning, deaths: Vec<Time>, ctx: &mut Context<Self>) {
        self.starts += 1;
        let name = beginning.name.clone();
        let actor = RunnerActor::new(
            beginning,
            self.starts,
            Arc::clone(&self.outfit.shared),
            ctx.address().recipient(),
            ctx.address().recipient(),
        );
        self.children.insert(name, Child { addr: actor.start(), start: self.starts, deaths });
    }

    fn create(&mut self, now: Time, ctx: &mut Context<Self>) {
        let (_, token) = uuid::Uuid::new_v4().as_u64_pair();
        let name = RunnerName::new(&self.outfit.fleet, self.name(), token);
        let (state, effects) = State::start(now, &self.outfit.shared.limits());
        self.roster.transitioned(&name, state.clone(), now);
        let beginning = Beginning {
            name,
            state,
            effects,
            created_at: now,
            why: "the pool needs it".to_owned(),
            blueprint: Arc::clone(&self.outfit.configure.blueprint),
        };
        self.start_runner(beginning, Vec::new(), ctx);
    }

    fn adopt(&mut self, name: RunnerName, state: State, now: Time, ctx: &mut Context<Self>) {
        self.roster.transitioned(&name, state.clone(), now);
        let created_at = self.roster.get(&name).map_or(now, |member| member.created_at);
        let why = "found in a listing and adopted".to_owned();
        let blueprint = Arc::clone(&self.outfit.configure.blueprint);
        let beginning = Beginning { name, state, effects: Vec::new(), created_at, why, blueprint };
        self.start_runner(beginning, Vec::new(), ctx);
    }

    /// Makes every runner look at the time, and arm its timer anew.
    fn stir_runners(&self) {
        for child in self.children.values() {
            child.addr.do_send(Apply(Event::Tick));
        }
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>) {
        self.notice_a_gap();
        let now = self.now();
        self.roster.notice(now);
        let live = self.roster.live();
        let Some(target) = self.target.as_ref().map(|target| target.over(live)) else { return };
        let policy = &self.outfit.configure.policy;
        let hands = &self.outfit.shared.hands;
        let doors = Doors { forge: hands.forge.door(self.name()), cloud: hands.provider.door() };
        let plan = plan(target, &self.roster, policy, &doors, now);
        let broken = invariant::plan(&plan, &self.roster, policy);
        if !broken.is_empty() {
            // A defect in the brain must not reach a cloud: this plan is not carried out.
            for broken in broken {
                let name = broken.name.to_owned();
                self.observe(FleetEvent::InvariantBroken { at: now, name, seen: broken.seen });
            }
            return;
        }
        let acts = plan.create > 0 || !plan.drain.is_empty();
        if acts || plan.because != self.because {
            self.observe(FleetEvent::Plan {
                at: now,
                pool: self.name().clone(),
                create: plan.create,
                drain: u32::try_from(plan.drain.len()).unwrap_or(u32::MAX),
                because: plan.because.clone(),
            });
        }
        self.because = plan.because;
        for _ in 0..plan.create {
            self.create(now, ctx);
        }
        for (name, reason) in plan.drain {
            self.roster.asked(&name, now);
            self.tell(&name, Event::Drain(reason));
        }
        if acts {
            self.outfit.stir.send_modify(|stir| stir.changes += 1);
        }
        self.plan_at(plan.again_at, now, ctx);
        let empty = self.roster.is_empty() && self.surveyed();
        if let (Some(emptied), true) =
            (&self.emptied, empty && self.outfit.configure.policy.retiring)
        {
            emptied.do_send(Emptied(self.key.clone()));
        }
    }

    fn surveyed(&self) -> bool {
        self.roster.cloud_seen.is_some() && self.roster.forge_seen.is_some()
    }

    fn plan_at(&mut self, at: Option<Time>, now: Time, ctx: &mut Context<Self>) {
        if self.timer.as_ref().map(|(at, _)| *at) == at {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = at {
            let wait = (at - now).to_std().unwrap_or_default();
            let timer = ctx.run_later(wait, |actor, ctx| {
                actor.timer = None;
                actor.plan_soon(ctx);
            });
            self.timer = Some((at, timer));
        }
    }

    fn tell(&self, name: &RunnerName, event: Event) {
        if let Some(child) = self.children.get(name) {
            child.addr.do_send(Apply(event));
        }
    }

    /// Publishes what others look at: the snapshot and the number of busy runners.
    fn show(&self) {
        let counts = self.roster.counts();
        let now = self.now();
        if self.outfit.shadow {
            return;
        }
        // What is not known is not published, and unknown demand shrinks nothing.
        let known = self.roster.occupancy_known();
        self.outfit.occupancy.send_if_modified(|occupancy| {
            let changed = known && occupancy.is_none_or(|before| before.running != counts.busy);
            if changed {
                *occupancy = Some(Demand::exact(0, counts.busy, now));
            }
            changed
        });
        let Configure { blueprint, policy, scaling, provider, .. } = &self.outfit.configure;
        let failures = &self.roster.failures;
        let snapshot = PoolSnapshot {
            name: self.name().clone(),
            scope: blueprint.scope.clone(),
            provider: provider.clone(),
            min: scaling.min,
            spare: scaling.spare,
            max: policy.max,
            target: self.target.as_ref().map_or(0, |target| target.runners),
            target_because: self
                .target
                .as_ref()
                .map_or_else(|| "not known yet".to_owned(), |target| target.because.clone()),
            target_override: scaling.fixed,
            demand_unknown: self.target.as_ref().is_none_or(|target| target.unknown),
            counts,
            because: self.because.clone(),
            holds: failures.shown(),
            boots: self.roster.boots.summary(),
            late: self.roster.count_late(),
            habits: self.outfit.shared.habits_of(&blueprint.scope),
            cloud_seen_at: self.roster.cloud_seen,
            forge_seen_at: self.roster.forge_seen,
            forge_shows_from: self.roster.forge_shows_from(&self.outfit.shared.limits(), now),
            absence_awaited: self.roster.absence_awaited(),
            retiring: policy.retiring,
        };
        let pools = &self.outfit.shared.model.pools;
        let stirs = stirs(pools.get(self.name()).as_deref(), &snapshot);
        pools.insert(self.name().clone(), snapshot);
        if stirs {
            self.outfit.stir.send_modify(|stir| stir.changes += 1);
        }
    }

    fn halt_if_done(&mut self, ctx: &mut Context<Self>) {
        if self.halting && self.children.is_empty() {
            self.guard.orderly();
            ctx.stop();
        }
    }
}

impl Actor for PoolActor {
    type Context = Context<Self>;

    fn started(&mut self, _ctx: &mut Self::Context) {
        self.show();
    }
}

impl Handler<SetTarget> for PoolActor {
    type Result = ();

    fn handle(&mut self, SetTarget(target): SetTarget, ctx: &mut Self::Context) {
        let runners = self.target.as_ref().map(|target| target.runners);
        if runners != Some(target.runners) {
            self.observe(FleetEvent::Target {
                at: self.now(),
                pool: self.name().clone(),
                runners: target.runners,
                because: target.because.clone(),
            });
        }
        self.target = Some(target);
        if let Some(late) = self.target_due.take() {
            ctx.cancel_future(late);
        }
        self.plan_soon(ctx);
    }
}

impl Handler<Survey> for PoolActor {
    type Result = ();

    fn handle(&mut self, survey: Survey, ctx: &mut Self::Context) {
        if self.halting {
            return;
        }
        self.notice_a_gap();
        if let Some(recent) = &survey.recent {
            // What follows from it is planned when a runner says so.
            for (name, event) in self.roster.recent(recent) {
                self.tell(&name, event);
            }
            return;
        }
        let now = self.now();
        let pool = self.name().clone();
        let surveyed = self.roster.survey(&pool, &survey, now);
        self.tell_all(surveyed.observe, ctx);
        for (name, state) in surveyed.adopt {
            tracing::info!(runner = %name, state = state.phase().as_str(), "a runner was adopted");
            self.adopt(name, state, now, ctx);
        }
        if survey.vms.is_some() {
            let began = survey.vms.as_ref().map_or(now, |listing| listing.as_of);
            let crashed = std::mem::take(&mut self.crashed);
            self.observe(FleetEvent::Reconciled {
                at: now,
                pool,
                took: (now - began).to_std().unwrap_or_default(),
                counts: self.roster.counts(),
                crashed,
                target: self.target.as_ref().map_or(0, |target| target.runners),
            });
        }
        self.plan_soon(ctx);
    }
}

impl Handler<Changed> for PoolActor {
    type Result = ();

    fn handle(&mut self, Changed(change): Changed, _ctx: &mut Self::Context) {
        if self.halting {
            return;
        }
        match self.roster.changed(&change) {
            Some(seen) => self.tell(&change.name, Event::Observed(seen)),
            // Not a runner of this pool, or one whose launch is not answered yet: a listing tells.
            None => self.outfit.stir.send_modify(|stir| stir.changes += 1),
        }
    }
}

impl Handler<Transitioned> for PoolActor {
    type Result = ();

    fn handle(&mut self, Transitioned { name, state }: Transitioned, ctx: &mut Self::Context) {
        let now = self.now();
        if self.roster.newly_lost(&name, &state) {
            self.crashed += 1;
            if let Some(error) = state.known().and_then(|known| known.last_error.clone()) {
                self.observe(FleetEvent::Fault {
                    at: now,
                    pool: Some(self.name().clone()),
                    runner: Some(name.clone()),
                    error,
                });
            }
        }
        let busy = self.roster.count(Phase::Busy);
        if self.roster.newly_taken(&name, &state) {
            self.outfit.works.do_send(Works(self.key.clone()));
        }
        let online = self.roster.newly_online(&name, &state);
        self.roster.transitioned(&name, state, now);
        if online {
            self.outfit.keep(&self.roster.boots);
        }
        if self.roster.count(Phase::Busy) < busy && !self.halting {
            self.plan_with_new_target(ctx);
        } else {
            self.plan_soon(ctx);
        }
    }
}

impl Handler<PlanNow> for PoolActor {
    type Result = ();

    fn handle(&mut self, _: PlanNow, ctx: &mut Self::Context) {
        self.plan_due = false;
        if !self.halting && self.target_due.is_none() {
            self.carry_out(ctx);
        }
        self.show();
    }
}

impl Handler<Configure> for PoolActor {
    type Result = ();

    fn handle(&mut self, configure: Configure, ctx: &mut Self::Context) {
        match self.outfit.shared.limits.write() {
            Ok(mut limits) => *limits = Arc::new(configure.limits.clone()),
            Err(poisoned) => *poisoned.into_inner() = Arc::new(configure.limits.clone()),
        }
        self.outfit.configure = configure;
        // New limits move deadlines.
        self.stir_runners();
        self.plan_soon(ctx);
    }
}

impl Handler<Halt> for PoolActor {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        self.halting = true;
        for child in self.children.values() {
            child.addr.do_send(Halt);
        }
        self.halt_if_done(ctx);
    }
}
