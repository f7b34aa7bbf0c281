//! `kelp tag`: one more name for an image.

use clap::Args;

use super::Session;
use crate::engine::images;
use crate::error::Result;

/// Arguments of `kelp tag`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image, by name or id
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The new name; without a registry it is localhost/NAME
    #[arg(value_name = "TARGET")]
    target: String,
}

/// Names it; says nothing, as docker does.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    images::tag(&session.paths, &arguments.source, &arguments.target)?;
    Ok(0)
}
