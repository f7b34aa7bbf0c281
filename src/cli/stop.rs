//! `kelp stop`: asks containers to end, and sees to it.

use clap::Args;

use super::{Session, each, named_if_done};
use crate::container::control::Stop;
use crate::engine::lifecycle;
use crate::engine::options::stop_signal;
use crate::error::{Failure, Result};

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
    // All at once: each may take its whole time. None of them starts a process.
    let mut stopped = std::thread::scope(|scope| {
        let stop = |name: &String| {
            scope.spawn({
                let name = name.clone();
                move || lifecycle::stop(&session.paths, &name, stop)
            })
        };
        let running: Vec<_> = arguments.containers.iter().map(stop).collect();
        let end = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(Failure::bug("a thread that stops a container panicked")))
        };
        running.into_iter().map(end).collect::<Vec<_>>()
    })
    .into_iter();
    Ok(each(&arguments.containers, |name| {
        let stopped = stopped.next().unwrap_or(Ok(()));
        named_if_done(name, stopped, arguments.ignore)
    }))
}
