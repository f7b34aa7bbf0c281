//! The container's own cgroup, as long as the supervisor lives. Where there is
//! none, a container does without: its processes are found by their namespace.

use super::super::spent::Spent;
use super::Supervisor;
use crate::sandbox::cgroup::{self, Group};

impl Supervisor {
    /// Makes it, if it can be made, before anything is started.
    pub(super) fn enter_cgroup(&mut self) {
        self.cgroup = Group::make(&self.request.spec.id);
        self.request.record.cgroup = self.cgroup.as_ref().map(|group| group.path().to_owned());
    }

    /// What was paused when it was killed would not start.
    pub(super) fn thaw(&self) {
        self.cgroup.iter().for_each(|group| drop(group.freeze(false)));
    }

    /// Kills all that is left in it.
    pub(super) fn kill_cgroup(&self) {
        // Linux before 5.14 cannot; who calls this has another way.
        self.cgroup.iter().for_each(|group| drop(group.kill()));
    }

    /// Writes down what the container has taken, while there is somebody who knows.
    pub(super) fn count_up(&mut self) {
        let counted = self.cgroup.as_ref().map(|group| Spent::of_cgroup(group.path()));
        self.request.record.spent = Some(counted.unwrap_or_default().with_children());
    }

    /// Removes it.
    pub(super) fn leave_cgroup(&mut self) {
        self.request.record.cgroup = None;
        if let Some(group) = self.cgroup.take() {
            // What cannot be removed is empty, and goes with the cgroup around it.
            cgroup::remove(group.path(), &self.request.spec.id).ok();
        }
    }
}
