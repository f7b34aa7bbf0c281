//! Limits that the container's cgroup cannot hold, as far as the supervisor
//! can (`--limits best-effort`): processors by affinity, memory by looking.

use std::os::fd::AsFd;
use std::time::Instant;

use super::super::oom::{Killer, OutOfMemory};
use super::super::processes::Processes;
use super::super::usage::Sample;
use super::Supervisor;
use crate::error::{Context, Failure, Result};
use crate::kernel::process;
use crate::limits;
use crate::sandbox::start::Started;

/// A look may take this share of the time: one in so many.
const SHARE: u32 = 20;

/// The affinity of processes that run is set so often: a thread that was
/// started by one that had not got it yet is there for the next round.
const ROUNDS: u32 = 3;

/// A memory limit that the supervisor holds.
pub(super) struct MemoryLimit {
    bytes: u64,
    /// When it looks.
    next: Instant,
}

impl MemoryLimit {
    fn new(bytes: u64) -> Self {
        Self { bytes, next: Instant::now() + limits::WATCH_PAUSE_MIN }
    }
}

impl Supervisor {
    /// Before the program is started (again): all that is started from here on
    /// has the same affinity.
    pub(super) fn begin_substitutes(&mut self) -> Result<()> {
        let substitutes = &self.request.spec.substitutes;
        if !substitutes.processors.is_empty() {
            process::set_affinity(0, &substitutes.processors).doing(|| "keep to the processors of --cpuset-cpus")?;
        }
        self.memory_limit = substitutes.memory_bytes.map(MemoryLimit::new);
        Ok(())
    }

    /// When the program's memory is looked at.
    pub(super) fn substitutes_deadline(&self) -> Option<Instant> {
        self.memory_limit.as_ref().map(|limit| limit.next)
    }

    /// Looks at the program's memory, if it is time, and kills all of it where
    /// it is too much.
    pub(super) fn turn_substitutes(&mut self, payload: Option<&Started>) {
        let now = Instant::now();
        let (Some(limit), Some(started)) = (self.memory_limit.as_mut().filter(|limit| now >= limit.next), payload)
        else {
            return;
        };
        let record = &self.request.record;
        // What cannot be read this time can the next time.
        let bytes = Sample::take([record]).ok().and_then(|sample| Some(sample.of(record)?.memory_bytes));
        let pause = now.elapsed() * SHARE;
        limit.next = Instant::now() + pause.clamp(limits::WATCH_PAUSE_MIN, limits::WATCH_PAUSE_MAX);
        if bytes.is_none_or(|bytes| bytes <= limit.bytes) {
            return;
        }
        let killed = OutOfMemory { by: Killer::Kelp, limit_bytes: Some(limit.bytes), kills: 1 };
        self.memory_limit = None;
        self.note_out_of_memory(killed);
        self.kill_cgroup();
        // It may end at this very moment. The rest ends with it, as ever.
        process::pidfd_send_signal(started.pidfd.as_fd(), libc::SIGKILL).ok();
    }

    /// Holds what an update has changed, of a program that runs.
    pub(super) fn change_substitutes(&mut self) -> Result<()> {
        let (memory, processors) =
            (self.request.spec.substitutes.memory_bytes, self.request.spec.substitutes.processors.clone());
        self.memory_limit = memory.map(MemoryLimit::new);
        if processors.is_empty() {
            return Ok(());
        }
        process::set_affinity(0, &processors)?;
        for _ in 0..ROUNDS {
            let all = Processes::read()?;
            let own = all.of(&self.request.record).map(|(_, own)| own).unwrap_or_default();
            for thread in own.iter().flat_map(|stat| threads(stat.pid)) {
                match process::set_affinity(thread, &processors) {
                    Err(error) if error.errno != crate::kernel::Errno::ESRCH => return Err(Failure::from(error)),
                    // It has ended, or has it.
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn threads(pid: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
