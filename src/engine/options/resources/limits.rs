//! From what was asked for to what is written into a cgroup.

use std::path::Path;

use super::{Resources, weight};
use crate::error::Result;
use crate::sandbox::cgroup::Limits;
use crate::sandbox::cgroup::limits::{Bound, CpuMax, Disk, IoMax};

impl Resources {
    /// The limits. `disk` finds the disk that a path below /dev stands for.
    pub fn limits(&self, disk: &dyn Fn(&Path) -> Result<Disk>) -> Result<Limits> {
        let (swap_max, swap_is_implied) = self.swap();
        let io_disk_weights = self
            .blkio_weight_devices
            .iter()
            .map(|(path, docker)| Ok((disk(path)?, weight::of_block(*docker))))
            .collect::<Result<_>>()?;
        Ok(Limits {
            memory_max: self.memory,
            memory_high: self.memory_high,
            memory_low: self.memory_reservation.map(|bound| match bound {
                // No reservation is none, not all.
                Bound::Max(_) => Bound::At(0),
                bytes => bytes,
            }),
            swap_max,
            swap_is_implied,
            cpu_max: self.cpu_max(),
            cpu_weight: self.cpu_shares.map(weight::of_shares).or(self.cpu_weight),
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids_max: self.pids,
            io_weight: self.blkio_weight.map(weight::of_block),
            io_disk_weights,
            io_max: self.io_max(disk)?,
            conf: self.conf.clone(),
        })
    }

    /// Docker's `--memory-swap` is memory and swap together; where it is not
    /// said, there is as much swap as memory. The kernel counts swap alone.
    fn swap(&self) -> (Option<Bound>, bool) {
        match (self.memory, self.memory_swap) {
            (_, Some(Bound::Max(max))) => (Some(Bound::Max(max)), false),
            (Some(Bound::At(memory)), Some(Bound::At(both))) => (Some(Bound::At(both.saturating_sub(memory))), false),
            (memory, _) => (memory, memory.is_some()),
        }
    }

    fn cpu_max(&self) -> Option<CpuMax> {
        if self.cpu_quota_us.is_none() && self.cpu_period_us.is_none() {
            return self.nano_cpus.map(weight::of_cpus);
        }
        let period_us = self.cpu_period_us.filter(|period| *period > 0).unwrap_or(weight::PERIOD_US);
        Some(CpuMax { quota_us: self.cpu_quota_us.unwrap_or(Bound::MAX), period_us })
    }

    /// One line for each disk, whatever it is called.
    fn io_max(&self, disk: &dyn Fn(&Path) -> Result<Disk>) -> Result<Vec<IoMax>> {
        type Slot = fn(&mut IoMax) -> &mut Option<Bound>;
        let kinds: [(&[_], Slot); 4] = [
            (&self.read_bps, |max| &mut max.read_bytes),
            (&self.write_bps, |max| &mut max.write_bytes),
            (&self.read_iops, |max| &mut max.read_operations),
            (&self.write_iops, |max| &mut max.write_operations),
        ];
        let mut all: Vec<IoMax> = Vec::new();
        for (rates, slot) in kinds {
            for (path, bound) in rates {
                let disk = disk(path)?;
                let known = all.iter_mut().find(|max| max.disk == disk);
                match known {
                    Some(max) => *slot(max) = Some(*bound),
                    None => {
                        let mut max = IoMax::of(disk);
                        *slot(&mut max) = Some(*bound);
                        all.push(max);
                    }
                }
            }
        }
        Ok(all)
    }
}
