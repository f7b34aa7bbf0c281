//! What the kernel says of a cgroup in its files, parsed
//! (Documentation/admin-guide/cgroup-v2.rst, Documentation/accounting/psi.rst).
//!
//! A file that is not there (no controller, an older kernel, no PSI), or that
//! makes no sense, is a reading that is not there; a key that is not known is
//! passed over. Nothing here fails.

use std::path::Path;

use super::processes::read_kernel_text;

/// A microsecond, in nanoseconds.
const MICROSECOND_NS: u64 = 1_000;

/// What one cgroup, with those below it, has used and uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Readings {
    /// `cpu.stat`: there in every cgroup.
    pub cpu: Option<Cpu>,
    /// `memory.current` and its neighbours, with the controller memory.
    pub memory: Option<Memory>,
    /// `memory.events`, with the controller memory.
    pub memory_events: Option<MemoryEvents>,
    /// `io.stat`, with the controller io.
    pub io: Option<Io>,
    /// `pids.current` and its neighbours, with the controller pids.
    pub pids: Option<Pids>,
    /// `cpu.pressure`, where the kernel has PSI.
    pub cpu_pressure: Option<Pressure>,
    /// `memory.pressure`.
    pub memory_pressure: Option<Pressure>,
    /// `io.pressure`.
    pub io_pressure: Option<Pressure>,
}

impl Readings {
    /// Reads the cgroup at `directory`.
    pub fn of(directory: &Path) -> Self {
        let read = |name: &str| read_kernel_text(&directory.join(name));
        let number = |name: &str| number(&read(name)?);
        let pressure = |name: &str| Pressure::parse(&read(name)?);
        let memory = |current_bytes| {
            let stat = read("memory.stat").unwrap_or_default();
            let of_stat = |key| keyed(&stat, key).unwrap_or(0);
            Memory {
                current_bytes,
                inactive_file_bytes: of_stat("inactive_file"),
                anonymous_bytes: of_stat("anon"),
                file_bytes: of_stat("file"),
                peak_bytes: number("memory.peak"),
                limit_bytes: memory_limit(directory),
                swap_bytes: number("memory.swap.current"),
            }
        };
        Self {
            cpu: read("cpu.stat").and_then(|text| Cpu::parse(&text)),
            memory: number("memory.current").map(memory),
            memory_events: MemoryEvents::of(directory),
            io: read("io.stat").map(|text| Io::parse(&text)),
            pids: number("pids.current").map(|current| Pids {
                current,
                peak: number("pids.peak"),
                limit: number("pids.max"),
            }),
            cpu_pressure: pressure("cpu.pressure"),
            memory_pressure: pressure("memory.pressure"),
            io_pressure: pressure("io.pressure"),
        }
    }
}

/// `cpu.stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Nanoseconds that processors were had for.
    pub usage_ns: u64,
    /// Of that in user mode.
    pub user_ns: u64,
    /// Of that in kernel mode.
    pub system_ns: u64,
    /// How a limit of processor time was felt; with the controller cpu only.
    pub throttling: Option<Throttling>,
}

/// How a limit of processor time was felt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which there was something to run while a limit held.
    pub periods: u64,
    /// Of those, in which the quota was used up.
    pub throttled: u64,
    /// Nanoseconds that was stood still for, on all processors together.
    pub throttled_ns: u64,
}

impl Cpu {
    /// Reads the file.
    pub fn parse(text: &str) -> Option<Self> {
        let time = |key| Some(keyed(text, key)?.saturating_mul(MICROSECOND_NS));
        let throttling = keyed(text, "nr_periods").map(|periods| Throttling {
            periods,
            throttled: keyed(text, "nr_throttled").unwrap_or(0),
            throttled_ns: time("throttled_usec").unwrap_or(0),
        });
        Some(Self {
            usage_ns: time("usage_usec")?,
            user_ns: time("user_usec").unwrap_or(0),
            system_ns: time("system_usec").unwrap_or(0),
            throttling,
        })
    }
}

/// `memory.current` and what goes with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All that is charged, the page cache included.
    pub current_bytes: u64,
    /// Of that, pages of files that were not used lately.
    pub inactive_file_bytes: u64,
    /// Of that, what no file is behind.
    pub anonymous_bytes: u64,
    /// Of that, pages of files, tmpfs and shared memory included.
    pub file_bytes: u64,
    /// The most it ever was (`memory.peak`, Linux 5.19).
    pub peak_bytes: Option<u64>,
    /// `memory.max` of this very cgroup; `None` for `max`.
    pub limit_bytes: Option<u64>,
    /// What is in swap.
    pub swap_bytes: Option<u64>,
}

impl Memory {
    /// What docker shows: without the part of the page cache that nobody would
    /// miss (docker/cli, calculateMemUsageUnixNoCache).
    pub fn used_bytes(&self) -> u64 {
        // Read at two moments: the part may be more than the whole was.
        self.current_bytes.saturating_sub(self.inactive_file_bytes)
    }
}

/// `memory.events`: how often something happened here or below.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// Memory was taken back because of `memory.high`.
    pub high: u64,
    /// It was about to be more than `memory.max`.
    pub max: u64,
    /// Nothing could be taken back at a limit of this cgroup or one below it.
    pub oom: u64,
    /// Processes that any OOM killer killed: for a limit in here, for one
    /// around it, or for the machine.
    pub oom_kill: u64,
}

impl MemoryEvents {
    /// Those of the cgroup at `directory`; `None` without the controller memory.
    pub fn of(directory: &Path) -> Option<Self> {
        Self::parse(&read_kernel_text(&directory.join("memory.events"))?)
    }

    /// Reads the file.
    pub fn parse(text: &str) -> Option<Self> {
        let count = |key| keyed(text, key).unwrap_or(0);
        // Linux 4.13 wrote down kills first.
        let oom_kill = keyed(text, "oom_kill")?;
        Some(Self { high: count("high"), max: count("max"), oom: count("oom"), oom_kill })
    }
}

/// `io.stat`, all devices together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Io {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Requests to read.
    pub reads: u64,
    /// Requests to write.
    pub writes: u64,
}

impl Io {
    /// Reads the file; an empty one is of a cgroup that moved nothing.
    pub fn parse(text: &str) -> Self {
        let sum = |key: &str| {
            let values = text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
            values.fold(0, u64::saturating_add)
        };
        Self { read_bytes: sum("rbytes="), written_bytes: sum("wbytes="), reads: sum("rios="), writes: sum("wios=") }
    }
}

/// `pids.current` and what goes with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pids {
    /// Processes and threads.
    pub current: u64,
    /// The most there ever were (`pids.peak`, Linux 6.1).
    pub peak: Option<u64>,
    /// `pids.max`; `None` for `max`.
    pub limit: Option<u64>,
}

/// A `*.pressure`: how long was waited for what is short.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Something had to wait.
    pub some: Stall,
    /// All that could have run had to (of processors: since Linux 5.13).
    pub full: Option<Stall>,
}

/// One line of a pressure file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Share of the last ten seconds, in percent.
    pub avg10_percent: f64,
    /// Nanoseconds in all.
    pub total_ns: u64,
}

impl Pressure {
    /// Reads the file.
    pub fn parse(text: &str) -> Option<Self> {
        let stall = |kind: &str| text.lines().find_map(|line| Stall::parse(line.strip_prefix(kind)?));
        Some(Self { some: stall("some ")?, full: stall("full ") })
    }
}

impl Stall {
    fn parse(words: &str) -> Option<Self> {
        let word = |key: &str| words.split_ascii_whitespace().find_map(|word| word.strip_prefix(key));
        let percent = word("avg10=")?.parse::<f64>().ok().filter(|percent| percent.is_finite());
        let total: u64 = word("total=")?.parse().ok()?;
        Some(Self { avg10_percent: percent?, total_ns: total.saturating_mul(MICROSECOND_NS) })
    }
}

/// The limit of memory that was written to the cgroup at `directory`, in bytes.
pub fn memory_limit(directory: &Path) -> Option<u64> {
    number(&read_kernel_text(&directory.join("memory.max"))?)
}

/// The only number of a file; `None` for `max`.
fn number(text: &str) -> Option<u64> {
    text.trim_ascii_end().parse().ok()
}

/// One number of a file with a line for each, such as `cpu.stat`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Linux 6.12, with the controller cpu.
    const CPU: &str = "usage_usec 5215427\nuser_usec 3512007\nsystem_usec 1703420\nnice_usec 0\n\
                       core_sched.force_idle_usec 0\nnr_periods 103\nnr_throttled 51\nthrottled_usec 2533419\n\
                       nr_bursts 0\nburst_usec 0\n";

    /// Linux 6.12.
    const EVENTS: &str = "low 0\nhigh 3\nmax 7015\noom 2\noom_kill 1\noom_group_kill 0\nsock_throttled 0\n";

    #[test]
    fn processor_time() {
        let throttling = Throttling { periods: 103, throttled: 51, throttled_ns: 2_533_419_000 };
        let expected = Cpu {
            usage_ns: 5_215_427_000,
            user_ns: 3_512_007_000,
            system_ns: 1_703_420_000,
            throttling: Some(throttling),
        };
        assert_eq!(Cpu::parse(CPU), Some(expected));
        // Without the controller.
        let plain = CPU.split("nr_periods").next().unwrap();
        assert_eq!(Cpu::parse(plain), Some(Cpu { throttling: None, ..expected }));
        for text in ["", "usage_usec", "usage_usec -1\n", "usage_usec 1x\n", "xusage_usec 1\n", "usage_usec2 1\n"] {
            assert_eq!(Cpu::parse(text), None, "{text}");
        }
        let most = format!("usage_usec {}\n", u64::MAX);
        assert_eq!(Cpu::parse(&most).unwrap().usage_ns, u64::MAX);
    }

    #[test]
    fn events_of_memory() {
        let expected = MemoryEvents { high: 3, max: 7015, oom: 2, oom_kill: 1 };
        assert_eq!(MemoryEvents::parse(EVENTS), Some(expected));
        assert_eq!(MemoryEvents::parse("low 0\nhigh 0\nmax 0\noom 1\n"), None);
        assert_eq!(MemoryEvents::parse("oom_kill 99999999999999999999\n"), None);
        assert_eq!(MemoryEvents::parse("oom_group_kill 4\n"), None);
    }

    #[test]
    fn devices_are_summed_up() {
        let text = "259:0 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n8:0 rbytes=10 wbytes=20 rios=3\n7:1 \n\
                    253:0 rbytes=x wbytes=-1 rios=1 wios=18446744073709551616\n";
        assert_eq!(Io::parse(text), Io { read_bytes: 11, written_bytes: 22, reads: 5, writes: 1 });
        assert_eq!(Io::parse(""), Io::default());
        let most = format!("8:0 rbytes={0}\n8:1 rbytes={0}\n", u64::MAX);
        assert_eq!(Io::parse(&most).read_bytes, u64::MAX);
    }

    #[test]
    fn pressure() {
        let text = "some avg10=12.34 avg60=1.00 avg300=0.00 total=58761459\n\
                    full avg10=0.50 avg60=0.00 avg300=0.00 total=1000\n";
        let expected = Pressure {
            some: Stall { avg10_percent: 12.34, total_ns: 58_761_459_000 },
            full: Some(Stall { avg10_percent: 0.5, total_ns: 1_000_000 }),
        };
        assert_eq!(Pressure::parse(text), Some(expected));
        // Linux before 5.13 has no second line for processors.
        let first = text.lines().next().unwrap();
        assert_eq!(Pressure::parse(first), Some(Pressure { full: None, ..expected }));
        for text in ["", "some", "some avg10=nan total=1", "some avg10=inf total=1", "some avg10=1.0", "full avg10=1"] {
            assert_eq!(Pressure::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_cgroup_is_read_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Readings::of(dir.path()), Readings::default());
        assert_eq!(Readings::of(Path::new("/nowhere")), Readings::default());
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("cpu.stat", CPU);
        write("memory.current", "9000\n");
        write("memory.max", "max\n");
        write("pids.current", "3\n");
        write("pids.max", "100\n");
        let readings = Readings::of(dir.path());
        assert_eq!(readings.cpu, Cpu::parse(CPU));
        assert_eq!(readings.memory, Some(Memory { current_bytes: 9000, ..Memory::default() }));
        assert_eq!(readings.pids, Some(Pids { current: 3, peak: None, limit: Some(100) }));
        assert_eq!((readings.io, readings.memory_events), (None, None));
        write("memory.stat", "anon 4000\nfile 5000\nkernel 7\ninactive_anon 1\ninactive_file 1000\nzswpwarm 3\n");
        for (name, text) in [("memory.peak", "9500\n"), ("memory.max", "10000\n"), ("memory.swap.current", "0\n")] {
            write(name, text);
        }
        let memory = Readings::of(dir.path()).memory.unwrap();
        assert_eq!((memory.anonymous_bytes, memory.file_bytes, memory.used_bytes()), (4000, 5000, 8000));
        assert_eq!((memory.peak_bytes, memory.limit_bytes, memory.swap_bytes), (Some(9500), Some(10_000), Some(0)));
        write("memory.stat", "inactive_file 9001\n");
        assert_eq!(Readings::of(dir.path()).memory.unwrap().used_bytes(), 0);
        write("memory.current", "\u{0}\n");
        assert_eq!(Readings::of(dir.path()).memory, None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(some |full |usage_usec |oom_kill |rbytes=|avg10=|total=|[a-z0-9.= \n-]){0,40}") {
            std::hint::black_box((Cpu::parse(&text), MemoryEvents::parse(&text), Io::parse(&text)));
            std::hint::black_box((Pressure::parse(&text), number(&text)));
        }
    }
}
