//! Who may have which job: labels and groups, and what changes them.

use runner_fleet_actors::name::Scope;

use super::{World, job::JobState, registration::Registration, set_of};

impl World {
    /// Replaces the custom labels of a runner, which are all that a JIT runner has.
    pub(crate) fn set_labels(&mut self, scope: &Scope, id: u64, labels: &[String]) {
        let Some(one) = self.registrations.get_mut(&id).filter(|one| one.scope == *scope) else {
            return;
        };
        one.labels = labels.to_vec();
        one.set = set_of(labels);
        self.serve_runner(id);
    }

    /// Moves a runner to another group. Says whether there are such.
    pub(crate) fn move_to(&mut self, scope: &Scope, id: u64, group: u64) -> bool {
        let there = self.groups.iter().any(|one| one.id == group);
        let one = self.registrations.get_mut(&id).filter(|one| there && one.scope == *scope);
        let Some(one) = one else { return false };
        one.group = group;
        self.serve_runner(id);
        true
    }

    /// Whether a runner may have a job now.
    pub(super) fn takes(&self, runner: &Registration, job: &JobState) -> bool {
        let closed = self.groups.iter().any(|group| group.id == runner.group && group.closed);
        let set = if self.forgets_changes { &runner.first_set } else { &runner.set };
        runner.session.as_ref().is_some_and(|session| session.online && !session.deaf)
            && runner.job.is_none()
            && !runner.used
            && !job.record.blocked
            && (!closed || self.forgets_changes)
            && runner.scope == job.record.scope
            && runner.set_of == job.given
            && job.offered.is_none()
            && job.labels.is_subset(set)
    }
}
