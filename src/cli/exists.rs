//! `kelp image exists`: tells by the exit status whether an image is here.

use clap::Args;

use super::Session;
use crate::error::{Kind, Result};
use crate::image::lookup;

/// Arguments of `kelp image exists`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image, by name or id
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Prints nothing: 0 it is here, 1 it is not, 125 that cannot be told
/// (podman's).
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    match lookup::find_tag(&session.paths, &arguments.image) {
        Ok(_) => Ok(0),
        Err(failure) if failure.kind == Kind::NotFound => Ok(1),
        Err(failure) => Err(failure),
    }
}
