//! What a container has taken from when a command started it to its end, kept
//! in its record when its cgroup is gone.

use std::path::Path;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use super::cgroupfs::Readings;

/// What a container has taken, over all its starts by a restart policy. What
/// nobody can know is not there: without a cgroup of the container's own, or
/// the controller for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    /// Nanoseconds that it had processors for.
    pub cpu_ns: Option<u64>,
    /// Of that in user mode.
    pub cpu_user_ns: Option<u64>,
    /// Nanoseconds that a limit of processor time made it stand still.
    pub throttled_ns: Option<u64>,
    /// The most memory that it had at once, the page cache included.
    pub memory_peak_bytes: Option<u64>,
    /// The most memory that one process of it had at once.
    pub largest_process_bytes: Option<u64>,
    /// Processes that were killed for want of memory.
    pub oom_kills: Option<u64>,
    /// The most processes and threads that it had at once.
    pub tasks_peak: Option<u64>,
    /// Bytes read from block devices.
    pub block_read_bytes: Option<u64>,
    /// Bytes written to block devices.
    pub block_written_bytes: Option<u64>,
}

impl Spent {
    /// What the cgroup at `directory` has counted.
    pub fn of_cgroup(directory: &Path) -> Self {
        Self::of(&Readings::of(directory))
    }

    fn of(readings: &Readings) -> Self {
        let Readings { cpu, memory, memory_events, io, pids, .. } = readings;
        Self {
            cpu_ns: cpu.map(|cpu| cpu.usage_ns),
            cpu_user_ns: cpu.map(|cpu| cpu.user_ns),
            throttled_ns: cpu.and_then(|cpu| Some(cpu.throttling?.throttled_ns)),
            memory_peak_bytes: memory.and_then(|memory| memory.peak_bytes),
            largest_process_bytes: None,
            oom_kills: memory_events.map(|events| events.oom_kill),
            tasks_peak: pids.and_then(|pids| pids.peak),
            block_read_bytes: io.map(|io| io.read_bytes),
            block_written_bytes: io.map(|io| io.written_bytes),
        }
    }

    /// With what is known of the calling process's children that it has waited
    /// for, and of theirs (getrusage(2)): of a supervisor, its container.
    #[must_use]
    pub fn with_children(self) -> Self {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return self };
        let (user_ns, system_ns) = (nanoseconds(usage.user_time()), nanoseconds(usage.system_time()));
        let kibibytes = u64::try_from(usage.max_rss()).unwrap_or(0);
        Self {
            cpu_ns: self.cpu_ns.or(Some(user_ns.saturating_add(system_ns))),
            cpu_user_ns: self.cpu_user_ns.or(Some(user_ns)),
            largest_process_bytes: Some(kibibytes.saturating_mul(1024)),
            ..self
        }
    }
}

fn nanoseconds(time: TimeVal) -> u64 {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let microseconds = u64::try_from(time.tv_usec()).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(microseconds.saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::super::cgroupfs::{Cpu, Memory, MemoryEvents};
    use super::*;

    #[test]
    fn what_a_cgroup_does_not_know_is_not_there() {
        let cpu = Some(Cpu { usage_ns: 5, user_ns: 3, ..Cpu::default() });
        let spent = Spent::of(&Readings { cpu, ..Readings::default() });
        assert_eq!(spent, Spent { cpu_ns: Some(5), cpu_user_ns: Some(3), ..Spent::default() });
        let memory = Some(Memory { peak_bytes: Some(7), ..Memory::default() });
        let memory_events = Some(MemoryEvents { oom_kill: 2, ..MemoryEvents::default() });
        let spent = Spent::of(&Readings { cpu, memory, memory_events, ..Readings::default() });
        assert_eq!((spent.memory_peak_bytes, spent.oom_kills), (Some(7), Some(2)));
        // Times of a cgroup are better; the largest process only children tell of.
        let both = spent.with_children();
        assert_eq!((both.cpu_ns, both.memory_peak_bytes), (Some(5), Some(7)));
        assert!(both.largest_process_bytes.is_some());
        assert!(Spent::default().with_children().cpu_ns.is_some());
    }

    #[test]
    fn records_of_other_versions_are_read() {
        let spent: Spent = serde_json::from_str(r#"{"cpu_ns": 4, "dreams": 3}"#).unwrap();
        assert_eq!(spent, Spent { cpu_ns: Some(4), ..Spent::default() });
    }
}
