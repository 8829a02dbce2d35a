//! The life of one runner: a total, pure function from state and event to state and effects.
//!
//! ```text
//! Creating ─▶ Registering ─▶ Idle ─▶ Busy ─▶ Draining ─▶ Deleted
//!     └────────────┴───────────┴──────────────▲
//! ```
//!
//! The rules that every arm follows:
//!
//! - **Busy is never drained.** A wish to drain is refused while a job runs, and a drain that meets a
//!   job before the registration is gone turns back into busy. Only an operator's force or the job's
//!   own limit kill it, and the transition says so.
//! - **Once busy, only finished**, unless it was busy by hearsay. A runner serves one job, so a listing that
//!   says "idle" after a job was seen is wrong about one of the two; staying busy is the harmless reading.
//! - **A dead VM goes first, a living one last.** A VM that is off or failed frees its place at once;
//!   a living one is asked, deregistered, left to settle, and only then deleted.
//! - **An end that nobody told of is no end yet.** Where only lists speak for it, or a word of the forge that
//!   somebody contradicts, the runner and its job are looked up by number before anything is believed, and
//!   a listing that shows it again takes it back.
//! - **A word counts where it belongs.** The forge's word that bears another registration's number is
//!   about another runner of that name; one without a number is hearsay, which listings outlive; and no
//!   word of the forge ends a job of which the guest says that it runs.
//! - **One life, one start.** That a job has begun counts once; told again, it takes no drain back.
//! - **One effect in flight.** `Known::in_flight` is the gate: nothing is asked while an answer is due.
//! - **Grounds have an age.** An effect holds as long as what it was decided on; a gap in this process's life
//!   ends what was concluded before it.
//! - **Every state but `Deleted` has a deadline**, and a tick before it changes nothing.
//!
//! The alternative, callbacks in an actor that decide as they go, cannot be simulated, and every
//! peer that does it has a bug list about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    event::{DrainReason, Job, Phase},
    port::{ErrorClass, PortError, Stage, Time},
};

pub mod actor;
mod adopt;
mod boot;
mod busy;
mod cordon;
mod doubt;
pub mod drain;
pub mod evidence;
mod grounds;
mod late;
mod signal;
mod waiting;
mod word;

pub use adopt::{adopt, revive};
pub use cordon::Cordon;
pub use doubt::Doubt;
pub use drain::{Drain, Step};
pub use evidence::{Known, Observation, Sighting};
pub use grounds::{FRESH, STANDS};
pub use late::Late;
pub use signal::{Answer, Effect, Event, LaunchFailure, Report};
pub use word::{Hearsay, Told};

/// How long a runner may stay in each state. All configurable per pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From the decision to launch to a running VM.
    pub launch: Duration,
    /// From a running VM to a runner that is online. Also how long an idle runner may be offline.
    pub register: Duration,
    /// How long a runner waits for a job before it is replaced (image and tokens age).
    pub idle: Duration,
    /// How long a job may run before it is killed. GitHub ends a job on a self-hosted runner after
    /// five days (GitHub docs, "usage limits"), so the default lies beyond.
    pub busy: Duration,
    /// How long listings must agree before they prove that a runner is idle, or gone.
    pub idle_proof: Duration,
    /// How long a VM may take to power off by itself before it is deleted.
    pub settle: Duration,
    /// The same while a guest that reports has ended its job and the forge does not know yet: its
    /// runner application tries five times five times, 5 to 15 s apart (actions/runner 2.336.0,
    /// `JobRunner.CompleteJobAsync` and `RunnerService.RetryRequest`), and a job whose end is never
    /// told is a lost one.
    pub last_words: Duration,
    /// How long a drain tries to learn that no job runs before it is given up; also the proof that a
    /// guest needs that used to report and went silent.
    pub ask: Duration,
    /// How long one call to cloud, forge or guest may take (a launch has `launch`).
    pub effect: Duration,
    /// How much older than it says a listing's content may be: both clouds and forges answer from
    /// caches and replicas. What was just made and is not listed, or was just deleted and still is,
    /// proves nothing before.
    pub listing_lag: Duration,
    /// How long a finished runner's registration may take to vanish by itself before it is removed:
    /// listings show it for nothing, a call costs one. Two of them must agree, and the quiet pace is
    /// one a minute, so anything shorter wastes a call a job; longer leaves a dead entry on GitHub's
    /// page.
    pub registration_grace: Duration,
    /// Whether a runner that nobody can ask is cordoned before it is deregistered. Where it is not, or cannot be,
    /// it goes by `idle_alone`.
    pub cordons: bool,
    /// How long a cordoned runner is watched: for the longest lag of the forge's busy flag that is known. In
    /// another fleet's world, with GitHub's flag 25 to 60 s late, 12 of 40 jobs were lost to shrinks.
    pub watch: Duration,
    /// How long listings must have shown a runner idle that goes without a cordon: longer than any lag.
    pub idle_alone: Duration,
    /// Whether the pool's guests report home and answer orders. Not a time, but what decides which
    /// times apply: such a guest is asked before it is drained, also by a process that has not heard
    /// of it yet. A guest that has reported is asked in any case.
    pub guests_report: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            launch: Duration::from_secs(10 * 60),
            register: Duration::from_secs(15 * 60),
            idle: Duration::from_secs(24 * 3600),
            busy: Duration::from_secs(121 * 3600),
            idle_proof: Duration::from_secs(60),
            settle: Duration::from_secs(30),
            last_words: Duration::from_secs(6 * 60),
            ask: Duration::from_secs(15 * 60),
            effect: Duration::from_secs(120),
            listing_lag: LISTING_LAG,
            registration_grace: Duration::from_secs(150),
            cordons: true,
            watch: Duration::from_secs(90),
            idle_alone: Duration::from_secs(10 * 60),
            guests_report: false,
        }
    }
}

/// An effect whose answer is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// Which.
    pub effect: Effect,
    /// When its answer is given up.
    pub until: Time,
}

/// The state of one runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// The VM is asked for and being made.
    Creating {
        /// When the launch was decided.
        since: Time,
        /// A drain that was asked for while the launch was in flight.
        wish: Option<DrainReason>,
        /// What is known from outside.
        known: Known,
    },
    /// The VM runs; the runner is not online yet.
    Registering {
        /// When the VM began to run.
        since: Time,
        /// What is known from outside.
        known: Known,
    },
    /// Online, without a job.
    Idle {
        /// When it came online.
        since: Time,
        /// What is known from outside.
        known: Known,
    },
    /// Runs its job.
    Busy {
        /// When the job began, as far as known.
        since: Time,
        /// The job.
        job: Job,
        /// What is known from outside.
        known: Known,
    },
    /// On its way out.
    Draining {
        /// When the drain began.
        since: Time,
        /// Where it stands.
        drain: Drain,
        /// What is known from outside.
        known: Known,
    },
    /// Nothing is left. Absorbs every event.
    Deleted {
        /// When.
        since: Time,
        /// Why it was drained.
        reason: DrainReason,
    },
}

/// A state and what is to be done.
pub type Next = (State, Vec<Effect>);

/// The default of `Limits::listing_lag`, and how long a dead name stays dead whatever is listed.
pub(crate) const LISTING_LAG: Duration = Duration::from_secs(30);

/// Grace on top of an effect's limit before the brain stops waiting for the shell's answer. The
/// shell answers at the limit itself; only a broken shell is slower.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

impl State {
    /// The first state of a new runner.
    #[must_use]
    pub fn start(now: Time, limits: &Limits) -> Next {
        let mut known = Known::default();
        known.fly(Effect::Launch, now, limits);
        (Self::Creating { since: now, wish: None, known }, vec![Effect::Launch])
    }

    /// What follows from an event. Total: every event has a defined meaning in every state.
    #[must_use]
    pub fn next(mut self, event: Event, now: Time, limits: &Limits) -> Next {
        let (mut hearsay, mut replay) = (None, false);
        if let Some(known) = self.known_mut() {
            if known.is_foreign(&event) {
                return (self, Vec::new());
            }
            hearsay = known.is_hearsay(&event).then(|| Hearsay { number: event.number() });
            replay = known.is_replay(&event);
            known.note(&event, now, limits);
        }
        let was = self.phase();
        let (mut state, mut effects) = match self {
            Self::Creating { .. } | Self::Registering { .. } | Self::Idle { .. } => {
                waiting::next(self, event, now, limits)
            }
            Self::Busy { since, job, known } => busy::next(since, job, known, event, now, limits),
            Self::Draining { since, drain, known } => {
                drain::next(since, drain, known, (event, replay), now, limits)
            }
            // Deleted absorbs: whatever turns up under this name later is an orphan's matter.
            Self::Deleted { .. } => (self, Vec::new()),
        };
        if let Self::Busy { known, .. } = &mut state
            && was != Phase::Busy
        {
            // Whoever has begun a job has a VM: listings that lack it prove that anew.
            known.vm_absent.break_off();
            if hearsay.is_some() {
                // Only what is listed from now on can bear it out, or speak against it.
                known.hearsay = hearsay;
                known.quiet.break_off();
            }
        }
        let (mut state, uncordon) = state.uncordon(now, limits);
        effects.extend(uncordon);
        if state.phase() < Phase::Draining {
            let doubtful = state.is_doubtful(limits);
            let known = state.known_mut();
            effects.extend(known.and_then(|known| known.look_into(doubtful, now, limits)));
        }
        (state, effects)
    }

    /// When a tick changes something: `Some` for every state but `Deleted`.
    #[must_use]
    pub fn deadline(&self, limits: &Limits) -> Option<Time> {
        let (own, known) = match self {
            Self::Creating { since, known, .. } => {
                (known.limit_after_gap(*since + limits.launch, limits), known)
            }
            Self::Registering { since, known } => {
                (known.limit_after_gap(*since + limits.register, limits), known)
            }
            Self::Idle { since, known } => {
                (known.limit_after_gap(*since + limits.idle, limits), known)
            }
            Self::Busy { since, known, .. } => (*since + limits.busy, known),
            // Nothing is left of it that an answer could tell of.
            Self::Draining { drain, .. } if drain.vm_gone && drain.registration_gone => {
                return Some(drain.due);
            }
            Self::Draining { drain, known, .. } => (drain.due, known),
            Self::Deleted { .. } => return None,
        };
        let own = self.look_up_due().map_or(own, |due| own.min(due));
        let own = self.uncordon_due().map_or(own, |due| own.min(due));
        // While an answer is due nothing else may be asked, so an earlier tick would be idle.
        Some(known.in_flight.map_or(own, |flight| match self {
            // Its own limit does not wait for an answer that may be a stray one.
            Self::Busy { .. } => own.min(flight.until + ANSWER_GRACE),
            _ => flight.until + ANSWER_GRACE,
        }))
    }

    /// The state's name.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Self::Creating { .. } => Phase::Creating,
            Self::Registering { .. } => Phase::Registering,
            Self::Idle { .. } => Phase::Idle,
            Self::Busy { .. } => Phase::Busy,
            Self::Draining { .. } => Phase::Draining,
            Self::Deleted { .. } => Phase::Deleted,
        }
    }

    /// Since when it is in this state.
    #[must_use]
    pub fn since(&self) -> Time {
        match self {
            Self::Creating { since, .. }
            | Self::Registering { since, .. }
            | Self::Idle { since, .. }
            | Self::Busy { since, .. }
            | Self::Draining { since, .. }
            | Self::Deleted { since, .. } => *since,
        }
    }

    /// What is known of it from outside; nothing of a deleted one.
    #[must_use]
    pub fn known(&self) -> Option<&Known> {
        match self {
            Self::Creating { known, .. }
            | Self::Registering { known, .. }
            | Self::Idle { known, .. }
            | Self::Busy { known, .. }
            | Self::Draining { known, .. } => Some(known),
            Self::Deleted { .. } => None,
        }
    }

    pub(crate) fn known_mut(&mut self) -> Option<&mut Known> {
        match self {
            Self::Creating { known, .. }
            | Self::Registering { known, .. }
            | Self::Idle { known, .. }
            | Self::Busy { known, .. }
            | Self::Draining { known, .. } => Some(known),
            Self::Deleted { .. } => None,
        }
    }

    /// Why it is on its way out or gone.
    #[must_use]
    pub fn reason(&self) -> Option<&DrainReason> {
        match self {
            Self::Draining { drain, .. } => Some(&drain.reason),
            Self::Deleted { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// Its job, where it has or had one.
    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        match self {
            Self::Busy { job, .. } => Some(job),
            Self::Draining { drain, .. } => drain.job.as_ref(),
            _ => None,
        }
    }

    /// What its launch failed with, and where, while nobody can say yet whether it left a VM: it takes a place,
    /// and is nobody to count on.
    #[must_use]
    pub fn in_doubt(&self) -> Option<(Stage, &PortError)> {
        match self {
            Self::Creating { known, .. } if known.vm.is_none() && known.in_flight.is_none() => {
                known.failed_at.zip(known.last_error.as_ref())
            }
            _ => None,
        }
    }

    /// Whether what this event tells was so before: its cloud showed this process that it is there, and this is
    /// the first that the forge shows of it.
    #[must_use]
    pub fn is_found_by(&self, event: &Event) -> bool {
        let Event::Observed(seen) = event else { return false };
        matches!(seen.registration, Sighting::Seen(_)) && self.is_found()
    }

    /// Whether this process found it, and has heard nothing of it at the forge yet.
    pub(crate) fn is_found(&self) -> bool {
        let unheard = |known: &Known| known.adopted && known.registration_heard.is_none();
        self.known().is_some_and(unheard)
    }

    /// What of it the pool reckons with besides its phase.
    pub(crate) fn weighs(&self) -> impl PartialEq + use<'_> {
        let known = self.known();
        let known = known.map(|known| (known.vm.is_some(), &known.shape, &known.last_error));
        (self.holds_vm(), self.in_doubt().is_some(), self.reason(), known)
    }

    /// Whether a VM may exist for it, and so a place below `max` is taken.
    #[must_use]
    pub fn holds_vm(&self) -> bool {
        match self {
            Self::Draining { drain, .. } => !drain.vm_gone,
            Self::Deleted { .. } => false,
            _ => true,
        }
    }
}

impl Known {
    /// Marks an effect as in flight.
    fn fly(&mut self, effect: Effect, now: Time, limits: &Limits) {
        self.in_flight = Some(Flight { effect, until: now + effect.limit(limits) });
    }

    /// Facts that hold whatever the state makes of the event.
    fn note(&mut self, event: &Event, now: Time, limits: &Limits) {
        // Whether a word is told again is known before it is heard.
        self.note_cordon(event, now, limits);
        self.note_late(event, now);
        self.hear(event);
        match event {
            Event::Guest(report, times) => {
                self.reports = true;
                self.was_online |= *report == Report::RunnerStarted;
                self.times.merge(*times);
                if !matches!(report, Report::Stopped(_)) {
                    // Whoever speaks has a VM, whatever listings lack.
                    self.vm_absent.break_off();
                }
                if let Report::Version(version) = report {
                    self.version = Some(version.clone());
                }
            }
            Event::Answered(answer) => {
                if self.in_flight.is_some_and(|flight| flight.effect == answer.effect()) {
                    self.in_flight = None;
                }
                match answer {
                    Answer::Launched { vm, registration } => {
                        self.vm = Some(vm.clone());
                        self.number_is(*registration);
                        self.blind(now + limits.listing_lag);
                    }
                    Answer::LaunchFailed(failure) => {
                        if let Some(number) = self.registration.or(failure.registration) {
                            self.number_is(number);
                        }
                        self.last_error = Some(failure.error.clone());
                        self.failed_at = Some(failure.stage);
                        self.blind(now + limits.listing_lag);
                    }
                    Answer::LookedUp(Err(error)) => {
                        self.last_error = Some(error.clone());
                        self.look_up_failed(error, now);
                    }
                    Answer::StoodDown(Err(error))
                    | Answer::Deregistered(Err(error))
                    | Answer::Cordoned(Err(error))
                    | Answer::Uncordoned(Err(error))
                    | Answer::VmDeleted(Err(error)) => self.last_error = Some(error.clone()),
                    Answer::StoodDown(Ok(_))
                    | Answer::Cordoned(Ok(()))
                    | Answer::Uncordoned(Ok(()))
                    | Answer::Deregistered(Ok(()))
                    | Answer::VmDeleted(Ok(_)) => {}
                    Answer::LookedUp(Ok(found)) => {
                        self.was_online |=
                            found.registration.as_ref().is_some_and(|one| one.online);
                        self.look_up_answered(now);
                    }
                }
            }
            Event::Tick => {
                // A shell that never answers must not hold the gate shut for ever.
                if self.in_flight.is_some_and(|flight| now >= flight.until + ANSWER_GRACE) {
                    self.in_flight = None;
                }
            }
            Event::Woke(at) => self.wake(*at, now),
            Event::Observed(_)
            | Event::VmEnded { .. }
            | Event::JobStarted { .. }
            | Event::JobCompleted { .. }
            | Event::Drain(_)
            | Event::Force => {}
        }
    }
}

/// The class under which a launch that left no VM counts for its pool. One whose VM a listing showed in
/// error has failed with that before lists could prove the VM gone.
fn failure_class(known: &Known) -> ErrorClass {
    known.last_error.as_ref().map_or(ErrorClass::Transient, |error| error.class)
}
