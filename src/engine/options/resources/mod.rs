//! What a container may use, as docker's options say it: `--memory`, `--cpus`
//! and the like, for `run`, `create` and `update`.
//!
//! [`parse`] reads and checks what was typed, [`Resources::limits`] says which
//! files of cgroup v2 that becomes. Units, minima and conflicts are docker's
//! (moby daemon/daemon_unix.go, verifyPlatformContainerResources).

mod device;
mod limits;
mod number;
pub mod weight;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::field;
use crate::error::{Context, Failure, Result};
use crate::limits as bounds;
use crate::sandbox::cgroup::limits::{Bound, check_file};

/// The least memory that docker limits a container to, in bytes.
const MEMORY_BYTES_MIN: u64 = 6 << 20;

/// What is done about a limit that the container's cgroup cannot hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The container is not started.
    #[default]
    Strict,
    /// It is held otherwise where that can be, and the user is told.
    BestEffort,
}

/// What was asked for. `None` is what nobody has spoken of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bound>,
    /// Bytes that are left to it where memory is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<Bound>,
    /// Bytes of memory and swap together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<Bound>,
    /// Bytes above which it is slowed down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<Bound>,
    /// Processors, in billionths; 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nano_cpus: Option<u64>,
    /// Share in docker's numbers, where 1024 is usual; 0 is the usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// Share in the kernel's numbers, where 100 is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u64>,
    /// Microseconds of processors in each period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota_us: Option<Bound>,
    /// Microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period_us: Option<u64>,
    /// Processors, such as `0-3,8`; empty for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, in the same form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<Bound>,
    /// Share of the disks in docker's numbers, 10..1000; 0 is the usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_weight: Option<u64>,
    /// The same for single disks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blkio_weight_devices: Vec<(PathBuf, u64)>,
    /// Bytes a second, read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_bps: Vec<(PathBuf, Bound)>,
    /// Bytes a second, written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write_bps: Vec<(PathBuf, Bound)>,
    /// Operations a second, read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_iops: Vec<(PathBuf, Bound)>,
    /// Operations a second, written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write_iops: Vec<(PathBuf, Bound)>,
    /// Files of the cgroup with their values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conf: Vec<(String, String)>,
    /// How willingly the kernel kills it where memory is short, −1000..1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// What is done about a limit that cannot hold.
    pub mode: Mode,
}

/// The options' texts.
#[derive(Debug, Clone, Default)]
pub struct Typed {
    /// `--memory`
    pub memory: Option<String>,
    /// `--memory-reservation`
    pub memory_reservation: Option<String>,
    /// `--memory-swap`
    pub memory_swap: Option<String>,
    /// `--memory-high`
    pub memory_high: Option<String>,
    /// `--cpus`
    pub cpus: Option<String>,
    /// `--cpu-shares`
    pub cpu_shares: Option<String>,
    /// `--cpu-weight`
    pub cpu_weight: Option<String>,
    /// `--cpu-quota`
    pub cpu_quota: Option<String>,
    /// `--cpu-period`
    pub cpu_period: Option<String>,
    /// `--cpuset-cpus`
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`
    pub cpuset_mems: Option<String>,
    /// `--pids-limit`
    pub pids_limit: Option<String>,
    /// `--blkio-weight`
    pub blkio_weight: Option<String>,
    /// `--blkio-weight-device`
    pub blkio_weight_devices: Vec<String>,
    /// `--device-read-bps`
    pub read_bps: Vec<String>,
    /// `--device-write-bps`
    pub write_bps: Vec<String>,
    /// `--device-read-iops`
    pub read_iops: Vec<String>,
    /// `--device-write-iops`
    pub write_iops: Vec<String>,
    /// `--cgroup-conf`
    pub conf: Vec<String>,
    /// `--oom-score-adj`
    pub oom_score_adj: Option<String>,
    /// `--limits`
    pub mode: Option<String>,
}

/// Reads what was typed; each value on its own is legal then.
/// [`Resources::check`] looks at them together.
pub fn parse(typed: &Typed) -> Result<Resources> {
    let read = number::Reader;
    Ok(Resources {
        memory: read.bytes("--memory", &typed.memory)?,
        memory_reservation: read.bytes("--memory-reservation", &typed.memory_reservation)?,
        memory_swap: read.with("--memory-swap", &typed.memory_swap, number::swap)?.flatten(),
        memory_high: read.bytes("--memory-high", &typed.memory_high)?,
        nano_cpus: read.with("--cpus", &typed.cpus, number::nano_cpus)?,
        cpu_shares: read.with("--cpu-shares", &typed.cpu_shares, |text| number::within_or_zero(text, 1, 262_144))?,
        cpu_weight: read.with("--cpu-weight", &typed.cpu_weight, |text| number::within(text, 1, 10_000))?,
        cpu_quota_us: read.with("--cpu-quota", &typed.cpu_quota, number::quota)?,
        cpu_period_us: read.with("--cpu-period", &typed.cpu_period, number::period)?,
        cpuset_cpus: read.with("--cpuset-cpus", &typed.cpuset_cpus, number::list)?,
        cpuset_mems: read.with("--cpuset-mems", &typed.cpuset_mems, number::list)?,
        pids: read.with("--pids-limit", &typed.pids_limit, number::processes)?,
        blkio_weight: read
            .with("--blkio-weight", &typed.blkio_weight, |text| number::within_or_zero(text, 10, 1000))?,
        blkio_weight_devices: device::each("--blkio-weight-device", &typed.blkio_weight_devices, device::weight)?,
        read_bps: device::each("--device-read-bps", &typed.read_bps, device::bytes)?,
        write_bps: device::each("--device-write-bps", &typed.write_bps, device::bytes)?,
        read_iops: device::each("--device-read-iops", &typed.read_iops, device::operations)?,
        write_iops: device::each("--device-write-iops", &typed.write_iops, device::operations)?,
        conf: conf(&typed.conf)?,
        oom_score_adj: read.with("--oom-score-adj", &typed.oom_score_adj, number::oom_score)?,
        mode: read.with("--limits", &typed.mode, mode)?.unwrap_or_default(),
    })
}

fn mode(text: &str) -> Result<Mode> {
    match text {
        "strict" => Ok(Mode::Strict),
        "best-effort" => Ok(Mode::BestEffort),
        other => Err(field::unknown("way", other, &["strict", "best-effort"])
            .hint("strict refuses a limit that cannot hold, best-effort holds it otherwise where that can be")),
    }
}

/// Podman's `--cgroup-conf FILE=VALUE`.
fn conf(texts: &[String]) -> Result<Vec<(String, String)>> {
    let one = |text: &String| -> Result<(String, String)> {
        let Some((file, value)) = text.split_once('=') else {
            return Err(Failure::usage("it must be FILE=VALUE, such as memory.high=1073741824"));
        };
        check_file(file).map_err(Failure::usage)?;
        match value.is_empty() || value.contains(['\n', '\0']) || value.len() > bounds::CGROUP_VALUE_BYTES_MAX {
            true => Err(Failure::usage("the value must be one line")),
            false => Ok((file.to_owned(), value.to_owned())),
        }
    };
    let all: Vec<_> =
        texts.iter().map(|text| one(text).doing(|| format!("use --cgroup-conf \"{text}\""))).collect::<Result<_>>()?;
    match all.iter().enumerate().find(|(index, (file, _))| all.iter().skip(index + 1).any(|(other, _)| other == file)) {
        Some((_, (file, _))) => Err(Failure::usage(format!("--cgroup-conf says two things about {file}"))),
        None => Ok(all),
    }
}

impl Resources {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self { mode: self.mode, ..Self::default() }
    }

    /// What is left without what asks for no limit, which a new cgroup has
    /// anyway: `--memory 0` needs no controller.
    pub fn that_limit(&self) -> Self {
        let bound = |bound: Option<Bound>| bound.filter(|bound| *bound != Bound::MAX);
        let number = |number: Option<u64>| number.filter(|number| *number != 0);
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let rates = |rates: &[(PathBuf, Bound)]| -> Vec<_> {
            rates.iter().filter(|(_, bound)| *bound != Bound::MAX).cloned().collect()
        };
        let memory = bound(self.memory);
        Self {
            memory,
            memory_reservation: bound(self.memory_reservation).filter(|bound| *bound != Bound::At(0)),
            // Of a limited memory, no limit of swap is more than the usual.
            memory_swap: self.memory_swap.filter(|swap| memory.is_some() || *swap != Bound::MAX),
            memory_high: bound(self.memory_high),
            nano_cpus: number(self.nano_cpus),
            cpu_shares: number(self.cpu_shares),
            cpu_quota_us: bound(self.cpu_quota_us),
            cpuset_cpus: text(&self.cpuset_cpus),
            cpuset_mems: text(&self.cpuset_mems),
            pids: bound(self.pids),
            blkio_weight: number(self.blkio_weight),
            read_bps: rates(&self.read_bps),
            write_bps: rates(&self.write_bps),
            read_iops: rates(&self.read_iops),
            write_iops: rates(&self.write_iops),
            ..self.clone()
        }
    }

    /// Whether the values fit each other. Docker's words where it has some.
    pub fn check(&self) -> Result<()> {
        self.check_memory()?;
        self.check_processors()?;
        let both = [
            ("--memory", "memory.max", self.memory.is_some()),
            ("--memory-high", "memory.high", self.memory_high.is_some()),
            ("--memory-reservation", "memory.low", self.memory_reservation.is_some()),
            ("--memory-swap", "memory.swap.max", self.memory_swap.is_some()),
            ("--cpus", "cpu.max", self.nano_cpus.is_some()),
            ("--cpu-quota", "cpu.max", self.cpu_quota_us.is_some() || self.cpu_period_us.is_some()),
            ("--cpu-shares", "cpu.weight", self.cpu_shares.is_some()),
            ("--cpu-weight", "cpu.weight", self.cpu_weight.is_some()),
            ("--cpuset-cpus", "cpuset.cpus", self.cpuset_cpus.is_some()),
            ("--cpuset-mems", "cpuset.mems", self.cpuset_mems.is_some()),
            ("--pids-limit", "pids.max", self.pids.is_some()),
        ];
        let twice = both.iter().find(|(_, file, is_set)| *is_set && self.conf.iter().any(|(other, _)| other == file));
        match twice {
            Some((flag, file, _)) => Err(Failure::usage(format!("{flag} and --cgroup-conf {file} exclude each other"))),
            None => Ok(()),
        }
    }

    fn check_memory(&self) -> Result<()> {
        let number = |bound: Option<Bound>| bound.and_then(Bound::number);
        let (memory, reservation) = (number(self.memory), number(self.memory_reservation).filter(|bytes| *bytes > 0));
        if memory.is_some_and(|bytes| bytes < MEMORY_BYTES_MIN) {
            return Err(Failure::usage("minimum memory limit allowed is 6MB"));
        }
        if reservation.is_some_and(|bytes| bytes < MEMORY_BYTES_MIN) {
            return Err(Failure::usage("minimum memory reservation allowed is 6MB"));
        }
        match (memory, number(self.memory_swap)) {
            (None, Some(_)) => {
                return Err(Failure::usage("--memory-swap needs --memory: it is memory and swap together"));
            }
            (Some(memory), Some(swap)) if swap < memory => {
                return Err(Failure::usage("--memory-swap is memory and swap together, and less than --memory")
                    .hint("the same as --memory is no swap, -1 all that there is"));
            }
            _ => {}
        }
        match (memory, reservation) {
            (Some(memory), Some(reservation)) if memory < reservation => {
                Err(Failure::usage("--memory is less than --memory-reservation"))
            }
            _ => Ok(()),
        }
    }

    fn check_processors(&self) -> Result<()> {
        let conflict = |one: &str, other: &str| {
            Err(Failure::usage(format!("conflicting options: {one} and {other} cannot both be set")))
        };
        let has_cpus = self.nano_cpus.is_some_and(|nano| nano > 0);
        if has_cpus && self.cpu_period_us.is_some_and(|period| period > 0) {
            return conflict("--cpus", "--cpu-period");
        }
        if has_cpus && self.cpu_quota_us.is_some_and(|quota| quota != Bound::MAX) {
            return conflict("--cpus", "--cpu-quota");
        }
        if self.cpu_shares.is_some_and(|shares| shares > 0) && self.cpu_weight.is_some() {
            return conflict("--cpu-shares", "--cpu-weight");
        }
        Ok(())
    }

    /// These as an `update` changes them: what it speaks of is replaced, and
    /// what says the same in other words is gone.
    #[must_use]
    pub fn changed_by(&self, update: &Self) -> Self {
        let says_quota = update.cpu_quota_us.is_some() || update.cpu_period_us.is_some();
        let unless = |is_replaced: bool| !is_replaced;
        Self {
            memory: update.memory.or(self.memory),
            memory_reservation: update.memory_reservation.or(self.memory_reservation),
            memory_swap: update.memory_swap.or(self.memory_swap),
            memory_high: update.memory_high.or(self.memory_high),
            nano_cpus: update.nano_cpus.or(self.nano_cpus.filter(|_| unless(says_quota))),
            cpu_shares: update.cpu_shares.or(self.cpu_shares.filter(|_| unless(update.cpu_weight.is_some()))),
            cpu_weight: update.cpu_weight.or(self.cpu_weight.filter(|_| unless(update.cpu_shares.is_some()))),
            cpu_quota_us: update.cpu_quota_us.or(self.cpu_quota_us.filter(|_| unless(update.nano_cpus.is_some()))),
            cpu_period_us: update.cpu_period_us.or(self.cpu_period_us.filter(|_| unless(update.nano_cpus.is_some()))),
            cpuset_cpus: update.cpuset_cpus.clone().or(self.cpuset_cpus.clone()),
            cpuset_mems: update.cpuset_mems.clone().or(self.cpuset_mems.clone()),
            pids: update.pids.or(self.pids),
            blkio_weight: update.blkio_weight.or(self.blkio_weight),
            blkio_weight_devices: merged(&self.blkio_weight_devices, &update.blkio_weight_devices),
            read_bps: merged(&self.read_bps, &update.read_bps),
            write_bps: merged(&self.write_bps, &update.write_bps),
            read_iops: merged(&self.read_iops, &update.read_iops),
            write_iops: merged(&self.write_iops, &update.write_iops),
            conf: merged(&self.conf, &update.conf),
            oom_score_adj: self.oom_score_adj,
            mode: self.mode,
        }
    }
}

/// Pairs of a key and its value; the later ones replace.
fn merged<K: Clone + PartialEq, V: Clone>(before: &[(K, V)], update: &[(K, V)]) -> Vec<(K, V)> {
    let stays = |(key, _): &&(K, V)| !update.iter().any(|(other, _)| other == key);
    before.iter().filter(stays).chain(update).cloned().collect()
}

#[cfg(test)]
mod tests;
