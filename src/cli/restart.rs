//! `kelp restart`: ends containers, if they run, and starts them again.

use clap::Args;

use super::run::Printer;
use super::{Session, each, named_if_done, progress};
use crate::container::control::Stop;
use crate::engine::lifecycle;
use crate::engine::options::stop_signal;
use crate::error::Result;
use crate::limits;

/// Arguments of `kelp restart`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Seconds to wait before it is killed; -1 waits for ever
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    /// The signal to begin with
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Asks all before it waits for the first; goes on behind one that cannot be
/// started.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let signal = arguments.signal.as_deref().map(stop_signal::number).transpose()?;
    let stop = Stop { signal, timeout_s: arguments.time };
    let (progress, mut observer) = (progress::Bars::new(), Printer::new(session));
    let mut code = 0;
    for names in arguments.containers.chunks(limits::STOPS_AT_ONCE) {
        let asked: Vec<_> = names.iter().map(|name| lifecycle::ask_to_restart(&session.paths, name, stop)).collect();
        let mut asked = asked.into_iter();
        let ended = each(names, |name| {
            let ended = asked.next().map_or(Ok(()), |asked| asked?.wait(&progress, &mut observer));
            named_if_done(name, ended, false)
        });
        code = code.max(ended);
    }
    Ok(code)
}
