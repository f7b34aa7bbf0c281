//! Watching for processes that are killed for want of memory.
//!
//! The kernel counts them in `memory.events` of the container's cgroup and
//! tells of a change by poll(2). Without that file (no cgroup, no controller)
//! there is nothing to see.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::super::cgroupfs::{self, MemoryEvents};
use super::super::control::FromSupervisor;
use super::super::events::Action;
use super::super::oom::{Killer, OutOfMemory};
use super::super::record::Status;
use super::Supervisor;
use crate::limits;

/// A container that fills the page cache up to its limit makes events all the
/// time, of which the kernel tells every ten milliseconds.
const PAUSE: Duration = Duration::from_millis(100);

/// What is seen of a cgroup's memory.
#[derive(Default)]
pub(super) struct MemoryWatch {
    watched: Option<Watched>,
}

struct Watched {
    directory: PathBuf,
    events: File,
    /// What had happened before the program was started.
    before: MemoryEvents,
    /// It is not looked before this.
    quiet_until: Option<Instant>,
}

impl MemoryWatch {
    /// What to wait for: POLLPRI comes with every change (cgroups(7)).
    pub(super) fn interest(&self) -> Option<PollFd<'_>> {
        let watched = self.watched.as_ref().filter(|watched| watched.quiet_until.is_none())?;
        Some(PollFd::new(watched.events.as_fd(), PollFlags::POLLPRI))
    }

    /// When it is looked again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.watched.as_ref()?.quiet_until
    }
}

impl Watched {
    fn open(directory: PathBuf) -> Option<Self> {
        let events = File::open(directory.join("memory.events")).ok()?;
        let mut watched = Self { directory, events, before: MemoryEvents::default(), quiet_until: None };
        watched.before = watched.read()?;
        Some(watched)
    }

    /// Reading from the start makes the kernel tell of the next change.
    fn read(&self) -> Option<MemoryEvents> {
        let mut bytes = [0; limits::MEMORY_EVENTS_BYTES_MAX];
        let count = self.events.read_at(&mut bytes, 0).ok()?;
        MemoryEvents::parse(&String::from_utf8_lossy(bytes.get(..count)?))
    }

    /// What has been killed since the program was started.
    fn killed(&self) -> Option<OutOfMemory> {
        let now = self.read()?;
        let kills = now.oom_kill.saturating_sub(self.before.oom_kill);
        // An OOM killer that came for another cgroup's limit, or for want of
        // any memory at all, is counted with its victims only.
        let is_own = now.oom > self.before.oom;
        let limit_bytes = if is_own { cgroupfs::memory_limit(&self.directory) } else { None };
        (kills > 0).then_some(OutOfMemory { by: Killer::Kernel, limit_bytes, kills })
    }
}

impl Supervisor {
    /// Before the program is started (again): what happened before does not count.
    pub(super) fn begin_memory(&mut self) {
        let directory = self.cgroup.as_ref().map(|group| group.path().to_owned());
        self.memory = MemoryWatch { watched: directory.and_then(Watched::open) };
        (self.request.record.oom, self.request.record.spent) = (None, None);
    }

    /// Looks at what happened, if the kernel told of something.
    pub(super) fn turn_memory(&mut self, is_told: bool) {
        let Some(watched) = &mut self.memory.watched else { return };
        let now = Instant::now();
        watched.quiet_until = watched.quiet_until.filter(|until| now < *until);
        if is_told {
            watched.quiet_until = Some(now + PAUSE);
            self.look_at_memory();
        }
    }

    /// Looks for the last time: the program has ended.
    pub(super) fn end_memory(&mut self) {
        self.look_at_memory();
        self.memory = MemoryWatch::default();
    }

    fn look_at_memory(&mut self) {
        let Some(killed) = self.memory.watched.as_ref().and_then(Watched::killed) else { return };
        if self.request.record.oom.is_none_or(|known| known.kills < killed.kills) {
            self.note_out_of_memory(killed);
        }
    }

    /// A process of the container was killed for want of memory, by the kernel
    /// or by this supervisor: it is written down and told of.
    pub(super) fn note_out_of_memory(&mut self, killed: OutOfMemory) {
        self.request.record.oom = Some(killed);
        self.tell(Action::Oom);
        if matches!(self.request.record.status, Status::Running { .. }) {
            // On a full disk, the end has it.
            self.save().ok();
        }
    }

    /// Tells who waits for the end, which has exit status `code`, what brought it about.
    pub(super) fn tell_reason(&mut self, code: i32, but: Option<u64>) {
        if let Some(reason) = self.request.record.out_of_memory(code) {
            self.clients.tell_waiting_for_end(&FromSupervisor::Notice(reason), but);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(oom: u64, oom_kill: u64) -> String {
        format!("low 0\nhigh 0\nmax 9\noom {oom}\noom_kill {oom_kill}\noom_group_kill 0\n")
    }

    #[test]
    fn kills_since_the_start_count() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert!(Watched::open(dir.path().to_owned()).is_none());
        write("memory.max", "67108864\n");
        write("memory.events", &events(1, 2));
        let watched = Watched::open(dir.path().to_owned()).unwrap();
        assert_eq!(watched.killed(), None);
        // At its limit, but something could be taken back after all.
        write("memory.events", &events(2, 2));
        assert_eq!(watched.killed(), None);
        write("memory.events", &events(2, 5));
        let expected = OutOfMemory { by: Killer::Kernel, limit_bytes: Some(64 << 20), kills: 3 };
        assert_eq!(watched.killed(), Some(expected));
        // Not for its own limit.
        write("memory.events", &events(1, 3));
        assert_eq!(watched.killed(), Some(OutOfMemory { limit_bytes: None, kills: 1, ..expected }));
        write("memory.events", "");
        assert_eq!(watched.killed(), None);
        std::fs::write(dir.path().join("memory.events"), "oom_kill 1\n".repeat(1000)).unwrap();
        assert_eq!(watched.killed(), None);
    }
}
