//! Demand in the daemon: what is kept on disk, and who joins it.
//!
//! The sources are [`webhook`], [`scale_set`], [`queue`], [`planner`] and [`guests`]. They share the
//! [`ledger`], where news of jobs are kept before anybody is told that they were taken, and the
//! [`desk`], where news become the demand of pools; [`own`] records the jobs of pools whose sources name none.

use runner_fleet_actors::{
    event::{Job, JobEnd},
    name::{RegistrationId, RunnerName},
};

pub mod desk;
pub mod guests;
pub mod ledger;
pub mod own;
pub mod planner;
pub mod queue;
pub mod scale_set;
pub mod webhook;

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
