//! The smallest mirror of the production shells: it performs what the brain decides, and decides
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Mutant,
    calls::Asked,
    evidence::Evidence,
    happening::Happening,
    mutants,
    process::{PoolShell, Process, RunnerShell},
    world::World,
};
use crate::{
    event::{DrainReason, JobEnd, Phase},
    invariant::{self, Before},
    name::RunnerName,
    pool::{Habit, Habits, LONGEST, Roster},
    port::{Change, Deletion, ErrorClass, Heard, Stage, StandDown, Time},
    runner::{Answer, Effect, Event, Limits, State},
    scaler::Target,
    sweep::Streak,
};

/// So many ticks of one runner at one moment are a spin.
const MOST_TICKS: u32 = 20;

/// The limits as far as what the forge has shown allows.
fn limits(mutant: Option<Mutant>, habits: Habits, believed: &Limits) -> Limits {
    match mutant {
        // What is learnt would mend it.
        Some(Mutant::NoWatch) => believed.clone(),
        _ => habits.within(believed),
    }
}

impl World {
    pub fn start_process(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.epoch += 1;
        // A process that has seen nothing yet has no second witness.
        self.snapshots.cloudless = None;
        let pools = self
            .pools
            .iter()
            .map(|pool| PoolShell {
                roster: Roster::knowing(pool.boots.clone()),
                target: Target::initial(&pool.scaling),
                policy: pool.policy.clone(),
                heard: false,
                replan_at: None,
                heard_of_gaps: Heard::up_to(self.now),
                raised: None,
                listed: None,
            })
            .collect();
        let runners = BTreeMap::new();
        self.process = Some(Process {
            pools,
            runners,
            buried: BTreeSet::new(),
            ended: BTreeMap::new(),
            cloud: Streak::default(),
            forge: Streak::default(),
            habits: self.habits,
            limited: None,
            awake_since: self.now,
            began: self.now,
        });
        let epoch = self.epoch;
        self.note(|| format!("process {epoch} starts"));
        self.after(0.1, Happening::SweepBegins { epoch });
        for pool in 0..self.pools.len() {
            self.between(0.5, 60.0, Happening::Demand { epoch, pool });
        }
    }

    /// Everything in memory is lost; what is on the wire may still act.
    pub fn crash(&mut self) {
        if self.calm_since.is_some() {
            return;
        }
        self.counters.crashes += 1;
        self.paused = None;
        self.note(|| "the process dies".to_owned());
        self.keep();
        self.hub.clear();
        self.between(1.0, 90.0, Happening::Start);
        self.rarely(self.faults.crashes, Happening::Crash);
    }

    /// Whose runner that is; `None` for a foreign fleet's.
    pub fn pool_of(&self, name: &RunnerName) -> Option<usize> {
        if !name.is_of(&self.fleet) {
            return None;
        }
        let pool = name.pool();
        self.pools.iter().position(|config| config.name == pool)
    }

    pub fn launch(&mut self, pool: usize) {
        let token = self.token();
        let Some(config) = self.pools.get(pool) else { return };
        let name = RunnerName::new(&self.fleet, &config.name, token);
        let (state, effects) = State::start(self.now, &config.believed);
        self.counters.launches += 1;
        let now = self.now;
        if let Some(config) = self.pools.get_mut(pool) {
            config.launched_at = Some(now);
        }
        self.seat(pool, &name, state);
        self.judge_launch(pool);
        self.do_effects(&name, &effects);
        self.arm(&name);
    }

    /// Gives a runner its actor.
    fn seat(&mut self, pool: usize, name: &RunnerName, state: State) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        if let Some(shell) = process.pools.get_mut(pool) {
            shell.roster.transitioned(name, state.clone(), now);
        }
        let mut evidence = Evidence::beginning(now);
        if state.phase() == Phase::Draining {
            evidence.drain_began(now);
        }
        if state.known().is_some_and(|known| known.quiet.begun()) {
            evidence.adopted_quiet(now);
        }
        let heard_of_gaps = Heard::up_to(process.awake_since);
        process.runners.insert(
            name.clone(),
            RunnerShell {
                pool,
                state,
                op: None,
                armed: 0,
                armed_for: None,
                ticked: (None, 0),
                evidence,
                heard_of_gaps,
            },
        );
    }

    pub fn adopt(&mut self, pool: usize, name: &RunnerName, state: State) {
        if self.mutant == Some(Mutant::NoAdoption) {
            return;
        }
        self.counters.adopted += 1;
        self.note(|| format!("{name} adopted as {}", state.phase()));
        self.judge_adoption(name);
        self.seat(pool, name, state);
        self.arm(name);
    }

    /// The one door: an event is applied to a runner.
    pub fn apply(&mut self, name: &RunnerName, event: Event) {
        let now = self.now;
        if self.ignored(&event) {
            return;
        }
        if let Some(awake_since) = self.woke(name) {
            self.apply(name, Event::Woke(awake_since));
        }
        let traces = self.traces();
        let Some(process) = &mut self.process else { return };
        let Some(runner) = process.runners.get_mut(name) else { return };
        let Some(config) = self.pools.get_mut(runner.pool) else { return };
        self.counters.events += 1;
        let invented = self.mutant == Some(Mutant::ForgetfulOfBusy)
            && matches!(event, Event::JobCompleted { .. });
        if !invented {
            runner.evidence.take_in(&event);
        }
        match &event {
            Event::Answered(Answer::Launched { .. }) => runner.evidence.launched = Some(now),
            Event::Answered(Answer::VmDeleted(Ok(Deletion::Gone))) => {
                runner.evidence.gone.get_or_insert(now);
            }
            _ => {}
        }
        let pool = runner.pool;
        let before = Before::of(&runner.state, &event, now);
        let phase = runner.state.phase();
        let words = (traces && !matches!(event, Event::Observed(_))).then(|| event.words());
        let gone = State::Deleted { since: now, reason: DrainReason::Orphan };
        let old = std::mem::replace(&mut runner.state, gone);
        let was = old.clone();
        let limits = limits(self.mutant, process.habits, &config.believed);
        let (state, mut effects) = mutants::next(self.mutant, old, event.clone(), now, &limits);
        let broken = before.judge(&state, &effects, &limits, now);
        let shown = Habit::between(&was, &state);
        self.books.late = self.books.late.max(shown.late.min(LONGEST));
        if shown.leaked {
            self.books.leaked_at.get_or_insert(now);
            self.counters.jobs_past_cordons += 1;
        }
        let minds = self.mutant != Some(Mutant::UnmindedLeaks);
        process.habits.learn(Habit { leaked: shown.leaked && minds, ..shown }, now);
        if self.mutant == Some(Mutant::TwoEffects) {
            effects.extend_from_within(..);
        }
        let after = state.phase();
        let changed = phase != after || was.weighs() != state.weighs();
        if phase != Phase::Draining && after == Phase::Draining {
            runner.evidence.drain_began(now);
            self.counters.drains += 1;
        }
        // A launch that went well, whatever became of its answer.
        let taken = |state: &State| state.known().is_some_and(|known| known.vm.is_some());
        let made = matches!(after, Phase::Registering | Phase::Idle | Phase::Busy);
        if phase == Phase::Creating && (made || taken(&state) && !taken(&was)) {
            config.failing.clear();
        }
        if phase == Phase::Draining && after < Phase::Draining {
            self.counters.drains_called_off += 1;
            self.counters.drains_met_a_job += u64::from(after == Phase::Busy);
        }
        runner.state = state.clone();
        if let (Event::VmEnded { .. }, false) = (&event, state.holds_vm()) {
            runner.evidence.gone.get_or_insert(now);
        }
        if let Some(shell) = process.pools.get_mut(pool) {
            if self.mutant == Some(Mutant::NoTombstone) && after == Phase::Deleted {
                shell.roster.hand_to_orphans(name);
            } else {
                shell.roster.transitioned(name, state.clone(), now);
            }
        }
        if phase != after || words.is_some() {
            let reason = process
                .runners
                .get(name)
                .and_then(|runner| runner.state.reason())
                .map_or("", DrainReason::as_str);
            let words = words.unwrap_or_else(|| "a listing".to_owned());
            let line = format!("{name} {phase} → {after} {reason} {effects:?}: {words}");
            self.note(|| line);
        }
        if self.mutant == Some(Mutant::ForgetfulOfBusy) && after == Phase::Busy {
            let registration = state.known().and_then(|known| known.registration);
            let end = Event::JobCompleted { end: JobEnd::default(), registration };
            self.after(60.0, Happening::Deliver { name: name.clone(), event: end });
        }
        self.report(broken);
        self.judge_step(name, &was, &event, &state);
        self.note_boot(pool, name, &was, &state);
        self.do_effects(name, &effects);
        if after == Phase::Deleted {
            self.counters.deleted += 1;
            self.bury(name);
        } else {
            self.arm(name);
        }
        if changed {
            self.plan_pool(pool);
        }
    }

    /// Since when the process has been awake, where this runner was not told yet.
    fn woke(&mut self, name: &RunnerName) -> Option<Time> {
        let process = self.process.as_mut()?;
        let runner = process.runners.get_mut(name)?;
        let news = runner.heard_of_gaps.news(process.awake_since);
        let tells = self.mutant != Some(Mutant::SleepsUnnoticed);
        news.filter(|_| tells)
    }

    /// What a mutant's shell does not deliver.
    fn ignored(&self, event: &Event) -> bool {
        matches!(
            (self.mutant, event),
            (Some(Mutant::NoDeadline), Event::Tick)
                | (Some(Mutant::NoObservation), Event::Observed(_))
                | (Some(Mutant::DeafToGuests), Event::Guest(..))
        )
    }

    fn bury(&mut self, name: &RunnerName) {
        let now = self.now;
        let gone = !self.vms.contains_key(name) && !self.registrations.contains_key(name);
        if let Some(process) = &mut self.process {
            process.runners.remove(name);
            process.ended.insert(name.clone(), now);
            if gone {
                process.buried.insert(name.clone());
            }
        }
    }

    /// Hands effects to the calls, each under a number of its own.
    fn do_effects(&mut self, name: &RunnerName, effects: &[Effect]) {
        for effect in effects {
            let mum = self.mutant == Some(Mutant::NeverSaysMore) && !effect.has_answer();
            if mum {
                continue;
            }
            let op = self.fresh_id();
            let Some(runner) = self.process.as_mut().and_then(|p| p.runners.get_mut(name)) else {
                return;
            };
            let mut crowded = false;
            if effect.has_answer() {
                crowded = runner.op.replace(op).is_some();
            }
            if *effect == Effect::StandDown {
                runner.evidence.asked = Some(self.now);
            }
            let (state, evidence, pool) = (runner.state.clone(), runner.evidence, runner.pool);
            if crowded {
                let detail = format!("{effect:?} of {name} while an answer is due");
                self.violated(invariant::ONE_EFFECT, detail);
            }
            self.judge_effect(name, &state, *effect, &evidence);
            let ask = self.pools.get(pool).map(|pool| pool.limits.ask).unwrap_or_default();
            let silent = evidence.asked_in_vain(self.now, ask);
            let forced = matches!(&state, State::Draining { drain, .. } if drain.forced);
            let job = state.job().and_then(|job| job.id);
            let believed = self.pools.get(pool).map(|pool| &pool.believed);
            let grounds = believed.and_then(|limits| state.grounds(*effect, self.now, limits));
            self.send(pool, op, name, *effect, Asked { forced, silent, job, grounds });
            if self.mutant == Some(Mutant::DeregistersUnanswered) && *effect == Effect::StandDown {
                let answer = Answer::StoodDown(Ok(StandDown::StandingDown));
                self.after(
                    0.0,
                    Happening::Answer { epoch: self.epoch, op, name: name.clone(), answer },
                );
            }
        }
    }

    /// One timer a runner.
    fn arm(&mut self, name: &RunnerName) {
        let Some(process) = &mut self.process else { return };
        let Some(runner) = process.runners.get_mut(name) else { return };
        let Some(config) = self.pools.get(runner.pool) else { return };
        let limits = limits(self.mutant, process.habits, &config.believed);
        let deadline = runner.state.deadline(&limits);
        if deadline == runner.armed_for {
            return;
        }
        runner.armed_for = deadline;
        runner.armed += 1;
        let (epoch, armed) = (self.epoch, runner.armed);
        if let Some(at) = deadline {
            self.at(at, Happening::Tick { epoch, name: name.clone(), armed });
        }
    }

    pub fn tick(&mut self, epoch: u32, name: &RunnerName, armed: u64) {
        let now = self.now;
        if epoch != self.epoch {
            return;
        }
        let Some(runner) = self.process.as_mut().and_then(|p| p.runners.get_mut(name)) else {
            return;
        };
        if runner.armed != armed {
            return;
        }
        runner.armed_for = None;
        let ticks = if runner.ticked.0 == Some(now) { runner.ticked.1 + 1 } else { 1 };
        runner.ticked = (Some(now), ticks);
        if ticks > MOST_TICKS {
            let detail = format!("{name} ticks without end as {}", runner.state.phase());
            self.violated(invariant::PROGRESS, detail);
            self.over = true;
            return;
        }
        self.apply(name, Event::Tick);
        // A mutant that drops the tick must not be armed again for the same moment.
        if self.mutant != Some(Mutant::NoDeadline) {
            self.arm(name);
        }
    }

    /// An answer counts once, and only while its operation is the newest.
    pub fn answer(&mut self, epoch: u32, op: u64, name: &RunnerName, answer: Answer) {
        if epoch != self.epoch {
            return;
        }
        let Some(runner) = self.process.as_mut().and_then(|p| p.runners.get_mut(name)) else {
            return;
        };
        if runner.op != Some(op) {
            return;
        }
        runner.op = None;
        let pool = runner.pool;
        if let Answer::LaunchFailed(failure) = &answer
            && let (Stage::Forge, false, ErrorClass::RateLimited { until }) =
                (failure.stage, failure.error.local, failure.error.class)
            && let Some(process) = &mut self.process
        {
            process.limited = Some(until);
        }
        self.judge_answer(pool, name, &answer);
        if matches!(answer, Answer::Cordoned(Err(_))) {
            self.uncordonable.insert(name.clone());
        }
        let answer = match (self.mutant, answer) {
            (Some(Mutant::BlindShrink), Answer::StoodDown(Ok(_))) => {
                Answer::StoodDown(Ok(StandDown::StandingDown))
            }
            (_, answer) => answer,
        };
        self.apply(name, Event::Answered(answer));
    }

    /// What the cloud tells of one VM, if a process is there to hear it.
    pub fn changed(&mut self, change: &Change) {
        let Some(pool) = self.pool_of(&change.name) else { return };
        let shell = self.process.as_ref().and_then(|process| process.pools.get(pool));
        if let Some(seen) = shell.and_then(|shell| shell.roster.changed(change)) {
            self.apply(&change.name, Event::Observed(seen));
        }
    }

    /// A report or webhook, if a process is there to hear it.
    pub fn deliver(&mut self, name: &RunnerName, event: Event) {
        self.apply(name, event);
    }
}
