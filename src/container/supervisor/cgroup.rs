//! The container's own cgroup, as long as the supervisor lives. Where there is
//! none, a container does without: its processes are found by their namespace.

use super::super::spent::Spent;
use super::Supervisor;
use super::clients::FIRST;
use crate::container::control::FromSupervisor;
use crate::container::record::Record;
use crate::error::Result;
use crate::failpoint;
use crate::sandbox::cgroup::{self, tree};

impl Supervisor {
    /// Makes it before anything is started, where the plan says. A failure is
    /// that one must be had and cannot.
    pub(super) fn enter_cgroup(&mut self) -> Result<()> {
        let request = &self.request;
        let mut reasons = Vec::new();
        let group = tree::make(
            &request.spec.placement,
            &request.scoped,
            &request.spec.id,
            &request.spec.limits,
            &mut |path| {
                // It is found again by this, should the supervisor be killed.
                let cgroup = Some(path.to_owned());
                Record { unfinished: request.is_new, cgroup, ..request.record.clone() }.save(&request.directory)?;
                failpoint::reach(&self.paths, "supervisor: cgroup named");
                Ok(())
            },
            &mut |reason| reasons.push(reason),
        )?;
        failpoint::reach(&self.paths, "supervisor: cgroup made");
        self.request.record.cgroup = group.as_ref().map(|group| group.path().to_owned());
        self.cgroup = group;
        if self.request.debug {
            for reason in reasons {
                let notice = format!("no cgroup {reason}");
                self.clients.tell(FIRST, &FromSupervisor::Notice(notice), &[]);
            }
        }
        self.steps.mark("make the cgroup");
        Ok(())
    }

    /// Makes it as it was before the program was started.
    pub(super) fn renew_cgroup(&mut self) -> Result<()> {
        self.cgroup.as_mut().map_or(Ok(()), cgroup::Group::renew)
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
