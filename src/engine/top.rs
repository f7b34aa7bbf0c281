//! The processes of one container, from /proc alone.

use std::path::Path;

use super::lifecycle;
use crate::container::events::{self, Action};
use crate::container::processes::{self, Processes};
use crate::container::procfs::{Ids, Stat, total_memory};
use crate::container::record::{Record, Status};
use crate::container::store;
use crate::error::{Context, Failure, Result};
use crate::limits;
use crate::paths::Paths;
use crate::process::idmap::{self, Extent};

/// What the kernel shows for an id that a namespace does not map (overflowuid).
const NOBODY: u32 = 65_534;

/// What a container does just now.
#[derive(Debug)]
pub struct Listing {
    /// In the order of their pids on the host.
    pub processes: Vec<Process>,
    /// What its times are measured by.
    pub clock: Clock,
    /// The machine's memory.
    pub memory_bytes: u64,
}

/// One process.
#[derive(Debug)]
pub struct Process {
    /// What the kernel says of it, in pids of the host.
    pub stat: Stat,
    /// Its user in the container.
    pub uid: u32,
    /// The same on the host.
    pub host_uid: u32,
    /// Its pid in the container.
    pub pid: i32,
    /// Its parent's there; 0 where that is outside.
    pub parent: i32,
    /// Its command line, words between zero bytes; empty where it has none
    /// (any more). A stranger's text.
    pub command_line: Vec<u8>,
}

/// How clock ticks become time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    /// Ticks in a second.
    pub ticks: u64,
    /// Seconds since boot.
    pub uptime_s: f64,
}

impl Clock {
    /// As it is now.
    pub fn now() -> Result<Self> {
        let text = processes::read_kernel_text(Path::new("/proc/uptime")).unwrap_or_default();
        let uptime = text.split_ascii_whitespace().next().and_then(|seconds| seconds.parse().ok());
        let uptime_s = uptime.ok_or_else(|| Failure::host("/proc/uptime cannot be read"))?;
        Ok(Self { ticks: processes::ticks_per_second(), uptime_s })
    }

    /// Seconds since a process began.
    pub fn age_s(&self, stat: &Stat) -> f64 {
        (self.uptime_s - stat.start_ticks as f64 / self.ticks as f64).max(0.0)
    }

    /// Whole seconds that a process had a processor for.
    pub fn cpu_s(&self, stat: &Stat) -> u64 {
        stat.ticks() / self.ticks.max(1)
    }

    /// Share of one processor that a process had since it began, in percent.
    pub fn cpu_percent(&self, stat: &Stat) -> f64 {
        let age_s = self.age_s(stat);
        if age_s <= 0.0 {
            return 0.0;
        }
        stat.ticks() as f64 / self.ticks as f64 / age_s * 100.0
    }
}

/// The processes of the container called `name`.
pub fn list(paths: &Paths, name: &str) -> Result<Listing> {
    let container = store::find(paths, name)?;
    let listing = processes_of(&container.record).doing(|| format!("list the processes of container \"{name}\""))?;
    events::tell(paths, &container.record, Action::Top);
    Ok(listing)
}

fn processes_of(record: &Record) -> Result<Listing> {
    let Status::Running { payload, .. } = &record.status else { return Err(lifecycle::not_running(record)) };
    let all = Processes::read()?;
    let (_, own) = all.of(record).ok_or_else(|| lifecycle::not_running(record))?;
    let map = read_uid_map(payload.pid);
    // A namespace's level is how many pids its first process has.
    let level = read_ids(payload.pid).map_or(1, |ids| ids.pids.len());
    let mut processes: Vec<Process> = own.into_iter().filter_map(|stat| process(stat.clone(), &map, level)).collect();
    let inside: Vec<(i32, i32)> = processes.iter().map(|process| (process.stat.pid, process.pid)).collect();
    for process in &mut processes {
        let parent = inside.iter().find(|(host, _)| *host == process.stat.parent);
        process.parent = parent.map_or(0, |(_, pid)| *pid);
    }
    let memory = processes::read_kernel_text(Path::new("/proc/meminfo")).unwrap_or_default();
    Ok(Listing { processes, clock: Clock::now()?, memory_bytes: total_memory(&memory).unwrap_or(0) })
}

/// What is known of one process; `None` where it is gone meanwhile.
fn process(stat: Stat, map: &[Extent], level: usize) -> Option<Process> {
    let ids = read_ids(stat.pid)?;
    let command_line = processes::read(stat.pid, "cmdline", limits::COMMAND_LINE_BYTES_MAX).unwrap_or_default();
    let pid = ids.pids.get(level.saturating_sub(1)).copied().unwrap_or(0);
    Some(Process { uid: inside(map, ids.uid), host_uid: ids.uid, pid, parent: 0, command_line, stat })
}

fn read_ids(pid: i32) -> Option<Ids> {
    Ids::parse(&processes::read_text(pid, "status")?)
}

/// The container's user ids onto ours, as the kernel shows them to us.
fn read_uid_map(pid: i32) -> Vec<Extent> {
    let text = processes::read_text(pid, "uid_map").unwrap_or_default();
    text.lines().filter_map(idmap::parse_extent).collect()
}

/// The id in the container for one of ours.
fn inside(map: &[Extent], outside: u32) -> u32 {
    let back: Vec<Extent> = map
        .iter()
        .map(|extent| Extent { inside: extent.outside, outside: extent.inside, count: extent.count })
        .collect();
    idmap::outside_of(&back, outside).unwrap_or(NOBODY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_those_of_the_container() {
        let map =
            [Extent { inside: 0, outside: 1000, count: 1 }, Extent { inside: 1, outside: 100_000, count: 65_536 }];
        for (outside, expected) in [(1000, 0), (100_000, 1), (100_032, 33), (1001, NOBODY), (0, NOBODY)] {
            assert_eq!(inside(&map, outside), expected, "{outside}");
        }
    }

    #[test]
    fn shares_are_of_the_whole_life() {
        let line = b"7 (x) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 9000 0 0 0";
        let stat = Stat::parse(line).unwrap();
        let clock = Clock { ticks: 100, uptime_s: 94.0 };
        assert_eq!((clock.age_s(&stat), clock.cpu_s(&stat), clock.cpu_percent(&stat)), (4.0, 2, 50.0));
        let clock = Clock { ticks: 100, uptime_s: 89.0 };
        assert_eq!((clock.age_s(&stat), clock.cpu_percent(&stat)), (0.0, 0.0));
    }
}
