//! Named steps of a stage: the same name in the source, in an error and in
//! the table of times that `--debug` prints.

use std::time::Instant;

use crate::error::{Context, Result};

/// Runs steps and remembers how long each took.
#[derive(Debug)]
pub struct Steps {
    last: Instant,
    /// Name and microseconds, in order.
    pub done: Vec<(String, u64)>,
}

impl Steps {
    /// Starts the clock.
    pub fn new() -> Self {
        Self { last: Instant::now(), done: Vec::with_capacity(32) }
    }

    /// Runs one step. Its name is put in front of its failure.
    pub fn run<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let value = step().doing(|| name)?;
        self.mark(name);
        Ok(value)
    }

    /// Ends a step whose work was done outside [`Steps::run`].
    /// The same name again adds to it.
    pub fn mark(&mut self, name: &str) {
        let now = Instant::now();
        let took_us = now.duration_since(self.last).as_micros() as u64;
        self.last = now;
        match self.done.last_mut() {
            Some((last, total_us)) if last == name => *total_us += took_us,
            _ => self.done.push((name.to_owned(), took_us)),
        }
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self::new()
    }
}
