//! Which process a record means: its pid and start time.
//!
//! A pid alone may have been given to another process since; with the start
//! time (clock ticks after boot, proc_pid_stat(5) field 22) it names one
//! process of this boot.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};
use crate::kernel::process;

/// One process of this boot, alive or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its pid in the namespace kelp was called in.
    pub pid: i32,
    /// Its start time in clock ticks after boot.
    pub start_time: u64,
}

impl Identity {
    /// The process that has `pid` now.
    pub fn of(pid: i32) -> Result<Self> {
        Ok(Self { pid, start_time: start_time(pid)? })
    }

    /// A descriptor of the process, if it is still alive.
    pub fn open(self) -> Option<OwnedFd> {
        // First the descriptor, then the check: from here on it is this process or none.
        let pidfd = process::pidfd_open(self.pid).ok()?;
        self.is_current().then_some(pidfd)
    }

    /// Whether the pid still names the same process.
    pub fn is_current(self) -> bool {
        start_time(self.pid).is_ok_and(|start_time| start_time == self.start_time)
    }

    /// Whether the process is stopped by a signal or a tracer.
    pub fn is_stopped(self) -> bool {
        let state = field(self.pid, STATE);
        self.is_current() && state.is_ok_and(|state| state == "T" || state == "t")
    }
}

/// Fields of proc_pid_stat(5) behind the name, counted from the state.
const STATE: usize = 0;
const START_TIME: usize = 19;

fn start_time(pid: i32) -> Result<u64> {
    let field = field(pid, START_TIME)?;
    field.parse().map_err(|_| Failure::host(format!("/proc/{pid}/stat has no start time")))
}

fn field(pid: i32, index: usize) -> Result<String> {
    // One read(2) is enough: the line has some 300 bytes.
    let mut line = [0_u8; 1024];
    let length = fs::File::open(format!("/proc/{pid}/stat"))?.read(&mut line)?;
    let stat = String::from_utf8_lossy(line.get(..length).unwrap_or_default());
    // The second field is the program's name in parentheses and may hold
    // anything, parentheses and spaces included: count from the last one.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(index))
        .map(str::to_owned)
        .ok_or_else(|| Failure::host(format!("/proc/{pid}/stat is too short")))
}
