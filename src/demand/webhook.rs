//! Webhooks: GitHub says at once that a job waits, runs or is over.
//!
//! The fastest source, and the one that can lose: GitHub posts each delivery once, waits ten seconds
//! for the answer, and never tries again by itself. So three rules. *A delivery is answered for only
//! once it is on the disk* ([`door`]): whatever happens to this process, its jobs are known. *What was
//! lost is asked for again* ([`repair`]): failed deliveries by GitHub's own log of them, and jobs that
//! stay too long as they are by name, so neither a phantom nor a forgotten job lasts. *What cannot be
//! proven is not read*: without a good signature nothing of a body is parsed.
//!
//! Deliveries come twice, late and out of order; what a job is then is decided by rank
//! ([`runner_fleet_actors::job`]), and every delivery is known by its id.
//!
//! The alternative, polling every repository for its queued jobs, costs a call a repository and
//! minute, and is late by half of that.

pub mod door;
mod faults;
pub mod hooks;
mod lenient;
pub mod payload;
pub mod repair;
pub mod signature;
pub mod source;
mod unsigned;
