//! `kelp tag`: more names for an image.

use clap::Args;

use super::Session;
use crate::engine::naming;
use crate::error::Result;

/// Arguments of `kelp tag`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image, by name or id
    #[arg(value_name = "SOURCE")]
    source: String,
    /// New names; without a registry they are localhost/NAME
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
}

/// Names it; says nothing, as docker does.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    naming::tag(&session.paths, &arguments.source, &arguments.targets)?;
    Ok(0)
}
