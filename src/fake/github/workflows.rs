//! The workflows' side: jobs are queued, approved and cancelled.

use std::time::Duration;

use runner_fleet_actors::name::Scope;

use super::{FakeGithub, JobId, JobOrder};

impl FakeGithub {
    /// Queues a job that runs for `runs_for` on a runner of exactly that scope whose labels include
    /// all of the job's. Labels are compared without regard to case.
    pub fn queue_job(&self, scope: &Scope, labels: &[String], runs_for: Duration) -> JobId {
        self.queue(JobOrder::new(scope, labels, runs_for))
    }

    /// Queues a job as its workflow wants it.
    pub fn queue(&self, order: JobOrder) -> JobId {
        let queued = self.shared.world().queue(std::slice::from_ref(&order));
        queued.first().copied().unwrap_or(JobId(0))
    }

    /// Queues several jobs of one run.
    pub fn queue_jobs_of_run(&self, orders: &[JobOrder]) -> Vec<JobId> {
        self.shared.world().queue(orders)
    }

    /// Approves a job that was queued as blocked: from now on it waits for a runner. `false` where
    /// nothing holds it.
    pub fn approve_job(&self, job: JobId) -> bool {
        self.shared.world().approve(job)
    }

    /// Cancels a job that no runner has acquired. `false` where it runs or is over.
    pub fn cancel_job(&self, job: JobId) -> bool {
        self.shared.world().cancel(job)
    }
}
