//! Demand in the daemon: what is kept on disk, and who joins it.
//!
//! The sources themselves live beside GitHub's client, one file each. Here is what they share: the
//! [`ledger`], where news of jobs are kept before anybody is told that they were taken, and the
//! [`desk`], where news become the demand of pools; [`mix`] joins the sources of each pool.

use runner_fleet_actors::{
    event::{Job, JobEnd},
    name::RunnerName,
};

pub mod desk;
pub mod ledger;
pub mod mix;

/// Who is told that a runner of this fleet has begun or ended a job, by the forge's own word. Must not
/// block; what is said of a runner that is not there is dropped.
pub trait JobEars: Send + Sync {
    /// It has begun a job.
    fn job_started(&self, runner: &RunnerName, job: Job);

    /// Its job is over.
    fn job_ended(&self, runner: &RunnerName, end: JobEnd);
}
