//! What can happen in the world, and to whom.

use super::{duel::Move, orders::Word};
use crate::{
    name::RunnerName,
    pool::Survey,
    port::{Change, Grounds, StandDown, Time},
    runner::{Answer, Effect, Event},
};

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Happening {
    /// Jobs are pushed to a pool.
    JobsArrive { pool: usize },
    /// One of the rare faults strikes.
    Mischief,
    /// The operator does something.
    OperatorActs,
    /// A pool's image changes.
    ShapeChanges,
    /// The process dies.
    Crash,
    /// The process starts.
    Start,
    /// The process stands still.
    Pause,
    /// It goes on.
    Resume { pause: u64 },
    /// All faults end, and no more jobs come.
    Calm,
    /// A side was away until `since`: what is missing must have been asked for, or all of it.
    Returned { since: Time, all: bool },
    /// After the calm: has the world converged?
    Look,

    /// A VM that was accepted is made.
    Built(RunnerName),
    /// A VM whose create had failed appears.
    Appears { name: RunnerName, epoch: u32, late: bool },
    /// A guest's listener connects.
    Online(RunnerName),
    /// A job's message reaches a guest.
    Message { name: RunnerName, job: u64 },
    /// A listener takes its next step with a job.
    Step { name: RunnerName, job: u64 },
    /// A listener's request to acquire a job reaches the forge.
    ForgeAcquires { name: RunnerName, job: u64 },
    /// The answer to it reaches the guest.
    Acquired { name: RunnerName, job: u64, granted: bool },
    /// A job that nobody took up goes back to the queue.
    Requeue { name: RunnerName, job: u64 },
    /// A job ends.
    JobEnds { name: RunnerName, job: u64 },
    /// The runner application has told the forge that its job is over.
    JobTold { name: RunnerName, job: u64 },
    /// A listener learns that its registration is gone.
    Unlistened(RunnerName),
    /// A guest powers off.
    PowerOff(RunnerName),
    /// A guest's poll for orders is answered.
    Fetched { name: RunnerName, number: u64 },
    /// An order reaches a guest.
    Ordered { name: RunnerName, number: u64, word: Word },
    /// A guest whose listener is frozen looks for a job.
    LooksInside { name: RunnerName, number: u64, until: Time },
    /// A guest that was in doubt looks again.
    LooksAgain { name: RunnerName, number: u64, until: Time },
    /// A guest's answer reaches the daemon.
    Said { name: RunnerName, number: u64, word: StandDown },
    /// The daemon waits no longer for it.
    Withdraw { epoch: u32, op: u64, name: RunnerName },
    /// A guest's order to stand down ends by itself.
    Lapse { name: RunnerName, number: u64 },
    /// A deleted VM is gone.
    Erased(RunnerName),
    /// The forge gives up on a job whose runner died.
    Abandon { name: RunnerName, job: u64 },

    /// A call reaches the other side, on these grounds where it has some.
    Perform { epoch: u32, op: u64, name: RunnerName, call: Call, grounds: Option<Grounds> },
    /// An answer reaches the process.
    Answer { epoch: u32, op: u64, name: RunnerName, answer: Answer },
    /// The shell gives an answer up.
    TimeOut { epoch: u32, op: u64, name: RunnerName, effect: Effect },
    /// A report or webhook reaches the process, if one is there.
    Deliver { name: RunnerName, event: Event },
    /// The cloud tells of one VM.
    Changed { change: Change },
    /// A runner's timer.
    Tick { epoch: u32, name: RunnerName, armed: u64 },
    /// The shell begins a sweep.
    SweepBegins { epoch: u32 },
    /// A sweep's listings arrive.
    SweepEnds { epoch: u32, survey: Survey },
    /// The demand source speaks.
    Demand { epoch: u32, pool: usize },
    /// A pool plans although nothing happened.
    Replan { epoch: u32, pool: usize },
    /// The next move of a duel.
    Duel(Move),
}

/// A call on its way to the other side.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    Register,
    Create,
    Order { word: Word },
    Deregister { forced: bool, silent: bool, ahead: bool },
    Delete { forced: bool, silent: bool },
    LookUp { job: Option<u64> },
    Cordon { on: bool },
}
