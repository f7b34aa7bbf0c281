//! Other limits for a container that lives: all of them, or none.

use super::super::control::LimitsChange;
use super::Supervisor;
use crate::error::{Context, Failure, Result};
use crate::limits;
use crate::sandbox::cgroup::{self, Undo};
use crate::sandbox::enforcement::Substitutes;

/// What was so before.
pub(super) struct Before {
    cgroup: Undo,
    request: String,
    substitutes: Substitutes,
}

impl Supervisor {
    /// Writes them into the cgroup, then request.json.
    pub(super) fn change_limits(&mut self, change: &LimitsChange) -> Result<Before> {
        let path = self.request.directory.join("request.json");
        let doing = || format!("read {}", path.display());
        let bytes = limits::read_file(&path, limits::RECORD_BYTES_MAX).doing(doing)?;
        if bytes != change.before.as_bytes() {
            return Err(Failure::user("somebody else changes it, too").errno(libc::EAGAIN));
        }
        let cgroup = match &self.cgroup {
            Some(group) => cgroup::change(group.path(), &change.written)?,
            None if change.written.is_empty() => Undo::default(),
            None => return Err(Failure::host("it has no cgroup of its own")),
        };
        let substitutes = std::mem::replace(&mut self.request.spec.substitutes, change.substitutes.clone());
        let before = Before { cgroup, request: change.before.clone(), substitutes };
        let changed = match before.substitutes == change.substitutes {
            true => Ok(()),
            false => self.change_substitutes(),
        };
        match changed.and_then(|()| self.save_request(&change.after)) {
            Ok(()) => Ok(before),
            Err(failure) => {
                self.undo_limits(before);
                Err(failure)
            }
        }
    }

    /// What was so before is so again; why is told by another failure.
    pub(super) fn undo_limits(&mut self, before: Before) {
        before.cgroup.undo();
        let is_other = before.substitutes != self.request.spec.substitutes;
        self.request.spec.substitutes = before.substitutes;
        if is_other {
            self.change_substitutes().ok();
        }
        self.save_request(&before.request).ok();
    }

    fn save_request(&self, text: &str) -> Result<()> {
        let directory = &self.request.directory;
        let (path, new) = (directory.join("request.json"), directory.join("request.json.new"));
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .doing(|| format!("write {}", path.display()))
    }
}
