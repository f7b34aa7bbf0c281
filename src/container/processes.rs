//! Which processes belong to which container: one pass over /proc.
//!
//! A container's processes are those that descend from its supervisor. The
//! kernel keeps that true: its pid 1 is the supervisor's child and inherits
//! the orphans of its pid namespace; what `exec` starts is the supervisor's
//! child too; without a pid namespace of its own (`--pid host`) the supervisor
//! inherits the orphans (PR_SET_CHILD_SUBREAPER). Namespaces would not tell:
//! containers may share one, and a program may make more of its own.
//! In another container's pid namespace, orphans go to that one's pid 1.
//!
//! A pass is no snapshot. A process that is moved while it is read may be
//! missed once, none is counted twice.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::path::Path;

use super::procfs::Stat;
use super::record::{Record, Status};
use crate::error::{Context, Result};
use crate::limits;

/// All processes in sight, by pid.
#[derive(Debug, Default)]
pub struct Processes {
    all: HashMap<i32, Stat>,
    /// Pids by the parent's pid.
    children: HashMap<i32, Vec<i32>>,
}

impl Processes {
    /// Reads them all.
    pub fn read() -> Result<Self> {
        let entries = fs::read_dir("/proc").doing(|| "read /proc")?;
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        // One that is gone meanwhile is not there.
        Ok(pids.filter_map(stat).collect())
    }

    /// The process that looks after the container, and the container's own in
    /// the order of their pids; `None` where it does not run.
    pub fn of(&self, record: &Record) -> Option<(&Stat, Vec<&Stat>)> {
        let Status::Running { supervisor, .. } = &record.status else { return None };
        let top = self.all.get(&supervisor.pid).filter(|stat| stat.start_ticks == supervisor.start_time)?;
        Some((top, self.below(top.pid)))
    }

    /// All that descend from `pid`, in the order of their pids.
    fn below(&self, pid: i32) -> Vec<&Stat> {
        // A pid that was used again during the pass could close a circle.
        let (mut seen, mut open) = (BTreeSet::new(), vec![pid]);
        while let Some(parent) = open.pop() {
            let children = self.children.get(&parent).into_iter().flatten();
            open.extend(children.filter(|child| **child != pid && seen.insert(**child)));
        }
        seen.iter().filter_map(|pid| self.all.get(pid)).collect()
    }
}

impl FromIterator<Stat> for Processes {
    fn from_iter<I: IntoIterator<Item = Stat>>(stats: I) -> Self {
        let mut found = Self::default();
        for stat in stats {
            found.children.entry(stat.parent).or_default().push(stat.pid);
            found.all.insert(stat.pid, stat);
        }
        found
    }
}

fn stat(pid: i32) -> Option<Stat> {
    Stat::parse(&read(pid, "stat", limits::PROCESS_STAT_BYTES_MAX)?)
}

/// The beginning of a file of /proc/PID; `None` where there is no such process
/// or the file is closed to us.
pub fn read(pid: i32, name: &str, max: u64) -> Option<Vec<u8>> {
    read_at(&Path::new("/proc").join(pid.to_string()).join(name), max)
}

/// The same as text.
pub fn read_text(pid: i32, name: &str) -> Option<String> {
    Some(String::from_utf8_lossy(&read(pid, name, limits::PROCESS_FILE_BYTES_MAX)?).into_owned())
}

/// The beginning of a file that the kernel makes up, as text.
pub fn read_kernel_text(path: &Path) -> Option<String> {
    Some(String::from_utf8_lossy(&read_at(path, limits::PROCESS_FILE_BYTES_MAX)?).into_owned())
}

fn read_at(path: &Path, max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(limits::PROCESS_STAT_BYTES_MAX as usize);
    fs::File::open(path).ok()?.take(max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Clock ticks in a second (sysconf(3), _SC_CLK_TCK).
pub fn ticks_per_second() -> u64 {
    sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap_or(100)
}

/// Bytes of a page (sysconf(3), _SC_PAGESIZE).
pub fn page_bytes() -> u64 {
    sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap_or(4096)
}

fn sysconf(name: nix::unistd::SysconfVar) -> Option<u64> {
    nix::unistd::sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::identity::Identity;

    fn process(pid: i32, parent: i32) -> Stat {
        let line = format!("{pid} (x) S {parent} 1 1 0 -1 0 0 0 0 0 1 0 0 0 20 0 1 0 {} 0 0 0", pid * 10);
        Stat::parse(line.as_bytes()).unwrap()
    }

    fn record(supervisor: i32, start_time: u64) -> Record {
        let mut record = Record::new("0".repeat(64), "x".to_owned());
        let payload = Identity { pid: supervisor + 1, start_time: 0 };
        let supervisor = Identity { pid: supervisor, start_time };
        record.status = Status::Running { supervisor, payload, started_ns: 0, paused: false, health: None };
        record
    }

    fn pids(processes: &Processes, record: &Record) -> Option<Vec<i32>> {
        Some(processes.of(record)?.1.iter().map(|stat| stat.pid).collect())
    }

    #[test]
    fn the_family_of_a_supervisor_is_the_container() {
        let tree = [(1, 0), (10, 1), (11, 10), (13, 11), (12, 11), (14, 13), (20, 1), (21, 20), (30, 10)];
        let processes: Processes = tree.into_iter().map(|(pid, parent)| process(pid, parent)).collect();
        assert_eq!(pids(&processes, &record(10, 100)).unwrap(), [11, 12, 13, 14, 30]);
        assert_eq!(pids(&processes, &record(20, 200)).unwrap(), [21]);
        // Its pid was given to another process since.
        assert_eq!(pids(&processes, &record(20, 7)), None);
        assert_eq!(pids(&processes, &record(99, 990)), None);
        assert_eq!(pids(&processes, &Record::new("0".repeat(64), "x".to_owned())), None);
    }

    #[test]
    fn a_circle_ends() {
        let processes: Processes =
            [(10, 12), (11, 10), (12, 11), (12, 12)].into_iter().map(|(pid, parent)| process(pid, parent)).collect();
        assert_eq!(pids(&processes, &record(10, 100)).unwrap(), [11, 12]);
    }

    #[test]
    fn our_own_process_is_there() {
        let processes = Processes::read().unwrap();
        let own = nix::unistd::getpid().as_raw();
        assert_eq!(processes.all[&own].parent, nix::unistd::getppid().as_raw());
        assert!(read_text(own, "status").unwrap().contains("NSpid"));
        assert_eq!(read(own, "cmdline", 4).unwrap().len(), 4);
        assert_eq!(read(0, "stat", 4), None);
    }
}
