//! One drain against one job, in the smallest world in which they can meet.
//!
//! A whole fleet meets the worst moment once in hours. Here every world is made of it: one idle
//! runner, one job, one drain, a second or so apart, with orders, answers and reports that get lost,
//! a busy flag that lies, and a daemon that may die in between. What must come out is always the
//! same: the job is done, by this runner or by its successor, and nobody is left standing down.

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{
    Faults, Mutant,
    happening::Happening,
    world::{World, pool},
};
use crate::{
    event::{DrainReason, Phase},
    invariant,
    name::RunnerName,
    port::VmStatus,
    runner::{Event, Report},
};

/// What happens in a duel besides what follows by itself.
#[derive(Debug)]
pub(super) enum Move {
    /// The job comes.
    Offer,
    /// The operator wishes the runner gone; again a moment later where it is not known yet.
    Part(RunnerName),
    /// Is it over?
    Judge,
}

/// When the job comes, in seconds: the runner has been adopted by then.
const OFFER: f64 = 10.0;
/// Minutes after which a duel must be over.
const OVER_AFTER: i64 = 40;

impl World {
    /// A world with one idle runner, its job and its drain.
    pub fn duel(seed: u64, mutant: Option<Mutant>, trace_lines: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x6475_656c);
        let mut pool = pool("report", &mut rng, mutant);
        pool.policy.max = 3;
        pool.scaling.min = 1;
        pool.scaling.max = 3;
        pool.scaling.spare = 0;
        let mut knob = |most: f64| {
            if rng.random_bool(0.5) { 0.0 } else { rng.random_range(0.0..=most) }
        };
        let faults = Faults {
            order_lost: knob(0.3),
            stand_down_lost: knob(0.3),
            report_lost: knob(0.5),
            report_late: knob(0.5),
            report_replayed: knob(0.3),
            webhook_lost: if knob(1.0) > 0.0 { 1.0 } else { 0.3 },
            busy_lies: knob(1.0),
            answer_lost: knob(0.3),
            call_fails: knob(0.3),
            guest_never_stops: knob(0.3),
            ..Faults::default()
        };
        let dies = rng.random_bool(0.3);
        let dies_at = OFFER + rng.random_range(-1.0..20.0);
        let parts_at = OFFER + rng.random_range(-1.5..5.0);
        let mut world = Self::empty(seed, faults, mutant, vec![pool], trace_lines);
        world.longest_job = 60.0;
        world.no_excuse = !dies
            && faults.order_lost + faults.stand_down_lost + faults.answer_lost + faults.call_fails
                == 0.0;
        let Some(name) = world.place_idle_runner() else { return world };
        world.after(0.0, Happening::Start);
        world.after(OFFER, Happening::Duel(Move::Offer));
        world.after(parts_at, Happening::Duel(Move::Part(name)));
        world.after(OFFER + 20.0, Happening::Duel(Move::Judge));
        if dies {
            world.after(dies_at, Happening::Crash);
        }
        world
    }

    /// A runner as an earlier process left it: online, with nothing to do.
    fn place_idle_runner(&mut self) -> Option<RunnerName> {
        let token = self.token();
        let name = RunnerName::new(&self.fleet, &self.pools.first()?.name, token);
        let mut registration = self.new_registration(0);
        registration.online = true;
        self.registrations.insert(name.clone(), registration);
        self.place_vm(name.clone(), 0);
        let vm = self.vms.get_mut(&name)?;
        vm.status = VmStatus::Active;
        vm.guest.up = true;
        if self.chance(0.5) {
            // Otherwise this process has never heard of its guest.
            self.after(
                8.0,
                Happening::Deliver {
                    name: name.clone(),
                    event: Event::Guest(Report::RunnerStarted, crate::event::GuestTimes::default()),
                },
            );
        }
        Some(name)
    }

    pub fn duel_moves(&mut self, next: Move) {
        match next {
            Move::Offer => self.enqueue(0, 1),
            Move::Part(name) => {
                let known = self.process.as_ref().and_then(|process| process.phase(&name));
                match known {
                    Some(Phase::Idle) => self.apply(&name, Event::Drain(DrainReason::Operator)),
                    Some(_) => {}
                    None if self.vms.contains_key(&name) => {
                        self.after(0.5, Happening::Duel(Move::Part(name)));
                    }
                    None => {}
                }
            }
            Move::Judge => self.judge_duel(),
        }
    }

    fn judge_duel(&mut self) {
        let frozen = self.vms.iter().find(|(_, vm)| vm.guest.frozen);
        let unrest = if self.counters.jobs_done == 0 {
            Some("the job is not done".to_owned())
        } else if let Some((name, _)) = frozen {
            Some(format!("{name} stands down"))
        } else {
            self.unrest()
        };
        match unrest {
            None => self.over = true,
            Some(unrest) if (self.now - self.began).num_minutes() >= OVER_AFTER => {
                let detail = format!("after {OVER_AFTER} minutes: {unrest}");
                self.violated(invariant::CONVERGES, detail);
                self.over = true;
            }
            Some(_) => self.after(5.0, Happening::Duel(Move::Judge)),
        }
    }
}
