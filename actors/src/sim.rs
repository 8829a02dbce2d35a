//! A seeded world with faults, in which the production decisions run.
//!
//! The world knows the truth: which VM exists, which guest runs which job, what the forge believes.
//! The brain sees only what listings, answers and reports tell it, late, lost or lying. Time is
//! virtual and one thread does all, so a seed is a whole life of a fleet that can be replayed.
//!
//! The shell here (`sim/shell.rs`) is the smallest mirror of the production shells: event → `next`
//! → effects → deadline → roster → plan. It decides nothing; whatever it does wrong on purpose is a
//! `Mutant`, and shows that the invariants bite.
//!
//! What is promised about `max` over a crash: a VM counts from the moment that this process asked for
//! it or saw it listed. A VM that appears after its absence was proven counts once a listing shows it
//! that began after its runner's end.

use std::fmt;

use crate::port::Time;

mod calls;
mod cloud;
mod duel;
mod evidence;
mod faults;
mod forge;
mod guest;
mod happening;
mod judge;
mod learnt;
mod listener;
mod mutants;
mod orders;
mod outages;
mod pauses;
mod pools;
mod process;
mod recent;
mod shell;
mod sweep;
mod world;

pub use faults::Faults;

/// A shell that breaks one rule on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// Deletes the VM the moment a drain begins, as most peers do.
    DeleteFirst,
    /// Never delivers a tick.
    NoDeadline,
    /// Never delivers an observation.
    NoObservation,
    /// Takes one listing's busy flag for proof.
    TrustBusyFlag,
    /// Creates toward the target without counting draining VMs.
    ForgetMax,
    /// Reads unknown demand as none.
    ZeroOnUnknown,
    /// Forgets a name the moment it is deleted.
    NoTombstone,
    /// Adopts nothing.
    NoAdoption,
    /// Takes every guest that is asked to stand down for one that does.
    BlindShrink,
    /// Takes every guest for one that cannot report.
    DeafToGuests,
    /// Ends the VM of a finished job before its runner application could tell the forge.
    NoLastWords,
    /// Takes a runner that is busy for one whose job has ended.
    ForgetfulOfBusy,
    /// Repeats an effect while its answer is due.
    TwoEffects,
    /// A guest that freezes its listener and does not look for a job.
    FreezesUnlooked,
    /// A guest that looks for a job first and freezes its listener afterwards.
    LooksUnfrozen,
    /// A guest that goes on by itself when nobody confirms that its answer came: it may have come.
    ThawsUnconfirmed,
    /// Gives the order to stand down and deregisters without waiting for the answer.
    DeregistersUnanswered,
    /// Believes lists: what they lack is looked up nowhere.
    BelievesLists,
    /// Takes every word about a runner's name for one about the runner.
    TakesEveryWord,
    /// Drains as of a minute ago, so that quiet need not be newer than the drain.
    OldQuiet,
    /// Knows of no lag after a deletion.
    NoLag,
    /// Takes listings in whatever order they come.
    AnyOrder,
    /// Forgets that a launch has just been made: what was listed before it counts.
    LaunchBlindsNothing,
    /// Takes every start of a job for the first.
    EveryStart,
    /// Takes no listing for a sign that a side is back.
    DeafToSigns,
    /// Sends the crowd where one should find out whether launches work again.
    Crowds,
    /// Plans as if the doors of forge and cloud were always open.
    OpenDoors,
    /// Deregisters a runner that nobody can ask without a cordon, once listings show it quiet.
    NoCordon,
    /// Deregisters a runner the moment it is cordoned.
    NoWatch,
    /// Leaves a runner behind its cordon whose drain is called off.
    NeverUncordons,
    /// Goes on cordoning where jobs come past cordons.
    UnmindedLeaks,
    /// Keeps over a crash neither how late the forge's flag is nor that jobs came past cordons.
    ForgetsHabits,
    /// Does not keep over a crash how long boots take.
    ForgetsBoots,
    /// Tells a guest that stands down neither to go on nor to end.
    NeverSaysMore,
    /// Sends what was decided without a look at whether its grounds still hold.
    GroundsForEver,
    /// Tells nobody that the process stood still.
    SleepsUnnoticed,
    /// Takes what a cloud says has changed for a listing of all that there is.
    TakesRecentForAll,
    /// Takes the cloud's word for it that a VM is deleted which nobody asked to delete.
    BelievesDeletions,
}

/// One broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its name, as in `invariant`.
    pub invariant: &'static str,
    /// When, in virtual time.
    pub at: Time,
    /// What was seen.
    pub detail: String,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What happened in a run.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl std::ops::AddAssign for Counters {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)+
            }
        }

        impl fmt::Display for Counters {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "{:>12} {}", self.$name, stringify!($name).replace('_', " "))?;)+
                Ok(())
            }
        }
    };
}

counters! {
    /// Runs that these counters cover.
    runs,
    /// Happenings in the world.
    steps,
    /// Events applied to runners.
    events,
    /// Launches asked for.
    launches,
    /// Runners adopted.
    adopted,
    /// Drains begun.
    drains,
    /// Drains called off.
    drains_called_off,
    /// Drains called off because of a job.
    drains_met_a_job,
    /// Runners deleted.
    deleted,
    /// Jobs that ran to their end.
    jobs_done,
    /// Jobs about which the forge's flag lied.
    jobs_lied_about,
    /// Jobs killed by an operator's force or their own limit.
    jobs_killed_by_force,
    /// Jobs lost with a VM that the cloud lost.
    jobs_lost_by_the_cloud,
    /// Jobs of guests that cannot answer, lost because the forge's flag lagged.
    jobs_lost_to_lag,
    /// Jobs of guests that report but gave no answer for as long as a drain asks.
    jobs_lost_to_silence,
    /// Calls to the cloud.
    cloud_calls,
    /// Calls to the forge.
    forge_calls,
    /// Runners asked for by number.
    look_ups,
    /// Cordons asked for.
    cordons,
    /// Jobs seen to have come past a cordon.
    jobs_past_cordons,
    /// Orders to guests.
    guest_calls,
    /// Answers that never came.
    answers_given_up,
    /// Listings delivered.
    listings,
    /// Answers delivered of what a cloud says has changed.
    recents,
    /// VMs known to be gone by such an answer.
    ends_told,
    /// Crashes of the process.
    crashes,
    /// Times that the process stood still.
    pauses,
    /// Calls that were not sent because their grounds had ended.
    calls_held_back,
    /// VMs that appeared after their create had failed.
    ghosts,
    /// Minutes from the end of all faults until all was as it should be.
    minutes_to_converge,
}

/// The outcome of one run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What was broken; empty in a good world. At most a few: after the first, a world is spoilt.
    pub violations: Vec<Violation>,
    /// What happened.
    pub counters: Counters,
    /// The last happenings, oldest first; empty unless asked for.
    pub trace: Vec<String>,
}

/// Runs one seed for `hours` virtual hours with faults, and then until the quiet world has converged.
#[must_use]
pub fn run(seed: u64, hours: f64, faults: &Faults) -> Report {
    world::World::new(seed, hours, *faults, None, 0).run()
}

/// Like `run`, and keeps the last `lines` lines of what happened.
#[must_use]
pub fn traced(
    seed: u64,
    hours: f64,
    faults: &Faults,
    mutant: Option<Mutant>,
    lines: usize,
) -> Report {
    world::World::new(seed, hours, *faults, mutant, lines).run()
}

/// One drain against one job, in the smallest world in which they can meet.
#[must_use]
pub fn duel(seed: u64, mutant: Option<Mutant>, lines: usize) -> Report {
    world::World::duel(seed, mutant, lines).run()
}

/// Like `run`, with a shell that breaks one rule.
#[must_use]
pub fn run_mutant(seed: u64, hours: f64, faults: &Faults, mutant: Mutant) -> Report {
    world::World::new(seed, hours, *faults, Some(mutant), 0).run()
}
