//! What must hold at every step, each with a name, as pure predicates.
//!
//! The simulation checks them after every event, production counts them: the shells call the same
//! functions and report what is `Broken` as `FleetEvent::InvariantBroken`. What only an all-seeing
//! world can judge (whether a job was lost, whether a VM leaked) has its name here and its check in
//! the simulation. The alternative, assertions in the code, would take a runner down in order to say
//! that something was odd about it.

use std::time::Duration;

use crate::{
    demand::Sure,
    event::Phase,
    pool::{self, Plan, Roster},
    port::Time,
    runner::{Effect, Event, Limits, State},
    scaler::{self, Target},
};

/// A pool never asks for a VM beyond its `max`, the draining ones counted.
pub const MAX: &str = "never create above max";
/// A runner with a job is neither deregistered nor deleted while its guest or the forge says busy;
/// an operator's force and the job's own limit excepted.
pub const BUSY: &str = "busy is left alone";
/// Where guests answer, no job is lost to a drain, however the forge's busy flag lies.
pub const NO_JOB_LOST: &str = "no job is lost where guests report";
/// Where guests cannot answer, a drain deregisters only what listings have shown quiet for as long
/// as the proof takes, so that a loss is bounded by the lag of the forge's flag.
pub const PROVEN_QUIET: &str = "a mute runner is proven quiet first";
/// Nothing changes a deleted runner.
pub const ABSORBS: &str = "deleted absorbs";
/// A runner of which nothing is left does not come back.
pub const STAYS_DEAD: &str = "the dead stay dead";
/// When nothing changes any more, every pool comes to its target, nothing is left over, and nothing
/// foreign was touched.
pub const CONVERGES: &str = "a quiet world converges";
/// Every state but deleted has a deadline in the bounded future.
pub const DEADLINE: &str = "every state has a deadline";
/// Ticks make progress: time passes between them.
pub const PROGRESS: &str = "ticks make progress";
/// One runner has at most one effect in flight.
pub const ONE_EFFECT: &str = "one effect in flight";
/// A state changes along the arrows of a life only.
pub const ARROWS: &str = "states change along the arrows";
/// A plan stays within the policy and drains nobody who has a job or goes already.
pub const PLAN: &str = "a plan keeps to its policy";
/// Unknown demand neither lowers a target nor shrinks a pool.
pub const UNKNOWN_HOLDS: &str = "unknown demand holds";

/// A guest that stands down hears what comes next as long as it can be reached at all.
pub const RELEASED: &str = "a guest that stands down is told what comes next";

/// Listings that lack a runner at work, and words about it without its number, do not end it.
pub const UNLISTED: &str = "a runner at work ends by no list's word alone";
/// A word of the forge that bears another runner's number changes nothing.
pub const FOREIGN: &str = "a word about another runner changes nothing";
/// A runner whose end is proven is not taken for one at work because its guest says once more that its job
/// has begun.
pub const ONE_START: &str = "a start told again undoes no end";
/// What a listing tells counts in the order in which listings began.
pub const IN_ORDER: &str = "an older listing is no news";
/// A listing tells nothing of what was made or deleted a moment before it began: clouds and forges answer
/// from caches.
pub const LAG: &str = "a listing is believed once it can know";

/// A runner that nobody can ask is cordoned and watched before it goes: a flag that comes later than its job, and
/// no later than that, hides none.
pub const CORDONED: &str = "no job is lost to a flag that is late";
/// Whoever waits for jobs is kept from none, by whomever it was cordoned.
pub const USEFUL: &str = "whoever waits for jobs can have them";
/// Where jobs come past cordons, only runners go that were idle for longer than any lag.
pub const MINDED: &str = "a cordon that does not hold is not relied on";
/// A cordoned runner is watched for the longest lag that its scope has ever shown, whichever process saw it.
pub const WATCHED: &str = "a watch lasts as long as the longest lag that was shown";
/// Who takes far longer to come online than all that ever came, whichever process saw them, holds nobody's place.
pub const SUPPLY: &str = "who takes far too long is not counted on";
/// Where launches fail, a handful of them a minute finds out when that is over, whatever the world does.
pub const FEW_FAILURES: &str = "only a handful of launches fails";
/// A runner is made when its launch may go: what has to wait is not made, refused and made again.
pub const ITS_TURN: &str = "a runner is made when its launch may go";
/// After a time in which the process stood still, nothing is sent that was decided before it, and nothing is
/// made or removed before somebody looked.
pub const LOOKS_FIRST: &str = "after a gap the world is looked at first";
/// A VM of which its cloud says that it is deleted is gone for whoever asked for its deletion, and for nobody else.
pub const ENDED: &str = "a VM counts as gone when it is";
/// When a side that was away is back, what is missing is asked for at once.
pub const RECOVERS: &str = "a hold ends with its cause";

/// All names, in the order of this page.
pub const ALL: [&str; 29] = [
    MAX,
    BUSY,
    NO_JOB_LOST,
    PROVEN_QUIET,
    ABSORBS,
    STAYS_DEAD,
    CONVERGES,
    DEADLINE,
    PROGRESS,
    ONE_EFFECT,
    ARROWS,
    PLAN,
    UNKNOWN_HOLDS,
    RELEASED,
    UNLISTED,
    FOREIGN,
    ONE_START,
    IN_ORDER,
    LAG,
    CORDONED,
    MINDED,
    WATCHED,
    SUPPLY,
    USEFUL,
    FEW_FAILURES,
    ITS_TURN,
    LOOKS_FIRST,
    ENDED,
    RECOVERS,
];

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its name.
    pub name: &'static str,
    /// What was seen.
    pub seen: String,
}

fn hold(holds: bool, name: &'static str, seen: impl FnOnce() -> String) -> Option<Broken> {
    (!holds).then(|| Broken { name, seen: seen() })
}

/// What must be remembered of a state to judge the step away from it; cheaper than the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    phase: Phase,
    since: Time,
    still_in_flight: Option<Effect>,
    hearsay: bool,
}

impl Before {
    /// Remembers `state`, to which `event` is about to happen.
    #[must_use]
    pub fn of(state: &State, event: &Event, now: Time) -> Self {
        let flight = state.known().and_then(|known| known.in_flight);
        let still_in_flight = flight.filter(|flight| match event {
            Event::Answered(answer) => answer.effect() != flight.effect,
            Event::Tick => now < flight.until,
            _ => true,
        });
        Self {
            phase: state.phase(),
            since: state.since(),
            still_in_flight: still_in_flight.map(|flight| flight.effect),
            hearsay: state.known().is_some_and(|known| known.hearsay.is_some()),
        }
    }

    /// What is broken about the step to `after` with `effects`.
    #[must_use]
    pub fn judge(
        &self,
        after: &State,
        effects: &[Effect],
        limits: &Limits,
        now: Time,
    ) -> Vec<Broken> {
        [
            deleted_absorbs(self, after, effects),
            arrow(self.phase, after.phase(), self.hearsay),
            one_effect(self.still_in_flight, after, effects),
            deadline(after, limits, now),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn deleted_absorbs(before: &Before, after: &State, effects: &[Effect]) -> Option<Broken> {
    let same =
        after.phase() == Phase::Deleted && after.since() == before.since && effects.is_empty();
    hold(before.phase != Phase::Deleted || same, ABSORBS, || {
        format!("a deleted runner became {} with {effects:?}", after.phase())
    })
}

/// Whether a state may follow another: forward with skips, and out of draining only where a drain is
/// called off or a word of a job was about somebody else's (`hearsay`: nothing had shown it to be about this
/// runner). Deleted is reached from draining alone.
#[must_use]
pub fn arrow(from: Phase, to: Phase, hearsay: bool) -> Option<Broken> {
    let allowed = match (from, to) {
        (a, b) if a == b => true,
        // Nobody bore it out.
        (Phase::Busy, Phase::Idle) => hearsay,
        (Phase::Draining, Phase::Registering | Phase::Idle | Phase::Busy | Phase::Deleted) => true,
        (Phase::Draining | Phase::Deleted, _) | (_, Phase::Deleted) => false,
        (a, b) => a < b,
    };
    hold(allowed, ARROWS, || format!("{from} became {to}"))
}

fn one_effect(still: Option<Effect>, after: &State, effects: &[Effect]) -> Option<Broken> {
    // A word without an answer is never in flight.
    let asked: Vec<_> = effects.iter().filter(|effect| effect.has_answer()).collect();
    let noted = after.known().and_then(|known| known.in_flight).map(|flight| flight.effect);
    let holds = match asked.as_slice() {
        [] => true,
        [one] => still.is_none() && noted == Some(**one),
        _ => false,
    };
    hold(holds, ONE_EFFECT, || format!("{effects:?} asked for with {still:?} in flight"))
}

/// Slack on top of the longest limit: backoff and rate limits move a deadline out.
const DEADLINE_SLACK: Duration = Duration::from_secs(24 * 3600);

fn deadline(after: &State, limits: &Limits, now: Time) -> Option<Broken> {
    let longest = [limits.launch, limits.register, limits.idle, limits.busy, limits.ask]
        .into_iter()
        .max()
        .unwrap_or_default();
    let holds = match after.deadline(limits) {
        None => after.phase() == Phase::Deleted,
        Some(at) => after.phase() != Phase::Deleted && at <= now + longest + DEADLINE_SLACK,
    };
    hold(holds, DEADLINE, || format!("{} has deadline {:?}", after.phase(), after.deadline(limits)))
}

/// Whether `vms` that exist or are being made, with `create` more of them asked for, keep to `max`.
#[must_use]
pub fn within_max(vms: u32, create: u32, max: u32) -> Option<Broken> {
    hold(create == 0 || vms.saturating_add(create) <= max, MAX, || {
        format!("{create} more beside {vms} VMs of at most {max}")
    })
}

/// What is broken about a plan.
#[must_use]
pub fn plan(plan: &Plan, roster: &Roster, policy: &pool::Policy) -> Vec<Broken> {
    let not_idle = plan
        .drain
        .iter()
        .find(|(name, _)| roster.get(name).is_none_or(|member| member.state.phase() > Phase::Idle));
    [
        within_max(roster.vms(), plan.create, policy.max),
        hold(not_idle.is_none(), PLAN, || {
            format!("{not_idle:?} has a job or goes, and was to drain")
        }),
        hold(!policy.retiring || plan.create == 0, PLAN, || {
            format!("{} created in a pool that goes", plan.create)
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What is broken about a new target: demand that is not wholly known must not let anybody be drained,
/// and where a source is silent (`None` = all are) the number must not fall below what policy allows.
#[must_use]
pub fn target(
    known: Option<Sure>,
    last: &Target,
    new: &Target,
    policy: &scaler::Policy,
) -> Option<Broken> {
    let floor = match known {
        Some(Sure::Exact) => return None,
        Some(Sure::AtLeast) => 0,
        None | Some(Sure::Silent) => last.runners.min(policy.max),
    };
    let holds = policy.fixed.is_some() || (new.unknown && new.runners >= floor);
    hold(holds, UNKNOWN_HOLDS, || {
        format!("target {} became {new:?} while demand is {known:?}", last.runners)
    })
}
