//! `kelp volume exists`: tells by the exit status whether a volume is there.

use clap::Args;

use crate::cli::Session;
use crate::engine::volume_inventory;
use crate::error::{Kind, Result};

/// Arguments of `kelp volume exists`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Its name
    #[arg(value_name = "VOLUME")]
    volume: String,
}

/// Prints nothing: 0 it is there, 1 it is not, 125 that cannot be told
/// (podman's).
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    match volume_inventory::find(&session.paths, &arguments.volume) {
        Ok(_) => Ok(0),
        Err(failure) if failure.kind == Kind::NotFound => Ok(1),
        Err(failure) => Err(failure),
    }
}
