//! The runner's actor: apply → next → perform effects → arm the deadline → tell the pool.
//!
//! It decides nothing. One operation number guards it against answers that come after it moved on:
//! such an answer is dropped, and whatever it made is found by its name in the next listing.

use std::sync::{Arc, RwLock};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient,
    SpawnHandle, WrapFuture,
};

use super::{Answer, Effect, Event, Limits, State};
use crate::{
    event::{FleetEvent, Phase, RunnerSnapshot, SharedModel, Transition, may_be_stuck},
    guard::{Died, Guard},
    hands::{Blueprint, Hands, Subject, Terms},
    invariant,
    name::{PoolName, RunnerName, Scope},
    pool::{Habit, Habits, SharedHabits},
    port::{ErrorClass, Heard, Observer, PortError, Time},
};

/// An event for a runner.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Apply(pub Event);

/// Come to a stop: no new effects; stay only for the answer that is due.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Halt;

/// A runner has a new state.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Transitioned {
    /// Which.
    pub name: RunnerName,
    /// The state.
    pub state: State,
}

/// What all runners of a pool share.
pub struct Shared {
    /// The pool.
    pub pool: PoolName,
    /// The ports.
    pub hands: Arc<Hands>,
    /// The limits of the states; replaced as a whole by a reload.
    pub limits: RwLock<Arc<Limits>>,
    /// What the fleet's scopes have shown of the forge's habits.
    pub habits: SharedHabits,
    /// The read model.
    pub model: SharedModel,
    /// Who is told of everything.
    pub observer: Arc<dyn Observer>,
}

impl Shared {
    /// What a scope has shown of the forge's habits.
    #[must_use]
    pub fn habits_of(&self, scope: &Scope) -> Habits {
        self.habits.get(scope).map(|habits| *habits).unwrap_or_default()
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        match self.limits.read() {
            Ok(limits) => Arc::clone(&limits),
            // A panic while the lock was held cannot have left half a pointer.
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }
}

/// The actor of one runner.
pub struct RunnerActor {
    name: RunnerName,
    state: State,
    begin: Vec<Effect>,
    created_at: Time,
    why: String,
    shared: Arc<Shared>,
    blueprint: Arc<Blueprint>,
    pool: Recipient<Transitioned>,
    guard: Guard<RunnerName>,
    operation: u64,
    pending: bool,
    halting: bool,
    timer: Option<(Time, SpawnHandle)>,
    /// When it was last told that its VM does not do what it was asked to.
    warned: Option<Time>,
    heard_of_gaps: Heard,
}

/// How a runner's actor begins.
pub struct Beginning {
    /// Its name.
    pub name: RunnerName,
    /// Its first state.
    pub state: State,
    /// Effects to perform at once.
    pub effects: Vec<Effect>,
    /// When it was created, as far as known.
    pub created_at: Time,
    /// Why it is in this state, in words.
    pub why: String,
    /// What it is made of.
    pub blueprint: Arc<Blueprint>,
}

impl RunnerActor {
    /// An actor that begins as told and reports to `pool`; its end is reported to `parent`.
    #[must_use]
    pub fn new(
        beginning: Beginning,
        start: u64,
        shared: Arc<Shared>,
        pool: Recipient<Transitioned>,
        parent: Recipient<Died<RunnerName>>,
    ) -> Self {
        let Beginning { name, state, effects, created_at, why, blueprint } = beginning;
        let guard = Guard::new(name.clone(), start, parent);
        let heard_of_gaps = Heard::up_to(shared.hands.clock.awake_since());
        Self {
            name,
            state,
            begin: effects,
            created_at,
            why,
            shared,
            blueprint,
            pool,
            guard,
            operation: 0,
            pending: false,
            halting: false,
            timer: None,
            warned: None,
            heard_of_gaps,
        }
    }

    fn apply(&mut self, event: Event, ctx: &mut Context<Self>) {
        if !self.guard.parent_lives() {
            // A pool that died is started again and adopts by listing; two actors must not act for
            // one runner.
            ctx.stop();
            return;
        }
        let awake_since = self.shared.hands.clock.awake_since();
        if let Some(awake_since) = self.heard_of_gaps.news(awake_since) {
            // Before whatever waited here: what it is applied to may be long past.
            self.apply(Event::Woke(awake_since), ctx);
            self.disarm(ctx);
        }
        let now = self.shared.hands.clock.now();
        let limits = self.limits();
        if let Event::Answered(Answer::Cordoned(Err(error)) | Answer::Uncordoned(Err(error))) =
            &event
            && !error.local
        {
            self.fault(error.clone(), now);
        }
        let (words, found) = (event.words(), self.state.is_found_by(&event));
        let step = invariant::Before::of(&self.state, &event, now);
        let (next, effects) = self.state.clone().next(event, now, &limits);
        for broken in step.judge(&next, &effects, &limits, now) {
            self.shared.observer.observe(&FleetEvent::InvariantBroken {
                at: now,
                name: broken.name.to_owned(),
                seen: format!("{}: {}", self.name, broken.seen),
            });
        }
        let before = std::mem::replace(&mut self.state, next);
        if before != self.state {
            self.changed(&before, words, found, now);
            self.learn(&before, &limits, now);
        }
        if !self.halting {
            self.perform(effects, now, &limits, ctx);
        }
        if self.state.phase() == Phase::Deleted {
            self.guard.orderly();
            ctx.stop();
            return;
        }
        self.arm(now, &limits, ctx);
        self.warn_of_what_is_stuck(now);
    }

    /// A VM that does not go or does not come is told once, and then ever more rarely.
    fn warn_of_what_is_stuck(&mut self, now: Time) {
        let may_be = may_be_stuck(self.state.phase(), self.state.since(), now);
        let Some(stuck) = may_be.then(|| self.snapshot()).and_then(|shown| shown.stuck(now)) else {
            self.warned = None;
            return;
        };
        if !stuck.is_due(self.warned, now) {
            return;
        }
        self.warned = Some(now);
        self.fault(PortError::doubtful(ErrorClass::Transient, stuck.what), now);
    }

    fn fault(&self, error: PortError, now: Time) {
        self.shared.observer.observe(&FleetEvent::Fault {
            at: now,
            pool: Some(self.shared.pool.clone()),
            runner: Some(self.name.clone()),
            error,
        });
    }

    /// The limits in force, as far as what this scope has shown allows.
    fn limits(&self) -> Arc<Limits> {
        let limits = self.shared.limits();
        let habits = self.shared.habits_of(&self.blueprint.scope);
        match habits.are_within(&limits) {
            true => limits,
            false => Arc::new(habits.within(&limits)),
        }
    }

    /// Tells the scope's other runners what this one has shown of the forge's habits.
    fn learn(&self, before: &State, limits: &Limits, now: Time) {
        let shown = Habit::between(before, &self.state);
        if shown == Habit::default() {
            return;
        }
        let scope = &self.blueprint.scope;
        self.shared.habits.entry(scope.clone()).or_default().learn(shown, now);
        if shown.leaked {
            let what = format!(
                "{} got a job in {scope} although the forge had been told to give it none: from now on runners \
                 of {scope} that cannot be asked go only once they are idle for {} s",
                self.name,
                limits.idle_alone.as_secs()
            );
            self.fault(PortError::certain(ErrorClass::Invalid, what), now);
        }
    }

    fn perform(
        &mut self,
        effects: Vec<Effect>,
        now: Time,
        limits: &Limits,
        ctx: &mut Context<Self>,
    ) {
        for effect in effects {
            // An order without an answer must not make the answer of another effect a late one.
            if effect.has_answer() {
                self.operation += 1;
                self.pending = true;
            }
            let operation = self.operation;
            let known = self.state.known();
            let subject = Subject {
                name: self.name.clone(),
                vm: known.and_then(|known| known.vm.clone()),
                registration: known.and_then(|known| known.registration),
                job: self.state.job().cloned(),
            };
            let terms = Terms {
                limit: effect.limit(limits),
                grounds: self.state.grounds(effect, now, limits),
            };
            let hands = Arc::clone(&self.shared.hands);
            let call = hands.perform(effect, subject, Arc::clone(&self.blueprint), terms);
            ctx.spawn(call.into_actor(self).map(move |answer, actor, ctx| {
                let Some(answer) = answer else { return };
                if operation != actor.operation {
                    tracing::debug!(runner = %actor.name, operation, "a late answer was dropped");
                    return;
                }
                actor.pending = false;
                actor.apply(Event::Answered(answer), ctx);
                if actor.halting {
                    actor.guard.orderly();
                    ctx.stop();
                }
            }));
        }
    }

    /// One timer a runner: at its deadline.
    fn arm(&mut self, now: Time, limits: &Limits, ctx: &mut Context<Self>) {
        let due = self.state.deadline(limits);
        if self.timer.as_ref().map(|(at, _)| *at) == due {
            return;
        }
        self.disarm(ctx);
        if let Some(due) = due {
            let wait = (due - now).to_std().unwrap_or_default();
            let timer = ctx.run_later(wait, |actor, ctx| {
                actor.timer = None;
                actor.apply(Event::Tick, ctx);
            });
            self.timer = Some((due, timer));
        }
    }

    fn disarm(&mut self, ctx: &mut Context<Self>) {
        if let Some((_, timer)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
    }

    fn changed(&mut self, before: &State, words: String, found: bool, now: Time) {
        let (from, to) = (before.phase(), self.state.phase());
        if from != to {
            self.why = words;
            self.tell(Some((before, from)), found, now);
        }
        if to == Phase::Draining && before.holds_vm() && !self.state.holds_vm() {
            let (pool, runner) = (self.shared.pool.clone(), self.name.clone());
            self.shared.observer.observe(&FleetEvent::VmGone { at: now, pool, runner });
        }
        if to == Phase::Deleted {
            self.shared.model.runners.remove(&self.name);
        } else if from != to || visible(before) != visible(&self.state) {
            self.show();
        }
        if from != to || before.weighs() != self.state.weighs() {
            self.pool.do_send(Transitioned { name: self.name.clone(), state: self.state.clone() });
        }
    }

    fn tell(&self, before: Option<(&State, Phase)>, found: bool, now: Time) {
        let drain = match (&self.state, before) {
            (State::Draining { drain, .. }, _) => Some(drain),
            (State::Deleted { .. }, Some((State::Draining { drain, .. }, _))) => Some(drain),
            _ => None,
        };
        let to = self.state.phase();
        let transition = Transition {
            runner: self.name.clone(),
            pool: self.shared.pool.clone(),
            from: before.map(|(_, phase)| phase),
            created_at: self.created_at,
            to,
            after: before
                .and_then(|(state, _)| (now - state.since()).to_std().ok())
                .unwrap_or_default(),
            because: self.why.clone(),
            reason: self.state.reason().cloned(),
            job_killed: to == Phase::Draining && drain.is_some_and(|drain| drain.job_killed),
            job: self.state.job().or_else(|| before.and_then(|(state, _)| state.job())).cloned(),
            job_end: drain.and_then(|drain| drain.job_end.clone()),
            times: self
                .state
                .known()
                .or_else(|| before.and_then(|(state, _)| state.known()))
                .map(|known| known.times)
                .unwrap_or_default(),
            found,
        };
        self.shared.observer.observe(&FleetEvent::Transition { at: now, transition });
    }

    /// Puts the runner's snapshot into the read model.
    fn show(&self) {
        self.shared.model.runners.insert(self.name.clone(), self.snapshot());
    }

    fn snapshot(&self) -> RunnerSnapshot {
        let known = self.state.known();
        let drain = match &self.state {
            State::Draining { drain, .. } => Some(drain),
            _ => None,
        };
        RunnerSnapshot {
            name: self.name.clone(),
            pool: self.shared.pool.clone(),
            state: self.state.phase(),
            since: self.state.since(),
            created_at: self.created_at,
            why: match self.state.reason() {
                Some(reason) => format!("{}: {}", reason.as_str(), self.why),
                None => self.why.clone(),
            },
            last_error: known.and_then(|known| known.last_error.as_ref()).map(ToString::to_string),
            vm_id: known.and_then(|known| known.vm.clone()),
            registration_id: known.and_then(|known| known.registration),
            job: self.state.job().cloned(),
            step: drain.map(|drain| drain.step.as_str().to_owned()),
            step_since: drain.map(|drain| drain.step_since),
            tries: drain.map_or(0, |drain| drain.tries),
            task: known.and_then(|known| known.vm_task.clone()),
            deadline: self.state.deadline(&self.limits()),
            shape: known.and_then(|known| known.shape.clone()),
            version: known.and_then(|known| known.version.clone()),
        }
    }
}

/// What of a state is worth a new snapshot besides its phase.
fn visible(state: &State) -> impl PartialEq + use<'_> {
    let known = state.known();
    let step = match state {
        State::Draining { drain, .. } => Some((drain.step, drain.due)),
        _ => None,
    };
    (
        step,
        state.job(),
        known.map(|known| {
            (
                (&known.vm, &known.vm_task, known.registration),
                (&known.last_error, &known.shape, &known.version),
            )
        }),
    )
}

impl Actor for RunnerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let now = self.shared.hands.clock.now();
        let limits = self.limits();
        self.tell(None, false, now);
        self.show();
        let effects = std::mem::take(&mut self.begin);
        self.perform(effects, now, &limits, ctx);
        self.arm(now, &limits, ctx);
    }
}

impl Handler<Apply> for RunnerActor {
    type Result = ();

    fn handle(&mut self, Apply(event): Apply, ctx: &mut Self::Context) {
        self.apply(event, ctx);
    }
}

impl Handler<Halt> for RunnerActor {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        self.halting = true;
        if !self.pending {
            self.guard.orderly();
            ctx.stop();
        }
    }
}
