//! What a container uses: processor time, memory, bytes moved, tasks.
//!
//! A container with a cgroup of its own is asked through that
//! ([`super::cgroupfs`]). What that does not know, for want of a controller or
//! of delegation, is summed up from the container's processes in /proc, which
//! know less:
//!
//! - **Processor time** of a process that nobody waited for is lost with it,
//!   and of one that another container inherits is that one's.
//! - **Memory** is what is resident without what is shared. The kernel does
//!   count shares (smaps_rollup, PSS), but walks all page tables for it under
//!   the lock that the program's own mmap(2) waits for: a model server of
//!   hundreds of GiB would stand still once a second. So pages that a fork
//!   shares count for each, shared memory, tmpfs and the page cache for none.
//! - **Block bytes** are those of live processes and the children they waited
//!   for; writes to the page cache count when they are made.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::cgroupfs::{self, Readings, Throttling};
use super::processes::{self, Processes, read_kernel_text};
use super::procfs::{self, BlockBytes, NetworkBytes, Stat};
use super::record::{Record, Status};
use crate::error::Result;
use crate::host;

/// What one container uses at one moment. Sums are since it was started; of a
/// cgroup since a command started it, whatever a restart policy did since.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Nanoseconds that it had processors for.
    pub cpu_ns: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// What it may have of that.
    pub memory_limit_bytes: u64,
    /// Over its network's devices; nothing where the network is not its own.
    pub network: NetworkBytes,
    /// To and from block devices.
    pub block: BlockBytes,
    /// Processes and threads.
    pub tasks: u64,
    /// All that its own cgroup says; empty where it has none.
    pub readings: Readings,
}

impl Usage {
    /// With what a cgroup knows in place of what was summed up.
    fn with(self, readings: Readings) -> Self {
        let block = readings.io.map(|io| BlockBytes { read: io.read_bytes, written: io.written_bytes });
        Self {
            cpu_ns: readings.cpu.map_or(self.cpu_ns, |cpu| cpu.usage_ns),
            memory_bytes: readings.memory.map_or(self.memory_bytes, |memory| memory.used_bytes()),
            block: block.unwrap_or(self.block),
            tasks: readings.pids.map_or(self.tasks, |pids| pids.current),
            readings,
            ..self
        }
    }
}

/// What containers use, read in one go.
#[derive(Debug)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// By the container's id and the moment of its start; those that do not
    /// run are not there.
    usages: BTreeMap<(String, i64), Usage>,
}

impl Sample {
    /// Looks at all of `records`.
    pub fn take<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Self> {
        let reader = Reader::new()?;
        let at = Instant::now();
        let usages = records.into_iter().filter_map(|record| Some((key(record)?, reader.usage(record)?))).collect();
        Ok(Self { at, usages })
    }

    /// What the container uses, if it runs.
    pub fn of(&self, record: &Record) -> Option<&Usage> {
        self.usages.get(&key(record)?)
    }

    /// Share of one processor that the container had between an `earlier`
    /// sample and this one, in percent: 250 is two and a half processors.
    pub fn cpu_percent(&self, earlier: &Self, record: &Record) -> f64 {
        let (Some(now), Some(before)) = (self.of(record), earlier.of(record)) else { return 0.0 };
        let passed_ns = self.at.saturating_duration_since(earlier.at).as_nanos();
        if passed_ns == 0 {
            return 0.0;
        }
        // A process that nobody waits for takes its time along.
        now.cpu_ns.saturating_sub(before.cpu_ns) as f64 / passed_ns as f64 * 100.0
    }

    /// Of the periods between an `earlier` sample and this one in which the
    /// container wanted a processor, those in which its quota was used up, in
    /// percent; `None` where no limit of processor time can be.
    pub fn throttled_percent(&self, earlier: &Self, record: &Record) -> Option<f64> {
        let of = |sample: &Self| sample.of(record)?.readings.cpu?.throttling;
        let (now, before) = (of(self)?, of(earlier).unwrap_or_default());
        let Throttling { periods, throttled, .. } = before;
        let (periods, throttled) = (now.periods.saturating_sub(periods), now.throttled.saturating_sub(throttled));
        Some(if periods == 0 { 0.0 } else { throttled as f64 / periods as f64 * 100.0 })
    }
}

/// A container that was started again is another one.
fn key(record: &Record) -> Option<(String, i64)> {
    match &record.status {
        Status::Running { started_ns, .. } => Some((record.id.clone(), *started_ns)),
        _ => None,
    }
}

/// What all containers of one sample are measured with.
struct Reader {
    processes: Processes,
    cgroups: Option<host::CgroupMount>,
    tick_ns: u64,
    page_bytes: u64,
    memory_bytes: u64,
    /// Device and inode of our own network namespace.
    network: Option<(u64, u64)>,
}

impl Reader {
    fn new() -> Result<Self> {
        let memory = read_kernel_text(Path::new("/proc/meminfo")).unwrap_or_default();
        Ok(Self {
            processes: Processes::read()?,
            cgroups: host::CgroupMount::find(),
            tick_ns: 1_000_000_000 / processes::ticks_per_second(),
            page_bytes: processes::page_bytes(),
            memory_bytes: procfs::total_memory(&memory).unwrap_or(0),
            network: namespace(Path::new("/proc/self/ns/net")),
        })
    }

    /// `None` where the container does not run (any more).
    fn usage(&self, record: &Record) -> Option<Usage> {
        let Status::Running { supervisor, payload, .. } = &record.status else { return None };
        let (top, own) = self.processes.of(record)?;
        let payload_cgroup = self.cgroup(payload.pid);
        let readings = own_cgroup(record.cgroup.clone(), self.cgroup(supervisor.pid), payload_cgroup.clone())
            .map(|directory| Readings::of(&directory))
            .unwrap_or_default();
        let Readings { cpu, memory, io, pids, .. } = &readings;
        let is_whole = cpu.is_some() && memory.is_some() && io.is_some() && pids.is_some();
        let summed = if is_whole { Usage::default() } else { self.of_processes(top, &own) };
        let limit = record.cgroup.clone().or(payload_cgroup).map_or(u64::MAX, |cgroup| self.memory_limit(&cgroup));
        Some(Usage {
            memory_limit_bytes: limit.min(self.memory_bytes),
            network: self.network_bytes(payload.pid),
            ..summed.with(readings)
        })
    }

    fn of_processes(&self, supervisor: &Stat, own: &[&Stat]) -> Usage {
        // What `exec` started and has ended was the supervisor's child.
        let ticks = own.iter().fold(supervisor.reaped_ticks, |sum, stat| {
            sum.saturating_add(stat.ticks()).saturating_add(stat.reaped_ticks)
        });
        let pages = own.iter().filter_map(|stat| procfs::own_pages(&processes::read_text(stat.pid, "statm")?));
        let block = own.iter().filter_map(|stat| BlockBytes::parse(&processes::read_text(stat.pid, "io")?));
        Usage {
            cpu_ns: ticks.saturating_mul(self.tick_ns),
            memory_bytes: pages.fold(0, u64::saturating_add).saturating_mul(self.page_bytes),
            block: block.fold(BlockBytes::default(), BlockBytes::plus),
            tasks: own.iter().fold(0, |sum, stat| sum.saturating_add(stat.threads)),
            ..Usage::default()
        }
    }

    fn cgroup(&self, pid: i32) -> Option<PathBuf> {
        let text = processes::read_text(pid, "cgroup")?;
        Some(self.cgroups.as_ref()?.directory(Path::new(host::own_cgroup(&text)?)))
    }

    /// The least of the limits of a cgroup and those around it.
    fn memory_limit(&self, directory: &Path) -> u64 {
        let top = self.cgroups.as_ref().map(|mount| mount.target.as_path());
        let around = directory.ancestors().take_while(|directory| top.is_some_and(|top| directory.starts_with(top)));
        around.filter_map(cgroupfs::memory_limit).min().unwrap_or(u64::MAX)
    }

    fn network_bytes(&self, pid: i32) -> NetworkBytes {
        let own = namespace(&PathBuf::from(format!("/proc/{pid}/ns/net")));
        match own.is_some() && own != self.network {
            true => NetworkBytes::parse(&processes::read_text(pid, "net/dev").unwrap_or_default()),
            false => NetworkBytes::default(),
        }
    }
}

/// The container's own cgroup. One of an older kelp's record, or of who started
/// the program, is its own if its supervisor is in another one.
fn own_cgroup(recorded: Option<PathBuf>, supervisor: Option<PathBuf>, payload: Option<PathBuf>) -> Option<PathBuf> {
    recorded.or_else(|| payload.filter(|own| supervisor.is_some_and(|around| *own != around)))
}

fn namespace(link: &Path) -> Option<(u64, u64)> {
    let status = std::fs::metadata(link).ok()?;
    Some((status.dev(), status.ino()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::cgroupfs::{Cpu, Io, Memory, Pids};
    use super::*;
    use crate::process::identity::Identity;

    fn record(started_ns: i64) -> Record {
        let mut record = Record::new("1".repeat(64), "x".to_owned());
        let identity = Identity { pid: 1, start_time: 0 };
        record.status =
            Status::Running { supervisor: identity, payload: identity, started_ns, paused: false, health: None };
        record
    }

    #[test]
    fn shares_are_of_one_processor() {
        let start = Instant::now();
        let sample = |after_ms, cpu_ns| {
            let usages = BTreeMap::from([(key(&record(1)).unwrap(), Usage { cpu_ns, ..Usage::default() })]);
            Sample { at: start + Duration::from_millis(after_ms), usages }
        };
        let (first, second) = (sample(0, 4_000_000_000), sample(2_000, 9_000_000_000));
        assert_eq!(second.cpu_percent(&first, &record(1)), 250.0);
        // A process took its time along; no time has passed; started again.
        assert_eq!(sample(2_000, 1).cpu_percent(&first, &record(1)), 0.0);
        assert_eq!(sample(0, u64::MAX).cpu_percent(&first, &record(1)), 0.0);
        assert_eq!(second.cpu_percent(&first, &record(2)), 0.0);
    }

    #[test]
    fn a_cgroup_takes_the_place_of_what_it_knows() {
        let block = BlockBytes { read: 1, written: 2 };
        let summed = Usage { cpu_ns: 9, memory_bytes: 9, block, tasks: 9, ..Usage::default() };
        assert_eq!(summed.clone().with(Readings::default()), summed);
        // As where systemd delegates memory and pids, but not io.
        let readings = Readings {
            cpu: Some(Cpu { usage_ns: 1_500, ..Cpu::default() }),
            memory: Some(Memory { current_bytes: 9_000, inactive_file_bytes: 1_000, ..Memory::default() }),
            pids: Some(Pids { current: 3, ..Pids::default() }),
            ..Readings::default()
        };
        let expected = Usage { cpu_ns: 1_500, memory_bytes: 8_000, block, tasks: 3, readings, ..Usage::default() };
        assert_eq!(summed.clone().with(readings), expected);
        let io = Some(Io { read_bytes: 5, written_bytes: 6, ..Io::default() });
        let all = summed.with(Readings { io, ..readings });
        assert_eq!(all.block, BlockBytes { read: 5, written: 6 });
    }

    #[test]
    fn a_cgroup_is_its_own_if_the_supervisor_is_elsewhere() {
        let (around, own) = (PathBuf::from("/a"), PathBuf::from("/a/b"));
        let some = |path: &PathBuf| Some(path.clone());
        assert_eq!(own_cgroup(None, some(&around), some(&own)), some(&own));
        assert_eq!(own_cgroup(None, some(&around), some(&around)), None);
        assert_eq!(own_cgroup(None, None, some(&own)), None);
        // Its program may have made others below, and moved there.
        assert_eq!(own_cgroup(some(&own), some(&around), Some("/a/b/c".into())), some(&own));
    }

    #[test]
    fn throttling_is_of_the_time_between() {
        let sample = |throttling| {
            let cpu = Some(Cpu { throttling, ..Cpu::default() });
            let usage = Usage { readings: Readings { cpu, ..Readings::default() }, ..Usage::default() };
            Sample { at: Instant::now(), usages: BTreeMap::from([(key(&record(1)).unwrap(), usage)]) }
        };
        let at = |periods, throttled| sample(Some(Throttling { periods, throttled, throttled_ns: 0 }));
        assert_eq!(at(30, 15).throttled_percent(&at(10, 10), &record(1)), Some(25.0));
        assert_eq!(at(30, 15).throttled_percent(&at(30, 15), &record(1)), Some(0.0));
        assert_eq!(at(30, 15).throttled_percent(&sample(None), &record(1)), Some(50.0));
        assert_eq!(at(1, 1).throttled_percent(&at(9, 9), &record(1)), Some(0.0));
        assert_eq!(sample(None).throttled_percent(&at(1, 1), &record(1)), None);
        assert_eq!(at(1, 1).throttled_percent(&at(0, 0), &record(2)), None);
    }

    #[test]
    fn a_family_is_summed_up() {
        let stat = |pid, parent, own: u64, reaped: u64| {
            let line = format!("{pid} (x) S {parent} 1 1 0 -1 0 0 0 0 0 {own} 0 {reaped} 0 20 0 2 0 5 0 0 0");
            Stat::parse(line.as_bytes()).unwrap()
        };
        let reader = Reader {
            processes: Processes::default(),
            cgroups: None,
            tick_ns: 10_000_000,
            page_bytes: 4096,
            memory_bytes: 0,
            network: None,
        };
        // Pids that cannot be: of these there is only the line.
        let (top, first, second) = (stat(-1, 0, 1_000, 7), stat(-2, -1, 10, 3), stat(-3, -2, 30, 0));
        let usage = reader.of_processes(&top, &[&first, &second]);
        assert_eq!((usage.cpu_ns, usage.tasks, usage.memory_bytes), (500_000_000, 4, 0));
    }
}
