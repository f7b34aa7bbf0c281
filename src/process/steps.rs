//! Named steps of a process: the same name in the source, in an error and in
//! the table of times that `--debug` prints.
//!
//! Times are of CLOCK_MONOTONIC, so those of several processes line up.

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};

/// One step that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The process and the step, e.g. `init: mount root`.
    pub name: String,
    /// When it ended, in microseconds of CLOCK_MONOTONIC.
    pub ended_us: u64,
    /// How long it took.
    pub took_us: u64,
}

/// Runs steps and remembers how long each took.
#[derive(Debug)]
pub struct Steps {
    process: &'static str,
    last_us: u64,
    /// All so far, in order.
    pub done: Vec<Step>,
}

impl Steps {
    /// Starts the clock of `process`.
    pub fn new(process: &'static str) -> Self {
        Self { process, last_us: now_us(), done: Vec::with_capacity(48) }
    }

    /// Runs one step. Its name is put in front of its failure.
    pub fn run<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let value = step().doing(|| name)?;
        self.mark(name);
        Ok(value)
    }

    /// Ends a step whose work was done outside [`Steps::run`].
    pub fn mark(&mut self, name: &str) {
        let ended_us = now_us();
        let took_us = ended_us.saturating_sub(self.last_us);
        self.last_us = ended_us;
        self.done.push(Step { name: format!("{}: {name}", self.process), ended_us, took_us });
    }
}

fn now_us() -> u64 {
    // The clock is always there; without it all times would be 0.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1000)
}
