//! Limits of a cgroup, as data: which files of cgroup v2 get which values, and
//! which controllers that takes (Linux, Documentation/admin-guide/cgroup-v2.rst).
//!
//! Pure. Writing them is [`super::write`]'s, and what to do about a controller
//! that is not there is the plan's.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A controller of cgroup v2, by its name in `cgroup.controllers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    /// Time on processors.
    Cpu,
    /// Which processors and memory nodes.
    Cpuset,
    /// Huge pages.
    Hugetlb,
    /// Block devices.
    Io,
    /// Memory and swap.
    Memory,
    /// Countable things of certain machines, such as encryption keys.
    Misc,
    /// Processes and threads.
    Pids,
    /// Infiniband handles.
    Rdma,
}

/// All there are, in the order of their names.
const CONTROLLERS: [Controller; 8] = [
    Controller::Cpu,
    Controller::Cpuset,
    Controller::Hugetlb,
    Controller::Io,
    Controller::Memory,
    Controller::Misc,
    Controller::Pids,
    Controller::Rdma,
];

impl Controller {
    /// The kernel's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Hugetlb => "hugetlb",
            Self::Io => "io",
            Self::Memory => "memory",
            Self::Misc => "misc",
            Self::Pids => "pids",
            Self::Rdma => "rdma",
        }
    }

    /// Whose file `file` is: `memory.high` is the memory controller's.
    pub fn of_file(file: &str) -> Option<Self> {
        let (name, _) = file.split_once('.')?;
        CONTROLLERS.into_iter().find(|controller| controller.name() == name)
    }
}

/// How much there may be of something; in JSON a number or `"max"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bound {
    /// So much.
    At(u64),
    /// As much as there is.
    Max(Max),
}

/// The word `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Max {
    /// As the kernel writes it.
    Max,
}

impl Bound {
    /// No limit.
    pub const MAX: Self = Self::Max(Max::Max);

    /// The number, if there is one.
    pub fn number(self) -> Option<u64> {
        match self {
            Self::At(number) => Some(number),
            Self::Max(_) => None,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(number) => number.fmt(f),
            Self::Max(_) => f.write_str("max"),
        }
    }
}

/// A block device by its numbers; a whole disk, since the kernel limits no
/// partition on its own (blkg_conf_open_bdev answers ENODEV).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Disk {
    /// The driver's.
    pub major: u32,
    /// The disk's.
    pub minor: u32,
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Time on processors: `quota_us` of every `period_us`, all processors together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuMax {
    /// Microseconds.
    pub quota_us: Bound,
    /// Microseconds.
    pub period_us: u64,
}

/// What may be moved to and from one disk; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoMax {
    /// Which.
    pub disk: Disk,
    /// Bytes a second, read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<Bound>,
    /// Bytes a second, written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_bytes: Option<Bound>,
    /// Operations a second, read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_operations: Option<Bound>,
    /// Operations a second, written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_operations: Option<Bound>,
}

/// What a cgroup may use. What is `None` or empty is not limited, and nothing
/// is written for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes; above, the kernel kills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<Bound>,
    /// Bytes; above, it is slowed down and its memory taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<Bound>,
    /// Bytes that are taken back last, if others have more than theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_low: Option<Bound>,
    /// Bytes of swap, beside the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_max: Option<Bound>,
    /// Nobody asked for `swap_max`: it follows from `memory_max`. A kernel that
    /// counts no swap then does without.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub swap_is_implied: bool,
    /// Time on processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_max: Option<CpuMax>,
    /// Share of the processors where they are short, 1..10000; 100 is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u64>,
    /// Processors, such as `0-3,8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, in the same form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<Bound>,
    /// Share of the disks where they are short, 1..10000; 100 is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u64>,
    /// The same for single disks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_disk_weights: Vec<(Disk, u64)>,
    /// What may be moved to and from disks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_max: Vec<IoMax>,
    /// More files with their values, checked by [`check_file`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conf: Vec<(String, String)>,
}

/// One line for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The option that asks for it.
    pub flag: &'static str,
    /// Whose the file is.
    pub controller: Controller,
    /// The file's name in the cgroup's directory.
    pub file: String,
    /// What is written to it.
    pub value: String,
}

impl Limits {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The controllers that it takes to hold them.
    pub fn controllers(&self) -> BTreeSet<Controller> {
        self.entries().into_iter().map(|entry| entry.controller).collect()
    }

    /// What is to be written: file and value, in this order. A file may come
    /// several times, once for each disk.
    pub fn files(&self) -> Vec<(String, String)> {
        self.entries().into_iter().map(|entry| (entry.file, entry.value)).collect()
    }

    /// What cannot be written where only the controllers `available` are
    /// (names as in `cgroup.controllers`).
    pub fn missing(&self, available: &[String]) -> Vec<Entry> {
        let is_there = |controller: Controller| available.iter().any(|name| name == controller.name());
        self.entries().into_iter().filter(|entry| !is_there(entry.controller)).collect()
    }

    /// Those of some controllers only.
    #[must_use]
    pub fn only(&self, controllers: &BTreeSet<Controller>) -> Self {
        let mut limits = self.clone();
        let lacks = |controller| !controllers.contains(&controller);
        if lacks(Controller::Memory) {
            (limits.memory_max, limits.memory_high, limits.memory_low, limits.swap_max) = (None, None, None, None);
            limits.swap_is_implied = false;
        }
        if lacks(Controller::Cpu) {
            (limits.cpu_max, limits.cpu_weight) = (None, None);
        }
        if lacks(Controller::Cpuset) {
            (limits.cpuset_cpus, limits.cpuset_mems) = (None, None);
        }
        if lacks(Controller::Pids) {
            limits.pids_max = None;
        }
        if lacks(Controller::Io) {
            limits.io_weight = None;
            limits.io_disk_weights.clear();
            limits.io_max.clear();
        }
        limits.conf.retain(|(file, _)| Controller::of_file(file).is_some_and(|owner| controllers.contains(&owner)));
        limits
    }

    /// What `file` says, which must be one of those that kernels may lack, and
    /// all else.
    #[must_use]
    pub fn split_off(&self, file: &str) -> (Self, Self) {
        let (mut off, mut rest) = (Self::default(), self.clone());
        match file {
            SWAP_MAX => {
                (off.swap_max, off.swap_is_implied) = (rest.swap_max.take(), std::mem::take(&mut rest.swap_is_implied));
            }
            IO_WEIGHT => {
                off.io_weight = rest.io_weight.take();
                off.io_disk_weights = std::mem::take(&mut rest.io_disk_weights);
            }
            _ => {}
        }
        (off, rest)
    }

    /// Those that are other than in `before`.
    #[must_use]
    pub fn beyond(&self, before: &Self) -> Self {
        fn other<T: PartialEq + Clone>(now: &Option<T>, before: &Option<T>) -> Option<T> {
            if now == before { None } else { now.clone() }
        }
        fn others<T: PartialEq + Clone>(now: &[T], before: &[T]) -> Vec<T> {
            now.iter().filter(|one| !before.contains(one)).cloned().collect()
        }
        let swap_max = other(&self.swap_max, &before.swap_max);
        Self {
            memory_max: other(&self.memory_max, &before.memory_max),
            memory_high: other(&self.memory_high, &before.memory_high),
            memory_low: other(&self.memory_low, &before.memory_low),
            swap_is_implied: swap_max.is_some() && self.swap_is_implied,
            swap_max,
            cpu_max: other(&self.cpu_max, &before.cpu_max),
            cpu_weight: other(&self.cpu_weight, &before.cpu_weight),
            cpuset_cpus: other(&self.cpuset_cpus, &before.cpuset_cpus),
            cpuset_mems: other(&self.cpuset_mems, &before.cpuset_mems),
            pids_max: other(&self.pids_max, &before.pids_max),
            io_weight: other(&self.io_weight, &before.io_weight),
            io_disk_weights: others(&self.io_disk_weights, &before.io_disk_weights),
            io_max: others(&self.io_max, &before.io_max),
            conf: others(&self.conf, &before.conf),
        }
    }

    /// Whether nobody asked for what `file` says: it follows from another one.
    pub fn is_implied(&self, file: &str) -> bool {
        file == SWAP_MAX && self.swap_is_implied
    }

    /// Whether `file` may be missing: then there is nothing that it could limit.
    pub fn may_lack(&self, file: &str) -> bool {
        self.is_implied(file) || (file == SWAP_MAX && self.swap_max == Some(Bound::MAX))
    }

    /// The same with the option that asks for each.
    pub fn entries(&self) -> Vec<Entry> {
        let mut list = Entries::default();
        let cpu_max = self.cpu_max.map(|max| format!("{} {}", max.quota_us, max.period_us));
        list.add("--cpus", "cpu.max", cpu_max);
        list.add("--cpu-weight", "cpu.weight", self.cpu_weight);
        list.add("--cpuset-cpus", "cpuset.cpus", self.cpuset_cpus.as_ref());
        list.add("--cpuset-mems", "cpuset.mems", self.cpuset_mems.as_ref());
        list.add("--blkio-weight", IO_WEIGHT, self.io_weight.map(|weight| format!("default {weight}")));
        for (disk, weight) in &self.io_disk_weights {
            list.add("--blkio-weight-device", IO_WEIGHT, Some(format!("{disk} {weight}")));
        }
        self.io_max.iter().for_each(|max| list.add(max.flag(), "io.max", max.line()));
        list.add("--memory-reservation", "memory.low", self.memory_low);
        list.add("--memory-high", "memory.high", self.memory_high);
        list.add("--memory", "memory.max", self.memory_max);
        list.add("--memory-swap", SWAP_MAX, self.swap_max);
        list.add("--pids-limit", "pids.max", self.pids_max);
        self.conf.iter().for_each(|(file, value)| list.add("--cgroup-conf", file, Some(value)));
        list.0
    }
}

/// The file for weights of disks, which kernels without an I/O cost model lack.
const IO_WEIGHT: &str = "io.weight";

/// The file for swap, which kernels without swap lack.
const SWAP_MAX: &str = "memory.swap.max";

#[derive(Default)]
struct Entries(Vec<Entry>);

impl Entries {
    fn add(&mut self, flag: &'static str, file: &str, value: Option<impl ToString>) {
        if let (Some(value), Some(controller)) = (value, Controller::of_file(file)) {
            self.0.push(Entry { flag, controller, file: file.to_owned(), value: value.to_string() });
        }
    }
}

impl IoMax {
    /// No limits for `disk`.
    pub fn of(disk: Disk) -> Self {
        Self { disk, read_bytes: None, write_bytes: None, read_operations: None, write_operations: None }
    }

    /// The four, by the kernel's names.
    fn parts(&self) -> [(&'static str, &'static str, Option<Bound>); 4] {
        [
            ("--device-read-bps", "rbps", self.read_bytes),
            ("--device-write-bps", "wbps", self.write_bytes),
            ("--device-read-iops", "riops", self.read_operations),
            ("--device-write-iops", "wiops", self.write_operations),
        ]
    }

    fn flag(&self) -> &'static str {
        self.parts().into_iter().find(|(.., bound)| bound.is_some()).map_or("", |(flag, ..)| flag)
    }

    /// `8:0 rbps=1048576 wiops=max`.
    fn line(&self) -> Option<String> {
        let parts = self.parts().into_iter().filter_map(|(_, name, bound)| Some(format!(" {name}={}", bound?)));
        let parts: String = parts.collect();
        (!parts.is_empty()).then(|| format!("{}{parts}", self.disk))
    }
}

/// Whether a file may be written because a user names it: one of a known
/// controller, in the cgroup's own directory. The core's files (`cgroup.*`)
/// are kelp's.
pub fn check_file(file: &str) -> Result<Controller, &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match Controller::of_file(file) {
        _ if file.contains('/') => Err("it must be a file's name, without a slash"),
        _ if file == "cpu.weight.nice" => Err("it is cpu.weight in other numbers: --cpu-weight"),
        _ if file.starts_with("cgroup.") => Err("the files cgroup.* are kelp's own"),
        _ if !file.chars().all(is_plain) => Err("it is no name of a cgroup's file"),
        None => Err("it belongs to none of the controllers cpu, cpuset, hugetlb, io, memory, misc, pids and rdma"),
        Some(controller) => Ok(controller),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Limits {
        let disk = Disk { major: 8, minor: 16 };
        Limits {
            memory_max: Some(Bound::At(64 << 20)),
            memory_high: Some(Bound::MAX),
            memory_low: Some(Bound::At(0)),
            swap_max: Some(Bound::At(0)),
            swap_is_implied: false,
            cpu_max: Some(CpuMax { quota_us: Bound::At(50_000), period_us: 100_000 }),
            cpu_weight: Some(79),
            cpuset_cpus: Some("0-1,3".to_owned()),
            cpuset_mems: Some("0".to_owned()),
            pids_max: Some(Bound::At(100)),
            io_weight: Some(1),
            io_disk_weights: vec![(disk, 10_000)],
            io_max: vec![IoMax {
                disk,
                read_bytes: Some(Bound::At(1 << 20)),
                write_bytes: None,
                read_operations: None,
                write_operations: Some(Bound::MAX),
            }],
            conf: vec![("hugetlb.2MB.max".to_owned(), "0".to_owned())],
        }
    }

    #[test]
    fn every_limit_has_its_file() {
        let files: Vec<String> = all().files().into_iter().map(|(file, value)| format!("{file} {value}")).collect();
        assert_eq!(
            files,
            [
                "cpu.max 50000 100000",
                "cpu.weight 79",
                "cpuset.cpus 0-1,3",
                "cpuset.mems 0",
                "io.weight default 1",
                "io.weight 8:16 10000",
                "io.max 8:16 rbps=1048576 wiops=max",
                "memory.low 0",
                "memory.high max",
                "memory.max 67108864",
                "memory.swap.max 0",
                "pids.max 100",
                "hugetlb.2MB.max 0",
            ]
        );
        assert_eq!(Limits::default().files(), []);
        assert!(Limits::default().is_empty() && !all().is_empty());
    }

    #[test]
    fn controllers_are_those_of_the_files() {
        let names = |limits: &Limits| limits.controllers().into_iter().map(Controller::name).collect::<Vec<_>>();
        assert_eq!(names(&all()), ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"]);
        assert!(names(&Limits::default()).is_empty());
        let weight = Limits { cpu_weight: Some(1), ..Limits::default() };
        assert_eq!(names(&weight), ["cpu"]);
    }

    #[test]
    fn what_is_missing_is_named_by_option_and_file() {
        let missing = |available: &str| {
            let available: Vec<String> = available.split_whitespace().map(str::to_owned).collect();
            all().missing(&available).into_iter().map(|entry| format!("{} {}", entry.flag, entry.file)).collect()
        };
        let missing: [Vec<String>; 3] =
            [missing("cpu cpuset io memory pids hugetlb"), missing("cpuset io memory pids"), missing("")];
        assert!(missing[0].is_empty());
        assert_eq!(missing[1], ["--cpus cpu.max", "--cpu-weight cpu.weight", "--cgroup-conf hugetlb.2MB.max"]);
        assert_eq!(missing[2].len(), 13);
    }

    #[test]
    fn only_swap_that_follows_from_memory_may_lack_its_file() {
        let limits = |swap_max, swap_is_implied| Limits { swap_max, swap_is_implied, ..Limits::default() };
        assert!(limits(Some(Bound::At(5)), true).may_lack("memory.swap.max"));
        assert!(limits(Some(Bound::MAX), false).may_lack("memory.swap.max"));
        assert!(!limits(Some(Bound::At(5)), false).may_lack("memory.swap.max"));
        assert!(!limits(Some(Bound::At(5)), true).may_lack("memory.max"));
    }

    #[test]
    fn only_what_is_other_is_written_anew() {
        assert!(all().beyond(&all()).is_empty());
        assert_eq!(all().beyond(&Limits::default()), all());
        let swap_max = Some(Bound::At(9));
        let other = Limits { swap_max, swap_is_implied: true, pids_max: Some(Bound::MAX), ..all() };
        let files: Vec<String> = other.beyond(&all()).files().into_iter().map(|(file, _)| file).collect();
        assert_eq!(files, ["memory.swap.max", "pids.max"]);
    }

    #[test]
    fn some_controllers_have_some_of_the_limits() {
        let only = |controllers: &[Controller]| {
            let limits = all().only(&controllers.iter().copied().collect());
            limits.files().into_iter().map(|(file, _)| file).collect::<Vec<_>>()
        };
        assert_eq!(only(&[]), [""; 0]);
        assert_eq!(only(&[Controller::Cpu, Controller::Pids]), ["cpu.max", "cpu.weight", "pids.max"]);
        assert_eq!(only(&[Controller::Hugetlb]), ["hugetlb.2MB.max"]);
        assert_eq!(only(&CONTROLLERS).len(), 13);
        for controller in CONTROLLERS {
            assert!(all().only(&[controller].into()).controllers().iter().all(|own| *own == controller));
        }
    }

    #[test]
    fn what_a_kernel_may_lack_can_be_left_out() {
        for (file, count) in [("io.weight", 2), ("memory.swap.max", 1), ("memory.max", 0)] {
            let (off, rest) = all().split_off(file);
            assert_eq!(off.files().iter().filter(|(of, _)| of == file).count(), count, "{file}");
            assert_eq!((off.files().len(), rest.files().len()), (count, all().files().len() - count), "{file}");
        }
    }

    #[test]
    fn documents_are_read_back() {
        let text = serde_json::to_string(&all()).unwrap();
        assert!(text.contains(r#""memory_high":"max""#), "{text}");
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), all());
        assert_eq!(serde_json::to_string(&Limits::default()).unwrap(), "{}");
        assert!(serde_json::from_str::<Limits>(r#"{"memory_max":"much"}"#).is_err());
    }

    #[test]
    fn files_of_controllers_may_be_named() {
        for (file, controller) in [("memory.high", "memory"), ("hugetlb.2MB.max", "hugetlb"), ("cpu.uclamp.min", "cpu")]
        {
            assert_eq!(check_file(file).map(Controller::name), Ok(controller), "{file}");
        }
        for file in [
            "",
            "memory",
            "a/memory.max",
            "../memory.max",
            "cgroup.procs",
            "memory.max ",
            "x.max",
            "memory.\0",
            "cpu.weight.nice",
        ] {
            assert!(check_file(file).is_err(), "{file:?}");
        }
    }
}
