//! `kelp kill`: sends containers a signal.

use clap::Args;

use super::{Session, each, output};
use crate::engine::lifecycle;
use crate::engine::options::stop_signal;
use crate::error::Result;

/// Arguments of `kelp kill`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Signals each; goes on behind one that cannot be.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let signal = stop_signal::number(&arguments.signal)?;
    Ok(each(&arguments.containers, |name| {
        lifecycle::kill(&session.paths, name, signal)?;
        output::line(name);
        Ok(())
    }))
}
