//! `kelp untag`: takes names from an image, which stays.

use clap::Args;

use super::Session;
use crate::engine::naming;
use crate::error::Result;

/// Arguments of `kelp untag`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image, by name or id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The names to take away; all that it has if none is given
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// Takes them away; says nothing, as podman does.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    naming::untag(&session.paths, &arguments.image, &arguments.names)?;
    Ok(0)
}
