//! The workflows' side: jobs are queued, approved, cancelled.

use super::{Action, JobId, JobOrder, JobRecord, World, job::JobState};

impl World {
    /// Queues the jobs of one run.
    pub(crate) fn queue(&mut self, orders: &[JobOrder]) -> Vec<JobId> {
        let mut run = None;
        let queued = orders.iter().map(|order| {
            let id = self.next_id();
            // Runs and jobs are counted apart at GitHub, so equal numbers would hide a mix-up.
            let run = *run.get_or_insert(9_000_000_000 + id);
            let state = JobState::new(id, run, order);
            self.tell(if order.blocked { Action::Waiting } else { Action::Queued }, &state.record);
            self.jobs.insert(id, state);
            self.serve_job(id);
            JobId(id)
        });
        queued.collect()
    }

    /// Somebody approves a job that a rule holds. `false` where none does.
    pub(crate) fn approve(&mut self, job: JobId) -> bool {
        let held = self.jobs.get_mut(&job.0).filter(|state| state.record.blocked);
        let Some(state) = held else { return false };
        state.record.blocked = false;
        state.record.approved_at = Some(chrono::Utc::now());
        let record = state.record.clone();
        self.tell(Action::Queued, &record);
        self.serve_job(job.0);
        true
    }

    /// Somebody cancels a job that no runner has acquired. `false` where it is not there or runs.
    pub(crate) fn cancel(&mut self, job: JobId) -> bool {
        if self.jobs.get(&job.0).is_none_or(JobState::is_acquired) {
            return false;
        }
        let Some(mut state) = self.jobs.remove(&job.0) else { return false };
        if let Some(one) = state.runner.and_then(|runner| self.registrations.get_mut(&runner)) {
            one.job = None;
        }
        let runner = state.runner;
        state.unassign();
        state.record.completed_at = Some(chrono::Utc::now());
        state.record.result = Some("cancelled".to_owned());
        self.stats.cancelled += 1;
        self.bury(state.record);
        if let Some(runner) = runner {
            self.serve_runner(runner);
        }
        true
    }

    /// A job of that repository, open or over, and the name of its runner's group.
    pub(crate) fn job(&self, repository: &str, id: u64) -> Option<(&JobRecord, Option<String>)> {
        let open = self.jobs.get(&id).map(|state| &state.record);
        let record = open.or_else(|| self.ended.get(&id))?;
        let here = record.repository.eq_ignore_ascii_case(repository);
        here.then(|| (record, self.group_name(record.runner_group)))
    }
}
