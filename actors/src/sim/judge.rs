//! The all-seeing judge: what only somebody who knows the truth can check.

use super::{
    evidence::Evidence, forge::TrueRegistration, happening::Happening, process::Process,
    world::World,
};
use crate::{
    event::Phase,
    invariant,
    name::RunnerName,
    port::Time,
    runner::{Answer, Effect, Event, Report, State, Step},
};

/// What ended a VM or a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// An ordinary drain.
    Drain,
    /// A drain of a guest that reported once and gave no answer for as long as a drain asks.
    Silence,
    /// A deregistration that was on its way before there was a VM: a cloud that said 503 made it minutes
    /// later, and the call was held up until its runner had a job. No evidence comes in time for that.
    Ahead,
    /// Force, or the job's own limit.
    Force,
    /// The cloud itself.
    Cloud,
}

impl Cause {
    pub fn of_drain(forced: bool, silent: bool) -> Self {
        match (forced, silent) {
            (true, _) => Self::Force,
            (_, true) => Self::Silence,
            _ => Self::Drain,
        }
    }
}

impl World {
    /// A job ended before its time.
    pub fn job_lost(&mut self, name: &RunnerName, job: u64, cause: Cause) {
        let pool = self.pool_of(name);
        let reports = pool.and_then(|pool| self.pools.get(pool)).is_some_and(|pool| pool.reports);
        self.note(|| format!("job {job} on {name} is lost: {cause:?}"));
        let counters = &mut self.counters;
        match (cause, reports) {
            (Cause::Cloud, _) => counters.jobs_lost_by_the_cloud += 1,
            (Cause::Force, _) => counters.jobs_killed_by_force += 1,
            (Cause::Silence, true) => counters.jobs_lost_to_silence += 1,
            (Cause::Ahead, _) | (Cause::Drain | Cause::Silence, false) => {
                counters.jobs_lost_to_lag += 1
            }
            (Cause::Drain, true) => {
                self.violated(invariant::NO_JOB_LOST, format!("{name} lost job {job} to a drain"));
            }
        }
        if let Some(pool) = pool {
            self.demand_changes(pool);
        }
    }

    /// Judges an effect at the moment in which it is asked for.
    pub fn judge_effect(
        &mut self,
        name: &RunnerName,
        state: &State,
        effect: Effect,
        evidence: &Evidence,
    ) {
        let State::Draining { drain, .. } = state else { return };
        if drain.forced || !matches!(effect, Effect::Cordon | Effect::Deregister | Effect::DeleteVm)
        {
            return;
        }
        if self.looked_too_little(name, drain.vm_gone, effect, evidence) {
            let detail = format!("{effect:?} of {name} before anybody looked after a gap");
            self.violated(invariant::LOOKS_FIRST, detail);
        }
        let runs = self.vms.get(name).is_some_and(|vm| vm.guest.job.is_some());
        let cordons = effect == Effect::Cordon;
        if runs && evidence.told_busy && !cordons {
            let detail = format!("{effect:?} of {name}, which runs a job and was said to be busy");
            self.violated(invariant::BUSY, detail);
        }
        let listens = self.listens(name);
        let Some(pool) = self.pool_of(name).and_then(|pool| self.pools.get(pool)) else { return };
        let goes = cordons || effect == Effect::Deregister;
        let mute = !pool.reports && goes && listens && !drain.vm_gone;
        let proven = evidence.proven_quiet(pool.limits.idle_proof) && evidence.looked_since();
        if mute && !proven {
            let detail = format!("{effect:?} of {name} after too short a proof");
            self.violated(invariant::PROVEN_QUIET, detail);
        }
        let Some(pool) = self.pool_of(name).and_then(|pool| self.pools.get(pool)) else { return };
        if mute
            && !cordons
            && self.books.leaked_at.is_some()
            && !evidence.proven_quiet(pool.limits.idle_alone)
        {
            let detail = format!("{name} goes behind a cordon although jobs come past them");
            self.violated(invariant::MINDED, detail);
        }
        if mute && !cordons {
            self.judge_watch(name, evidence);
        }
    }

    /// Judges a deregistration that reached the forge: where a cordon was to be had, the flag shows the job if
    /// late, and no job was seen to come past a cordon, it must not hit a runner at work.
    pub fn judge_deregistered(
        &mut self,
        epoch: u32,
        name: &RunnerName,
        registration: &TrueRegistration,
        cause: Cause,
    ) {
        let mute = self.pools.get(registration.pool).is_some_and(|pool| !pool.reports);
        let told = self.process.is_none() || self.books.leaked_at.is_some();
        let leaks = self.faults.cordon_leaks > 0.0 || told || epoch != self.epoch;
        let excused = leaks || self.uncordonable.contains(name);
        let job = registration.job.and_then(|job| self.jobs.get(&job));
        let hit = job.is_some_and(|job| job.running && job.shows);
        if mute && hit && !excused && matches!(cause, Cause::Drain | Cause::Silence) {
            let detail =
                format!("{name} is deregistered at work, cordoned: {:?}", registration.cordoned);
            self.violated(invariant::CORDONED, detail);
        }
    }

    /// Whether a removal is asked for after a gap although nobody has looked since, and could have.
    fn looked_too_little(
        &self,
        name: &RunnerName,
        vm_gone: bool,
        effect: Effect,
        evidence: &Evidence,
    ) -> bool {
        let config = self.pool_of(name).and_then(|pool| self.pools.get(pool));
        let Some((process, config)) = self.process.as_ref().zip(config) else { return false };
        let gap = process.awake_since;
        let looked = match effect {
            Effect::DeleteVm => evidence.cloud_looked > Some(gap),
            _ if vm_gone => evidence.forge_looked > Some(gap),
            // It may be asked in the very moment in which the process goes on.
            _ => evidence.forge_looked > Some(gap) || evidence.guest_looked >= Some(gap),
        };
        let had_before = gap > process.began && evidence.since <= Some(gap);
        had_before && !looked && self.now < gap + config.limits.ask
    }

    /// Judges the step away from `before` that an event led to.
    pub fn judge_step(&mut self, name: &RunnerName, before: &State, event: &Event, after: &State) {
        let foreign = matches!(
            event,
            Event::JobStarted { registration: Some(number), .. }
                | Event::JobCompleted { registration: Some(number), .. } if number.0 == u64::MAX
        );
        let numbered = before.known().is_some_and(|known| known.registration.is_some());
        if foreign && numbered && before != after {
            let detail = format!("{name} became {} by a word about another", after.phase());
            self.violated(invariant::FOREIGN, detail);
        }
        if let (Event::Observed(seen), Some(was), Some(is)) = (event, before.known(), after.known())
        {
            let older = seen.vm_as_of <= was.vm_heard.unwrap_or(seen.vm_as_of)
                && was.vm_heard > is.vm_heard
                || was.registration_heard > is.registration_heard;
            if older {
                let detail = format!("{name} heard a listing that is older than its last");
                self.violated(invariant::IN_ORDER, detail);
            }
        }
        self.judge_lag(name, before, event, after);
        self.judge_ended(name, before, event, after);
        let evidence = self.process.as_ref().and_then(|process| process.evidence(name));
        let starts = evidence.map_or(0, |evidence| evidence.starts);
        let again = matches!(event, Event::Guest(Report::JobStarted(_), _)) && starts > 1;
        if again && before.phase() == Phase::Draining && after.phase() < Phase::Draining {
            let detail = format!("{name} is {} by a start that was told before", after.phase());
            self.violated(invariant::ONE_START, detail);
        }
        let told = matches!(event, Event::Guest(..) | Event::Force | Event::Drain(_));
        let State::Draining { drain, .. } = after else { return };
        let ends = drain.vm_gone || matches!(drain.step, Step::Settle | Step::Delete);
        let works = self.vms.get(name).is_some_and(|vm| {
            super::guest::alive(&vm.status) && vm.guest.job.is_some() && !drain.forced
        });
        if before.phase() == Phase::Busy
            && !told
            && ends
            && works
            && self.registrations.contains_key(name)
        {
            let detail = format!("{name} is {} while its job runs", drain.reason.as_str());
            self.violated(invariant::UNLISTED, detail);
        }
    }

    /// Judges what a listing was taken to say of a moment that it cannot know of.
    fn judge_lag(&mut self, name: &RunnerName, before: &State, event: &Event, after: &State) {
        let Event::Observed(seen) = event else { return };
        let evidence = self.process.as_ref().and_then(|process| process.evidence(name));
        let config = self.pool_of(name).and_then(|pool| self.pools.get(pool));
        let Some((evidence, config)) = evidence.zip(config) else { return };
        let (as_of, lag) = (seen.vm_as_of, config.limits.listing_lag);
        let blind = |since: Option<Time>| since.is_some_and(|since| as_of <= since + lag);
        let absent = |state: &State| state.known().is_some_and(|known| known.vm_absent.begun());
        if blind(evidence.launched) && !absent(before) && absent(after) {
            let detail = format!("{name} is missed in a listing that cannot know of it");
            self.violated(invariant::LAG, detail);
        }
        let gone = |state: &State| match state {
            State::Draining { drain, .. } => drain.vm_gone,
            State::Deleted { .. } => true,
            _ => false,
        };
        if blind(evidence.gone) && gone(before) && !gone(after) {
            let detail = format!("{name} is back by a listing that does not know of its end");
            self.violated(invariant::LAG, detail);
        }
    }

    /// Judges a launch at the moment in which it is asked for, against the VMs that there truly are.
    pub fn judge_launch(&mut self, pool: usize) {
        let Some(config) = self.pools.get(pool) else { return };
        let Some(process) = &self.process else { return };
        if let Some(shell) = process.pools.get(pool)
            && process.awake_since > process.began
            && shell.listed <= Some(process.awake_since)
        {
            let detail = format!("{} launches before its cloud was listed again", config.name);
            return self.violated(invariant::LOOKS_FIRST, detail);
        }
        let epoch = self.epoch;
        // A cloud that lists none of its VMs for minutes has disowned those that were then given up, until
        // the next listing shows them: nobody can count what its cloud denies.
        let since = self.now - std::time::Duration::from_secs(120);
        let denies = self.snapshots.cloudless.is_some_and(|until| since < until);
        let counted = |name: &RunnerName| {
            (!denies || process.holds(name))
                && self.vms.get(name).is_some_and(|vm| {
                    vm.pool == pool && ((vm.asked_by == epoch && !vm.late) || vm.shown_to == epoch)
                })
        };
        let there = self.vms.keys().filter(|name| counted(name)).count();
        let coming = process.launching(pool).filter(|name| !self.vms.contains_key(*name)).count();
        let vms = u32::try_from(there + coming).unwrap_or(u32::MAX);
        if vms > config.policy.max {
            let unknown = self.vms.keys().filter(|name| counted(name) && !process.holds(name));
            let detail = format!(
                "{vms} VMs in {} of at most {}, not counted: {:?}",
                config.name,
                config.policy.max,
                unknown.map(RunnerName::as_str).collect::<Vec<_>>()
            );
            self.violated(invariant::MAX, detail);
        }
    }

    /// Judges an answer to a launch: where launches fail, only a handful of them is tried until one goes well.
    pub fn judge_answer(&mut self, pool: usize, name: &RunnerName, answer: &Answer) {
        let now = self.now;
        // Of one that is online or at work the launch went well, whatever became of its answer.
        let begins = |process: &&Process| process.phase(name) == Some(Phase::Creating);
        let begun = self.process.as_ref().filter(begins).and_then(|process| process.since(name));
        let Some(config) = self.pools.get_mut(pool) else { return };
        match (answer, begun) {
            (Answer::Launched { .. }, _) => config.failing.clear(),
            // What was sent too late was no launch without a turn.
            (Answer::LaunchFailed(failure), _)
                if failure.error.local && is_over(&failure.error, now) => {}
            (Answer::LaunchFailed(failure), _) if failure.error.local => {
                let detail = format!("{name} was made, and refused before anything was asked");
                self.violated(invariant::ITS_TURN, detail);
            }
            (Answer::LaunchFailed(_), Some(begun)) => {
                // What was under way when the first failed could not know.
                if config.failing.first().is_none_or(|first| begun >= *first) {
                    config.failing.push(now);
                }
                config.failing.retain(|at| *at + std::time::Duration::from_secs(60) > now);
                let failed = config.failing.len();
                if failed > HANDFUL {
                    let detail = format!("{failed} launches of pool {pool} failed within a minute");
                    self.violated(invariant::FEW_FAILURES, detail);
                }
            }
            _ => {}
        }
    }

    /// Judges an adoption: a runner of which nothing was left does not come back.
    pub fn judge_adoption(&mut self, name: &RunnerName) {
        let gone = !self.vms.contains_key(name) && !self.registrations.contains_key(name);
        let buried = self.process.as_ref().is_some_and(|process| process.buried.contains(name));
        if gone && buried {
            self.violated(invariant::STAYS_DEAD, format!("{name} is adopted after its end"));
        }
    }

    /// Judges whether whoever waits for jobs can have them; a forge that refuses calls excuses.
    pub fn judge_useless(&mut self) {
        let faults = &self.faults;
        let refuses = [
            faults.rate_limited,
            faults.auth,
            faults.call_fails,
            faults.answer_lost,
            faults.forge_away,
            faults.cordon_refused,
        ];
        let Some(process) = &self.process else { return };
        if refuses.iter().any(|share| *share > 0.0) {
            return;
        }
        let long_ago = self.now - USELESS_FOR;
        let waits = |name: &RunnerName| {
            let since = process.since(name).filter(|_| process.phase(name) == Some(Phase::Idle));
            // A limit of when the forge still refused has an end that it named.
            let held = process.cordon_held_until(name).is_some_and(|until| self.now < until);
            since.is_some_and(|since| since < long_ago) && !held
        };
        let useless = self
            .registrations
            .iter()
            .find(|(name, one)| one.cordoned.is_some_and(|since| since < long_ago) && waits(name));
        if let Some((name, _)) = useless {
            let detail = format!("{name} waits for jobs and gets none");
            self.violated(invariant::USEFUL, detail);
        }
    }

    /// The foreign fleet is whole.
    pub fn judge_foreigners(&mut self) {
        let whole = self.foreign.iter().all(|name| {
            self.registrations.contains_key(name)
                && self.vms.get(name).is_some_and(|vm| vm.status == crate::port::VmStatus::Active)
        });
        if !whole {
            self.violated(invariant::CONVERGES, "the foreign fleet was touched".to_owned());
        }
    }

    /// Looks once a minute after the calm; the world must come to rest in bounded time, and stay so.
    pub fn look(&mut self) {
        self.judge_foreigners();
        let Some(since) = self.calm_since else { return };
        let waited = (self.now - since).num_minutes();
        match self.unrest() {
            None => {
                self.good_looks += 1;
                if self.good_looks == GOOD_LOOKS {
                    self.counters.minutes_to_converge += u64::try_from(waited).unwrap_or_default();
                    self.over = true;
                    return;
                }
            }
            Some(unrest) => {
                self.good_looks = 0;
                if waited > CONVERGED_AFTER {
                    let detail = format!("after {waited} minutes: {unrest}");
                    self.violated(invariant::CONVERGES, detail);
                    self.over = true;
                    return;
                }
            }
        }
        self.after(60.0, Happening::Look);
    }

    /// What is not as it should be in a quiet world.
    pub fn unrest(&self) -> Option<String> {
        let Some(process) = &self.process else { return Some("no process".to_owned()) };
        for (index, config) in self.pools.iter().enumerate() {
            let Some(shell) = process.pools.get(index) else { continue };
            let (target, live) = (shell.target.runners, shell.roster.live());
            if live != target {
                return Some(format!("{}: {live} live, target {target}", config.name));
            }
            let draining = shell.roster.count(Phase::Draining);
            if draining > 0 {
                return Some(format!("{}: {draining} draining", config.name));
            }
            let wanted = config.scaling.spare.max(config.scaling.min).min(config.policy.max);
            if target != wanted && config.waiting == 0 {
                return Some(format!("{}: target {target}, not {wanted}", config.name));
            }
        }
        let known = |name: &RunnerName| process.knows(name) || self.foreign.contains(name);
        if let Some(name) = self.vms.keys().find(|name| !known(name)) {
            return Some(format!("VM {name} has no runner"));
        }
        if let Some(name) = self.registrations.keys().find(|name| !known(name)) {
            return Some(format!("registration {name} has no runner"));
        }
        if let Some(name) = process.names().find(|name| !self.vms.contains_key(*name)) {
            return Some(format!("runner {name} has no VM"));
        }
        None
    }
}

/// Whether nothing holds it back any more: it was refused because it came too late.
fn is_over(error: &crate::port::PortError, now: Time) -> bool {
    matches!(error.class, crate::port::ErrorClass::RateLimited { until } if until <= now)
}

/// A runner that waits for jobs may be kept from them for so long.
const USELESS_FOR: std::time::Duration = std::time::Duration::from_secs(5 * 60);
/// So many launches may fail within a minute one after the other.
const HANDFUL: usize = 9;
/// So many good looks in a row are rest.
const GOOD_LOOKS: u32 = 5;
/// Minutes after which a quiet world must have converged: a job that never ends meets its limit of
/// 75, and then a drain may meet each of its own limits once, that of its cordon among them.
const CONVERGED_AFTER: i64 = 165;
