//! `kelp pause`: stops all processes of containers.

use clap::Args;

use super::{Session, each, output};
use crate::engine::lifecycle;
use crate::error::Result;

/// Arguments of `kelp pause`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Pauses each; goes on behind one that cannot be.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    Ok(each(&arguments.containers, |name| {
        if let Some(notice) = lifecycle::pause(&session.paths, name, true)? {
            output::notice(notice);
        }
        output::line(name);
        Ok(())
    }))
}
