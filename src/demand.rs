//! Demand in the daemon: what is kept on disk, and who joins it.
//!
//! Each source is a folder and a line in [`SOURCES`]; what one is to the daemon is told by the traits in
//! [`source`]. They share the [`ledger`], where news of jobs are kept before anybody is told that they were
//! taken, and the [`desk`], where news become the demand of pools; [`own`] records the jobs of pools whose
//! sources name none.

use runner_fleet_actors::{
    event::{Job, JobEnd},
    job::Serves,
    name::{RegistrationId, RunnerName},
};

use self::source::Kind;
use crate::config::Pool;

pub mod desk;
pub mod guests;
pub mod ledger;
pub mod own;
pub mod planner;
pub mod queue;
pub mod scale_set;
pub mod source;
pub mod webhook;

/// Every source of demand that there is, in the order in which they are shown.
pub const SOURCES: &[&dyn Kind] = &[
    &webhook::source::OfWebhooks,
    &scale_set::source::OfScaleSets,
    &queue::source::OfQueues,
    &planner::source::OfPlanner,
    &guests::source::OfGuests,
];

/// What a pool serves, to every source of these kinds.
#[must_use]
pub fn served(kinds: &[&dyn Kind], pool: &Pool) -> Serves {
    let own = Serves {
        repositories: pool.repositories.clone(),
        group: pool.group.clone(),
        priority: pool.priority,
        ..Serves::new(pool.name.clone(), pool.scope.clone(), pool.labels.clone())
    };
    kinds.iter().fold(own, |serves, kind| kind.serves(pool, serves))
}

/// Who is told that a runner of this fleet has begun or ended a job, by the forge's own word. Must not
/// block; what is said of a runner that is not there is dropped.
///
/// `registration` is the number that the word names its runner by. Names are unique within a scope only:
/// a word with another number than the runner's own changes nothing. `None` where a source has none, or
/// where its numbers are of another kind than the forge's; such a word is hearsay, which listings outlive.
pub trait JobEars: Send + Sync {
    /// It has begun a job.
    fn job_started(&self, runner: &RunnerName, registration: Option<RegistrationId>, job: Job);

    /// Its job is over.
    fn job_ended(&self, runner: &RunnerName, registration: Option<RegistrationId>, end: JobEnd);

    /// The number of a runner's registration, as far as the fleet knows it now.
    fn registration(&self, runner: &RunnerName) -> Option<RegistrationId> {
        let _unknown = runner;
        None
    }
}
