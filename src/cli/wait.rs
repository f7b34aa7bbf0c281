//! `kelp wait`: waits until containers have ended, and prints what with.

use clap::{Args, ValueEnum};

use super::{Session, each, output};
use crate::engine::lifecycle::{self, Condition};
use crate::error::Result;

/// Arguments of `kelp wait`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to wait for
    #[arg(long, value_enum, default_value_t = WaitFor::NotRunning)]
    condition: WaitFor,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WaitFor {
    #[value(alias = "stopped", alias = "exited")]
    NotRunning,
    NextExit,
    Removed,
}

/// Waits for each and prints its exit status.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let condition = match arguments.condition {
        WaitFor::NotRunning => Condition::NotRunning,
        WaitFor::NextExit => Condition::NextExit,
        WaitFor::Removed => Condition::Removed,
    };
    Ok(each(&arguments.containers, |name| {
        output::line(lifecycle::wait(&session.paths, name, condition)?.to_string());
        Ok(())
    }))
}
