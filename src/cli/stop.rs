//! `kelp stop`: asks containers to end, and sees to it.

use clap::Args;

use super::{Session, each, named_if_done};
use crate::container::control::Stop;
use crate::engine::lifecycle;
use crate::engine::options::stop_signal;
use crate::error::Result;

/// Arguments of `kelp stop`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Seconds to wait before it is killed; -1 waits for ever
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    /// The signal to begin with
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Pass over those that are not there
    #[arg(short, long)]
    ignore: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Stops each; goes on behind one that cannot be stopped.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let signal = arguments.signal.as_deref().map(stop_signal::number).transpose()?;
    let stop = Stop { signal, timeout_s: arguments.time };
    Ok(each(&arguments.containers, |name| {
        named_if_done(name, lifecycle::stop(&session.paths, name, stop), arguments.ignore)
    }))
}
