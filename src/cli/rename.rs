//! `kelp rename`: calls a container otherwise.

use clap::Args;

use super::Session;
use crate::engine::lifecycle;
use crate::error::Result;

/// Arguments of `kelp rename`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// What it is to be called
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

/// Renames it.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    lifecycle::rename(&session.paths, &arguments.container, &arguments.name)?;
    Ok(0)
}
